/* What a pod takes of memory that does not ask for any: known before it starts, from the headers of
 * its model and its options, and measured by its process once it runs. */
#ifndef CORE_CONTROL_POD_MEMORY_H
#define CORE_CONTROL_POD_MEMORY_H

#include "core/control/placement_room.h"
#include "core/control/world.h"

/* Gives the value of PLACEMENT_MEMORY_ANNOTATION, for a room that the pod is to come into. NULL: it
 * asks for memory itself, is no engine, or its model is not there yet or cannot be read, which is
 * told when it is started; *why says it then. Reads objects and the model's headers. */
json_t *pod_memory_need(struct world *w, const json_t *pod, const struct placement_room *room,
                        struct error *why);

/* How large the pod's KV cache may be; 0: its engine decides. */
uint64_t pod_memory_kv_cache_bytes(const json_t *pod);

/* Notes what the pod's process has measured, if that says more than is there. */
void pod_memory_note_measured(json_t *pod, int64_t bytes);

#endif
