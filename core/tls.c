/* TLS in front of the HTTP server: one epoll thread for all handshakes and records.
 *
 *     client ══ socket ══ [open] ── up ───▶ plain ══ libmicrohttpd
 *                         [seal] ◀── down ──
 *
 * After the handshake (tls_handshake.c) a socketpair is made; the HTTP server gets the far end.
 * From then on a connection is two one-way copies of records (tls_record.c), as many at a time as
 * one read gives, with at most one read's worth waiting in each direction. What cannot be written
 * stays where it is and nothing more is read in that direction, so a slow reader slows its own
 * sender through the kernel's buffers and nobody else.
 *
 * Ends travel one direction at a time: close_notify (or a plain FIN) from the client shuts down our
 * writing side of the socketpair; the end of the plain side becomes close_notify and FIN. A
 * connection is through when both have happened, or when the plain side is gone altogether; then
 * the socket is read and thrown away for a moment, because closing it with unread bytes would reset
 * the connection and could destroy our last answer on its way.
 *
 * Descriptors are watched edge-triggered; a flag says which of them may have something to read, and
 * pump() goes on until nothing moves. A connection that
 * keeps moving for PUMP_ROUNDS_MAX rounds goes to the end of the line, and waits for its next turn
 * whatever happens on it. One turn is taken from the line between two looks at the descriptors: a
 * client with one small question waits for one such turn, not for everybody who downloads. */
#include "core/tls.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/mailbox.h"
#include "core/tls_credentials.h"
#include "core/tls_handshake.h"

enum {
    RECORDS_PER_READ = 4,
    TEXT_BYTES = RECORDS_PER_READ * TLS_RECORD_TEXT_MAX,
    SEALED_BYTES = RECORDS_PER_READ * TLS_RECORD_BYTES_MAX,
    PUMP_ROUNDS_MAX = 2,
    EVENTS_MAX = 128,
    DEADLINE_CHECK_MS = 500,
};

enum tls_state { TLS_HANDSHAKE, TLS_OPEN, TLS_LINGER, TLS_DEAD };

/* Bytes on their way in one direction; memory only while some wait. */
struct waiting {
    char *data;
    size_t len, sent;
};

struct tls_connection {
    struct tls *tls;
    enum tls_state state;
    int socket_fd, plain_fd;         /* plain_fd -1: before the handshake is done */
    struct tls_handshake *handshake; /* NULL: done with it */
    struct tls_record_key from_client, to_client;
    tls_plain_fn *on_plain;
    void *user;
    int64_t deadline_ms;    /* of a handshake, a linger, or the last bytes when plain_gone */
    struct waiting partial; /* the beginning of a record from the client */
    struct waiting up;      /* opened */
    struct waiting down;    /* sealed */
    bool socket_readable, plain_readable; /* may have something to read */
    bool socket_hung_up, plain_hung_up;   /* and an end behind it, which raises no further event */
    bool client_ended, plain_ended;       /* no more comes from there */
    bool plain_told, client_told;         /* and the other side knows */
    bool goodbye_sealed;                  /* close_notify is on its way to the client */
    bool plain_gone;                      /* nobody reads there any more */
    bool in_line;                         /* waits for another pump */
    struct tls_connection *prev, *next, *next_in_line, *next_dead;
};

struct tls {
    struct tls_handshakes *handshakes;
    struct mailbox *accepted; /* struct tls_connection */
    int epoll_fd, control_fd;
    pthread_t thread;
    _Atomic bool quit;
    _Atomic uint32_t num_connections, num_handshakes;

    /* The thread's own. */
    struct tls_connection *connections;
    struct tls_connection *line_head, **line_tail;  /* pumped again before the next wait */
    struct tls_connection *dead;                    /* freed when no event can name them */
    uint8_t text[TEXT_BYTES], sealed[SEALED_BYTES]; /* scratch */
    char refused[ERROR_TEXT_BYTES_MAX]; /* what is wrong with the certificate's files, as told */

    pthread_mutex_t lock; /* guards detach */
    pthread_cond_t detached;
    void *detach; /* the user whose handshakes are to be closed; NULL: none */
};

