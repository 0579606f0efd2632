/* Structural schemas. Every value has one type, said at its own place; oneOf, anyOf, allOf and not
 * only judge it. That is what makes pruning and defaults possible, so a schema that leaves a type
 * out is refused here as in the reference server.
 *
 * Interning: a schema is built bottom-up in a struct whose pointers are interned already, so two
 * equal schemas are equal bytes, and so are two lists of properties. One table of byte strings
 * therefore finds every repetition. KServe's biggest definition has 17,000 schemas and about a
 * tenth of that when equal ones are counted once.
 *
 * Rules in CEL (x-kubernetes-validations) are compiled against the schema that they stand at, once
 * for each pair of rules and schema; a rule that does not compile is refused. */
#include "kube-compat/schema_json.h"

#include <stdio.h>

#include "core/object.h"
#include "kube-compat/cel.h"
#include "kube-compat/schema_cel.h"
#include "kube-compat/schema_format.h"

enum { WARNINGS_MAX = 256 };

struct entry {
    const void *data;
    size_t len;
};

/* The rules that stand at a schema, compiled. */
struct compiled_rules {
    const struct schema *at; /* interned, without the rules */
    const char *text;        /* interned JSON of the rules */
    const struct schema_cel **all;
    uint32_t num;
};

struct schema_pool {
    struct arena *arena;
    struct entry *table; /* open addressing; cap is a power of two */
    size_t num, cap;
    struct schema_pattern **patterns;
    const char **pattern_texts;
    size_t num_patterns, num_nodes;
    struct compiled_rules *rules;
    struct cel_program **programs;
    size_t num_rules, num_programs;
};

struct reader {
    struct schema_pool *pool;
    struct buf path;
    const struct schema_json_options *opt;
    json_t *causes, *warnings;
    int depth;
    int uncorrelated; /* levels of lists whose items have no past: oldSelf has no meaning */
    bool full;        /* a bound is reached, and reported */
};

struct schema_pool *schema_pool_create(void) {
    struct schema_pool *pool = mem_alloc(sizeof(*pool));
    pool->arena = arena_create();
    pool->cap = 1024;
    pool->table = mem_array(pool->cap, sizeof(*pool->table));
    pool->patterns = mem_array(SCHEMA_JSON_PATTERNS_MAX, sizeof(struct schema_pattern *));
    pool->pattern_texts = mem_array(SCHEMA_JSON_PATTERNS_MAX, sizeof(const char *));
    return pool;
}

void schema_pool_seal(struct schema_pool *pool) {
    free(pool->table);
    free(pool->pattern_texts);
    free(pool->rules);
    pool->table = NULL;
    pool->pattern_texts = NULL;
    pool->rules = NULL;
    pool->patterns =
        mem_realloc(pool->patterns, (pool->num_patterns + 1) * sizeof(pool->patterns[0]));
}

void schema_pool_destroy(struct schema_pool *pool) {
    if (!pool)
        return;
    for (size_t i = 0; i < pool->num_patterns; i++)
        schema_pattern_destroy(pool->patterns[i]);
    for (size_t i = 0; i < pool->num_programs; i++)
        cel_program_destroy(pool->programs[i]);
    free(pool->programs);
    free(pool->rules);
    free(pool->patterns);
    free(pool->pattern_texts);
    free(pool->table);
    arena_destroy(pool->arena);
    free(pool);
}

static uint64_t hash_of(const void *data, size_t len) {
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ ((const unsigned char *)data)[i]) * 1099511628211u;
    return hash ^ hash >> 32;
}

/* Gives the slot of equal bytes, or the empty one where they belong. */
static struct entry *slot_of(const struct schema_pool *pool, const void *data, size_t len) {
    size_t i = hash_of(data, len) & (pool->cap - 1);
    while (pool->table[i].data &&
           (pool->table[i].len != len || memcmp(pool->table[i].data, data, len) != 0))
        i = (i + 1) & (pool->cap - 1);
    return &pool->table[i];
}

static void grow(struct schema_pool *pool) {
    struct entry *was = pool->table;
    size_t cap = pool->cap;
    pool->cap *= 2;
    pool->table = mem_array(pool->cap, sizeof(*pool->table));
    for (size_t i = 0; i < cap; i++) {
        if (was[i].data)
            *slot_of(pool, was[i].data, was[i].len) = was[i];
    }
    free(was);
}

