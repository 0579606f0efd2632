/* One health question, its answer in any pieces. */
#include "core/node/probe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Asks a socket that answers with this text, `piece` bytes at a time; gives what the probe says. */
static enum probe_result ask(const char *answer, size_t piece, int64_t *ret_memory_bytes) {
    char dir[] = "/tmp/inferd-probe-XXXXXX";
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct probe p;
    assert_non_null(mkdtemp(dir));
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", dir);
    int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(server, 1), 0);
    probe_init(&p);
    assert_true(probe_start(&p, address.sun_path, "/health", 1000));
    int client = accept(server, NULL, NULL);
    assert_true(client >= 0);
    enum probe_result result = probe_advance(&p, 0);
    for (size_t sent = 0, len = strlen(answer); sent < len && result == PROBE_PENDING;) {
        size_t n = piece < len - sent ? piece : len - sent;
        assert_int_equal(send(client, answer + sent, n, MSG_NOSIGNAL), n);
        sent += n;
        result = probe_advance(&p, 0);
    }
    close(client);
    if (result == PROBE_PENDING)
        result = probe_advance(&p, 0); /* the end of the answer decides */
    *ret_memory_bytes = p.memory_bytes;
    probe_cancel(&p);
    close(server);
    unlink(address.sun_path);
    rmdir(dir);
    return result;
}

static void status_and_memory_are_read_from_the_head(void **state) {
    static const struct {
        const char *answer;
        enum probe_result result;
        int64_t memory_bytes;
    } rows[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-Inferd-Memory-Bytes: 123456789\r\n\r\nok\n",
         PROBE_HEALTHY, 123456789},
        {"HTTP/1.1 200 OK\r\nx-inferd-memory-bytes: 5\r\n\r\n", PROBE_HEALTHY, 5},
        {"HTTP/1.1 200 OK\r\n\r\nX-Inferd-Memory-Bytes: 5\r\n", PROBE_HEALTHY, 0},
        {"HTTP/1.1 200 OK\r\nX-Inferd-Memory-Bytes: -5\r\n\r\n", PROBE_HEALTHY, 0},
        {"HTTP/1.1 200 OK\r\nX-Inferd-Memory-Bytes: 99999999999999999999\r\n\r\n", PROBE_HEALTHY,
         0},
        {"HTTP/1.1 200 OK\r\nX-Inferd-Memory-Bytes: lots\r\n\r\n", PROBE_HEALTHY, 0},
        {"HTTP/1.1 503 Service Unavailable\r\nX-Inferd-Memory-Bytes: 5\r\n\r\n", PROBE_FAILED, 0},
        {"HTTP/1.1 200", PROBE_HEALTHY, 0}, /* and then the end */
        {"HTTP/1.1 20", PROBE_FAILED, 0},
        {"SSH-2.0-OpenSSH_9.2\r\n\r\n", PROBE_FAILED, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (size_t piece = 1; piece < 200; piece *= 7) {
            int64_t bytes;
            enum probe_result result = ask(rows[i].answer, piece, &bytes);
            if (result != rows[i].result || bytes != rows[i].memory_bytes)
                fail_msg("\"%s\" by %zu: %d, %lld bytes", rows[i].answer, piece, (int)result,
                         (long long)bytes);
        }
    }
}

static void a_head_without_end_is_judged_when_there_is_no_more_room(void **state) {
    char answer[4 * PROBE_ANSWER_BYTES];
    int64_t bytes;
    memset(answer, 'x', sizeof(answer));
    memcpy(answer, "HTTP/1.1 200 OK\r\nX-Long: ", 25);
    answer[sizeof(answer) - 1] = '\0';
    assert_int_equal(ask(answer, sizeof(answer), &bytes), PROBE_HEALTHY);
    assert_int_equal(bytes, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status_and_memory_are_read_from_the_head),
        cmocka_unit_test(a_head_without_end_is_judged_when_there_is_no_more_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
