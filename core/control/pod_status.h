/* A pod's status as Kubernetes writes it: container states, conditions, phase. Works on a copy of
 * the object that the caller then writes; computes, does not read the store. */
#ifndef CORE_CONTROL_POD_STATUS_H
#define CORE_CONTROL_POD_STATUS_H

#include "core/control/pod_plan.h"
#include "core/control/world.h"

/* Completes what every pod on the node has: statuses of its containers, IPs, qosClass, startTime.
 */
void pod_status_init(const struct world *w, json_t *pod);

/* The status of a container, of either list; borrowed, NULL: it has none. */
json_t *pod_status_of(const json_t *pod, const char *container);

/* The first container's waiting reason, NULL when it does not wait. */
const char *pod_status_waiting(const json_t *pod);
/* The first container was started and nothing says that it ended. */
bool pod_status_running(const json_t *pod);

/* Moves of a container's state. A terminated state that is left becomes lastState. */
void pod_status_set_waiting(json_t *status, const char *reason, const char *message);
void pod_status_set_running(const json_t *pod, json_t *status, const struct replica_state *state,
                            uint32_t restarts);
void pod_status_set_terminated(json_t *status, const struct replica_state *state);

/* Phase and the conditions Initialized, ContainersReady, Ready, from the container states and the
 * plan's initialized, done, failed. */
void pod_status_settle(const struct world *w, json_t *pod, const struct pod_plan *plan);

bool pod_status_ready(const json_t *pod); /* condition Ready is True and the pod is not deleted */

/* "Guaranteed", "Burstable" or "BestEffort", by the requests and limits of its containers. */
const char *pod_status_qos_class(const json_t *pod);

#endif