/* ---- life of a connection ---- */

static void set_state(struct tls_connection *c, enum tls_state state) {
    if (c->state == TLS_HANDSHAKE && state != TLS_HANDSHAKE)
        c->tls->num_handshakes--;
    c->state = state;
}

/* A child that is being spawned may hold a copy of the descriptor until its exec, so closing alone
 * does not take it out of the epoll set. */
static void close_watched(struct tls *t, int fd) {
    epoll_ctl(t->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    close(fd);
}

/* Closes now, frees after the events that may still name it. */
static void kill(struct tls_connection *c) {
    if (c->state == TLS_DEAD)
        return;
    struct tls *t = c->tls;
    set_state(c, TLS_DEAD);
    close_watched(t, c->socket_fd);
    if (c->plain_fd >= 0)
        close_watched(t, c->plain_fd);
    if (c->prev)
        c->prev->next = c->next;
    else
        t->connections = c->next;
    if (c->next)
        c->next->prev = c->prev;
    c->next_dead = t->dead;
    t->dead = c;
    t->num_connections--;
}

static void bury_dead(struct tls *t) {
    struct tls_connection **at = &t->dead;
    while (*at) {
        struct tls_connection *c = *at;
        if (c->in_line) { /* the line drops it first */
            at = &c->next_dead;
            continue;
        }
        *at = c->next_dead;
        tls_handshake_destroy(c->handshake);
        free(c->partial.data);
        free(c->up.data);
        free(c->down.data);
        explicit_bzero(c, sizeof(*c)); /* its keys, as mbedTLS does with its own */
        free(c);
    }
}

static void stand_in_line(struct tls_connection *c) {
    if (c->in_line)
        return;
    c->in_line = true;
    c->next_in_line = NULL;
    *c->tls->line_tail = c;
    c->tls->line_tail = &c->next_in_line;
}

/* Our side is closed; what the client still sends is read and thrown away for a moment. */
static void linger(struct tls_connection *c) {
    if (c->plain_fd >= 0)
        close_watched(c->tls, c->plain_fd);
    c->plain_fd = -1;
    shutdown(c->socket_fd, SHUT_WR);
    set_state(c, TLS_LINGER);
    c->deadline_ms = clock_mono_ms() + TLS_LINGER_SECONDS * 1000;
}

/* ---- copying ---- */

/* Keeps what could not be written. */
static void waiting_put(struct waiting *w, const void *data, size_t len, size_t sent) {
    w->data = mem_dup(data, len);
    w->len = len;
    w->sent = sent;
}

static void waiting_clear(struct waiting *w) {
    free(w->data);
    *w = (struct waiting){0};
}

static void set_plain_gone(struct tls_connection *c) {
    if (!c->plain_gone)
        c->deadline_ms = clock_mono_ms() + TLS_FLUSH_SECONDS * 1000;
    c->plain_gone = true;
}

/* Writes to the plain side; gives how much went, and notes when nobody reads there. */
static size_t plain_write(struct tls_connection *c, const void *data, size_t len) {
    ssize_t n = send(c->plain_fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0)
        return (size_t)n;
    if (errno != EAGAIN && errno != EINTR)
        set_plain_gone(c);
    return 0;
}

/* Sends sealed bytes; gives how many went. */
static size_t socket_write(struct tls_connection *c, const void *data, size_t len) {
    ssize_t n = send(c->socket_fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0)
        return (size_t)n;
    if (errno != EAGAIN && errno != EINTR)
        kill(c);
    return 0;
}

/* Sends, and keeps what does not go. Nothing else waits. */
static void socket_write_all(struct tls_connection *c, const void *data, size_t len) {
    size_t sent = socket_write(c, data, len);
    if (sent < len && c->state == TLS_OPEN)
        waiting_put(&c->down, data, len, sent);
}

/* Ends the connection with a reason. It is told only between two records, and only if it goes. */
static void fail(struct tls_connection *c, int alert) {
    const uint8_t text[] = {TLS_ALERT_FATAL, (uint8_t)alert};
    uint8_t record[sizeof(text) + TLS_RECORD_OVERHEAD];
    if (!c->down.len) {
        size_t len = tls_record_seal(&c->to_client, TLS_RECORD_ALERT, text, sizeof(text), record);
        socket_write(c, record, len);
    }
    kill(c);
}

/* What is not data. Zero, or the alert to end with. */
static int take_control(struct tls_connection *c, enum tls_record_type type, const uint8_t *text,
                        size_t len) {
    if (type != TLS_RECORD_ALERT)
        return TLS_ALERT_UNEXPECTED_MESSAGE; /* there is no second handshake */
    if (len != 2)
        return TLS_ALERT_DECODE_ERROR;
    if (text[1] == TLS_ALERT_CLOSE_NOTIFY || text[0] != TLS_ALERT_WARNING)
        c->client_ended = true;
    return 0;
}

/* Opens the whole records among len bytes and moves their text together, to the front. Gives its
 * length and where the rest begins. A wrong record ends the connection. */
static size_t open_records(struct tls_connection *c, uint8_t *data, size_t len, size_t *ret_rest) {
    size_t at = 0, num_text = 0;
    int alert = 0;
    while (!alert && !c->client_ended) {
        int length = tls_record_length(data + at, len - at);
        if (length < 0)
            alert = -length;
        if (length <= 0 || (size_t)length > len - at)
            break;
        enum tls_record_type type;
        uint8_t *text;
        size_t text_len;
        alert =
            tls_record_open(&c->from_client, data + at, (size_t)length, &type, &text, &text_len);
        at += (size_t)length;
        if (!alert && type != TLS_RECORD_DATA) {
            alert = take_control(c, type, text, text_len);
        } else if (!alert) {
            memmove(data + num_text, text, text_len);
            num_text += text_len;
        }
    }
    if (alert)
        fail(c, alert);
    *ret_rest = at;
    return num_text;
}

/* More bytes from a side that is watched by edges; a short read means that it is empty now. */
static ssize_t read_some(int fd, uint8_t *data, size_t room, bool hung_up, bool *readable) {
    ssize_t n = recv(fd, data, room, MSG_DONTWAIT);
    if ((n < 0 && errno == EAGAIN) || (n > 0 && (size_t)n < room && !hung_up))
        *readable = false;
    return n;
}

/* Client to plain. True: something moved. */
static bool copy_up(struct tls_connection *c) {
    struct waiting *w = &c->up;
    if (w->len) {
        size_t n = plain_write(c, w->data + w->sent, w->len - w->sent);
        w->sent += n;
        if (w->sent == w->len || c->plain_gone)
            waiting_clear(w);
        return n > 0;
    }
    if (c->client_ended) {
        if (!c->plain_told)
            shutdown(c->plain_fd, SHUT_WR);
        c->plain_told = true;
        return false;
    }
    if (!c->socket_readable)
        return false;
    uint8_t *data = c->tls->sealed;
    size_t len = c->partial.len;
    ssize_t n = read_some(c->socket_fd, data + len, SEALED_BYTES - len, c->socket_hung_up,
                          &c->socket_readable);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0) {
        c->client_ended = true; /* a FIN without close_notify counts as one */
        if (n < 0)
            kill(c);
        return true;
    }
    if (len)
        memcpy(data, c->partial.data, len);
    waiting_clear(&c->partial);
    len += (size_t)n;
    size_t rest;
    size_t num_text = open_records(c, data, len, &rest);
    if (c->state != TLS_OPEN)
        return true;
    if (rest < len && !c->client_ended)
        waiting_put(&c->partial, data + rest, len - rest, 0);
    if (c->plain_gone)
        return true; /* thrown away */
    size_t sent = num_text ? plain_write(c, data, num_text) : 0;
    if (sent < num_text && !c->plain_gone)
        waiting_put(w, data, num_text, sent);
    return true;
}

