/* The ring of decisions. */
#include "core/decision_log.h"

#include <stdio.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void lines_come_out_in_order_and_the_oldest_go(void **state) {
    AUTO(decision_log) l = decision_log_create();
    AUTO_BUF out = BUF_INIT;
    decision_log_write(l, &out);
    assert_int_equal(out.len, 0);
    decision_log_add(l, 1764000000000, "first=%d", 1);
    decision_log_write(l, &out);
    assert_string_equal(out.data, "ts=2025-11-24T16:00:00Z first=1\n");
    for (int i = 0; i < DECISION_LOG_LINES_MAX + 2; i++)
        decision_log_add(l, 1764000000000, "i=%d", i);
    buf_clear(&out);
    decision_log_write(l, &out);
    assert_int_equal(strncmp(out.data, "ts=2025-11-24T16:00:00Z i=2\n", 28), 0);
    char last[64];
    int len = snprintf(last, sizeof(last), " i=%d\n", DECISION_LOG_LINES_MAX + 1);
    assert_string_equal(out.data + out.len - (size_t)len, last);
}

static void a_long_line_is_cut(void **state) {
    AUTO(decision_log) l = decision_log_create();
    AUTO_BUF out = BUF_INIT;
    char text[2 * DECISION_LOG_LINE_BYTES_MAX];
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    decision_log_add(l, 0, "%s", text);
    decision_log_write(l, &out);
    assert_int_equal(out.len, DECISION_LOG_LINE_BYTES_MAX);
    decision_log_add(NULL, 0, "nobody keeps it");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_come_out_in_order_and_the_oldest_go),
        cmocka_unit_test(a_long_line_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
