/* The thread of parked models, with this test as the replicas. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/park_message.h"
#include "core/node/park.h"

enum { PATIENCE_MS = 60000, BYTES = 8192 };

static _Atomic uint64_t available = UINT64_MAX;
static struct metrics *metrics; /* of the park that runs */

static uint64_t fake_available(void) {
    return available;
}

static struct park *start(uint64_t budget_bytes) {
    struct error err = ERROR_INIT;
    struct park *p;
    struct park_options opt = {
        .budget_bytes = budget_bytes, .metrics = metrics, .available_bytes = fake_available};
    available = UINT64_MAX;
    if (park_create(&opt, &p, &err))
        fail_msg("%s", err.text);
    return p;
}

static int replica(struct park *p) {
    struct error err = ERROR_INIT;
    int fd;
    if (park_connect(p, &fd, &err))
        fail_msg("%s", err.text);
    return fd;
}

static void say(int socket, enum park_say what, uint64_t key, int fd) {
    struct error err = ERROR_INIT;
    struct park_message m = {.say = what, .key = {key, 7}, .bytes = BYTES, .name = "a model"};
    if (park_send(socket, &m, fd, &err))
        fail_msg("%s", err.text);
}

/* The answer; fd: where a descriptor goes. */
static enum park_say hear(int socket, int *ret_fd) {
    struct error err = ERROR_INIT;
    struct park_message m;
    struct pollfd p = {.fd = socket, .events = POLLIN};
    assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
    if (park_receive(socket, &m, ret_fd, &err))
        fail_msg("%s", err.text);
    return m.say;
}

static enum park_say ask(int socket, uint64_t key, int *ret_fd) {
    say(socket, PARK_ASK, key, -1);
    return hear(socket, ret_fd);
}

static int make_weights(char fill, bool seal) {
    struct error err = ERROR_INIT;
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    char page[BYTES];
    memset(page, fill, sizeof(page));
    assert_int_equal(write(fd, page, sizeof(page)), sizeof(page));
    if (seal)
        assert_int_equal(park_seal(fd, &err), OK);
    return fd;
}

static void put(int socket, uint64_t key, char fill) {
    int fd = make_weights(fill, true);
    say(socket, PARK_PUT, key, fd);
    close(fd);
}

static char first_byte(int fd) {
    char c;
    assert_int_equal(pread(fd, &c, 1, 0), 1);
    close(fd);
    return c;
}

static bool is_over(int socket) {
    struct pollfd p = {.fd = socket, .events = POLLIN};
    assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
    return p.revents & POLLHUP;
}

static void wait_parked(int num) {
    AUTO_FREE char *line = mem_printf("\ninferd_parked_models %d\n", num);
    int64_t deadline = clock_mono_ms() + PATIENCE_MS;
    for (bool is = false; !is;) {
        AUTO_BUF text = BUF_INIT;
        metrics_write(metrics, &text);
        is = text.data && strstr(text.data, line);
        assert_true(clock_mono_ms() < deadline);
        sched_yield();
    }
}

static int setup(void **state) {
    metrics = metrics_create();
    return 0;
}

static int teardown(void **state) {
    metrics_destroy(metrics);
    return 0;
}

static void weights_outlive_the_replica_that_made_them(void **state) {
    AUTO(park) p = start(BYTES);
    int a = replica(p), fd = -1;
    assert_int_equal(ask(a, 1, &fd), PARK_MAKE);
    put(a, 1, 'x');
    close(a);
    int b = replica(p), c = replica(p);
    assert_int_equal(ask(b, 1, &fd), PARK_HAVE);
    assert_int_equal(first_byte(fd), 'x');
    assert_int_equal(ask(c, 1, &fd), PARK_HAVE);
    assert_int_equal(first_byte(fd), 'x');
    close(b);
    close(c);
}

