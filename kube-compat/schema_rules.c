/* Rules beyond types. The words are those of the reference server, because people search for them:
 * "spec.port in body should be less than or equal to 65535". */
#include "kube-compat/schema_rules.h"

#include <math.h>
#include <stdio.h>

#include "core/object.h"
#include "kube-compat/schema_format.h"

enum { SHOWN_BYTES_MAX = 128 };

/* The value as messages show it. */
static void show(const json_t *value, char out[SHOWN_BYTES_MAX]) {
    if (json_is_object(value) || json_is_array(value)) {
        snprintf(out, SHOWN_BYTES_MAX, "\"%s\"", json_is_object(value) ? "object" : "array");
        return;
    }
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
    snprintf(out, SHOWN_BYTES_MAX, "%.100s", text ? text : "");
    free(text);
}

static void number_check(const struct schema_rules *r, const json_t *value, const char *path,
                         json_t *causes) {
    double n = json_number_value(value);
    char shown[SHOWN_BYTES_MAX];
    show(value, shown);
    if (r->has_minimum && (r->exclusive_minimum ? n <= r->minimum : n < r->minimum))
        cause_add(causes, CAUSE_INVALID, path,
                  "Invalid value: %s: %s in body should be greater than %s%.17g", shown, path,
                  r->exclusive_minimum ? "" : "or equal to ", r->minimum);
    if (r->has_maximum && (r->exclusive_maximum ? n >= r->maximum : n > r->maximum))
        cause_add(causes, CAUSE_INVALID, path,
                  "Invalid value: %s: %s in body should be less than %s%.17g", shown, path,
                  r->exclusive_maximum ? "" : "or equal to ", r->maximum);
    if (r->multiple_of > 0 && fabs(remainder(n, r->multiple_of)) > 1e-9 * r->multiple_of)
        cause_add(causes, CAUSE_INVALID, path,
                  "Invalid value: %s: %s in body should be a multiple of %.17g", shown, path,
                  r->multiple_of);
}

/* Characters, not bytes. */
static size_t length_of(const json_t *value) {
    size_t num = 0;
    for (const char *p = json_string_value(value); *p; p++)
        num += (*p & 0xC0) != 0x80;
    return num;
}

static void size_check(const struct schema_rules *r, const json_t *value, const char *path,
                       json_t *causes) {
    static const char *const wants[][2] = {
        {"should be at least %lld chars long", "should be at most %lld chars long"},
        {"should have at least %lld items", "should have at most %lld items"},
        {"should have at least %lld properties", "should have at most %lld properties"},
    };
    size_t size, what;
    if (json_is_string(value))
        size = length_of(value), what = 0;
    else if (json_is_array(value))
        size = json_array_size(value), what = 1;
    else
        size = json_object_size(value), what = 2;
    bool few = r->min_size >= 0 && (int64_t)size < r->min_size;
    bool many = r->max_size >= 0 && (int64_t)size > r->max_size;
    if (!few && !many)
        return;
    char shown[SHOWN_BYTES_MAX], want[64];
    show(value, shown);
    long long bound = (long long)(few ? r->min_size : r->max_size);
    const char *format = wants[what][many];
    const char *hole = strstr(format, "%lld");
    snprintf(want, sizeof(want), "%.*s%lld%s", (int)(hole - format), format, bound, hole + 4);
    if (what == 0)
        cause_add(causes, CAUSE_INVALID, path, "Invalid value: %s: %s in body %s", shown, path,
                  want);
    else
        cause_add(causes, CAUSE_INVALID, path, "Invalid value: %zu: %s in body %s", size, path,
                  want);
}

static void enum_check(const struct schema_rules *r, const json_t *value, const char *path,
                       json_t *causes) {
    json_t *allowed = json_loads(r->allowed, JSON_DECODE_ANY, NULL);
    bool found = false;
    for (size_t i = 0; !found && i < json_array_size(allowed); i++)
        found = json_equal(json_array_get(allowed, i), value);
    json_decref(allowed);
    char shown[SHOWN_BYTES_MAX];
    show(value, shown);
    if (!found)
        cause_add(causes, CAUSE_NOT_SUPPORTED, path,
                  "Unsupported value: %s: supported values: %.400s", shown, r->allowed);
}

