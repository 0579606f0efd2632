/* Walking an object beside its schema: what is unknown, what is wrong, what must go.
 *
 * The walk keeps the field path in one growing buffer that is cut back on the way up, so a path is
 * formatted only where something is found. Depth is bounded; beyond it nothing is checked, because
 * no served type is that deep and `any` parts are not walked at all.
 *
 * With an old value a part that is as it was is passed over, whatever the schema says of it now: a
 * definition may have become stricter than its objects, and an update of something else must not
 * fail for that (Kubernetes calls it ratcheting). */
#include "kube-compat/schema.h"

#include <stdarg.h>
#include <stdio.h>

#include "core/base/clock.h"
#include "core/quantity.h"
#include "kube-compat/schema_rules.h"

struct walk {
    struct buf path;
    struct schema_findings *found;
    int depth;
};

const struct schema_property *schema_property(const struct schema *s, const char *name) {
    uint32_t low = 0, high = s->num_properties;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        int order = strcmp(name, s->properties[mid].name);
        if (!order)
            return &s->properties[mid];
        if (order < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}

const char *schema_type_name(const struct schema *s) {
    static const char *const names[] = {"any",    "string", "boolean", "integer",
                                        "number", "object", "array"};
    return names[s->type];
}

static const char *json_type_name(const json_t *v) {
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return "object";
    case JSON_ARRAY:
        return "array";
    case JSON_STRING:
        return "string";
    case JSON_INTEGER:
        return "integer";
    case JSON_REAL:
        return "number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "boolean";
    default:
        return "null";
    }
}

void cause_add(json_t *causes, const char *reason, const char *field, const char *fmt, ...) {
    if (json_array_size(causes) >= SCHEMA_FINDINGS_MAX)
        return;
    va_list args;
    va_start(args, fmt);
    json_t *message = json_vsprintf(fmt, args);
    va_end(args);
    if (!message) /* a precision in fmt cut inside a UTF-8 sequence */
        message = json_string("Invalid value");
    json_array_append_new(
        causes, json_pack("{s:s, s:o, s:s}", "reason", reason, "message", message, "field", field));
}

/* Pushes ".name" or "[index]"; gives the length to cut back to. */
static size_t push_name(struct walk *w, const char *name) {
    size_t was = w->path.len;
    if (was)
        buf_putc(&w->path, '.');
    buf_puts(&w->path, name);
    return was;
}

static size_t push_index(struct walk *w, size_t index) {
    size_t was = w->path.len;
    buf_printf(&w->path, "[%zu]", index);
    return was;
}

static size_t push_key(struct walk *w, const char *key) {
    size_t was = w->path.len;
    buf_printf(&w->path, "[%s]", key);
    return was;
}

static void pop(struct walk *w, size_t was) {
    w->path.len = was;
    if (w->path.data)
        w->path.data[was] = '\0';
}

static const char *path_of(const struct walk *w) {
    return w->path.len ? w->path.data : "";
}

static void note_unknown(struct walk *w) {
    json_t *list = w->found->unknown;
    if (list && json_array_size(list) < SCHEMA_FINDINGS_MAX)
        json_array_append_new(list, json_string(path_of(w)));
}

static void note_type(struct walk *w, const char *expected, const json_t *value) {
    char shown[128];
    if (json_is_string(value))
        snprintf(shown, sizeof(shown), "\"%.100s\"", json_string_value(value));
    else
        snprintf(shown, sizeof(shown), "\"%s\"", json_type_name(value));
    cause_add(w->found->causes, CAUSE_TYPE_INVALID, path_of(w),
              "Invalid value: %s: %s in body must be of type %s: \"%s\"", shown, path_of(w),
              expected, json_type_name(value));
}

static void check_string(struct walk *w, const struct schema *s, const json_t *value) {
    const char *text = json_string_value(value);
    if (s->format == SCHEMA_QUANTITY && quantity_check(text))
        cause_add(w->found->causes, CAUSE_INVALID, path_of(w),
                  "Invalid value: \"%.64s\": quantities must match the regular expression "
                  "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
                  text);
    else if (!(s->rules && s->rules->format) &&
             (s->format == SCHEMA_TIME || s->format == SCHEMA_MICRO_TIME) &&
             clock_parse_rfc3339(text) < 0)
        cause_add(w->found->causes, CAUSE_INVALID, path_of(w),
                  "Invalid value: \"%.64s\": must be a time in RFC 3339 form, like "
                  "2006-01-02T15:04:05Z",
                  text);
    /* In the built-in kinds the empty string is the unset value. */
    if (!s->num_values || (!*text && !s->rules))
        return;
    for (uint32_t i = 0; i < s->num_values; i++) {
        if (!strcmp(text, s->values[i]))
            return;
    }
    AUTO_BUF list = BUF_INIT;
    for (uint32_t i = 0; i < s->num_values; i++)
        buf_printf(&list, "%s\"%s\"", i ? ", " : "", s->values[i]);
    cause_add(w->found->causes, CAUSE_NOT_SUPPORTED, path_of(w),
              "Unsupported value: \"%.100s\": supported values: %s", text, list.data);
}

