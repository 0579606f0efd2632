/* OpenAPI documents as JSON text, written straight from the schemas: no tree is ever built, because
 * the documents of big definitions have megabytes.
 *
 * Version 2 says less than version 3: it has no null, no junctors and one type a schema, so there
 * an open or nullable schema is one without a type, as the reference server writes it for old
 * clients, which check what they send by it. */
#include "kube-compat/openapi_write.h"

#include <stdio.h>

#include "kube-compat/schema_cel.h"
#include "kube-compat/schema_format.h"

enum openapi_version { OPENAPI_V2, OPENAPI_V3 };

struct writer {
    struct buf *out;
    struct openapi_types types;
    enum openapi_version version;
};

const char *const openapi_write_parameters[OPENAPI_WRITE_PARAMETERS] = {
    "dryRun", "fieldManager", "fieldValidation", [OPENAPI_FORCE] = "force"};

const char openapi_api_version_text[] = "The versioned schema of this object.";
const char openapi_kind_text[] = "The kind of this object.";

void openapi_types_add(struct openapi_types *t, const struct schema *s) {
    for (size_t i = 0; i < t->num; i++) {
        if (t->all[i] == s)
            return;
    }
    if (t->num == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 256;
        t->all = mem_realloc(t->all, t->cap * sizeof(t->all[0]));
    }
    t->all[t->num++] = s;
}

void openapi_types_deinit(struct openapi_types *t) {
    free(t->all);
    *t = (struct openapi_types){0};
}

const char *openapi_format(const struct schema *s) {
    static const char *const formats[] = {
        [SCHEMA_INT32] = "int32",    [SCHEMA_INT64] = "int64",
        [SCHEMA_BYTES] = "byte",     [SCHEMA_INT_OR_STRING] = "int-or-string",
        [SCHEMA_TIME] = "date-time", [SCHEMA_MICRO_TIME] = "date-time",
        [SCHEMA_DOUBLE] = "double",  [SCHEMA_EXTRA] = NULL,
    };
    return s->rules && s->rules->format ? s->rules->format->name : formats[s->format];
}

bool openapi_v2_is_open(const struct schema *s) {
    return s->nullable || s->preserve || s->type == SCHEMA_ANY;
}

void openapi_put_path(struct buf *out, const struct kind *k) {
    buf_printf(out, "/%s/%s/%s%s", *k->group ? "apis" : "api", k->api_version,
               k->namespaced ? "namespaces/{namespace}/" : "", k->plural);
}

static void put_string(struct buf *out, const char *text) {
    json_t *s = json_string(text);
    char *quoted = json_dumps(s, JSON_ENCODE_ANY);
    buf_puts(out, quoted);
    free(quoted);
    json_decref(s);
}

static void put_description(struct buf *out, const char *text) {
    if (!text)
        return;
    buf_puts(out, ",\"description\":");
    put_string(out, text);
}

static void reference(struct writer *w, const struct schema *s, const char *description) {
    openapi_types_add(&w->types, s);
    if (w->version == OPENAPI_V2)
        buf_printf(w->out, "{\"$ref\":\"#/definitions/%s\"", s->name);
    else
        buf_printf(w->out, "{\"allOf\":[{\"$ref\":\"#/components/schemas/%s\"}]", s->name);
    put_description(w->out, description);
    buf_putc(w->out, '}');
}

static void put_merge(struct buf *out, const struct schema *s) {
    if (s->merge_key)
        buf_printf(out, ",\"x-kubernetes-patch-merge-key\":\"%s\"", s->merge_key);
    if (s->merge_key || s->merge_set || s->retain_keys)
        buf_printf(out, ",\"x-kubernetes-patch-strategy\":\"%s%s%s\"",
                   s->merge_key || s->merge_set ? "merge" : "",
                   (s->merge_key || s->merge_set) && s->retain_keys ? "," : "",
                   s->retain_keys ? "retainKeys" : "");
    if (s->atomic && s->type == SCHEMA_ARRAY)
        buf_puts(out, ",\"x-kubernetes-list-type\":\"atomic\"");
    if (s->atomic && s->type == SCHEMA_OBJECT)
        buf_puts(out, ",\"x-kubernetes-map-type\":\"atomic\"");
    if (s->map_keys) {
        buf_puts(out, ",\"x-kubernetes-list-type\":\"map\",\"x-kubernetes-list-map-keys\":[\"");
        for (const char *p = s->map_keys; *p; p++) {
            if (*p == ',')
                buf_puts(out, "\",\"");
            else
                buf_putc(out, *p);
        }
        buf_puts(out, "\"]");
    }
}

