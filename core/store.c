/* The store's writer thread and its readers.
 *
 *   callers ──mailbox of commits──▶ store thread: check ▶ log (one transaction) ▶ memory ▶ watches
 *                                                                                  │
 *   callers ◀── acknowledged, after all of that ◀──────────────────────────────────┘
 *
 * The thread takes every commit that waits, up to BATCH_COMMITS_MAX, checks each against the
 * current objects and against what the batch has staged so far, and writes all of it in one
 * transaction: one disk sync for the batch. Only then is anything visible. When the disk refuses,
 * every commit of the batch that would have changed something fails with ERR_IO and memory stays
 * what the disk says.
 *
 * Publishing order: memory first, then the events. Who sees an event can read at least that state.
 * Readers share `lock` with the writer for the instants in which references change hands. */
#include "core/store.h"

#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>

#include "core/base/clock.h"
#include "core/base/json_text.h"
#include "core/base/log.h"
#include "core/base/mailbox.h"
#include "core/store_log.h"
#include "core/store_memory.h"
#include "core/store_watch.h"

enum {
    COMMITS_WAITING_MAX = 1024,
    BATCH_COMMITS_MAX = 256,
    COMPACT_STEP_REVISIONS = 100, /* per transaction: commits wait 2 ms for it, not 30 */
    HISTORY_EVENTS_DEFAULT = 10000,
    COMPACT_SECONDS_DEFAULT = 300,
    COMPACT_RETRY_SECONDS = 10,
};

/* One call of store_commit(), on its caller's stack. */
struct commit {
    const struct store_write *writes;
    size_t num_writes;
    struct store_object *result; /* of the last write; a reference */
    bool staged;                 /* has to do with the open transaction: fails when it fails */
    enum errc rc;
    struct error err;
    sem_t done;
};

/* One revision of the open transaction. */
struct staged {
    enum store_event_type type;
    struct store_object *object;   /* the new state, or the last one stamped with the deletion */
    struct store_object *previous; /* NULL: a creation */
    struct buf text;               /* of its row */
};

struct store {
    pthread_rwlock_t lock; /* guards memory and revision */
    struct store_memory memory;
    int64_t revision;

    struct store_feed *feed;
    struct mailbox *mailbox;
    pthread_t thread;
    bool thread_started;

    /* The store thread's own. */
    struct store_log *log;
    struct staged *staged;
    size_t num_staged, cap_staged;
    int64_t history_events_max;
    int64_t compact_interval_ms;
    int64_t compact_next_ms;
};

struct store_feed *store_feed_of(struct store *st) {
    return st->feed;
}

/* Reading. */

enum errc store_get(struct store *st, const char *key, struct store_object **ret_o,
                    struct error *err) {
    pthread_rwlock_rdlock(&st->lock);
    struct store_object *o = store_memory_find(&st->memory, key);
    if (o)
        *ret_o = store_object_ref(o);
    pthread_rwlock_unlock(&st->lock);
    return o ? OK : err_set(err, ERR_NOT_FOUND, "%s: not found", key);
}

void store_list(struct store *st, const char *prefix, struct store_list *ret_list) {
    size_t first, end;
    pthread_rwlock_rdlock(&st->lock);
    store_memory_range(&st->memory, prefix, &first, &end);
    *ret_list = (struct store_list){
        .items = mem_array(end - first, sizeof(struct store_object *)),
        .num_items = end - first,
        .revision = st->revision,
    };
    for (size_t i = first; i < end; i++)
        ret_list->items[i - first] = store_object_ref(st->memory.items[i]);
    pthread_rwlock_unlock(&st->lock);
}

size_t store_count(struct store *st, const char *prefix) {
    size_t first, end;
    pthread_rwlock_rdlock(&st->lock);
    store_memory_range(&st->memory, prefix, &first, &end);
    pthread_rwlock_unlock(&st->lock);
    return end - first;
}

void store_list_deinit(struct store_list *list) {
    for (size_t i = 0; i < list->num_items; i++)
        store_object_unref(list->items[i]);
    free(list->items);
    *list = (struct store_list){0};
}

int64_t store_revision(struct store *st) {
    pthread_rwlock_rdlock(&st->lock);
    int64_t revision = st->revision;
    pthread_rwlock_unlock(&st->lock);
    return revision;
}

/* Writing: the caller's side. */