/* All of the text, in records. Gives the bytes in t->sealed. */
static size_t seal_text(struct tls_connection *c, const uint8_t *text, size_t len) {
    size_t out = 0;
    for (size_t at = 0; at < len; at += TLS_RECORD_TEXT_MAX) {
        size_t part = len - at < TLS_RECORD_TEXT_MAX ? len - at : TLS_RECORD_TEXT_MAX;
        out +=
            tls_record_seal(&c->to_client, TLS_RECORD_DATA, text + at, part, c->tls->sealed + out);
    }
    return out;
}

static void say_goodbye(struct tls_connection *c) {
    static const uint8_t text[] = {TLS_ALERT_WARNING, TLS_ALERT_CLOSE_NOTIFY};
    uint8_t record[sizeof(text) + TLS_RECORD_OVERHEAD];
    if (!c->goodbye_sealed) {
        c->goodbye_sealed = true;
        socket_write_all(
            c, record,
            tls_record_seal(&c->to_client, TLS_RECORD_ALERT, text, sizeof(text), record));
    }
    if (c->state == TLS_OPEN && !c->down.len && !c->client_told) {
        c->client_told = true;
        shutdown(c->socket_fd, SHUT_WR);
    }
}

/* Plain to client. True: something moved. */
static bool copy_down(struct tls_connection *c) {
    struct waiting *w = &c->down;
    if (w->len) {
        size_t n = socket_write(c, w->data + w->sent, w->len - w->sent);
        w->sent += n;
        if (w->sent == w->len)
            waiting_clear(w);
        return n > 0;
    }
    if (c->plain_ended) {
        say_goodbye(c);
        return false;
    }
    if (!c->plain_readable)
        return false;
    ssize_t n =
        read_some(c->plain_fd, c->tls->text, TEXT_BYTES, c->plain_hung_up, &c->plain_readable);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0) {
        c->plain_ended = true;
        return true;
    }
    socket_write_all(c, c->tls->sealed, seal_text(c, c->tls->text, (size_t)n));
    return true;
}

