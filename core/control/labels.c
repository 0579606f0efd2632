/* Selectors as apps/v1 and the scheduler write them. */
#include "core/control/labels.h"

#include "core/object.h"

bool labels_requirement_match(const json_t *requirement, const json_t *labels) {
    const char *op = object_str(requirement, "operator"), *key = object_str(requirement, "key");
    const char *has = key ? json_string_value(json_object_get(labels, key)) : NULL;
    const json_t *values = json_object_get(requirement, "values");
    const char *first = json_string_value(json_array_get(values, 0));
    bool in = false;
    size_t i;
    json_t *v;
    if (!op)
        return false;
    json_array_foreach (values, i, v) {
        in = in || (has && json_is_string(v) && !strcmp(has, json_string_value(v)));
    }
    if (!strcmp(op, "In"))
        return in;
    if (!strcmp(op, "NotIn"))
        return !in;
    if (!strcmp(op, "Exists"))
        return has != NULL;
    if (!strcmp(op, "DoesNotExist"))
        return has == NULL;
    if (!has || !first)
        return false;
    if (!strcmp(op, "Gt"))
        return atoll(has) > atoll(first);
    return !strcmp(op, "Lt") && atoll(has) < atoll(first);
}

bool labels_selector_match(const json_t *selector, const json_t *labels) {
    const json_t *pairs = json_object_get(selector, "matchLabels");
    const json_t *expressions = json_object_get(selector, "matchExpressions");
    size_t i;
    json_t *e;
    if (!json_object_size(pairs) && !json_array_size(expressions))
        return false;
    if (pairs && !object_labels_match(pairs, labels))
        return false;
    json_array_foreach (expressions, i, e) {
        if (!labels_requirement_match(e, labels))
            return false;
    }
    return true;
}
