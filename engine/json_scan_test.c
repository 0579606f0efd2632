/* JSON scanner: strings, numbers and skipping, and text that is not JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "engine/json_scan.h"

static struct json_scan over(const char *text) {
    return (struct json_scan){.at = text, .end = text + strlen(text)};
}

static void strings_are_decoded(void **state) {
    static const char *const cases[][2] = {
        {"\"\"", ""},
        {" \t\n\"plain\"", "plain"},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"},
        {"\"\\u0041\\u00e9\\u4f60\"", "A\u00e9\u4f60"},
        {"\"\\ud83d\\ude42\"", "\U0001F642"},
        {"\"\u0120the\"", "\u0120the"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_BUF out = BUF_INIT;
        struct json_scan s = over(cases[i][0]);
        buf_puts(&out, "");
        assert_true(json_scan_string(&s, &out));
        assert_string_equal(out.data, cases[i][1]);
        assert_ptr_equal(s.at, s.end);
    }
    AUTO_BUF nul = BUF_INIT;
    struct json_scan s = over("\"a\\u0000b\"");
    assert_true(json_scan_string(&s, &nul));
    assert_int_equal(nul.len, 3);
}

static void broken_strings_are_refused(void **state) {
    static const char *const cases[] = {
        "",
        "x",
        "\"",
        "\"a",
        "\"\\",
        "\"\\u12",
        "\"\\uZZZZ\"",
        "\"\\ud83d\"",
        "\"\\ud83dx\"",
        "\"\\ud83d\\u0041\"",
        "\"\\ude42\"",
        "\"\\q\"",
        "\"\x01\"",
        "\"\xff\"",
        "\"\xC0\x80\"",
        "\"\\ud83d\\",
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_BUF out = BUF_INIT;
        struct json_scan s = over(cases[i]);
        if (json_scan_string(&s, &out))
            fail_msg("%s was taken", cases[i]);
    }
}

static void integers_are_read(void **state) {
    int64_t v;
    struct json_scan s = over(" 123456 ");
    assert_true(json_scan_integer(&s, &v));
    assert_int_equal(v, 123456);
    s = over("-7");
    assert_true(json_scan_integer(&s, &v));
    assert_int_equal(v, -7);
    static const char *const bad[] = {"", "-", "x", "1.5", "1e3", "12345678901234567890"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        s = over(bad[i]);
        assert_false(json_scan_integer(&s, &v));
    }
}

static void values_are_passed_over(void **state) {
    static const char *const cases[] = {
        "1,", "\"a,b\",", "{\"a\": [1, {\"b\": \"}\"}]},", "[],", "true,", "\"\\\"\\\\\",",
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct json_scan s = over(cases[i]);
        assert_true(json_scan_skip(&s));
        assert_int_equal(json_scan_peek(&s), ',');
    }
    static const char *const bad[] = {"", ",", "{", "[1, 2", "\"abc", "\"\\", "}"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct json_scan s = over(bad[i]);
        assert_false(json_scan_skip(&s));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strings_are_decoded),
        cmocka_unit_test(broken_strings_are_refused),
        cmocka_unit_test(integers_are_read),
        cmocka_unit_test(values_are_passed_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
