/* The front thread of an HTTP server: everything about sockets that is no request.
 *
 * It accepts connections and hands them on (to libmicrohttpd, or to TLS first), answers 503 where
 * too many are open, watches the sockets of parked exchanges for hang-up, gives streams their
 * ticks, and reads refused clients to their end. One epoll set carries all of it; the number beside
 * a descriptor says what it is:
 *
 *   KIND_LISTEN, KIND_WAKE        the listening socket; the eventfd that interrupts the wait
 *   KIND_CONNECTION | slot << 2   a client's socket, for hang-up only, edge-triggered
 *   KIND_LINGER     | index << 2  a refused client
 *
 * An event is only a hint: slots are reused, so the socket is asked again under the lock.
 *
 * A hang-up means: the exchange that is parked there is told that its client is gone. When none is,
 * libmicrohttpd should see the end by itself; but it may have taken the one edge of its epoll set
 * for the bytes that came with the end, and would then keep the connection until the idle timeout.
 * So from the next sweep on the receiving side, where nothing comes any more, is shut down, which
 * makes another edge. */
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

enum { KIND_LISTEN, KIND_WAKE, KIND_CONNECTION, KIND_LINGER, KIND_BITS = 2 };
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
    epoll_ctl(s->epoll_fd, op, fd, &ev);
}

void http_front_wake(struct http_server *s) {
    uint64_t one = 1;
    ssize_t n = write(s->wake_fd, &one, sizeof(one));
    (void)n; /* full means that it is awake already */
}

/* ---- connections and kept exchanges ---- */

static uint32_t slots_add(struct http_slots *t, void *item) {
    if (t->len == t->cap) {
        uint32_t cap = t->cap ? t->cap * 2 : 64;
        t->slots = mem_realloc(t->slots, cap * sizeof(*t->slots));
        for (uint32_t i = t->cap; i < cap; i++)
            t->slots[i] = (struct http_slot){.next_free = i + 1 < cap ? i + 1 : HTTP_NO_SLOT};
        t->first_free = t->cap; /* the list was empty */
        t->cap = cap;
    }
    uint32_t slot = t->first_free;
    t->first_free = t->slots[slot].next_free;
    t->slots[slot].item = item;
    t->len++;
    return slot;
}

static void slots_remove(struct http_slots *t, uint32_t slot) {
    t->slots[slot] = (struct http_slot){.next_free = t->first_free};
    t->first_free = slot;
    t->len--;
}

static bool is_hung_up(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLRDHUP};
    return poll(&p, 1, 0) == 1 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

void http_front_add(struct http_connection *c) {
    struct http_server *s = c->server;
    pthread_mutex_lock(&s->lock);
    c->slot = slots_add(&s->connections, c);
    watch(s, EPOLL_CTL_ADD, c->fd, EPOLLRDHUP | EPOLLET, event_data(KIND_CONNECTION, c->slot));
    pthread_mutex_unlock(&s->lock);
}

void http_front_remove(struct http_connection *c) {
    struct http_server *s = c->server;
    pthread_mutex_lock(&s->lock);
    epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
    slots_remove(&s->connections, c->slot);
    s->num_hung_up -= c->hung_up;
    pthread_mutex_unlock(&s->lock);
}

bool http_front_keep(struct http_exchange *x) {
    struct http_server *s = x->server;
    pthread_mutex_lock(&s->lock);
    bool first = x->slot == HTTP_NO_SLOT;
    bool ok = !s->stopping && !(first && is_hung_up(x->on->fd)); /* its edge may be gone already */
    if (ok && first) {
        x->slot = slots_add(&s->kept, x);
        x->on->kept = x;
        if (s->kept.len == 1)
            http_front_wake(s);
    }
    pthread_mutex_unlock(&s->lock);
    return ok;
}

void http_front_release(struct http_exchange *x) {
    struct http_server *s = x->server;
    pthread_mutex_lock(&s->lock);
    if (x->on->kept == x)
        x->on->kept = NULL;
    pthread_mutex_unlock(&s->lock);
}

void http_front_forget(struct http_exchange *x) {
    struct http_server *s = x->server;
    pthread_mutex_lock(&s->lock);
    if (x->slot != HTTP_NO_SLOT)
        slots_remove(&s->kept, x->slot);
    pthread_mutex_unlock(&s->lock);
}

struct http_exchange *http_front_kept(struct http_server *s, uint32_t slot, bool *ret_end) {
    pthread_mutex_lock(&s->lock);
    *ret_end = slot >= s->kept.cap;
    struct http_exchange *x = *ret_end ? NULL : s->kept.slots[slot].item;
    if (x && !http_exchange_try_ref(x))
        x = NULL;
    pthread_mutex_unlock(&s->lock);
    return x;
}

static void on_hangup(struct http_server *s, uint32_t slot) {
    pthread_mutex_lock(&s->lock);
    struct http_connection *c = slot < s->connections.cap ? s->connections.slots[slot].item : NULL;
    struct http_exchange *x = NULL;
    if (c && is_hung_up(c->fd)) {
        s->num_hung_up += !c->hung_up;
        c->hung_up = true;
        x = c->kept;
        if (x && !http_exchange_try_ref(x))
            x = NULL;
    }
    pthread_mutex_unlock(&s->lock);
    if (!x)
        return;
    http_exchange_gone(x);
    http_exchange_unref(x);
}

/* Makes libmicrohttpd look again at connections whose client sends nothing more. */
static void repeat_hangups(struct http_server *s) {
    pthread_mutex_lock(&s->lock);
    for (uint32_t i = 0; s->num_hung_up && i < s->connections.cap; i++) {
        struct http_connection *c = s->connections.slots[i].item;
        if (c && c->hung_up && !c->kept)
            shutdown(c->fd, SHUT_RD);
    }
    pthread_mutex_unlock(&s->lock);
}

/* Ticks that are due, and owners who have not been told yet that their client is gone. */
static void sweep(struct http_server *s, int64_t now_ms) {
    for (uint32_t slot = 0;; slot++) {
        bool end;
        struct http_exchange *x = http_front_kept(s, slot, &end);
        if (end)
            return;
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

static void on_tls_plain(void *user, int plain_fd, int socket_fd,
                         const struct auth_identity *peer) {
    http_server_adopt(user, plain_fd, socket_fd, peer ? mem_dup(peer, sizeof(*peer)) : NULL);
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
            http_server_adopt(s, fd, fd, NULL);
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
    bool sweeping = s->kept.len || s->num_hung_up;
    pthread_mutex_unlock(&s->lock);
    if (sweeping || any_linger(s))
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
            case KIND_CONNECTION:
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
            repeat_hangups(s);
            end_lingers(s, now_ms);
            sweep_at_ms = now_ms + sweep_ms;
        }
    }
    return NULL;
}

enum errc http_front_start(struct http_server *s, struct error *err) {
    for (uint32_t i = 0; i < HTTP_LINGERS_MAX; i++)
        s->lingers[i].fd = -1;
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
