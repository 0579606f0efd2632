/* The container that a request of exec, attach, port-forward or proxy reaches into. */
#ifndef KUBE_COMPAT_EXEC_TARGET_H
#define KUBE_COMPAT_EXEC_TARGET_H

#include "core/node/running.h"
#include "kube-compat/request.h"

struct exec_target {
    struct store_object *pod;
    const json_t *spec; /* of the container; borrowed from the pod */
    struct running running;
};
void exec_target_deinit(struct exec_target *t);
#define AUTO_EXEC_TARGET __attribute__((cleanup(exec_target_deinit))) struct exec_target
#define EXEC_TARGET_INIT ((struct exec_target){.running.pidfd = -1})

/* Finds the container of a pod by its name (NULL or "": the only one, or the one that the
 * annotation kubectl.kubernetes.io/default-container names). ERR_MALFORMED: there is no such
 * container. */
MUST_CHECK enum errc exec_target_container(const json_t *pod, const char *name,
                                           const json_t **ret_container, struct error *err);

/* For exec and attach (`verb` in messages): a container of the pod that rq names. ERR_METHOD: it is
 * an inference replica, which nobody may reach into; ERR_MALFORMED: it does not run. */
MUST_CHECK enum errc exec_target_read(struct request *rq, const char *verb,
                                      struct exec_target *ret_target, struct error *err);

#endif
