/* The version 2 document as the protobuf message that kubectl before 1.29 and Argo CD ask for:
 * openapi.v2.Document of the gnostic project. Field numbers are in the enums below.
 *
 * A message is written behind one byte of room for its length; when it ends and is longer than 127
 * bytes, it moves up to make room for more. Nearly all messages are short, so nothing has to be
 * measured beforehand and no tree is built. Vendor extensions (x-kubernetes-...) travel as YAML
 * text inside an Any, that is: as JSON. */
#include "kube-compat/openapi_write.h"

#include "kube-compat/schema_rules.h"

enum { WIRE_VARINT, WIRE_EIGHT_BYTES, WIRE_BYTES };

enum document_field { DOCUMENT_SWAGGER = 1, DOCUMENT_INFO, DOCUMENT_PATHS = 8, DOCUMENT_TYPES };
enum { PATHS_PATH = 2, TYPES_TYPE = 1, PROPERTIES_PROPERTY = 1 };
enum named_field { NAMED_NAME = 1, NAMED_VALUE };
enum any_field { ANY_YAML = 2 };
enum path_item_field { PATH_GET = 2, PATH_PUT, PATH_POST, PATH_DELETE, PATH_PATCH = 8 };
enum operation_field { OPERATION_PARAMETERS = 8, OPERATION_RESPONSES, OPERATION_EXTENSION = 13 };
enum schema_field {
    SCHEMA_FIELD_REF = 1,
    SCHEMA_FIELD_FORMAT,
    SCHEMA_FIELD_DESCRIPTION = 4,
    SCHEMA_FIELD_DEFAULT,
    SCHEMA_FIELD_MAXIMUM = 7,
    SCHEMA_FIELD_EXCLUSIVE_MAXIMUM,
    SCHEMA_FIELD_MINIMUM,
    SCHEMA_FIELD_EXCLUSIVE_MINIMUM,
    SCHEMA_FIELD_PATTERN = 13,
    SCHEMA_FIELD_REQUIRED = 19,
    SCHEMA_FIELD_ENUM,
    SCHEMA_FIELD_ADDITIONAL,
    SCHEMA_FIELD_TYPE,
    SCHEMA_FIELD_ITEMS,
    SCHEMA_FIELD_PROPERTIES = 25,
    SCHEMA_FIELD_EXTENSION = 31,
};

struct proto_writer {
    struct buf *out;
    struct openapi_types types;
    const struct openapi_kinds *kinds;
};

static void put_varint(struct buf *out, uint64_t value) {
    for (; value >= 0x80; value >>= 7)
        buf_putc(out, (char)(value | 0x80));
    buf_putc(out, (char)value);
}

/* Gives the place of the message's length, for end(). */
static size_t begin(struct buf *out, int field) {
    put_varint(out, (uint64_t)field << 3 | WIRE_BYTES);
    buf_putc(out, 0);
    return out->len;
}

static void end(struct buf *out, size_t start) {
    size_t len = out->len - start;
    int num_bytes = 1;
    while (len >> 7 * num_bytes)
        num_bytes++;
    for (int i = 1; i < num_bytes; i++)
        buf_putc(out, 0);
    memmove(out->data + start + num_bytes - 1, out->data + start, len);
    for (int i = 0; i < num_bytes; i++)
        out->data[start - 1 + (size_t)i] =
            (char)((len >> 7 * i & 0x7F) | (i + 1 < num_bytes ? 0x80 : 0));
}

static void put_text(struct buf *out, int field, const char *text) {
    size_t len = strlen(text);
    put_varint(out, (uint64_t)field << 3 | WIRE_BYTES);
    put_varint(out, len);
    buf_append(out, text, len);
}

static void put_double(struct buf *out, int field, double value) {
    put_varint(out, (uint64_t)field << 3 | WIRE_EIGHT_BYTES);
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    for (int i = 0; i < 8; i++)
        buf_putc(out, (char)(bits >> 8 * i));
}