static bool deeper_than(const json_t *value, int levels) {
    const char *name;
    size_t index;
    json_t *child;
    if (!json_is_object(value) && !json_is_array(value))
        return false;
    if (!levels)
        return true;
    json_object_foreach ((json_t *)value, name, child) {
        if (deeper_than(child, levels - 1))
            return true;
    }
    json_array_foreach (value, index, child) {
        if (deeper_than(child, levels - 1))
            return true;
    }
    return false;
}

static enum errc check_write(const struct store_write *w, struct error *err) {
    if (strlen(w->key) >= STORE_KEY_BYTES_MAX)
        return err_set(err, ERR_INVALID, "key of %zu bytes: above %d", strlen(w->key),
                       STORE_KEY_BYTES_MAX - 1);
    if (!w->object)
        return OK;
    if (!json_is_object(w->object) || !json_is_object(json_object_get(w->object, "metadata")))
        return err_set(err, ERR_INVALID, "%s: not an object with metadata", w->key);
    if (deeper_than(w->object, STORE_OBJECT_DEPTH_MAX))
        return err_set(err, ERR_INVALID, "%s: nested deeper than %d levels", w->key,
                       STORE_OBJECT_DEPTH_MAX);
    return OK;
}

static enum errc submit(struct store *st, struct commit *c, struct error *err) {
    switch (mailbox_send(st->mailbox, c)) {
    case OK:
        break;
    case ERR_EXHAUSTED:
        err_set(err, ERR_EXHAUSTED, "%d commits wait for the disk, the most there can be",
                COMMITS_WAITING_MAX);
        err->retry_after_seconds = 1;
        return err->code;
    default:
        return err_set(err, ERR_UNAVAILABLE, "the store is closing");
    }
    while (sem_wait(&c->done)) {
        /* interrupted by a signal: the store thread still holds our commit */
    }
    if (c->rc)
        *err = c->err;
    return c->rc;
}

enum errc store_commit(struct store *st, const struct store_write *writes, size_t num_writes,
                       struct store_object **ret_o, struct error *err) {
    struct commit c = {.writes = writes, .num_writes = num_writes};
    enum errc rc = OK;
    ASSERT(num_writes > 0);
    for (size_t i = 0; i < num_writes && !rc; i++)
        rc = check_write(&writes[i], err);
    if (!rc) {
        sem_init(&c.done, 0, 0);
        rc = submit(st, &c, err);
        sem_destroy(&c.done);
    }
    for (size_t i = 0; i < num_writes; i++)
        json_decref(writes[i].object);
    if (!rc && ret_o)
        *ret_o = steal(c.result);
    store_object_unref(c.result);
    return rc;
}

enum errc store_put(struct store *st, const char *key, json_t *object, int64_t expect_revision,
                    struct store_object **ret_o, struct error *err) {
    struct store_write w = {.key = key, .object = object, .expect_revision = expect_revision};
    ASSERT(object);
    return store_commit(st, &w, 1, ret_o, err);
}

enum errc store_delete(struct store *st, const char *key, int64_t expect_revision,
                       struct store_object **ret_o, struct error *err) {
    struct store_write w = {.key = key, .expect_revision = expect_revision};
    return store_commit(st, &w, 1, ret_o, err);
}

/* Writing: the store thread's side. */

static void staged_release(struct staged *s) {
    store_object_unref(s->object);
    store_object_unref(s->previous);
    buf_deinit(&s->text);
}

static void unstage(struct store *st, size_t keep) {
    while (st->num_staged > keep)
        staged_release(&st->staged[--st->num_staged]);
}

/* The object that a write at this point of the batch would find. Borrowed. */
static struct store_object *current(struct store *st, const char *key, bool *ret_staged) {
    for (size_t i = st->num_staged; i-- > 0;) {
        if (!strcmp(st->staged[i].object->key, key)) {
            *ret_staged = true;
            return st->staged[i].type == STORE_DELETED ? NULL : st->staged[i].object;
        }
    }
    return store_memory_find(&st->memory, key);
}

static enum errc check_expectation(const struct store_write *w, const struct store_object *now,
                                   struct error *err) {
    if (!now && (!w->object || w->expect_revision > 0))
        return err_set(err, ERR_NOT_FOUND, "%s: not found", w->key);
    if (now && w->expect_revision == STORE_EXPECT_ABSENT)
        return err_set(err, ERR_EXISTS, "%s: exists already", w->key);
    if (now && w->expect_revision > 0 && w->expect_revision != now->revision)
        return err_set(err, ERR_CONFLICT,
                       "%s: revision %" PRId64 " is current, not %" PRId64 ": the object has been "
                       "modified",
                       w->key, now->revision, w->expect_revision);
    return OK;
}

