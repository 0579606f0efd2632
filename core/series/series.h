/* Samples of inferd's own metrics, in memory, for rules and queries that look back: what /metrics
 * of the daemon and of each replica said in the last SERIES_KEEP_MS.
 *
 * Any thread puts and any thread reads; a lock guards the table, held for as long as copying takes.
 * What is read is the caller's own copy. Times are ms of the wall clock.
 *
 * Bounded threefold: series, samples of one series (a ring), bytes of all. At the bound of series
 * or bytes a new series is refused, at that of bytes a known one keeps as many samples as it has
 * and the oldest make room; both are counted. */
#ifndef CORE_SERIES_SERIES_H
#define CORE_SERIES_SERIES_H

#include "core/series/labels.h"
#include "core/series/matcher.h"

enum {
    SERIES_MAX = 20000,
    SERIES_SAMPLES_MAX = 512,           /* of one series */
    SERIES_BYTES_MAX = 64 << 20,        /* of all */
    SERIES_KEEP_MS = 30 * 60 * 1000,    /* a series that was not put for so long is forgotten */
    SERIES_LOOKBACK_MS = 5 * 60 * 1000, /* how old the latest sample may be, as in Prometheus */
    SERIES_SELECT_SAMPLES_MAX = 500000, /* that one select gives */
};

struct series_limits { /* 0: the bounds above; tests take smaller ones */
    uint32_t series_max, samples_max;
    size_t bytes_max;
};

struct series;        /* the table of all */
struct series_source; /* one place that is looked at again and again: a replica's /metrics */

struct series *series_create(const struct series_limits *limits); /* NULL: the bounds above */
void series_destroy(struct series *s);
DEFINE_AUTO(series, series_destroy)

/* ---- putting ---- */

/* A source belongs to one thread. */
struct series_source *series_source_open(struct series *s);
/* One sample. ERR_EXHAUSTED: a new series beyond a bound. A time that is not after the last one of
 * the series puts nothing; one that is far before it (the clock was set back) begins it anew. */
MUST_CHECK enum errc series_put(struct series_source *source, const struct label *labels,
                                uint32_t num_labels, int64_t at_ms, double value,
                                struct error *err);
/* The look is over: what was put at the last one and not at this one ends here, at once. */
void series_source_end(struct series_source *source, int64_t at_ms);
/* Nobody looks there any more: all of it ends. NULL is fine. */
void series_source_close(struct series_source *source, int64_t at_ms);

void series_sweep(struct series *s, int64_t now_ms); /* forgets what is older than SERIES_KEEP_MS */

/* ---- reading ---- */

struct series_sample {
    int64_t at_ms;
    double value;
};

struct series_range { /* one series and its samples, oldest first, at least one */
    struct labels *labels;
    struct series_sample *samples;
    uint32_t num_samples;
};

struct series_ranges {
    struct series_range *items; /* sorted by labels_compare() */
    size_t num_items;
};
void series_ranges_deinit(struct series_ranges *r);
#define AUTO_SERIES_RANGES __attribute__((cleanup(series_ranges_deinit))) struct series_ranges

/* The instant vector at `now_ms`: of every series that fulfils all matchers (the metric's name is
 * the label LABEL_NAME) its latest sample at or before now, unless it is older than
 * SERIES_LOOKBACK_MS or the series has ended. Nothing found is OK and empty. ERR_EXHAUSTED: more
 * than SERIES_SELECT_SAMPLES_MAX. *ret is empty on errors. */
MUST_CHECK enum errc series_latest(struct series *s, const struct matcher *matchers,
                                   uint32_t num_matchers, int64_t now_ms, struct series_ranges *ret,
                                   struct error *err);
/* The range vector: all samples after from_ms up to to_ms. Likewise. */
MUST_CHECK enum errc series_range(struct series *s, const struct matcher *matchers,
                                  uint32_t num_matchers, int64_t from_ms, int64_t to_ms,
                                  struct series_ranges *ret, struct error *err);

struct series_stats {
    uint32_t num_series;
    size_t bytes;
    uint64_t refused;   /* samples of new series, at a bound */
    uint64_t shortened; /* samples that took the place of one that would have been kept */
};
void series_stats(struct series *s, struct series_stats *ret);

#endif
