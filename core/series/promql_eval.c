/* From a tree and an instant to a value.
 *
 * Vectors are arrays of (labels, value). Pairs for an operator between two vectors are found by
 * their signature, the labels that count for the match: the right side is sorted by it, the left
 * side looks its partner up. What comes out of an operation has unique labels, or it is an error,
 * as in Prometheus.
 *
 * Source: prometheus.io/docs/prometheus/latest/querying/operators. */
#include <math.h>

#include "core/base/buf.h"
#include "core/series/promql_node.h"

void promql_value_deinit(struct promql_value *v) {
    for (size_t i = 0; i < v->num_items; i++)
        labels_unref(v->items[i].labels);
    free(v->items);
    series_ranges_deinit(&v->ranges);
    *v = (struct promql_value){0};
}

/* ---- vectors ---- */

void promql_append(struct promql_value *v, struct labels *labels, double value) {
    if (!(v->num_items & (v->num_items - 1))) { /* a power of two, or none: it is full */
        size_t cap = v->num_items ? v->num_items * 2 : 1;
        v->items = mem_realloc(v->items, cap * sizeof(*v->items));
    }
    v->items[v->num_items++] = (struct promql_sample){labels, value};
}

static bool is_listed(const struct promql_grouping *g, const char *name) {
    for (uint32_t i = 0; i < g->num_labels; i++) {
        if (!strcmp(g->labels[i], name))
            return true;
    }
    return false;
}

struct labels *promql_grouped(const struct labels *l, const struct promql_grouping *g) {
    struct label kept[LABELS_MAX];
    uint32_t num = 0;
    for (uint32_t i = 0; i < l->num; i++) {
        bool is_name = !strcmp(l->items[i].name, LABEL_NAME);
        bool listed = is_listed(g, l->items[i].name);
        if (g->complement ? !listed && !is_name : listed)
            kept[num++] = l->items[i];
    }
    return labels_create(kept, num);
}

struct labels *promql_nameless(const struct labels *l) {
    static const struct promql_grouping all = {.given = true, .complement = true};
    return promql_grouped(l, &all);
}

static int by_labels(const void *a, const void *b) {
    const struct promql_sample *x = a, *y = b;
    return labels_compare(x->labels, y->labels);
}

static void describe(const struct labels *l, struct buf *out) {
    buf_putc(out, '{');
    for (uint32_t i = 0; i < l->num; i++)
        buf_printf(out, "%s%s=\"%s\"", i ? ", " : "", l->items[i].name, l->items[i].value);
    buf_putc(out, '}');
}

enum errc promql_check_unique(const struct promql_value *v, struct error *err) {
    struct promql_sample *sorted = mem_array(v->num_items + 1, sizeof(*sorted));
    enum errc rc = OK;
    if (v->num_items)
        memcpy(sorted, v->items, v->num_items * sizeof(*sorted));
    qsort(sorted, v->num_items, sizeof(*sorted), by_labels);
    for (size_t i = 1; i < v->num_items && !rc; i++) {
        if (labels_equal(sorted[i].labels, sorted[i - 1].labels)) {
            AUTO_BUF text = BUF_INIT;
            describe(sorted[i].labels, &text);
            rc = err_set(err, ERR_INVALID,
                         "vector cannot contain metrics with the same labelset: %.300s", text.data);
        }
    }
    free(sorted);
    return rc;
}

static int by_value(const void *a, const void *b) { /* NaN first */
    double x = *(const double *)a, y = *(const double *)b;
    if (isnan(x) || isnan(y))
        return isnan(y) - isnan(x);
    return x < y ? -1 : x > y;
}

double promql_quantile(double q, double *values, size_t num) {
    if (!num || isnan(q))
        return NAN;
    if (q < 0 || q > 1)
        return q < 0 ? -INFINITY : INFINITY;
    qsort(values, num, sizeof(*values), by_value);
    double rank = q * (double)(num - 1);
    size_t lower = (size_t)floor(rank), upper = lower + 1 < num ? lower + 1 : num - 1;
    double share = rank - floor(rank);
    return values[lower] * (1 - share) + values[upper] * share;
}

/* ---- selectors ---- */

static bool names_metric(const struct promql_node *n) {
    for (uint32_t i = 0; i < n->num_matchers; i++) {
        if (n->matchers[i].op == MATCHER_EQUAL && !strcmp(n->matchers[i].name, LABEL_NAME))
            return true;
    }
    return false;
}

