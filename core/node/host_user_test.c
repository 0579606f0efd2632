/* Homes of host pods, emptied by root, filled by programs that are not trusted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/node/host_user.h"
#include "core/node/trash.h"

enum { TEST_USER = 79321, WAIT_MS = 10000 };

static char root[64];

static int setup(void **state) {
    snprintf(root, sizeof(root), "/tmp/inferd-homes-XXXXXX");
    return mkdtemp(root) && !chmod(root, 0711) ? 0 : -1;
}

static int teardown(void **state) {
    AUTO_FREE char *command = mem_printf("rm -rf '%s'", root);
    return system(command);
}

static void need_root(void) {
    if (geteuid()) {
        print_message("host_user_test: needs root\n");
        skip();
    }
}

static void run(const char *format) {
    AUTO_FREE char *script = mem_printf("cd '%s' && %s", root, format);
    assert_int_equal(system(script), 0);
}

static bool exists(const char *name) {
    AUTO_FREE char *path = mem_printf("%s/%s", root, name);
    struct stat st;
    return !lstat(path, &st);
}

static void a_home_goes_whole_and_takes_nothing_else_along(void **state) {
    need_root();
    struct error err = ERROR_INIT;
    AUTO_FREE char *home = mem_printf("%s/pods/h", root);
    run("mkdir precious && touch precious/file");
    assert_int_equal(host_home_make(home, TEST_USER, &err), OK);
    struct stat st;
    assert_int_equal(stat(home, &st), 0);
    assert_int_equal(st.st_uid, TEST_USER);
    assert_int_equal(st.st_mode & 0777, 0700);
    run("cd pods/h && mkdir -p a/b/c && touch a/b/f && ln -s ../../precious a/link && "
        "ln -s ../../../precious/file a/b/link && mkfifo a/pipe && chmod 000 a/b");
    host_home_remove(home);
    assert_false(exists("pods/h"));
    assert_true(exists("precious/file"));
    run("ln -s ../precious pods/h");
    host_home_remove(home);
    assert_true(exists("precious/file"));
    assert_int_equal(host_home_make(home, TEST_USER, &err), ERR_IO); /* the link is in the way */
}

static void only_homes_are_cleared(void **state) {
    run("mkdir -p pods/01234567-0123-0123-0123-0123456789ab/main-0/x pods/mine "
        "pods/01234567-0123-0123-0123-0123456789ag pods/01234567-0123-0123-0123-0123456789ab-x");
    AUTO_FREE char *homes = mem_printf("%s/pods", root);
    AUTO_FREE char *bin = mem_printf("%s/bin", root);
    AUTO(trash) trash = trash_create(bin);
    host_homes_clear(homes, trash);
    assert_false(exists("pods/01234567-0123-0123-0123-0123456789ab"));
    assert_true(exists("pods/01234567-0123-0123-0123-0123456789ag"));
    assert_true(exists("pods/01234567-0123-0123-0123-0123456789ab-x"));
    assert_true(exists("pods/mine"));
    host_homes_clear("/nowhere/at/all", trash);
}

/* A process of TEST_USER, in its own group or ours, that waits to be killed. */
static pid_t start_process(bool own_group) {
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (!pid) {
        if (own_group)
            setpgid(0, 0);
        if (setresuid(TEST_USER, TEST_USER, TEST_USER))
            _exit(1);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        ssize_t n = write(ready[1], "r", 1);
        for (; n == 1;)
            pause();
        _exit(1);
    }
    char byte;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    return pid;
}

static void assert_killed(pid_t pid) {
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void a_users_processes_end_and_no_others(void **state) {
    need_root();
    pid_t alone = start_process(true), here = start_process(false);
    host_user_end_pod(TEST_USER, alone, "no-such-uid", 0);
    assert_killed(alone);
    assert_int_equal(waitpid(here, NULL, WNOHANG), 0);
    host_user_end(TEST_USER + 1);
    assert_int_equal(waitpid(here, NULL, WNOHANG), 0);
    host_user_end(TEST_USER);
    assert_killed(here);
}

/* A process has no environment for a moment of every exec; this one does nothing else. */
static void a_process_that_turns_into_another_is_found_as_well(void **state) {
    need_root();
    enum { TIMES = 200 };
    run("printf 'exec sh \"$0\"\\n' >again && chmod 755 again");
    AUTO_FREE char *again = mem_printf("%s/again", root);
    for (int i = 0; i < TIMES; i++) {
        int begun[2]; /* its other end is closed by the first exec */
        char byte;
        assert_int_equal(pipe2(begun, O_CLOEXEC), 0);
        pid_t pid = fork();
        if (!pid) {
            char *argv[] = {(char *)"sh", again, NULL};
            char *env[] = {(char *)"POD_UID=turns", NULL};
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (!setresuid(TEST_USER, TEST_USER, TEST_USER))
                execve("/bin/sh", argv, env);
            _exit(1);
        }
        close(begun[1]);
        assert_int_equal(read(begun[0], &byte, 1), 0);
        close(begun[0]);
        host_user_end_pod(TEST_USER, 0, "turns", 0);
        int64_t until_ms = clock_mono_ms() + WAIT_MS;
        pid_t gone = 0;
        while (!gone && clock_mono_ms() < until_ms) {
            gone = waitpid(pid, NULL, WNOHANG);
            usleep(100);
        }
        kill(pid, SIGKILL);
        assert_int_equal(gone, pid);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_home_goes_whole_and_takes_nothing_else_along, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(only_homes_are_cleared, setup, teardown),
        cmocka_unit_test_setup_teardown(a_users_processes_end_and_no_others, setup, teardown),
        cmocka_unit_test_setup_teardown(a_process_that_turns_into_another_is_found_as_well, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