/* Gives what must be unique about an item: itself in a set, its keys in a map. */
static json_t *identity_of(const struct schema *s, json_t *item) {
    if (!s->map_keys)
        return json_incref(item);
    json_t *keys = json_object();
    AUTO_FREE char *names = mem_strdup(s->map_keys);
    char *rest = names;
    for (char *name; (name = strsep(&rest, ","));) {
        json_t *value = json_object_get(item, name);
        if (value)
            json_object_set(keys, name, value);
    }
    return keys;
}

static void unique_check(const struct schema *s, const json_t *value, const char *path,
                         json_t *causes) {
    json_t *seen = json_object();
    for (size_t i = 0; i < json_array_size(value); i++) {
        json_t *identity = identity_of(s, json_array_get(value, i));
        AUTO_FREE char *text =
            json_dumps(identity, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS);
        json_decref(identity);
        if (!text)
            continue;
        char field[OBJECT_PATH_BYTES_MAX];
        snprintf(field, sizeof(field), "%s[%zu]", path, i);
        if (json_object_get(seen, text))
            cause_add(causes, CAUSE_DUPLICATE, field, "Duplicate value: %.200s", text);
        json_object_set_new(seen, text, json_true());
    }
    json_decref(seen);
}

/* Does value satisfy s? */
static bool holds(const struct schema *s, const json_t *value, const struct schema_findings *f) {
    struct schema_findings found = {.causes = json_array(), .nulls = f->nulls};
    schema_check(s, value, &found);
    bool good = !json_array_size(found.causes);
    json_decref(found.causes);
    return good;
}

static uint32_t num_holding(const struct schema_list *list, const json_t *value,
                            const struct schema_findings *f) {
    uint32_t num = 0;
    for (uint32_t i = 0; i < list->num; i++)
        num += holds(list->all[i], value, f);
    return num;
}

static void junction_check(const struct schema_rules *r, const json_t *value, const char *path,
                           struct schema_findings *f) {
    const char *at = *path ? path : "<root>";
    char shown[SHOWN_BYTES_MAX];
    show(value, shown);
    uint32_t num = num_holding(&r->one_of, value, f);
    if (r->one_of.num && num != 1)
        cause_add(f->causes, CAUSE_INVALID, path,
                  "Invalid value: %s: %s must validate one and only one schema (oneOf). %s", shown,
                  at, num ? "Found more than one valid" : "Found none valid");
    if (r->any_of.num && !num_holding(&r->any_of, value, f))
        cause_add(f->causes, CAUSE_INVALID, path,
                  "Invalid value: %s: %s must validate at least one schema (anyOf)", shown, at);
    if (num_holding(&r->all_of, value, f) != r->all_of.num)
        cause_add(f->causes, CAUSE_INVALID, path,
                  "Invalid value: %s: %s must validate all the schemas (allOf)", shown, at);
    if (r->never && holds(r->never, value, f))
        cause_add(f->causes, CAUSE_INVALID, path,
                  "Invalid value: %s: %s must not validate the schema (not)", shown, at);
}

void schema_rules_check(const struct schema *s, const json_t *value, const char *path,
                        struct schema_findings *f) {
    const struct schema_rules *r = s->rules;
    if (json_is_number(value))
        number_check(r, value, path, f->causes);
    else if (json_is_string(value) || json_is_array(value) || json_is_object(value))
        size_check(r, value, path, f->causes);
    if (r->allowed)
        enum_check(r, value, path, f->causes);
    if (r->unique && json_is_array(value))
        unique_check(s, value, path, f->causes);
    if (r->compiled && json_is_string(value) &&
        !schema_pattern_match(r->compiled, json_string_value(value), json_string_length(value)))
        cause_add(f->causes, CAUSE_INVALID, path,
                  "Invalid value: \"%.100s\": %s in body should match '%s'",
                  json_string_value(value), path, r->pattern);
    if (r->format && r->format->check && json_is_string(value) &&
        !r->format->check(json_string_value(value)))
        cause_add(f->causes, CAUSE_INVALID, path,
                  "Invalid value: \"%.100s\": %s in body must be of type %s: \"%.100s\"",
                  json_string_value(value), path, r->format->name, json_string_value(value));
    for (const char **name = r->required; name && *name && json_is_object(value); name++) {
        char field[OBJECT_PATH_BYTES_MAX];
        snprintf(field, sizeof(field), "%s%s%s", path, *path ? "." : "", *name);
        if (!json_object_get(value, *name))
            cause_add(f->causes, CAUSE_REQUIRED, field, "Required value");
    }
    junction_check(r, value, path, f);
}
