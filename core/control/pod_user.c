/* Users of host pods. A pod that does not ask gets one that no other pod has, so that its processes
 * can be told from all others by their user alone. Pods that ask for the same one share it. */
#include "core/control/pod_user.h"

#include "core/object.h"

static const char OF_CONTAINER[] = "spec.containers.0.securityContext.runAsUser";
static const char OF_POD[] = "spec.securityContext.runAsUser";

/* FNV-1a, so that pods seldom collide. */
static uint32_t hash(const char *text) {
    uint32_t h = 2166136261;
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 16777619;
    return h;
}

enum errc pod_user_pick(const json_t *pod, const struct pod_user_range *range, uint32_t *ret_id,
                        struct error *err) {
    const char *field = object_at(pod, OF_CONTAINER) ? OF_CONTAINER : OF_POD;
    int64_t asked = object_int(pod, field, -1);
    if (asked >= 0 && (asked < range->first || asked > range->last))
        return err_field(err, ERR_INVALID, field,
                         "%s: %lld is not one of the users %u..%u of host pods "
                         "(hostUserFirst, hostUserLast)",
                         field, (long long)asked, range->first, range->last);
    if (asked >= 0) {
        *ret_id = (uint32_t)asked;
        return OK;
    }
    uint64_t num = (uint64_t)range->last - range->first + 1;
    uint32_t start = (uint32_t)(hash(object_uid(pod)) % num);
    for (uint64_t i = 0; i < num; i++) {
        uint32_t id = range->first + (uint32_t)((start + i) % num);
        if (range->taken(range->user, id))
            continue;
        *ret_id = id;
        return OK;
    }
    return err_set(err, ERR_EXHAUSTED, "all users %u..%u of host pods are taken", range->first,
                   range->last);
}
