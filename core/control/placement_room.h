/* What a node has, who holds what of it, and what of it would be left for one more: resources by
 * their sums, devices one by one. Pure. Pods, node and devices are borrowed for the room's life. */
#ifndef CORE_CONTROL_PLACEMENT_ROOM_H
#define CORE_CONTROL_PLACEMENT_ROOM_H

#include <jansson.h>

#include "core/base/buf.h"
#include "core/node/devices.h"

/* What a pod was given of each resource: {"nvidia.com/gpu": ["GPU-..."]}, written when it is bound.
 * Under inferd.dev/gpu-memory stands the GPU of a pod that asked for memory alone. */
#define PLACEMENT_DEVICES_ANNOTATION "inferd.io/devices"

/* What the process of a pod takes that asks for no memory itself, written likewise: bytes as
 * computed, "measured" by the process when it runs, which then counts, and "gpu" if it computes on
 * one (pod_memory.h). */
#define PLACEMENT_MEMORY_ANNOTATION "inferd.io/memory"

struct placement_room;

/* devices may be NULL: then all resources are sums. */
struct placement_room *placement_room_create(const json_t *node, const struct devices *devices);
void placement_room_destroy(struct placement_room *r);
DEFINE_AUTO(placement_room, placement_room_destroy)

/* The pod holds what it asks for; of devices those in its annotation, or if it is not bound yet
 * those that it would get now, as far as there are any. */
void placement_room_add(struct placement_room *r, const json_t *pod);

/* Those that hold something, in the order in which they came. */
size_t placement_room_num(const struct placement_room *r);
const json_t *placement_room_pod(const struct placement_room *r, size_t i);
/* The i-th gives back what it holds, or takes it again. */
void placement_room_remove(struct placement_room *r, size_t i);
void placement_room_restore(struct placement_room *r, size_t i);

/* Bytes of memory that nobody holds; all: that there are. */
uint64_t placement_room_memory(const struct placement_room *r, bool all);

struct placement_fit {
    bool cpu_fallback;     /* GPU resources that the node lacks altogether do not stop a pod */
    struct buf *reasons;   /* gets what is missing: "1 Insufficient cpu, 1 Too many pods" */
    const char **fallback; /* gets the GPU resource that is not there and was let go */
    json_t **devices;      /* gives the annotation's value, NULL when there are none; may be NULL */
};

/* Is there room for the pod? Holds nothing for it. */
MUST_CHECK bool placement_room_fits(struct placement_room *r, const json_t *pod,
                                    const struct placement_fit *fit);

/* What a pod asks for of one resource, in thousandths: the sum over its containers (limits stand in
 * for absent requests), or the largest init container if that is more. */
int64_t placement_request(const json_t *pod, const char *resource);
/* The same of one container. */
int64_t placement_container_request(const json_t *container, const char *resource);

#endif
