/* Placement: whether a pod fits onto the node, onto which of its devices, and whom it may push off,
 * in kube-scheduler's words. Pure. */
#ifndef CORE_CONTROL_PLACEMENT_H
#define CORE_CONTROL_PLACEMENT_H

#include "core/control/placement_room.h"

struct store_list;

struct placement_options {
    const json_t *node;               /* NULL: there is none */
    struct placement_room *room;      /* of the node and of who counts; as before afterwards */
    const struct store_list *budgets; /* PodDisruptionBudgets; NULL: none */
    bool cpu_fallback; /* GPU resources that the node lacks altogether do not stop a pod */
};

struct placement {
    bool fits;
    char message[1024]; /* "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: ..."
                         */
    char fallback[128]; /* the GPU resource that is not there and was let go; "": none */
    json_t *devices;    /* given: value of PLACEMENT_DEVICES_ANNOTATION; NULL: none */
    const json_t **victims; /* given, of the room's pods: with these gone it would fit */
    size_t num_victims;
    size_t num_violations; /* victims that a budget does not let go */
    bool waits;            /* for the end of those that it has pushed off before */
};

void placement_decide(const json_t *pod, const struct placement_options *opt,
                      struct placement *ret);
void placement_deinit(struct placement *p);

/* Does `other` count, when there is to be room for `pod` on the node? It is bound to it and alive,
 * or it is to come there (it pushes others off) and no less important. */
bool placement_counts(const json_t *other, const json_t *pod, const char *node_name);

int64_t placement_priority(const json_t *pod);

/* How many seconds the pod may stay on the node in spite of its NoExecute taints; -1: for good. */
int64_t placement_stay_seconds(const json_t *pod, const json_t *node);

#endif