/* What was read is paid for; a selector without a name looks at every series. */
static enum errc pay(const struct promql_eval *e, const struct promql_node *n,
                     const struct series_ranges *found, struct error *err) {
    struct series_stats stats = {0};
    if (!names_metric(n))
        series_stats(e->series, &stats);
    *e->samples_left -= stats.num_series + 1;
    for (size_t i = 0; i < found->num_items; i++)
        *e->samples_left -= found->items[i].num_samples;
    if (*e->samples_left < 0)
        return err_set(err, ERR_EXHAUSTED, "the query reads more than %d samples",
                       PROMQL_SAMPLES_MAX);
    return OK;
}

static enum errc eval_selector(const struct promql_eval *e, const struct promql_node *n,
                               struct promql_value *ret, struct error *err) {
    int64_t end_ms = e->now_ms - n->offset_ms;
    ret->type = n->type;
    if (n->type == PROMQL_MATRIX) {
        enum errc rc = series_range(e->series, n->matchers, n->num_matchers, end_ms - n->range_ms,
                                    end_ms, &ret->ranges, err);
        return rc ? rc : pay(e, n, &ret->ranges, err);
    }
    AUTO_SERIES_RANGES found = {0};
    if (series_latest(e->series, n->matchers, n->num_matchers, end_ms, &found, err) ||
        pay(e, n, &found, err))
        return err->code;
    for (size_t i = 0; i < found.num_items; i++)
        promql_append(ret, labels_ref(found.items[i].labels), found.items[i].samples->value);
    return OK;
}

/* ---- operators ---- */

/* False: a comparison does not hold. */
static bool apply(enum promql_op op, double x, double y, double *ret) {
    *ret = x;
    switch (op) {
    case OP_EQUAL:
        return x == y;
    case OP_NOT_EQUAL:
        return x != y;
    case OP_LESS:
        return x < y;
    case OP_LESS_EQUAL:
        return x <= y;
    case OP_GREATER:
        return x > y;
    case OP_GREATER_EQUAL:
        return x >= y;
    case OP_ADD:
        *ret = x + y;
        return true;
    case OP_SUBTRACT:
        *ret = x - y;
        return true;
    case OP_MULTIPLY:
        *ret = x * y;
        return true;
    case OP_DIVIDE:
        *ret = x / y;
        return true;
    case OP_MODULO:
        *ret = fmod(x, y);
        return true;
    case OP_POWER:
        *ret = pow(x, y);
        return true;
    default:
        return false; /* sets know no numbers */
    }
}

static bool drops_name(const struct promql_node *n) {
    return !promql_op_compares(n->op) || n->returns_bool;
}

static void with_scalar(const struct promql_node *n, const struct promql_value *vector,
                        double scalar, bool scalar_first, struct promql_value *ret) {
    for (size_t i = 0; i < vector->num_items; i++) {
        const struct promql_sample *s = &vector->items[i];
        double value;
        bool holds = scalar_first ? apply(n->op, scalar, s->value, &value)
                                  : apply(n->op, s->value, scalar, &value);
        if (n->returns_bool)
            value = holds;
        else if (!holds)
            continue;
        else if (promql_op_compares(n->op))
            value = s->value;
        promql_append(ret, drops_name(n) ? promql_nameless(s->labels) : labels_ref(s->labels),
                      value);
    }
}

/* The labels by which partners are found. */
static struct labels *signature(const struct promql_node *n, const struct labels *l) {
    return n->grouping.given ? promql_grouped(l, &n->grouping) : promql_nameless(l);
}

/* One side, by signature: pairs of it and the index into the vector. */
struct side {
    struct promql_sample *items; /* labels: the signature; value: the index */
    size_t num;
};

static void make_side(const struct promql_node *n, const struct promql_value *v, struct side *ret) {
    ret->num = v->num_items;
    ret->items = mem_array(v->num_items + 1, sizeof(*ret->items));
    for (size_t i = 0; i < v->num_items; i++)
        ret->items[i] = (struct promql_sample){signature(n, v->items[i].labels), (double)i};
    qsort(ret->items, ret->num, sizeof(*ret->items), by_labels);
}

static void free_side(struct side *s) {
    for (size_t i = 0; i < s->num; i++)
        labels_unref(s->items[i].labels);
    free(s->items);
}

static const struct promql_sample *find_in(const struct side *s, struct labels *signature_of) {
    const struct promql_sample key = {.labels = signature_of};
    return s->num ? bsearch(&key, s->items, s->num, sizeof(key), by_labels) : NULL;
}

static enum errc not_unique(const struct labels *signature_of, const char *side,
                            struct error *err) {
    AUTO_BUF text = BUF_INIT;
    describe(signature_of, &text);
    return err_set(err, ERR_INVALID,
                   "found duplicate series for the match group %.300s on the %s hand-side of the "
                   "operation: matching labels must be unique on both sides",
                   text.data, side);
}

