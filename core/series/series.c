/* The table of series: label sets to rings of samples.
 *
 *   hash of labels ──▶ entry ──▶ ring of (time, value), which grows by doubling
 *   hash of name   ──▶ entries of one metric, for selectors (nearly all name one)
 *
 * A series ends with a sample that is no number but the marker STALE, as in Prometheus: from there
 * on it is not part of an instant vector, without the wait of SERIES_LOOKBACK_MS. Ranges leave
 * markers out.
 *
 * A select works in two steps, because a regular expression may be slow and nobody should wait for
 * it: under the lock it takes references to the candidates' labels; it matches them without; under
 * the lock again it copies the samples of those that are still there. */
#include "core/series/series.h"

#include <math.h>
#include <pthread.h>

enum {
    RING_FIRST = 16,
    CLOCK_BACK_MS = 10 * 1000, /* more than this: the clock was set back */
    BUCKETS = 4096,
};

static const uint64_t STALE_BITS = 0x7ff0000000000002; /* Prometheus' own NaN */

struct entry {
    struct entry *by_labels, *by_name; /* next in the bucket */
    struct entry *of_source;           /* next of its source */
    struct series_source *source;      /* who put it last; NULL: closed */
    struct labels *labels;
    uint64_t look; /* of the source, when it was put last */
    struct series_sample *ring;
    uint32_t cap, first, num; /* cap > 0 */
};

struct series {
    pthread_mutex_t lock;
    struct series_limits limits;
    struct entry *by_labels[BUCKETS], *by_name[BUCKETS];
    struct series_stats stats;
};

struct series_source {
    struct series *series;
    struct entry *entries;
    uint64_t look;
};

/* ---- life ---- */

struct series *series_create(const struct series_limits *limits) {
    struct series *s = mem_alloc(sizeof(*s));
    pthread_mutex_init(&s->lock, NULL);
    if (limits)
        s->limits = *limits;
    if (!s->limits.series_max)
        s->limits.series_max = SERIES_MAX;
    if (!s->limits.samples_max)
        s->limits.samples_max = SERIES_SAMPLES_MAX;
    if (!s->limits.bytes_max)
        s->limits.bytes_max = SERIES_BYTES_MAX;
    return s;
}

static size_t entry_bytes(const struct entry *e) {
    return sizeof(*e) + labels_bytes(e->labels) + e->cap * sizeof(*e->ring);
}

static void entry_destroy(struct entry *e) {
    labels_unref(e->labels);
    free(e->ring);
    free(e);
}

void series_destroy(struct series *s) {
    if (!s)
        return;
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct entry *e = s->by_labels[i], *next; e; e = next) {
            next = e->by_labels;
            entry_destroy(e);
        }
    }
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* ---- rings ---- */

static struct series_sample *at(const struct entry *e, uint32_t i) {
    uint32_t k = e->first + i; /* below 2 * cap */
    return &e->ring[k < e->cap ? k : k - e->cap];
}

static double stale_marker(void) {
    double d;
    memcpy(&d, &STALE_BITS, sizeof(d));
    return d;
}

static bool is_stale(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits == STALE_BITS;
}

static bool ended(const struct entry *e) {
    return !e->num || is_stale(at(e, e->num - 1)->value);
}

static void drop_oldest(struct entry *e) {
    e->first = e->first + 1 == e->cap ? 0 : e->first + 1;
    e->num--;
}

/* Room for one more, by what is too old, by growing, or by the oldest. */
static void make_room(struct series *s, struct entry *e, int64_t now_ms) {
    while (e->num && at(e, 0)->at_ms < now_ms - SERIES_KEEP_MS)
        drop_oldest(e);
    if (e->num < e->cap)
        return;
    uint32_t cap = e->cap * 2 < s->limits.samples_max ? e->cap * 2 : s->limits.samples_max;
    size_t more = (cap - e->cap) * sizeof(*e->ring);
    if (more && s->stats.bytes + more <= s->limits.bytes_max) {
        struct series_sample *ring = mem_array(cap, sizeof(*ring));
        for (uint32_t i = 0; i < e->num; i++)
            ring[i] = *at(e, i);
        free(e->ring);
        e->ring = ring;
        e->cap = cap;
        e->first = 0;
        s->stats.bytes += more;
        return;
    }
    drop_oldest(e);
    s->stats.shortened++;
}

static void append(struct series *s, struct entry *e, int64_t at_ms, double value) {
    if (e->num) {
        int64_t last_ms = at(e, e->num - 1)->at_ms;
        if (at_ms <= last_ms && last_ms - at_ms <= CLOCK_BACK_MS)
            return;
        if (at_ms < last_ms)
            e->first = e->num = 0;
    }
    make_room(s, e, at_ms);
    e->num++;
    *at(e, e->num - 1) = (struct series_sample){at_ms, value};
}

/* ---- the table ---- */

static uint64_t hash_name(const char *name) {
    uint64_t hash = 0xcbf29ce484222325;
    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * 0x100000001b3;
    return hash;
}

