/* The daemon's models.
 *
 *     want ──▶ to look at ──looker──▶ there: held, READY
 *                                └──▶ not there, wanted: to download ──downloader──▶ READY
 *                                └──▶ not there, only kept: ABSENT           └─────▶ FAILED
 *
 * One thread looks into the store, so that a model that is there never waits behind downloads; a
 * few download. The lock is over the table and held for moments. An entry that a thread is at
 * (`busy`) is that thread's: whoever takes its last user away cancels it and leaves, and the thread
 * removes it. */
#include "core/model/models.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/model/model_download.h"
#include "core/model/model_store.h"

struct user {
    struct user *next;
    char *name;
    bool wants;
    json_t *env; /* of its last want; NULL: none yet */
};

enum queue { QUEUE_NONE, QUEUE_LOOK, QUEUE_DOWNLOAD };

struct entry {
    struct entry *next;
    char *reference;
    struct user *users;
    enum models_phase phase;
    enum queue queue;
    bool busy;
    uint64_t turn; /* first come, first served */
    json_t *env;   /* of the download */
    struct model_hold *hold;
    struct models_state state; /* what of it is not asked from `progress` */
    int64_t look_at_ms;        /* FAILED: monotonic; worth another look into the store */
    struct model_progress progress;
};

struct models {
    struct model_store *store;
    uint64_t bytes_max;
    void (*on_change)(void *user);
    void *user;
    pthread_mutex_t lock; /* over everything below */
    pthread_cond_t work;
    struct entry *entries;
    size_t num_entries, num_loading;
    uint64_t num_turns;
    bool stopping;
    _Atomic bool changed;
    pthread_t looker, downloaders[MODELS_DOWNLOADS_MAX];
    size_t num_downloaders;
    bool has_looker;
};

int64_t models_backoff_ms(uint32_t num_failures, uint32_t retry_after_seconds) {
    uint32_t doubled = num_failures > 1 ? num_failures - 1 : 0;
    int64_t wait = (int64_t)MODELS_BACKOFF_MS_MIN << (doubled < 10 ? doubled : 10);
    int64_t asked = (int64_t)retry_after_seconds * 1000;
    wait = wait > MODELS_BACKOFF_MS_MAX ? MODELS_BACKOFF_MS_MAX : wait;
    return asked > wait ? asked : wait;
}

static void tell(struct models *m) {
    atomic_store(&m->changed, true);
    m->on_change(m->user);
}

/* The table; all under the lock. */

static struct entry *find_entry(const struct models *m, const char *reference) {
    struct entry *e = m->entries;
    while (e && strcmp(e->reference, reference) != 0)
        e = e->next;
    return e;
}

static struct user *find_user(const struct entry *e, const char *name) {
    struct user *u = e->users;
    while (u && strcmp(u->name, name) != 0)
        u = u->next;
    return u;
}

static void user_destroy(struct user *u) {
    if (!u)
        return;
    json_decref(u->env);
    free(u->name);
    free(u);
}

static void entry_destroy(struct models *m, struct entry *e) {
    struct entry **at = &m->entries;
    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
    m->num_entries--;
    for (struct user *u = e->users, *next; u; u = next) {
        next = u->next;
        user_destroy(u);
    }
    model_hold_close(e->hold);
    json_decref(e->env);
    free(e->reference);
    free(e);
}

static bool is_wanted(const struct entry *e) {
    for (const struct user *u = e->users; u; u = u->next) {
        if (u->wants)
            return true;
    }
    return false;
}

static void put_in_queue(struct models *m, struct entry *e, enum queue queue) {
    if (e->busy || e->queue != QUEUE_NONE)
        return;
    e->queue = queue;
    e->turn = ++m->num_turns;
    pthread_cond_broadcast(&m->work);
}