static enum errc check_side(const struct side *s, struct error *err) {
    for (size_t i = 1; i < s->num; i++) {
        if (labels_equal(s->items[i].labels, s->items[i - 1].labels))
            return not_unique(s->items[i].labels, "right", err);
    }
    return OK;
}

static void combine_sets(const struct promql_node *n, const struct promql_value *left,
                         const struct promql_value *right, struct promql_value *ret) {
    struct side of_left, of_right;
    make_side(n, left, &of_left);
    make_side(n, right, &of_right);
    for (size_t i = 0; i < left->num_items; i++) {
        AUTO(labels) own = signature(n, left->items[i].labels);
        bool in_right = find_in(&of_right, own) != NULL;
        if (n->op == OP_OR || in_right == (n->op == OP_AND))
            promql_append(ret, labels_ref(left->items[i].labels), left->items[i].value);
    }
    for (size_t i = 0; i < right->num_items && n->op == OP_OR; i++) {
        AUTO(labels) own = signature(n, right->items[i].labels);
        if (!find_in(&of_left, own))
            promql_append(ret, labels_ref(right->items[i].labels), right->items[i].value);
    }
    free_side(&of_left);
    free_side(&of_right);
}

/* The left side's labels that count for the match; a filter leaves the name, unless on says else.
 */
static struct labels *result_labels(const struct promql_node *n, const struct labels *left) {
    struct label kept[LABELS_MAX];
    uint32_t num = 0;
    if (n->grouping.given && n->grouping.complement && !drops_name(n)) {
        for (uint32_t i = 0; i < left->num; i++) {
            if (!is_listed(&n->grouping, left->items[i].name))
                kept[num++] = left->items[i];
        }
        return labels_create(kept, num);
    }
    if (n->grouping.given)
        return promql_grouped(left, &n->grouping);
    return drops_name(n) ? promql_nameless(left) : labels_ref((struct labels *)(uintptr_t)left);
}

static enum errc pair_up(const struct promql_node *n, const struct promql_value *left,
                         const struct promql_value *right, struct promql_value *ret,
                         struct error *err) {
    struct side of_left, of_right;
    make_side(n, left, &of_left);
    make_side(n, right, &of_right);
    const struct labels *kept = NULL; /* of the last pair: pairs come in order of signatures */
    enum errc rc = check_side(&of_right, err);
    for (size_t i = 0; i < of_left.num && !rc; i++) {
        const struct promql_sample *partner = find_in(&of_right, of_left.items[i].labels);
        if (!partner)
            continue;
        const struct promql_sample *x = &left->items[(size_t)of_left.items[i].value];
        double value;
        bool holds = apply(n->op, x->value, right->items[(size_t)partner->value].value, &value);
        if (n->returns_bool)
            value = holds;
        else if (!holds)
            continue;
        if (kept && labels_equal(kept, of_left.items[i].labels)) {
            rc = not_unique(kept, "left", err);
            break;
        }
        kept = of_left.items[i].labels;
        promql_append(ret, result_labels(n, x->labels), value);
    }
    free_side(&of_left);
    free_side(&of_right);
    return rc;
}

static enum errc eval_binary(const struct promql_node *n, const struct promql_value *args,
                             struct promql_value *ret, struct error *err) {
    const struct promql_value *left = &args[0], *right = &args[1];
    ret->type = n->type;
    if (n->type == PROMQL_SCALAR) {
        bool holds = apply(n->op, left->scalar, right->scalar, &ret->scalar);
        if (n->returns_bool)
            ret->scalar = holds;
        return OK;
    }
    if (left->type == PROMQL_SCALAR)
        with_scalar(n, right, left->scalar, true, ret);
    else if (right->type == PROMQL_SCALAR)
        with_scalar(n, left, right->scalar, false, ret);
    else if (promql_op_is_set(n->op))
        combine_sets(n, left, right, ret);
    else if (pair_up(n, left, right, ret, err))
        return err->code;
    return promql_check_unique(ret, err);
}

static enum errc eval_negative(const struct promql_value *arg, struct promql_value *ret,
                               struct error *err) {
    ret->type = arg->type;
    ret->scalar = -arg->scalar;
    for (size_t i = 0; i < arg->num_items; i++)
        promql_append(ret, promql_nameless(arg->items[i].labels), -arg->items[i].value);
    return promql_check_unique(ret, err);
}

/* ---- aggregates ---- */

