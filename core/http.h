/* HTTP server: the sole user of libmicrohttpd.
 *
 * A server owns a few threads (a pool) that parse requests, call the handler and push bytes. The
 * handler must not wait for a token or for another client: it either answers at once, or keeps the
 * exchange and answers later from any thread. While nothing is to be sent the connection is parked
 * and costs no thread.
 *
 * An exchange is one request and its answer. The handler gets it with the whole body read (bounded
 * by body_bytes_max: a larger one is answered 413 before the handler runs). Exactly one of
 * http_reply*(), http_stream_begin() or http_upgrade() must be called for it, once; then (for a
 * stream) http_stream_end() or (for an upgrade) http_upgrade_end() once. After that call the
 * exchange is gone: do not touch it. Everything that the accessors return is borrowed until then.
 *
 * Client gone: parked connections are watched for hang-up; http_stream_write() gives false once the
 * client is gone, and on_gone() is called once (from a server thread) as soon as the server knows.
 * Streams also get on_tick() every HTTP_TICK_SECONDS to write a keep-alive, for clients that vanish
 * without a word.
 *
 * Callbacks of one exchange never run at the same time, never inside a call of yours on the same
 * exchange, and never after http_reply*() or http_stream_end() has returned. Those calls therefore
 * wait for a callback that is running in another thread: hold no lock in them that your callbacks
 * take. */
#ifndef CORE_HTTP_H
#define CORE_HTTP_H

#include <jansson.h>

#include "core/auth.h"
#include "core/base/buf.h"

struct http_server;
struct http_exchange;
struct tls;

typedef void http_handler_fn(struct http_exchange *x, void *user);

enum {
    HTTP_TICK_SECONDS = 5,
    HTTP_STREAM_BYTES_MAX = 1 << 20, /* unsent bytes of one stream; see http_stream_write */
    HTTP_THREADS = 4,                /* the three defaults of http_server_options */
    HTTP_CONNECTIONS_MAX = 4096,     /* one more is answered 503 and closed */
    HTTP_BODY_BYTES_MAX = 4 << 20,   /* a larger request body is answered 413 */
    HTTP_HEADER_BYTES_MAX =
        32 << 10,           /* request line and headers: 431 above; also the write buffer */
    HTTP_QUERIES_MAX = 256, /* parameters of one request; more do not fit beside its headers */
    HTTP_REQUEST_ID_BYTES_MAX = 128,
    HTTP_GZIP_BYTES_MIN = 128 << 10, /* smaller bodies are not worth the work */
    HTTP_IDLE_SECONDS = 120, /* a connection without a byte in either direction, unless parked */
};

/* Writes the body of an answer that the server gives before the handler runs (400, 401, 413, 503),
 * in the dialect of this port. Must set out to JSON. */
typedef void http_error_body_fn(int status, const struct error *err, const char *request_id,
                                struct buf *out);

/* Told of a client that could not be authenticated, just before it is answered 401; the handler
 * does not run. user: the handler's. The exchange is only lent: read it, and do not answer. */
typedef void http_refused_fn(struct http_exchange *x, const struct error *err, void *user);

#define HTTP_DRAINING_HEADER "X-Inferd-Draining"

struct http_server_options {
    const char *listen;   /* "127.0.0.1:8080", "[::]:8080", "unix:/path"; port 0: any free one */
    uint32_t num_threads; /* 0: HTTP_THREADS */
    uint32_t connections_max; /* 0: HTTP_CONNECTIONS_MAX */
    size_t body_bytes_max;    /* 0: HTTP_BODY_BYTES_MAX */
    uint32_t tick_ms;         /* 0: HTTP_TICK_SECONDS; tests want it sooner */
    struct tls *tls;          /* NULL: plain; borrowed for the server's life */
    const struct auth *auth;  /* NULL: every request is anonymous-but-allowed (identity NULL);
                                 else bearer tokens and client certificates are resolved by it */
    http_handler_fn *handler;
    void *user;
    http_error_body_fn *error_body; /* NULL: {"error":{"message","type","code","request_id"}} */
    http_refused_fn *refused;       /* NULL: nobody wants to know */
};

MUST_CHECK enum errc http_server_start(const struct http_server_options *opt,
                                       struct http_server **ret_server, struct error *err);
/* "127.0.0.1:43567" or "unix:/path": where it really listens. Borrowed. */
const char *http_server_address(const struct http_server *s);
/* Refuses new connections and new requests (503 + Connection: close); open streams go on. The
 * refusal has the header HTTP_DRAINING_HEADER: nothing was begun, who relays may ask elsewhere. */
void http_server_drain(struct http_server *s);
uint32_t http_server_num_open(const struct http_server *s); /* exchanges not finished */
/* Ends every stream, joins the threads. Owners of kept exchanges must have let go, or see on_gone
 * (called before this returns); what they do to the exchange afterwards is harmless. */
void http_server_stop(struct http_server *s);
DEFINE_AUTO(http_server, http_server_stop)

/* The request. */
const char *http_method(const struct http_exchange *x);
const char *
http_path(const struct http_exchange *x); /* percent-decoded; no NUL, no "..": else 400 */
const char *http_raw_path(const struct http_exchange *x);  /* as sent, without the query */
const char *http_raw_query(const struct http_exchange *x); /* as sent, "" when none */
const char *http_header(const struct http_exchange *x, const char *name); /* NULL: absent */
const char *http_query(const struct http_exchange *x, const char *name); /* decoded; NULL: absent */
/* The values of a parameter that may stand several times, in order; gives how many there are in
 * all, of which the first max are written. Borrowed. */
size_t http_query_all(const struct http_exchange *x, const char *name, const char **ret_values,
                      size_t max);
