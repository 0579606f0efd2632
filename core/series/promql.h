/* PromQL over the series of this daemon: what rules and dashboards ask at an instant.
 *
 * What is known: selectors with =, !=, =~, !~, ranges and offset; the functions of promql_call.c;
 * sum, avg, min, max, count, group, quantile, topk, bottomk with by and without; arithmetic,
 * comparisons (with bool), and, or, unless between scalars and vectors, with on and ignoring.
 * Everything else (subqueries, @, group_left, group_right, other functions) is refused by name and
 * position.
 *
 * Pure but for the table that is read: the instant is an argument. A parsed expression is used by
 * one thread at a time. */
#ifndef CORE_SERIES_PROMQL_H
#define CORE_SERIES_PROMQL_H

#include <jansson.h>

#include "core/series/series.h"

struct promql;

enum {
    PROMQL_TEXT_BYTES_MAX = 16 << 10,
    PROMQL_DEPTH_MAX = 128,
    PROMQL_SELECTORS_MAX = 32,
    PROMQL_SAMPLES_MAX = 5000000, /* that one evaluation reads, at all its instants together */
    PROMQL_STEPS_MAX = 1000,      /* instants of promql_eval_range() */
    PROMQL_POINTS_MAX = 200000,   /* that it gives */
};

enum promql_type { PROMQL_SCALAR, PROMQL_VECTOR, PROMQL_MATRIX, PROMQL_STRING };

struct promql_sample {
    struct labels *labels;
    double value;
};

struct promql_value {
    enum promql_type type;
    double scalar;
    struct promql_sample *items; /* a vector; owned */
    size_t num_items;
    struct series_ranges ranges; /* a matrix: of an expression that is a range selector */
};
void promql_value_deinit(struct promql_value *v);
#define AUTO_PROMQL_VALUE __attribute__((cleanup(promql_value_deinit))) struct promql_value

/* Gives the parsed expression. ERR_MALFORMED: it is none, or one that is not known here; the text
 * names what and the position (from 1). */
MUST_CHECK enum errc promql_parse(const char *text, struct promql **ret_q, struct error *err);
void promql_destroy(struct promql *q);
DEFINE_AUTO(promql, promql_destroy)

enum promql_type promql_type(const struct promql *q);

/* ERR_INVALID: the series that are there cannot be combined so; ERR_EXHAUSTED: too many samples. On
 * errors *ret is empty. */
MUST_CHECK enum errc promql_eval(const struct promql *q, struct series *s, int64_t now_ms,
                                 struct promql_value *ret, struct error *err);

/* The expression at each instant from from_ms to to_ms, step_ms apart, as a matrix. ERR_INVALID
 * also: more than PROMQL_STEPS_MAX instants, or the expression is a range vector. */
MUST_CHECK enum errc promql_eval_range(const struct promql *q, struct series *s, int64_t from_ms,
                                       int64_t to_ms, int64_t step_ms, struct promql_value *ret,
                                       struct error *err);

/* Gives {"resultType": ..., "result": ...}, as Prometheus' HTTP API has it. */
json_t *promql_value_json(const struct promql_value *v, int64_t now_ms);
enum { PROMQL_NUMBER_BYTES = 400 };
/* As Prometheus writes a sample's value: "1.5", "NaN", "+Inf". */
const char *promql_number(double value, char out[PROMQL_NUMBER_BYTES]);

#endif
