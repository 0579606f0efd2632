/* The models of the daemon: who needs which, what is there, what is being downloaded.
 *
 * Users (a pod, a service, a LocalModelCache) want or keep one reference each. A model that is
 * wanted is downloaded, once for all who want it; one that has users is held in the store, so that
 * nobody evicts it; a download that nobody wants any more is cancelled. The calls of the driver
 * only look at memory: files and networks are the business of threads of this module. */
#ifndef CORE_MODEL_MODELS_H
#define CORE_MODEL_MODELS_H

#include <jansson.h>

#include "core/base/mem.h"

enum {
    MODELS_DOWNLOADS_MAX = 4, /* at a time; the others wait for their turn */
    MODELS_REFERENCES_MAX = 10000,
    MODELS_BACKOFF_MS_MIN = 10 * 1000, /* after a failure; doubles up to the next */
    MODELS_BACKOFF_MS_MAX = 300 * 1000,
    MODELS_LOOK_MS = 5 * 1000,     /* how soon one that was added by hand is found */
    MODELS_PROGRESS_MS = 5 * 1000, /* how often progress is news */
    MODELS_DIR_BYTES_MAX = 1024,
};

enum models_phase {
    MODELS_UNKNOWN, /* nobody has looked yet */
    MODELS_ABSENT,  /* not there, and only kept, not wanted */
    MODELS_LOADING, /* waits for its turn, or comes */
    MODELS_READY,
    MODELS_FAILED,
};

struct models_state {
    enum models_phase phase;
    char dir[MODELS_DIR_BYTES_MAX];   /* READY: where it is */
    uint64_t bytes_done, bytes_total; /* LOADING; total 0: not known yet */
    int64_t loading_ms;               /* READY: how long the download took; 0: it was there */
    struct error why;                 /* FAILED */
    uint32_t num_failures;            /* in a row */
    int64_t retry_at_ms;              /* FAILED: monotonic; not tried again before */
};

/* What the control thread calls; its tests have another one. */
struct model_driver {
    void *self; /* NULL: there is no store */
    /* env: see model_source.h; borrowed. A user that asks anew, or with another env, does not wait
     * for the end of a back-off. */
    void (*want)(void *self, const char *user, const char *reference, const json_t *env,
                 int64_t mono_ms, struct models_state *ret);
    /* The model is not evicted as long as the user is there; nothing is downloaded for it. */
    void (*keep)(void *self, const char *user, const char *reference);
    void (*release)(void *self, const char *user);
    /* Has anything changed since the last call? */
    bool (*take_changed)(void *self);
};

struct models;
struct models_options {
    const char *dir; /* of the store */
    uint64_t bytes_max;
    void (*on_change)(void *user); /* from a thread of this module: take_changed() would be true */
    void *user;
};

/* Opens the store and starts the threads. */
MUST_CHECK enum errc models_open(const struct models_options *opt, struct models **ret_m,
                                 struct error *err);
/* Cancels what is being downloaded; the next daemon goes on with it. */
void models_close(struct models *m);
DEFINE_AUTO(models, models_close)
struct model_driver models_driver(struct models *m);

/* How long after so many failures in a row. Pure. */
int64_t models_backoff_ms(uint32_t num_failures, uint32_t retry_after_seconds);

#endif
