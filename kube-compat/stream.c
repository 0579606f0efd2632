/* The stream hub.
 *
 * Streams stand in one list that only the hub thread changes; new ones come through `arriving`
 * under the lock. Waking sets the stream's flag and signals. The hub pumps flagged streams without
 * holding the lock, because pumping writes to the HTTP server, whose callbacks wake streams. Every
 * TICK_MS all are pumped: watches send their bookmarks then, and clients that left are noticed.
 *
 * A stream over a WebSocket is a tunnel's: its thread pumps it in the same way, woken by an
 * eventfd. */
#include "kube-compat/stream.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/websocket.h"
#include "kube-compat/tunnel.h"
#include "kube-compat/upgrade.h"

enum { TICK_MS = 1000, MINUTE_MS = 60000 };

struct stream {
    struct stream_hub *hub;
    struct stream *next;
    struct http_exchange *x;
    struct stream_source source;
    atomic_bool woken, gone;

    /* Of a WebSocket; the rest but `source` and `woken` is not used then. */
    int wake_fd;           /* -1: it is the hub's */
    struct tunnel *tunnel; /* while it runs */
    struct websocket_reader reader;
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
    if (atomic_exchange(&s->woken, true))
        return;
    if (s->wake_fd < 0) {
        wake_hub(s->hub);
        return;
    }
    uint64_t one = 1;
    ssize_t n = write(s->wake_fd, &one, sizeof(one));
    (void)n; /* full: it is readable already */
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
    s->wake_fd = -1;
    *ret_s = s;
    return OK;
}

enum errc stream_create_websocket(struct stream_hub *hub, struct stream **ret_s,
                                  struct error *err) {
    if (stream_create(hub, ret_s, err))
        return err->code;
    (*ret_s)->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if ((*ret_s)->wake_fd >= 0)
        return OK;
    stream_discard(steal(*ret_s));
    return err_errno(err, "make an eventfd");
}

void stream_discard(struct stream *s) {
    atomic_fetch_sub(&s->hub->num_streams, 1);
    if (s->wake_fd >= 0)
        close(s->wake_fd);
    websocket_reader_deinit(&s->reader);
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

/* Each line a text message. */
static bool write_messages(struct tunnel *t, const char *data, size_t len) {
    if (!tunnel_has_room(t))
        return false;
    while (len) {
        const char *newline = memchr(data, '\n', len);
        size_t line = newline ? (size_t)(newline - data) : len;
        size_t used = line + (newline != NULL);
        websocket_write(&t->out, WEBSOCKET_TEXT, data, line);
        data += used;
        len -= used;
    }
    return true;
}

bool stream_write(struct stream *s, const void *data, size_t len) {
    if (s->tunnel)
        return write_messages(s->tunnel, data, len);
    return http_stream_write(s->x, data, len);
}

/* ---- over a WebSocket, on the tunnel's thread ---- */

/* False: the client has gone, or is not to be heard any more. */
static bool read_client(struct tunnel *t, struct stream *s) {
    for (;;) {
        char data[TUNNEL_READ_BYTES_MAX];
        size_t n = tunnel_read(t, data);
        websocket_feed(&s->reader, data, n);
        struct websocket_message m;
        enum websocket_code code;
        struct error err = ERROR_INIT;
        enum websocket_result result;
        while ((result = websocket_next(&s->reader, &m, &code, &err)) == WEBSOCKET_MESSAGE) {
            if (m.opcode == WEBSOCKET_PING)
                websocket_write(&t->out, WEBSOCKET_PONG, m.data, m.len);
            if (m.opcode != WEBSOCKET_CLOSE)
                continue;
            websocket_write_close(&t->out, WEBSOCKET_NORMAL, "");
            return false;
        }
        if (result == WEBSOCKET_FAILED) {
            websocket_write_close(&t->out, code, err.text);
            return false;
        }
        if (!n)
            return !t->client_ended;
    }
}

static void run_websocket(struct tunnel *t, void *user) {
    struct stream *s = user;
    int64_t tick_ms = 0;
    s->tunnel = t;
    for (;;) {
        uint64_t count;
        ssize_t got = read(s->wake_fd, &count, sizeof(count));
        (void)got;
        int64_t now_ms = clock_mono_ms();
        bool woken = atomic_exchange(&s->woken, false) || now_ms >= tick_ms;
        if (!read_client(t, s))
            break;
        if (woken && s->source.pump(s, s->source.user, now_ms)) {
            websocket_write_close(&t->out, WEBSOCKET_NORMAL, "");
            break;
        }
        if (now_ms >= tick_ms)
            tick_ms = now_ms + TICK_MS;
        if (tunnel_ping_due(t))
            websocket_write(&t->out, WEBSOCKET_PING, "", 0);
        bool full = !tunnel_has_room(t);
        struct pollfd p[TUNNEL_POLLS + 1];
        tunnel_poll(t, p, true);
        p[TUNNEL_POLLS] = (struct pollfd){.fd = s->wake_fd, .events = POLLIN};
        int64_t wait_ms = tick_ms - clock_mono_ms();
        poll(p, TUNNEL_POLLS + 1, wait_ms > 0 ? (int)wait_ms : 0);
        if (!tunnel_polled(t, p))
            return;
        if (full && tunnel_has_room(t))
            atomic_store(&s->woken, true); /* what was refused before goes now */
    }
    tunnel_finish(t);
}

static void destroy_websocket(void *user) {
    struct stream *s = user;
    s->source.destroy(s->source.user); /* nobody wakes it any more */
    stream_discard(s);
}

enum errc stream_start_websocket(struct stream *s, struct tunnel_set *tunnels,
                                 struct http_exchange *x, const struct stream_source *source,
                                 struct error *err) {
    s->source = *source;
    atomic_store(&s->woken, true);
    struct tunnel_source tunnel = {.run = run_websocket, .destroy = destroy_websocket, .user = s};
    return tunnel_start(tunnels, x, UPGRADE_WEBSOCKET_NAME, &tunnel, err);
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
