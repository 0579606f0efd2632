/* Binding. placement.c decides; here its verdict becomes spec.nodeName and the devices' annotation,
 * or a condition, and an Event each time the verdict changes. A pod that does not fit is looked at
 * again when a pod ends or the node changes: there is no other way in which room appears.
 *
 * A pod that may push others off has them deleted, each in its grace, and is nominated for their
 * place: until it has it, nobody less important gets in between. */
#include "core/control/scheduler.h"

#include "core/control/events.h"
#include "core/control/placement.h"
#include "core/control/pod_devices.h"
#include "core/control/pod_memory.h"
#include "core/node/device_reader.h"

static const char COMPONENT[] = "default-scheduler";

/* Takes the value; NULL: the annotation goes. */
static void annotate(json_t *pod, const char *annotation, json_t *value) {
    json_t *annotations = object_at(pod, "metadata.annotations");
    if (!value) {
        json_object_del(annotations, annotation);
        return;
    }
    if (!json_is_object(annotations))
        object_set(pod, "metadata.annotations", annotations = json_object());
    json_object_set_new(annotations, annotation, value);
}

/* Gives the value of an annotation that is JSON; takes it. NULL: NULL. */
static json_t *as_text(json_t *value) {
    AUTO_FREE char *text = value ? json_dumps(value, JSON_COMPACT) : NULL;
    json_decref(value);
    return text ? json_string(text) : NULL;
}

/* Gives the pod with what it takes written into it, and nothing of what it has been given: that is
 * decided now, whatever stands there. */
json_t *scheduler_ask(struct world *w, const json_t *pod, const struct placement_room *room,
                      struct error *why) {
    json_t *asking = json_deep_copy(pod);
    annotate(asking, PLACEMENT_DEVICES_ANNOTATION, NULL);
    annotate(asking, PLACEMENT_MEMORY_ANNOTATION, as_text(pod_memory_need(w, pod, room, why)));
    return asking;
}

/* asking: the pod as it was placed. */
static enum errc bind(struct world *w, const struct store_object *pod, const json_t *asking,
                      const struct placement *p, struct error *err) {
    json_t *bound = json_deep_copy(asking);
    object_set(bound, "spec.nodeName", json_string(w->node_name));
    if (*p->fallback)
        annotate(bound, SCHEDULER_CPU_FALLBACK_ANNOTATION, json_string(p->fallback));
    annotate(bound, PLACEMENT_DEVICES_ANNOTATION, as_text(json_incref(p->devices)));
    object_delete(bound, "status.nominatedNodeName");
    object_set_condition(bound, "PodScheduled", "True", NULL, NULL, w->wall_ms);
    if (world_update(w, pod, bound, NULL, err))
        return err->code;
    event_emit(w, pod->json, EVENT_NORMAL, "Scheduled", COMPONENT,
               "Successfully assigned %s/%s to %s", object_namespace(pod->json),
               object_name(pod->json), w->node_name);
    if (*p->fallback)
        event_emit(w, pod->json, EVENT_WARNING, "CPUFallback", COMPONENT,
                   "this node has no %s: the pod runs on the CPU (cpuFallback is on)", p->fallback);
    if (p->devices)
        pod_devices_tell(w, pod->json, p->devices);
    return OK;
}

/* Who gets a place that others leave keeps what it takes with it: it counts for those that come
 * meanwhile. */
static enum errc refuse(struct world *w, const struct store_object *pod, const json_t *asking,
                        const struct placement *p, struct error *err) {
    json_t *waiting = json_deep_copy(p->num_victims ? asking : pod->json);
    object_set(waiting, "status.phase", json_string("Pending"));
    if (p->num_victims)
        object_set(waiting, "status.nominatedNodeName", json_string(w->node_name));
    else if (!p->waits)
        object_delete(waiting, "status.nominatedNodeName");
    bool changed = object_set_condition(waiting, "PodScheduled", "False", "Unschedulable",
                                        p->message, w->wall_ms);
    enum errc rc = world_update(w, pod, waiting, NULL, err);
    if (!rc && changed)
        event_emit(w, pod->json, EVENT_WARNING, "FailedScheduling", COMPONENT, "%s", p->message);
    return rc;
}