static void pump_open(struct tls_connection *c) {
    for (int round = 0; c->state == TLS_OPEN; round++) {
        if (round == PUMP_ROUNDS_MAX) {
            stand_in_line(c);
            return;
        }
        bool moved = copy_up(c);
        if (c->state == TLS_OPEN)
            moved |= copy_down(c);
        if (c->state != TLS_OPEN)
            return;
        if (c->client_told && (c->client_ended || c->plain_gone)) {
            linger(c);
            return;
        }
        if (!moved)
            return;
    }
}

static void pump_linger(struct tls_connection *c) {
    for (int round = 0; round < PUMP_ROUNDS_MAX; round++) {
        ssize_t n = recv(c->socket_fd, c->tls->text, TEXT_BYTES, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            kill(c);
            return;
        }
    }
    stand_in_line(c);
}

/* ---- the handshake ---- */

static void watch(struct tls *t, int fd, uint32_t events, uintptr_t data) {
    struct epoll_event ev = {.events = events, .data.u64 = data};
    epoll_ctl(t->epoll_fd, EPOLL_CTL_ADD, fd, &ev);
}

/* The lowest bit of an event's pointer tells the plain side from the socket. */
enum { PLAIN_BIT = 1 };

static void open_plain(struct tls_connection *c) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
        kill(c);
        return;
    }
    c->plain_fd = pair[0];
    watch(c->tls, c->plain_fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, (uintptr_t)c | PLAIN_BIT);
    set_state(c, TLS_OPEN);
    c->socket_readable = true; /* the event of what came with the handshake's end is spent */
    struct auth_identity identity;
    bool known = tls_handshake_identity(c->handshake, &identity);
    tls_handshake_keys(c->handshake, &c->from_client, &c->to_client);
    tls_handshake_destroy(steal(c->handshake));
    c->on_plain(c->user, pair[1], c->socket_fd, known ? &identity : NULL);
}

static void pump_handshake(struct tls_connection *c) {
    switch (tls_handshake_step(c->handshake)) {
    case TLS_HANDSHAKE_WAITS:
        return;
    case TLS_HANDSHAKE_DONE:
        open_plain(c);
        return;
    case TLS_HANDSHAKE_FAILED:
        linger(c); /* lets the alert arrive */
        return;
    }
}

