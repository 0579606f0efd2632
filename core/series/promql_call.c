/* The functions of PromQL, one row each.
 *
 * rate and its kin look at the samples of a range and extrapolate to its edges: a counter that is
 * seen every 5 s for 58 s of a minute has grown for the whole minute. They do so only as far as a
 * series that is really there may reach: to the edge, if the first or last sample is about one
 * interval away from it, else by half an interval; and a counter not below zero. A counter that
 * falls began anew, and what it had counted is added.
 *
 * Source: prometheus.io/docs/prometheus/latest/querying/functions. */
#include <math.h>
#include <stdio.h>

#include "core/series/promql_node.h"

static const double ALMOST_ONE_INTERVAL = 1.1;

/* ---- over a range of one series; false: no result ---- */

static double extrapolated(const struct promql_node *selector, int64_t now_ms,
                           const struct series_range *r, double grown, bool is_counter) {
    const struct series_sample *first = r->samples, *last = &r->samples[r->num_samples - 1];
    int64_t end_ms = now_ms - selector->offset_ms, start_ms = end_ms - selector->range_ms;
    double to_start = (double)(first->at_ms - start_ms), to_end = (double)(end_ms - last->at_ms);
    double seen = (double)(last->at_ms - first->at_ms), interval = seen / (r->num_samples - 1);
    if (is_counter && grown > 0 && first->value >= 0) {
        double to_zero = seen * (first->value / grown);
        to_start = to_zero < to_start ? to_zero : to_start;
    }
    double whole = seen;
    whole += to_start < interval * ALMOST_ONE_INTERVAL ? to_start : interval / 2;
    whole += to_end < interval * ALMOST_ONE_INTERVAL ? to_end : interval / 2;
    return grown * whole / seen;
}

static bool counted(const struct promql_node *selector, int64_t now_ms,
                    const struct series_range *r, double *ret) {
    if (r->num_samples < 2)
        return false;
    double grown = r->samples[r->num_samples - 1].value - r->samples[0].value;
    for (uint32_t i = 1; i < r->num_samples; i++) {
        if (r->samples[i].value < r->samples[i - 1].value)
            grown += r->samples[i - 1].value;
    }
    *ret = extrapolated(selector, now_ms, r, grown, true);
    return true;
}

static bool increase_of(const struct promql_node *selector, int64_t now_ms,
                        const struct series_range *r, double parameter, double *ret) {
    return counted(selector, now_ms, r, ret);
}

static bool rate_of(const struct promql_node *selector, int64_t now_ms,
                    const struct series_range *r, double parameter, double *ret) {
    if (!counted(selector, now_ms, r, ret))
        return false;
    *ret /= (double)selector->range_ms / 1000;
    return true;
}

static bool delta_of(const struct promql_node *selector, int64_t now_ms,
                     const struct series_range *r, double parameter, double *ret) {
    if (r->num_samples < 2)
        return false;
    double grown = r->samples[r->num_samples - 1].value - r->samples[0].value;
    *ret = extrapolated(selector, now_ms, r, grown, false);
    return true;
}

static bool idelta_of(const struct promql_node *selector, int64_t now_ms,
                      const struct series_range *r, double parameter, double *ret) {
    if (r->num_samples < 2)
        return false;
    *ret = r->samples[r->num_samples - 1].value - r->samples[r->num_samples - 2].value;
    return true;
}

static bool irate_of(const struct promql_node *selector, int64_t now_ms,
                     const struct series_range *r, double parameter, double *ret) {
    if (r->num_samples < 2)
        return false;
    const struct series_sample *last = &r->samples[r->num_samples - 1], *before = last - 1;
    double grown = last->value < before->value ? last->value : last->value - before->value;
    *ret = grown / ((double)(last->at_ms - before->at_ms) / 1000);
    return true;
}

static bool sum_of(const struct promql_node *selector, int64_t now_ms, const struct series_range *r,
                   double parameter, double *ret) {
    double sum = 0;
    for (uint32_t i = 0; i < r->num_samples; i++)
        sum += r->samples[i].value;
    *ret = sum;
    return true;
}

static bool avg_of(const struct promql_node *selector, int64_t now_ms, const struct series_range *r,
                   double parameter, double *ret) {
    bool any = sum_of(selector, now_ms, r, parameter, ret);
    *ret /= r->num_samples;
    return any;
}

static bool min_of(const struct promql_node *selector, int64_t now_ms, const struct series_range *r,
                   double parameter, double *ret) {
    *ret = r->samples[0].value;
    for (uint32_t i = 1; i < r->num_samples; i++) {
        if (r->samples[i].value < *ret || isnan(*ret))
            *ret = r->samples[i].value;
    }
    return true;
}

