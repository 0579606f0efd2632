/* OpenAPI documents, one a group version, written as text straight from the schemas.
 *
 * They are made when somebody asks for the first time and kept until the table of kinds changes:
 * their names carry a hash, so clients may cache them for ever. Documents with users' kinds can
 * have megabytes and are read once per client, so of them only the hash is kept. What kubectl reads
 * in them: whether PATCH of a kind knows `fieldValidation` (then the server validates), and the
 * schemas, for `explain`. Version 2 is the empty document: kubectl up to 1.28 insists on it before
 * any create or apply, and zero bytes are a valid protobuf document. */
#include "kube-compat/openapi.h"

#include <pthread.h>
#include <stdio.h>

#include "kube-compat/schema_rules.h"

enum { SCHEMAS_MAX = 2048 };

struct document {
    char *name; /* "api/v1", "apis/apps/v1" */
    char *text; /* NULL: made anew for each request */
    size_t len;
    char hash[20];
};

/* The documents of one table of kinds. Immutable once made; shared by reference. */
struct documents {
    _Atomic uint32_t refs;
    struct kinds *kinds; /* a reference */
    struct document *all;
    size_t num;
};

struct openapi {
    pthread_mutex_t lock; /* over the pointer */
    struct documents *current;
};

struct writer {
    struct buf *out;
    const struct schema *named[SCHEMAS_MAX]; /* to be written, in order of discovery */
    size_t num_named;
};

static void documents_unref(struct documents *d) {
    if (!d || --d->refs)
        return;
    for (size_t i = 0; i < d->num; i++) {
        free(d->all[i].name);
        free(d->all[i].text);
    }
    free(d->all);
    kinds_unref(d->kinds);
    free(d);
}

struct openapi *openapi_create(void) {
    struct openapi *o = mem_alloc(sizeof(*o));
    pthread_mutex_init(&o->lock, NULL);
    return o;
}

