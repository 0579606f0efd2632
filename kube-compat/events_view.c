/* Two spellings of one object. Only names differ, so a table of pairs converts in both directions;
 * what stands in no pair (metadata, reason, type, action ...) is spelled alike. */
#include "kube-compat/events_view.h"

#include <string.h>

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
    json_t *shown = kind->view == KIND_VIEW_EVENTS        ? convert(stored, 0, kind->api_version)
                    : kind->view == KIND_VIEW_AUTOSCALING ? autoscaler_to_v1(stored)
                    : kind->stored_version                ? with_version(stored, kind->api_version)
                                                          : json_incref(stored);
    return managed_open(shown);
}

json_t *kind_store(const struct kind *kind, json_t *shown) {
    if (kind->view == KIND_VIEW_NONE && !kind->stored_version)
        return shown;
    json_t *o = kind->view == KIND_VIEW_EVENTS        ? convert(shown, 1, "v1")
                : kind->view == KIND_VIEW_AUTOSCALING ? autoscaler_to_v2(shown)
                                                      : with_version(shown, kind->stored_version);
    json_decref(shown);
    return o;
}
