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

/* What a child gets. Everything is borrowed for the call. */
struct spawn_plan {
    const char *const *argv; /* argv[0] is the program's path */
    char *const *env;
    int stdin_fd, stdout_fd, stderr_fd;
    bool terminal; /* stdin_fd is one: it becomes the controlling terminal of an own session */
    int64_t open_files_max;
    int inherited_fd;     /* stays open under its number; 0: none but the three above */
    uint32_t user;        /* 0: stays who it is */
    const char *work_dir; /* NULL: stays where it is */
};
/* Starts a child in its own process group, as below; it dies with the calling thread. An exec that
 * fails is an error here, not an exit code later. */
MUST_CHECK enum errc spawn_child(const struct spawn_plan *plan, int32_t *ret_pid, int *ret_pidfd,
                                 struct error *err);

/* Gives the environment of a container: a minimal one, then spec->env. NULL-terminated; released by
 * spawn_env_free(). */
char **spawn_env(const struct replica_spec *spec, const char *termination_log);
void spawn_env_free(char **env);

/* Where the program of a command lies by a PATH. Gives the path, or the name as it is when it has a
 * slash or is not found. */
char *spawn_find_program(const char *path, const char *name);

/* Starts spec->argv in its own process group with no-new-privs, rlimits, a parent-death signal, a
 * minimal environment plus spec->env and INFERD_TERMINATION_LOG (for the daemon's own user only).
 * park_fd: a descriptor for parked models (core/base/park_message.h), borrowed for the call; 0:
 * none. An exec that fails is an error here, not an exit code later. */
MUST_CHECK enum errc spawn_process(const struct replica_spec *spec, const char *termination_log,
                                   int park_fd, struct spawned *ret_child, struct error *err);

#endif
