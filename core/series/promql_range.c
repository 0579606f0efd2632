/* An expression at many instants, for graphs: evaluated one by one, then put together by series. */
#include "core/series/promql_node.h"

struct point {
    struct labels *labels;
    struct series_sample sample;
};

struct points {
    struct point *items;
    size_t num, cap;
};

/* Takes labels. */
static void add(struct points *p, struct labels *labels, int64_t at_ms, double value) {
    if (p->num == p->cap) {
        p->cap = p->cap ? p->cap * 2 : 256;
        p->items = mem_realloc(p->items, p->cap * sizeof(*p->items));
    }
    p->items[p->num++] = (struct point){labels, {at_ms, value}};
}

static int by_series_and_time(const void *a, const void *b) {
    const struct point *x = a, *y = b;
    int order = labels_compare(x->labels, y->labels);
    return order ? order : x->sample.at_ms < y->sample.at_ms ? -1 : 1;
}

/* Sorted points into one range each series. */
static void put_together(const struct points *p, struct series_ranges *ret) {
    ret->items = mem_array(p->num + 1, sizeof(*ret->items));
    for (size_t from = 0, to; from < p->num; from = to) {
        struct series_range *r = &ret->items[ret->num_items++];
        for (to = from + 1;
             to < p->num && labels_equal(p->items[to].labels, p->items[from].labels);)
            to++;
        r->labels = labels_ref(p->items[from].labels);
        r->samples = mem_array(to - from, sizeof(*r->samples));
        for (size_t i = from; i < to; i++)
            r->samples[r->num_samples++] = p->items[i].sample;
    }
}

static enum errc eval_at(const struct promql *q, struct series *s, int64_t at_ms, int64_t *left,
                         struct points *p, struct error *err) {
    const struct promql_eval e = {.series = s, .now_ms = at_ms, .samples_left = left};
    AUTO_PROMQL_VALUE v = {0};
    if (promql_eval_node(&e, q->root, &v, err))
        return err->code;
    if (v.type == PROMQL_SCALAR)
        add(p, labels_create(NULL, 0), at_ms, v.scalar);
    for (size_t i = 0; i < v.num_items; i++)
        add(p, labels_ref(v.items[i].labels), at_ms, v.items[i].value);
    if (p->num > PROMQL_POINTS_MAX)
        return err_set(err, ERR_EXHAUSTED, "the query gives more than %d points",
                       PROMQL_POINTS_MAX);
    return OK;
}

enum errc promql_eval_range(const struct promql *q, struct series *s, int64_t from_ms,
                            int64_t to_ms, int64_t step_ms, struct promql_value *ret,
                            struct error *err) {
    int64_t left = PROMQL_SAMPLES_MAX;
    struct points p = {0};
    enum errc rc = OK;
    *ret = (struct promql_value){.type = PROMQL_MATRIX};
    if (step_ms <= 0 || to_ms < from_ms)
        return err_set(err, ERR_INVALID,
                       "the step has to be above 0 and the end not before the "
                       "start");
    if ((to_ms - from_ms) / step_ms >= PROMQL_STEPS_MAX)
        return err_set(err, ERR_INVALID, "more than %d steps: take a longer step or less time",
                       PROMQL_STEPS_MAX);
    if (q->root->type == PROMQL_MATRIX)
        return err_set(err, ERR_INVALID, "a range vector has no value at an instant");
    for (int64_t at_ms = from_ms; at_ms <= to_ms && !rc; at_ms += step_ms)
        rc = eval_at(q, s, at_ms, &left, &p, err);
    if (!rc && p.num)
        qsort(p.items, p.num, sizeof(*p.items), by_series_and_time);
    if (!rc)
        put_together(&p, &ret->ranges);
    for (size_t i = 0; i < p.num; i++)
        labels_unref(p.items[i].labels);
    free(p.items);
    return rc;
}