bool http_query_bool(const struct http_exchange *x, const char *name); /* kube-wire rule 8 */
const char *http_body(const struct http_exchange *x, size_t *ret_len); /* NUL-terminated */
const struct auth_identity *
http_identity(const struct http_exchange *x); /* NULL: server without auth */
const char *
http_request_id(const struct http_exchange *x);    /* X-Request-Id if sane, else made here;
                                                     echoed as X-Request-Id on the answer */
struct arena *http_arena(struct http_exchange *x); /* lives until the exchange is gone; use it only
                                                      from the thread that holds the exchange */
void http_each_header(const struct http_exchange *x,
                      void (*fn)(void *user, const char *name, const char *value), void *user);

const char *http_client_address(const struct http_exchange *x); /* "127.0.0.1"; "": a Unix socket */

/* For whoever keeps account of requests. Set once, in the handler, before anything is answered;
 * both are called in the thread of the owner, which still holds the exchange. */
struct http_observer {
    void (*answered)(struct http_exchange *x, int status, bool streaming, void *user);
    void (*ended)(struct http_exchange *x, void *user); /* the owner lets go: the last call */
    void *user;
};
void http_observe(struct http_exchange *x, const struct http_observer *observer);

/* The answer. Headers first (any time before the reply), then one reply. */
void http_set_header(struct http_exchange *x, const char *name, const char *value); /* replaces */
void http_add_header(struct http_exchange *x, const char *name, const char *value);
void http_add_warning(struct http_exchange *x, const char *text); /* Warning: 299 - "text" */
void http_reply(struct http_exchange *x, int status, const char *content_type, const void *body,
                size_t len); /* copies body */
void http_reply_text(struct http_exchange *x, int status, const char *text);
void http_reply_json(struct http_exchange *x, int status, const json_t *body); /* borrows */
/* Takes the buffer's memory and leaves it empty. */
void http_reply_take(struct http_exchange *x, int status, const char *content_type,
                     struct buf *body);
/* Answers with a body that lies in parts, which are sent from where they are: they must stay until
 * release(user), which is called once, from any thread, perhaps before this returns. */
struct http_part {
    const void *data;
    size_t len;
};
void http_reply_parts(struct http_exchange *x, int status, const char *content_type,
                      const struct http_part *parts, size_t num_parts, void (*release)(void *user),
                      void *user);
/* Before http_reply_take() or http_reply_parts(): lets a body of HTTP_GZIP_BYTES_MIN or more go out
 * compressed, when the client's Accept-Encoding has gzip. */
void http_compress(struct http_exchange *x);

/* A streamed answer. Headers go out at once. */
struct http_stream_callbacks {
    void (*on_tick)(struct http_exchange *x,
                    void *user); /* may be NULL; server thread; may write */
    void (*on_gone)(struct http_exchange *x, void *user); /* may be NULL; after it the exchange is
                                                             still yours: call http_stream_end() */
    void (*on_drained)(struct http_exchange *x,
                       void *user); /* may be NULL: unsent bytes fell below
                                      half the bound after a refused write */
    void *user;
};
void http_stream_begin(struct http_exchange *x, int status, const char *content_type,
                       const struct http_stream_callbacks *cb);
/* The body will be exactly len bytes: sent with Content-Length, not chunked. Before begin. */
void http_set_stream_length(struct http_exchange *x, uint64_t len);
/* Any thread, never blocks. False: the client is gone, or HTTP_STREAM_BYTES_MAX would be passed
 * (then nothing was taken; http_stream_gone() tells which). While nothing is unsent a single write
 * is taken whatever its size, so that one long line cannot stall for ever. */
bool http_stream_write(struct http_exchange *x, const void *data, size_t len);
bool http_stream_gone(const struct http_exchange *x);
void http_stream_end(struct http_exchange *x); /* the last call; what was written is still sent */
/* As http_stream_end, but the connection is then cut, so that the client sees that it is
 * incomplete. */
void http_stream_abort(struct http_exchange *x);

/* Leaving HTTP. Answers 101 with `protocol` in the header Upgrade (and what was set before); when
 * the answer is on its way, fn gets the connection's socket, non-blocking, and the bytes that the
 * client has sent behind its request (borrowed for the call). With TLS it is the plain side.
 *
 * fn is called exactly once, in a server thread or, when the client has left already, before
 * http_upgrade() returns; it must not block. It takes fd; -1: the client left, or the server stops,
 * and there is no connection. From then on the connection is nobody's but fn's: nothing here
 * watches it, gives it ticks, counts it against connections_max, or ends it, and
 * http_server_stop() does not wait for it.
 *
 * The exchange (the request, its arena, its observer) stays the owner's until http_upgrade_end(),
 * which he calls from any thread, in or after fn. */
typedef void http_upgraded_fn(struct http_exchange *x, int fd, const void *early, size_t early_len,
                              void *user);
void http_upgrade(struct http_exchange *x, const char *protocol, http_upgraded_fn *fn, void *user);
void http_upgrade_end(struct http_exchange *x);

/* Does a header that is a list of words (Connection, Upgrade) have this one? In any case of its
 * letters; in any of several headers of the name. */
bool http_header_has_word(const struct http_exchange *x, const char *name, const char *word);
/* Is a header of this name for the next neighbour only, and not to be passed on (RFC 9110, section
 * 7.6.1)? What a request's Connection names besides is for http_header_has_word() to tell. */
bool http_is_hop_by_hop(const char *name);

/* For exchanges kept for a plain reply: called once if the client leaves first; you still reply.
 * Set it in the handler, before the exchange is handed to another thread. */
void http_on_gone(struct http_exchange *x, void (*fn)(struct http_exchange *x, void *user),
                  void *user);

#endif
