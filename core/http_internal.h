/* What the files of the HTTP server share: http.c (the server), http_front.c (its front thread),
 * http_exchange.c (one request and its answer), http_request.c (reading a request). */
#ifndef CORE_HTTP_INTERNAL_H
#define CORE_HTTP_INTERNAL_H

#include <microhttpd.h>
#include <pthread.h>
#include <sys/socket.h>

#include "core/http.h"

enum {
    HTTP_ADDRESS_BYTES_MAX = 46,       /* INET6_ADDRSTRLEN */
    HTTP_LINGERS_MAX = 64,             /* refused connections that are read to their end at once */
    HTTP_LINGER_SECONDS = 5,           /* how long each */
    HTTP_LINGER_BYTES_MAX = 256 << 20, /* and how far */
};

/* A client connection, from accept until libmicrohttpd closes it. */
struct http_connection {
    struct http_server *server;
    int fd;                     /* libmicrohttpd's; closed after the connection is freed */
    struct auth_identity *peer; /* of a verified client certificate; NULL: none */
    char address[HTTP_ADDRESS_BYTES_MAX]; /* the client's, "" on a Unix socket */
    uint32_t slot;                        /* these three are guarded by the server's lock */
    bool hung_up;                         /* the client sends nothing more */
    struct http_exchange *kept; /* the exchange that is parked here, not a reference; or NULL */
};

struct http_linger {
    int fd; /* -1: free */
    int64_t deadline_ms;
    size_t bytes_left;
};

#define HTTP_NO_SLOT UINT32_MAX
/* A table whose indexes stay as they are; free slots form a list. */
struct http_slot {
    void *item; /* NULL: free */
    uint32_t next_free;
};
struct http_slots {
    struct http_slot *slots;
    uint32_t len, cap, first_free;
};

struct http_server {
    struct http_server_options opt; /* defaults filled in; handler, user, auth, tls borrowed */
    char *address;
    char *unix_path; /* removed at stop; NULL: TCP */
    struct MHD_Daemon *daemon;

    _Atomic uint32_t refs; /* one for the owner, one per exchange */
    _Atomic uint32_t num_open;
    _Atomic uint32_t num_connections;
    _Atomic bool draining;

    pthread_t front;
    int listen_fd, epoll_fd, wake_fd;
    _Atomic bool front_quit;

    pthread_mutex_t lock; /* guards what follows; never held with another lock */
    bool stopping;        /* no exchange may be kept any more */
    struct http_slots connections;
    struct http_slots kept; /* exchanges that outlive their handler call, until they are freed; not
                             * references: see http_exchange_try_ref() */
    uint32_t num_hung_up;   /* connections */
    struct http_linger lingers[HTTP_LINGERS_MAX];
};

struct http_field {
    const char *name, *value;
    struct http_field *next;
};

/* Reasons to call back; bits of http_exchange.due. */
enum { HTTP_DUE_TICK = 1, HTTP_DUE_GONE = 2, HTTP_DUE_DRAINED = 4 };

/* Two sides hold an exchange: libmicrohttpd (until its completion callback) and the owner (from the
 * handler call until http_reply or http_stream_end). The last one out frees it. */
struct http_exchange {
    struct http_server *server;
    _Atomic uint32_t refs;

    /* The request: written by one server thread before the handler runs, constant afterwards. */
    struct arena *arena;
    const char *method, *path, *raw_path, *raw_query, *request_id;
    const char *client_address;
    struct http_field *headers, *queries;
    struct auth_identity *identity;
    const char *target_fault; /* why the request line is refused; NULL: fine */
    struct buf body;
    bool begun, handled, chunked;
    struct http_connection *on; /* valid while `connection` is set */
    int64_t start_ns;

    /* The answer's head: the owner's until it answers. */
    struct http_field *out_headers;
    uint64_t stream_length;
    bool close, compress;
    struct http_observer observer; /* the owner's, too */

