#include "core/control/restart.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void waits_double_from_ten_seconds_to_five_minutes(void **state) {
    static const int64_t waits[] = {0, 10000, 20000, 40000, 80000, 160000, 300000, 300000, 300000};
    struct restart_run run = {.policy = "Always", .exit_code = 1, .ran_ms = 50};
    int64_t backoff = -1;
    for (size_t i = 0; i < ARRAY_LEN(waits); i++) {
        assert_true(restart_decide(&run, &backoff));
        assert_int_equal(backoff, waits[i]);
    }
    run.ran_ms = RESTART_FORGIVEN_MS - 1;
    assert_true(restart_decide(&run, &backoff));
    assert_int_equal(backoff, RESTART_BACKOFF_MS_MAX);
    run.ran_ms = RESTART_FORGIVEN_MS;
    assert_true(restart_decide(&run, &backoff));
    assert_int_equal(backoff, 0);
}

static void the_policy_decides_whether(void **state) {
    static const struct {
        const char *policy;
        int exit_code;
        bool restarts;
    } rows[] = {{"Always", 0, true},     {"Always", 1, true},      {NULL, 0, true},
                {"OnFailure", 0, false}, {"OnFailure", 137, true}, {"Never", 1, false},
                {"Never", 0, false}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct restart_run run = {.policy = rows[i].policy, .exit_code = rows[i].exit_code};
        int64_t backoff = -1;
        assert_int_equal(restart_decide(&run, &backoff), rows[i].restarts);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waits_double_from_ten_seconds_to_five_minutes),
        cmocka_unit_test(the_policy_decides_whether),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