static void check_integer(struct walk *w, const struct schema *s, const json_t *value) {
    json_int_t n = json_integer_value(value);
    bool narrow = s->format == SCHEMA_INT32;
    if (narrow && (n < INT32_MIN || n > INT32_MAX))
        cause_add(w->found->causes, CAUSE_INVALID, path_of(w),
                  "Invalid value: %lld: must fit a 32 bit integer", (long long)n);
    if (s->has_min && n < s->min)
        cause_add(w->found->causes, CAUSE_INVALID, path_of(w),
                  "Invalid value: %lld: %s in body should be greater than or equal to %lld",
                  (long long)n, path_of(w), (long long)s->min);
    if (s->has_max && n > s->max)
        cause_add(w->found->causes, CAUSE_INVALID, path_of(w),
                  "Invalid value: %lld: %s in body should be less than or equal to %lld",
                  (long long)n, path_of(w), (long long)s->max);
}

/* An object's own apiVersion and kind are no part of its schema. */
static bool is_type_field(const char *key) {
    return !strcmp(key, "apiVersion") || !strcmp(key, "kind");
}

/* Does s keep fields that it does not name? */
static bool is_open(const struct schema *s) {
    return s->preserve || s->type == SCHEMA_ANY;
}

static bool same_keys(const struct schema *s, const json_t *a, const json_t *b) {
    AUTO_FREE char *names = mem_strdup(s->map_keys);
    char *rest = names;
    for (char *name; (name = strsep(&rest, ","));) {
        json_t *x = json_object_get(a, name), *y = json_object_get(b, name);
        bool same = x && y ? json_equal(x, y) : x == y;
        if (!same)
            return false;
    }
    return true;
}

const json_t *schema_old_item(const struct schema *s, const json_t *old, const json_t *item) {
    for (size_t i = 0; s->map_keys && i < json_array_size(old); i++) {
        if (same_keys(s, json_array_get(old, i), item))
            return json_array_get(old, i);
    }
    return NULL;
}

static void walk(struct walk *w, const struct schema *s, const json_t *value, const json_t *old);

static void walk_object(struct walk *w, const struct schema *s, const json_t *value,
                        const json_t *old) {
    const char *key;
    json_t *member;
    json_object_foreach ((json_t *)(uintptr_t)value, key, member) {
        if (s->items && s->type == SCHEMA_OBJECT) {
            size_t was = push_key(w, key);
            walk(w, s->items, member, json_object_get(old, key));
            pop(w, was);
            continue;
        }
        const struct schema_property *p = schema_property(s, key);
        size_t was = push_name(w, key);
        if (p)
            walk(w, p->schema, member, json_object_get(old, key));
        else if (!is_open(s) && (w->depth != 1 || !is_type_field(key)))
            note_unknown(w);
        pop(w, was);
    }
    if (!w->found->causes)
        return;
    for (uint32_t i = 0; i < s->num_properties; i++) {
        if (!s->properties[i].required)
            continue;
        const json_t *member_value = json_object_get(value, s->properties[i].name);
        if (member_value && !json_is_null(member_value))
            continue;
        size_t was = push_name(w, s->properties[i].name);
        cause_add(w->found->causes, CAUSE_REQUIRED, path_of(w), "Required value");
        pop(w, was);
    }
}

static bool type_fits(const struct schema *s, const json_t *value) {
    switch (s->type) {
    case SCHEMA_STRING:
        return json_is_string(value) ||
               (s->format == SCHEMA_INT_OR_STRING && json_is_integer(value)) ||
               (s->format == SCHEMA_QUANTITY && json_is_integer(value));
    case SCHEMA_BOOLEAN:
        return json_is_boolean(value);
    case SCHEMA_INTEGER:
        return json_is_integer(value) ||
               (json_is_real(value) && json_real_value(value) >= -9e15 &&
                json_real_value(value) <= 9e15 &&
                json_real_value(value) == (double)(int64_t)json_real_value(value));
    case SCHEMA_NUMBER:
        return json_is_number(value);
    case SCHEMA_OBJECT:
        return json_is_object(value);
    case SCHEMA_ARRAY:
        return json_is_array(value);
    default:
        return true;
    }
}