/* Gives the one copy of these bytes. */
static const void *intern(struct schema_pool *pool, const void *data, size_t len) {
    struct entry *e = slot_of(pool, data, len);
    if (e->data)
        return e->data;
    void *copy = arena_alloc(pool->arena, len ? len : 1);
    if (len)
        memcpy(copy, data, len);
    *e = (struct entry){copy, len};
    if (++pool->num * 2 > pool->cap)
        grow(pool);
    return copy;
}

static const char *intern_text(struct schema_pool *pool, const char *text) {
    return text ? intern(pool, text, strlen(text) + 1) : NULL;
}

/* Gives JSON as interned text. */
static const char *intern_json(struct schema_pool *pool, const json_t *value) {
    AUTO_FREE char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    return intern_text(pool, text);
}

static size_t push(struct reader *r, const char *fmt, const char *text) {
    size_t was = r->path.len;
    buf_printf(&r->path, fmt, text);
    return was;
}

static size_t push_index(struct reader *r, const char *member, size_t index) {
    size_t was = r->path.len;
    buf_printf(&r->path, ".%s[%zu]", member, index);
    return was;
}

static void pop(struct reader *r, size_t was) {
    r->path.len = was;
    r->path.data[was] = '\0';
}

/* A cause about a member of the schema that is being read. */
static void refuse(struct reader *r, const char *reason, const char *member, const char *message) {
    AUTO_FREE char *field = mem_printf("%s%s%s", r->path.data, *member ? "." : "", member);
    cause_add(r->causes, reason, field, "%s", message);
}

static void warn(struct reader *r, const char *what) {
    if (json_array_size(r->warnings) < WARNINGS_MAX)
        json_array_append_new(r->warnings, json_sprintf("%s: %s", r->path.data, what));
    else if (json_array_size(r->warnings) == WARNINGS_MAX)
        json_array_append_new(r->warnings, json_string("more warnings are left out"));
}

static const struct schema *read_node(struct reader *r, const json_t *o, bool judges);

static const struct schema_pattern *read_pattern(struct reader *r, const char *text) {
    struct schema_pool *pool = r->pool;
    for (size_t i = 0; i < pool->num_patterns; i++) {
        if (pool->pattern_texts[i] == text) /* interned */
            return pool->patterns[i];
    }
    struct error err = ERROR_INIT;
    if (pool->num_patterns == SCHEMA_JSON_PATTERNS_MAX) {
        refuse(r, CAUSE_INVALID, "pattern", "Invalid value: there are more than 1024 patterns");
        return NULL;
    }
    struct schema_pattern *p;
    if (schema_pattern_create(text, &p, &err)) {
        AUTO_FREE char *message =
            mem_printf("Invalid value: \"%.200s\": must be a valid regular expression, but isn't: "
                       "%s",
                       text, err.text);
        refuse(r, CAUSE_INVALID, "pattern", message);
        return NULL;
    }
    pool->pattern_texts[pool->num_patterns] = text;
    pool->patterns[pool->num_patterns++] = p;
    return p;
}

static struct schema_list read_list(struct reader *r, const json_t *o, const char *member) {
    const json_t *list = json_object_get(o, member);
    size_t num = json_array_size(list);
    struct schema_list result = {.num = (uint32_t)num};
    if (!num)
        return result;
    AUTO_FREE const struct schema **all = mem_array(num, sizeof(const struct schema *));
    for (size_t i = 0; i < num; i++) {
        size_t was = push_index(r, member, i);
        all[i] = read_node(r, json_array_get(list, i), true);
        pop(r, was);
    }
    result.all = (const struct schema **)(uintptr_t)intern(r->pool, (const void *)all,
                                                           num * sizeof(const struct schema *));
    return result;
}

/* Bound of a size: -1 when absent. */
static int64_t size_bound(struct reader *r, const json_t *o, const char *member,
                          int64_t otherwise) {
    const json_t *v = json_object_get(o, member);
    if (!v)
        return otherwise;
    if (json_is_integer(v) && json_integer_value(v) >= 0)
        return json_integer_value(v);
    refuse(r, CAUSE_INVALID, member, "Invalid value: must be a non-negative integer");
    return otherwise;
}