static void pump(struct tls_connection *c) {
    if (c->state == TLS_HANDSHAKE)
        pump_handshake(c);
    if (c->state == TLS_OPEN)
        pump_open(c);
    if (c->state == TLS_LINGER)
        pump_linger(c);
}

static void tell_certificate(struct tls *t, const char *what) {
    char not_after[TLS_CREDENTIALS_DATE_BYTES];
    if (tls_credentials_expired(tls_handshakes_credentials(t->handshakes), not_after))
        log_warn(what, "not_after=%s expired=true", not_after);
    else
        log_info(what, "not_after=%s", not_after);
}

/* The certificate's files may be others than yesterday. What is wrong with them is told once. */
static void refresh(struct tls *t) {
    struct error err = ERROR_INIT;
    bool changed;
    if (!tls_handshakes_refresh(t->handshakes, &changed, &err)) {
        *t->refused = '\0';
        if (changed)
            tell_certificate(t, "TLS certificate read again");
    } else if (strcmp(err.text, t->refused) != 0) {
        struct log_quoted q;
        log_warn("TLS certificate not read, the one before stays", "error=%s",
                 log_quote(&q, err.text));
        snprintf(t->refused, sizeof(t->refused), "%s", err.text);
    }
}

static void begin(struct tls *t, struct tls_connection *c) {
    refresh(t);
    c->handshake = tls_handshake_create(t->handshakes, c->socket_fd);
    c->next = t->connections;
    if (c->next)
        c->next->prev = c;
    t->connections = c;
    if (!c->handshake) {
        kill(c);
        return;
    }
    c->deadline_ms = clock_mono_ms() + TLS_HANDSHAKE_SECONDS * 1000;
    watch(t, c->socket_fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, (uintptr_t)c);
}

static void begin_accepted(struct tls *t) {
    struct tls_connection *c;
    while ((c = mailbox_receive(t->accepted, 0)))
        begin(t, c);
}

/* ---- the thread ---- */

static void check_deadlines(struct tls *t, int64_t now_ms) {
    struct tls_connection *next;
    for (struct tls_connection *c = t->connections; c; c = next) {
        next = c->next;
        bool limited = c->state == TLS_HANDSHAKE || c->state == TLS_LINGER || c->plain_gone;
        if (limited && now_ms >= c->deadline_ms)
            kill(c);
    }
}

static void serve_detach(struct tls *t) {
    pthread_mutex_lock(&t->lock);
    void *user = t->detach;
    pthread_mutex_unlock(&t->lock);
    if (!user)
        return;
    begin_accepted(t);
    struct tls_connection *next;
    for (struct tls_connection *c = t->connections; c; c = next) {
        next = c->next;
        if (c->user == user && c->state == TLS_HANDSHAKE)
            kill(c);
    }
    pthread_mutex_lock(&t->lock);
    t->detach = NULL;
    pthread_cond_broadcast(&t->detached);
    pthread_mutex_unlock(&t->lock);
}

