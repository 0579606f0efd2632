/* Configuration: values, bounds, and errors that say file, line, key and bound. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <unistd.h>

#include "core/config.h"

static char path[] = "/tmp/inferd-config-XXXXXX";

static enum errc load(const char *text, struct config *c, struct error *err) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return config_load(path, c, err);
}

static int make_file(void **state) {
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state) {
    return unlink(path);
}

static void the_file_overrides_defaults(void **state) {
    struct config c;
    struct error err = ERROR_INIT;
    if (load("dataDir: /tmp/x\ncpuFallback: true\ndrainSeconds: 5\n", &c, &err))
        fail_msg("%s", err.text);
    assert_string_equal(c.data_dir, "/tmp/x");
    assert_true(c.cpu_fallback);
    assert_int_equal(c.drain_seconds, 5);
    assert_string_equal(c.kube_listen, "127.0.0.1:6443");
    assert_int_equal(config_set(&c, "gateway-listen", "127.0.0.1:0", &err), OK);
    assert_string_equal(c.gateway_listen, "127.0.0.1:0");
    assert_int_equal(config_set(&c, "log-files-max", "7", &err), OK);
    assert_int_equal(c.log_files_max, 7);
    config_deinit(&c);
}

static void expect_error(const char *text, const char *part) {
    struct config c;
    struct error err = ERROR_INIT;
    assert_int_not_equal(load(text, &c, &err), OK);
    if (!strstr(err.text, part))
        fail_msg("\"%s\" does not say \"%s\"", err.text, part);
}

static void bad_values_are_refused_with_line_and_bound(void **state) {
    expect_error("dataDir: /x\nnoSuchKey: 1\n", "line 2: unknown key \"noSuchKey\"");
    expect_error("drainSeconds: 99999\n", "line 1: drainSeconds: 99999 is not within 0..3600");
    expect_error("\n\ncpuFallback: 1\n", "line 3: cpuFallback: 1 is not true or false");
    expect_error("dataDir: [a]\n", "not a string");
    expect_error("data-dir: /x\n", "unknown key");
    expect_error("- a\n", "not a mapping");
    expect_error("a: [\n", "line 2");
}

static void the_command_line_has_the_same_bounds(void **state) {
    struct config c;
    struct error err = ERROR_INIT;
    assert_int_equal(load("", &c, &err), OK);
    assert_int_equal(config_set(&c, "drain-seconds", "-1", &err), ERR_INVALID);
    assert_int_equal(config_set(&c, "drain-seconds", "x", &err), ERR_INVALID);
    assert_int_equal(config_set(&c, "cpu-fallback", "maybe", &err), ERR_INVALID);
    assert_int_equal(config_set(&c, "nope", "1", &err), ERR_INVALID);
    config_deinit(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_file_overrides_defaults),
        cmocka_unit_test(bad_values_are_refused_with_line_and_bound),
        cmocka_unit_test(the_command_line_has_the_same_bounds),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
