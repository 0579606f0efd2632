/* What PromQL here refuses, by name and position; and its bounds. What it answers is compared with
 * Prometheus in promql_data_test.c. */
#include "core/series/promql.h"

#include <math.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <cmocka.h>

#include "core/base/buf.h"

static void what_is_not_known_is_refused_by_name_and_position(void **state) {
    static const struct {
        const char *text, *expect;
    } rows[] = {
        {"", "position 1: the expression ends where an expression is expected"},
        {"sum(", "position 5: the expression ends where an expression is expected"},
        {"sum(a", "position 6: the expression ends where \")\" is expected"},
        {"a)", "position 2: unexpected \")\" where the end or an operator is expected"},
        {"a b", "position 3: unexpected \"b\" where the end or an operator is expected"},
        {"a + ", "position 5: the expression ends where an expression is expected"},
        {"max_over_time(rate(a[1m])[5m:30s])", "position 29: subqueries are not supported"},
        {"rate(a[1m])[5m]", "position 12: a range is possible behind a selector only"},
        {"a[5m][5m]", "position 6: a range stands right behind its selector, once"},
        {"a offset 5m[5m]", "position 12: a range stands right behind its selector, once"},
        {"a @ 5", "position 3: the modifier @ is not supported"},
        {"a * on(b) group_left c", "position 11: group_left is not supported"},
        {"a * ignoring(b) group_right(x) c", "position 17: group_right is not supported"},
        {"label_replace(a, \"b\", \"c\", \"d\", \"e\")",
         "position 1: function \"label_replace\" is not supported"},
        {"2 * predict_linear(a[1h], 3600)",
         "position 5: function \"predict_linear\" is not supported"},
        {"stddev(a)", "position 1: function \"stddev\" is not supported"},
        {"\"text\"", "position 1: a string is not supported here"},
        {"rate(a)", "position 6: rate wants an argument of type range vector, not instant vector"},
        {"sum(a[5m])",
         "position 5: sum wants an argument of type instant vector, not range vector"},
        {"sum(1)", "position 5: sum wants an argument of type instant vector, not scalar"},
        {"topk(a, b)", "position 6: topk wants an argument of type scalar, not instant vector"},
        {"topk(1)", "position 7: unexpected \")\" where \",\" is expected"},
        {"rate(a[1m], 2)", "position 13: rate wants at most 1 arguments"},
        {"clamp(a, 2)", "position 11: clamp wants at least 3 arguments"},
        {"1 > 2", "position 3: a comparison of two scalars needs bool"},
        {"a + bool b", "position 5: bool stands behind a comparison only"},
        {"1 and a", "position 3: and, or and unless stand between instant vectors only"},
        {"1 + on(a) b", "position 3: on and ignoring stand between instant vectors only"},
        {"a[1m] + 1",
         "position 7: an operator stands between scalars and instant vectors, not range vector"},
        {"-a[1m]",
         "position 1: a sign stands before a scalar or an instant vector, not a range vector"},
        {"a[0s]", "position 2: the range must be above 0"},
        {"a[5]", "position 3: a duration such as 5m is expected"},
        {"a[5m", "position 5: the expression ends where \"]\" is expected"},
        {"a[m]", "position 3: a duration such as 5m is expected"},
        {"a[5x]", "position 3: a duration such as 5m is expected"},
        {"a[99999999999999y]", "position 3: the duration is too long"},
        {"a offset", "position 9: a duration such as 5m is expected"},
        {"1 offset 5m", "position 3: offset stands behind a selector, once"},
        {"5m", "position 1: not a number (a duration stands in [] and behind offset only)"},
        {"{}", "position 1: a selector has to have a condition that the empty value does not meet"},
        {"{a=~\".*\"}",
         "position 1: a selector has to have a condition that the empty value does not meet"},
        {"a{b}", "position 4: unexpected \"}\" where =, !=, =~ or !~ is expected"},
        {"a{b=c}", "position 5: unexpected \"c}\" where a value in quotes is expected"},
        {"a{b=\"c\" d=\"e\"}",
         "position 9: unexpected \"d=\"e\"}\" where \",\" or \"}\" is expected"},
        {"a{b=~\"(\"}",
         "position 6: regular expression \"(\", offset 1: missing closing parenthesis"},
        {"a{b=\"c}", "position 5: a string does not end"},
        {"a{b=\"\\q\"}", "position 7: unknown escape in a string"},
        {"sum by (a) (b) by (c)", "position 16: by or without is given twice"},
        {"sum by a (b)", "position 8: unexpected \"a (b)\" where \"(\" is expected"},
        {"sum by (1) (b)", "position 9: unexpected \"1) (b)\" where a label's name is expected"},
        {"a ? b", "position 3: unexpected character \"?\""},
        {"a \xff", "position 3: unexpected character \"?\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct promql *q = NULL;
        struct error err = ERROR_INIT;
        if (!promql_parse(rows[i].text, &q, &err))
            fail_msg("%s: is not refused", rows[i].text);
        assert_null(q);
        assert_int_equal(err.code, ERR_MALFORMED);
        if (strcmp(err.text, rows[i].expect) != 0)
            fail_msg("%s: is refused with \"%s\", not \"%s\"", rows[i].text, err.text,
                     rows[i].expect);
    }
}

static void refuse(const char *text, const char *expect) {
    struct promql *q = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(promql_parse(text, &q, &err), ERR_MALFORMED);
    if (!strstr(err.text, expect))
        fail_msg("\"%s\" is not in \"%s\"", expect, err.text);
}

static char *repeated(const char *before, const char *part, int num, const char *after) {
    struct buf b = BUF_INIT;
    buf_puts(&b, before);
    for (int i = 0; i < num; i++)
        buf_puts(&b, part);
    buf_puts(&b, after);
    return buf_steal(&b);
}

static void size_depth_and_number_are_bounded(void **state) {
    AUTO_FREE char *nested = repeated("", "(", PROMQL_DEPTH_MAX, "1");
    refuse(nested, "more than 128 parentheses inside each other");
    AUTO_FREE char *signs = repeated("", "-", PROMQL_DEPTH_MAX, "1");
    refuse(signs, "more than 128 parentheses inside each other");
    AUTO_FREE char *chain = repeated("1", "+1", PROMQL_DEPTH_MAX + 1, "");
    refuse(chain, "more than 128 operations inside each other");
    AUTO_FREE char *many = repeated("a", "+a", PROMQL_SELECTORS_MAX, "");
    refuse(many, "more than 32 selectors");
    AUTO_FREE char *wide = repeated("a{", "b=\"c\",", LABELS_MAX, "}");
    refuse(wide, "more than 64 conditions in one selector");
    AUTO_FREE char *groups = repeated("sum by (", "b,", LABELS_MAX + 1, ") (a)");
    refuse(groups, "more than 64 labels");
    AUTO_FREE char *long_one = repeated("1", " ", PROMQL_TEXT_BYTES_MAX, "");
    refuse(long_one, "the expression has 16385 bytes, at most 16384 are possible");
    AUTO_FREE char *just = repeated("1", "+1", PROMQL_DEPTH_MAX, "");
    AUTO(promql) q = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(promql_parse(just, &q, &err), OK);
    AUTO_PROMQL_VALUE v = {0};
    assert_int_equal(promql_eval(q, NULL, 0, &v, &err), OK);
    assert_float_equal(v.scalar, PROMQL_DEPTH_MAX + 1, 0);
}

static void numbers_are_written_as_prometheus_writes_them(void **state) {
    static const struct {
        double value;
        const char *expect;
    } rows[] = {
        {0, "0"},
        {1, "1"},
        {-2.5, "-2.5"},
        {0.1, "0.1"},
        {1e21, "1000000000000000000000"},
        {1.5e-7, "0.00000015"},
        {1.0 / 3, "0.3333333333333333"},
        {NAN, "NaN"},
        {INFINITY, "+Inf"},
        {-INFINITY, "-Inf"},
        {100, "100"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char text[PROMQL_NUMBER_BYTES];
        assert_string_equal(promql_number(rows[i].value, text), rows[i].expect);
    }
    char text[PROMQL_NUMBER_BYTES];
    assert_float_equal(strtod(promql_number(1.7e308, text), NULL), 1.7e308, 0);
    assert_float_equal(strtod(promql_number(5e-324, text), NULL), 5e-324, 0);
}

/* A replica that goes takes its part out of a sum at once; its counters of the past still count. */
static void what_has_ended_is_in_no_instant(void **state) {
    static const struct label a[] = {{LABEL_NAME, "m"}, {"pod", "a"}};
    static const struct label b[] = {{LABEL_NAME, "m"}, {"pod", "b"}};
    AUTO(series) s = series_create(NULL);
    struct series_source *one = series_source_open(s), *two = series_source_open(s);
    struct error err = ERROR_INIT;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(series_put(one, a, 2, 1000 + i * 5000, 10, &err), OK);
        assert_int_equal(series_put(two, b, 2, 1000 + i * 5000, 5, &err), OK);
    }
    series_source_close(two, 50000);
    static const struct {
        const char *text;
        int64_t at_ms;
        double expect;
    } rows[] = {{"sum(m)", 49999, 15},
                {"sum(m)", 50000, 10},
                {"sum(sum_over_time(m[1m]))", 51000, 150},
                {"sum(m) or vector(0)", 1000000, 0}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO(promql) q = NULL;
        AUTO_PROMQL_VALUE v = {0};
        assert_int_equal(promql_parse(rows[i].text, &q, &err), OK);
        assert_int_equal(promql_eval(q, s, rows[i].at_ms, &v, &err), OK);
        assert_int_equal(v.num_items, 1);
        assert_float_equal(v.items[0].value, rows[i].expect, 0);
    }
    series_source_close(one, 60000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_known_is_refused_by_name_and_position),
        cmocka_unit_test(size_depth_and_number_are_bounded),
        cmocka_unit_test(numbers_are_written_as_prometheus_writes_them),
        cmocka_unit_test(what_has_ended_is_in_no_instant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
