/* The kubelet's part: a pod bound to this node becomes a process, and what happens to the process
 * becomes the pod's status. */
#ifndef CORE_CONTROL_POD_H
#define CORE_CONTROL_POD_H

#include "core/control/world.h"

struct pod_table *pod_table_create(void);
void pod_table_destroy(struct pod_table *t);

MUST_CHECK enum errc pod_reconcile(struct world *w, const char *ns, const char *name,
                                   struct error *err);

/* Queues the pod whose process changed its phase. */
void pod_changed(struct world *w, const char *uid);

/* Where a running pod serves (struct traffic_replica's address) and what its model is called;
 * false: it has no process. Borrowed until the next reconcile of the pod. served_names is
 * NULL-terminated. */
bool pod_endpoint(const struct world *w, const char *uid, const char **ret_address,
                  const char *const **ret_served_names);

enum {
    POD_DRAIN_DELAY_MS = 100, /* between leaving the traffic table and SIGTERM: requests in flight
                                 between gateway and replica still arrive */
    POD_MODEL_RETRY_MS_MAX = 10 * 1000, /* how soon a model that appears is found */
};

#endif
