/* Protobuf, as far as Kubernetes sends it.
 *
 *   body      = 6B 38 73 00, then Unknown{1: TypeMeta{1: apiVersion, 2: kind}, 2: raw bytes}
 *   message   = (tag varint, value)*, tag = number << 3 | wire type
 *   wire type = 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes
 *
 * The schema's properties carry the field numbers, so one walk decodes every kind. Senders always
 * write fields whose source type is no pointer, zero or not, and pointer fields only when set. So a
 * zero means "not set" and is dropped, except where the field is a pointer; items of a list are
 * values whatever they are (the empty string names the core group in RBAC rules). Unknown numbers
 * are skipped: a newer client may know fields that we do not. */
#include "kube-compat/protobuf.h"

#include <stdio.h>

#include "core/base/base64.h"
#include "core/base/clock.h"

struct bytes {
    const uint8_t *at, *end;
};

struct field {
    uint32_t number;
    uint32_t wire;
    uint64_t value;     /* varint or fixed */
    struct bytes bytes; /* length-delimited */
};

struct decoder {
    size_t num_values;
    int depth;
    struct error *err;
};

static bool varint(struct bytes *b, uint64_t *ret) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (b->at == b->end)
            return false;
        uint8_t byte = *b->at++;
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (!(byte & 0x80)) {
            *ret = value;
            return true;
        }
    }
    return false;
}

static bool fixed(struct bytes *b, size_t size, uint64_t *ret) {
    if ((size_t)(b->end - b->at) < size)
        return false;
    *ret = 0;
    for (size_t i = 0; i < size; i++)
        *ret |= (uint64_t)b->at[i] << (8 * i);
    b->at += size;
    return true;
}

/* Reads one field. False: the bytes are broken. */
static bool next_field(struct bytes *b, struct field *f) {
    uint64_t tag;
    if (!varint(b, &tag) || tag >> 3 == 0 || tag >> 3 > UINT32_MAX)
        return false;
    f->number = (uint32_t)(tag >> 3);
    f->wire = tag & 7;
    switch (f->wire) {
    case 0:
        return varint(b, &f->value);
    case 1:
        return fixed(b, 8, &f->value);
    case 5:
        return fixed(b, 4, &f->value);
    case 2: {
        uint64_t len;
        if (!varint(b, &len) || len > (uint64_t)(b->end - b->at))
            return false;
        f->bytes = (struct bytes){b->at, b->at + len};
        b->at += len;
        return true;
    }
    default:
        return false;
    }
}

static enum errc broken(struct error *err, const char *where) {
    return err_set(err, ERR_MALFORMED,
                   "provided data does not appear to be a protobuf message: cannot read %s", where);
}

enum errc protobuf_open(const void *body, size_t len, struct arena *arena,
                        struct protobuf_envelope *ret_envelope, struct error *err) {
    static const uint8_t magic[4] = {'k', '8', 's', 0};
    if (len < sizeof(magic) || memcmp(body, magic, sizeof(magic)) != 0)
        return broken(err, "the magic number");
    struct bytes b = {(const uint8_t *)body + sizeof(magic), (const uint8_t *)body + len};
    *ret_envelope = (struct protobuf_envelope){.api_version = "", .kind = "", .raw = ""};
    struct field f;
    while (b.at < b.end) {
        if (!next_field(&b, &f))
            return broken(err, "the envelope");
        if (f.number == 2 && f.wire == 2) {
            ret_envelope->raw = f.bytes.at;
            ret_envelope->raw_len = (size_t)(f.bytes.end - f.bytes.at);
        }
        if (f.number != 1 || f.wire != 2)
            continue;
        struct bytes meta = f.bytes;
        while (meta.at < meta.end) {
            if (!next_field(&meta, &f))
                return broken(err, "the type");
            if (f.wire != 2 || f.number > 2)
                continue;
            const char *text =
                arena_strndup(arena, (const char *)f.bytes.at, (size_t)(f.bytes.end - f.bytes.at));
            if (f.number == 1)
                ret_envelope->api_version = text;
            else
                ret_envelope->kind = text;
        }
    }
    return OK;
}