/* Takes a user from every entry but `stay` (NULL: from all). */
static void drop_user(struct models *m, const char *name, const struct entry *stay) {
    for (struct entry *e = m->entries, *next; e; e = next) {
        struct user **at = &e->users;
        next = e->next;
        while (*at && strcmp((*at)->name, name) != 0)
            at = &(*at)->next;
        if (e == stay || !*at)
            continue;
        struct user *u = *at;
        *at = u->next;
        user_destroy(u);
        if (!is_wanted(e))
            atomic_store(&e->progress.cancelled, true);
        if (!e->users && !e->busy)
            entry_destroy(m, e);
    }
}

static struct entry *add_user(struct models *m, const char *name, const char *reference,
                              struct user **ret_user) {
    struct entry *e = find_entry(m, reference);
    drop_user(m, name, e);
    if (!e && m->num_entries == MODELS_REFERENCES_MAX)
        return NULL;
    if (!e) {
        e = mem_alloc(sizeof(*e));
        e->reference = mem_strdup(reference);
        e->next = m->entries;
        m->entries = e;
        m->num_entries++;
    }
    struct user *u = find_user(e, name);
    if (!u) {
        u = mem_alloc(sizeof(*u));
        u->name = mem_strdup(name);
        u->next = e->users;
        e->users = u;
    }
    *ret_user = u;
    return e;
}

/* What the control thread calls. */

static void start_loading(struct models *m, struct entry *e, const json_t *env) {
    json_t *copy = json_deep_copy(env); /* it may be the one that is there */
    json_decref(e->env);
    e->env = copy;
    e->phase = MODELS_LOADING;
    atomic_store(&e->progress.bytes_done, 0);
    atomic_store(&e->progress.bytes_total, 0);
    put_in_queue(m, e, QUEUE_LOOK);
}

static void want(void *self, const char *name, const char *reference, const json_t *env,
                 int64_t mono_ms, struct models_state *ret) {
    struct models *m = self;
    struct user *u = NULL;
    *ret = (struct models_state){.phase = MODELS_FAILED, .retry_at_ms = mono_ms + MODELS_LOOK_MS};
    pthread_mutex_lock(&m->lock);
    struct entry *e = add_user(m, name, reference, &u);
    if (!e) {
        err_set(&ret->why, ERR_EXHAUSTED, "more than %d models are referred to",
                MODELS_REFERENCES_MAX);
        pthread_mutex_unlock(&m->lock);
        return;
    }
    bool fresh = !u->env || !json_equal(u->env, env);
    if (fresh) {
        json_decref(u->env);
        u->env = json_deep_copy(env);
    }
    u->wants = true;
    atomic_store(&e->progress.cancelled, false);
    if (e->phase == MODELS_UNKNOWN || e->phase == MODELS_ABSENT ||
        (e->phase == MODELS_FAILED && (fresh || mono_ms >= e->state.retry_at_ms)))
        start_loading(m, e, env);
    else if (e->phase == MODELS_FAILED && mono_ms >= e->look_at_ms)
        put_in_queue(m, e, QUEUE_LOOK); /* somebody may have added it by hand */
    *ret = e->state;
    ret->phase = e->phase;
    ret->bytes_done = atomic_load(&e->progress.bytes_done);
    ret->bytes_total = atomic_load(&e->progress.bytes_total);
    pthread_mutex_unlock(&m->lock);
}

static void keep(void *self, const char *name, const char *reference) {
    struct models *m = self;
    struct user *u = NULL;
    pthread_mutex_lock(&m->lock);
    struct entry *e = add_user(m, name, reference, &u);
    if (e && e->phase == MODELS_UNKNOWN)
        put_in_queue(m, e, QUEUE_LOOK);
    pthread_mutex_unlock(&m->lock);
}

static void release(void *self, const char *name) {
    struct models *m = self;
    pthread_mutex_lock(&m->lock);
    drop_user(m, name, NULL);
    pthread_mutex_unlock(&m->lock);
}

static bool take_changed(void *self) {
    struct models *m = self;
    return atomic_exchange(&m->changed, false);
}

struct model_driver models_driver(struct models *m) {
    return (struct model_driver){m, want, keep, release, take_changed};
}

/* Threads; the lock is theirs when they call each other. */

