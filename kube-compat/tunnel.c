/* Threads of tunnels.
 *
 *   request ──tunnel_start──▶ waits for the 101 ──on_upgraded──▶ runs ──▶ ended ──▶ joined, freed
 *                                    └── client left: never runs ────────────────▶ freed
 *
 * A tunnel belongs to its thread from on_upgraded() until `ended`, then to whoever joins it: the
 * next tunnel_start(), or tunnel_set_destroy(). The set's list and count are under its lock. One
 * eventfd, written once and never read, tells all threads that the server stops. */
#include "kube-compat/tunnel.h"

#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"

struct tunnel_set {
    int stop_fd;
    pthread_mutex_t lock; /* over the rest */
    pthread_cond_t fewer;
    struct tunnel *tunnels; /* with a thread */
    uint32_t num;           /* also those that wait for their 101 */
};

enum errc tunnel_set_create(struct tunnel_set **ret_set, struct error *err) {
    struct tunnel_set *set = mem_alloc(sizeof(*set));
    set->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (set->stop_fd < 0) {
        free(set);
        return err_errno(err, "make the tunnels' eventfd");
    }
    pthread_mutex_init(&set->lock, NULL);
    pthread_cond_init(&set->fewer, NULL);
    *ret_set = set;
    return OK;
}

static void tunnel_free(struct tunnel *t) {
    buf_deinit(&t->out);
    buf_deinit(&t->early);
    free(t);
}

/* Joins the threads that have ended. */
static void reap(struct tunnel_set *set) {
    struct tunnel *ended = NULL;
    pthread_mutex_lock(&set->lock);
    for (struct tunnel **at = &set->tunnels; *at;) {
        struct tunnel *t = *at;
        if (!t->ended) {
            at = &t->next;
            continue;
        }
        *at = t->next;
        t->next = ended;
        ended = t;
    }
    pthread_mutex_unlock(&set->lock);
    for (struct tunnel *t = ended, *next; t; t = next) {
        next = t->next;
        pthread_join(t->thread, NULL);
        tunnel_free(t);
    }
}

void tunnel_set_destroy(struct tunnel_set *set) {
    if (!set)
        return;
    uint64_t one = 1;
    ssize_t n = write(set->stop_fd, &one, sizeof(one));
    (void)n;
    pthread_mutex_lock(&set->lock);
    while (set->num)
        pthread_cond_wait(&set->fewer, &set->lock);
    pthread_mutex_unlock(&set->lock);
    reap(set);
    ASSERT(!set->tunnels);
    close(set->stop_fd);
    pthread_cond_destroy(&set->fewer);
    pthread_mutex_destroy(&set->lock);
    free(set);
}

/* The tunnel counts no more; behind this only the joiner touches it, if it has a thread. */
static void count_off(struct tunnel_set *set, struct tunnel *t) {
    pthread_mutex_lock(&set->lock);
    t->ended = true;
    set->num--;
    pthread_cond_signal(&set->fewer);
    pthread_mutex_unlock(&set->lock);
}

/* Lets go of everything but the memory. */
static void release(struct tunnel *t) {
    t->destroy(t->user);
    if (t->fd >= 0)
        close(t->fd);
    t->fd = -1;
    if (!t->plain)
        http_upgrade_end(steal(t->x));
}

static void *run(void *user) {
    struct tunnel *t = user;
    pthread_setname_np(pthread_self(), "kube-tunnel");
    t->progress_ms = t->heard_ms = t->pinged_ms = clock_mono_ms();
    t->run(t, t->user);
    release(t);
    count_off(t->set, t);
    return NULL;
}

/* There will be no thread. */
static void give_up(struct tunnel *t) {
    release(t);
    count_off(t->set, t);
    tunnel_free(t);
}

static int start_thread(struct tunnel *t) {
    struct tunnel_set *set = t->set;
    pthread_mutex_lock(&set->lock);
    int rc = pthread_create(&t->thread, NULL, run, t);
    if (!rc) {
        t->next = set->tunnels;
        set->tunnels = t;
    }
    pthread_mutex_unlock(&set->lock);
    return rc;
}

/* In a thread of the HTTP server, or in tunnel_start(). */
static void on_upgraded(struct http_exchange *x, int fd, const void *early, size_t early_len,
                        void *user) {
    struct tunnel *t = user;
    t->fd = fd;
    if (fd < 0) {
        give_up(t);
        return;
    }
    buf_append(&t->early, early, early_len);
    int rc = start_thread(t);
    if (!rc)
        return;
    log_warn("cannot start a tunnel's thread", "errno=%d", rc);
    give_up(t);
}

/* Gives a tunnel that counts. */
static enum errc create(struct tunnel_set *set, struct http_exchange *x,
                        const struct tunnel_source *source, struct tunnel **ret_t,
                        struct error *err) {
    reap(set);
    pthread_mutex_lock(&set->lock);
    bool full = set->num >= TUNNELS_MAX;
    if (!full)
        set->num++;
    pthread_mutex_unlock(&set->lock);
    if (full) {
        err_set(err, ERR_EXHAUSTED,
                "too many open connections of exec, attach, port-forward, proxies and WebSockets: "
                "the bound is %d",
                TUNNELS_MAX);
        err->retry_after_seconds = 1;
        return ERR_EXHAUSTED;
    }
    struct tunnel *t = mem_alloc(sizeof(*t));
    t->set = set;
    t->x = x;
    t->run = source->run;
    t->destroy = source->destroy;
    t->user = source->user;
    t->fd = -1;
    t->stop_fd = set->stop_fd;
    *ret_t = t;
    return OK;
}