static double aggregate_values(enum promql_aggregate a, double parameter, double *values,
                               size_t num) {
    double result = a == AGGREGATE_MIN || a == AGGREGATE_MAX ? values[0] : 0;
    for (size_t i = 0; i < num; i++) {
        if (a == AGGREGATE_SUM || a == AGGREGATE_AVG)
            result += values[i];
        else if ((a == AGGREGATE_MIN && (values[i] < result || isnan(result))) ||
                 (a == AGGREGATE_MAX && (values[i] > result || isnan(result))))
            result = values[i];
    }
    if (a == AGGREGATE_AVG)
        return result / (double)num;
    if (a == AGGREGATE_QUANTILE)
        return promql_quantile(parameter, values, num);
    return a == AGGREGATE_COUNT ? (double)num : a == AGGREGATE_GROUP ? 1 : result;
}

static int by_size_up(const void *a, const void *b) { /* NaN last, as the least wanted */
    const struct promql_sample *x = a, *y = b;
    if (isnan(x->value) || isnan(y->value))
        return isnan(x->value) - isnan(y->value);
    return x->value < y->value   ? -1
           : x->value > y->value ? 1
                                 : labels_compare(x->labels, y->labels);
}

static int by_size_down(const void *a, const void *b) {
    const struct promql_sample *x = a, *y = b;
    if (isnan(x->value) || isnan(y->value))
        return isnan(x->value) - isnan(y->value);
    return x->value > y->value   ? -1
           : x->value < y->value ? 1
                                 : labels_compare(x->labels, y->labels);
}

/* The samples of a group: the first k in order, with their own labels; or one for all. */
static void add_group(const struct promql_node *n, struct promql_sample *group, size_t num,
                      struct labels *labels, double parameter, struct promql_value *ret) {
    if (n->aggregate == AGGREGATE_TOPK || n->aggregate == AGGREGATE_BOTTOMK) {
        size_t k = !(parameter >= 1) ? 0 : parameter > (double)num ? num : (size_t)parameter;
        qsort(group, num, sizeof(*group),
              n->aggregate == AGGREGATE_TOPK ? by_size_down : by_size_up);
        for (size_t i = 0; i < k; i++)
            promql_append(ret, labels_ref(group[i].labels), group[i].value);
        return;
    }
    double *values = mem_array(num, sizeof(*values));
    for (size_t i = 0; i < num; i++)
        values[i] = group[i].value;
    promql_append(ret, labels_ref(labels), aggregate_values(n->aggregate, parameter, values, num));
    free(values);
}

static void eval_aggregate(const struct promql_node *n, const struct promql_value *args,
                           struct promql_value *ret) {
    const struct promql_value *v = &args[0];
    struct promql_node grouped = {.grouping = n->grouping};
    grouped.grouping.given = true; /* without by and without: by no label */
    struct side side;
    ret->type = PROMQL_VECTOR;
    make_side(&grouped, v, &side);
    struct promql_sample *group = mem_array(v->num_items + 1, sizeof(*group));
    for (size_t from = 0, to; from < side.num; from = to) {
        size_t num = 0;
        for (to = from;
             to < side.num && labels_equal(side.items[to].labels, side.items[from].labels); to++)
            group[num++] = v->items[(size_t)side.items[to].value];
        add_group(n, group, num, side.items[from].labels, args[1].scalar, ret);
    }
    free(group);
    free_side(&side);
}

/* ---- all ---- */

enum errc promql_eval_node(const struct promql_eval *e, const struct promql_node *n,
                           struct promql_value *ret, struct error *err) {
    struct promql_value args[PROMQL_ARGS_MAX] = {0};
    enum errc rc = OK;
    *ret = (struct promql_value){.type = n->type};
    for (uint32_t i = 0; i < n->num_args && !rc; i++)
        rc = promql_eval_node(e, n->args[i], &args[i], err);
    if (!rc) {
        switch (n->kind) {
        case PROMQL_NUMBER_NODE:
            ret->scalar = n->number;
            break;
        case PROMQL_SELECTOR:
            rc = eval_selector(e, n, ret, err);
            break;
        case PROMQL_NEGATIVE:
            rc = eval_negative(&args[0], ret, err);
            break;
        case PROMQL_BINARY:
            rc = eval_binary(n, args, ret, err);
            break;
        case PROMQL_AGGREGATE:
            eval_aggregate(n, args, ret);
            break;
        case PROMQL_CALL:
            rc = promql_call(e, n, args, ret, err);
            break;
        }
    }
    for (uint32_t i = 0; i < n->num_args; i++)
        promql_value_deinit(&args[i]);
    if (rc)
        promql_value_deinit(ret);
    return rc;
}

enum errc promql_eval(const struct promql *q, struct series *s, int64_t now_ms,
                      struct promql_value *ret, struct error *err) {
    int64_t left = PROMQL_SAMPLES_MAX;
    const struct promql_eval e = {.series = s, .now_ms = now_ms, .samples_left = &left};
    return promql_eval_node(&e, q->root, ret, err);
}