static struct entry *next_entry(const struct models *m, enum queue queue) {
    struct entry *first = NULL;
    for (struct entry *e = m->entries; e; e = e->next) {
        if (e->queue == queue && (!first || e->turn < first->turn))
            first = e;
    }
    return first;
}

static void set_ready(struct entry *e, struct model_hold *hold, const struct model_manifest *found,
                      int64_t loading_ms) {
    model_hold_close(e->hold);
    e->hold = hold;
    e->phase = MODELS_READY;
    e->state = (struct models_state){.loading_ms = loading_ms};
    snprintf(e->state.dir, sizeof(e->state.dir), "%s", found->dir);
}

static void set_failed(struct entry *e, const struct error *why) {
    int64_t now = clock_mono_ms();
    e->phase = MODELS_FAILED;
    e->state.why = *why;
    e->state.num_failures++;
    e->state.retry_at_ms = now + models_backoff_ms(e->state.num_failures, why->retry_after_seconds);
    e->look_at_ms = now + MODELS_LOOK_MS;
}

/* The thread is through with it. False: it is gone, because nobody needs it. */
static bool leave(struct models *m, struct entry *e) {
    e->busy = false;
    if (e->users)
        return true;
    entry_destroy(m, e);
    return false;
}

static void look_at(struct models *m, struct entry *e) {
    struct model_hold *hold = NULL;
    AUTO(model_manifest) found = NULL;
    struct error err = ERROR_INIT;
    e->queue = QUEUE_NONE;
    e->busy = true;
    pthread_mutex_unlock(&m->lock);
    enum errc rc = model_store_hold(m->store, e->reference, &hold, &found, &err);
    pthread_mutex_lock(&m->lock);
    if (!rc)
        set_ready(e, hold, found, 0);
    else if (rc != ERR_NOT_FOUND)
        set_failed(e, &err);
    e->look_at_ms = clock_mono_ms() + MODELS_LOOK_MS;
    bool download = e->phase == MODELS_LOADING || (e->phase == MODELS_UNKNOWN && is_wanted(e));
    if (e->phase == MODELS_UNKNOWN && !download)
        e->phase = MODELS_ABSENT;
    if (!leave(m, e))
        return;
    if (download && is_wanted(e))
        put_in_queue(m, e, QUEUE_DOWNLOAD);
    else if (download)
        e->phase = MODELS_ABSENT;
    else if (!rc)
        tell(m);
}

static void tell_end(const struct entry *e, enum errc rc, const struct error *err,
                     int64_t loading_ms) {
    struct log_quoted reference, why;
    AUTO_FREE char *shown = mem_strndup(e->reference, strcspn(e->reference, "?")); /* no secrets */
    log_quote(&reference, shown);
    if (!rc)
        log_info("model downloaded", "model=%s ms=%lld", reference.text, (long long)loading_ms);
    else if (rc == ERR_CANCELLED)
        log_info("model download cancelled", "model=%s", reference.text);
    else
        log_warn("model download failed, trying again", "model=%s failures=%u error=%s",
                 reference.text, e->state.num_failures, log_quote(&why, err->text));
}

static void download(struct models *m, struct entry *e) {
    struct model_hold *hold = NULL;
    AUTO(model_manifest) found = NULL, *held = NULL;
    struct error err = ERROR_INIT;
    int64_t start_ms = clock_mono_ms();
    json_t *env = json_incref(e->env); /* nobody changes it while we are at it */
    const struct model_download d = {.store = m->store,
                                     .reference = e->reference,
                                     .env = env,
                                     .bytes_max = m->bytes_max,
                                     .may_evict = true,
                                     .progress = &e->progress};
    e->queue = QUEUE_NONE;
    e->busy = true;
    m->num_loading++;
    pthread_cond_broadcast(&m->work); /* the looker tells progress from now on */
    pthread_mutex_unlock(&m->lock);
    enum errc rc = model_download(&d, &found, &err);
    if (!rc)
        rc = model_store_hold(m->store, e->reference, &hold, &held, &err);
    pthread_mutex_lock(&m->lock);
    json_decref(env);
    m->num_loading--;
    int64_t took_ms = clock_mono_ms() - start_ms;
    if (!rc)
        set_ready(e, hold, held, took_ms > 0 ? took_ms : 1);
    else if (rc == ERR_CANCELLED)
        e->phase = MODELS_ABSENT;
    else
        set_failed(e, &err);
    tell_end(e, rc, &err, took_ms);
    if (!leave(m, e))
        return;
    if (e->phase == MODELS_ABSENT && is_wanted(e) && !m->stopping) /* by somebody new, meanwhile */
        start_loading(m, e, e->env);
    tell(m);
}

