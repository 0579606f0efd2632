/* Which user of this machine a host pod runs under. Pure. */
#ifndef CORE_CONTROL_POD_USER_H
#define CORE_CONTROL_POD_USER_H

#include <jansson.h>

#include "core/base/mem.h"

struct pod_user_range {
    uint32_t first, last;
    bool (*taken)(const void *user, uint32_t id); /* another pod has it */
    const void *user;
};

/* securityContext.runAsUser of the first container, else of the pod, else a free one of the range,
 * found from the pod's uid. ERR_INVALID: the one asked for is outside of the range; ERR_EXHAUSTED:
 * none is free. */
MUST_CHECK enum errc pod_user_pick(const json_t *pod, const struct pod_user_range *range,
                                   uint32_t *ret_id, struct error *err);

#endif