static void walk(struct walk *w, const struct schema *s, const json_t *value, const json_t *old) {
    bool knows = s->type != SCHEMA_ANY || s->rules || s->num_properties || s->items;
    if (old && json_equal(value, old))
        return;
    if (!knows || w->depth >= SCHEMA_DEPTH_MAX || (s->nullable && json_is_null(value)))
        return;
    if (json_is_null(value) && (!w->found->nulls || !strncmp(path_of(w), "metadata", 8)))
        return;
    if (!type_fits(s, value)) {
        const char *expected = s->format == SCHEMA_QUANTITY || s->format == SCHEMA_INT_OR_STRING
                                   ? "integer,string"
                                   : schema_type_name(s);
        if (w->found->causes)
            note_type(w, expected, value);
        return;
    }
    w->depth++;
    if (json_is_object(value)) {
        walk_object(w, s, value, s->atomic ? NULL : old);
    } else if (json_is_array(value) && s->items) {
        size_t i;
        json_t *item;
        json_array_foreach ((json_t *)(uintptr_t)value, i, item) {
            size_t was = push_index(w, i);
            walk(w, s->items, item, schema_old_item(s, old, item));
            pop(w, was);
        }
    } else if (w->found->causes && json_is_string(value)) {
        check_string(w, s, value);
    } else if (w->found->causes && json_is_integer(value) && s->type == SCHEMA_INTEGER) {
        check_integer(w, s, value);
    }
    if (s->rules && w->found->causes)
        schema_rules_check(s, value, path_of(w), w->found);
    w->depth--;
}

void schema_check(const struct schema *s, const json_t *value, struct schema_findings *f) {
    struct walk w = {.found = f};
    walk(&w, s, value, f->old);
    buf_deinit(&w.path);
}

static void prune(const struct schema *s, json_t *value, int depth, bool keep_nulls) {
    bool knows = s->type != SCHEMA_ANY || s->num_properties;
    if (!knows || depth >= SCHEMA_DEPTH_MAX)
        return;
    if (json_is_array(value) && s->type == SCHEMA_ARRAY) {
        for (size_t i = 0; i < json_array_size(value); i++)
            prune(s->items, json_array_get(value, i), depth + 1, keep_nulls);
    } else if (json_is_object(value)) {
        const char *key;
        void *next;
        json_t *member;
        json_object_foreach_safe (value, next, key, member) {
            const struct schema_property *p = s->items ? NULL : schema_property(s, key);
            const struct schema *inner = s->items ? s->items : p ? p->schema : NULL;
            bool keep = keep_nulls && (depth || strcmp(key, "metadata") != 0);
            if (!inner && depth == 0 && is_type_field(key))
                continue;
            if (!inner && is_open(s))
                continue;
            if (!inner || (json_is_null(member) && !keep))
                json_object_del(value, key);
            else
                prune(inner, member, depth + 1, keep);
        }
    }
}

/* A null where null is no value makes room for the default. */
static void default_property(const struct schema_property *p, json_t *object) {
    json_t *value = json_object_get(object, p->name);
    if (p->schema->fallback && (!value || (json_is_null(value) && !p->schema->nullable))) {
        value = json_loads(p->schema->fallback, JSON_DECODE_ANY, NULL);
        json_object_set_new(object, p->name, value);
    }
    if (value)
        schema_default(p->schema, value);
}

void schema_default(const struct schema *s, json_t *value) {
    if (json_is_array(value) && s->items) {
        for (size_t i = 0; i < json_array_size(value); i++)
            schema_default(s->items, json_array_get(value, i));
    } else if (json_is_object(value)) {
        for (uint32_t i = 0; i < s->num_properties; i++)
            default_property(&s->properties[i], value);
        const char *key;
        json_t *member;
        if (s->items && s->type == SCHEMA_OBJECT)
            json_object_foreach (value, key, member) {
                schema_default(s->items, member);
            }
    }
}

void schema_prune(const struct schema *s, json_t *value, bool keep_nulls) {
    prune(s, value, 0, keep_nulls);
}