/* Deletes a pod that has to make room; one that is going already goes. */
static enum errc push_off(struct world *w, const struct store_object *victim, const json_t *pod,
                          struct error *err) {
    AUTO(store_object) marked = NULL;
    if (object_deleting(victim->json))
        return OK;
    json_t *leaving = json_deep_copy(victim->json);
    object_set_condition(leaving, "DisruptionTarget", "True", "PreemptionByScheduler",
                         "default-scheduler: preempting to accommodate a higher priority pod",
                         w->wall_ms);
    if (world_update(w, victim, leaving, &marked, err))
        return err->code;
    event_emit(w, victim->json, EVENT_NORMAL, "Preempted", COMPONENT,
               "Preempted by pod %s on node %s", object_uid(pod), w->node_name);
    return world_delete(w, marked, err);
}

static enum errc push_all_off(struct world *w, const struct store_list *all, const json_t *pod,
                              const struct placement *p, struct error *err) {
    for (size_t v = 0; v < p->num_victims; v++) {
        for (size_t i = 0; i < all->num_items; i++) {
            if (all->items[i]->json == p->victims[v] && push_off(w, all->items[i], pod, err))
                return err->code;
        }
    }
    return OK;
}

enum errc scheduler_bind(struct world *w, const struct store_object *pod, struct error *err) {
    AUTO(store_object) node = world_get(w, KIND_NODE, NULL, w->node_name);
    AUTO_STORE_LIST all = {0};
    world_list(w, KIND_POD, NULL, &all);
    AUTO(placement_room)
    room = placement_room_create(node ? node->json : NULL, device_reader_current(w->device_reader));
    for (size_t i = 0; i < all.num_items; i++) {
        if (placement_counts(all.items[i]->json, pod->json, w->node_name))
            placement_room_add(room, all.items[i]->json);
    }
    AUTO_STORE_LIST budgets = {0};
    world_list(w, KIND_POD_DISRUPTION_BUDGET, NULL, &budgets);
    const struct placement_options opt = {.node = node ? node->json : NULL,
                                          .room = room,
                                          .budgets = &budgets,
                                          .cpu_fallback = w->config->cpu_fallback};
    struct placement p;
    struct error unknown = ERROR_INIT; /* is told when the pod is started */
    json_t *asking = scheduler_ask(w, pod->json, room, &unknown);
    placement_decide(asking, &opt, &p);
    enum errc rc =
        p.fits ? bind(w, pod, asking, &p, err) : push_all_off(w, &all, pod->json, &p, err);
    if (!p.fits && !rc)
        rc = refuse(w, pod, asking, &p, err);
    placement_deinit(&p);
    json_decref(asking);
    return rc;
}

static int compare_urgency(const void *a, const void *b) {
    int64_t x = placement_priority((*(struct store_object *const *)a)->json);
    int64_t y = placement_priority((*(struct store_object *const *)b)->json);
    return x == y ? 0 : x > y ? -1 : 1;
}

void scheduler_retry_pending(struct world *w) {
    AUTO_STORE_LIST all = {0};
    size_t num = 0;
    world_list(w, KIND_POD, NULL, &all);
    struct store_object **pending = mem_array(all.num_items + 1, sizeof(*pending));
    for (size_t i = 0; i < all.num_items; i++) {
        if (!object_str(all.items[i]->json, "spec.nodeName"))
            pending[num++] = all.items[i];
    }
    if (num)
        qsort(pending, num, sizeof(*pending), compare_urgency);
    for (size_t i = 0; i < num; i++)
        world_enqueue(w, KIND_POD, object_namespace(pending[i]->json),
                      object_name(pending[i]->json));
    free(pending);
}