static json_t *base64(struct bytes b) {
    AUTO_BUF out = BUF_INIT;
    base64_append(&out, b.at, (size_t)(b.end - b.at));
    return json_stringn(out.data ? out.data : "", out.len);
}

/* A string; NULL when it is not UTF-8, or holds a NUL: the JSON of other clients cannot, and what
 * compares C strings would see only its beginning. */
static json_t *text_of(struct bytes b) {
    size_t len = (size_t)(b.end - b.at);
    return memchr(b.at, '\0', len) ? NULL : json_stringn((const char *)b.at, len);
}

/* Time{1 seconds, 2 nanos} to RFC 3339; null when it is not set. */
static json_t *time_of(struct bytes b, bool micro) {
    int64_t seconds = 0, nanos = 0;
    struct field f;
    while (b.at < b.end && next_field(&b, &f)) {
        if (f.wire == 0 && f.number == 1)
            seconds = (int64_t)f.value;
        else if (f.wire == 0 && f.number == 2)
            nanos = (int64_t)f.value;
    }
    if (!seconds || seconds < -62135596800 || seconds > 253402300799)
        return json_null();
    char text[CLOCK_RFC3339_BYTES];
    clock_rfc3339(seconds * 1000, text);
    if (!micro)
        return json_string(text);
    return json_sprintf("%.19s.%06dZ", text, (int)(nanos / 1000 % 1000000));
}

/* Quantity{1 string}. */
static json_t *quantity_of(struct bytes b) {
    struct field f;
    while (b.at < b.end && next_field(&b, &f)) {
        if (f.number == 1 && f.wire == 2)
            return text_of(f.bytes);
    }
    return json_string("0");
}

/* IntOrString{1 type, 2 intVal, 3 strVal}. */
static json_t *int_or_string_of(struct bytes b, bool keep_zero) {
    int64_t type = 0, number = 0;
    struct bytes text = {b.at, b.at};
    struct field f;
    while (b.at < b.end && next_field(&b, &f)) {
        if (f.number == 1 && f.wire == 0)
            type = (int64_t)f.value;
        else if (f.number == 2 && f.wire == 0)
            number = (int64_t)f.value;
        else if (f.number == 3 && f.wire == 2)
            text = f.bytes;
    }
    if (type)
        return text_of(text);
    return number || keep_zero ? json_integer((int32_t)number) : json_null();
}

/* ExtraValue{1 items*}; NULL as text_of(). */
static json_t *extra_of(struct bytes b) {
    json_t *list = json_array();
    bool bad = false;
    struct field f;
    while (b.at < b.end && next_field(&b, &f)) {
        if (f.number == 1 && f.wire == 2)
            bad = json_array_append_new(list, text_of(f.bytes)) || bad;
    }
    if (bad) {
        json_decref(list);
        return NULL;
    }
    return list;
}

/* FieldsV1{1 Raw}, JSON{1 raw}: JSON text. */
static json_t *raw_json_of(struct bytes b) {
    struct field f;
    while (b.at < b.end && next_field(&b, &f)) {
        if (f.number == 1 && f.wire == 2) {
            json_t *v = json_loadb((const char *)f.bytes.at, (size_t)(f.bytes.end - f.bytes.at),
                                   JSON_DECODE_ANY, NULL);
            return v ? v : json_null();
        }
    }
    return json_null();
}

static enum errc message_into(struct decoder *d, const struct schema *s, struct bytes b, json_t *o);

