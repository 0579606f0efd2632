/* Watches without gaps. The writer publishes each event with the next revision into a ring of the
 * newest STORE_FEED_EVENTS_MAX; a watch is a cursor, "everything up to here was seen". Because
 * revisions have no holes, revision r lies at a computed place of the ring, and "did I miss
 * something" is one comparison: a cursor before the ring's floor reads the rows in between from the
 * log on disk, through a connection of its own, until it has caught up. Only history that was
 * compacted away is gone. So a watch also continues across a restart of the daemon.
 *
 * Two locks: `ring_lock` guards the ring for the few instructions that take references;
 * `watches_lock` guards the list of watches and is held while they are notified, which is what lets
 * store_watch_close() promise silence. */
#include "core/store_watch.h"

#include <inttypes.h>
#include <pthread.h>

#include "core/store_log.h"
#include "core/store_memory.h"

enum { BACKLOG_ROWS_MAX = 64 }; /* read from disk at a time */

struct store_feed {
    char *path;
    const struct seal *seal;
    pthread_mutex_t ring_lock;
    struct store_event ring[STORE_FEED_EVENTS_MAX]; /* revision r at r % STORE_FEED_EVENTS_MAX */
    int64_t floor; /* the ring has every event with floor < revision <= newest */
    int64_t newest;
    int64_t compacted; /* the disk has every event with revision > compacted */
    pthread_mutex_t watches_lock;
    struct store_watch *watches;
    size_t num_watches;
};

struct store_watch {
    struct store_feed *feed;
    char *prefix;
    size_t prefix_len;
    store_notify_fn *notify;
    void *user;
    int64_t cursor;
    struct store_event current;                   /* lent to the caller */
    struct store_event backlog[BACKLOG_ROWS_MAX]; /* read from disk, not delivered yet */
    size_t backlog_first, backlog_len;
    int64_t backlog_seen; /* the cursor once the backlog is delivered */
    struct store_log_reader *reader;
    struct store_watch *prev, *next;
};

static void event_release(struct store_event *e) {
    store_object_unref(e->object);
    store_object_unref(e->previous);
    *e = (struct store_event){0};
}

static struct store_event event_ref(const struct store_event *e) {
    struct store_event copy = *e;
    store_object_ref(copy.object);
    if (copy.previous)
        store_object_ref(copy.previous);
    return copy;
}

struct store_feed *store_feed_create(const char *path, const struct seal *seal, int64_t revision,
                                     int64_t compacted) {
    struct store_feed *f = mem_alloc(sizeof(*f));
    f->path = mem_strdup(path);
    f->seal = seal;
    f->floor = f->newest = revision;
    f->compacted = compacted;
    pthread_mutex_init(&f->ring_lock, NULL);
    pthread_mutex_init(&f->watches_lock, NULL);
    return f;
}

void store_feed_destroy(struct store_feed *f) {
    if (!f)
        return;
    ASSERT(!f->watches);
    for (size_t i = 0; i < STORE_FEED_EVENTS_MAX; i++)
        event_release(&f->ring[i]);
    pthread_mutex_destroy(&f->ring_lock);
    pthread_mutex_destroy(&f->watches_lock);
    free(f->path);
    free(f);
}

static struct store_event *ring_at(struct store_feed *f, int64_t revision) {
    return &f->ring[revision % STORE_FEED_EVENTS_MAX];
}

void store_feed_publish(struct store_feed *f, const struct store_event *event) {
    pthread_mutex_lock(&f->ring_lock);
    ASSERT(event->revision == f->newest + 1);
    struct store_event *place = ring_at(f, event->revision);
    struct store_event old = *place;
    *place = *event;
    f->newest = event->revision;
    if (f->newest - f->floor > STORE_FEED_EVENTS_MAX)
        f->floor = f->newest - STORE_FEED_EVENTS_MAX;
    pthread_mutex_unlock(&f->ring_lock);
    event_release(&old);
}

static bool concerns(const struct store_watch *w, const struct store_event *e) {
    return !strncmp(e->object->key, w->prefix, w->prefix_len);
}

void store_feed_notify(struct store_feed *f, int64_t after) {
    pthread_mutex_lock(&f->watches_lock);
    /* Only this thread publishes, so it may read the ring without its lock. */
    int64_t first = after > f->floor ? after : f->floor;
    for (struct store_watch *w = f->watches; w; w = w->next) {
        for (int64_t r = first + 1; w->notify && r <= f->newest; r++) {
            if (concerns(w, ring_at(f, r))) {
                w->notify(w->user);
                break;
            }
        }
    }
    pthread_mutex_unlock(&f->watches_lock);
}

void store_feed_set_compacted(struct store_feed *f, int64_t revision) {
    pthread_mutex_lock(&f->ring_lock);
    f->compacted = revision;
    pthread_mutex_unlock(&f->ring_lock);
}