static void who_asks_while_they_are_made_waits_for_them(void **state) {
    AUTO(park) p = start(0);
    int a = replica(p), b = replica(p), c = replica(p), fd = -1;
    assert_int_equal(ask(a, 1, &fd), PARK_MAKE);
    say(b, PARK_ASK, 1, -1);
    say(c, PARK_ASK, 1, -1);
    /* The end of the first is seen before or after the others ask: one of them makes them. */
    close(a);
    struct pollfd polls[2] = {{.fd = b, .events = POLLIN}, {.fd = c, .events = POLLIN}};
    assert_int_equal(poll(polls, 2, PATIENCE_MS), 1);
    int maker = polls[0].revents ? b : c, other = polls[0].revents ? c : b;
    assert_int_equal(hear(maker, &fd), PARK_MAKE);
    put(maker, 1, 'y');
    assert_int_equal(hear(other, &fd), PARK_HAVE);
    assert_int_equal(first_byte(fd), 'y');
    close(b);
    close(c);
}

static void who_keeps_its_own_lets_another_make_them(void **state) {
    AUTO(park) p = start(0);
    int a = replica(p), b = replica(p), fd = -1;
    assert_int_equal(ask(a, 1, &fd), PARK_MAKE);
    say(b, PARK_ASK, 1, -1);
    say(a, PARK_KEEP, 1, -1);
    assert_int_equal(hear(b, &fd), PARK_MAKE);
    close(a);
    close(b);
}

static void what_can_still_be_changed_is_not_kept(void **state) {
    AUTO(park) p = start(BYTES);
    int a = replica(p), b = replica(p), fd = -1;
    assert_int_equal(ask(a, 1, &fd), PARK_MAKE);
    int open = make_weights('z', false);
    say(a, PARK_PUT, 1, open);
    close(open);
    assert_true(is_over(a));
    assert_int_equal(ask(b, 1, &fd), PARK_MAKE);
    close(a);
    close(b);
}

static void nonsense_ends_only_its_own_connection(void **state) {
    AUTO(park) p = start(0);
    int a = replica(p), b = replica(p), fd = -1;
    struct park_message m = {.magic = 1};
    assert_int_equal(send(a, "hello", 5, 0), 5);
    assert_true(is_over(a));
    assert_int_equal(send(b, &m, sizeof(m), 0), sizeof(m));
    assert_true(is_over(b));
    int c = replica(p);
    say(c, 99, 1, -1);
    assert_true(is_over(c));
    int d = replica(p);
    assert_int_equal(ask(d, 1, &fd), PARK_MAKE);
    close(a);
    close(b);
    close(c);
    close(d);
}

static void parked_weights_go_when_memory_is_wanted(void **state) {
    AUTO(park) p = start(BYTES);
    int a = replica(p), fd = -1;
    assert_int_equal(ask(a, 1, &fd), PARK_MAKE);
    put(a, 1, 'x');
    close(a);
    wait_parked(1);
    int b = replica(p), c = replica(p);
    available = BYTES; /* enough for the weights, and for nothing beside them */
    assert_int_equal(ask(b, 2, &fd), PARK_MAKE);
    assert_int_equal(ask(c, 1, &fd), PARK_MAKE); /* the others' are not there any more */
    wait_parked(0);
    close(b);
    close(c);
}

/* All ends stay open, so no place becomes free. */
static void connections_are_bounded(void **state) {
    AUTO(park) p = start(0);
    struct error err = ERROR_INIT;
    struct rlimit files;
    int *ends = mem_array(PARK_CONNECTIONS_MAX, sizeof(ends[0])), one_more;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    files.rlim_cur = files.rlim_max;
    if (files.rlim_max < 2 * PARK_CONNECTIONS_MAX + 100) {
        print_message("skipped: RLIMIT_NOFILE is below two descriptors a connection\n");
        free(ends);
        skip();
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
    for (int i = 0; i < PARK_CONNECTIONS_MAX; i++)
        ends[i] = replica(p);
    assert_int_equal(park_connect(p, &one_more, &err), ERR_EXHAUSTED);
    assert_non_null(strstr(err.text, "1024 replicas"));
    for (int i = 0; i < PARK_CONNECTIONS_MAX; i++)
        close(ends[i]);
    free(ends);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(weights_outlive_the_replica_that_made_them),
        T(who_asks_while_they_are_made_waits_for_them),
        T(who_keeps_its_own_lets_another_make_them),
        T(what_can_still_be_changed_is_not_kept),
        T(nonsense_ends_only_its_own_connection),
        T(parked_weights_go_when_memory_is_wanted),
        T(connections_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
