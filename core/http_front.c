/* The front thread of an HTTP server: everything about sockets that is no request.
 *
 * It accepts connections and hands them on (to libmicrohttpd, or to TLS first), answers 503 where
 * too many are open, watches the sockets of parked exchanges for hang-up, gives streams their
 * ticks, and reads refused clients to their end. One epoll set carries all of it; the number beside
 * a descriptor says what it is:
 *
 *   KIND_LISTEN, KIND_WAKE      the listening socket; the eventfd that interrupts the wait
 *   KIND_KEPT   | slot << 2     a parked exchange's socket, one-shot, for hang-up only
 *   KIND_LINGER | index << 2    a refused client
 *
 * An event is only a hint. Slots are reused, so for KIND_KEPT the socket is asked again under the
 * exchange's mutex, where it is known to be still its own. */
#include "core/http_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/tls.h"

enum { KIND_LISTEN, KIND_WAKE, KIND_KEPT, KIND_LINGER, KIND_BITS = 2 };
enum {
    SWEEP_MS_MAX = 500,     /* between looks at all kept exchanges */
    ACCEPT_PAUSE_MS = 200,  /* when the process is out of descriptors */
    ACCEPTS_PER_EVENT = 64, /* then other events get their turn */
    EVENTS_MAX = 128,
};

static uint64_t event_data(unsigned kind, uint32_t index) {
    return kind | (uint64_t)index << KIND_BITS;
}

static void watch(struct http_server *s, int op, int fd, uint32_t events, uint64_t data) {
    struct epoll_event ev = {.events = events, .data.u64 = data};
    if (epoll_ctl(s->epoll_fd, op, fd, &ev) < 0 && op == EPOLL_CTL_ADD && errno == EEXIST)
        epoll_ctl(s->epoll_fd, EPOLL_CTL_MOD, fd, &ev);
}

void http_front_wake(struct http_server *s) {
    uint64_t one = 1;
    ssize_t n = write(s->wake_fd, &one, sizeof(one));
    (void)n; /* full means that it is awake already */
}

/* ---- kept exchanges ---- */

bool http_front_keep(struct http_exchange *x) {
    struct http_server *s = x->server;
    pthread_mutex_lock(&s->lock);
    bool room = !s->stopping;
    if (room && x->slot == HTTP_NO_SLOT) {
        if (s->kept_free == HTTP_NO_SLOT) {
            uint32_t cap = s->kept_cap ? s->kept_cap * 2 : 64;
            s->kept = mem_realloc(s->kept, cap * sizeof(*s->kept));
            for (uint32_t i = cap; i-- > s->kept_cap;) {
                s->kept[i] = (struct http_slot){.next_free = s->kept_free};
                s->kept_free = i;
            }
            s->kept_cap = cap;
        }
        x->slot = s->kept_free;
        s->kept_free = s->kept[x->slot].next_free;
        s->kept[x->slot].x = x;
        if (!s->num_kept++)
            http_front_wake(s);
    }
    uint32_t slot = x->slot;
    pthread_mutex_unlock(&s->lock);
    if (room)
        watch(s, EPOLL_CTL_ADD, x->fd, EPOLLRDHUP | EPOLLONESHOT, event_data(KIND_KEPT, slot));
    return room;
}

void http_front_unwatch(struct http_exchange *x) {
    epoll_ctl(x->server->epoll_fd, EPOLL_CTL_DEL, x->fd, NULL);
}

void http_front_forget(struct http_exchange *x) {
    struct http_server *s = x->server;
    pthread_mutex_lock(&s->lock);
    if (x->slot != HTTP_NO_SLOT) {
        s->kept[x->slot] = (struct http_slot){.next_free = s->kept_free};
        s->kept_free = x->slot;
        s->num_kept--;
    }
    pthread_mutex_unlock(&s->lock);
}

/* Gives a reference to the exchange in the slot; NULL when there is none (any more). */
static struct http_exchange *kept_ref(struct http_server *s, uint32_t slot) {
    pthread_mutex_lock(&s->lock);
    struct http_exchange *x = slot < s->kept_cap ? s->kept[slot].x : NULL;
    if (x && !http_exchange_try_ref(x))
        x = NULL;
    pthread_mutex_unlock(&s->lock);
    return x;
}

static void on_hangup(struct http_server *s, uint32_t slot) {
    struct http_exchange *x = kept_ref(s, slot);
    if (!x)
        return;
    pthread_mutex_lock(&x->lock);
    bool gone = false;
    if (x->connection) {
        struct pollfd p = {.fd = x->fd, .events = POLLRDHUP};
        gone = poll(&p, 1, 0) == 1 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR));
        if (!gone)
            watch(s, EPOLL_CTL_MOD, x->fd, EPOLLRDHUP | EPOLLONESHOT, event_data(KIND_KEPT, slot));
    }
    pthread_mutex_unlock(&x->lock);
    if (gone)
        http_exchange_gone(x);
    http_exchange_unref(x);
}

