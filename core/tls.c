/* TLS in front of the HTTP server: one epoll thread for all handshakes and records.
 *
 *     client ══ socket ══ [ssl] ── up ──▶ plain ══ libmicrohttpd
 *                               ◀─ down ──
 *
 * After the handshake a socketpair is made; the HTTP server gets the far end. From then on a
 * connection is two one-way copies with at most one record's plaintext waiting in each. What cannot
 * be written stays where it is and nothing more is read in that direction, so a slow reader slows
 * its own sender through the kernel's buffers and nobody else.
 *
 * Ends travel one direction at a time: close_notify (or a plain FIN) from the client shuts down our
 * writing side of the socketpair; the end of the plain side becomes close_notify and FIN. A
 * connection is through when both have happened, or when the plain side is gone altogether; then
 * the socket is read and thrown away for a moment, because closing it with unread bytes would reset
 * the connection and could destroy our last answer on its way.
 *
 * Descriptors are watched edge-triggered: pump() goes on until nothing moves. A connection that
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

#include <mbedtls/error.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/oid.h>
#include <mbedtls/ssl.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>

#include "core/base/buf.h"
#include "core/base/clock.h"
#include "core/base/mailbox.h"
#include "core/pki.h"

enum {
    RECORD_BYTES_MAX = 16 << 10,
    PUMP_ROUNDS_MAX = 2,
    EVENTS_MAX = 128,
    DEADLINE_CHECK_MS = 500,
    ORGANIZATIONS_MAX = AUTH_GROUPS_MAX,
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
    int socket_fd, plain_fd; /* plain_fd -1: before the handshake is done */
    mbedtls_ssl_context ssl;
    tls_plain_fn *on_plain;
    void *user;
    int64_t deadline_ms; /* of a handshake, a linger, or the last bytes when plain_gone */
    struct waiting up, down;
    bool client_ended, plain_ended; /* no more comes from there */
    bool plain_told, client_told;   /* and the other side knows */
    bool plain_gone;                /* nobody reads there any more */
    bool in_line;                   /* waits for another pump */
    struct tls_connection *prev, *next, *next_in_line, *next_dead;
};

struct tls {
    const struct auth *auth;
    mbedtls_ssl_config config;
    mbedtls_x509_crt ca, certificate;
    mbedtls_pk_context key;
    struct mailbox *accepted; /* struct tls_connection */
    int epoll_fd, control_fd;
    pthread_t thread;
    _Atomic bool quit;
    _Atomic uint32_t num_connections, num_handshakes;

    /* The thread's own. */
    struct tls_connection *connections;
    struct tls_connection *line_head, **line_tail; /* pumped again before the next wait */
    struct tls_connection *dead;                   /* freed when no event can name them */
    char scratch[RECORD_BYTES_MAX];

    pthread_mutex_t lock; /* guards detach */
    pthread_cond_t detached;
    void *detach; /* the user whose handshakes are to be closed; NULL: none */
};

/* ---- sockets under mbedTLS ---- */

static int socket_send(void *user, const unsigned char *data, size_t len) {
    const struct tls_connection *c = user;
    ssize_t n = send(c->socket_fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0)
        return (int)n;
    return errno == EAGAIN || errno == EINTR ? MBEDTLS_ERR_SSL_WANT_WRITE
                                             : MBEDTLS_ERR_NET_CONN_RESET;
}

static int socket_receive(void *user, unsigned char *data, size_t len) {
    const struct tls_connection *c = user;
    ssize_t n = recv(c->socket_fd, data, len, MSG_DONTWAIT);
    if (n >= 0)
        return (int)n;
    return errno == EAGAIN || errno == EINTR ? MBEDTLS_ERR_SSL_WANT_READ
                                             : MBEDTLS_ERR_NET_CONN_RESET;
}

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
        mbedtls_ssl_free(&c->ssl);
        free(c->up.data);
        free(c->down.data);
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

/* ---- the client's name ---- */

/* Copies a name's text; false when it does not fit or holds a NUL (two readers would differ). */
static bool name_text(const mbedtls_x509_name *n, char out[AUTH_NAME_BYTES_MAX]) {
    if (!n->val.len || n->val.len >= AUTH_NAME_BYTES_MAX || memchr(n->val.p, '\0', n->val.len))
        return false;
    memcpy(out, n->val.p, n->val.len);
    out[n->val.len] = '\0';
    return true;
}

