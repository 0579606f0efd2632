/* One question to a container, as its probes and hooks ask: a command beside it, an HTTP request, a
 * connection. Never blocks, but for the moment that starting a command takes. */
#ifndef CORE_NODE_QUESTION_H
#define CORE_NODE_QUESTION_H

#include <poll.h>

#include "core/base/buf.h"
#include "core/node/exec.h"
#include "core/node/health.h"

enum question_way {
    QUESTION_NONE,
    QUESTION_EXEC,
    QUESTION_HTTP,
    QUESTION_TCP,
    QUESTION_SLEEP, /* yes, after a while: a hook only */
};

enum {
    QUESTION_OUTPUT_BYTES_MAX =
        1024, /* of a command, or of an answer's head; the rest is dropped */
    QUESTION_FDS_MAX = 3,
};

/* What is asked. Owns what it points to. */
struct question {
    enum question_way way;
    char **argv; /* exec; NULL-terminated */
    char *host;  /* a numeric address */
    uint16_t port;
    uint32_t listener_user; /* where no process of this user listens on the port there is no
                               connection; 0: whoever does */
    bool quiet;             /* a no is expected, and told to nobody */
    char *path;             /* http: "/healthz?x=y" */
    char **headers;         /* http: "Name: value"; NULL: none */
    int64_t sleep_ms;
};
void question_copy(struct question *to, const struct question *from);
void question_deinit(struct question *q);

/* A question under way, or answered. */
struct asking {
    const struct question *question; /* borrowed */
    int64_t timeout_ms, deadline_ms;
    int fd;           /* the socket; -1: none */
    struct exec exec; /* pidfd -1: none */
    bool connected;
    int connect_error; /* of a connection that was refused at once */
    struct buf to_send, got;
};

struct asking_options {
    const struct question *question; /* borrowed until asking_end() */
    const struct running *container; /* what exec needs; borrowed for the call */
    int64_t timeout_ms, now_ms;
};
/* Begins. An error: it cannot be asked. asking_advance() may have the answer already. */
MUST_CHECK enum errc asking_start(const struct asking_options *opt, struct asking *ret_a,
                                  struct error *err);
/* True: answered, or its time is over; why the answer is no is appended to ret_why. */
MUST_CHECK bool asking_advance(struct asking *a, int64_t now_ms, bool *ret_yes,
                               struct buf *ret_why);
/* What to wait for besides the deadline; gives how many. */
size_t asking_fds(const struct asking *a, struct pollfd fds[QUESTION_FDS_MAX]);
void asking_end(struct asking *a); /* kills, closes, frees */

#endif
