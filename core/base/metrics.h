/* Metrics in Prometheus' text format. A registry holds series; a series is a family plus label
 * values. Finding a series takes a lock, updating one is lock-free: keep the pointer.
 *
 * Names and units follow Prometheus' rules: base units, _total on counters. Label values must come
 * from the program or from object names, never from what a user typed into a request. */
#ifndef CORE_BASE_METRICS_H
#define CORE_BASE_METRICS_H

#include "core/base/buf.h"

enum { METRIC_LABELS_MAX = 6, METRIC_BUCKETS_MAX = 24, METRICS_SERIES_MAX = 10000 };

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric_family { /* a static constant of the file that counts */
    enum metric_type type;
    const char *name, *help;
    const char *labels[METRIC_LABELS_MAX + 1]; /* names, NULL-terminated */
    double buckets[METRIC_BUCKETS_MAX]; /* upper bounds, ascending; 0 ends; +Inf is implied */
};

struct metrics;
struct metric;

struct metrics *metrics_create(void);
void metrics_destroy(struct metrics *m);
DEFINE_AUTO(metrics, metrics_destroy)

/* The series of a family with these label values (one per label name, in order; NULL when there are
 * none), made at the first call; borrowed for the registry's life. Beyond METRICS_SERIES_MAX series
 * all new ones share one that is not written out. */
struct metric *metrics_get(struct metrics *m, const struct metric_family *family,
                           const char *const *values);

void metric_add(struct metric *s, double by); /* counters: by >= 0 */
void metric_set(struct metric *s, double value);
void metric_observe(struct metric *s, double value);
double metric_value(const struct metric *s); /* of a histogram: its count */

/* Appends all series, families in order of first use, each with HELP and TYPE. */
void metrics_write(struct metrics *m, struct buf *out);

#endif
