/* The order of a pod's containers, as Kubernetes has it:
 *
 *   init a ──exit 0──▶ sidecar b ──started──▶ init c ──exit 0──▶ main d, e at once
 *     │ exit 1, policy Never                                        │ all ended for good
 *     ▼                                                             ▼
 *   Failed                                              sidecars are stopped; Succeeded, Failed
 *
 * An init container that fails is run again, with back-off, unless the pod's policy is Never. */
#include "core/control/pod_plan.h"

const char *pod_plan_restart_policy(enum pod_role role, const char *of_pod) {
    bool always = !of_pod || !strcmp(of_pod, "Always");
    if (role == POD_ROLE_SIDECAR)
        return "Always";
    return role == POD_ROLE_INIT && always ? "OnFailure" : always ? "Always" : of_pod;
}

/* The next container of the list may begin. */
static bool lets_on(const struct pod_plan_container *c) {
    return c->role == POD_ROLE_INIT ? c->phase == POD_CONTAINER_ENDED && !c->exit_code
                                    : c->phase == POD_CONTAINER_RUNNING && c->started;
}

struct pod_plan pod_plan_make(struct pod_plan_container *containers, size_t num,
                              bool was_initialized) {
    struct pod_plan p = {.initialized = true};
    bool init_failed = false, mains_ended = true, runs = false;
    for (size_t i = 0; i < num; i++) {
        struct pod_plan_container *c = &containers[i];
        bool ended = c->phase == POD_CONTAINER_ENDED;
        runs = runs || c->phase == POD_CONTAINER_RUNNING;
        c->may_run = p.initialized || was_initialized;
        if (c->role == POD_ROLE_MAIN) {
            mains_ended = mains_ended && ended;
            p.failed = p.failed || (ended && c->exit_code);
        } else {
            p.initialized = p.initialized && lets_on(c);
            init_failed = init_failed || (c->role == POD_ROLE_INIT && ended && c->exit_code);
        }
    }
    p.initialized = p.initialized || was_initialized;
    p.ended = init_failed || (p.initialized && mains_ended);
    p.failed = p.ended && (init_failed || p.failed);
    p.stop_sidecars = p.ended && runs;
    p.done = p.ended && !runs;
    for (size_t i = 0; i < num && p.ended; i++)
        containers[i].may_run = false;
    return p;
}
