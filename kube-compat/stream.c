/* The stream hub.
 *
 * Streams stand in one list that only the hub thread changes; new ones come through `arriving`
 * under the lock. Waking sets the stream's flag and signals. The hub pumps flagged streams without
 * holding the lock, because pumping writes to the HTTP server, whose callbacks wake streams. Every
 * TICK_MS all are pumped: watches send their bookmarks then, and clients that left are noticed. */
#include "kube-compat/stream.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "core/base/clock.h"

enum { TICK_MS = 1000, MINUTE_MS = 60000 };

struct stream {
    struct stream_hub *hub;
    struct stream *next;
    struct http_exchange *x;
    struct stream_source source;
    atomic_bool woken, gone;
};

struct stream_hub {
    pthread_t thread;
    pthread_mutex_t lock; /* over arriving, stop, any_woken */
    pthread_cond_t wake;
    atomic_uint num_streams;
    struct stream *arriving;
    struct stream *streams; /* hub thread only */
    bool any_woken, stop;
    void (*every_minute)(void *user);
    void *every_minute_user;
};

static void wake_hub(struct stream_hub *hub) {
    pthread_mutex_lock(&hub->lock);
    hub->any_woken = true;
    pthread_cond_signal(&hub->wake);
    pthread_mutex_unlock(&hub->lock);
}

void stream_wake(struct stream *s) {
    if (!atomic_exchange(&s->woken, true))
        wake_hub(s->hub);
}

static void on_gone(struct http_exchange *x, void *user) {
    struct stream *s = user;
    atomic_store(&s->gone, true);
    stream_wake(s);
}

static void on_drained(struct http_exchange *x, void *user) {
    stream_wake(user);
}

enum errc stream_create(struct stream_hub *hub, struct stream **ret_s, struct error *err) {
    if (atomic_fetch_add(&hub->num_streams, 1) >= STREAMS_MAX) {
        atomic_fetch_sub(&hub->num_streams, 1);
        err_set(err, ERR_EXHAUSTED, "too many open watches and log streams: the bound is %d",
                STREAMS_MAX);
        err->retry_after_seconds = 1;
        return ERR_EXHAUSTED;
    }
    struct stream *s = mem_alloc(sizeof(*s));
    s->hub = hub;
    *ret_s = s;
    return OK;
}

void stream_discard(struct stream *s) {
    atomic_fetch_sub(&s->hub->num_streams, 1);
    free(s);
}

static void end(struct stream *s) {
    s->source.destroy(s->source.user);
    http_stream_end(s->x);
    stream_discard(s);
}

void stream_start(struct stream *s, struct http_exchange *x, const char *content_type,
                  const struct stream_source *source) {
    s->x = x;
    s->source = *source;
    struct http_stream_callbacks callbacks = {
        .on_gone = on_gone, .on_drained = on_drained, .user = s};
    http_stream_begin(x, 200, content_type, &callbacks);
    atomic_store(&s->woken, true);
    struct stream_hub *hub = s->hub;
    pthread_mutex_lock(&hub->lock);
    bool too_late = hub->stop;
    if (!too_late) {
        s->next = hub->arriving;
        hub->arriving = s;
        hub->any_woken = true;
        pthread_cond_signal(&hub->wake);
    }
    pthread_mutex_unlock(&hub->lock);
    if (too_late)
        end(s);
}

bool stream_write(struct stream *s, const void *data, size_t len) {
    return http_stream_write(s->x, data, len);
}

/* Waits for work or the tick; moves arrivals in. False: stop. */
static bool wait_for_work(struct stream_hub *hub, int64_t until_ms) {
    struct timespec until = {.tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000};
    pthread_mutex_lock(&hub->lock);
    while (!hub->any_woken && !hub->stop) {
        if (pthread_cond_timedwait(&hub->wake, &hub->lock, &until) == ETIMEDOUT)
            break;
    }
    hub->any_woken = false;
    while (hub->arriving) {
        struct stream *s = hub->arriving;
        hub->arriving = s->next;
        s->next = hub->streams;
        hub->streams = s;
    }
    bool go_on = !hub->stop;
    pthread_mutex_unlock(&hub->lock);
    return go_on;
}

static void pump_all(struct stream_hub *hub, bool everyone) {
    int64_t now_ms = clock_mono_ms();
    for (struct stream **at = &hub->streams; *at;) {
        struct stream *s = *at;
        bool woken = atomic_exchange(&s->woken, false);
        bool done = atomic_load(&s->gone) || http_stream_gone(s->x);
        if (!done && (woken || everyone))
            done = s->source.pump(s, s->source.user, now_ms);
        if (done) {
            *at = s->next;
            end(s);
        } else {
            at = &s->next;
        }
    }
}

static void *run(void *user) {
    struct stream_hub *hub = user;
    int64_t tick_ms = clock_mono_ms() + TICK_MS, minute_ms = clock_mono_ms() + MINUTE_MS;
    pthread_setname_np(pthread_self(), "kube-streams");
    /* Without streams there is nothing to tick for: an idle daemon sleeps a minute at a time. */
    while (wait_for_work(hub, hub->streams ? tick_ms : minute_ms)) {
        int64_t now_ms = clock_mono_ms();
        bool tick = now_ms >= tick_ms;
        if (tick)
            tick_ms = now_ms + TICK_MS;
        pump_all(hub, tick);
        if (now_ms < minute_ms)
            continue;
        minute_ms = now_ms + MINUTE_MS;
        if (hub->every_minute)
            hub->every_minute(hub->every_minute_user);
    }
    while (hub->streams) {
        struct stream *s = hub->streams;
        hub->streams = s->next;
        end(s);
    }
    return NULL;
}

enum errc stream_hub_create(void (*every_minute)(void *user), void *user,
                            struct stream_hub **ret_hub, struct error *err) {
    struct stream_hub *hub = mem_alloc(sizeof(*hub));
    hub->every_minute = every_minute;
    hub->every_minute_user = user;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&hub->wake, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&hub->lock, NULL);
    errno = pthread_create(&hub->thread, NULL, run, hub);
    if (errno) {
        free(hub);
        return err_errno(err, "start the stream thread");
    }
    *ret_hub = hub;
    return OK;
}

void stream_hub_destroy(struct stream_hub *hub) {
    if (!hub)
        return;
    pthread_mutex_lock(&hub->lock);
    hub->stop = true;
    pthread_cond_signal(&hub->wake);
    pthread_mutex_unlock(&hub->lock);
    pthread_join(hub->thread, NULL);
    pthread_cond_destroy(&hub->wake);
    pthread_mutex_destroy(&hub->lock);
    free(hub);
}