/* Gives the value of one occurrence; JSON null: nothing to say. keep_zero: it means something. */
static enum errc value_of(struct decoder *d, const struct schema *s, const struct field *f,
                          bool keep_zero, json_t **ret) {
    if (++d->num_values > PROTOBUF_VALUES_MAX)
        return err_set(d->err, ERR_TOO_LARGE, "protobuf body holds too many values");
    *ret = NULL;
    if (s->format == SCHEMA_TIME || s->format == SCHEMA_MICRO_TIME)
        *ret = f->wire == 2 ? time_of(f->bytes, s->format == SCHEMA_MICRO_TIME) : NULL;
    else if (s->format == SCHEMA_QUANTITY)
        *ret = f->wire == 2 ? quantity_of(f->bytes) : NULL;
    else if (s->format == SCHEMA_INT_OR_STRING)
        *ret = f->wire == 2 ? int_or_string_of(f->bytes, keep_zero) : NULL;
    else if (s->format == SCHEMA_EXTRA)
        *ret = f->wire == 2 ? extra_of(f->bytes) : NULL;
    else if (s->type == SCHEMA_ANY)
        *ret = f->wire == 2 ? raw_json_of(f->bytes) : NULL;
    else if (s->type == SCHEMA_BOOLEAN && f->wire == 0)
        *ret = f->value || keep_zero ? json_boolean(f->value) : json_null();
    else if (s->type == SCHEMA_INTEGER && f->wire == 0)
        *ret = f->value || keep_zero
                   ? json_integer(s->format == SCHEMA_INT32 ? (int32_t)f->value : (int64_t)f->value)
                   : json_null();
    else if (s->type == SCHEMA_NUMBER && f->wire == 1) {
        double number;
        memcpy(&number, &f->value, sizeof(number));
        bool whole = number >= -0x1p53 && number <= 0x1p53 && number == (double)(int64_t)number;
        *ret = whole ? json_integer((json_int_t)number) : json_real(number);
    } else if (s->type == SCHEMA_STRING && f->wire == 2) {
        size_t len = (size_t)(f->bytes.end - f->bytes.at);
        if (!len && !keep_zero)
            *ret = json_null();
        else
            *ret = s->format == SCHEMA_BYTES ? base64(f->bytes) : text_of(f->bytes);
    } else if (s->type == SCHEMA_OBJECT && f->wire == 2) {
        *ret = json_object();
        enum errc code = message_into(d, s, f->bytes, *ret);
        if (code) {
            json_decref(*ret);
            return code;
        }
    }
    return *ret ? OK : broken(d->err, "a field: wrong wire type, invalid UTF-8 or a NUL");
}

/* One map entry {1 key, 2 value} into o[name]. */
static enum errc map_entry(struct decoder *d, const struct schema *values, struct bytes b,
                           json_t *map) {
    const char *key = "";
    size_t key_len = 0;
    struct field f, value = {.wire = values->type == SCHEMA_INTEGER ? 0 : 2};
    value.bytes = (struct bytes){b.at, b.at};
    while (b.at < b.end) {
        if (!next_field(&b, &f))
            return broken(d->err, "a map entry");
        if (f.number == 1 && f.wire == 2) {
            key = (const char *)f.bytes.at;
            key_len = (size_t)(f.bytes.end - f.bytes.at);
        } else if (f.number == 2) {
            value = f;
        }
    }
    json_t *v;
    enum errc code = value_of(d, values, &value, true, &v);
    if (code)
        return code;
    if (memchr(key, '\0', key_len)) {
        json_decref(v);
        return broken(d->err, "a map key: it holds a NUL");
    }
    return json_object_setn_new(map, key, key_len, v) ? broken(d->err, "a map key") : OK;
}

static json_t *member(json_t *o, const char *name, json_t *(*make)(void)) {
    json_t *m = json_object_get(o, name);
    if (!m)
        json_object_set_new(o, name, m = make());
    return m;
}

/* JSONSchemaPropsOrBool{1 allows, 2 schema}, JSONSchemaPropsOrArray{1 schema, 2 jSONSchemas*}; `s`
 * is the type of the schemas. */
