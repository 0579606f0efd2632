/* One query per figure, each grouped by service, so that the cost is that of reading the table six
 * times whatever the number of services. They are the queries that an operator would put to
 * Prometheus; vLLM's names, which inferd's own engine has too.
 *
 * The first one, `up`, says which services there are; it comes from the look itself and not from
 * the replicas, so it is there when they say nothing. */
#include "core/control/replica_figures.h"

#include <math.h>
#include <pthread.h>

#include "core/base/log.h"
#include "core/series/promql.h"

#define BY_SERVICE "by (namespace, inferenceservice) "

enum { QUERIES = 6 };

struct query {
    const char *text;
    size_t offset; /* into struct replica_figure */
};
#define AT(field) offsetof(struct replica_figure, field)

static const struct query queries[QUERIES] = {
    {"min " BY_SERVICE "(up{inferenceservice!=\"\"})", AT(up)},
    {"avg " BY_SERVICE "(vllm:kv_cache_usage_perc)", AT(kv_usage)},
    {"sum " BY_SERVICE "(inferd_queued_prompt_tokens)", AT(queued_tokens)},
    {"histogram_quantile(0.95, sum by (namespace, inferenceservice, le) "
     "(rate(vllm:time_to_first_token_seconds_bucket[1m])))",
     AT(ttft_p95_seconds)},
    {"histogram_quantile(0.95, sum by (namespace, inferenceservice, le) "
     "(rate(vllm:inter_token_latency_seconds_bucket[1m])))",
     AT(itl_p95_seconds)},
    {"sum " BY_SERVICE "(rate(vllm:generation_tokens_total[1m]))", AT(tokens_per_second)},
};

struct figure_reader {
    struct series *series;
    struct promql *queries[QUERIES];
    bool failing; /* said so in the log */
    pthread_mutex_t lock;
    struct replica_figures *latest;
};

/* ---- snapshots ---- */

void replica_figures_unref(struct replica_figures *f) {
    if (!f || --f->refs)
        return;
    for (size_t i = 0; i < f->num_items; i++) {
        free(f->items[i].ns);
        free(f->items[i].service);
    }
    free(f->items);
    free(f);
}

static int by_name(const void *a, const void *b) {
    const struct replica_figure *x = a, *y = b;
    int order = strcmp(x->ns, y->ns);
    return order ? order : strcmp(x->service, y->service);
}

const struct replica_figure *replica_figures_find(const struct replica_figures *f, const char *ns,
                                                  const char *service) {
    const struct replica_figure key = {.ns = (char *)ns, .service = (char *)service};
    if (!f || !f->num_items)
        return NULL;
    return bsearch(&key, f->items, f->num_items, sizeof(key), by_name);
}

/* ---- asking ---- */

struct figure_reader *figure_reader_create(struct series *s) {
    struct figure_reader *r = mem_alloc(sizeof(*r));
    struct error err = ERROR_INIT;
    r->series = s;
    pthread_mutex_init(&r->lock, NULL);
    for (size_t i = 0; i < QUERIES; i++) {
        enum errc rc = promql_parse(queries[i].text, &r->queries[i], &err);
        ASSERT(!rc); /* they are ours */
    }
    return r;
}

void figure_reader_destroy(struct figure_reader *r) {
    if (!r)
        return;
    for (size_t i = 0; i < QUERIES; i++)
        promql_destroy(r->queries[i]);
    replica_figures_unref(r->latest);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

/* The services that were looked at, each with nothing known. */
static struct replica_figures *list_services(const struct promql_value *up) {
    struct replica_figures *f = mem_alloc(sizeof(*f));
    f->refs = 1;
    f->num_items = up->num_items;
    f->items = mem_array(up->num_items + 1, sizeof(f->items[0]));
    for (size_t i = 0; i < up->num_items; i++) {
        const struct labels *l = up->items[i].labels;
        f->items[i] =
            (struct replica_figure){.ns = mem_strdup(labels_get(l, "namespace")),
                                    .service = mem_strdup(labels_get(l, "inferenceservice")),
                                    .up = up->items[i].value,
                                    .kv_usage = -1,
                                    .queued_tokens = -1,
                                    .ttft_p95_seconds = -1,
                                    .itl_p95_seconds = -1,
                                    .tokens_per_second = -1};
    }
    qsort(f->items, f->num_items, sizeof(f->items[0]), by_name);
    return f;
}

static void fill(struct replica_figures *f, const struct promql_value *v, size_t offset) {
    for (size_t i = 0; i < v->num_items; i++) {
        const struct labels *l = v->items[i].labels;
        const struct replica_figure *found =
            replica_figures_find(f, labels_get(l, "namespace"), labels_get(l, "inferenceservice"));
        double value = v->items[i].value;
        if (found && isfinite(value) && value >= 0) /* NaN: a quantile of nothing */
            *(double *)(void *)((char *)found + offset) = value;
    }
}

static void publish(struct figure_reader *r, struct replica_figures *f) {
    pthread_mutex_lock(&r->lock);
    struct replica_figures *was = r->latest;
    r->latest = f;
    pthread_mutex_unlock(&r->lock);
    replica_figures_unref(was);
}

void figure_reader_update(struct figure_reader *r, int64_t wall_ms) {
    struct error err = ERROR_INIT;
    struct replica_figures *f = NULL;
    struct log_quoted q;
    enum errc rc = OK, failed = OK;
    for (size_t i = 0; i < QUERIES && (f || !i); i++) {
        AUTO_PROMQL_VALUE v = {0};
        rc = promql_eval(r->queries[i], r->series, wall_ms, &v, &err);
        if (!i)
            f = list_services(&v);
        else if (!rc)
            fill(f, &v, queries[i].offset);
        failed = rc ? rc : failed;
    }
    if (failed && !r->failing)
        log_warn("figures of replicas cannot be computed, deciding without", "error=%s",
                 log_quote(&q, err.text));
    r->failing = failed != OK;
    publish(r, f);
}

struct replica_figures *figure_reader_latest(struct figure_reader *r) {
    pthread_mutex_lock(&r->lock);
    struct replica_figures *f = r->latest;
    if (f)
        f->refs++;
    pthread_mutex_unlock(&r->lock);
    return f;
}