void openapi_destroy(struct openapi *o) {
    if (!o)
        return;
    documents_unref(o->current);
    pthread_mutex_destroy(&o->lock);
    free(o);
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
    size_t i = 0;
    while (i < w->num_named && w->named[i] != s)
        i++;
    if (i == w->num_named && w->num_named < SCHEMAS_MAX)
        w->named[w->num_named++] = s;
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

/* What only users' schemas say, behind what all schemas say. */
static void put_rules(struct writer *w, const struct schema *s) {
    struct buf *out = w->out;
    if (s->nullable)
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
    put_list(w, "oneOf", &rules->one_of);
    put_list(w, "anyOf", &rules->any_of);
    put_list(w, "allOf", &rules->all_of);
    if (rules->never) {
        buf_puts(out, ",\"not\":");
        put_schema(w, rules->never, NULL);
    }
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

static void put_schema(struct writer *w, const struct schema *s, const char *description) {
    struct buf *out = w->out;
    if (s->name) {
        reference(w, s, description);
        return;
    }
    if (s->format == SCHEMA_INT_OR_STRING || s->format == SCHEMA_QUANTITY) {
        buf_printf(out, "{%s\"oneOf\":[{\"type\":\"string\"},{\"type\":\"%s\"}]",
                   s->format == SCHEMA_QUANTITY ? "" : "\"format\":\"int-or-string\",",
                   s->format == SCHEMA_QUANTITY ? "number" : "integer");
    } else if (s->type == SCHEMA_ANY && (s->rules || s->num_properties || s->preserve)) {
        buf_puts(out, "{\"description\":\"\""); /* a judging schema has no type */
    } else if (s->type == SCHEMA_ANY) {
        buf_puts(out, "{\"type\":\"object\",\"x-kubernetes-preserve-unknown-fields\":true");
    } else {
        static const char *const formats[] = {
            [SCHEMA_INT32] = "int32",    [SCHEMA_INT64] = "int64",          [SCHEMA_BYTES] = "byte",
            [SCHEMA_TIME] = "date-time", [SCHEMA_MICRO_TIME] = "date-time", [SCHEMA_EXTRA] = NULL,
        };
        buf_printf(out, "{\"type\":\"%s\"", schema_type_name(s));
        if (formats[s->format])
            buf_printf(out, ",\"format\":\"%s\"", formats[s->format]);
    }
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
    if (s->num_properties) { /* of a user's schema: a named type is a reference */
        put_required(out, s);
        for (uint32_t i = 0; i < s->num_properties; i++) {
            buf_puts(out, i ? "," : ",\"properties\":{");
            put_string(out, s->properties[i].name);
            buf_putc(out, ':');
            put_schema(w, s->properties[i].schema, s->properties[i].description);
        }
        buf_putc(out, '}');
    } else if (s->rules) {
        put_required(out, s);
    }
    put_rules(w, s);
    if (s->has_min)
        buf_printf(out, ",\"minimum\":%lld", (long long)s->min);
    if (s->has_max)
        buf_printf(out, ",\"maximum\":%lld", (long long)s->max);
    put_merge(out, s);
    put_description(out, description);
    buf_putc(out, '}');
}

static const struct kind *kind_of(const struct kinds *kinds, const struct schema *s) {
    for (size_t i = 0; i < kinds_count(kinds); i++) {
        if (kinds_at(kinds, i)->schema == s)
            return kinds_at(kinds, i);
    }
    return NULL;
}

static void put_gvk(struct buf *out, const struct kind *k) {
    buf_printf(out, "{\"group\":\"%s\",\"version\":\"%s\",\"kind\":\"%s\"}", k->group, k->version,
               k->kind);
}

static void put_named(struct writer *w, const struct kinds *kinds, const struct schema *s) {
    struct buf *out = w->out;
    const struct kind *k = kind_of(kinds, s);
    buf_printf(out, "\"%s\":{\"type\":\"object\"", s->name);
    put_description(out, s->description);
    put_required(out, s);
    buf_puts(out, ",\"properties\":{");
    if (k)
        buf_puts(out, "\"apiVersion\":{\"type\":\"string\",\"description\":\"The versioned schema "
                      "of this object.\"},\"kind\":{\"type\":\"string\",\"description\":\"The kind "
                      "of this object.\"}");
    for (uint32_t i = 0; i < s->num_properties; i++) {
        const struct schema_property *p = &s->properties[i];
        buf_puts(out, i || k ? "," : "");
        put_string(out, p->name);
        buf_putc(out, ':');
        put_schema(w, p->schema, p->description);
    }
    buf_putc(out, '}');
    put_rules(w, s);
    if (k) {
        buf_puts(out, ",\"x-kubernetes-group-version-kind\":[");
        put_gvk(out, k);
        buf_putc(out, ']');
    }
    buf_putc(out, '}');
}

static void put_operation(struct buf *out, const struct kind *k, const char *verb,
                          const char *action, bool writes) {
    buf_printf(out,
               "\"%s\":{\"x-kubernetes-action\":\"%s\",\"responses\":{\"200\":{"
               "\"description\":\"OK\"}},\"x-kubernetes-group-version-kind\":",
               verb, action);
    put_gvk(out, k);
    if (writes) {
        static const char *const parameters[] = {"dryRun", "fieldManager", "fieldValidation",
                                                 "force"};
        buf_puts(out, ",\"parameters\":[");
        for (size_t i = 0; i < ARRAY_LEN(parameters); i++)
            buf_printf(out, "%s{\"name\":\"%s\",\"in\":\"query\",\"schema\":{\"type\":\"%s\"}}",
                       i ? "," : "", parameters[i], i == 3 ? "boolean" : "string");
        buf_putc(out, ']');
    }
    buf_putc(out, '}');
}

static void put_paths(struct buf *out, const struct kind *k, bool first) {
    char base[512];
    snprintf(base, sizeof(base), "/%s/%s/%s%s", *k->group ? "apis" : "api", k->api_version,
             k->namespaced ? "namespaces/{namespace}/" : "", k->plural);
    buf_printf(out, "%s\"%s\":{", first ? "" : ",", base);
    put_operation(out, k, "get", "list", false);
    buf_putc(out, ',');
    put_operation(out, k, "post", "post", true);
    buf_printf(out, "},\"%s/{name}\":{", base);
    put_operation(out, k, "get", "get", false);
    buf_putc(out, ',');
    put_operation(out, k, "put", "put", true);
    buf_putc(out, ',');
    put_operation(out, k, "patch", "patch", true);
    buf_putc(out, ',');
    put_operation(out, k, "delete", "delete", false);
    buf_putc(out, '}');
}

/* Writes the document of of's group version. */
static void put_document(struct buf *out, const struct kinds *kinds, const char *api_version) {
    AUTO_FREE struct writer *w = mem_alloc(sizeof(*w));
    w->out = out;
    buf_printf(out,
               "{\"openapi\":\"3.0.0\",\"info\":{\"title\":\"inferd\",\"version\":\"%s\"},"
               "\"paths\":{",
               INFERD_VERSION);
    for (size_t i = 0; i < kinds_count(kinds); i++) {
        const struct kind *k = kinds_at(kinds, i);
        if (strcmp(k->api_version, api_version) != 0 || w->num_named == SCHEMAS_MAX)
            continue;
        put_paths(out, k, w->num_named == 0);
        w->named[w->num_named++] = k->schema;
    }
    buf_puts(out, "},\"components\":{\"schemas\":{");
    for (size_t i = 0; i < w->num_named; i++) { /* grows while it is written */
        if (i)
            buf_putc(out, ',');
        put_named(w, kinds, w->named[i]);
    }
    buf_puts(out, "}}}");
}

static void add_document(struct documents *d, const struct kind *of) {
    struct document *doc = &d->all[d->num++];
    doc->name = mem_printf("%s/%s", *of->group ? "apis" : "api", of->api_version);
    struct buf out = BUF_INIT;
    put_document(&out, d->kinds, of->api_version);
    uint64_t hash = 14695981039346656037u;
    for (const char *p = out.data; *p; p++)
        hash = (hash ^ (unsigned char)*p) * 1099511628211u;
    snprintf(doc->hash, sizeof(doc->hash), "%016llX", (unsigned long long)hash);
    bool users = false;
    for (size_t i = 0; i < kinds_count(d->kinds); i++) {
        const struct kind *k = kinds_at(d->kinds, i);
        users = users || (k->crd && !strcmp(k->api_version, of->api_version));
    }
    if (!users) {
        doc->len = out.len;
        doc->text = buf_steal(&out);
    }
    buf_deinit(&out);
}

static const struct document *find_document(const struct documents *d, const char *name) {
    for (size_t i = 0; i < d->num; i++) {
        if (!strcmp(d->all[i].name, name))
            return &d->all[i];
    }
    return NULL;
}

static struct documents *make_documents(struct kinds *kinds) {
    struct documents *d = mem_alloc(sizeof(*d));
    d->refs = 1;
    d->kinds = kinds_ref(kinds);
    d->all = mem_array(kinds_count(kinds), sizeof(d->all[0]));
    for (size_t i = 0; i < kinds_count(kinds); i++) {
        const struct kind *k = kinds_at(kinds, i);
        char name[512];
        snprintf(name, sizeof(name), "%s/%s", *k->group ? "apis" : "api", k->api_version);
        if (!find_document(d, name))
            add_document(d, k);
    }
    return d;
}

/* Gives a reference to the documents of a table; two threads that come first both make them. */
static struct documents *documents_of(struct openapi *o, struct kinds *kinds) {
    pthread_mutex_lock(&o->lock);
    struct documents *d = o->current;
    if (d && d->kinds == kinds)
        d->refs++;
    else
        d = NULL;
    pthread_mutex_unlock(&o->lock);
    if (d)
        return d;
    d = make_documents(kinds);
    d->refs++;
    pthread_mutex_lock(&o->lock);
    struct documents *was = o->current;
    o->current = d;
    pthread_mutex_unlock(&o->lock);
    documents_unref(was);
    return d;
}

static void reply_index(struct request *rq, const struct documents *d) {
    json_t *paths = json_object();
    for (size_t i = 0; i < d->num; i++)
        json_object_set_new(
            paths, d->all[i].name,
            json_pack("{s:o}", "serverRelativeURL",
                      json_sprintf("/openapi/v3/%s?hash=%s", d->all[i].name, d->all[i].hash)));
    json_t *index = json_pack("{s:o}", "paths", paths);
    http_reply_json(rq->x, 200, index);
    json_decref(index);
}

static void reply_document(struct request *rq, const struct document *d) {
    const char *hash = http_query(rq->x, "hash");
    if (hash && *hash && strcmp(hash, d->hash) != 0) {
        char location[512];
        snprintf(location, sizeof(location), "/openapi/v3/%s?hash=%s", d->name, d->hash);
        http_set_header(rq->x, "Location", location);
        http_reply(rq->x, 301, "text/plain", "", 0);
        return;
    }
    char tag[24];
    snprintf(tag, sizeof(tag), "\"%s\"", d->hash);
    http_set_header(rq->x, "ETag", tag);
    http_set_header(rq->x, "Vary", "Accept");
    http_set_header(rq->x, "Cache-Control", hash && *hash ? "public, immutable" : "no-cache");
    const char *have = http_header(rq->x, "If-None-Match");
    if (have && !strcmp(have, tag)) {
        http_reply(rq->x, 304, "application/json", "", 0);
    } else if (d->text) {
        http_reply(rq->x, 200, "application/json", d->text, d->len);
    } else {
        AUTO_BUF text = BUF_INIT;
        put_document(&text, rq->kinds, strchr(d->name, '/') + 1);
        http_reply(rq->x, 200, "application/json", text.data, text.len);
    }
}

static void reply_v2(struct request *rq) {
    enum accept_form form =
        accept_choose(http_header(rq->x, "Accept"), ACCEPT_JSON | ACCEPT_OPENAPI_PROTOBUF);
    if (form == ACCEPT_OPENAPI_PROTOBUF) {
        http_reply(rq->x, 200, "application/com.github.proto-openapi.spec.v2.v1.0+protobuf", "", 0);
        return;
    }
    static const char empty[] = "{\"swagger\":\"2.0\",\"info\":{\"title\":\"inferd\",\"version\":"
                                "\"" INFERD_VERSION "\"},\"paths\":{},\"definitions\":{}}";
    http_reply(rq->x, 200, "application/json", empty, sizeof(empty) - 1);
}

bool openapi_handle(struct request *rq, const char *path) {
    if (!strcmp(path, "/openapi/v2")) {
        reply_v2(rq);
        return true;
    }
    if (strncmp(path, "/openapi/v3", 11) != 0 || (path[11] && path[11] != '/'))
        return false;
    struct documents *all = documents_of(rq->kube->openapi, rq->kinds);
    bool index = !path[11] || !path[12];
    const struct document *d = index ? NULL : find_document(all, path + 12);
    if (index)
        reply_index(rq, all);
    else if (d)
        reply_document(rq, d);
    documents_unref(all);
    return index || d;
}
