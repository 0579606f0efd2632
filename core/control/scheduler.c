/* Binding. placement.c decides; here its verdict becomes spec.nodeName or a condition, and an Event
 * each time the verdict changes. A pod that does not fit is looked at again when a pod ends or the
 * node changes: there is no other way in which room appears. */
#include "core/control/scheduler.h"

#include "core/control/events.h"
#include "core/control/placement.h"

static const char COMPONENT[] = "default-scheduler";

static enum errc bind(struct world *w, const struct store_object *pod, const struct placement *p,
                      struct error *err) {
    json_t *bound = json_deep_copy(pod->json);
    object_set(bound, "spec.nodeName", json_string(w->node_name));
    if (*p->fallback) {
        json_t *annotations = object_at(bound, "metadata.annotations");
        if (!json_is_object(annotations))
            object_set(bound, "metadata.annotations", annotations = json_object());
        json_object_set_new(annotations, SCHEDULER_CPU_FALLBACK_ANNOTATION,
                            json_string(p->fallback));
    }
    object_set_condition(bound, "PodScheduled", "True", NULL, NULL, w->wall_ms);
    if (world_update(w, pod, bound, NULL, err))
        return err->code;
    event_emit(w, pod->json, EVENT_NORMAL, "Scheduled", COMPONENT,
               "Successfully assigned %s/%s to %s", object_namespace(pod->json),
               object_name(pod->json), w->node_name);
    if (*p->fallback)
        event_emit(w, pod->json, EVENT_WARNING, "CPUFallback", COMPONENT,
                   "this node has no %s: the pod runs on the CPU (cpuFallback is on)", p->fallback);
    return OK;
}

static enum errc refuse(struct world *w, const struct store_object *pod, const char *message,
                        struct error *err) {
    json_t *waiting = json_deep_copy(pod->json);
    object_set(waiting, "status.phase", json_string("Pending"));
    bool changed = object_set_condition(waiting, "PodScheduled", "False", "Unschedulable", message,
                                        w->wall_ms);
    enum errc rc = world_update(w, pod, waiting, NULL, err);
    if (!rc && changed)
        event_emit(w, pod->json, EVENT_WARNING, "FailedScheduling", COMPONENT, "%s", message);
    return rc;
}

enum errc scheduler_bind(struct world *w, const struct store_object *pod, struct error *err) {
    AUTO(store_object) node = world_get(w, KIND_NODE, NULL, w->node_name);
    AUTO_STORE_LIST all = {0};
    world_list(w, KIND_POD, NULL, &all);
    const json_t **pods = mem_array(all.num_items, sizeof(*pods));
    for (size_t i = 0; i < all.num_items; i++)
        pods[i] = all.items[i]->json;
    struct placement_options opt = {
        .node = node ? node->json : NULL,
        .pods = pods,
        .num_pods = all.num_items,
        .cpu_fallback = w->config->cpu_fallback,
    };
    struct placement p;
    placement_decide(pod->json, &opt, &p);
    free(pods);
    return p.fits ? bind(w, pod, &p, err) : refuse(w, pod, p.message, err);
}

void scheduler_retry_pending(struct world *w) {
    AUTO_STORE_LIST all = {0};
    world_list(w, KIND_POD, NULL, &all);
    for (size_t i = 0; i < all.num_items; i++) {
        const json_t *pod = all.items[i]->json;
        if (!object_str(pod, "spec.nodeName"))
            world_enqueue(w, KIND_POD, object_namespace(pod), object_name(pod));
    }
}
