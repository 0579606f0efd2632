#include "core/scale/window.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static double average(const struct scale_window *w, int64_t now_ms, int64_t span_ms) {
    double value = -1;
    return scale_window_average(w, now_ms, span_ms, &value) ? value : -1;
}

static double most(const struct scale_window *w, int64_t now_ms, int64_t span_ms) {
    double value = -1;
    return scale_window_max(w, now_ms, span_ms, &value) ? value : -1;
}

static void averages_are_over_seconds_not_samples(void **state) {
    AUTO(scale_window) w = scale_window_create(10000);
    for (int i = 0; i < 9; i++)
        scale_window_record(w, 1000 + i * 100, 10); /* nine samples in one second */
    scale_window_record(w, 2000, 20);
    assert_float_equal(average(w, 2500, 10000), 15, 1e-9);
    assert_float_equal(average(w, 2500, 1000), 20, 1e-9);
    assert_float_equal(most(w, 2500, 10000), 20, 1e-9);
}

static void seconds_without_a_sample_do_not_count(void **state) {
    AUTO(scale_window) w = scale_window_create(60000);
    assert_float_equal(average(w, 0, 60000), -1, 0);
    scale_window_record(w, 0, 4);
    assert_float_equal(average(w, 30000, 60000), 4, 1e-9);
    assert_float_equal(average(w, 61000, 60000), -1, 0);
}

static void what_is_older_than_the_span_is_gone_after_a_jump(void **state) {
    AUTO(scale_window) w = scale_window_create(5000);
    for (int i = 0; i < 5; i++)
        scale_window_record(w, i * 1000, 100);
    scale_window_record(w, 1000000, 1);
    assert_float_equal(average(w, 1000000, 5000), 1, 1e-9);
    assert_float_equal(most(w, 1000000, 5000), 1, 1e-9);
    scale_window_record(w, 995000, 7); /* its bucket is taken */
    assert_float_equal(most(w, 1000000, 5000), 1, 1e-9);
}

static void span_is_bounded(void **state) {
    AUTO(scale_window) tiny = scale_window_create(0);
    AUTO(scale_window) huge = scale_window_create(INT64_MAX);
    scale_window_record(tiny, 5000, 3);
    scale_window_record(huge, 0, 3);
    assert_float_equal(average(tiny, 5999, 100000), 3, 1e-9);
    assert_float_equal(average(huge, (SCALE_WINDOW_SECONDS_MAX - 1) * 1000, INT32_MAX), 3, 1e-9);
    assert_float_equal(average(huge, SCALE_WINDOW_SECONDS_MAX * 1000, INT32_MAX), -1, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(averages_are_over_seconds_not_samples),
        cmocka_unit_test(seconds_without_a_sample_do_not_count),
        cmocka_unit_test(what_is_older_than_the_span_is_gone_after_a_jump),
        cmocka_unit_test(span_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