static void put_true(struct buf *out, int field) {
    put_varint(out, (uint64_t)field << 3 | WIRE_VARINT);
    buf_putc(out, 1);
}

/* An Any that holds JSON text. */
static void put_json(struct buf *out, int field, const char *json) {
    size_t any = begin(out, field);
    size_t yaml = begin(out, ANY_YAML);
    buf_puts(out, json);
    buf_putc(out, '\n');
    end(out, yaml);
    end(out, any);
}

/* A string as an Any. */
static void put_json_string(struct buf *out, int field, const char *text) {
    json_t *s = json_string(text);
    AUTO_FREE char *quoted = json_dumps(s, JSON_ENCODE_ANY);
    put_json(out, field, quoted);
    json_decref(s);
}

/* A NamedAny among the extensions. */
static void put_extension(struct buf *out, int field, const char *name, const char *json) {
    size_t named = begin(out, field);
    put_text(out, NAMED_NAME, name);
    put_json(out, NAMED_VALUE, json);
    end(out, named);
}

static void put_schema(struct proto_writer *w, const struct schema *s, const char *description);

static void put_type(struct buf *out, const char *type) {
    size_t item = begin(out, SCHEMA_FIELD_TYPE);
    put_text(out, 1, type);
    end(out, item);
}

static void put_bounds(struct buf *out, const struct schema *s) {
    const struct schema_rules *r = s->rules;
    if (s->has_max)
        put_double(out, SCHEMA_FIELD_MAXIMUM, (double)s->max);
    else if (r && r->has_maximum)
        put_double(out, SCHEMA_FIELD_MAXIMUM, r->maximum);
    if (r && r->has_maximum && r->exclusive_maximum)
        put_true(out, SCHEMA_FIELD_EXCLUSIVE_MAXIMUM);
    if (s->has_min)
        put_double(out, SCHEMA_FIELD_MINIMUM, (double)s->min);
    else if (r && r->has_minimum)
        put_double(out, SCHEMA_FIELD_MINIMUM, r->minimum);
    if (r && r->has_minimum && r->exclusive_minimum)
        put_true(out, SCHEMA_FIELD_EXCLUSIVE_MINIMUM);
    if (r && r->pattern)
        put_text(out, SCHEMA_FIELD_PATTERN, r->pattern);
}

static void put_required(struct buf *out, const struct schema *s) {
    for (uint32_t i = 0; i < s->num_properties; i++) {
        if (s->properties[i].required)
            put_text(out, SCHEMA_FIELD_REQUIRED, s->properties[i].name);
    }
    for (const char **name = s->rules ? s->rules->required : NULL; name && *name; name++)
        put_text(out, SCHEMA_FIELD_REQUIRED, *name);
}

static void put_property(struct proto_writer *w, const char *name, const struct schema *s,
                         const char *description) {
    size_t named = begin(w->out, PROPERTIES_PROPERTY);
    put_text(w->out, NAMED_NAME, name);
    size_t value = begin(w->out, NAMED_VALUE);
    put_schema(w, s, description);
    end(w->out, value);
    end(w->out, named);
}

/* The properties of s; those of a kind get apiVersion and kind. */
static void put_properties(struct proto_writer *w, const struct schema *s, bool is_kind) {
    static const struct schema text = {.type = SCHEMA_STRING};
    if (!s->num_properties && !is_kind)
        return;
    size_t all = begin(w->out, SCHEMA_FIELD_PROPERTIES);
    if (is_kind) {
        put_property(w, "apiVersion", &text, openapi_api_version_text);
        put_property(w, "kind", &text, openapi_kind_text);
    }
    for (uint32_t i = 0; i < s->num_properties; i++)
        put_property(w, s->properties[i].name, s->properties[i].schema,
                     s->properties[i].description);
    end(w->out, all);
}

