/* Current objects as one array of references sorted by key. A get is a binary search, a list is a
 * slice, and an insert moves 8 bytes for each object behind it: with 10,000 objects about as long
 * as one cache miss for every 10 of them, far below the disk sync that the same write waits for.
 *
 * Objects never change after they were made, so readers share them without locks; the last
 * reference frees. */
#include "core/store_memory.h"

#include <stdatomic.h>

struct store_object *store_object_create(const char *key, int64_t revision, int64_t create_revision,
                                         json_t *json) {
    size_t len = strlen(key);
    struct store_object *o = mem_alloc(sizeof(*o) + len + 1);
    o->refs = 1;
    o->revision = revision;
    o->create_revision = create_revision;
    o->json = json;
    o->key_len = len;
    memcpy(o->key, key, len + 1);
    return o;
}

struct store_object *store_object_ref(struct store_object *o) {
    atomic_fetch_add_explicit(&o->refs, 1, memory_order_relaxed);
    return o;
}

void store_object_unref(struct store_object *o) {
    if (!o || atomic_fetch_sub_explicit(&o->refs, 1, memory_order_acq_rel) > 1)
        return;
    json_decref(o->json);
    free(atomic_load_explicit(&o->text, memory_order_relaxed));
    free(o);
}

const struct store_text *store_object_text(struct store_object *o) {
    return atomic_load_explicit(&o->text, memory_order_acquire);
}

const struct store_text *store_object_keep_text(struct store_object *o, const char *text,
                                                size_t len) {
    struct store_text *first = NULL, *made = mem_alloc(sizeof(*made) + len + 1);
    made->len = len;
    memcpy(made->data, text, len);
    if (atomic_compare_exchange_strong_explicit(&o->text, &first, made, memory_order_acq_rel,
                                                memory_order_acquire))
        return made;
    free(made);
    return first;
}

void store_memory_deinit(struct store_memory *m) {
    for (size_t i = 0; i < m->len; i++)
        store_object_unref(m->items[i]);
    free(m->items);
    *m = (struct store_memory){0};
}

/* First index whose key is not below `key`. */
static size_t lower_bound(const struct store_memory *m, const char *key) {
    size_t low = 0, high = m->len;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (strcmp(m->items[mid]->key, key) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static bool holds(const struct store_memory *m, size_t at, const char *key) {
    return at < m->len && !strcmp(m->items[at]->key, key);
}

struct store_object *store_memory_find(const struct store_memory *m, const char *key) {
    size_t at = lower_bound(m, key);
    return holds(m, at, key) ? m->items[at] : NULL;
}

void store_memory_put(struct store_memory *m, struct store_object *o) {
    size_t at =
        m->len && strcmp(m->items[m->len - 1]->key, o->key) < 0 ? m->len : lower_bound(m, o->key);
    if (holds(m, at, o->key)) {
        store_object_unref(m->items[at]);
        m->items[at] = o;
        return;
    }
    if (m->len == m->cap) {
        m->cap = m->cap ? m->cap * 2 : 64;
        m->items = mem_realloc(m->items, m->cap * sizeof(struct store_object *));
    }
    memmove(m->items + at + 1, m->items + at, (m->len - at) * sizeof(struct store_object *));
    m->items[at] = o;
    m->len++;
}

void store_memory_remove(struct store_memory *m, const char *key) {
    size_t at = lower_bound(m, key);
    if (!holds(m, at, key))
        return;
    store_object_unref(m->items[at]);
    m->len--;
    memmove(m->items + at, m->items + at + 1, (m->len - at) * sizeof(struct store_object *));
}

void store_memory_range(const struct store_memory *m, const char *prefix, size_t *ret_first,
                        size_t *ret_end) {
    size_t len = strlen(prefix);
    size_t first = lower_bound(m, prefix);
    size_t low = first, high = m->len;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (!strncmp(m->items[mid]->key, prefix, len))
            low = mid + 1;
        else
            high = mid;
    }
    *ret_first = first;
    *ret_end = low;
}