enum errc store_watch_open(struct store *st, const char *prefix, int64_t from,
                           store_notify_fn *notify, void *user, struct store_watch **ret_w,
                           struct error *err) {
    struct store_feed *f = store_feed_of(st);
    pthread_mutex_lock(&f->ring_lock);
    int64_t oldest = f->compacted < f->floor ? f->compacted : f->floor;
    pthread_mutex_unlock(&f->ring_lock);
    if (from < oldest)
        return err_set(err, ERR_GONE, "too old resource version: %" PRId64 " (%" PRId64 ")", from,
                       oldest);
    struct store_watch *w = mem_alloc(sizeof(*w));
    w->feed = f;
    w->prefix = mem_strdup(prefix);
    w->prefix_len = strlen(prefix);
    w->notify = notify;
    w->user = user;
    w->cursor = from;
    pthread_mutex_lock(&f->watches_lock);
    bool full = f->num_watches == STORE_WATCHES_MAX;
    if (!full) {
        f->num_watches++;
        w->next = f->watches;
        if (w->next)
            w->next->prev = w;
        f->watches = w;
    }
    pthread_mutex_unlock(&f->watches_lock);
    if (full) {
        free(w->prefix);
        free(w);
        err_set(err, ERR_EXHAUSTED, "%d watches are open, the most there can be",
                STORE_WATCHES_MAX);
        err->retry_after_seconds = 5;
        return err->code;
    }
    *ret_w = w;
    return OK;
}

static void backlog_clear(struct store_watch *w) {
    for (size_t i = w->backlog_first; i < w->backlog_len; i++)
        event_release(&w->backlog[i]);
    w->backlog_first = w->backlog_len = 0;
}

void store_watch_close(struct store_watch *w) {
    if (!w)
        return;
    struct store_feed *f = w->feed;
    pthread_mutex_lock(&f->watches_lock);
    if (w->prev)
        w->prev->next = w->next;
    else
        f->watches = w->next;
    if (w->next)
        w->next->prev = w->prev;
    f->num_watches--;
    pthread_mutex_unlock(&f->watches_lock);
    event_release(&w->current);
    backlog_clear(w);
    store_log_reader_close(w->reader);
    free(w->prefix);
    free(w);
}

static struct store_object *row_object(const struct store_row *row) {
    return store_object_create(row->key, row->revision, row->create_revision, row->json);
}

static void backlog_row(void *user, const struct store_row *row, const struct store_row *previous) {
    struct store_watch *w = user;
    w->backlog[w->backlog_len++] = (struct store_event){
        .type = row->deleted ? STORE_DELETED
                : previous   ? STORE_MODIFIED
                             : STORE_ADDED,
        .revision = row->revision,
        .object = row_object(row),
        .previous = previous ? row_object(previous) : NULL,
    };
}

/* Reads the next events from disk; the cursor is before the ring. */
static enum errc backlog_fill(struct store_watch *w, int64_t upto) {
    struct error err = ERROR_INIT;
    backlog_clear(w);
    if (!w->reader && store_log_reader_open(w->feed->path, w->feed->seal, &w->reader, &err))
        return err.code;
    return store_log_read(w->reader, w->prefix, w->cursor, upto, BACKLOG_ROWS_MAX, backlog_row, w,
                          &w->backlog_seen, &err);
}

/* True: current was set. Moves the cursor over events that do not concern this watch. */
static bool take_from_ring(struct store_watch *w, bool *ret_behind, int64_t *ret_newest) {
    struct store_feed *f = w->feed;
    bool found = false;
    pthread_mutex_lock(&f->ring_lock);
    *ret_newest = f->newest;
    *ret_behind = w->cursor < f->floor;
    while (!*ret_behind && !found && w->cursor < f->newest) {
        const struct store_event *e = ring_at(f, ++w->cursor);
        if (concerns(w, e)) {
            w->current = event_ref(e);
            found = true;
        }
    }
    pthread_mutex_unlock(&f->ring_lock);
    return found;
}

bool store_watch_next(struct store_watch *w, struct store_event *ret_event, int64_t *ret_progress,
                      enum errc *ret_code) {
    event_release(&w->current);
    *ret_code = OK;
    for (;;) {
        if (w->backlog_first < w->backlog_len) {
            w->current = w->backlog[w->backlog_first];
            w->backlog[w->backlog_first++] = (struct store_event){0};
            w->cursor = w->backlog_first < w->backlog_len ? w->current.revision : w->backlog_seen;
            *ret_event = w->current;
            return true;
        }
        bool behind;
        int64_t newest;
        if (take_from_ring(w, &behind, &newest)) {
            *ret_event = w->current;
            return true;
        }
        if (!behind) {
            store_log_reader_close(steal(w->reader));
            *ret_progress = w->cursor;
            return false;
        }
        *ret_code = backlog_fill(w, newest);
        if (*ret_code)
            return false;
        if (w->backlog_first == w->backlog_len)
            w->cursor = w->backlog_seen;
    }
}