static void read_sizes(struct reader *r, const json_t *o, struct schema_rules *rules) {
    static const char *const members[][2] = {
        {"minLength", "maxLength"}, {"minItems", "maxItems"}, {"minProperties", "maxProperties"}};
    rules->min_size = rules->max_size = -1;
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        rules->min_size = size_bound(r, o, members[i][0], rules->min_size);
        rules->max_size = size_bound(r, o, members[i][1], rules->max_size);
    }
}

static void read_numbers(const json_t *o, struct schema_rules *rules) {
    const json_t *minimum = json_object_get(o, "minimum"), *maximum = json_object_get(o, "maximum");
    rules->has_minimum = json_is_number(minimum);
    rules->minimum = json_number_value(minimum);
    rules->has_maximum = json_is_number(maximum);
    rules->maximum = json_number_value(maximum);
    rules->exclusive_minimum = object_bool(o, "exclusiveMinimum", false);
    rules->exclusive_maximum = object_bool(o, "exclusiveMaximum", false);
    rules->multiple_of = json_number_value(json_object_get(o, "multipleOf"));
}

/* Values of an enum: strings go into the schema itself, as the built-in types have them. */
static void read_enum(struct reader *r, const json_t *o, struct schema *s,
                      struct schema_rules *rules) {
    const json_t *list = json_object_get(o, "enum");
    size_t num = json_array_size(list), strings = 0;
    for (size_t i = 0; i < num; i++)
        strings += json_is_string(json_array_get(list, i));
    if (!num)
        return;
    if (strings < num) {
        rules->allowed = intern_json(r->pool, list);
        return;
    }
    AUTO_FREE const char **values = mem_array(num, sizeof(const char *));
    for (size_t i = 0; i < num; i++)
        values[i] = intern_text(r->pool, json_string_value(json_array_get(list, i)));
    s->num_values = (uint32_t)num;
    s->values =
        (const char **)(uintptr_t)intern(r->pool, (const void *)values, num * sizeof(const char *));
}

/* Required fields that the schema has no property for. */
static void read_required(struct reader *r, const json_t *o, struct schema_rules *rules) {
    const json_t *list = json_object_get(o, "required");
    const json_t *properties = json_object_get(o, "properties");
    AUTO_FREE const char **names = mem_array(json_array_size(list) + 1, sizeof(const char *));
    size_t num = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (name && !json_object_get(properties, name))
            names[num++] = intern_text(r->pool, name);
    }
    if (num)
        rules->required = (const char **)(uintptr_t)intern(r->pool, (const void *)names,
                                                           (num + 1) * sizeof(const char *));
}

static bool says_anything(const struct schema_rules *r) {
    return r->pattern || r->format || r->allowed || r->required || r->has_minimum ||
           r->has_maximum || r->multiple_of > 0 || r->unique || r->min_size >= 0 ||
           r->max_size >= 0 || r->one_of.num || r->any_of.num || r->all_of.num || r->never;
}

static void read_rules(struct reader *r, const json_t *o, struct schema *s) {
    struct schema_rules rules;
    memset(&rules, 0, sizeof(rules)); /* padding too: it is compared as bytes */
    read_sizes(r, o, &rules);
    read_numbers(o, &rules);
    read_required(r, o, &rules);
    const char *pattern = object_str(o, "pattern");
    if (pattern) {
        rules.pattern = intern_text(r->pool, pattern);
        rules.compiled = read_pattern(r, rules.pattern);
    }
    const char *format = object_str(o, "format");
    if (format && s->type == SCHEMA_STRING && s->format != SCHEMA_INT_OR_STRING)
        rules.format = schema_format_find(format);
    rules.unique = s->type == SCHEMA_ARRAY && (s->merge_set || s->map_keys);
    if (s->format != SCHEMA_INT_OR_STRING)
        rules.any_of = read_list(r, o, "anyOf");
    rules.one_of = read_list(r, o, "oneOf");
    rules.all_of = read_list(r, o, "allOf");
    const json_t *never = json_object_get(o, "not");
    if (json_is_object(never)) {
        size_t was = push(r, "%s", ".not");
        rules.never = read_node(r, never, true);
        pop(r, was);
    }
    read_enum(r, o, s, &rules);
    if (s->num_values || says_anything(&rules))
        s->rules = intern(r->pool, &rules, sizeof(rules));
}

