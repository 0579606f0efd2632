/* What the replicas of each InferenceService say of themselves: how full their KV caches are, what
 * waits before their engines, how late their tokens come. Asked of the table of series, in one go
 * for all services, by the thread that fills it; any thread reads the latest answer, an immutable
 * snapshot. */
#ifndef CORE_CONTROL_REPLICA_FIGURES_H
#define CORE_CONTROL_REPLICA_FIGURES_H

#include "core/series/series.h"

/* Of one service. What is not known is negative: its replicas do not say it, or nothing came in the
 * last minute. */
struct replica_figure {
    char *ns, *service;
    double up;                                /* 1: each replica answered at the last look */
    double kv_usage;                          /* mean over the replicas, 0..1 */
    double queued_tokens;                     /* sum */
    double ttft_p95_seconds, itl_p95_seconds; /* of the last minute */
    double tokens_per_second;                 /* generated, of all; likewise */
};

struct replica_figures { /* a snapshot */
    _Atomic uint32_t refs;
    struct replica_figure *items; /* by namespace, then name */
    size_t num_items;
};
void replica_figures_unref(struct replica_figures *f); /* NULL is fine */
DEFINE_AUTO(replica_figures, replica_figures_unref)
/* NULL: its replicas were not looked at yet; f may be NULL as well. Borrowed from f. */
const struct replica_figure *replica_figures_find(const struct replica_figures *f, const char *ns,
                                                  const char *service);

struct figure_reader;

/* Gives a reader of the table, which is borrowed for its life. */
struct figure_reader *figure_reader_create(struct series *s);
void figure_reader_destroy(struct figure_reader *r);
DEFINE_AUTO(figure_reader, figure_reader_destroy)

/* Asks anew. One thread at a time. */
void figure_reader_update(struct figure_reader *r, int64_t wall_ms);
/* Shares the latest snapshot; NULL: none yet. Any thread. */
struct replica_figures *figure_reader_latest(struct figure_reader *r);

#endif