static void *downloader_main(void *user) {
    struct models *m = user;
    pthread_setname_np(pthread_self(), "fetch");
    pthread_mutex_lock(&m->lock);
    while (!m->stopping) {
        struct entry *e = next_entry(m, QUEUE_DOWNLOAD);
        if (e)
            download(m, e);
        else
            pthread_cond_wait(&m->work, &m->lock);
    }
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

/* Waits for work, not longer than until progress is news. True: it is. */
static bool wait_for_work(struct models *m, int64_t tell_at_ms) {
    int64_t now = clock_mono_ms();
    if (!m->num_loading) {
        pthread_cond_wait(&m->work, &m->lock);
        return false;
    }
    if (now >= tell_at_ms)
        return true;
    struct timespec until = {.tv_sec = tell_at_ms / 1000, .tv_nsec = tell_at_ms % 1000 * 1000000};
    return pthread_cond_timedwait(&m->work, &m->lock, &until) == ETIMEDOUT;
}

static void *looker_main(void *user) {
    struct models *m = user;
    int64_t tell_at_ms = 0;
    pthread_setname_np(pthread_self(), "models");
    pthread_mutex_lock(&m->lock);
    while (!m->stopping) {
        struct entry *e = next_entry(m, QUEUE_LOOK);
        if (e) {
            look_at(m, e);
        } else if (wait_for_work(m, tell_at_ms)) {
            tell_at_ms = clock_mono_ms() + MODELS_PROGRESS_MS;
            tell(m);
        }
    }
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

/* Life. */

static enum errc start_threads(struct models *m, struct error *err) {
    if (pthread_create(&m->looker, NULL, looker_main, m))
        return err_set(err, ERR_INTERNAL, "start the thread of models");
    m->has_looker = true;
    for (; m->num_downloaders < MODELS_DOWNLOADS_MAX; m->num_downloaders++) {
        if (pthread_create(&m->downloaders[m->num_downloaders], NULL, downloader_main, m))
            return err_set(err, ERR_INTERNAL, "start a thread of downloads");
    }
    return OK;
}

enum errc models_open(const struct models_options *opt, struct models **ret_m, struct error *err) {
    AUTO(models) m = mem_alloc(sizeof(*m));
    pthread_condattr_t attr;
    m->bytes_max = opt->bytes_max;
    m->on_change = opt->on_change;
    m->user = opt->user;
    pthread_mutex_init(&m->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&m->work, &attr);
    pthread_condattr_destroy(&attr);
    if (model_store_open(opt->dir, &m->store, err) || start_threads(m, err))
        return err->code;
    *ret_m = steal(m);
    return OK;
}

void models_close(struct models *m) {
    if (!m)
        return;
    pthread_mutex_lock(&m->lock);
    m->stopping = true;
    for (struct entry *e = m->entries; e; e = e->next)
        atomic_store(&e->progress.cancelled, true);
    pthread_cond_broadcast(&m->work);
    pthread_mutex_unlock(&m->lock);
    if (m->has_looker)
        pthread_join(m->looker, NULL);
    for (size_t i = 0; i < m->num_downloaders; i++)
        pthread_join(m->downloaders[i], NULL);
    while (m->entries)
        entry_destroy(m, m->entries);
    pthread_cond_destroy(&m->work);
    pthread_mutex_destroy(&m->lock);
    model_store_close(m->store);
    free(m);
}
