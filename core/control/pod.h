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

/* The replica that a running pod is, and what its model is called; false: it has no process that
 * serves. Borrowed until the next reconcile of the pod. served_names is NULL-terminated; none are
 * known of a host process. */
bool pod_endpoint(struct world *w, const char *uid, struct traffic_replica **ret_replica,
                  const char *const **ret_served_names);

enum {
    POD_DRAIN_DELAY_MS = 100, /* between leaving the traffic table and SIGTERM: requests in flight
                                 between gateway and replica still arrive */
    POD_ANSWERING_MS = 50, /* between two looks whether a runtime that is to stop still answers */
    POD_MODEL_RETRY_MS_MAX = 10 * 1000, /* how soon a model that appears is found */
};

#endif
