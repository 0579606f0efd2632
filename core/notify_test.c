/* Notification: the datagram arrives as it was given; the watchdog's interval is halved. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/notify.h"

static void a_datagram_reaches_the_manager(void **state) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "inferd-notify-%d", getpid());
    socklen_t size =
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(address.sun_path + 1));
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    char name[sizeof(address.sun_path) + 1];
    snprintf(name, sizeof(name), "@%s", address.sun_path + 1);
    setenv("NOTIFY_SOCKET", name, 1);
    notify_send("READY=1");
    char text[64] = "";
    assert_int_equal(recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT), 7);
    assert_string_equal(text, "READY=1");
    unsetenv("NOTIFY_SOCKET");
    notify_send("READY=1"); /* nobody listens: nothing happens */
    close(fd);
}

static void the_watchdog_interval_is_halved(void **state) {
    unsetenv("WATCHDOG_USEC");
    assert_int_equal(notify_watchdog_ms(), -1);
    setenv("WATCHDOG_USEC", "20000000", 1);
    assert_int_equal(notify_watchdog_ms(), 10000);
    setenv("WATCHDOG_PID", "1", 1);
    assert_int_equal(notify_watchdog_ms(), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_datagram_reaches_the_manager),
        cmocka_unit_test(the_watchdog_interval_is_halved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
