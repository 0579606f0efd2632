/* Conditions Ready, Active, Fallback and Paused (in this order, without times: KEDA's have none),
 * what is scaled, by which metrics, and how they are. */
#include "core/control/scaled_object_status.h"

#include <stdio.h>

#include "core/control/events.h"

static const char COMPONENT[] = "keda-operator";

struct condition {
    const char *type, *status, *reason, *message;
};

static const struct condition *find(const struct condition *list, size_t num, const char *type) {
    for (size_t i = 0; i < num; i++) {
        if (!strcmp(list[i].type, type))
            return &list[i];
    }
    return NULL;
}

static void set_conditions(json_t *object, const struct condition *list, size_t num) {
    static const char *const types[] = {"Ready", "Active", "Fallback", "Paused"};
    json_t *all = json_array();
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        const struct condition *c = find(list, num, types[i]);
        json_t *item =
            json_pack("{s:s,s:s}", "type", types[i], "status", c ? c->status : "Unknown");
        if (c && c->reason)
            json_object_set_new(item, "reason", json_string(c->reason));
        if (c && c->message)
            json_object_set_new(item, "message", object_text(c->message));
        json_array_append_new(all, item);
    }
    object_set(object, "status.conditions", all);
}

/* How many of the triggers cannot be read. */
static uint32_t num_failing(const struct scaled_object_view *v) {
    uint32_t num = 0;
    for (uint32_t i = 0; i < v->num_sensors; i++)
        num += v->sensors[i].fails;
    return num;
}

static struct condition ready_condition(const struct scaled_object_view *v, const json_t *object,
                                        char *text, size_t size) {
    uint32_t failing = num_failing(v);
    bool paused = v->keda->paused || v->keda->paused_replicas >= 0;
    if (v->problem)
        return (struct condition){"Ready", "False", "ScaledObjectCheckFailed", v->problem};
    if (!failing || paused)
        return (struct condition){"Ready", "True", "ScaledObjectReady",
                                  "ScaledObject is defined correctly and is ready for scaling"};
    bool all = failing == v->num_sensors;
    snprintf(text, size, "%s defined in ScaledObject %s/%s are not working correctly",
             all ? "Triggers" : "One or more triggers", object_namespace(object),
             object_name(object));
    return (struct condition){"Ready", "False", all ? "TriggerError" : "PartialTriggerError", text};
}

static void set_all_conditions(const struct scaled_object_view *v, json_t *object) {
    char text[700];
    bool paused = v->keda->paused || v->keda->paused_replicas >= 0;
    bool was_paused = false;
    const char *before = object_condition(object, "Paused");
    was_paused = before && strcmp(before, "Unknown") != 0;
    struct condition list[4];
    size_t num = 0;
    list[num++] = ready_condition(v, object, text, sizeof(text));
    if (!v->problem && !paused) {
        list[num++] = v->active
                          ? (struct condition){"Active", "True", "ScalerActive",
                                               "Scaling is performed because triggers are active"}
                          : (struct condition){"Active", "False", "ScalerNotActive",
                                               "Scaling is not performed because triggers are not "
                                               "active"};
        list[num++] = v->fallback
                          ? (struct condition){"Fallback", "True", "FallbackExists",
                                               "At least one trigger is falling back on this "
                                               "scaled object"}
                          : (struct condition){"Fallback", "False", "NoFallbackFound",
                                               "No fallbacks are active on this scaled object"};
    }
    if (paused)
        list[num++] =
            (struct condition){"Paused", "True", "ScaledObjectPaused", "ScaledObject is paused"};
    else if (was_paused)
        list[num++] = (struct condition){"Paused", "False", "ScaledObjectUnpaused",
                                         "pause annotation removed for ScaledObject"};
    set_conditions(object, list, num);
}

/* ---- what is scaled, by what ---- */

static void set_list(json_t *object, const char *path, json_t *list) {
    if (json_array_size(list)) {
        object_set(object, path, list);
        return;
    }
    json_decref(list);
    object_delete(object, path);
}

