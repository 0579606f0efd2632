/* Schemas: what the JSON of a kind may hold. One form in memory, whether it was read from a type
 * table (schema_types.c) or from a user's CustomResourceDefinition (schema_json.c).
 *
 * Everything that depends on the shape of an object walks this tree: unknown fields and pruning,
 * type checks, protobuf bodies, strategic merge, OpenAPI and `kubectl explain`. Schemas are
 * immutable once read and shared by all threads. */
#ifndef KUBE_COMPAT_SCHEMA_H
#define KUBE_COMPAT_SCHEMA_H

#include <jansson.h>

#include "core/base/buf.h"

enum schema_type {
    SCHEMA_ANY, /* nothing is known: everything is kept */
    SCHEMA_STRING,
    SCHEMA_BOOLEAN,
    SCHEMA_INTEGER,
    SCHEMA_NUMBER,
    SCHEMA_OBJECT, /* properties, or a map when `items` is set */
    SCHEMA_ARRAY,
};

enum schema_format {
    SCHEMA_PLAIN,
    SCHEMA_INT32,
    SCHEMA_INT64,
    SCHEMA_BYTES,         /* base64 text */
    SCHEMA_QUANTITY,      /* "500m", 2 */
    SCHEMA_INT_OR_STRING, /* 80, "25%" */
    SCHEMA_TIME,          /* RFC 3339 in seconds */
    SCHEMA_MICRO_TIME,
    SCHEMA_DATE,     /* "2006-01-02" */
    SCHEMA_DURATION, /* "1h30m" */
    SCHEMA_DOUBLE,   /* a number of eight bytes; users' schemas say number alone */
    SCHEMA_OR_BOOL,  /* a schema, or true or false; in JSONSchemaProps, as the next */
    SCHEMA_OR_LIST,  /* a schema, or a list of schemas */
    SCHEMA_EXTRA,    /* an array of strings that protobuf wraps in a message */
};

struct schema;

struct schema_property {
    const char *name;
    const struct schema *schema;
    const char *description; /* NULL: none */
    uint32_t proto;          /* protobuf field number; 0: none */
    bool pointer;            /* protobuf sends it only when it is set */
    bool required;
};

/* A protobuf submessage whose fields stand in the parent's JSON object. */
struct schema_inline {
    const struct schema *schema;
    uint32_t proto;
};

struct schema {
    const char *name; /* "core.v1.PodSpec"; NULL: part of another */
    const char *description;
    enum schema_type type;
    enum schema_format format;
    const struct schema *items;         /* of an array; of a map, its values */
    struct schema_property *properties; /* sorted by name */
    uint32_t num_properties;
    struct schema_inline *inlines;
    uint32_t num_inlines;
    const char **values; /* allowed strings */
    uint32_t num_values;
    bool has_min, has_max;
    int64_t min, max;
    /* How patches merge it. A list with neither merge_key nor merge_set is replaced. */
    const char *merge_key;
    bool merge_set, retain_keys, atomic;
    const char *map_keys; /* server-side apply's keys, "containerPort,protocol" */
    /* What only a CustomResourceDefinition's schema says (schema_json.c). */
    bool nullable, preserve;          /* preserve: fields that it does not name are kept */
    bool has_cel;                     /* it or a part of it has rules in CEL */
    const char *fallback;             /* the default, as JSON text; NULL: none */
    const struct schema_rules *rules; /* schema_rules.h; NULL: none */
};

/* All named types. */
struct schema_types;

/* Reads tables into one set; the texts must live as long as it. ERR_INVALID names the line. */
struct schema_table {
    const char *name, *text;
    size_t len;
};
MUST_CHECK enum errc schema_types_create(const struct schema_table *tables, size_t num_tables,
                                         struct schema_types **ret_types, struct error *err);
/* Adds descriptions to types and fields that have none. ERR_INVALID names a line about a type or
 * field that does not exist. */
MUST_CHECK enum errc schema_types_describe(struct schema_types *t, const struct schema_table *table,
                                           struct error *err);
void schema_types_destroy(struct schema_types *t);
DEFINE_AUTO(schema_types, schema_types_destroy)
const struct schema *schema_types_find(const struct schema_types *t, const char *name);

extern const struct schema schema_any; /* knows nothing, keeps everything */

/* The property of an object schema, or NULL. */
const struct schema_property *schema_property(const struct schema *s, const char *name);

/* What a walk found. Field paths are Kubernetes' own: spec.containers[0].image. */
enum { SCHEMA_FINDINGS_MAX = 64, SCHEMA_DEPTH_MAX = 256 };
struct schema_findings {
    json_t *unknown;   /* array of field paths; NULL: do not look */
    json_t *causes;    /* array of Status causes {reason, message, field}; NULL: do not look */
    bool nulls;        /* null is a value of the wrong type (custom resources), not an absent one */
    const json_t *old; /* parts that are as they were here are not looked at; NULL: all are new */
};
/* Checks value against s, appending at most SCHEMA_FINDINGS_MAX of each kind. */
void schema_check(const struct schema *s, const json_t *value, struct schema_findings *f);

/* Which part of an old value became a part of the new one: a field by its name, an entry of a map
 * by its key, an item of a list of type map by its keys, which this finds (NULL: it is new). */
const json_t *schema_old_item(const struct schema *list, const json_t *old, const json_t *item);

/* Drops what s does not know, and nulls (of custom resources only in metadata), from value. */
void schema_prune(const struct schema *s, json_t *value, bool keep_nulls);

/* Fills in the defaults of s where value has nothing. */
void schema_default(const struct schema *s, json_t *value);

/* "must be of type integer" wants this: "integer", "string" ... */
const char *schema_type_name(const struct schema *s);

/* Appends {reason, message, field} to causes. */
void cause_add(json_t *causes, const char *reason, const char *field, const char *fmt, ...)
    PRINTF(4, 5);
#define CAUSE_REQUIRED      "FieldValueRequired"
#define CAUSE_INVALID       "FieldValueInvalid"
#define CAUSE_TYPE_INVALID  "FieldValueTypeInvalid"
#define CAUSE_NOT_SUPPORTED "FieldValueNotSupported"
#define CAUSE_FORBIDDEN     "FieldValueForbidden"
#define CAUSE_DUPLICATE     "FieldValueDuplicate"
#define CAUSE_NOT_FOUND     "FieldValueNotFound"

#endif
