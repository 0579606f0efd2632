/* What the writer publishes and watches read: the newest events in memory. Internal to the store.
 */
#ifndef CORE_STORE_WATCH_H
#define CORE_STORE_WATCH_H

#include "core/store.h"

struct store_feed;

/* `revision`: the newest there is; events after it come through store_feed_publish(). `path` is the
 * database, for watches that are behind memory. */
struct store_feed *store_feed_create(const char *path, const struct seal *seal, int64_t revision,
                                     int64_t compacted);
void store_feed_destroy(struct store_feed *f); /* asserts that no watch is left */

/* Store thread only. Takes the event's references; revisions go up by one. */
void store_feed_publish(struct store_feed *f, const struct store_event *event);
/* Wakes the watches that an event with revision > after concerns. */
void store_feed_notify(struct store_feed *f, int64_t after);
void store_feed_set_compacted(struct store_feed *f, int64_t revision);

struct store_feed *store_feed_of(struct store *st); /* in store.c */

enum {
    STORE_FEED_EVENTS_MAX = 1024, /* in memory; older ones are read from disk */
    STORE_WATCHES_MAX = 4096,
};

#endif