static void on_event(struct tls *t, const struct epoll_event *ev) {
    if (ev->data.u64 == 0) { /* the mailbox */
        begin_accepted(t);
        return;
    }
    if (ev->data.u64 == PLAIN_BIT) { /* the control eventfd */
        uint64_t count;
        ssize_t n = read(t->control_fd, &count, sizeof(count));
        (void)n;
        return;
    }
    struct tls_connection *c = (void *)(uintptr_t)(ev->data.u64 & ~(uint64_t)PLAIN_BIT);
    bool plain = ev->data.u64 & PLAIN_BIT;
    if (ev->events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        *(plain ? &c->plain_hung_up : &c->socket_hung_up) = true;
    if (ev->events & ~(uint32_t)EPOLLOUT)
        *(plain ? &c->plain_readable : &c->socket_readable) = true;
    if (plain && (ev->events & EPOLLHUP))
        set_plain_gone(c); /* its buffered bytes can still be read */
    if (!c->in_line)
        pump(c);
}

static void take_a_turn(struct tls *t) {
    struct tls_connection *c = t->line_head;
    if (!c)
        return;
    t->line_head = c->next_in_line;
    if (!t->line_head)
        t->line_tail = &t->line_head;
    c->in_line = false;
    pump(c);
}

static void *tls_main(void *user) {
    struct tls *t = user;
    pthread_setname_np(pthread_self(), "tls");
    int64_t check_at_ms = 0;
    while (!t->quit) {
        struct epoll_event events[EVENTS_MAX];
        int timeout = t->line_head ? 0 : t->connections ? DEADLINE_CHECK_MS : -1;
        int n = epoll_wait(t->epoll_fd, events, EVENTS_MAX, timeout);
        for (int i = 0; i < n; i++)
            on_event(t, &events[i]);
        take_a_turn(t);
        serve_detach(t);
        int64_t now_ms = clock_mono_ms();
        if (now_ms >= check_at_ms) {
            check_deadlines(t, now_ms);
            check_at_ms = now_ms + DEADLINE_CHECK_MS;
        }
        bury_dead(t);
    }
    begin_accepted(t);
    while (t->connections)
        kill(t->connections);
    for (struct tls_connection *c = t->line_head; c; c = c->next_in_line)
        c->in_line = false;
    bury_dead(t);
    serve_detach(t);
    return NULL;
}

/* ---- public ---- */

static void tls_free(struct tls *t) {
    if (t->epoll_fd >= 0)
        close(t->epoll_fd);
    if (t->control_fd >= 0)
        close(t->control_fd);
    mailbox_destroy(t->accepted);
    tls_handshakes_destroy(t->handshakes);
    pthread_cond_destroy(&t->detached);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

enum errc tls_start(const struct tls_options *opt, struct tls **ret_tls, struct error *err) {
    struct tls *t = mem_alloc(sizeof(*t));
    t->line_tail = &t->line_head;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->detached, NULL);
    t->accepted = mailbox_create(TLS_HANDSHAKES_MAX);
    t->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    t->control_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    enum errc rc = tls_handshakes_create(opt, &t->handshakes, err);
    if (!rc && (t->epoll_fd < 0 || t->control_fd < 0))
        rc = err_errno(err, "TLS: epoll");
    if (!rc) {
        if (opt->cert_file && *opt->cert_file)
            tell_certificate(t, "TLS certificate read");
        watch(t, mailbox_fd(t->accepted), EPOLLIN, 0);
        watch(t, t->control_fd, EPOLLIN, PLAIN_BIT);
        errno = pthread_create(&t->thread, NULL, tls_main, t);
        if (errno)
            rc = err_errno(err, "TLS: start the thread");
    }
    if (rc) {
        tls_free(t);
        return rc;
    }
    *ret_tls = t;
    return OK;
}

static void control(struct tls *t) {
    uint64_t one = 1;
    ssize_t n = write(t->control_fd, &one, sizeof(one));
    (void)n;
}

void tls_stop(struct tls *t) {
    if (!t)
        return;
    t->quit = true;
    control(t);
    pthread_join(t->thread, NULL);
    tls_free(t);
}

void tls_accept(struct tls *t, int socket_fd, tls_plain_fn *on_plain, void *user) {
    if (t->num_connections >= TLS_CONNECTIONS_MAX || t->num_handshakes >= TLS_HANDSHAKES_MAX) {
        close(socket_fd);
        return;
    }
    int on = 1;
    setsockopt(socket_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    struct tls_connection *c = mem_alloc(sizeof(*c));
    c->tls = t;
    c->socket_fd = socket_fd;
    c->plain_fd = -1;
    c->on_plain = on_plain;
    c->user = user;
    t->num_connections++;
    t->num_handshakes++;
    if (mailbox_send(t->accepted, c)) {
        t->num_connections--;
        t->num_handshakes--;
        close(socket_fd);
        free(c);
    }
}

void tls_detach(struct tls *t, void *user) {
    pthread_mutex_lock(&t->lock);
    while (t->detach) /* somebody else's */
        pthread_cond_wait(&t->detached, &t->lock);
    t->detach = user;
    control(t);
    while (t->detach == user)
        pthread_cond_wait(&t->detached, &t->lock);
    pthread_mutex_unlock(&t->lock);
}
