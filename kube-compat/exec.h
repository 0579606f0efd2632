/* pods/NAME/exec and pods/NAME/attach. Each answers the exchange. */
#ifndef KUBE_COMPAT_EXEC_H
#define KUBE_COMPAT_EXEC_H

#include "kube-compat/channels.h"
#include "kube-compat/request.h"
#include "kube-compat/tunnel.h"

void exec_begin(struct request *rq);
void attach_begin(struct request *rq);

/* What both agree upon with the client. */
struct exec_wish {
    bool stdin_open, stdout_open, stderr_open, tty; /* of the query */
    const char *upgrade;                            /* for tunnel_start() */
    struct channels *channels;                      /* gives */
};
/* Reads the query, sets the headers of the 101. ERR_MALFORMED: no upgrade is asked for, or one that
 * is not spoken. */
MUST_CHECK enum errc exec_agree(struct request *rq, struct exec_wish *ret_wish, struct error *err);

/* Waits until the client has opened its channels. False: it has gone, or the server stops. */
bool exec_channels_open(struct tunnel *t, struct channels *c);
/* The end: a Status on the error channel (message NULL: Success; exit_code -1: it is no exit code),
 * then everything is closed. */
void exec_say_end(struct tunnel *t, struct channels *c, int exit_code, const char *message);

#endif
