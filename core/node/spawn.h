/* fork and exec of a replica, with all that a child must not inherit taken away. */
#ifndef CORE_NODE_SPAWN_H
#define CORE_NODE_SPAWN_H

#include "core/node/supervisor.h"

struct spawned {
    int32_t pid;
    int pidfd;
    int stdout_fd, stderr_fd; /* read ends */
};

#define SPAWN_USER_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

enum { SPAWN_USER_PROCESSES_MAX = 1024 }; /* of one user other than the daemon's */

/* Starts spec->argv in its own process group with no-new-privs, rlimits, a parent-death signal, a
 * minimal environment plus spec->env and INFERD_TERMINATION_LOG (for the daemon's own user only).
 * An exec that fails is an error here, not an exit code later. */
MUST_CHECK enum errc spawn_process(const struct replica_spec *spec, const char *termination_log,
                                   struct spawned *ret_child, struct error *err);

#endif