static void put_schema(struct writer *w, const struct schema *s, const char *description);

static void put_list(struct writer *w, const char *name, const struct schema_list *list) {
    if (!list->num)
        return;
    buf_printf(w->out, ",\"%s\":[", name);
    for (uint32_t i = 0; i < list->num; i++) {
        if (i)
            buf_putc(w->out, ',');
        put_schema(w, list->all[i], NULL);
    }
    buf_putc(w->out, ']');
}

static void put_sizes(struct buf *out, const struct schema *s) {
    const char *what = s->type == SCHEMA_STRING  ? "Length"
                       : s->type == SCHEMA_ARRAY ? "Items"
                                                 : "Properties";
    if (s->rules->min_size >= 0)
        buf_printf(out, ",\"min%s\":%lld", what, (long long)s->rules->min_size);
    if (s->rules->max_size >= 0)
        buf_printf(out, ",\"max%s\":%lld", what, (long long)s->rules->max_size);
}

static void put_cel(struct buf *out, const struct schema_rules *rules) {
    for (uint32_t i = 0; i < rules->num_cel; i++) {
        buf_puts(out, i ? ",{\"rule\":" : ",\"x-kubernetes-validations\":[{\"rule\":");
        put_string(out, rules->cel[i]->rule);
        if (rules->cel[i]->message) {
            buf_puts(out, ",\"message\":");
            put_string(out, rules->cel[i]->message);
        }
        buf_puts(out, i + 1 == rules->num_cel ? "}]" : "}");
    }
}

/* What only users' schemas say, behind what all schemas say. */
static void put_rules(struct writer *w, const struct schema *s) {
    struct buf *out = w->out;
    if (s->nullable && w->version == OPENAPI_V3)
        buf_puts(out, ",\"nullable\":true");
    if (s->preserve)
        buf_puts(out, ",\"x-kubernetes-preserve-unknown-fields\":true");
    if (s->fallback)
        buf_printf(out, ",\"default\":%s", s->fallback);
    if (!s->rules)
        return;
    const struct schema_rules *rules = s->rules;
    if (rules->pattern) {
        buf_puts(out, ",\"pattern\":");
        put_string(out, rules->pattern);
    }
    if (rules->allowed)
        buf_printf(out, ",\"enum\":%s", rules->allowed);
    if (rules->has_minimum)
        buf_printf(out, ",\"minimum\":%.17g%s", rules->minimum,
                   rules->exclusive_minimum ? ",\"exclusiveMinimum\":true" : "");
    if (rules->has_maximum)
        buf_printf(out, ",\"maximum\":%.17g%s", rules->maximum,
                   rules->exclusive_maximum ? ",\"exclusiveMaximum\":true" : "");
    if (rules->multiple_of > 0)
        buf_printf(out, ",\"multipleOf\":%.17g", rules->multiple_of);
    put_sizes(out, s);
    if (w->version == OPENAPI_V2)
        return;
    put_list(w, "oneOf", &rules->one_of);
    put_list(w, "anyOf", &rules->any_of);
    put_list(w, "allOf", &rules->all_of);
    if (rules->never) {
        buf_puts(out, ",\"not\":");
        put_schema(w, rules->never, NULL);
    }
    put_cel(out, rules);
}

static void put_required(struct buf *out, const struct schema *s) {
    bool first = true;
    for (uint32_t i = 0; i < s->num_properties; i++) {
        if (!s->properties[i].required)
            continue;
        buf_printf(out, "%s\"%s\"", first ? ",\"required\":[" : ",", s->properties[i].name);
        first = false;
    }
    for (const char **name = s->rules ? s->rules->required : NULL; name && *name; name++) {
        buf_puts(out, first ? ",\"required\":[" : ",");
        put_string(out, *name);
        first = false;
    }
    if (!first)
        buf_putc(out, ']');
}

/* How a schema without a type opens: with its description, so that no comma has to lead. */
static void open_untyped(struct buf *out, const char *description) {
    buf_puts(out, "{\"description\":");
    put_string(out, description ? description : "");
}

