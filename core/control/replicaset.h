/* ReplicaSet: keeps as many pods of one template as spec.replicas says. */
#ifndef CORE_CONTROL_REPLICASET_H
#define CORE_CONTROL_REPLICASET_H

#include "core/control/world.h"

MUST_CHECK enum errc replicaset_reconcile(struct world *w, const char *ns, const char *name,
                                          struct error *err);

/* A pod that counts: not deleted, not Succeeded or Failed. */
bool replicaset_pod_active(const json_t *pod);
/* Ready for min_ready_seconds. When it is only a matter of time, *ret_wait_ms says how long. */
bool replicaset_pod_available(const json_t *pod, int64_t min_ready_seconds, int64_t wall_ms,
                              int64_t *ret_wait_ms);
/* Order in which pods are taken when there are too many; below 0: a goes before b. Pure. */
int replicaset_deletion_order(const json_t *a, const json_t *b);

#endif