/* Ticks that are due, and owners who have not been told yet that their client is gone. */
static void sweep(struct http_server *s, int64_t now_ms) {
    for (uint32_t slot = 0;; slot++) {
        pthread_mutex_lock(&s->lock);
        bool end = slot >= s->kept_cap;
        pthread_mutex_unlock(&s->lock);
        if (end)
            return;
        struct http_exchange *x = kept_ref(s, slot);
        if (!x)
            continue;
        unsigned due = 0;
        pthread_mutex_lock(&x->lock);
        if (x->gone && !x->gone_told && x->cb.on_gone)
            due |= HTTP_DUE_GONE;
        if (x->streaming && !x->gone && !x->ended && now_ms >= x->next_tick_ms) {
            due |= HTTP_DUE_TICK;
            x->next_tick_ms = now_ms + s->opt.tick_ms;
        }
        pthread_mutex_unlock(&x->lock);
        if (due)
            http_exchange_call(x, due);
        http_exchange_unref(x);
    }
}

/* ---- refused clients ---- */

void http_front_linger(struct http_server *s, int fd) {
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0)
        return;
    pthread_mutex_lock(&s->lock);
    uint32_t i = 0;
    while (i < HTTP_LINGERS_MAX && s->lingers[i].fd >= 0)
        i++;
    if (i < HTTP_LINGERS_MAX)
        s->lingers[i] = (struct http_linger){
            .fd = copy,
            .deadline_ms = clock_mono_ms() + HTTP_LINGER_SECONDS * 1000,
            .bytes_left = HTTP_LINGER_BYTES_MAX,
        };
    pthread_mutex_unlock(&s->lock);
    if (i == HTTP_LINGERS_MAX) {
        close(copy);
        return;
    }
    watch(s, EPOLL_CTL_ADD, copy, EPOLLIN | EPOLLRDHUP, event_data(KIND_LINGER, i));
    http_front_wake(s);
}

/* Only the front thread ends lingers, so it may look at one without the lock. */
static void linger_end(struct http_server *s, struct http_linger *l) {
    epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, l->fd, NULL);
    close(l->fd);
    pthread_mutex_lock(&s->lock);
    l->fd = -1;
    pthread_mutex_unlock(&s->lock);
}

static void on_linger(struct http_server *s, uint32_t i) {
    struct http_linger *l = &s->lingers[i];
    char sink[64 << 10];
    pthread_mutex_lock(&s->lock);
    int fd = l->fd;
    pthread_mutex_unlock(&s->lock);
    if (fd < 0)
        return;
    ssize_t n = recv(fd, sink, sizeof(sink), MSG_DONTWAIT | MSG_TRUNC);
    if (n > 0 && (size_t)n < l->bytes_left) {
        l->bytes_left -= (size_t)n;
        return;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    linger_end(s, l);
}

static void end_lingers(struct http_server *s, int64_t now_ms) {
    for (uint32_t i = 0; i < HTTP_LINGERS_MAX; i++) {
        pthread_mutex_lock(&s->lock);
        bool due = s->lingers[i].fd >= 0 && now_ms >= s->lingers[i].deadline_ms;
        pthread_mutex_unlock(&s->lock);
        if (due)
            linger_end(s, &s->lingers[i]);
    }
}

static bool any_linger(struct http_server *s) {
    bool any = false;
    pthread_mutex_lock(&s->lock);
    for (uint32_t i = 0; i < HTTP_LINGERS_MAX; i++)
        any |= s->lingers[i].fd >= 0;
    pthread_mutex_unlock(&s->lock);
    return any;
}

/* ---- accepting ---- */

static void refuse_connection(struct http_server *s, int fd) {
    if (!s->opt.tls) {
        static const char busy[] = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n"
                                   "Retry-After: 1\r\nConnection: close\r\n\r\n";
        ssize_t n = send(fd, busy, sizeof(busy) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        (void)n;
        shutdown(fd, SHUT_WR);
        http_front_linger(s, fd);
    }
    close(fd);
}

static void on_tls_plain(void *user, int plain_fd, const struct auth_identity *peer) {
    http_server_adopt(user, plain_fd, peer ? mem_dup(peer, sizeof(*peer)) : NULL);
}

/* Returns false when the process is out of descriptors. */
static bool accept_some(struct http_server *s) {
    for (int i = 0; i < ACCEPTS_PER_EVENT; i++) {
        int fd = accept4(s->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                log_warn("cannot accept connections, trying again soon", "listen=%s errno=%d",
                         s->address, errno);
                return false;
            }
            return true; /* none waits, or it left again */
        }
        if (s->num_connections >= s->opt.connections_max)
            refuse_connection(s, fd);
        else if (s->opt.tls)
            tls_accept(s->opt.tls, fd, on_tls_plain, s);
        else
            http_server_adopt(s, fd, NULL);
    }
    return true;
}

void http_front_stop_accepting(struct http_server *s) {
    s->draining = true;
    http_front_wake(s);
}

static void close_listener(struct http_server *s) {
    if (s->listen_fd < 0)
        return;
    epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, s->listen_fd, NULL);
    close(s->listen_fd);
    s->listen_fd = -1;
    if (s->unix_path)
        unlink(s->unix_path);
}