/* Opens a schema with its type. Writes the description of one that has none. */
static void put_type(struct writer *w, const struct schema *s, const char *description) {
    struct buf *out = w->out;
    bool either = s->format == SCHEMA_INT_OR_STRING || s->format == SCHEMA_QUANTITY;
    if (either && w->version == OPENAPI_V2) {
        buf_printf(out, "{\"type\":\"string\"%s",
                   s->format == SCHEMA_QUANTITY ? "" : ",\"format\":\"int-or-string\"");
    } else if (either) {
        buf_printf(out, "{%s\"oneOf\":[{\"type\":\"string\"},{\"type\":\"%s\"}]",
                   s->format == SCHEMA_QUANTITY ? "" : "\"format\":\"int-or-string\",",
                   s->format == SCHEMA_QUANTITY ? "number" : "integer");
    } else if (s->type == SCHEMA_ANY && (s->rules || s->num_properties || s->preserve)) {
        open_untyped(out, description); /* a judging schema has no type */
        return;
    } else if (s->type == SCHEMA_ANY) {
        buf_puts(out, "{\"type\":\"object\",\"x-kubernetes-preserve-unknown-fields\":true");
    } else {
        buf_printf(out, "{\"type\":\"%s\"", schema_type_name(s));
        const char *format = openapi_format(s);
        if (format)
            buf_printf(out, ",\"format\":\"%s\"", format);
    }
    put_description(out, description);
}

/* What stands inside a schema: items, allowed strings, properties. */
static void put_content(struct writer *w, const struct schema *s) {
    struct buf *out = w->out;
    if (s->items) {
        buf_puts(out, s->type == SCHEMA_ARRAY ? ",\"items\":" : ",\"additionalProperties\":");
        put_schema(w, s->items, NULL);
    }
    for (uint32_t i = 0; i < s->num_values; i++) {
        buf_puts(out, i ? "," : ",\"enum\":[");
        put_string(out, s->values[i]);
        if (i + 1 == s->num_values)
            buf_putc(out, ']');
    }
    if (s->num_properties || s->rules)
        put_required(out, s);
    for (uint32_t i = 0; i < s->num_properties; i++) { /* a named type is a reference */
        buf_puts(out, i ? "," : ",\"properties\":{");
        put_string(out, s->properties[i].name);
        buf_putc(out, ':');
        put_schema(w, s->properties[i].schema, s->properties[i].description);
        if (i + 1 == s->num_properties)
            buf_putc(out, '}');
    }
}

static void put_schema(struct writer *w, const struct schema *s, const char *description) {
    struct buf *out = w->out;
    if (s->name) {
        reference(w, s, description);
        return;
    }
    if (w->version == OPENAPI_V2 && openapi_v2_is_open(s)) {
        open_untyped(out, description);
        if (!s->nullable)
            buf_puts(out, ",\"x-kubernetes-preserve-unknown-fields\":true");
        buf_putc(out, '}');
        return;
    }
    put_type(w, s, description);
    put_content(w, s);
    put_rules(w, s);
    if (s->has_min)
        buf_printf(out, ",\"minimum\":%lld", (long long)s->min);
    if (s->has_max)
        buf_printf(out, ",\"maximum\":%lld", (long long)s->max);
    put_merge(out, s);
    buf_putc(out, '}');
}

static void put_gvk(struct buf *out, const struct kind *k) {
    buf_printf(out, "{\"group\":\"%s\",\"version\":\"%s\",\"kind\":\"%s\"}", k->group, k->version,
               k->kind);
}

const struct kind *openapi_next_kind(const struct openapi_kinds *kinds, const struct schema *s,
                                     size_t *index) {
    while (*index < kinds->num) {
        const struct kind *k = kinds->all[(*index)++];
        if (k->schema == s)
            return k;
    }
    return NULL;
}

static void put_named(struct writer *w, const struct openapi_kinds *kinds, const struct schema *s) {
    struct buf *out = w->out;
    size_t index = 0;
    const struct kind *k = openapi_next_kind(kinds, s, &index);
    buf_printf(out, "\"%s\":{\"type\":\"object\"", s->name);
    put_description(out, s->description);
    put_required(out, s);
    buf_puts(out, ",\"properties\":{");
    if (k)
        buf_printf(out,
                   "\"apiVersion\":{\"type\":\"string\",\"description\":\"%s\"},"
                   "\"kind\":{\"type\":\"string\",\"description\":\"%s\"}",
                   openapi_api_version_text, openapi_kind_text);
    for (uint32_t i = 0; i < s->num_properties; i++) {
        const struct schema_property *p = &s->properties[i];
        buf_puts(out, i || k ? "," : "");
        put_string(out, p->name);
        buf_putc(out, ':');
        put_schema(w, p->schema, p->description);
    }
    buf_putc(out, '}');
    put_rules(w, s);
    if (s->atomic)
        buf_puts(out, ",\"x-kubernetes-map-type\":\"atomic\"");
    for (bool first = true; k; first = false) {
        buf_puts(out, first ? ",\"x-kubernetes-group-version-kind\":[" : ",");
        put_gvk(out, k);
        k = openapi_next_kind(kinds, s, &index);
        if (!k)
            buf_putc(out, ']');
    }
    buf_putc(out, '}');
}