enum errc tunnel_start(struct tunnel_set *set, struct http_exchange *x, const char *protocol,
                       const struct tunnel_source *source, struct error *err) {
    struct tunnel *t;
    if (create(set, x, source, &t, err))
        return err->code;
    http_upgrade(x, protocol, on_upgraded, t);
    return OK;
}

enum errc tunnel_start_plain(struct tunnel_set *set, struct http_exchange *x,
                             const struct tunnel_source *source, struct error *err) {
    struct tunnel *t;
    if (create(set, x, source, &t, err))
        return err->code;
    t->plain = true;
    errno = start_thread(t);
    if (!errno)
        return OK;
    enum errc rc = err_errno(err, "start a thread");
    count_off(set, t);
    tunnel_free(t);
    return rc;
}

/* ---- on the tunnel's thread ---- */

size_t tunnel_unsent(const struct tunnel *t) {
    return t->out.len - t->out_sent;
}

bool tunnel_has_room(const struct tunnel *t) {
    return tunnel_unsent(t) < TUNNEL_OUT_BYTES_MAX;
}

static bool takes_answers(const struct tunnel *t) {
    return tunnel_unsent(t) < TUNNEL_ANSWERS_BYTES_MAX;
}

void tunnel_poll(struct tunnel *t, struct pollfd p[TUNNEL_POLLS], bool want_in) {
    t->turn_bytes = 0;
    want_in = want_in && takes_answers(t);
    if (!want_in) /* nothing can be heard from who is not read */
        t->heard_ms = clock_mono_ms();
    unsigned in = t->client_ended ? 0 : want_in ? POLLIN : POLLRDHUP;
    unsigned out = tunnel_unsent(t) ? POLLOUT : 0;
    p[0] = (struct pollfd){.fd = t->fd, .events = (short)(in | out)};
    p[1] = (struct pollfd){.fd = t->stop_fd, .events = POLLIN};
}

bool tunnel_polled(struct tunnel *t, const struct pollfd p[TUNNEL_POLLS]) {
    /* A client that has left while nobody wants to read from it will not take anything either. */
    bool unread = p[0].events & POLLRDHUP && p[0].revents & (POLLRDHUP | POLLHUP);
    bool closed = p[0].revents & POLLHUP && t->client_ended;
    if (unread || closed || p[0].revents & (POLLERR | POLLNVAL))
        t->client_gone = true;
    tunnel_send(t);
    int64_t now_ms = clock_mono_ms();
    if (!tunnel_unsent(t))
        t->progress_ms = now_ms;
    if (now_ms - t->progress_ms > TUNNEL_SILENT_MS || now_ms - t->heard_ms > TUNNEL_SILENT_MS)
        t->client_gone = true;
    return !t->client_gone && !(p[1].revents & POLLIN);
}

bool tunnel_ping_due(struct tunnel *t) {
    int64_t now_ms = clock_mono_ms();
    if (now_ms - t->pinged_ms < TUNNEL_PING_MS)
        return false;
    t->pinged_ms = now_ms;
    return true;
}

size_t tunnel_read(struct tunnel *t, char data[TUNNEL_READ_BYTES_MAX]) {
    if (t->early.len) {
        size_t n = t->early.len < TUNNEL_READ_BYTES_MAX ? t->early.len : TUNNEL_READ_BYTES_MAX;
        memcpy(data, t->early.data, n);
        buf_consume(&t->early, n);
        return n;
    }
    if (t->client_ended || t->client_gone || !takes_answers(t) ||
        t->turn_bytes >= TUNNEL_TURN_BYTES_MAX)
        return 0;
    ssize_t n = recv(t->fd, data, TUNNEL_READ_BYTES_MAX, MSG_DONTWAIT);
    if (n > 0) {
        t->turn_bytes += (size_t)n;
        t->heard_ms = clock_mono_ms();
        return (size_t)n;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    t->client_ended = true;
    t->client_gone = n < 0;
    return 0;
}

void tunnel_send(struct tunnel *t) {
    while (tunnel_unsent(t) && !t->client_gone) {
        ssize_t n =
            send(t->fd, t->out.data + t->out_sent, tunnel_unsent(t), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0) {
            t->client_gone = errno != EAGAIN && errno != EINTR;
            return;
        }
        t->out_sent += (size_t)n;
        t->progress_ms = clock_mono_ms();
    }
    if (!tunnel_unsent(t)) {
        buf_clear(&t->out);
        t->out_sent = 0;
    }
}

void tunnel_finish(struct tunnel *t) {
    int64_t until_ms = clock_mono_ms() + TUNNEL_FLUSH_MS;
    bool told = false;
    while (!t->client_gone) {
        tunnel_send(t);
        if (!told && !tunnel_unsent(t)) {
            shutdown(t->fd, SHUT_WR);
            told = true;
        }
        char sink[TUNNEL_READ_BYTES_MAX];
        while (tunnel_read(t, sink)) {}
        int64_t left_ms = until_ms - clock_mono_ms();
        if ((told && t->client_ended) || left_ms <= 0)
            return;
        struct pollfd p[TUNNEL_POLLS];
        tunnel_poll(t, p, true);
        poll(p, TUNNEL_POLLS, (int)left_ms);
        if (p[0].revents & (POLLERR | POLLNVAL) || p[1].revents & POLLIN)
            return;
    }
}
