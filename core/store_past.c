/* Lists of the past: what a prefix held at an earlier revision.
 *
 * The store keeps the present (in memory) and what led to it (the feed's ring, and behind it the
 * log on disk). So the past is the present with its latest changes undone: a watch from the asked
 * revision names, for every key that changed since, what was there before its first change, and
 * everything that it does not name is as it is now. The cost goes with the changes since, not with
 * the objects, and nothing has to be kept for the lists that clients read page by page. How far
 * back it reaches is how far back a watch may start.
 *
 * The present is taken first and the changes are read up to its revision exactly: a write after it
 * is in neither. The writer shows a commit in memory before it publishes the events, so the last of
 * them may be a few instructions away; that is waited for. */
#include <inttypes.h>
#include <sched.h>

#include "core/store.h"

/* What a key held before its first change behind the revision. */
struct before {
    struct store_object *named;  /* says the key; a reference */
    struct store_object *object; /* a reference; NULL: there was none */
};

struct befores {
    struct before *items; /* sorted by key */
    size_t len, cap;
};

static void befores_deinit(struct befores *b) {
    for (size_t i = 0; i < b->len; i++) {
        store_object_unref(b->items[i].named);
        store_object_unref(b->items[i].object);
    }
    free(b->items);
}

/* Notes what was there before e, unless an earlier change of the key told already. */
static void note(struct befores *b, const struct store_event *e) {
    size_t low = 0, high = b->len;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = strcmp(b->items[mid].named->key, e->object->key);
        if (!order)
            return;
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    if (b->len == b->cap) {
        b->cap = b->cap ? b->cap * 2 : 64;
        b->items = mem_realloc(b->items, b->cap * sizeof(struct before));
    }
    memmove(b->items + low + 1, b->items + low, (b->len - low) * sizeof(struct before));
    b->items[low] = (struct before){
        .named = store_object_ref(e->object),
        .object = e->previous ? store_object_ref(e->previous) : NULL,
    };
    b->len++;
}

/* Notes every change with after < revision <= upto. */
static enum errc read_changes(struct store *st, const char *prefix, int64_t after, int64_t upto,
                              struct befores *b, struct error *err) {
    AUTO(store_watch) w = NULL;
    if (store_watch_open(st, prefix, after, NULL, NULL, &w, err))
        return err->code;
    for (;;) {
        struct store_event e;
        int64_t progress;
        enum errc code;
        if (store_watch_next(w, &e, &progress, &code)) {
            if (e.revision > upto)
                return OK;
            note(b, &e);
        } else if (code == ERR_GONE) {
            return err_set(err, ERR_GONE, "too old resource version: %" PRId64, after);
        } else if (code) {
            return err_set(err, code, "the store could not read its history");
        } else if (progress >= upto) {
            return OK;
        } else {
            sched_yield(); /* the store thread is publishing */
        }
    }
}

/* Gives the present with the noted keys put back. Takes the references of both. */
static void put_back(struct store_list *now, struct befores *b, struct store_list *ret_list) {
    struct store_list then = {
        .items = mem_array(now->num_items + b->len, sizeof(struct store_object *))};
    size_t i = 0, k = 0;
    while (i < now->num_items || k < b->len) {
        int order = i == now->num_items ? 1
                    : k == b->len       ? -1
                                        : strcmp(now->items[i]->key, b->items[k].named->key);
        if (order < 0) {
            then.items[then.num_items++] = steal(now->items[i]);
            i++;
            continue;
        }
        if (b->items[k].object)
            then.items[then.num_items++] = steal(b->items[k].object);
        k++;
        i += order == 0; /* the present state of a noted key is not of that time */
    }
    *ret_list = then;
}

enum errc store_list_at(struct store *st, const char *prefix, int64_t revision,
                        struct store_list *ret_list, struct error *err) {
    AUTO_STORE_LIST now = {0};
    store_list(st, prefix, &now);
    if (revision > now.revision)
        return err_set(err, ERR_TIMEOUT, "revision %" PRId64 " is not there yet: %" PRId64 " is",
                       revision, now.revision);
    if (revision == now.revision) {
        *ret_list = now;
        now = (struct store_list){0};
        return OK;
    }
    struct befores b = {0};
    enum errc code = read_changes(st, prefix, revision, now.revision, &b, err);
    if (!code) {
        put_back(&now, &b, ret_list);
        ret_list->revision = revision;
    }
    befores_deinit(&b);
    return code;
}