static void put_inside(struct proto_writer *w, const struct schema *s) {
    struct buf *out = w->out;
    if (!s->items)
        return;
    bool list = s->type == SCHEMA_ARRAY;
    size_t item = begin(out, list ? SCHEMA_FIELD_ITEMS : SCHEMA_FIELD_ADDITIONAL);
    size_t inner = begin(out, 1);
    put_schema(w, s->items, NULL);
    end(out, inner);
    end(out, item);
}

static void put_merge(struct buf *out, const struct schema *s) {
    if (s->merge_key) {
        AUTO_FREE char *key = mem_printf("\"%s\"", s->merge_key);
        put_extension(out, SCHEMA_FIELD_EXTENSION, "x-kubernetes-patch-merge-key", key);
    }
    if (s->atomic && s->type == SCHEMA_OBJECT)
        put_extension(out, SCHEMA_FIELD_EXTENSION, "x-kubernetes-map-type", "\"atomic\"");
    bool merges = s->merge_key || s->merge_set;
    if (merges || s->retain_keys)
        put_extension(out, SCHEMA_FIELD_EXTENSION, "x-kubernetes-patch-strategy",
                      !merges          ? "\"retainKeys\""
                      : s->retain_keys ? "\"merge,retainKeys\""
                                       : "\"merge\"");
}

/* The fields of the Schema message; the caller has opened it. */
static void put_schema(struct proto_writer *w, const struct schema *s, const char *description) {
    struct buf *out = w->out;
    if (s->name) {
        openapi_types_add(&w->types, s);
        AUTO_FREE char *ref = mem_printf("#/definitions/%s", s->name);
        put_text(out, SCHEMA_FIELD_REF, ref);
        if (description)
            put_text(out, SCHEMA_FIELD_DESCRIPTION, description);
        return;
    }
    if (description)
        put_text(out, SCHEMA_FIELD_DESCRIPTION, description);
    if (openapi_v2_is_open(s)) {
        if (!s->nullable)
            put_extension(out, SCHEMA_FIELD_EXTENSION, "x-kubernetes-preserve-unknown-fields",
                          "true");
        return;
    }
    const char *format = openapi_format(s);
    if (format)
        put_text(out, SCHEMA_FIELD_FORMAT, format);
    if (s->fallback)
        put_json(out, SCHEMA_FIELD_DEFAULT, s->fallback);
    put_bounds(out, s);
    put_required(out, s);
    for (uint32_t i = 0; i < s->num_values; i++)
        put_json_string(out, SCHEMA_FIELD_ENUM, s->values[i]);
    put_inside(w, s);
    put_type(out, schema_type_name(s));
    put_properties(w, s, false);
    put_merge(out, s);
}

static void put_gvk(struct buf *json, const struct kind *k) {
    buf_printf(json, "{\"group\":\"%s\",\"version\":\"%s\",\"kind\":\"%s\"}", k->group, k->version,
               k->kind);
}

static void put_named(struct proto_writer *w, const struct schema *s) {
    static const char extension[] = "x-kubernetes-group-version-kind";
    struct buf *out = w->out;
    AUTO_BUF kinds = BUF_INIT;
    size_t index = 0;
    for (const struct kind *k; (k = openapi_next_kind(w->kinds, s, &index));) {
        buf_putc(&kinds, kinds.len ? ',' : '[');
        put_gvk(&kinds, k);
    }
    size_t named = begin(out, TYPES_TYPE);
    put_text(out, NAMED_NAME, s->name);
    size_t value = begin(out, NAMED_VALUE);
    if (s->description)
        put_text(out, SCHEMA_FIELD_DESCRIPTION, s->description);
    put_required(out, s);
    put_type(out, "object");
    put_properties(w, s, kinds.len > 0);
    if (s->preserve)
        put_extension(out, SCHEMA_FIELD_EXTENSION, "x-kubernetes-preserve-unknown-fields", "true");
    if (s->atomic)
        put_extension(out, SCHEMA_FIELD_EXTENSION, "x-kubernetes-map-type", "\"atomic\"");
    if (kinds.len) {
        buf_putc(&kinds, ']');
        put_extension(out, SCHEMA_FIELD_EXTENSION, extension, kinds.data);
    }
    end(out, value);
    end(out, named);
}