static int compare_properties(const void *a, const void *b) {
    return strcmp(((const struct schema_property *)a)->name,
                  ((const struct schema_property *)b)->name);
}

static bool is_required(const json_t *o, const char *name) {
    const json_t *list = json_object_get(o, "required");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *have = json_string_value(json_array_get(list, i));
        if (have && !strcmp(have, name))
            return true;
    }
    return false;
}

/* Adds what every object has, to a root or an embedded resource. */
static size_t add_metadata(struct reader *r, struct schema_property *all, size_t num, bool root) {
    static const struct schema text = {.type = SCHEMA_STRING};
    static const char *const names[] = {"metadata", "apiVersion", "kind"};
    for (size_t i = 0; i < (root ? 1 : ARRAY_LEN(names)); i++) {
        size_t at = 0;
        while (at < num && strcmp(all[at].name, names[i]) != 0)
            at++;
        all[at].name = intern_text(r->pool, names[i]);
        all[at].schema = i ? &text : root ? r->opt->metadata : &schema_any;
        all[at].required = !root && i;
        num += at == num;
    }
    return num;
}

static void read_properties(struct reader *r, const json_t *o, struct schema *s, bool judges,
                            bool root, bool embedded) {
    json_t *properties = json_object_get(o, "properties"), *inner;
    const char *key;
    AUTO_FREE struct schema_property *all =
        mem_array(json_object_size(properties) + 3, sizeof(*all)); /* 3: add_metadata() */
    size_t num = 0;
    json_object_foreach (properties, key, inner) {
        if (root && (!strcmp(key, "apiVersion") || !strcmp(key, "kind")))
            continue;
        size_t was = push(r, ".properties[%s]", key);
        all[num].name = intern_text(r->pool, key);
        all[num].description = intern_text(r->pool, object_str(inner, "description"));
        all[num].required = is_required(o, key);
        all[num++].schema = read_node(r, inner, judges);
        pop(r, was);
    }
    if (root || embedded)
        num = add_metadata(r, all, num, root);
    if (!num)
        return;
    qsort(all, num, sizeof(*all), compare_properties);
    s->properties = (struct schema_property *)(uintptr_t)intern(r->pool, all, num * sizeof(*all));
    s->num_properties = (uint32_t)num;
}

static void read_type(struct reader *r, const json_t *o, struct schema *s, bool judges) {
    static const struct {
        const char *name;
        enum schema_type type;
    } types[] = {{"string", SCHEMA_STRING},   {"boolean", SCHEMA_BOOLEAN},
                 {"integer", SCHEMA_INTEGER}, {"number", SCHEMA_NUMBER},
                 {"object", SCHEMA_OBJECT},   {"array", SCHEMA_ARRAY}};
    const char *name = object_str(o, "type");
    s->preserve = object_bool(o, "x-kubernetes-preserve-unknown-fields", false);
    if (object_bool(o, "x-kubernetes-int-or-string", false)) {
        s->type = SCHEMA_STRING;
        s->format = SCHEMA_INT_OR_STRING;
        return;
    }
    for (size_t i = 0; name && i < ARRAY_LEN(types); i++) {
        if (strcmp(types[i].name, name) != 0)
            continue;
        s->type = types[i].type;
        return;
    }
    if (name)
        refuse(r, CAUSE_NOT_SUPPORTED, "type",
               "Unsupported value: supported values: \"array\", \"boolean\", \"integer\", "
               "\"number\", \"object\", \"string\"");
    else if (!judges && !s->preserve)
        refuse(r, CAUSE_REQUIRED, "type",
               "Required value: must not be empty for specified object fields and array items");
}

/* Formats of numbers; those of strings are rules (schema_format.h). */
static void read_format(struct reader *r, const json_t *o, struct schema *s) {
    static const struct {
        const char *name;
        enum schema_format format;
    } numbers[] = {{"int32", SCHEMA_INT32},
                   {"int64", SCHEMA_INT64},
                   {"float", SCHEMA_PLAIN},
                   {"double", SCHEMA_PLAIN}};
    const char *name = object_str(o, "format");
    if (!name || !*name || s->format == SCHEMA_INT_OR_STRING)
        return;
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        if (strcmp(numbers[i].name, name) != 0)
            continue;
        s->format = numbers[i].format;
        return;
    }
    const struct schema_string_format *format = schema_format_find(name);
    if (format && s->type == SCHEMA_STRING) {
        s->format = format->format;
        return;
    }
    AUTO_FREE char *text = mem_printf("the format \"%.64s\" is not checked", name);
    warn(r, text);
}

