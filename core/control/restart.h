/* When a container that ended is started again. Pure. */
#ifndef CORE_CONTROL_RESTART_H
#define CORE_CONTROL_RESTART_H

#include "core/base/mem.h"

enum {
    RESTART_BACKOFF_MS_MIN = 10 * 1000,
    RESTART_BACKOFF_MS_MAX = 300 * 1000,
    RESTART_FORGIVEN_MS = 600 * 1000, /* a run this long starts the back-off anew */
};

struct restart_run {
    const char *policy; /* the pod's restartPolicy: Always (also NULL), OnFailure, Never */
    int exit_code;
    int64_t ran_ms;
};

/* Kubernetes' crash-loop back-off: the first restart is at once, then 10 s after the end of the
 * run, 20 s, 40 s ... 300 s. *backoff_ms is carried from call to call, -1 before the first;
 * afterwards it is how long to wait. False: the container is done and stays so. */
MUST_CHECK bool restart_decide(const struct restart_run *run, int64_t *backoff_ms);

#endif
