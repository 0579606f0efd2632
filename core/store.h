/* Store: objects by key, one revision counter, watches without gaps. The sole user of SQLite.
 *
 * A key is "GROUP/RESOURCE/NAMESPACE/NAME" (core/object.h makes it). An object is its JSON
 * document. One thread owns the SQLite writer: it takes all waiting commits, checks their
 * expectations, commits once (WAL, synchronous=FULL: what was acknowledged survives a power cut),
 * then publishes to memory and to watches in revision order. The revision is the log's row id, and
 * it is stamped into metadata.resourceVersion of what is read. Current objects are kept in memory
 * and shared, immutable, by reference: readers never wait for the writer. */
#ifndef CORE_STORE_H
#define CORE_STORE_H

#include <jansson.h>

#include "core/base/mem.h"

struct store;
struct seal;

/* A version of an object: shared and immutable. Copy `json` (json_deep_copy) before changing it. */
struct store_object {
    _Atomic uint32_t refs;
    int64_t revision;
    int64_t create_revision;
    json_t *json;                      /* with metadata.resourceVersion = revision */
    _Atomic(struct store_text *) text; /* see store_object_text() */
    size_t key_len;
    char key[];
};
struct store_object *store_object_ref(struct store_object *o);
void store_object_unref(struct store_object *o);
DEFINE_AUTO(store_object, store_object_unref)

/* A text that readers made of the object once and keep with it: what it means is theirs to agree
 * on. Borrowed, as long as the object lives; NULL: nobody did yet. Any thread. */
struct store_text {
    size_t len;
    char data[];
};
const struct store_text *store_object_text(struct store_object *o);
/* Keeps a copy of text, unless another thread was first; gives what is kept. */
const struct store_text *store_object_keep_text(struct store_object *o, const char *text,
                                                size_t len);

struct store_options {
    const char *path;                  /* state.db */
    struct seal *seal;                 /* what lies encrypted on disk; NULL: nothing; borrowed */
    uint32_t history_events_max;       /* 0: 10000 events kept for watches; older: ERR_GONE */
    uint32_t compact_interval_seconds; /* 0: 300 */
};
/* With a seal: what an older database has in the clear, or under an older key, is sealed anew
 * before this returns. ERR_INVALID: what is sealed does not open; names the object, key file and
 * key. */
MUST_CHECK enum errc store_open(const struct store_options *opt, struct store **ret_st,
                                struct error *err);
void store_close(struct store *st); /* every watch must be closed before */
DEFINE_AUTO(store, store_close)

/* Gives a reference. ERR_NOT_FOUND. */
MUST_CHECK enum errc store_get(struct store *st, const char *key, struct store_object **ret_o,
                               struct error *err);

/* All objects whose key starts with prefix, ordered by key, and the revision of this snapshot. */
struct store_list {
    struct store_object **items; /* references, owned by the list */
    size_t num_items;
    int64_t revision;
};
void store_list(struct store *st, const char *prefix, struct store_list *ret_list);
void store_list_deinit(struct store_list *list);
/* The same as it was at an earlier revision, from the history that watches read; waits for the disk
 * where that is no longer in memory. ERR_GONE: history does not reach back so far; ERR_TIMEOUT: no
 * such revision yet; ERR_EXHAUSTED: too many watches are open; ERR_IO. */
MUST_CHECK enum errc store_list_at(struct store *st, const char *prefix, int64_t revision,
                                   struct store_list *ret_list, struct error *err);
#define AUTO_STORE_LIST __attribute__((cleanup(store_list_deinit))) struct store_list
size_t store_count(struct store *st, const char *prefix); /* how many store_list() would give */
int64_t store_revision(struct store *st);

enum {
    STORE_EXPECT_ANY = -1,
    STORE_EXPECT_ABSENT = 0,
    STORE_KEY_BYTES_MAX = 1024,
    STORE_OBJECT_BYTES_MAX = 4 << 20, /* of JSON: ERR_TOO_LARGE */
    STORE_OBJECT_DEPTH_MAX = 512,     /* of nested values: ERR_INVALID */
};
struct store_write {
    const char *key;
    json_t *object;          /* taken; NULL deletes */
    int64_t expect_revision; /* ANY, ABSENT, or the revision that must be current */
};
/* Writes all or nothing; returns after the commit is durable and published. ERR_EXISTS (ABSENT but
 * present), ERR_CONFLICT (another revision is current), ERR_NOT_FOUND (delete of, or expectation
 * on, what is not there), ERR_IO (the disk refused; nothing has changed), ERR_EXHAUSTED. A write
 * that equals what is there (ignoring resourceVersion) makes no revision and gives the current
 * object. ret_o may be NULL; with several writes it is the last one's object; for a delete the last
 * state with the revision of the deletion. */
MUST_CHECK enum errc store_commit(struct store *st, const struct store_write *writes,
                                  size_t num_writes, struct store_object **ret_o,
                                  struct error *err);
MUST_CHECK enum errc store_put(struct store *st, const char *key, json_t *object,
                               int64_t expect_revision, struct store_object **ret_o,
                               struct error *err);
MUST_CHECK enum errc store_delete(struct store *st, const char *key, int64_t expect_revision,
                                  struct store_object **ret_o, struct error *err);

/* Watches. */
enum store_event_type { STORE_ADDED, STORE_MODIFIED, STORE_DELETED };
struct store_event {
    enum store_event_type type;
    int64_t revision;
    struct store_object *object; /* for DELETED: last state, stamped with the deletion's revision */
    struct store_object *previous; /* NULL for ADDED */
};
struct store_watch;
/* Called from the store thread when events may be waiting: must not block or call the store. */
typedef void store_notify_fn(void *user);
/* Events with revision > from, for keys starting with prefix; those that happened already are
 * waiting. ERR_GONE: history does not reach back to `from`; ERR_EXHAUSTED. Hold no lock that
 * notify takes while opening or closing a watch. A watch is used by one thread at a time. */
MUST_CHECK enum errc store_watch_open(struct store *st, const char *prefix, int64_t from,
                                      store_notify_fn *notify, void *user,
                                      struct store_watch **ret_w, struct error *err);
/* Next event, borrowed until the next call. False and OK: none waiting, *ret_progress is the
 * revision up to which everything was seen (for bookmarks). False and ERR_GONE: fell behind what is
 * kept; False and another code: old events could not be read from disk. */
bool store_watch_next(struct store_watch *w, struct store_event *ret_event, int64_t *ret_progress,
                      enum errc *ret_code);
void store_watch_close(struct store_watch *w); /* after it notify is never called again */
DEFINE_AUTO(store_watch, store_watch_close)

#endif
