/* CEL, the Common Expression Language, as far as CustomResourceDefinitions' rules use it
 * (x-kubernetes-validations). Source: the language definition at
 * github.com/google/cel-spec/blob/master/doc/langdef.md.
 *
 * An expression is compiled once: read into a tree (cel_parse.c), macros expanded, every name and
 * function resolved, types followed as far as the schema says them (cel_check.c). A function that
 * is not in the table of cel_functions.c is an error here, never at run time. Programs are
 * immutable: all threads evaluate them (cel_eval.c), each with an arena of its own. */
#ifndef KUBE_COMPAT_CEL_H
#define KUBE_COMPAT_CEL_H

#include "kube-compat/schema.h"

enum {
    CEL_TEXT_BYTES_MAX = 16 << 10, /* of one expression */
    CEL_NODES_MAX = 4096,          /* of its tree */
    CEL_DEPTH_MAX = 64,            /* of nested parentheses and arguments */
    CEL_HEIGHT_MAX = 256,          /* of its tree: "a + b + ..." grows it too */
    CEL_COST_MAX = 1000000,        /* steps of one evaluation */
};

enum cel_kind {
    CEL_ERROR,
    CEL_NULL,
    CEL_BOOL,
    CEL_INT,
    CEL_UINT,
    CEL_DOUBLE,
    CEL_STRING,
    CEL_BYTES,
    CEL_DURATION,  /* nanoseconds */
    CEL_TIMESTAMP, /* nanoseconds since 1970 */
    CEL_LIST,
    CEL_MAP,
    CEL_OPTIONAL,
    CEL_TYPE, /* what type() gives */
    CEL_URL,
    CEL_IP,
    CEL_CIDR,
    CEL_QUANTITY,
    CEL_DYN, /* only while checking: known when it runs */
};

struct cel_value {
    enum cel_kind kind;
    uint32_t num; /* of a list literal's items, of a map literal's pairs; of a CIDR's bits */
    const struct schema *schema; /* of a list or map from JSON; NULL: nothing is known */
    union {
        bool truth;
        int64_t integer; /* also duration, timestamp */
        uint64_t natural;
        double real;
        struct {
            const char *data; /* NUL-terminated; bytes may hold more NULs */
            size_t len;
        } text; /* string, bytes; message of an error; name of a type; url, ip, cidr, quantity */
        const json_t *json;            /* list or map, when `items` is NULL */
        const struct cel_value *value; /* of an optional; NULL: none */
    };
    const struct cel_value *items; /* of a list or map literal (key, value, key, ...) */
};

struct cel_options {
    const struct schema *self;
    bool has_old;         /* oldSelf may be named */
    bool old_is_optional; /* and is an optional then */
    enum cel_kind want;   /* what the expression must give: CEL_BOOL, CEL_STRING */
};

struct cel_program;

/* Gives a program. ERR_INVALID: the text is "ERROR: <input>:LINE:COLUMN: what". */
MUST_CHECK enum errc cel_compile(const char *text, const struct cel_options *opt,
                                 struct cel_program **ret_p, struct error *err);
void cel_program_destroy(struct cel_program *p);
DEFINE_AUTO(cel_program, cel_program_destroy)

/* Does it name oldSelf? */
bool cel_uses_old(const struct cel_program *p);

/* Gives the value, which lives as long as the arena and the inputs; an error is a value of kind
 * CEL_ERROR ("no such key: x", or cel_cost_exceeded). Takes what it costs from *cost. old: NULL for
 * none. */
struct cel_value cel_run(const struct cel_program *p, const json_t *self, const json_t *old,
                         struct arena *arena, int64_t *cost);
extern const char cel_cost_exceeded[];

#endif