/* ---- the thread ---- */

static int wait_ms(struct http_server *s, int64_t sweep_at_ms, int64_t accept_at_ms) {
    int64_t now_ms = clock_mono_ms();
    int64_t at_ms = INT64_MAX;
    pthread_mutex_lock(&s->lock);
    bool kept = s->num_kept > 0;
    pthread_mutex_unlock(&s->lock);
    if (kept || any_linger(s))
        at_ms = sweep_at_ms;
    if (accept_at_ms && accept_at_ms < at_ms)
        at_ms = accept_at_ms;
    return at_ms == INT64_MAX ? -1 : at_ms <= now_ms ? 0 : (int)(at_ms - now_ms);
}

static void *front_main(void *user) {
    struct http_server *s = user;
    pthread_setname_np(pthread_self(), "http-front");
    int64_t sweep_ms = s->opt.tick_ms < SWEEP_MS_MAX ? s->opt.tick_ms : SWEEP_MS_MAX;
    int64_t sweep_at_ms = 0, accept_at_ms = 0;
    while (!s->front_quit) {
        struct epoll_event events[EVENTS_MAX];
        int n = epoll_wait(s->epoll_fd, events, EVENTS_MAX, wait_ms(s, sweep_at_ms, accept_at_ms));
        for (int i = 0; i < n; i++) {
            uint32_t index = (uint32_t)(events[i].data.u64 >> KIND_BITS);
            switch (events[i].data.u64 & ((1 << KIND_BITS) - 1)) {
            case KIND_LISTEN:
                if (s->listen_fd >= 0 && !accept_some(s)) {
                    watch(s, EPOLL_CTL_MOD, s->listen_fd, 0, event_data(KIND_LISTEN, 0));
                    accept_at_ms = clock_mono_ms() + ACCEPT_PAUSE_MS;
                }
                break;
            case KIND_WAKE: {
                uint64_t count;
                ssize_t got = read(s->wake_fd, &count, sizeof(count));
                (void)got;
                sweep_at_ms = 0;
                break;
            }
            case KIND_KEPT:
                on_hangup(s, index);
                break;
            case KIND_LINGER:
                on_linger(s, index);
                break;
            }
        }
        int64_t now_ms = clock_mono_ms();
        if (s->draining)
            close_listener(s);
        if (accept_at_ms && now_ms >= accept_at_ms) {
            accept_at_ms = 0;
            if (s->listen_fd >= 0)
                watch(s, EPOLL_CTL_MOD, s->listen_fd, EPOLLIN, event_data(KIND_LISTEN, 0));
        }
        if (now_ms >= sweep_at_ms) {
            sweep(s, now_ms);
            end_lingers(s, now_ms);
            sweep_at_ms = now_ms + sweep_ms;
        }
    }
    return NULL;
}

enum errc http_front_start(struct http_server *s, struct error *err) {
    for (uint32_t i = 0; i < HTTP_LINGERS_MAX; i++)
        s->lingers[i].fd = -1;
    s->kept_free = HTTP_NO_SLOT;
    s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->epoll_fd < 0 || s->wake_fd < 0)
        return err_errno(err, "listen on %s: epoll", s->address);
    watch(s, EPOLL_CTL_ADD, s->wake_fd, EPOLLIN, event_data(KIND_WAKE, 0));
    watch(s, EPOLL_CTL_ADD, s->listen_fd, EPOLLIN, event_data(KIND_LISTEN, 0));
    int rc = pthread_create(&s->front, NULL, front_main, s);
    if (rc) {
        errno = rc;
        return err_errno(err, "listen on %s: start the front thread", s->address);
    }
    return OK;
}

void http_front_stop(struct http_server *s) {
    s->front_quit = true;
    http_front_wake(s);
    pthread_join(s->front, NULL);
    close_listener(s);
}

void http_front_end_lingers(struct http_server *s) {
    for (uint32_t i = 0; i < HTTP_LINGERS_MAX; i++)
        if (s->lingers[i].fd >= 0)
            linger_end(s, &s->lingers[i]);
}