static void put_operation(struct writer *w, const struct kind *k, const char *verb,
                          const char *action, bool writes) {
    struct buf *out = w->out;
    buf_printf(out,
               "\"%s\":{\"x-kubernetes-action\":\"%s\",\"responses\":{\"200\":{"
               "\"description\":\"OK\"}},\"x-kubernetes-group-version-kind\":",
               verb, action);
    put_gvk(out, k);
    for (size_t i = 0; writes && i < OPENAPI_WRITE_PARAMETERS; i++) {
        const char *type = i == OPENAPI_FORCE ? "boolean" : "string";
        buf_printf(out, "%s{\"name\":\"%s\",\"in\":\"query\",", i ? "," : ",\"parameters\":[",
                   openapi_write_parameters[i]);
        buf_printf(out,
                   w->version == OPENAPI_V2 ? "\"type\":\"%s\"}" : "\"schema\":{\"type\":\"%s\"}}",
                   type);
        if (i + 1 == OPENAPI_WRITE_PARAMETERS)
            buf_putc(out, ']');
    }
    buf_putc(out, '}');
}

static void put_paths(struct writer *w, const struct kind *k) {
    static const char *const changes[] = {"put", "patch", "delete"};
    struct buf *out = w->out;
    AUTO_BUF base = BUF_INIT;
    openapi_put_path(&base, k);
    buf_printf(out, "\"%s\":{", base.data);
    if (openapi_reads(k))
        put_operation(w, k, "get", "list", false);
    if (openapi_reads(k) && openapi_creates(k))
        buf_putc(out, ',');
    if (openapi_creates(k))
        put_operation(w, k, "post", "post", true);
    buf_putc(out, '}');
    if (!openapi_reads(k))
        return;
    buf_printf(out, ",\"%s/{name}\":{", base.data);
    put_operation(w, k, "get", "get", false);
    for (size_t i = 0; i < ARRAY_LEN(changes) && openapi_changes(k); i++) {
        buf_putc(out, ',');
        put_operation(w, k, changes[i], changes[i], strcmp(changes[i], "delete") != 0);
    }
    buf_putc(out, '}');
}

/* Writes a document of the kinds of one group version, or (NULL) of all. */
static void put_document(struct buf *out, const struct openapi_kinds *kinds,
                         const char *api_version, enum openapi_version version) {
    struct writer w = {.out = out, .version = version};
    buf_printf(out, "{\"%s,\"info\":{\"title\":\"inferd\",\"version\":\"%s\"},\"paths\":{",
               version == OPENAPI_V2 ? "swagger\":\"2.0\"" : "openapi\":\"3.0.0\"", INFERD_VERSION);
    for (size_t i = 0; i < kinds->num; i++) {
        const struct kind *k = kinds->all[i];
        if (api_version && strcmp(k->api_version, api_version) != 0)
            continue;
        if (w.types.num)
            buf_putc(out, ',');
        put_paths(&w, k);
        openapi_types_add(&w.types, k->schema);
    }
    buf_puts(out,
             version == OPENAPI_V2 ? "},\"definitions\":{" : "},\"components\":{\"schemas\":{");
    for (size_t i = 0; i < w.types.num; i++) { /* grows while it is written */
        if (i)
            buf_putc(out, ',');
        put_named(&w, kinds, w.types.all[i]);
    }
    buf_puts(out, version == OPENAPI_V2 ? "}}" : "}}}");
    openapi_types_deinit(&w.types);
}

void openapi_put_v3(struct buf *out, const struct openapi_kinds *kinds, const char *api_version) {
    put_document(out, kinds, api_version, OPENAPI_V3);
}

void openapi_put_v2(struct buf *out, const struct openapi_kinds *kinds) {
    put_document(out, kinds, NULL, OPENAPI_V2);
}