/* ParametersItem > Parameter > NonBodyParameter > QueryParameterSubSchema */
static void put_parameter(struct buf *out, const char *name, const char *type) {
    enum { QUERY_IN = 2, QUERY_NAME = 4, QUERY_TYPE = 6 };
    size_t item = begin(out, OPERATION_PARAMETERS);
    size_t parameter = begin(out, 1);
    size_t without_body = begin(out, 2);
    size_t query = begin(out, 3);
    put_text(out, QUERY_IN, "query");
    put_text(out, QUERY_NAME, name);
    put_text(out, QUERY_TYPE, type);
    end(out, query);
    end(out, without_body);
    end(out, parameter);
    end(out, item);
}

static void put_operation(struct buf *out, int verb, const char *action, const struct kind *k,
                          bool writes) {
    size_t operation = begin(out, verb);
    for (size_t i = 0; writes && i < OPENAPI_WRITE_PARAMETERS; i++)
        put_parameter(out, openapi_write_parameters[i], i == OPENAPI_FORCE ? "boolean" : "string");
    size_t responses = begin(out, OPERATION_RESPONSES);
    size_t named = begin(out, 1);
    put_text(out, NAMED_NAME, "200");
    size_t value = begin(out, NAMED_VALUE);
    size_t response = begin(out, 1);
    put_text(out, 1, "OK");
    end(out, response);
    end(out, value);
    end(out, named);
    end(out, responses);
    AUTO_BUF json = BUF_INIT;
    buf_printf(&json, "\"%s\"", action);
    put_extension(out, OPERATION_EXTENSION, "x-kubernetes-action", json.data);
    buf_clear(&json);
    put_gvk(&json, k);
    put_extension(out, OPERATION_EXTENSION, "x-kubernetes-group-version-kind", json.data);
    end(out, operation);
}

static void put_paths(struct buf *out, const struct kind *k) {
    AUTO_BUF path = BUF_INIT;
    openapi_put_path(&path, k);
    size_t named = begin(out, PATHS_PATH);
    put_text(out, NAMED_NAME, path.data);
    size_t value = begin(out, NAMED_VALUE);
    if (openapi_reads(k))
        put_operation(out, PATH_GET, "list", k, false);
    if (openapi_creates(k))
        put_operation(out, PATH_POST, "post", k, true);
    end(out, value);
    end(out, named);
    if (!openapi_reads(k))
        return;
    buf_puts(&path, "/{name}");
    named = begin(out, PATHS_PATH);
    put_text(out, NAMED_NAME, path.data);
    value = begin(out, NAMED_VALUE);
    put_operation(out, PATH_GET, "get", k, false);
    if (openapi_changes(k)) {
        put_operation(out, PATH_PUT, "put", k, true);
        put_operation(out, PATH_DELETE, "delete", k, false);
        put_operation(out, PATH_PATCH, "patch", k, true);
    }
    end(out, value);
    end(out, named);
}

void openapi_put_v2_proto(struct buf *out, const struct openapi_kinds *kinds) {
    struct proto_writer w = {.out = out, .kinds = kinds};
    put_text(out, DOCUMENT_SWAGGER, "2.0");
    size_t part = begin(out, DOCUMENT_INFO);
    put_text(out, 1, "inferd");
    put_text(out, 2, INFERD_VERSION);
    end(out, part);
    part = begin(out, DOCUMENT_PATHS);
    for (size_t i = 0; i < kinds->num; i++) {
        put_paths(out, kinds->all[i]);
        openapi_types_add(&w.types, kinds->all[i]->schema);
    }
    end(out, part);
    part = begin(out, DOCUMENT_TYPES);
    for (size_t i = 0; i < w.types.num; i++) /* grows while it is written */
        put_named(&w, w.types.all[i]);
    end(out, part);
    openapi_types_deinit(&w.types);
}