/* Gives a copy of object that says `revision`; shares everything but the root and metadata. */
static json_t *stamped(const json_t *object, int64_t revision) {
    char text[24];
    snprintf(text, sizeof(text), "%" PRId64, revision);
    json_t *copy = json_copy((json_t *)object);
    json_t *metadata = json_copy(json_object_get(object, "metadata"));
    json_object_set_new(metadata, "resourceVersion", json_string(text));
    json_object_set_new(copy, "metadata", metadata);
    return copy;
}

static enum errc stage_write(struct store *st, const struct store_write *w, struct commit *c,
                             struct error *err) {
    struct store_object *now = current(st, w->key, &c->staged);
    if (check_expectation(w, now, err))
        return err->code;
    store_object_unref(steal(c->result));
    if (w->object && now) {
        json_t *same = stamped(w->object, now->revision);
        bool unchanged = json_equal(same, now->json);
        json_decref(same);
        if (unchanged) {
            c->result = store_object_ref(now);
            return OK;
        }
    }
    int64_t revision = st->revision + (int64_t)st->num_staged + 1;
    json_t *json = stamped(w->object ? w->object : now->json, revision);
    struct staged s = {
        .type = !w->object ? STORE_DELETED
                : now      ? STORE_MODIFIED
                           : STORE_ADDED,
        .object =
            store_object_create(w->key, revision, now ? now->create_revision : revision, json),
        .previous = now ? store_object_ref(now) : NULL,
    };
    json_text(&s.text, json);
    if (s.text.len > STORE_OBJECT_BYTES_MAX) {
        err_set(err, ERR_TOO_LARGE, "%s: %zu bytes of JSON, above %d", w->key, s.text.len,
                STORE_OBJECT_BYTES_MAX);
        staged_release(&s);
        return err->code;
    }
    if (st->num_staged == st->cap_staged) {
        st->cap_staged = st->cap_staged ? st->cap_staged * 2 : 64;
        st->staged = mem_realloc(st->staged, st->cap_staged * sizeof(struct staged));
    }
    st->staged[st->num_staged++] = s;
    c->result = store_object_ref(s.object);
    c->staged = true;
    return OK;
}

static void stage_commit(struct store *st, struct commit *c) {
    size_t before = st->num_staged;
    for (size_t i = 0; i < c->num_writes && !c->rc; i++)
        c->rc = stage_write(st, &c->writes[i], c, &c->err);
    if (c->rc)
        unstage(st, before);
}

static enum errc write_staged(struct store *st, struct error *err) {
    if (store_log_begin(st->log, err))
        return err->code;
    for (size_t i = 0; i < st->num_staged; i++) {
        const struct staged *s = &st->staged[i];
        struct store_row row = {
            .revision = s->object->revision,
            .create_revision = s->object->create_revision,
            .prev_revision = s->previous ? s->previous->revision : 0,
            .deleted = s->type == STORE_DELETED,
            .key = s->object->key,
        };
        if (store_log_append(st->log, &row, s->text.data, s->text.len, err))
            return err->code;
    }
    return store_log_commit(st->log, err);
}

static void publish(struct store *st) {
    int64_t before = st->revision;
    pthread_rwlock_wrlock(&st->lock);
    for (size_t i = 0; i < st->num_staged; i++) {
        struct staged *s = &st->staged[i];
        if (s->type == STORE_DELETED)
            store_memory_remove(&st->memory, s->object->key);
        else
            store_memory_put(&st->memory, store_object_ref(s->object));
        st->revision = s->object->revision;
    }
    pthread_rwlock_unlock(&st->lock);
    for (size_t i = 0; i < st->num_staged; i++) {
        struct staged *s = &st->staged[i];
        struct store_event event = {
            .type = s->type,
            .revision = s->object->revision,
            .object = steal(s->object),
            .previous = steal(s->previous),
        };
        store_feed_publish(st->feed, &event);
    }
    store_feed_notify(st->feed, before);
}

static void fail_staged(struct commit **batch, size_t num_commits, const struct error *err) {
    for (size_t i = 0; i < num_commits; i++) {
        if (batch[i]->staged) {
            batch[i]->rc = err->code;
            batch[i]->err = *err;
        }
    }
}

