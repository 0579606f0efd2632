/* Two spellings of one object. Only names differ, so a table of pairs converts in both directions;
 * what stands in no pair (metadata, reason, type, action ...) is spelled alike. One field is made:
 * events.k8s.io requires eventTime, and some clients refuse a list with one that lacks it. */
#include "kube-compat/events_view.h"

#include <string.h>

#include "core/object.h"
#include "kube-compat/autoscaler_view.h"
#include "kube-compat/managed_fields.h"

static const char *const pairs[][2] = {
    /* core/v1, events.k8s.io/v1 */
    {"involvedObject", "regarding"},
    {"message", "note"},
    {"source", "deprecatedSource"},
    {"firstTimestamp", "deprecatedFirstTimestamp"},
    {"lastTimestamp", "deprecatedLastTimestamp"},
    {"count", "deprecatedCount"},
    {"reportingComponent", "reportingController"},
};

static json_t *convert(const json_t *object, size_t from, const char *api_version) {
    json_t *o = json_copy((json_t *)(uintptr_t)object);
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        json_t *value = json_object_get(object, pairs[i][from]);
        if (!value)
            continue;
        json_object_set(o, pairs[i][!from], value);
        json_object_del(o, pairs[i][from]);
    }
    json_object_set_new(o, "apiVersion", json_string(api_version));
    return o;
}

/* When a stored event was first seen, or made, with microseconds; NULL: it says neither. */
static json_t *event_time(const json_t *stored) {
    const char *text = object_str(stored, "firstTimestamp");
    if (!text)
        text = object_str(stored, "metadata.creationTimestamp");
    size_t len = text ? strlen(text) : 0;
    if (!len || text[len - 1] != 'Z' || strchr(text, '.'))
        return NULL;
    return json_sprintf("%.*s.000000Z", (int)len - 1, text);
}

static json_t *event_to_new(const json_t *stored, const char *api_version) {
    json_t *o = convert(stored, 0, api_version);
    json_t *time = event_time(stored);
    if (time && !json_string_value(json_object_get(o, "eventTime")))
        json_object_set(o, "eventTime", time);
    json_decref(time);
    return o;
}

/* What event_to_new() made is not kept. */
static json_t *event_to_core(const json_t *shown) {
    json_t *o = convert(shown, 1, "v1");
    json_t *time = event_time(o);
    if (time && json_equal(time, json_object_get(o, "eventTime")))
        json_object_del(o, "eventTime");
    json_decref(time);
    return o;
}

/* Gives object with another apiVersion: the whole conversion between a user's versions. */
static json_t *with_version(json_t *object, const char *api_version) {
    const char *have = json_string_value(json_object_get(object, "apiVersion"));
    if (have && !strcmp(have, api_version))
        return json_incref(object);
    json_t *o = json_copy(object);
    json_object_set_new(o, "apiVersion", json_string(api_version));
    return o;
}

json_t *kind_show(const struct kind *kind, json_t *stored) {
    json_t *shown = kind->view == KIND_VIEW_EVENTS        ? event_to_new(stored, kind->api_version)
                    : kind->view == KIND_VIEW_AUTOSCALING ? autoscaler_to_v1(stored)
                    : kind->stored_version                ? with_version(stored, kind->api_version)
                                                          : json_incref(stored);
    return managed_open(shown);
}

json_t *kind_store(const struct kind *kind, json_t *shown) {
    if (kind->view == KIND_VIEW_NONE && !kind->stored_version)
        return shown;
    json_t *o = kind->view == KIND_VIEW_EVENTS        ? event_to_core(shown)
                : kind->view == KIND_VIEW_AUTOSCALING ? autoscaler_to_v2(shown)
                                                      : with_version(shown, kind->stored_version);
    json_decref(shown);
    return o;
}