static struct entry **name_bucket(struct series *s, const char *name) {
    return &s->by_name[hash_name(name) % BUCKETS];
}

static struct entry *find(struct series *s, const struct labels *labels) {
    struct entry *e = s->by_labels[labels->hash % BUCKETS];
    while (e && !labels_equal(e->labels, labels))
        e = e->by_labels;
    return e;
}

/* NULL: at a bound. Shares labels. */
static struct entry *add(struct series *s, struct labels *labels) {
    uint32_t cap = RING_FIRST < s->limits.samples_max ? RING_FIRST : s->limits.samples_max;
    struct entry probe = {.labels = labels, .cap = cap};
    if (s->stats.num_series >= s->limits.series_max ||
        s->stats.bytes + entry_bytes(&probe) > s->limits.bytes_max)
        return NULL;
    struct entry *e = mem_alloc(sizeof(*e));
    e->labels = labels_ref(labels);
    e->cap = cap;
    e->ring = mem_array(cap, sizeof(*e->ring));
    struct entry **bucket = &s->by_labels[labels->hash % BUCKETS];
    e->by_labels = *bucket;
    *bucket = e;
    bucket = name_bucket(s, labels_get(labels, LABEL_NAME));
    e->by_name = *bucket;
    *bucket = e;
    s->stats.num_series++;
    s->stats.bytes += entry_bytes(e);
    return e;
}

static void leave_source(struct entry *e) {
    if (!e->source)
        return;
    struct entry **p = &e->source->entries;
    while (*p != e)
        p = &(*p)->of_source;
    *p = e->of_source;
    e->source = NULL;
}

static void forget(struct series *s, struct entry *e) {
    struct entry **p = name_bucket(s, labels_get(e->labels, LABEL_NAME));
    while (*p != e)
        p = &(*p)->by_name;
    *p = e->by_name;
    leave_source(e);
    s->stats.num_series--;
    s->stats.bytes -= entry_bytes(e);
    entry_destroy(e);
}

void series_sweep(struct series *s, int64_t now_ms) {
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct entry **p = &s->by_labels[i]; *p;) {
            struct entry *e = *p;
            if (e->num && at(e, e->num - 1)->at_ms >= now_ms - SERIES_KEEP_MS) {
                p = &e->by_labels;
                continue;
            }
            *p = e->by_labels;
            forget(s, e);
        }
    }
    pthread_mutex_unlock(&s->lock);
}

/* ---- sources ---- */

struct series_source *series_source_open(struct series *s) {
    struct series_source *source = mem_alloc(sizeof(*source));
    source->series = s;
    source->look = 1;
    return source;
}

enum errc series_put(struct series_source *source, const struct label *items, uint32_t num,
                     int64_t at_ms, double value, struct error *err) {
    struct series *s = source->series;
    AUTO(labels) labels = labels_create(items, num);
    pthread_mutex_lock(&s->lock);
    struct entry *e = find(s, labels);
    if (!e)
        e = add(s, labels);
    if (e && e->source != source) { /* a replica that was started anew, say */
        leave_source(e);
        e->source = source;
        e->of_source = source->entries;
        source->entries = e;
    }
    if (e) {
        e->look = source->look;
        append(s, e, at_ms, value);
    } else {
        s->stats.refused++;
    }
    pthread_mutex_unlock(&s->lock);
    if (!e)
        return err_set(err, ERR_EXHAUSTED,
                       "%s: no room for a new series, at most %u series and %zu bytes are kept",
                       labels_get(labels, LABEL_NAME), s->limits.series_max, s->limits.bytes_max);
    return OK;
}

static void end_missing(struct series_source *source, int64_t at_ms) {
    for (struct entry *e = source->entries; e; e = e->of_source) {
        if (e->look != source->look && !ended(e))
            append(source->series, e, at_ms, stale_marker());
    }
}

void series_source_end(struct series_source *source, int64_t at_ms) {
    pthread_mutex_lock(&source->series->lock);
    end_missing(source, at_ms);
    source->look++;
    pthread_mutex_unlock(&source->series->lock);
}

void series_source_close(struct series_source *source, int64_t at_ms) {
    if (!source)
        return;
    pthread_mutex_lock(&source->series->lock);
    source->look++; /* nothing was put at this one */
    end_missing(source, at_ms);
    while (source->entries)
        leave_source(source->entries);
    pthread_mutex_unlock(&source->series->lock);
    free(source);
}

/* ---- reading ---- */

void series_ranges_deinit(struct series_ranges *r) {
    for (size_t i = 0; i < r->num_items; i++) {
        labels_unref(r->items[i].labels);
        free(r->items[i].samples);
    }
    free(r->items);
    *r = (struct series_ranges){0};
}

struct candidates {
    struct labels **items;
    size_t num, cap;
};

