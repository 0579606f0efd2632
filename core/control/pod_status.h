/* A pod's status as Kubernetes writes it: container states, conditions, phase. Works on a copy of
 * the object that the caller then writes; computes, does not read the store. */
#ifndef CORE_CONTROL_POD_STATUS_H
#define CORE_CONTROL_POD_STATUS_H

#include "core/control/world.h"

/* Completes what every pod on the node has: containerStatuses, IPs, qosClass, startTime. */
void pod_status_init(const struct world *w, json_t *pod);

uint32_t pod_status_restarts(const json_t *pod);
/* The first container's waiting reason, NULL when it does not wait. */
const char *pod_status_waiting(const json_t *pod);
/* A container was started and nothing says that it ended. */
bool pod_status_running(const json_t *pod);

/* Moves of the first container's state. A terminated state that is left becomes lastState. */
void pod_status_set_waiting(json_t *pod, const char *reason, const char *message);
void pod_status_set_running(json_t *pod, const struct replica_state *state, uint32_t restarts);
void pod_status_set_terminated(json_t *pod, const struct replica_state *state);

/* Phase and the conditions Initialized, ContainersReady, Ready, from the container states. done:
 * the container will not be started again. */
void pod_status_settle(const struct world *w, json_t *pod, bool done);

bool pod_status_ready(const json_t *pod); /* condition Ready is True and the pod is not deleted */

/* "Guaranteed", "Burstable" or "BestEffort", by the requests and limits of its containers. */
const char *pod_status_qos_class(const json_t *pod);

#endif