static enum errc either_into(struct decoder *d, const struct schema *s, bool or_bool,
                             struct bytes b, json_t **ret) {
    json_t *value = or_bool ? json_false() : NULL;
    enum errc code = OK;
    struct field f;
    while (!code && b.at < b.end) {
        if (!next_field(&b, &f)) {
            code = broken(d->err, "a schema or something else");
            break;
        }
        if (or_bool && f.number == 1 && f.wire == 0) {
            if (!json_is_object(value)) /* a schema says more */
                value = json_boolean(f.value);
            continue;
        }
        if (f.wire != 2 || f.number > 2)
            continue;
        json_t *schema = json_object();
        code = message_into(d, s, f.bytes, schema);
        if (!or_bool && f.number == 2) {
            if (!json_is_array(value)) {
                json_decref(value);
                value = json_array();
            }
            json_array_append_new(value, schema);
        } else {
            json_decref(value);
            value = schema;
        }
    }
    if (code) {
        json_decref(value);
        return code;
    }
    *ret = value ? value : json_object();
    return OK;
}

/* owner: whose field it is. */
static enum errc field_into(struct decoder *d, const struct schema *owner,
                            const struct schema_property *p, const struct field *f, json_t *o) {
    const struct schema *s = p->schema;
    json_t *value;
    if (s->format == SCHEMA_OR_BOOL || s->format == SCHEMA_OR_LIST) {
        if (f->wire != 2)
            return broken(d->err, p->name);
        enum errc code = either_into(d, owner, s->format == SCHEMA_OR_BOOL, f->bytes, &value);
        return code ? code : json_object_set_new(o, p->name, value) ? broken(d->err, p->name) : OK;
    }
    if (s->type == SCHEMA_ARRAY && s->format != SCHEMA_EXTRA) {
        enum errc code = value_of(d, s->items, f, true, &value);
        if (!code)
            json_array_append_new(member(o, p->name, json_array), value);
        return code;
    }
    if (s->type == SCHEMA_OBJECT && s->items)
        return f->wire == 2 ? map_entry(d, s->items, f->bytes, member(o, p->name, json_object))
                            : broken(d->err, p->name);
    enum errc code = value_of(d, s, f, p->pointer, &value);
    if (code)
        return err_wrap(d->err, "%s", p->name);
    if (json_is_null(value))
        json_decref(value);
    else
        json_object_set_new(o, p->name, value);
    return OK;
}

static enum errc message_into(struct decoder *d, const struct schema *s, struct bytes b,
                              json_t *o) {
    if (d->depth == PROTOBUF_DEPTH_MAX)
        return err_set(d->err, ERR_MALFORMED, "protobuf body is nested too deeply");
    d->depth++;
    enum errc code = OK;
    struct field f;
    while (!code && b.at < b.end) {
        if (!next_field(&b, &f)) {
            code = broken(d->err, s->name ? s->name : "a message");
            break;
        }
        const struct schema_property *p = NULL;
        for (uint32_t i = 0; !p && i < s->num_properties; i++) {
            if (s->properties[i].proto == f.number)
                p = &s->properties[i];
        }
        if (p) {
            code = field_into(d, s, p, &f, o);
            continue;
        }
        for (uint32_t i = 0; i < s->num_inlines; i++) {
            if (s->inlines[i].proto == f.number && f.wire == 2)
                code = message_into(d, s->inlines[i].schema, f.bytes, o);
        }
    }
    d->depth--;
    return code;
}

enum errc protobuf_decode(const struct schema *schema, const struct protobuf_envelope *envelope,
                          json_t **ret_object, struct error *err) {
    struct decoder d = {.err = err};
    json_t *o =
        json_pack("{s:s, s:s}", "kind", envelope->kind, "apiVersion", envelope->api_version);
    if (!o)
        return broken(err, "the type");
    struct bytes raw = {envelope->raw, (const uint8_t *)envelope->raw + envelope->raw_len};
    enum errc code = message_into(&d, schema, raw, o);
    if (code)
        json_decref(o);
    else
        *ret_object = o;
    return code;
}