static void take_candidate(struct candidates *c, struct entry *e) {
    if (c->num == c->cap) {
        c->cap = c->cap ? c->cap * 2 : 64;
        c->items = mem_realloc(c->items, c->cap * sizeof(struct labels *));
    }
    c->items[c->num++] = labels_ref(e->labels);
}

static void find_candidates(struct series *s, const struct matcher *matchers, uint32_t num,
                            struct candidates *ret) {
    const char *name = NULL;
    for (uint32_t i = 0; i < num && !name; i++) {
        if (matchers[i].op == MATCHER_EQUAL && !strcmp(matchers[i].name, LABEL_NAME))
            name = matchers[i].value;
    }
    pthread_mutex_lock(&s->lock);
    if (name) {
        for (struct entry *e = *name_bucket(s, name); e; e = e->by_name)
            take_candidate(ret, e);
    } else {
        for (size_t i = 0; i < BUCKETS; i++) {
            for (struct entry *e = s->by_labels[i]; e; e = e->by_labels)
                take_candidate(ret, e);
        }
    }
    pthread_mutex_unlock(&s->lock);
}

static bool fulfils(const struct labels *labels, const struct matcher *matchers, uint32_t num) {
    for (uint32_t i = 0; i < num; i++) {
        if (!matcher_matches(&matchers[i], labels))
            return false;
    }
    return true;
}

/* What is asked of each series. */
struct span {
    int64_t from_ms, to_ms; /* samples after the one, up to the other */
    bool latest;            /* only the last of them, and none when that is a marker */
};

static void copy_samples(const struct entry *e, const struct span *span, struct series_range *ret) {
    uint32_t end = e->num;
    while (end && at(e, end - 1)->at_ms > span->to_ms)
        end--;
    uint32_t begin = end;
    while (begin && at(e, begin - 1)->at_ms > span->from_ms && !(span->latest && begin < end))
        begin--;
    if (begin == end)
        return;
    ret->samples = mem_array(end - begin, sizeof(*ret->samples));
    for (uint32_t i = begin; i < end; i++) {
        if (!is_stale(at(e, i)->value))
            ret->samples[ret->num_samples++] = *at(e, i);
    }
}

static int by_labels(const void *a, const void *b) {
    return labels_compare(((const struct series_range *)a)->labels,
                          ((const struct series_range *)b)->labels);
}

static enum errc copy_all(struct series *s, struct candidates *c, const struct span *span,
                          struct series_ranges *ret, struct error *err) {
    size_t num_samples = 0;
    ret->items = mem_array(c->num ? c->num : 1, sizeof(*ret->items));
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < c->num && num_samples <= SERIES_SELECT_SAMPLES_MAX; i++) {
        struct entry *e = c->items[i] ? find(s, c->items[i]) : NULL;
        struct series_range *r = &ret->items[ret->num_items];
        if (!e)
            continue;
        copy_samples(e, span, r);
        if (r->num_samples) {
            r->labels = labels_ref(e->labels);
            num_samples += r->num_samples;
            ret->num_items++;
        } else {
            free(steal(r->samples));
        }
    }
    pthread_mutex_unlock(&s->lock);
    if (num_samples > SERIES_SELECT_SAMPLES_MAX) {
        series_ranges_deinit(ret);
        return err_set(err, ERR_EXHAUSTED, "more than %d samples would be read",
                       SERIES_SELECT_SAMPLES_MAX);
    }
    qsort(ret->items, ret->num_items, sizeof(*ret->items), by_labels);
    return OK;
}

static enum errc select_span(struct series *s, const struct matcher *matchers, uint32_t num,
                             const struct span *span, struct series_ranges *ret,
                             struct error *err) {
    struct candidates c = {0};
    *ret = (struct series_ranges){0};
    find_candidates(s, matchers, num, &c);
    for (size_t i = 0; i < c.num; i++) {
        if (!fulfils(c.items[i], matchers, num))
            labels_unref(steal(c.items[i]));
    }
    enum errc rc = copy_all(s, &c, span, ret, err);
    for (size_t i = 0; i < c.num; i++)
        labels_unref(c.items[i]);
    free(c.items);
    return rc;
}

enum errc series_latest(struct series *s, const struct matcher *matchers, uint32_t num_matchers,
                        int64_t now_ms, struct series_ranges *ret, struct error *err) {
    const struct span span = {
        .from_ms = now_ms - SERIES_LOOKBACK_MS, .to_ms = now_ms, .latest = true};
    return select_span(s, matchers, num_matchers, &span, ret, err);
}

enum errc series_range(struct series *s, const struct matcher *matchers, uint32_t num_matchers,
                       int64_t from_ms, int64_t to_ms, struct series_ranges *ret,
                       struct error *err) {
    const struct span span = {.from_ms = from_ms, .to_ms = to_ms};
    return select_span(s, matchers, num_matchers, &span, ret, err);
}

void series_stats(struct series *s, struct series_stats *ret) {
    pthread_mutex_lock(&s->lock);
    *ret = s->stats;
    pthread_mutex_unlock(&s->lock);
}
