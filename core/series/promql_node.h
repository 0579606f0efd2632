/* A parsed expression, between parser and evaluation. Lives in the expression's arena; the matchers
 * of selectors are its to release. */
#ifndef CORE_SERIES_PROMQL_NODE_H
#define CORE_SERIES_PROMQL_NODE_H

#include "core/series/promql.h"

enum { PROMQL_ARGS_MAX = 3 };

enum promql_node_kind {
    PROMQL_NUMBER_NODE,
    PROMQL_SELECTOR,
    PROMQL_NEGATIVE,
    PROMQL_BINARY,
    PROMQL_AGGREGATE,
    PROMQL_CALL,
};

enum promql_op {
    OP_OR,
    OP_AND,
    OP_UNLESS,
    OP_EQUAL,
    OP_NOT_EQUAL,
    OP_LESS,
    OP_LESS_EQUAL,
    OP_GREATER,
    OP_GREATER_EQUAL,
    OP_ADD,
    OP_SUBTRACT,
    OP_MULTIPLY,
    OP_DIVIDE,
    OP_MODULO,
    OP_POWER,
};
static inline bool promql_op_is_set(enum promql_op op) {
    return op <= OP_UNLESS;
}
static inline bool promql_op_compares(enum promql_op op) {
    return op >= OP_EQUAL && op <= OP_GREATER_EQUAL;
}

enum promql_aggregate {
    AGGREGATE_SUM,
    AGGREGATE_AVG,
    AGGREGATE_MIN,
    AGGREGATE_MAX,
    AGGREGATE_COUNT,
    AGGREGATE_GROUP,
    AGGREGATE_QUANTILE, /* this one and the next have a parameter */
    AGGREGATE_TOPK,
    AGGREGATE_BOTTOMK,
};

/* by, on: these labels; without, ignoring: all others but the name. */
struct promql_grouping {
    bool given, complement; /* complement: without, ignoring */
    const char **labels;
    uint32_t num_labels;
};

struct promql_function;

struct promql_node {
    enum promql_node_kind kind;
    enum promql_type type;
    uint32_t at; /* position in the text, from 0 */
    uint32_t depth;
    double number;
    struct matcher *matchers;
    uint32_t num_matchers;
    int64_t range_ms, offset_ms; /* range 0: an instant */
    enum promql_op op;
    bool returns_bool;
    enum promql_aggregate aggregate;
    struct promql_grouping grouping;
    const struct promql_function *function;
    struct promql_node *args[PROMQL_ARGS_MAX]; /* operands, arguments; an aggregate's parameter
                                                  behind its vector */
    uint32_t num_args;
};

struct promql {
    struct arena *arena;
    struct promql_node *root;
    struct promql_node *selectors[PROMQL_SELECTORS_MAX];
    uint32_t num_selectors;
};

/* ---- evaluation, promql_eval.c ---- */

struct promql_eval {
    struct series *series;
    int64_t now_ms;
    int64_t *samples_left; /* of PROMQL_SAMPLES_MAX */
};

/* *ret is empty on errors. */
MUST_CHECK enum errc promql_eval_node(const struct promql_eval *e, const struct promql_node *n,
                                      struct promql_value *ret, struct error *err);

/* ---- functions, promql_call.c ---- */

struct promql_function {
    const char *name;
    enum promql_type args[PROMQL_ARGS_MAX], result;
    uint32_t num_args, num_optional; /* the last ones */
    /* args: evaluated, as many as were written. */
    enum errc (*call)(const struct promql_eval *e, const struct promql_node *node,
                      struct promql_value *args, struct promql_value *ret, struct error *err);
    double (*number)(double x);
    bool (*over_time)(const struct promql_node *selector, int64_t now_ms,
                      const struct series_range *r, double parameter, double *ret);
};
const struct promql_function *promql_function_find(const char *name); /* NULL: not known */
MUST_CHECK enum errc promql_call(const struct promql_eval *e, const struct promql_node *node,
                                 struct promql_value *args, struct promql_value *ret,
                                 struct error *err);

/* ---- vectors, shared ---- */

/* Appends; takes labels. */
void promql_append(struct promql_value *v, struct labels *labels, double value);
/* Gives the labels without the name, and those that a grouping leaves. */
struct labels *promql_nameless(const struct labels *l);
struct labels *promql_grouped(const struct labels *l, const struct promql_grouping *g);
/* ERR_INVALID: two samples have the same labels. */
MUST_CHECK enum errc promql_check_unique(const struct promql_value *v, struct error *err);
/* The quantile of values, which are sorted in place: 0 .. 1, else an infinity. */
double promql_quantile(double q, double *values, size_t num);

#endif
