/* The tree of a CEL expression, between its parser, its checker and its evaluator. */
#ifndef KUBE_COMPAT_CEL_TREE_H
#define KUBE_COMPAT_CEL_TREE_H

#include "kube-compat/cel_value.h"
#include "kube-compat/schema_pattern.h"

enum cel_op {
    CEL_OP_LITERAL,
    CEL_OP_NAME,   /* text */
    CEL_OP_SELECT, /* args[0].text */
    CEL_OP_HAS,    /* has(args[0].text) */
    CEL_OP_CALL,   /* text(args...); a method's target is args[0] */
    CEL_OP_AND,
    CEL_OP_OR,
    CEL_OP_COND, /* args[0] ? args[1] : args[2] */
    CEL_OP_LIST,
    CEL_OP_MAP,
    /* Macros over args[0], with the variable `text`: */
    CEL_OP_ALL, /* args[1]: the predicate */
    CEL_OP_EXISTS,
    CEL_OP_EXISTS_ONE,
    CEL_OP_FILTER,
    CEL_OP_TRANSFORM, /* map(): args[1] what each becomes, args[2] which (may be absent) */
    CEL_OP_OPT_MAP,   /* of an optional: args[1] what its value becomes */
};

struct cel_node {
    enum cel_op op;
    bool method;       /* a call with a target */
    uint32_t height;   /* of the tree below it */
    uint32_t num_args; /* of a map literal: two a pair */
    size_t offset;     /* in the text, for messages */
    const char *text;  /* a name, a field, a function */
    struct cel_node **args;
    struct cel_value literal;
    const struct cel_function *functions; /* the first row of this name (cel_functions.h) */
    const struct schema_pattern *pattern; /* of matches() with a literal */
};

struct cel_program {
    struct arena *arena;
    const char *text;
    struct cel_node *root;
    bool uses_old;
    const struct schema *self;
    bool old_is_optional;
    struct schema_pattern **patterns;
    size_t num_patterns;
};

/* Reads program->text into program->root, with macros expanded. */
MUST_CHECK enum errc cel_parse(struct cel_program *program, struct error *err);

/* Resolves names, functions and fields; sees that the whole gives what opt wants. */
MUST_CHECK enum errc cel_check(struct cel_program *program, const struct cel_options *opt,
                               struct error *err);

/* Sets err to "ERROR: <input>:LINE:COLUMN: ..." for an offset of the text. */
enum errc cel_fail(const struct cel_program *program, size_t offset, struct error *err,
                   const char *fmt, ...) PRINTF(4, 5);

#endif