/* How lists merge; which items must differ. */
static void read_list_type(struct reader *r, const json_t *o, struct schema *s) {
    const char *list = object_str(o, "x-kubernetes-list-type");
    const char *map = object_str(o, "x-kubernetes-map-type");
    s->atomic = (list && !strcmp(list, "atomic")) || (map && !strcmp(map, "atomic"));
    s->merge_set = list && !strcmp(list, "set");
    if (!list || strcmp(list, "map") != 0)
        return;
    AUTO_BUF keys = BUF_INIT;
    const json_t *names = json_object_get(o, "x-kubernetes-list-map-keys");
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *name = json_string_value(json_array_get(names, i));
        buf_printf(&keys, "%s%s", i ? "," : "", name ? name : "");
    }
    if (!keys.len)
        refuse(r, CAUSE_REQUIRED, "x-kubernetes-list-map-keys",
               "Required value: must not be empty if x-kubernetes-list-type is map");
    else
        s->map_keys = intern_text(r->pool, keys.data);
}

static void read_items(struct reader *r, const json_t *o, struct schema *s, bool judges) {
    const json_t *items = json_object_get(o, "items");
    const json_t *values = json_object_get(o, "additionalProperties");
    if (json_is_array(items))
        refuse(r, CAUSE_FORBIDDEN, "items", "Forbidden: items must be a schema object");
    if (json_is_object(items)) {
        size_t was = push(r, "%s", ".items");
        r->uncorrelated += !s->map_keys;
        s->items = read_node(r, items, judges);
        r->uncorrelated -= !s->map_keys;
        pop(r, was);
    } else if (s->type == SCHEMA_ARRAY && !judges) {
        refuse(r, CAUSE_REQUIRED, "items", "Required value: must be specified");
    }
    if (!values)
        return;
    if (json_is_false(values) || judges || json_object_size(json_object_get(o, "properties"))) {
        refuse(r, CAUSE_FORBIDDEN, "additionalProperties",
               "Forbidden: additionalProperties and properties are mutually exclusive, and it "
               "cannot be false or stand in a logical junctor");
        return;
    }
    size_t was = push(r, "%s", ".additionalProperties");
    s->items = json_is_object(values) ? read_node(r, values, judges) : &schema_any;
    pop(r, was);
}

static void read_default(struct reader *r, const json_t *o, struct schema *s) {
    const json_t *value = json_object_get(o, "default");
    if (!value)
        return;
    s->fallback = intern_json(r->pool, value);
    struct schema_findings found = {.causes = json_array(), .unknown = json_array(), .nulls = true};
    schema_check(s, value, &found);
    const json_t *first = json_array_get(found.causes, 0);
    if (first) {
        AUTO_FREE char *message = mem_printf("%s", object_str(first, "message"));
        refuse(r, CAUSE_INVALID, "default", message);
    } else if (json_array_size(found.unknown)) {
        refuse(r, CAUSE_INVALID, "default",
               "Invalid value: must not have fields that the schema does not know");
    }
    json_decref(found.causes);
    json_decref(found.unknown);
}

static void check_keywords(struct reader *r, const json_t *o) {
    static const char *const forbidden[] = {
        "$ref",     "definitions", "dependencies", "deprecated",        "discriminator",
        "readOnly", "writeOnly",   "xml",          "patternProperties", "additionalItems"};
    for (size_t i = 0; i < ARRAY_LEN(forbidden); i++) {
        if (json_object_get(o, forbidden[i]))
            refuse(r, CAUSE_FORBIDDEN, forbidden[i], "Forbidden: is not supported");
    }
    if (object_bool(o, "uniqueItems", false))
        refuse(r, CAUSE_FORBIDDEN, "uniqueItems",
               "Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes "
               "quadratic");
}

/* False: a bound is reached; it is reported once. */
static bool within_bounds(struct reader *r) {
    const char *why = NULL;
    if (r->depth > SCHEMA_JSON_DEPTH_MAX)
        why = "Invalid value: schemas are nested deeper than 64";
    else if (r->pool->num_nodes >= SCHEMA_JSON_NODES_MAX)
        why = "Invalid value: there are more than 200000 schemas in the definition";
    if (why && !r->full)
        refuse(r, CAUSE_INVALID, "", why);
    r->full = r->full || why;
    return !why;
}

