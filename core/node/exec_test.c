/* Commands beside a container: their streams, their terminal, their ends. */
#include "core/node/exec.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/buf.h"

enum { WAIT_MS = 60000 }; /* generous: only a failing test waits that long */

static char who[] = "WHO=me", path[] = "PATH=/nowhere:/usr/bin:/bin";
static char ns[] = "default", pod[] = "p", uid[] = "u", name[] = "c";
static char *env[] = {who, path, NULL};
static const struct running container = {
    .ns = ns, .pod = pod, .uid = uid, .container = name, .pidfd = -1, .env = env};

static void start(struct exec *e, const char *script, bool stdin_open, bool tty) {
    const char *const argv[] = {"sh", "-c", script, NULL};
    struct exec_options opt = {
        .container = &container, .argv = argv, .stdin_open = stdin_open, .tty = tty};
    struct error err = ERROR_INIT;
    if (exec_start(&opt, e, &err))
        fail_msg("%s", err.text);
}

static bool readable(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, WAIT_MS) == 1;
}

/* Until `until` is there, or the end when it is NULL. */
static void read_until(int fd, struct buf *out, const char *until) {
    char data[1024];
    while (!until || !out->data || !strstr(out->data, until)) {
        assert_true(readable(fd));
        ssize_t n = read(fd, data, sizeof(data));
        if (n <= 0)
            break; /* the end; a terminal says EIO */
        buf_append(out, data, (size_t)n);
    }
    if (until)
        assert_non_null(strstr(out->data ? out->data : "", until));
}

static int wait_end(struct exec *e) {
    assert_true(readable(e->pidfd));
    int code = exec_stop(e);
    exec_end(e);
    return code;
}

static void streams_are_apart_and_input_ends(void **state) {
    struct exec e;
    AUTO_BUF out = BUF_INIT;
    AUTO_BUF error = BUF_INIT;
    start(&e, "echo $WHO $POD_NAME; cat; echo aside >&2; exit 3", true, false);
    assert_int_equal(write(e.stdin_fd, "in\n", 3), 3);
    close(e.stdin_fd);
    e.stdin_fd = -1;
    read_until(e.stdout_fd, &out, NULL);
    read_until(e.stderr_fd, &error, NULL);
    assert_string_equal(out.data, "me p\nin\n");
    assert_string_equal(error.data, "aside\n");
    assert_int_equal(wait_end(&e), 3);
}

static void without_input_it_reads_the_end(void **state) {
    struct exec e;
    AUTO_BUF out = BUF_INIT;
    start(&e, "cat; tty; kill -9 $$", false, false);
    assert_int_equal(e.stdin_fd, -1);
    read_until(e.stdout_fd, &out, NULL);
    assert_string_equal(out.data, "not a tty\n");
    assert_int_equal(wait_end(&e), 128 + SIGKILL);
}

static void a_terminal_has_a_size_and_signals(void **state) {
    struct exec e;
    AUTO_BUF out = BUF_INIT;
    start(&e,
          "trap 'echo caught; exit 5' INT; read line; stty size; echo $TERM; echo ready; "
          "while :; do read line; done",
          true, true);
    exec_resize(&e, (struct exec_size){.rows = 33, .columns = 101});
    assert_int_equal(write(e.stdout_fd, "go\n", 3), 3);
    read_until(e.stdout_fd, &out, "ready");
    assert_non_null(strstr(out.data, "33 101\r\nxterm\r\n"));
    assert_int_equal(write(e.stdout_fd, "\x03", 1), 1); /* Ctrl-C */
    read_until(e.stdout_fd, &out, "caught");
    assert_int_equal(wait_end(&e), 5);
}

/* What it has started shares its pipes: their end shows that all of it is gone. */
static void nothing_of_its_group_outlives_it(void **state) {
    struct exec e;
    AUTO_BUF out = BUF_INIT;
    start(&e, "sleep 1000 & sleep 1000 & echo started", false, false);
    read_until(e.stdout_fd, &out, "started");
    assert_true(readable(e.pidfd));
    assert_int_equal(exec_stop(&e), 0);
    read_until(e.stdout_fd, &out, NULL);
    exec_end(&e);
    start(&e, "sleep 1000 & echo started; wait", false, true);
    buf_clear(&out);
    read_until(e.stdout_fd, &out, "started");
    exec_end(&e); /* the client has gone */
    assert_int_equal(e.pidfd, -1);
    assert_int_equal(kill(e.pid, 0), -1);
    assert_int_equal(errno, ESRCH);
}

static void what_cannot_start_is_named(void **state) {
    const char *const argv[] = {"no-such-program", NULL};
    struct exec_options opt = {.container = &container, .argv = argv, .tty = true};
    struct error err = ERROR_INIT;
    struct exec e;
    assert_int_equal(exec_start(&opt, &e, &err), ERR_IO);
    assert_non_null(strstr(err.text, "start no-such-program: No such file"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_are_apart_and_input_ends),
        cmocka_unit_test(without_input_it_reads_the_end),
        cmocka_unit_test(a_terminal_has_a_size_and_signals),
        cmocka_unit_test(nothing_of_its_group_outlives_it),
        cmocka_unit_test(what_cannot_start_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
