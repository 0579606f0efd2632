/* In which order the containers of a pod run. Pure. */
#ifndef CORE_CONTROL_POD_PLAN_H
#define CORE_CONTROL_POD_PLAN_H

#include "core/base/mem.h"

enum pod_role {
    POD_ROLE_INIT,    /* runs to its end before the next begins */
    POD_ROLE_SIDECAR, /* an init container with restartPolicy Always: the next begins when it has
                         started, and it runs until the others have ended */
    POD_ROLE_MAIN,
};

enum pod_container_phase {
    POD_CONTAINER_ABSENT, /* no process: not started yet, or to be started again */
    POD_CONTAINER_RUNNING,
    POD_CONTAINER_ENDED, /* for good */
};

struct pod_plan_container {
    enum pod_role role;
    enum pod_container_phase phase;
    bool started;  /* of a running one: its startup probe, if it has one, has succeeded */
    int exit_code; /* of one that has ended */
    bool may_run;  /* the verdict: start it if it is absent */
};

struct pod_plan {
    bool initialized;   /* every init container has done its part */
    bool ended;         /* no main container will run any more, or an init container has failed */
    bool failed;        /* ended, and not well */
    bool stop_sidecars; /* those that run have nothing to accompany any more */
    bool done;          /* ended, and nothing runs */
};

/* Containers are in the pod's order: init containers and sidecars, then the main ones. Sets may_run
 * of each. was_initialized: an earlier plan of this pod said so, and a sidecar that has fallen
 * since then takes nothing back. */
struct pod_plan pod_plan_make(struct pod_plan_container *containers, size_t num,
                              bool was_initialized);

/* A container's own restart policy, from its pod's (NULL: Always). */
const char *pod_plan_restart_policy(enum pod_role role, const char *of_pod);

#endif