    pthread_mutex_t lock; /* guards what follows; libmicrohttpd's own locks may be taken under it */
    pthread_cond_t callback_done;
    struct MHD_Connection *connection; /* NULL: libmicrohttpd is through with it */
    struct MHD_Response *response;     /* waits to be queued by a server thread */
    int status;
    bool answered, queued, streaming;
    bool parked;  /* suspended; whoever clears it resumes */
    bool gone;    /* the client left or the server stops */
    bool ended;   /* the owner let go */
    bool aborted; /* cut the connection when all is sent */
    bool refused; /* a write was refused; on_drained is owed */
    struct buf out;
    size_t out_sent;           /* bytes of out that libmicrohttpd has */
    http_upgraded_fn *upgrade; /* owed one call */
    void *upgrade_user;
    bool upgraded; /* the connection is not ours any more */
    struct http_stream_callbacks cb;
    unsigned due;
    bool calling, gone_told;
    pthread_t caller;
    int64_t next_tick_ms;
    uint32_t slot; /* in server->kept, guarded by the server's lock; or HTTP_NO_SLOT */
};

/* http_request.c */
/* Splits and decodes the request target; a fault is kept for http_request_head(). */
void http_request_target(struct http_exchange *x, const char *uri);
/* Copies method and headers, then checks them. */
MUST_CHECK enum errc http_request_head(struct http_exchange *x, struct MHD_Connection *connection,
                                       const char *method, const char *version, struct error *err);

/* http_exchange.c */
struct http_exchange *http_exchange_create(struct http_server *s);
void http_exchange_unref(struct http_exchange *x);
bool http_exchange_try_ref(struct http_exchange *x); /* false: it is being freed */
/* Answers in the port's error dialect, before any handler has the exchange. */
void http_exchange_refuse(struct http_exchange *x, const struct error *err);
void http_exchange_error_body(struct http_exchange *x, const struct error *err, struct buf *out);
/* The client left (or the server stops): wakes the connection so that libmicrohttpd drops it. */
void http_exchange_gone(struct http_exchange *x);
/* The connection ends without an upgrade: tells the owner of one, if that is owed. */
void http_exchange_not_upgraded(struct http_exchange *x);
/* Runs the owner's callbacks that are due, unless another thread is at it: that one then does. */
void http_exchange_call(struct http_exchange *x, unsigned due);

/* http_gzip.c */
/* Does the value of an Accept-Encoding header (may be NULL) allow gzip? */
bool http_gzip_accepted(const char *accept_encoding);
/* Appends the body, compressed. False: zlib refused or nothing was gained, and out is empty. */
MUST_CHECK bool http_gzip(const struct http_part *parts, size_t num_parts, struct buf *out);

/* http_front.c */
MUST_CHECK enum errc http_front_start(struct http_server *s, struct error *err);
void http_front_stop_accepting(struct http_server *s);
void http_front_stop(struct http_server *s); /* joins; accepts and watches nothing from now on */
void http_front_end_lingers(struct http_server *s);
void http_front_wake(struct http_server *s);
/* A connection comes and goes: its socket is watched for hang-up in between. */
void http_front_add(struct http_connection *c);
void http_front_remove(struct http_connection *c);
/* From now on the exchange may outlive its handler call: it gets its ticks, and learns when its
 * client hangs up. False: the client has left already, or the server stops. */
MUST_CHECK bool http_front_keep(struct http_exchange *x);
void http_front_release(struct http_exchange *x); /* libmicrohttpd is through with it */
void http_front_forget(struct http_exchange *x);  /* it is being freed */
/* Gives a reference to the kept exchange in a slot; NULL when there is none. */
struct http_exchange *http_front_kept(struct http_server *s, uint32_t slot, bool *ret_end);
/* Reads a refused client to its end on a duplicate of fd, so that closing the original does not
 * reset the connection while our answer is on its way. */
void http_front_linger(struct http_server *s, int fd);

/* http.c */
/* Takes a connected plain socket and peer (may be NULL). client_fd: the socket whose other end is
 * the client's, borrowed for the call; fd itself, or the encrypted one. */
void http_server_adopt(struct http_server *s, int fd, int client_fd, struct auth_identity *peer);
void http_server_unref(struct http_server *s);

#endif