static void run_batch(struct store *st, struct commit **batch, size_t num_commits) {
    for (size_t i = 0; i < num_commits; i++)
        stage_commit(st, batch[i]);
    if (st->num_staged) {
        struct error err = ERROR_INIT;
        if (write_staged(st, &err)) {
            struct log_quoted q;
            log_error("commit failed", "num_writes=%zu error=%s", st->num_staged,
                      log_quote(&q, err.text));
            fail_staged(batch, num_commits, &err);
        } else {
            publish(st);
        }
        unstage(st, 0);
    }
    for (size_t i = 0; i < num_commits; i++)
        sem_post(&batch[i]->done); /* the commit is its caller's again */
}

/* One bounded step towards keeping only history_events_max. */
static void compact(struct store *st, int64_t now_ms) {
    int64_t compacted = store_log_compacted(st->log);
    int64_t target = st->revision - st->history_events_max;
    st->compact_next_ms = now_ms + st->compact_interval_ms;
    if (target <= compacted)
        return;
    int64_t step = compacted + COMPACT_STEP_REVISIONS;
    struct error err = ERROR_INIT;
    if (store_log_compact(st->log, step < target ? step : target, &err)) {
        struct log_quoted q;
        log_warn("compaction failed, retrying in 10s", "error=%s", log_quote(&q, err.text));
        st->compact_next_ms = now_ms + COMPACT_RETRY_SECONDS * 1000;
        return;
    }
    store_feed_set_compacted(st->feed, store_log_compacted(st->log));
    if (step < target)
        st->compact_next_ms = now_ms;
}

static bool compaction_due(const struct store *st, int64_t now_ms) {
    int64_t history = st->revision - store_log_compacted(st->log);
    return now_ms >= st->compact_next_ms || history >= 2 * st->history_events_max;
}

static void *store_thread(void *user) {
    struct store *st = user;
    struct commit *batch[BATCH_COMMITS_MAX];
    pthread_setname_np(pthread_self(), "store");
    for (;;) {
        int64_t wait_ms = st->compact_next_ms - clock_mono_ms();
        size_t num_commits = 0;
        wait_ms = wait_ms < 0 ? 0 : wait_ms > INT_MAX ? INT_MAX : wait_ms;
        struct commit *c = mailbox_receive(st->mailbox, (int)wait_ms);
        while (c) {
            batch[num_commits++] = c;
            c = num_commits < BATCH_COMMITS_MAX ? mailbox_receive(st->mailbox, 0) : NULL;
        }
        if (num_commits)
            run_batch(st, batch, num_commits);
        else if (mailbox_closed(st->mailbox))
            return NULL;
        int64_t now_ms = clock_mono_ms();
        if (compaction_due(st, now_ms))
            compact(st, now_ms);
    }
}

/* Opening and closing. */

static void load_row(void *user, const struct store_row *row, const struct store_row *previous) {
    struct store *st = user;
    store_memory_put(&st->memory,
                     store_object_create(row->key, row->revision, row->create_revision, row->json));
}

enum errc store_open(const struct store_options *opt, struct store **ret_st, struct error *err) {
    AUTO(store) st = mem_alloc(sizeof(*st));
    pthread_rwlock_init(&st->lock, NULL);
    st->history_events_max =
        opt->history_events_max ? opt->history_events_max : HISTORY_EVENTS_DEFAULT;
    st->compact_interval_ms =
        1000 * (int64_t)(opt->compact_interval_seconds ? opt->compact_interval_seconds
                                                       : COMPACT_SECONDS_DEFAULT);
    st->compact_next_ms = clock_mono_ms() + st->compact_interval_ms;
    if (store_log_open(opt->path, opt->seal, &st->log, err) ||
        store_log_load(st->log, load_row, st, err))
        return err->code;
    st->revision = store_log_revision(st->log);
    st->feed = store_feed_create(opt->path, opt->seal, st->revision, store_log_compacted(st->log));
    st->mailbox = mailbox_create(COMMITS_WAITING_MAX);
    if (pthread_create(&st->thread, NULL, store_thread, st))
        return err_errno(err, "start the store thread");
    st->thread_started = true;
    *ret_st = steal(st);
    return OK;
}

void store_close(struct store *st) {
    if (!st)
        return;
    if (st->thread_started) {
        mailbox_close(st->mailbox);
        pthread_join(st->thread, NULL);
    }
    store_feed_destroy(st->feed);
    store_memory_deinit(&st->memory);
    store_log_close(st->log);
    mailbox_destroy(st->mailbox);
    free(st->staged);
    pthread_rwlock_destroy(&st->lock);
    free(st);
}
