/* HTTP/1.1 client to replicas: the sole user of libcurl in the data plane.
 *
 * One thread owns an upstream and calls everything here but upstream_wake(). Calls are callbacks:
 * upstream_run() waits for sockets and runs them. Connections are kept and used again. */
#ifndef API_UPSTREAM_H
#define API_UPSTREAM_H

#include "core/base/mem.h"

struct upstream;
struct upstream_call;

enum {
    UPSTREAM_CONNECT_MS = 3000,
    UPSTREAM_HEADER_BYTES_MAX = 16 << 10, /* of an answer's head; more counts as no answer */
    UPSTREAM_IDLE_CONNECTIONS_MAX = 256,
};

enum upstream_end {
    UPSTREAM_COMPLETE,
    UPSTREAM_UNREACHABLE, /* no connection: the request was not sent */
    UPSTREAM_SILENT,      /* the connection ended before the head of an answer */
    UPSTREAM_CUT,         /* it ended in the middle of an answer, or on_body said so */
};

enum upstream_take {
    UPSTREAM_TAKEN,
    UPSTREAM_PAUSE,  /* nothing was taken; the same bytes come again after upstream_call_resume() */
    UPSTREAM_CANCEL, /* nobody wants the rest */
};

struct upstream_callbacks {
    /* The answer's head: its headers one by one, then its status. Informational answers (1xx) and
     * trailers are left out. */
    void (*on_header)(void *user, const char *name, const char *value);
    void (*on_head)(void *user, int status);
    enum upstream_take (*on_body)(void *user, const char *data, size_t len);
    /* Called once for each call that was started and not destroyed. The call may be destroyed in
     * it (in none of the others). message: libcurl's words, borrowed for the call. */
    void (*on_done)(void *user, enum upstream_end end, const char *message);
};

struct upstream_request {
    const char *address; /* of the replica, as struct traffic_replica has it */
    const char *method;
    const char *target; /* "/v1/models?x=1": sent as it is */
    const char *body;   /* borrowed until the call is destroyed; NULL: none */
    size_t body_len;
};

MUST_CHECK enum errc upstream_create(struct upstream **ret_u, struct error *err);
void upstream_destroy(struct upstream *u); /* every call must be destroyed before */
DEFINE_AUTO(upstream, upstream_destroy)

/* Waits up to timeout_ms (-1: for ever) for sockets or upstream_wake(), and runs what is due. */
void upstream_run(struct upstream *u, int timeout_ms);
void upstream_wake(struct upstream *u); /* any thread */

/* Gives a call, destroyed by upstream_call_destroy(). Hop-by-hop headers, Content-Length and
 * Expect are upstream's own business: do not add them. */
struct upstream_call *upstream_call_create(struct upstream *u, const struct upstream_request *rq,
                                           const struct upstream_callbacks *cb, void *user);
void upstream_call_header(struct upstream_call *c, const char *name, const char *value);
void upstream_call_start(struct upstream_call *c);
void upstream_call_resume(struct upstream_call *c);  /* may call on_body and on_done */
void upstream_call_destroy(struct upstream_call *c); /* closes the connection of a running call */

#endif