static bool max_of(const struct promql_node *selector, int64_t now_ms, const struct series_range *r,
                   double parameter, double *ret) {
    *ret = r->samples[0].value;
    for (uint32_t i = 1; i < r->num_samples; i++) {
        if (r->samples[i].value > *ret || isnan(*ret))
            *ret = r->samples[i].value;
    }
    return true;
}

static bool count_of(const struct promql_node *selector, int64_t now_ms,
                     const struct series_range *r, double parameter, double *ret) {
    *ret = r->num_samples;
    return true;
}

static bool last_of(const struct promql_node *selector, int64_t now_ms,
                    const struct series_range *r, double parameter, double *ret) {
    *ret = r->samples[r->num_samples - 1].value;
    return true;
}

static bool present_of(const struct promql_node *selector, int64_t now_ms,
                       const struct series_range *r, double parameter, double *ret) {
    *ret = 1;
    return true;
}

static bool changes_of(const struct promql_node *selector, int64_t now_ms,
                       const struct series_range *r, double parameter, double *ret) {
    *ret = 0;
    for (uint32_t i = 1; i < r->num_samples; i++) {
        double was = r->samples[i - 1].value, is = r->samples[i].value;
        *ret += is != was && !(isnan(is) && isnan(was));
    }
    return true;
}

static bool resets_of(const struct promql_node *selector, int64_t now_ms,
                      const struct series_range *r, double parameter, double *ret) {
    *ret = 0;
    for (uint32_t i = 1; i < r->num_samples; i++)
        *ret += r->samples[i].value < r->samples[i - 1].value;
    return true;
}

static bool quantile_of(const struct promql_node *selector, int64_t now_ms,
                        const struct series_range *r, double parameter, double *ret) {
    double *values = mem_array(r->num_samples, sizeof(*values));
    for (uint32_t i = 0; i < r->num_samples; i++)
        values[i] = r->samples[i].value;
    *ret = promql_quantile(parameter, values, r->num_samples);
    free(values);
    return true;
}

/* ---- of an instant vector ---- */

static double absolute(double x) {
    return fabs(x);
}

static double ceiling(double x) {
    return ceil(x);
}

static double flooring(double x) {
    return floor(x);
}

static double square_root(double x) {
    return sqrt(x);
}

static void clamp(const struct promql_value *from, double min, double max,
                  struct promql_value *ret) {
    for (size_t i = 0; i < from->num_items && !(min > max); i++) {
        double v = from->items[i].value;
        v = isnan(min) || isnan(max) ? NAN : v < min ? min : v > max ? max : v;
        promql_append(ret, promql_nameless(from->items[i].labels), v);
    }
}

static enum errc call_clamp(const struct promql_eval *e, const struct promql_node *node,
                            struct promql_value *args, struct promql_value *ret,
                            struct error *err) {
    clamp(&args[0], args[1].scalar, args[2].scalar, ret);
    return OK;
}

static enum errc call_clamp_min(const struct promql_eval *e, const struct promql_node *node,
                                struct promql_value *args, struct promql_value *ret,
                                struct error *err) {
    clamp(&args[0], args[1].scalar, INFINITY, ret);
    return OK;
}

static enum errc call_clamp_max(const struct promql_eval *e, const struct promql_node *node,
                                struct promql_value *args, struct promql_value *ret,
                                struct error *err) {
    clamp(&args[0], -INFINITY, args[1].scalar, ret);
    return OK;
}

static enum errc call_round(const struct promql_eval *e, const struct promql_node *node,
                            struct promql_value *args, struct promql_value *ret,
                            struct error *err) {
    double to = node->num_args > 1 ? args[1].scalar : 1;
    for (size_t i = 0; i < args[0].num_items; i++) {
        double value = floor(args[0].items[i].value / to + 0.5) * to;
        promql_append(ret, promql_nameless(args[0].items[i].labels), value);
    }
    return OK;
}

static enum errc call_scalar(const struct promql_eval *e, const struct promql_node *node,
                             struct promql_value *args, struct promql_value *ret,
                             struct error *err) {
    ret->scalar = args[0].num_items == 1 ? args[0].items[0].value : NAN;
    return OK;
}

static enum errc call_vector(const struct promql_eval *e, const struct promql_node *node,
                             struct promql_value *args, struct promql_value *ret,
                             struct error *err) {
    promql_append(ret, labels_create(NULL, 0), args[0].scalar);
    return OK;
}