/* Gives a program of the pool, or NULL (r has the cause). */
static const struct cel_program *compile(struct reader *r, const char *text, const char *member,
                                         const struct cel_options *opt) {
    struct error err = ERROR_INIT;
    AUTO(cel_program) program = NULL;
    if (cel_compile(text, opt, &program, &err)) {
        AUTO_FREE char *message =
            mem_printf("Invalid value: \"%.300s\": compilation failed: %s", text, err.text);
        refuse(r, CAUSE_INVALID, member, message);
        return NULL;
    }
    if (cel_uses_old(program) && r->uncorrelated) {
        refuse(r, CAUSE_FORBIDDEN, member,
               "Forbidden: oldSelf cannot be used in an atomic part, or in the items of a list "
               "that is "
               "not of type map");
        return NULL;
    }
    struct schema_pool *pool = r->pool;
    pool->programs =
        mem_realloc(pool->programs, (pool->num_programs + 1) * sizeof(pool->programs[0]));
    return pool->programs[pool->num_programs++] = steal(program);
}

static bool is_reason(const char *reason) {
    static const char *const reasons[] = {CAUSE_INVALID, CAUSE_FORBIDDEN, CAUSE_REQUIRED,
                                          CAUSE_DUPLICATE};
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
        if (!strcmp(reason, reasons[i]))
            return true;
    }
    return false;
}

/* Is ".a.b" a field below s? */
static bool has_field(const struct schema *s, const char *path) {
    char name[OBJECT_PATH_BYTES_MAX];
    while (s && *path == '.') {
        size_t len = strcspn(++path, ".[");
        if (!len || len >= sizeof(name))
            return false;
        snprintf(name, sizeof(name), "%.*s", (int)len, path);
        path += len;
        const struct schema_property *p = schema_property(s, name);
        s = s->items && s->type == SCHEMA_OBJECT ? s->items : p ? p->schema : NULL;
    }
    return s && !*path;
}

static const struct schema_cel *read_one_rule(struct reader *r, const json_t *o,
                                              const struct schema *at) {
    const char *text = object_str(o, "rule"), *reason = object_str(o, "reason");
    const char *field = object_str(o, "fieldPath"), *message = object_str(o, "message");
    const char *expression = object_str(o, "messageExpression");
    struct cel_options opt = {.self = at,
                              .has_old = true,
                              .old_is_optional = object_bool(o, "optionalOldSelf", false),
                              .want = CEL_BOOL};
    if (!text || !text[strspn(text, " \t\r\n")]) {
        refuse(r, CAUSE_REQUIRED, "rule", "Required value: rule is not specified");
        return NULL;
    }
    if (reason && !is_reason(reason))
        refuse(r, CAUSE_NOT_SUPPORTED, "reason",
               "Unsupported value: supported values: \"FieldValueRequired\", "
               "\"FieldValueInvalid\", \"FieldValueForbidden\", \"FieldValueDuplicate\"");
    if (field && *field && !has_field(at, field))
        refuse(r, CAUSE_INVALID, "fieldPath",
               "Invalid value: must be a path of fields like \".spec.name\" that the schema knows");
    struct schema_cel *rule = arena_alloc(r->pool->arena, sizeof(*rule));
    rule->rule = intern_text(r->pool, text);
    rule->message = message && *message ? intern_text(r->pool, message) : NULL;
    rule->reason = intern_text(r->pool, reason ? reason : CAUSE_INVALID);
    rule->field = field && *field ? intern_text(r->pool, field) : NULL;
    rule->old_is_optional = opt.old_is_optional;
    rule->program = compile(r, text, "rule", &opt);
    opt.want = CEL_STRING;
    if (expression && *expression)
        rule->message_program = compile(r, expression, "messageExpression", &opt);
    return rule;
}