static bool client_identity(struct tls_connection *c, struct auth_identity *ret_identity) {
    const mbedtls_x509_crt *cert = mbedtls_ssl_get_peer_cert(&c->ssl);
    if (!cert || mbedtls_ssl_get_verify_result(&c->ssl))
        return false;
    char common_name[AUTH_NAME_BYTES_MAX] = "";
    char texts[ORGANIZATIONS_MAX][AUTH_NAME_BYTES_MAX];
    const char *organizations[ORGANIZATIONS_MAX];
    size_t num_organizations = 0;
    for (const mbedtls_x509_name *n = &cert->subject; n; n = n->next) {
        if (!MBEDTLS_OID_CMP(MBEDTLS_OID_AT_CN, &n->oid)) {
            if (!name_text(n, common_name))
                return false;
        } else if (!MBEDTLS_OID_CMP(MBEDTLS_OID_AT_ORGANIZATION, &n->oid) &&
                   num_organizations < ORGANIZATIONS_MAX) {
            if (!name_text(n, texts[num_organizations]))
                return false;
            organizations[num_organizations] = texts[num_organizations];
            num_organizations++;
        }
    }
    auth_certificate_identity(organizations, num_organizations, common_name, ret_identity);
    return !ret_identity->anonymous;
}

/* ---- copying ---- */

