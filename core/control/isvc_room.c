/* The scheduler has said that a pod does not fit. Whether it would without the pods of older
 * revisions of its service is found by asking placement again, with those left out: counting
 * resources would be wrong where devices are shared or only a whole one will do. */
#include "core/control/isvc_room.h"

#include "core/control/labels.h"
#include "core/control/placement.h"
#include "core/control/replicaset.h"
#include "core/control/scheduler.h"
#include "core/node/device_reader.h"

static const char *set_of(const json_t *pod) {
    return object_str(object_controller_of(pod), "uid");
}

static bool is_of(const json_t *pod, const json_t *deployment) {
    const char *ns = object_namespace(pod);
    return ns && !strcmp(ns, object_namespace(deployment)) &&
           labels_selector_match(object_at(deployment, "spec.selector"),
                                 object_at(pod, "metadata.labels"));
}

/* It waits, and the scheduler has said for what. */
static bool is_unschedulable(const json_t *pod) {
    const json_t *scheduled = object_find_condition(pod, "PodScheduled");
    const char *reason = object_str(scheduled, "reason");
    return replicaset_pod_active(pod) && !object_str(pod, "spec.nodeName") && reason &&
           !strcmp(reason, "Unschedulable");
}

/* A replica of another revision, which has a place. */
static bool has_its_place(const json_t *other, const json_t *pod, const json_t *deployment) {
    const char *a = set_of(other), *b = set_of(pod);
    return is_of(other, deployment) && object_str(other, "spec.nodeName") && a && b &&
           strcmp(a, b) != 0;
}

static bool fits_instead(struct world *w, const struct store_list *all, const json_t *pod,
                         const json_t *deployment) {
    AUTO(store_object) node = world_get(w, KIND_NODE, NULL, w->node_name);
    AUTO(placement_room)
    room = placement_room_create(node ? node->json : NULL, device_reader_current(w->device_reader));
    bool any = false;
    for (size_t i = 0; i < all->num_items; i++) {
        const json_t *other = all->items[i]->json;
        if (!placement_counts(other, pod, w->node_name))
            continue;
        if (has_its_place(other, pod, deployment))
            any = true;
        else
            placement_room_add(room, other);
    }
    const struct placement_options opt = {
        .node = node ? node->json : NULL, .room = room, .cpu_fallback = w->config->cpu_fallback};
    struct placement p;
    if (!any)
        return false;
    struct error unknown = ERROR_INIT; /* what it takes; then it counts as nothing */
    json_t *asking = scheduler_ask(w, pod, room, &unknown);
    placement_decide(asking, &opt, &p);
    bool fits = p.fits;
    placement_deinit(&p);
    json_decref(asking);
    return fits;
}

char *isvc_room_wanted(struct world *w, const json_t *deployment) {
    AUTO_STORE_LIST all = {0};
    world_list(w, KIND_POD, NULL, &all);
    for (size_t i = 0; i < all.num_items; i++) {
        const json_t *pod = all.items[i]->json;
        if (!is_of(pod, deployment) || !is_unschedulable(pod) ||
            !fits_instead(w, &all, pod, deployment))
            continue;
        const char *why = object_str(object_find_condition(pod, "PodScheduled"), "message");
        return mem_strdup(why ? why : "it does not fit");
    }
    return NULL;
}