/* Puts the rules of x-kubernetes-validations into s, which is whole otherwise. */
static void read_cel(struct reader *r, const json_t *o, struct schema *s, bool judges) {
    const json_t *list = json_object_get(o, "x-kubernetes-validations");
    size_t num = json_array_size(list);
    if (!num)
        return;
    if (judges || num > SCHEMA_CEL_RULES_MAX) {
        refuse(r, CAUSE_FORBIDDEN, "x-kubernetes-validations",
               "Forbidden: at most 64 rules, and none in a logical junctor");
        return;
    }
    struct schema_pool *pool = r->pool;
    const struct schema *at = intern(pool, s, sizeof(*s));
    const char *text = intern_json(pool, list);
    size_t i = 0;
    while (i < pool->num_rules && (pool->rules[i].at != at || pool->rules[i].text != text))
        i++;
    if (i == pool->num_rules || r->uncorrelated) { /* there each place is judged by itself */
        pool->rules = mem_realloc(pool->rules, (pool->num_rules + 1) * sizeof(pool->rules[0]));
        i = pool->num_rules++;
        const struct schema_cel **all = arena_alloc(pool->arena, num * sizeof(*all));
        for (size_t k = 0; k < num; k++) {
            size_t was = push_index(r, "x-kubernetes-validations", k);
            all[k] = read_one_rule(r, json_array_get(list, k), at);
            pop(r, was);
        }
        pool->rules[i] = (struct compiled_rules){at, text, all, (uint32_t)num};
    }
    struct schema_rules rules;
    memset(&rules, 0, sizeof(rules)); /* padding too: it is compared as bytes */
    rules.min_size = rules.max_size = -1;
    if (s->rules)
        memcpy(&rules, s->rules, sizeof(rules));
    rules.cel = (const struct schema_cel *const *)pool->rules[i].all;
    rules.num_cel = pool->rules[i].num;
    s->rules = intern(pool, &rules, sizeof(rules));
    s->has_cel = true;
}

static const struct schema *read_as(struct reader *r, const json_t *o, bool judges, bool root) {
    if (!json_is_object(o)) {
        refuse(r, CAUSE_TYPE_INVALID, "", "Invalid value: a schema must be an object");
        return &schema_any;
    }
    if (!within_bounds(r))
        return &schema_any;
    r->depth++;
    r->pool->num_nodes++;
    struct schema s;
    memset(&s, 0, sizeof(s)); /* padding too: it is compared as bytes */
    check_keywords(r, o);
    read_type(r, o, &s, judges);
    read_format(r, o, &s);
    read_list_type(r, o, &s);
    s.nullable = object_bool(o, "nullable", false);
    bool embedded = object_bool(o, "x-kubernetes-embedded-resource", false);
    r->uncorrelated += s.atomic;
    read_properties(r, o, &s, judges, root, embedded);
    read_items(r, o, &s, judges);
    r->uncorrelated -= s.atomic;
    read_rules(r, o, &s);
    if (!judges)
        read_default(r, o, &s);
    if (root) {
        s.name = intern_text(r->pool, r->opt->name);
        s.description = intern_text(r->pool, object_str(o, "description"));
        if (s.type != SCHEMA_OBJECT)
            refuse(r, CAUSE_INVALID, "type", "Invalid value: must be object at the root");
        s.type = SCHEMA_OBJECT;
    }
    if (s.type == SCHEMA_ARRAY && !s.items)
        s.items = &schema_any;
    s.has_cel = s.items && s.items->has_cel;
    for (uint32_t i = 0; i < s.num_properties; i++)
        s.has_cel = s.has_cel || s.properties[i].schema->has_cel;
    read_cel(r, o, &s, judges);
    r->depth--;
    return intern(r->pool, &s, sizeof(s));
}

static const struct schema *read_node(struct reader *r, const json_t *o, bool judges) {
    return read_as(r, o, judges, false);
}

static const struct schema *read_root(struct reader *r, const json_t *o) {
    return read_as(r, o, false, true);
}

enum errc schema_json_read(struct schema_pool *pool, const json_t *root,
                           const struct schema_json_options *opt, json_t *causes, json_t *warnings,
                           const struct schema **ret_s, struct error *err) {
    struct reader r = {.pool = pool, .opt = opt, .causes = causes, .warnings = warnings};
    size_t before = json_array_size(causes);
    buf_puts(&r.path, opt->path);
    const struct schema *s = read_root(&r, root);
    buf_deinit(&r.path);
    if (json_array_size(causes) > before)
        return err_set(err, ERR_INVALID, "%s is not a structural schema", opt->path);
    *ret_s = s;
    return OK;
}