static void set_metrics(const struct scaled_object_view *v, json_t *object) {
    json_t *external = json_array(), *resource = json_array(), *health = json_object();
    AUTO_BUF types = BUF_INIT;
    buf_reserve(&types, 1);
    for (uint32_t i = 0; i < v->num_sensors; i++) {
        const struct sensor *s = &v->sensors[i];
        buf_printf(&types, "%s%s", i ? "," : "", trigger_type_name(&s->trigger));
        json_array_append_new(trigger_is_resource(&s->trigger) ? resource : external,
                              json_string(s->trigger.metric_name));
        if (!trigger_is_resource(&s->trigger) && v->keda->fallback)
            json_object_set_new(health, s->trigger.metric_name,
                                json_pack("{s:i,s:s}", "numberOfFailures", (int)s->num_failures,
                                          "status", s->fails ? "Failing" : "Happy"));
    }
    set_list(object, "status.externalMetricNames", external);
    set_list(object, "status.resourceMetricNames", resource);
    object_set(object, "status.triggersTypes", json_string(types.data));
    if (json_object_size(health)) {
        object_set(object, "status.health", health);
    } else {
        json_decref(health);
        object_delete(object, "status.health");
    }
}

static void set_target(const struct scaled_object_view *v, json_t *object) {
    const json_t *o = v->target->object->json;
    const char *version = object_str(o, "apiVersion"), *kind = object_str(o, "kind");
    const char *slash = strchr(version, '/');
    AUTO_FREE char *full = mem_printf("%s.%s", version, kind);
    AUTO_FREE char *group = mem_strndup(version, slash ? (size_t)(slash - version) : 0);
    size_t plural = strcspn(v->target->resource, ".");
    object_set(object, "status.scaleTargetKind", json_string(full));
    object_set(object, "status.scaleTargetGVKR",
               json_pack("{s:s,s:s,s:s,s:s%}", "group", group, "version",
                         slash ? slash + 1 : version, "kind", kind, "resource", v->target->resource,
                         plural));
    if (!object_at(object, "status.originalReplicaCount"))
        object_set(object, "status.originalReplicaCount", json_integer(v->target->replicas));
}

static void set_paused(const struct scaled_object_view *v, json_t *object) {
    if (v->keda->paused_replicas >= 0)
        object_set(object, "status.pausedReplicaCount", json_integer(v->keda->paused_replicas));
    else
        object_delete(object, "status.pausedReplicaCount");
}

/* ---- Events ---- */

static bool is(const char *text, const char *word) {
    return text && !strcmp(text, word);
}

static const char *reason_of(const json_t *object, const char *type) {
    return object_str(object_find_condition(object, type), "reason");
}

/* What is new against the status before. */
static void tell(struct world *w, const json_t *object, const struct scaled_object_view *v,
                 bool was_ready, const char *was_reason, const char *was_message) {
    const json_t *now = object_find_condition(object, "Ready");
    bool is_ready = is(object_str(now, "status"), "True");
    const char *reason = object_str(now, "reason"), *message = object_str(now, "message");
    if (is_ready && !was_ready) {
        if (!is(was_reason, "TriggerError") && !is(was_reason, "PartialTriggerError"))
            event_emit(w, object, EVENT_NORMAL, "KEDAScalersStarted", COMPONENT,
                       "Started scalers watch");
        event_emit(w, object, EVENT_NORMAL, "ScaledObjectReady", COMPONENT,
                   "ScaledObject is ready for scaling");
    }
    if (v->problem && !is(was_message, message))
        event_emit(w, object, EVENT_WARNING, reason, COMPONENT, "%s", message);
    for (uint32_t i = 0; i < v->num_sensors; i++) {
        if (v->sensors[i].fails)
            event_emit(w, object, EVENT_WARNING, "KEDAScalerFailed", COMPONENT, "%s: %s",
                       v->sensors[i].trigger.metric_name, v->sensors[i].error.text);
    }
}

void scaled_object_status(struct world *w, json_t *object, const struct scaled_object_view *v) {
    bool was_ready = is(object_condition(object, "Ready"), "True");
    AUTO_FREE char *reason = mem_strdup(reason_of(object, "Ready"));
    AUTO_FREE char *message =
        mem_strdup(object_str(object_find_condition(object, "Ready"), "message"));
    set_all_conditions(v, object);
    if (!v->problem) {
        set_target(v, object);
        set_metrics(v, object);
        set_paused(v, object);
        if (v->active)
            object_set(object, "status.lastActiveTime", world_timestamp(w));
    }
    tell(w, object, v, was_ready, reason, message);
}
