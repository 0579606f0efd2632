/* Placement: whether a pod fits onto the node, in kube-scheduler's words. Pure. */
#ifndef CORE_CONTROL_PLACEMENT_H
#define CORE_CONTROL_PLACEMENT_H

#include <jansson.h>

#include "core/base/buf.h"

struct placement_options {
    const json_t *node;
    const json_t *const *pods; /* all pods; those bound to the node and alive count */
    size_t num_pods;
    bool cpu_fallback; /* GPU resources that the node lacks altogether do not stop a pod */
};

struct placement {
    bool fits;
    char message[512];  /* "0/1 nodes are available: 1 Insufficient nvidia.com/gpu." */
    char fallback[128]; /* the GPU resource that is not there and was let go; "": none */
};

void placement_decide(const json_t *pod, const struct placement_options *opt,
                      struct placement *ret);

/* How many seconds the pod may stay on the node in spite of its NoExecute taints; -1: for good. */
int64_t placement_stay_seconds(const json_t *pod, const json_t *node);

/* What a pod asks for of one resource, in thousandths: the sum over its containers (limits stand in
 * for absent requests), or the largest init container if that is more. */
int64_t placement_request(const json_t *pod, const char *resource);

#endif
