/* Listening sockets: real ones of the test's own user, and lines as the kernel writes them. */
#include "core/node/listener.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

static void a_listener_is_found_by_its_user(void **state) {
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(any);
    int fd = socket(AF_INET, SOCK_STREAM, 0), other = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (void *)&any, sizeof(any)), 0);
    assert_int_equal(getsockname(fd, (void *)&any, &len), 0);
    struct sockaddr_storage found;
    struct error err = ERROR_INIT;
    uint16_t port = ntohs(any.sin_port);
    assert_int_equal(listener_find(getuid(), port, &found, &len, &err), ERR_NOT_FOUND);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(listener_find(getuid(), port, &found, &len, &err), OK);
    assert_int_equal(connect(other, (void *)&found, len), 0);
    assert_int_equal(listener_find(getuid() + 1, port, &found, &len, &err), ERR_NOT_FOUND);
    close(other);
    close(fd);
}

static void lines_are_read(void **state) {
    static const struct {
        const char *line;
        const char *address; /* NULL: not this one */
    } cases[] = {
        {"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 70001        "
         "0 1",
         "127.0.0.1"},
        {"  12: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 70001        "
         "0 1",
         "127.0.0.1"},
        {"   0: 0200A8C0:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 70001        "
         "0 1",
         "192.168.0.2"},
        {"   0: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000 70001        "
         "0 1",
         NULL},
        {"   0: 0100007F:1F90 00000000:0000 01 00000000:00000000 00:00000000 00000000 70001        "
         "0 1",
         NULL},
        {"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        "
         "0 1",
         NULL},
        {"   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A "
         "00000000:00000000 00:00000000 00000000 70001        0 1",
         "::1"},
        {"   0: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A "
         "00000000:00000000 00:00000000 00000000 70001        0 1",
         "::1"},
        {"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid", NULL},
        {"   0: 0100:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 70001        0 1",
         NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct sockaddr_storage found;
        socklen_t len;
        char text[INET6_ADDRSTRLEN] = "";
        assert_int_equal(listener_parse(cases[i].line, 70001, 8080, &found, &len),
                         cases[i].address != NULL);
        if (!cases[i].address)
            continue;
        const void *address = found.ss_family == AF_INET
                                  ? (const void *)&((struct sockaddr_in *)&found)->sin_addr
                                  : (const void *)&((struct sockaddr_in6 *)&found)->sin6_addr;
        assert_non_null(inet_ntop(found.ss_family, address, text, sizeof(text)));
        assert_string_equal(text, cases[i].address);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_listener_is_found_by_its_user),
        cmocka_unit_test(lines_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
