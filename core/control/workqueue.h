/* A queue of keys to look at, each at most once at a time, now or later.
 *
 * Reconcilers are level-based, so a key that is added twice is looked at once, at the earlier of
 * the two times. A key that fails comes back after WORKQUEUE_BACKOFF_MS_MIN, doubled with each
 * failure in a row up to WORKQUEUE_BACKOFF_MS_MAX. Owned by one thread. */
#ifndef CORE_CONTROL_WORKQUEUE_H
#define CORE_CONTROL_WORKQUEUE_H

#include "core/base/mem.h"

struct workqueue;

enum {
    WORKQUEUE_KEY_BYTES_MAX = 600, /* "KIND NAMESPACE/NAME"; a longer one is a broken invariant */
    WORKQUEUE_BACKOFF_MS_MIN = 5,
    WORKQUEUE_BACKOFF_MS_MAX = 60 * 1000,
};

struct workqueue *workqueue_create(void);
void workqueue_destroy(struct workqueue *q);
DEFINE_AUTO(workqueue, workqueue_destroy)

void workqueue_add(struct workqueue *q, const char *key, int64_t due_ms);

/* Takes the key that is due longest out of the queue into `out`; false: none is due. */
MUST_CHECK bool workqueue_next(struct workqueue *q, int64_t now_ms,
                               char out[WORKQUEUE_KEY_BYTES_MAX]);
/* Says how looking at a key went. Failed: it comes back after its back-off. */
void workqueue_done(struct workqueue *q, const char *key, bool failed, int64_t now_ms);

/* How long until a key is due; 0: now; -1: the queue is empty. */
int64_t workqueue_wait_ms(const struct workqueue *q, int64_t now_ms);
size_t workqueue_len(const struct workqueue *q);

#endif
