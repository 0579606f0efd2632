/* Tunnels: connections that have left HTTP (exec, attach, port-forward, WebSocket watches).
 *
 * One thread each, which owns everything of its tunnel: the socket, the buffers, what is at the
 * other end. Nothing of it is seen by another thread, so nothing is locked; the thread waits in
 * poll() for its own descriptors and for the one that says that the server stops.
 *
 * The request (its exchange, with arena and audit record) lives as long as the tunnel and counts
 * among its user's watches until then. */
#ifndef KUBE_COMPAT_TUNNEL_H
#define KUBE_COMPAT_TUNNEL_H

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "core/http.h"

enum {
    TUNNELS_MAX = 256,                /* one more is answered 429 */
    TUNNEL_READ_BYTES_MAX = 32 << 10, /* at once */
    TUNNEL_TURN_BYTES_MAX = 1 << 20, /* between two polls, so that nobody else waits for a talker */
    TUNNEL_OUT_BYTES_MAX = 256 << 10, /* waiting for the client; then the source is not read */
    TUNNEL_ANSWERS_BYTES_MAX = 512
                               << 10, /* with answers to its pings; then it is not read either */
    TUNNEL_FLUSH_MS = 5000,           /* for the last bytes to a client */
    TUNNEL_PING_MS = 20000,           /* a client is asked so often whether it is there */
    TUNNEL_SILENT_MS = 70000, /* one that takes nothing, or says nothing, for so long is gone */
};

struct tunnel_set;

MUST_CHECK enum errc tunnel_set_create(struct tunnel_set **ret_set, struct error *err);
/* Tells every tunnel to end and waits for their threads. Nothing may be started any more, and the
 * HTTP server must have stopped: its threads tell tunnels that never began. */
void tunnel_set_destroy(struct tunnel_set *set);
DEFINE_AUTO(tunnel_set, tunnel_set_destroy)

/* What a tunnel's thread works with. */
struct tunnel {
    struct tunnel_set *set;
    struct tunnel *next;
    pthread_t thread;
    atomic_bool ended; /* the thread does nothing more */
    struct http_exchange *x;
    bool plain; /* x stays HTTP: run() answers it */
    void (*run)(struct tunnel *t, void *user);
    void (*destroy)(void *user);
    void *user;

    int fd; /* the client's; non-blocking */
    int stop_fd;
    struct buf out; /* to the client */
    size_t out_sent;
    size_t turn_bytes; /* read since the last poll */
    bool client_ended; /* it sends nothing more */
    bool client_gone;  /* and takes nothing more */
    /* Monotonic: out was empty or some of it went; something came; a ping was due. */
    int64_t progress_ms, heard_ms, pinged_ms;
    struct buf early; /* what came behind the request; tunnel_read() gives it first */
};

struct tunnel_source {
    void (*run)(struct tunnel *t, void *user); /* the tunnel's life, on its thread */
    void (*destroy)(void *user);               /* always once: behind run, or instead of it */
    void *user;                                /* taken by tunnel_start() when it succeeds */
};
/* Answers 101 on x and begins the tunnel. Takes x and the source's user. ERR_EXHAUSTED: too many
 * tunnels are open; nothing was taken, nothing answered. */
MUST_CHECK enum errc tunnel_start(struct tunnel_set *set, struct http_exchange *x,
                                  const char *protocol, const struct tunnel_source *source,
                                  struct error *err);

/* The same thread for an exchange that stays HTTP and takes long: run() answers t->x, exactly once,
 * and has no t->fd. */
MUST_CHECK enum errc tunnel_start_plain(struct tunnel_set *set, struct http_exchange *x,
                                        const struct tunnel_source *source, struct error *err);

/* ---- on the tunnel's thread ---- */

/* Fills in two poll entries: the client (for reading only when want_in) and the stop. Read before
 * the first poll: what came behind the request is not in the socket. Wait no longer than
 * TUNNEL_PING_MS. */
enum { TUNNEL_POLLS = 2 };
void tunnel_poll(struct tunnel *t, struct pollfd p[TUNNEL_POLLS], bool want_in);
/* What poll said. False: the server stops, or the client has gone; end. */
bool tunnel_polled(struct tunnel *t, const struct pollfd p[TUNNEL_POLLS]);
bool tunnel_ping_due(struct tunnel *t); /* true: send one now */
/* Reads what is there into data; gives how many bytes, 0: nothing now, or no more before the next
 * poll (or client_ended is set). */
size_t tunnel_read(struct tunnel *t, char data[TUNNEL_READ_BYTES_MAX]);
/* May more be appended to t->out? */
bool tunnel_has_room(const struct tunnel *t);
size_t tunnel_unsent(const struct tunnel *t);
void tunnel_send(struct tunnel *t); /* as much of t->out as goes now */
/* Sends what is left, within TUNNEL_FLUSH_MS, then our end; waits for the client's end as long. */
void tunnel_finish(struct tunnel *t);

#endif
