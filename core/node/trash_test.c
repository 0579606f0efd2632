/* The trash: gone at once by name, gone for good soon, no link followed, and nothing lost. */
#include "core/node/trash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <unistd.h>

#include "core/base/clock.h"

enum { PATIENCE_MS = 20000 };

static char root[64];

static int setup(void **state) {
    snprintf(root, sizeof(root), "/tmp/inferd-trash-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **state) {
    AUTO_FREE char *command = mem_printf("rm -rf '%s'", root);
    return system(command);
}

static void run(const char *script) {
    AUTO_FREE char *command = mem_printf("cd '%s' && %s", root, script);
    assert_int_equal(system(command), 0);
}

static bool exists(const char *name) {
    AUTO_FREE char *path = mem_printf("%s/%s", root, name);
    return !access(path, F_OK);
}

static void wait_gone(const char *name) {
    for (int64_t deadline = clock_mono_ms() + PATIENCE_MS; exists(name); usleep(1000)) {
        if (clock_mono_ms() > deadline)
            fail_msg("%s stays", name);
    }
}

static void what_is_thrown_is_gone(void **state) {
    AUTO_FREE char *dir = mem_printf("%s/.trash", root);
    AUTO_FREE char *home = mem_printf("%s/home", root);
    AUTO(trash) t = trash_create(dir);
    run("mkdir -p precious && echo x > precious/file");
    for (int i = 0; i < 20; i++) {
        run("mkdir -p home/a/b/c && for i in 1 2 3; do : > home/a/b/$i; done && "
            "ln -s ../../precious home/a/link && ln -s ../precious/file home/file");
        trash_throw(t, home);
        assert_false(exists("home")); /* at once */
    }
    wait_gone(".trash");
    assert_true(exists("precious/file"));
    AUTO_FREE char *absent = mem_printf("%s/absent", root);
    trash_throw(t, absent);
}

static void what_an_earlier_daemon_left_goes_too(void **state) {
    AUTO_FREE char *dir = mem_printf("%s/.trash", root);
    run("mkdir -p .trash/1/x .trash/2 && : > .trash/1/x/y");
    AUTO(trash) t = trash_create(dir);
    wait_gone(".trash");
}

static bool at_once(const void *user) {
    return true;
}

static void a_removal_can_be_given_up(void **state) {
    AUTO_FREE char *dir = mem_printf("%s/much", root);
    run("mkdir much && : > much/1 && : > much/2");
    assert_false(trash_remove_tree(dir, at_once, NULL));
    assert_true(exists("much/1") && exists("much/2"));
    assert_true(trash_remove_tree(dir, NULL, NULL));
    assert_false(exists("much"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_thrown_is_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(what_an_earlier_daemon_left_goes_too, setup, teardown),
        cmocka_unit_test_setup_teardown(a_removal_can_be_given_up, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