static enum errc call_time(const struct promql_eval *e, const struct promql_node *node,
                           struct promql_value *args, struct promql_value *ret, struct error *err) {
    ret->scalar = (double)e->now_ms / 1000;
    return OK;
}

/* One, with the labels that the selector asks to be equal to something, where nothing is found. */
static enum errc call_absent(const struct promql_eval *e, const struct promql_node *node,
                             struct promql_value *args, struct promql_value *ret,
                             struct error *err) {
    const struct promql_node *s = node->args[0];
    struct label labels[LABELS_MAX];
    uint32_t num = 0;
    for (uint32_t i = 0; i < s->num_matchers; i++) {
        if (s->matchers[i].op == MATCHER_EQUAL && strcmp(s->matchers[i].name, LABEL_NAME) != 0)
            labels[num++] = (struct label){s->matchers[i].name, s->matchers[i].value};
    }
    if (!args[0].num_items)
        promql_append(ret, labels_create(labels, num), 1);
    return OK;
}

/* ---- histogram_quantile ---- */

struct bucket {
    struct labels *labels; /* without le and name; owned */
    double bound, count;
};

static int by_labels_and_bound(const void *a, const void *b) {
    const struct bucket *x = a, *y = b;
    int order = labels_compare(x->labels, y->labels);
    return order ? order : x->bound < y->bound ? -1 : x->bound > y->bound;
}

/* Buckets of one bound become one, and counts never fall: scrapes are not atomic. */
static size_t tidy(struct bucket *b, size_t num) {
    size_t kept = 0;
    for (size_t i = 1; i < num; i++) {
        if (b[i].bound == b[kept].bound)
            b[kept].count += b[i].count;
        else {
            b[++kept].bound = b[i].bound;
            b[kept].count = b[i].count;
        }
    }
    for (size_t i = 1; i <= kept; i++)
        b[i].count = b[i].count < b[i - 1].count ? b[i - 1].count : b[i].count;
    return kept + 1;
}

static double quantile_of_buckets(double q, struct bucket *b, size_t num) {
    if (isnan(q))
        return NAN;
    if (q < 0 || q > 1)
        return q < 0 ? -INFINITY : INFINITY;
    if (b[num - 1].bound != INFINITY)
        return NAN;
    num = tidy(b, num);
    if (num < 2 || b[num - 1].count == 0 || isnan(b[num - 1].count))
        return NAN;
    double rank = q * b[num - 1].count;
    size_t i = 0;
    while (i < num - 1 && b[i].count < rank)
        i++;
    if (i == num - 1)
        return b[num - 2].bound;
    if (i == 0 && b[0].bound <= 0)
        return b[0].bound;
    double from = i ? b[i - 1].bound : 0, below = i ? b[i - 1].count : 0;
    return from + (b[i].bound - from) * ((rank - below) / (b[i].count - below));
}

static enum errc call_histogram_quantile(const struct promql_eval *e,
                                         const struct promql_node *node, struct promql_value *args,
                                         struct promql_value *ret, struct error *err) {
    static const char *const le[] = {"le"};
    const struct promql_grouping rest = {
        .given = true, .complement = true, .labels = (const char **)(uintptr_t)le, .num_labels = 1};
    const struct promql_value *v = &args[1];
    struct bucket *buckets = mem_array(v->num_items ? v->num_items : 1, sizeof(*buckets));
    size_t num = 0;
    for (size_t i = 0; i < v->num_items; i++) {
        const char *bound = labels_get(v->items[i].labels, "le");
        char *end;
        double value = strtod(bound, &end);
        if (end == bound || *end)
            continue; /* not a bucket */
        buckets[num++] = (struct bucket){.labels = promql_grouped(v->items[i].labels, &rest),
                                         .bound = value,
                                         .count = v->items[i].value};
    }
    qsort(buckets, num, sizeof(*buckets), by_labels_and_bound);
    for (size_t from = 0, to; from < num; from = to) {
        for (to = from + 1; to < num && labels_equal(buckets[to].labels, buckets[from].labels);)
            to++;
        promql_append(ret, labels_ref(buckets[from].labels),
                      quantile_of_buckets(args[0].scalar, buckets + from, to - from));
    }
    for (size_t i = 0; i < num; i++)
        labels_unref(buckets[i].labels);
    free(buckets);
    return OK;
}

/* ---- the table ---- */

#define OVER_TIME(title, fn)                                                                       \
    {                                                                                              \
        .name = title, .args = {PROMQL_MATRIX}, .num_args = 1, .result = PROMQL_VECTOR,            \
        .over_time = fn                                                                            \
    }
