/* The syntax tree of a template: what the parser builds and the evaluator walks. Immutable once
 * parsed, all of it in the template's arena, so any number of threads may render it at once. */
#ifndef ENGINE_JINJA_AST_H
#define ENGINE_JINJA_AST_H

#include "engine/jinja_value.h"

enum jinja_node_kind {
    /* expressions */
    JINJA_N_CONSTANT,
    JINJA_N_NAME,
    JINJA_N_LIST,
    JINJA_N_TUPLE,
    JINJA_N_DICT, /* items: key, value, key, value... */
    JINJA_N_ATTRIBUTE,
    JINJA_N_ITEM,  /* left[right] */
    JINJA_N_SLICE, /* only as the right side of ITEM; parts may be NULL */
    JINJA_N_CALL,
    JINJA_N_FILTER,
    JINJA_N_TEST,
    JINJA_N_NOT,
    JINJA_N_NEGATE,
    JINJA_N_PLUS,
    JINJA_N_BINARY, /* op is the token of the operator */
    JINJA_N_AND,
    JINJA_N_OR,
    JINJA_N_COMPARE, /* items[0] ops[0] items[1] ops[1] ... */
    JINJA_N_CONCAT,
    JINJA_N_CONDITION, /* left if condition else right; right may be NULL */
    /* statements */
    JINJA_N_DATA,
    JINJA_N_OUTPUT,
    JINJA_N_IF,
    JINJA_N_FOR,
    JINJA_N_SET,
    JINJA_N_SET_BLOCK,
    JINJA_N_MACRO,
    JINJA_N_CALL_BLOCK,
    JINJA_N_FILTER_BLOCK,
    JINJA_N_WITH,
    JINJA_N_SCOPE, /* a body with variables of its own: generation */
    JINJA_N_BLOCK, /* a body that sees the outermost variables only */
    JINJA_N_BREAK,
    JINJA_N_CONTINUE,
    /* only as targets of assignment, beside NAME and TUPLE */
    JINJA_N_NAMESPACE_REF,
};

/* Operators of COMPARE that are not a token of their own. */
enum { JINJA_OP_IN = 64, JINJA_OP_NOT_IN };

struct jinja_node;

struct jinja_body {
    struct jinja_node **items;
    uint32_t count;
};

struct jinja_args {
    struct jinja_node **pos, **named; /* [num_pos], [num_named] */
    const char **names;               /* [num_named] */
    struct jinja_node *star;          /* *expr, or NULL */
    struct jinja_node *double_star;   /* **expr, or NULL */
    uint32_t num_pos, num_named;
};

struct jinja_branch {
    struct jinja_node *test;
    struct jinja_body body;
};

struct jinja_if {
    struct jinja_branch *branches; /* if, elif... */
    uint32_t num_branches;
    struct jinja_body otherwise;
};

struct jinja_for {
    struct jinja_node *target, *iterable, *test; /* test may be NULL */
    struct jinja_body body, otherwise;
    bool recursive;
};

struct jinja_macro_def {
    const char *name;
    uint32_t symbol;
    uint32_t *params; /* [num_params] symbols */
    const char **param_names;
    struct jinja_node **defaults; /* [num_params], NULL without default */
    uint32_t num_params;
    struct jinja_body body;
    bool uses_caller, uses_varargs, uses_kwargs, has_caller_param;
};

struct jinja_with {
    struct jinja_node **targets, **values; /* [count] */
    uint32_t count;
    struct jinja_body body;
};

struct jinja_node {
    uint8_t kind; /* enum jinja_node_kind */
    uint8_t op;   /* BINARY: enum jinja_token_type */
    uint32_t line;
    union {
        struct jinja_value constant; /* CONSTANT; DATA: its text */
        struct {                     /* NAME, NAMESPACE_REF, ATTRIBUTE */
            struct jinja_node *object;
            const char *name; /* NAMESPACE_REF: the attribute */
            uint32_t symbol;
        };
        struct { /* LIST, TUPLE, DICT, CONCAT, COMPARE */
            struct jinja_node **items;
            uint8_t *ops; /* COMPARE: [count - 1] */
            uint32_t count;
        };
        struct { /* ITEM, BINARY, AND, OR, CONDITION, SLICE, NOT, NEGATE, PLUS, OUTPUT (left) */
            struct jinja_node *left, *right, *condition;
        };
        struct {                      /* CALL, FILTER, TEST */
            struct jinja_node *input; /* callee, or what is filtered or tested; NULL: the body */
            const struct jinja_builtin *builtin; /* NULL: unknown, an error when reached */
            const char *word;
            struct jinja_args *args;
        };
        struct jinja_if *branch;
        struct jinja_for *loop;
        struct jinja_with *with;
        struct { /* SET, SET_BLOCK, FILTER_BLOCK, MACRO, CALL_BLOCK, SCOPE, BLOCK */
            struct jinja_node *target;
            struct jinja_node *value; /* SET: expression; CALL_BLOCK: call; ..._BLOCK: filter */
            struct jinja_macro_def *macro;
            struct jinja_body body;
        };
    };
};

/* Symbols every template has, in this order. */
enum { JINJA_SYMBOL_LOOP, JINJA_SYMBOL_CALLER, JINJA_SYMBOL_VARARGS, JINJA_SYMBOL_KWARGS };

struct jinja_template {
    struct arena *arena;
    struct jinja_body body;
    const char **symbols; /* [num_symbols] names of variables */
    uint32_t num_symbols;
};

#endif