/* Keeps what could not be written. */
static void waiting_put(struct waiting *w, const char *data, size_t len, size_t sent) {
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
static size_t plain_write(struct tls_connection *c, const char *data, size_t len) {
    ssize_t n = send(c->plain_fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0)
        return (size_t)n;
    if (errno != EAGAIN && errno != EINTR)
        set_plain_gone(c);
    return 0;
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
    char *scratch = c->tls->scratch;
    int n = mbedtls_ssl_read(&c->ssl, (unsigned char *)scratch, RECORD_BYTES_MAX);
    if (n == MBEDTLS_ERR_SSL_WANT_READ || n == MBEDTLS_ERR_SSL_WANT_WRITE)
        return false;
    if (n <= 0) {
        /* close_notify, or a FIN without one, or a broken record. */
        c->client_ended = true;
        if (n && n != MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY && n != MBEDTLS_ERR_SSL_CONN_EOF)
            kill(c);
        return true;
    }
    if (c->plain_gone)
        return true; /* thrown away */
    size_t sent = plain_write(c, scratch, (size_t)n);
    if (sent < (size_t)n && !c->plain_gone)
        waiting_put(w, scratch, (size_t)n, sent);
    return true;
}

/* Gives bytes to mbedTLS. False: it wants to be asked again with the same ones, or broke. */
static bool ssl_write_some(struct tls_connection *c, const char *data, size_t len, size_t *sent) {
    while (*sent < len) {
        int n = mbedtls_ssl_write(&c->ssl, (const unsigned char *)data + *sent, len - *sent);
        if (n == MBEDTLS_ERR_SSL_WANT_WRITE || n == MBEDTLS_ERR_SSL_WANT_READ)
            return false;
        if (n < 0) {
            kill(c);
            return false;
        }
        *sent += (size_t)n;
    }
    return true;
}

/* Plain to client. True: something moved. */
static bool copy_down(struct tls_connection *c) {
    struct waiting *w = &c->down;
    if (w->len) {
        size_t before = w->sent;
        if (ssl_write_some(c, w->data, w->len, &w->sent)) {
            waiting_clear(w);
            return true;
        }
        return c->state == TLS_OPEN && w->sent > before;
    }
    if (c->plain_ended) {
        if (!c->client_told && mbedtls_ssl_close_notify(&c->ssl) != MBEDTLS_ERR_SSL_WANT_WRITE) {
            c->client_told = true;
            shutdown(c->socket_fd, SHUT_WR);
        }
        return false;
    }
    char *scratch = c->tls->scratch;
    ssize_t n = recv(c->plain_fd, scratch, RECORD_BYTES_MAX, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0) {
        c->plain_ended = true;
        return true;
    }
    size_t sent = 0;
    if (!ssl_write_some(c, scratch, (size_t)n, &sent) && c->state == TLS_OPEN)
        waiting_put(w, scratch, (size_t)n, sent);
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
        ssize_t n = recv(c->socket_fd, c->tls->scratch, RECORD_BYTES_MAX, MSG_DONTWAIT);
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
    struct auth_identity identity;
    bool known = client_identity(c, &identity);
    c->on_plain(c->user, pair[1], c->socket_fd, known ? &identity : NULL);
}

static void pump_handshake(struct tls_connection *c) {
    int rc = mbedtls_ssl_handshake(&c->ssl);
    if (rc == MBEDTLS_ERR_SSL_WANT_READ || rc == MBEDTLS_ERR_SSL_WANT_WRITE)
        return;
    if (rc) {
        /* The alert that says why is written already; let it arrive. */
        linger(c);
        return;
    }
    open_plain(c);
}

static void pump(struct tls_connection *c) {
    if (c->state == TLS_HANDSHAKE)
        pump_handshake(c);
    if (c->state == TLS_OPEN)
        pump_open(c);
    if (c->state == TLS_LINGER)
        pump_linger(c);
}

static void begin(struct tls *t, struct tls_connection *c) {
    mbedtls_ssl_init(&c->ssl);
    c->next = t->connections;
    if (c->next)
        c->next->prev = c;
    t->connections = c;
    if (mbedtls_ssl_setup(&c->ssl, &t->config)) {
        kill(c);
        return;
    }
    mbedtls_ssl_set_bio(&c->ssl, c, socket_send, socket_receive, NULL);
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
    if ((ev->data.u64 & PLAIN_BIT) && (ev->events & EPOLLHUP))
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

static const int ciphersuites[] = {MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
                                   MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
                                   MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, 0};
static const char *protocols[] = {"http/1.1", NULL};

static enum errc configure(struct tls *t, struct error *err) {
    const struct pki *p = auth_pki(t->auth);
    int rc =
        mbedtls_x509_crt_parse(&t->ca, (const unsigned char *)p->ca_cert, strlen(p->ca_cert) + 1);
    rc = rc ? rc
            : mbedtls_x509_crt_parse(&t->certificate, (const unsigned char *)p->server_cert,
                                     strlen(p->server_cert) + 1);
    size_t key_len = strlen(p->server_key) + 1;
#if MBEDTLS_VERSION_MAJOR >= 3
    rc = rc ? rc
            : mbedtls_pk_parse_key(&t->key, (const unsigned char *)p->server_key, key_len, NULL, 0,
                                   pki_random, NULL);
#else
    rc = rc ? rc
            : mbedtls_pk_parse_key(&t->key, (const unsigned char *)p->server_key, key_len, NULL, 0);
#endif
    rc = rc ? rc
            : mbedtls_ssl_config_defaults(&t->config, MBEDTLS_SSL_IS_SERVER,
                                          MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT);
    rc = rc ? rc : mbedtls_ssl_conf_own_cert(&t->config, &t->certificate, &t->key);
    rc = rc ? rc : mbedtls_ssl_conf_alpn_protocols(&t->config, protocols);
    if (rc) {
        char text[128];
        mbedtls_strerror(rc, text, sizeof(text));
        return err_set(err, ERR_INTERNAL, "TLS: %s", text);
    }
    mbedtls_ssl_conf_rng(&t->config, pki_random, NULL);
    mbedtls_ssl_conf_ca_chain(&t->config, &t->ca, NULL);
    mbedtls_ssl_conf_authmode(&t->config, MBEDTLS_SSL_VERIFY_OPTIONAL);
    mbedtls_ssl_conf_ciphersuites(&t->config, ciphersuites);
    /* 1.2 exactly: 2.28 has nothing newer, and 3.x would need its PSA layer for 1.3. */
    mbedtls_ssl_conf_min_version(&t->config, MBEDTLS_SSL_MAJOR_VERSION_3,
                                 MBEDTLS_SSL_MINOR_VERSION_3);
    mbedtls_ssl_conf_max_version(&t->config, MBEDTLS_SSL_MAJOR_VERSION_3,
                                 MBEDTLS_SSL_MINOR_VERSION_3);
    return OK;
}

static void tls_free(struct tls *t) {
    if (t->epoll_fd >= 0)
        close(t->epoll_fd);
    if (t->control_fd >= 0)
        close(t->control_fd);
    mailbox_destroy(t->accepted);
    mbedtls_ssl_config_free(&t->config);
    mbedtls_pk_free(&t->key);
    mbedtls_x509_crt_free(&t->certificate);
    mbedtls_x509_crt_free(&t->ca);
    pthread_cond_destroy(&t->detached);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

enum errc tls_start(const struct auth *a, struct tls **ret_tls, struct error *err) {
    struct tls *t = mem_alloc(sizeof(*t));
    t->auth = a;
    t->line_tail = &t->line_head;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->detached, NULL);
    mbedtls_ssl_config_init(&t->config);
    mbedtls_x509_crt_init(&t->ca);
    mbedtls_x509_crt_init(&t->certificate);
    mbedtls_pk_init(&t->key);
    t->accepted = mailbox_create(TLS_HANDSHAKES_MAX);
    t->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    t->control_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    enum errc rc = configure(t, err);
    if (!rc && (t->epoll_fd < 0 || t->control_fd < 0))
        rc = err_errno(err, "TLS: epoll");
    if (!rc) {
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
