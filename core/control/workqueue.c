/* Entries hang in a hash table by key and, while they are queued, in a binary heap by (due time,
 * order of arrival). An entry outlives its stay in the queue only while it has failures to
 * remember. Every operation is O(log n). */
#include "core/control/workqueue.h"

enum { BUCKETS_MIN = 64, NOT_QUEUED = -1 };

struct entry {
    struct entry *next; /* in its bucket */
    int64_t due_ms;
    uint64_t order;
    ssize_t at; /* index in the heap, or NOT_QUEUED */
    uint32_t failures;
    uint32_t hash;
    char key[];
};

struct workqueue {
    struct entry **buckets;
    size_t num_buckets, num_entries;
    struct entry **heap;
    size_t len, cap;
    uint64_t order;
};

struct workqueue *workqueue_create(void) {
    struct workqueue *q = mem_alloc(sizeof(*q));
    q->num_buckets = BUCKETS_MIN;
    q->buckets = mem_array(q->num_buckets, sizeof(struct entry *));
    return q;
}

void workqueue_destroy(struct workqueue *q) {
    if (!q)
        return;
    for (size_t i = 0; i < q->num_buckets; i++) {
        for (struct entry *e = q->buckets[i], *next; e; e = next) {
            next = e->next;
            free(e);
        }
    }
    free(q->buckets);
    free(q->heap);
    free(q);
}

/* The heap: the entry that is due first is heap[0]. */

static bool before(const struct entry *a, const struct entry *b) {
    return a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->order < b->order;
}

static void place(struct workqueue *q, struct entry *e, size_t at) {
    q->heap[at] = e;
    e->at = (ssize_t)at;
}

static void sift_up(struct workqueue *q, struct entry *e, size_t at) {
    while (at && before(e, q->heap[(at - 1) / 2])) {
        place(q, q->heap[(at - 1) / 2], at);
        at = (at - 1) / 2;
    }
    place(q, e, at);
}

static void sift_down(struct workqueue *q, struct entry *e, size_t at) {
    for (;;) {
        size_t child = 2 * at + 1;
        if (child + 1 < q->len && before(q->heap[child + 1], q->heap[child]))
            child++;
        if (child >= q->len || !before(q->heap[child], e))
            break;
        place(q, q->heap[child], at);
        at = child;
    }
    place(q, e, at);
}

static struct entry *pop(struct workqueue *q) {
    struct entry *first = q->heap[0];
    struct entry *last = q->heap[--q->len];
    if (q->len)
        sift_down(q, last, 0);
    first->at = NOT_QUEUED;
    return first;
}

/* The table. */

static uint32_t hash_of(const char *key) {
    uint32_t h = 2166136261u;
    for (const unsigned char *p = (const unsigned char *)key; *p; p++)
        h = (h ^ *p) * 16777619u;
    return h;
}

static struct entry *find(struct workqueue *q, const char *key) {
    uint32_t hash = hash_of(key);
    struct entry *e = q->buckets[hash % q->num_buckets];
    while (e && (e->hash != hash || strcmp(e->key, key) != 0))
        e = e->next;
    return e;
}

static void grow(struct workqueue *q) {
    size_t num_buckets = q->num_buckets * 2;
    struct entry **buckets = mem_array(num_buckets, sizeof(struct entry *));
    for (size_t i = 0; i < q->num_buckets; i++) {
        for (struct entry *e = q->buckets[i], *next; e; e = next) {
            next = e->next;
            e->next = buckets[e->hash % num_buckets];
            buckets[e->hash % num_buckets] = e;
        }
    }
    free(q->buckets);
    q->buckets = buckets;
    q->num_buckets = num_buckets;
}

static struct entry *insert(struct workqueue *q, const char *key) {
    size_t len = strlen(key);
    ASSERT(len < WORKQUEUE_KEY_BYTES_MAX);
    if (q->num_entries == q->num_buckets)
        grow(q);
    struct entry *e = mem_alloc(sizeof(*e) + len + 1);
    memcpy(e->key, key, len + 1);
    e->hash = hash_of(key);
    e->at = NOT_QUEUED;
    e->next = q->buckets[e->hash % q->num_buckets];
    q->buckets[e->hash % q->num_buckets] = e;
    q->num_entries++;
    return e;
}

static void drop(struct workqueue *q, struct entry *victim) {
    struct entry **place_of = &q->buckets[victim->hash % q->num_buckets];
    while (*place_of != victim)
        place_of = &(*place_of)->next;
    *place_of = victim->next;
    q->num_entries--;
    free(victim);
}

/* Public. */

void workqueue_add(struct workqueue *q, const char *key, int64_t due_ms) {
    struct entry *e = find(q, key);
    if (!e)
        e = insert(q, key);
    if (e->at != NOT_QUEUED) {
        if (due_ms < e->due_ms) {
            e->due_ms = due_ms;
            sift_up(q, e, (size_t)e->at);
        }
        return;
    }
    if (q->len == q->cap) {
        q->cap = q->cap ? q->cap * 2 : BUCKETS_MIN;
        q->heap = mem_realloc(q->heap, q->cap * sizeof(struct entry *));
    }
    e->due_ms = due_ms;
    e->order = q->order++;
    sift_up(q, e, q->len++);
}

bool workqueue_next(struct workqueue *q, int64_t now_ms, char out[WORKQUEUE_KEY_BYTES_MAX]) {
    if (!q->len || q->heap[0]->due_ms > now_ms)
        return false;
    struct entry *e = pop(q);
    memcpy(out, e->key, strlen(e->key) + 1);
    if (!e->failures)
        drop(q, e);
    return true;
}

void workqueue_done(struct workqueue *q, const char *key, bool failed, int64_t now_ms) {
    struct entry *e = find(q, key);
    if (!failed) {
        if (e)
            e->failures = 0;
        if (e && e->at == NOT_QUEUED)
            drop(q, e);
        return;
    }
    if (!e)
        e = insert(q, key);
    int64_t wait_ms = WORKQUEUE_BACKOFF_MS_MIN;
    for (uint32_t i = 0; i < e->failures && wait_ms < WORKQUEUE_BACKOFF_MS_MAX; i++)
        wait_ms *= 2;
    e->failures++;
    workqueue_add(
        q, key, now_ms + (wait_ms < WORKQUEUE_BACKOFF_MS_MAX ? wait_ms : WORKQUEUE_BACKOFF_MS_MAX));
}

int64_t workqueue_wait_ms(const struct workqueue *q, int64_t now_ms) {
    if (!q->len)
        return -1;
    return q->heap[0]->due_ms > now_ms ? q->heap[0]->due_ms - now_ms : 0;
}

size_t workqueue_len(const struct workqueue *q) {
    return q->len;
}
