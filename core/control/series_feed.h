/* Looks at inferd's own metrics every SERIES_FEED_MS and puts them into the table of series: the
 * daemon's registries, and /metrics of each ready replica, over its socket.
 *
 * Replicas' series get the labels namespace, inferenceservice, revision and pod (a label of theirs
 * with such a name becomes exported_NAME), and for each there is `up`, 1 or 0. A replica that does
 * not answer within SERIES_FEED_TIMEOUT_MS is 0; its other series end.
 *
 * One thread (the feed's own, series_feed_start()) does all of it, and the requests that others
 * hand to its getter. */
#ifndef CORE_CONTROL_SERIES_FEED_H
#define CORE_CONTROL_SERIES_FEED_H

#include "core/base/metrics.h"
#include "core/control/http_get.h"
#include "core/control/traffic.h"
#include "core/series/series.h"

struct series_feed;

enum {
    SERIES_FEED_MS = 5 * 1000,
    SERIES_FEED_TIMEOUT_MS = 4 * 1000,
};

struct series_feed_options {
    struct series *series; /* borrowed, like all here, for the feed's life */
    struct traffic *traffic;
    struct metrics *metrics;     /* is looked at, and counts what the table refuses; NULL: none */
    struct metrics *api_metrics; /* the API server's, is looked at; NULL: none */
    int64_t timeout_ms;          /* of a look at a replica; 0: SERIES_FEED_TIMEOUT_MS */
    /* Called at the end of each look, in the feed's thread: answers of the look before are there.
     * NULL: nobody waits for them. */
    void (*after_look)(void *user, int64_t wall_ms);
    void *user;
};

MUST_CHECK enum errc series_feed_create(const struct series_feed_options *opt,
                                        struct series_feed **ret_f, struct error *err);
MUST_CHECK enum errc series_feed_start(struct series_feed *f, struct error *err);
/* Ends the thread; what was asked of the getter is told an error. */
void series_feed_destroy(struct series_feed *f);
DEFINE_AUTO(series_feed, series_feed_destroy)

/* For requests of other threads; their callbacks run in the feed's thread. Borrowed. */
struct http_getter *series_feed_getter(struct series_feed *f);

/* What the thread does, for tests without one: a look (answers come later, in the getter's run). */
void series_feed_look(struct series_feed *f, int64_t wall_ms);

#endif
