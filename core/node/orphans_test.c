/* The reaper, with a daemon that is killed: what it had noted and its user's older processes go.
 * Only root can have processes of other users. */
#include "core/node/orphans.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/clock.h"

enum { PATIENCE_MS = 20000, TEST_USER = 79322 };

/* A process of TEST_USER in a session of its own, with the environment that marks its pod. */
static pid_t start_stray(const char *mark) {
    int ready[2];
    char c;
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (!pid) {
        char *argv[] = {(char *)"sh", (char *)"-c", (char *)"echo; exec sleep 1000 >&- 2>&-", NULL};
        char *env[] = {(char *)(uintptr_t)mark, (char *)"PATH=/usr/bin:/bin", NULL};
        dup2(ready[1], 1);
        setsid();
        if (!setresuid(TEST_USER, TEST_USER, TEST_USER))
            execve("/bin/sh", argv, env);
        _exit(1);
    }
    assert_int_equal(read(ready[0], &c, 1), 1);
    close(ready[0]);
    close(ready[1]);
    return pid;
}

static bool is_gone(pid_t pid, int64_t patience_ms) {
    for (int64_t deadline = clock_mono_ms() + patience_ms;; usleep(1000)) {
        if (waitpid(pid, NULL, WNOHANG) == pid)
            return true;
        if (clock_mono_ms() >= deadline)
            return false;
    }
}

/* A daemon with a reaper and a note of a container; it says when it is ready, and waits. */
static pid_t start_daemon(const char *dir, const char *note, int *ret_out) {
    int ready[2], fd;
    char c;
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (!pid) {
        struct error err = ERROR_INIT;
        if (orphans_watch(dir, &fd, &err))
            _exit(1);
        orphans_note(note, getpid(), TEST_USER);
        ssize_t n = write(ready[1], "r", 1);
        raise(n == 1 ? SIGSTOP : SIGKILL);
        _exit(1);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &c, 1), 1);
    *ret_out = ready[0];
    return pid;
}

static void a_killed_daemon_leaves_nothing(void **state) {
    char dir[] = "/tmp/inferd-orphans-XXXXXX", c;
    int out;
    if (getuid()) {
        print_message("only root can become another user\n");
        skip();
    }
    assert_non_null(mkdtemp(dir));
    AUTO_FREE char *mine = mem_printf("%s/u-1_main.pid", dir);
    AUTO_FREE char *others = mem_printf("%s/u-2_main.pid", dir);
    pid_t daemon_pid = start_daemon(dir, mine, &out);
    pid_t stray = start_stray("POD_UID=u-1"), stranger = start_stray("POD_UID=u-2");
    orphans_note(others, stranger, TEST_USER); /* another daemon's: ours */
    kill(daemon_pid, SIGKILL);
    waitpid(daemon_pid, NULL, 0);
    assert_true(is_gone(stray, PATIENCE_MS));
    assert_int_equal(read(out, &c, 1), 0); /* the reaper held the pipe, too: it has ended */
    assert_false(is_gone(stranger, 0));
    pid_t younger = start_stray("POD_UID=u-1"); /* of the next daemon */
    assert_false(is_gone(younger, 0));
    orphans_end(dir); /* it ends whatever is noted */
    assert_true(is_gone(stranger, PATIENCE_MS));
    assert_true(is_gone(younger, PATIENCE_MS));
    close(out);
    assert_int_equal(rmdir(dir), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_daemon_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
