/* The scheduler: gives a pod that has no node the one there is, or says why not. */
#ifndef CORE_CONTROL_SCHEDULER_H
#define CORE_CONTROL_SCHEDULER_H

#include "core/control/world.h"

/* The pod's annotation that names a GPU resource it was let run without. */
#define SCHEDULER_CPU_FALLBACK_ANNOTATION "inferd.io/cpu-fallback"

/* Binds the pod, or marks it unschedulable in kube-scheduler's words. */
MUST_CHECK enum errc scheduler_bind(struct world *w, const struct store_object *pod,
                                    struct error *err);
struct placement_room;
/* Gives a copy of a pod for placement in the room: with what its process will take written into it,
 * and without anything that it was given before. *why says why that is not known, if it is not. */
json_t *scheduler_ask(struct world *w, const json_t *pod, const struct placement_room *room,
                      struct error *why);

/* Every pod without a node is looked at again: room was made, or the node changed. */
void scheduler_retry_pending(struct world *w);

#endif