#define OF_NUMBERS(title, fn)                                                                      \
    { .name = title, .args = {PROMQL_VECTOR}, .num_args = 1, .result = PROMQL_VECTOR, .number = fn }

static const char LAST_OVER_TIME[] = "last_over_time"; /* the only one that keeps the name */

static const struct promql_function functions[] = {
    OVER_TIME("rate", rate_of),
    OVER_TIME("irate", irate_of),
    OVER_TIME("increase", increase_of),
    OVER_TIME("delta", delta_of),
    OVER_TIME("idelta", idelta_of),
    OVER_TIME("changes", changes_of),
    OVER_TIME("resets", resets_of),
    OVER_TIME("avg_over_time", avg_of),
    OVER_TIME("min_over_time", min_of),
    OVER_TIME("max_over_time", max_of),
    OVER_TIME("sum_over_time", sum_of),
    OVER_TIME("count_over_time", count_of),
    OVER_TIME("present_over_time", present_of),
    OVER_TIME(LAST_OVER_TIME, last_of),
    {.name = "quantile_over_time",
     .args = {PROMQL_SCALAR, PROMQL_MATRIX},
     .num_args = 2,
     .result = PROMQL_VECTOR,
     .over_time = quantile_of},
    OF_NUMBERS("abs", absolute),
    OF_NUMBERS("ceil", ceiling),
    OF_NUMBERS("floor", flooring),
    OF_NUMBERS("sqrt", square_root),
    {.name = "round",
     .args = {PROMQL_VECTOR, PROMQL_SCALAR},
     .num_args = 2,
     .num_optional = 1,
     .result = PROMQL_VECTOR,
     .call = call_round},
    {.name = "clamp",
     .args = {PROMQL_VECTOR, PROMQL_SCALAR, PROMQL_SCALAR},
     .num_args = 3,
     .result = PROMQL_VECTOR,
     .call = call_clamp},
    {.name = "clamp_min",
     .args = {PROMQL_VECTOR, PROMQL_SCALAR},
     .num_args = 2,
     .result = PROMQL_VECTOR,
     .call = call_clamp_min},
    {.name = "clamp_max",
     .args = {PROMQL_VECTOR, PROMQL_SCALAR},
     .num_args = 2,
     .result = PROMQL_VECTOR,
     .call = call_clamp_max},
    {.name = "histogram_quantile",
     .args = {PROMQL_SCALAR, PROMQL_VECTOR},
     .num_args = 2,
     .result = PROMQL_VECTOR,
     .call = call_histogram_quantile},
    {.name = "absent",
     .args = {PROMQL_VECTOR},
     .num_args = 1,
     .result = PROMQL_VECTOR,
     .call = call_absent},
    {.name = "scalar",
     .args = {PROMQL_VECTOR},
     .num_args = 1,
     .result = PROMQL_SCALAR,
     .call = call_scalar},
    {.name = "vector",
     .args = {PROMQL_SCALAR},
     .num_args = 1,
     .result = PROMQL_VECTOR,
     .call = call_vector},
    {.name = "time", .result = PROMQL_SCALAR, .call = call_time},
};

const struct promql_function *promql_function_find(const char *name) {
    for (size_t i = 0; i < ARRAY_LEN(functions); i++) {
        if (!strcmp(functions[i].name, name))
            return &functions[i];
    }
    return NULL;
}

static void over_ranges(const struct promql_eval *e, const struct promql_node *node,
                        const struct promql_value *args, struct promql_value *ret) {
    uint32_t last = node->num_args - 1;
    bool keeps_name = node->function->name == LAST_OVER_TIME;
    for (size_t i = 0; i < args[last].ranges.num_items; i++) {
        const struct series_range *r = &args[last].ranges.items[i];
        double value;
        if (node->function->over_time(node->args[last], e->now_ms, r, args[0].scalar, &value))
            promql_append(ret, keeps_name ? labels_ref(r->labels) : promql_nameless(r->labels),
                          value);
    }
}

enum errc promql_call(const struct promql_eval *e, const struct promql_node *node,
                      struct promql_value *args, struct promql_value *ret, struct error *err) {
    const struct promql_function *f = node->function;
    ret->type = f->result;
    if (f->over_time)
        over_ranges(e, node, args, ret);
    else if (f->number)
        for (size_t i = 0; i < args[0].num_items; i++)
            promql_append(ret, promql_nameless(args[0].items[i].labels),
                          f->number(args[0].items[i].value));
    else if (f->call(e, node, args, ret, err))
        return err->code;
    return promql_check_unique(ret, err);
}
