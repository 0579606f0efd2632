/* Connections that leave HTTP: the socket becomes the owner's, whatever the server does then. */
#include "core/http.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <strings.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/http_client_test.h"

/* ---- a client ---- */

static void end(int fd) {
    AUTO_BUF rest = BUF_INIT;
    shutdown(fd, SHUT_WR);
    receive_end(fd, &rest);
    close(fd);
}

/* ---- a server that echoes ---- */

enum { NUM_ECHOES_MAX = 1024 };

struct fixture {
    struct http_server *server;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct http_exchange *kept;
    int num_kept, num_gone, num_upgraded, num_refused, num_tries;
    pthread_t echoes[NUM_ECHOES_MAX];
    int num_echoes;
};

static void note(struct fixture *f, int *counter) {
    pthread_mutex_lock(&f->lock);
    ++*counter;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

static void await(struct fixture *f, const int *counter, int at_least) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_MS / 1000;
    pthread_mutex_lock(&f->lock);
    while (*counter < at_least)
        if (pthread_cond_timedwait(&f->changed, &f->lock, &until) == ETIMEDOUT)
            fail_msg("waited in vain: %d of %d", *counter, at_least);
    pthread_mutex_unlock(&f->lock);
}

struct echo {
    struct http_exchange *x;
    int fd;
    struct buf early;
};

static void *run_echo(void *user) {
    struct echo *e = user;
    assert_true(fcntl(e->fd, F_GETFL) & O_NONBLOCK);
    fcntl(e->fd, F_SETFL, fcntl(e->fd, F_GETFL) & ~O_NONBLOCK);
    send_all(e->fd, e->early.data, e->early.len);
    char data[4096];
    for (ssize_t n; (n = recv(e->fd, data, sizeof(data), 0)) > 0;)
        send_all(e->fd, data, (size_t)n);
    close(e->fd);
    assert_string_equal(http_path(e->x), "/upgrade"); /* the request is still there */
    http_upgrade_end(e->x);
    buf_deinit(&e->early);
    free(e);
    return NULL;
}

static void on_upgraded(struct http_exchange *x, int fd, const void *early, size_t early_len,
                        void *user) {
    struct fixture *f = user;
    if (fd < 0) {
        http_upgrade_end(x);
        note(f, &f->num_refused);
        return;
    }
    struct echo *e = mem_alloc(sizeof(*e));
    e->x = x;
    e->fd = fd;
    buf_append(&e->early, early, early_len);
    pthread_mutex_lock(&f->lock);
    assert_true(f->num_echoes < NUM_ECHOES_MAX);
    assert_int_equal(pthread_create(&f->echoes[f->num_echoes++], NULL, run_echo, e), 0);
    pthread_mutex_unlock(&f->lock);
    note(f, &f->num_upgraded);
}

static void on_gone(struct http_exchange *x, void *user) {
    struct fixture *f = user;
    note(f, &f->num_gone);
}

static void handle(struct http_exchange *x, void *user) {
    struct fixture *f = user;
    if (!strcmp(http_path(x), "/upgrade")) {
        http_set_header(x, "X-One", "1");
        http_upgrade(x, "echo", on_upgraded, f);
    } else if (!strcmp(http_path(x), "/keep")) {
        http_on_gone(x, on_gone, f);
        f->kept = x;
        note(f, &f->num_kept);
    } else {
        http_reply_text(x, 200, "plain");
    }
}

static void start(struct fixture *f, uint32_t connections_max) {
    memset(f, 0, sizeof(*f));
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    struct http_server_options opt = {.listen = "127.0.0.1:0",
                                      .tick_ms = 50,
                                      .connections_max = connections_max,
                                      .handler = handle,
                                      .user = f};
    struct error err = ERROR_INIT;
    if (http_server_start(&opt, &f->server, &err))
        fail_msg("%s", err.text);
}

static void stop(struct fixture *f) {
    http_server_stop(steal(f->server));
}

static void finish(struct fixture *f) {
    http_server_stop(f->server);
    for (int i = 0; i < f->num_echoes; i++)
        pthread_join(f->echoes[i], NULL);
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->changed);
}

/* ---- the promises ---- */

static const char REQUEST[] =
    "GET /upgrade HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";

static void an_upgraded_connection_outlives_the_server(void **state) {
    struct fixture f;
    start(&f, 0);
    AUTO_BUF in = BUF_INIT;
    int fd = dial(f.server);
    send_text(fd, REQUEST);
    receive_until(fd, &in, "\r\n\r\n");
    assert_memory_equal(in.data, "HTTP/1.1 101 ", 13);
    assert_non_null(strstr(in.data, "Upgrade: echo\r\n"));
    assert_non_null(strstr(in.data, "X-One: 1\r\n"));
    assert_non_null(strcasestr(in.data, "Connection: upgrade\r\n"));
    stop(&f);
    buf_clear(&in);
    send_text(fd, "no HTTP\r\n\r\n");
    receive_until(fd, &in, "no HTTP\r\n\r\n");
    assert_int_equal(in.len, 11);
    end(fd);
    finish(&f);
}

