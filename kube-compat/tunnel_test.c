/* What a tunnel lets its client do: on a pair of sockets, without a server. */
#include "kube-compat/tunnel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/clock.h"

static int far_end; /* the client's */
static int stop_pipe[2];

static struct tunnel open_tunnel(void) {
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    assert_int_equal(pipe(stop_pipe), 0);
    far_end = ends[1];
    int64_t now_ms = clock_mono_ms();
    return (struct tunnel){.fd = ends[0],
                           .stop_fd = stop_pipe[0],
                           .progress_ms = now_ms,
                           .heard_ms = now_ms,
                           .pinged_ms = now_ms};
}

static void close_tunnel(struct tunnel *t) {
    close(t->fd);
    close(far_end);
    close(stop_pipe[0]);
    close(stop_pipe[1]);
    buf_deinit(&t->out);
    buf_deinit(&t->early);
}

/* The client says as much as goes; gives what the tunnel reads of it in one turn. */
static size_t read_talker(struct tunnel *t) {
    static const char talk[TUNNEL_READ_BYTES_MAX];
    char data[TUNNEL_READ_BYTES_MAX];
    size_t total = 0, n;
    do {
        while (send(far_end, talk, sizeof(talk), MSG_NOSIGNAL) > 0) {}
        n = tunnel_read(t, data);
        total += n;
    } while (n && total <= 4 * TUNNEL_TURN_BYTES_MAX);
    return total;
}

static void who_never_pauses_gets_a_turn_at_a_time(void **state) {
    struct tunnel t = open_tunnel();
    struct pollfd p[TUNNEL_POLLS];
    for (int turn = 0; turn < 3; turn++) {
        size_t total = read_talker(&t);
        assert_in_range(total, TUNNEL_TURN_BYTES_MAX,
                        TUNNEL_TURN_BYTES_MAX + TUNNEL_READ_BYTES_MAX);
        tunnel_poll(&t, p, true);
        assert_int_equal(poll(p, TUNNEL_POLLS, 0), 1);
        assert_true(tunnel_polled(&t, p));
    }
    close_tunnel(&t);
}

static void who_asks_without_listening_is_not_read(void **state) {
    struct tunnel t = open_tunnel();
    struct pollfd p[TUNNEL_POLLS];
    AUTO_FREE char *answers = mem_alloc(TUNNEL_ANSWERS_BYTES_MAX);
    while (tunnel_unsent(&t) < TUNNEL_ANSWERS_BYTES_MAX) { /* what goes goes */
        buf_append(&t.out, answers, TUNNEL_ANSWERS_BYTES_MAX);
        tunnel_send(&t);
    }
    assert_int_equal(read_talker(&t), 0);
    tunnel_poll(&t, p, true);
    assert_false(p[0].events & POLLIN);
    assert_true(p[0].events & POLLOUT);
    assert_int_equal(poll(p, TUNNEL_POLLS, 0), 0);
    assert_true(tunnel_polled(&t, p));
    while (tunnel_unsent(&t) >= TUNNEL_ANSWERS_BYTES_MAX) { /* it listens after all */
        char data[TUNNEL_READ_BYTES_MAX];
        assert_true(recv(far_end, data, sizeof(data), 0) > 0);
        tunnel_send(&t);
    }
    assert_true(read_talker(&t) > 0);
    close_tunnel(&t);
}

static void *talk_on(void *user) {
    static const char talk[4 * TUNNEL_READ_BYTES_MAX];
    struct pollfd p = {.fd = far_end, .events = POLLOUT};
    while (poll(&p, 1, -1) == 1 && send(far_end, talk, sizeof(talk), MSG_NOSIGNAL) > 0) {}
    return NULL;
}

static void a_server_that_stops_waits_for_no_talker(void **state) {
    struct tunnel t = open_tunnel();
    pthread_t talker;
    assert_int_equal(write(stop_pipe[1], "", 1), 1);
    assert_int_equal(pthread_create(&talker, NULL, talk_on, NULL), 0);
    tunnel_finish(&t);
    assert_false(t.client_gone);
    shutdown(t.fd, SHUT_RDWR);
    pthread_join(talker, NULL);
    close_tunnel(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_never_pauses_gets_a_turn_at_a_time),
        cmocka_unit_test(who_asks_without_listening_is_not_read),
        cmocka_unit_test(a_server_that_stops_waits_for_no_talker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
