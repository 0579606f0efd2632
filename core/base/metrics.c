/* Metrics in Prometheus' text format (exposition format 0.0.4).
 *
 * A value is the bits of a double in an atomic word, added to by compare-and-swap; a histogram is a
 * row of such words. A scrape may see a sum that is one observation ahead of a bucket: Prometheus
 * lives with that, and nobody waits. */
#include "core/base/metrics.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

struct metric {
    struct metric *next;
    const struct metric_family *family;
    char *labels;                                    /* a="b",c="d" escaped, without braces */
    _Atomic uint64_t value;                          /* counter, gauge; histogram: sum */
    _Atomic uint64_t counts[METRIC_BUCKETS_MAX + 1]; /* per bucket, the last is +Inf */
};

struct metrics {
    pthread_mutex_t lock;
    struct metric *first, **end;
    struct metric overflow;
    uint32_t num_series;
};

struct metrics *metrics_create(void) {
    struct metrics *m = mem_alloc(sizeof(*m));
    pthread_mutex_init(&m->lock, NULL);
    m->end = &m->first;
    return m;
}

void metrics_destroy(struct metrics *m) {
    if (!m)
        return;
    while (m->first) {
        struct metric *s = m->first;
        m->first = s->next;
        free(s->labels);
        free(s);
    }
    pthread_mutex_destroy(&m->lock);
    free(m);
}

static char *format_labels(const struct metric_family *family, const char *const *values) {
    struct buf out = BUF_INIT;
    buf_reserve(&out, 1);
    for (int i = 0; values && family->labels[i]; i++) {
        buf_printf(&out, "%s%s=\"", i ? "," : "", family->labels[i]);
        for (const char *v = values[i]; *v; v++) {
            if (*v == '\\' || *v == '"')
                buf_putc(&out, '\\');
            if (*v == '\n')
                buf_puts(&out, "\\n");
            else
                buf_putc(&out, *v);
        }
        buf_putc(&out, '"');
    }
    return buf_steal(&out);
}

struct metric *metrics_get(struct metrics *m, const struct metric_family *family,
                           const char *const *values) {
    AUTO_FREE char *labels = format_labels(family, values);
    pthread_mutex_lock(&m->lock);
    struct metric *s = m->first;
    while (s && (s->family != family || strcmp(s->labels, labels) != 0))
        s = s->next;
    if (!s && m->num_series == METRICS_SERIES_MAX) {
        m->overflow.family = family; /* only its bucket bounds are used */
        s = &m->overflow;
    } else if (!s) {
        s = mem_alloc(sizeof(*s));
        s->family = family;
        s->labels = steal(labels);
        *m->end = s;
        m->end = &s->next;
        m->num_series++;
    }
    pthread_mutex_unlock(&m->lock);
    return s;
}

static double from_bits(uint64_t bits) {
    double d;
    memcpy(&d, &bits, sizeof(d));
    return d;
}

static uint64_t to_bits(double d) {
    uint64_t bits;
    memcpy(&bits, &d, sizeof(bits));
    return bits;
}

void metric_add(struct metric *s, double by) {
    uint64_t was = atomic_load_explicit(&s->value, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&s->value, &was, to_bits(from_bits(was) + by),
                                                  memory_order_relaxed, memory_order_relaxed))
        ;
}

void metric_set(struct metric *s, double value) {
    atomic_store_explicit(&s->value, to_bits(value), memory_order_relaxed);
}

void metric_observe(struct metric *s, double value) {
    int i = 0;
    while (i < METRIC_BUCKETS_MAX && s->family->buckets[i] > 0 && value > s->family->buckets[i])
        i++;
    if (i < METRIC_BUCKETS_MAX && s->family->buckets[i] <= 0)
        i = METRIC_BUCKETS_MAX;
    atomic_fetch_add_explicit(&s->counts[i], 1, memory_order_relaxed);
    metric_add(s, value);
}

static uint64_t total_count(const struct metric *s) {
    uint64_t n = 0;
    for (int i = 0; i <= METRIC_BUCKETS_MAX; i++)
        n += atomic_load_explicit(&((struct metric *)s)->counts[i], memory_order_relaxed);
    return n;
}

double metric_value(const struct metric *s) {
    if (s->family->type == METRIC_HISTOGRAM)
        return (double)total_count(s);
    return from_bits(atomic_load_explicit(&((struct metric *)s)->value, memory_order_relaxed));
}

static void put_line(struct buf *out, const struct metric *s, const char *suffix, const char *extra,
                     double value) {
    bool labels = *s->labels || *extra;
    buf_printf(out, "%s%s%s%s%s%s%s ", s->family->name, suffix, labels ? "{" : "", s->labels,
               *s->labels && *extra ? "," : "", extra, labels ? "}" : "");
    if (value == floor(value) && fabs(value) < 1e15)
        buf_printf(out, "%.0f\n", value);
    else
        buf_printf(out, "%.9g\n", value);
}

static void put_histogram(struct buf *out, const struct metric *s) {
    uint64_t n = 0;
    char bound[48];
    for (int i = 0; i < METRIC_BUCKETS_MAX && s->family->buckets[i] > 0; i++) {
        n += atomic_load_explicit(&((struct metric *)s)->counts[i], memory_order_relaxed);
        snprintf(bound, sizeof(bound), "le=\"%g\"", s->family->buckets[i]);
        put_line(out, s, "_bucket", bound, (double)n);
    }
    n += atomic_load_explicit(&((struct metric *)s)->counts[METRIC_BUCKETS_MAX],
                              memory_order_relaxed);
    put_line(out, s, "_bucket", "le=\"+Inf\"", (double)n);
    put_line(out, s, "_sum", "",
             from_bits(atomic_load_explicit(&((struct metric *)s)->value, memory_order_relaxed)));
    put_line(out, s, "_count", "", (double)n);
}

static void put_family(const struct metrics *m, const struct metric_family *family,
                       struct buf *out) {
    static const char *const types[] = {"counter", "gauge", "histogram"};
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", family->name, family->help, family->name,
               types[family->type]);
    for (const struct metric *s = m->first; s; s = s->next) {
        if (s->family != family)
            continue;
        if (family->type == METRIC_HISTOGRAM)
            put_histogram(out, s);
        else
            put_line(out, s, "", "", metric_value(s));
    }
}

void metrics_write(struct metrics *m, struct buf *out) {
    pthread_mutex_lock(&m->lock);
    for (const struct metric *s = m->first; s; s = s->next) {
        const struct metric *earlier = m->first;
        while (earlier->family != s->family)
            earlier = earlier->next;
        if (earlier == s)
            put_family(m, s->family, out);
    }
    pthread_mutex_unlock(&m->lock);
}