static void bytes_behind_the_request_are_not_lost(void **state) {
    struct fixture f;
    start(&f, 0);
    AUTO_BUF in = BUF_INIT;
    AUTO_FREE char *early = mem_printf("%searly bird", REQUEST);
    int fd = dial(f.server);
    send_text(fd, early);
    receive_until(fd, &in, "\r\n\r\nearly bird");
    end(fd);
    finish(&f);
}

static void an_upgraded_connection_is_not_counted(void **state) {
    struct fixture f;
    start(&f, 1);
    AUTO_BUF in = BUF_INIT;
    int fd = dial(f.server);
    send_text(fd, REQUEST);
    receive_until(fd, &in, "\r\n\r\n");
    for (int64_t until_ms = clock_mono_ms() + WAIT_MS;;) {
        AUTO_BUF answer = BUF_INIT;
        int other = dial(f.server);
        send_text(other, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        while (receive(other, &answer)) {}
        close(other);
        if (answer.data && strstr(answer.data, "plain"))
            break; /* 503 until its place is seen to be free */
        assert_true(clock_mono_ms() < until_ms);
    }
    send_text(fd, "still here");
    receive_until(fd, &in, "still here");
    end(fd);
    finish(&f);
}

static void an_owner_learns_that_there_is_no_connection(void **state) {
    struct fixture f;
    start(&f, 0);
    int fd = dial(f.server);
    send_text(fd, "GET /keep HTTP/1.1\r\nHost: h\r\n\r\n");
    await(&f, &f.num_kept, 1);
    close(fd);
    await(&f, &f.num_gone, 1);
    http_upgrade(f.kept, "echo", on_upgraded, &f);
    await(&f, &f.num_refused, 1);
    assert_int_equal(f.num_upgraded, 0);
    finish(&f);
}

static void words_of_headers_are_found(void **state) {
    struct fixture f;
    start(&f, 0);
    int fd = dial(f.server);
    send_text(fd, "GET /keep HTTP/1.1\r\nHost: h\r\nConnection: keep-alive,UPGRADE\r\n"
                  "X-List: one two\r\nX-List:  , three ,\r\nX-Empty:\r\n\r\n");
    await(&f, &f.num_kept, 1);
    assert_true(http_header_has_word(f.kept, "connection", "upgrade"));
    assert_true(http_header_has_word(f.kept, "x-list", "two"));
    assert_true(http_header_has_word(f.kept, "x-list", "three"));
    assert_false(http_header_has_word(f.kept, "x-list", "thre"));
    assert_false(http_header_has_word(f.kept, "x-empty", "three"));
    assert_false(http_header_has_word(f.kept, "x-absent", "three"));
    http_reply_text(f.kept, 200, "");
    end(fd);
    finish(&f);
}

/* ---- many at once, and the server stops under them ---- */

struct crowd {
    struct fixture *fixture;
    atomic_bool stopping;
};

static void *come_and_go(void *user) {
    struct crowd *c = user;
    unsigned seed = (unsigned)(uintptr_t)pthread_self();
    const char *address = http_server_address(c->fixture->server);
    struct sockaddr_in sin = {.sin_family = AF_INET,
                              .sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1)),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int i = 0; i < 60 && !c->stopping; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (!connect(fd, (void *)&sin, sizeof(sin))) {
            send_all(fd, REQUEST, sizeof(REQUEST) - 1 - (rand_r(&seed) % 8 == 0));
            struct pollfd p = {.fd = fd, .events = POLLIN};
            if (rand_r(&seed) % 2 && poll(&p, 1, 20) == 1)
                send_text(fd, "something");
        }
        close(fd);
        note(c->fixture, &c->fixture->num_tries);
    }
    return NULL;
}

static void nothing_is_lost_while_clients_leave_and_the_server_stops(void **state) {
    for (int round = 0; round < 4; round++) {
        struct fixture f;
        start(&f, 0);
        struct crowd c = {.fixture = &f};
        pthread_t clients[8];
        for (size_t i = 0; i < ARRAY_LEN(clients); i++)
            pthread_create(&clients[i], NULL, come_and_go, &c);
        await(&f, &f.num_tries, 100 * round);
        c.stopping = round % 2 == 0;
        if (c.stopping) /* the last clients meet a server that stops */
            http_server_drain(f.server);
        for (size_t i = 0; i < ARRAY_LEN(clients); i++)
            pthread_join(clients[i], NULL);
        stop(&f);
        finish(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_upgraded_connection_outlives_the_server),
        cmocka_unit_test(bytes_behind_the_request_are_not_lost),
        cmocka_unit_test(an_upgraded_connection_is_not_counted),
        cmocka_unit_test(an_owner_learns_that_there_is_no_connection),
        cmocka_unit_test(words_of_headers_are_found),
        cmocka_unit_test(nothing_is_lost_while_clients_leave_and_the_server_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
