/* Where keys stand twice. */
#include "kube-compat/body_duplicates.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "kube-compat/schema.h"

static void every_second_key_is_found_with_its_path(void **state) {
    static const char *const cases[][2] = {
        {"{\"a\": 1, \"a\": 2}", "duplicate field \"a\""},
        {"{\"a\": {\"b\": [ {\"c\": 1} , {\"c\": \"x,}\", \"d\": null,\"c\" : true}]}, \"e\": "
         "-1.5e3}",
         "duplicate field \"a.b[1].c\""},
        {"{\"a\": 1, \"b\": {\"a\": 1}, \"c\": [\"a\", \"a\"], \"d\": [[], {}, [{}]]}", ""},
        {"{\"a\\\"b\": 1, \"\\u0061\\\"b\": {\"x\": 1, \"x\": 1}}",
         "duplicate field \"a\"b\"duplicate field \"a\"b.x\""},
        {"[1, 2]", ""},
        {"\"text\"", ""},
        {"12", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        json_t *valid = json_loads(cases[i][0], JSON_DECODE_ANY, NULL), *found = json_array();
        assert_non_null(valid);
        body_find_duplicates(cases[i][0], strlen(cases[i][0]), found);
        AUTO_BUF text = BUF_INIT;
        buf_puts(&text, "");
        for (size_t k = 0; k < json_array_size(found); k++)
            buf_puts(&text, json_string_value(json_array_get(found, k)));
        assert_string_equal(text.data, cases[i][1]);
        json_decref(valid);
        json_decref(found);
    }
}

static void a_nul_behind_a_token_does_not_hold_the_walk(void **state) {
    static const char text[] = "[34\0, {\"a\": 1, \"a\": 2\0}]";
    json_t *found = json_array();
    body_find_duplicates(text, sizeof(text) - 1, found);
    assert_int_equal(json_array_size(found), 1);
    assert_string_equal(json_string_value(json_array_get(found, 0)), "duplicate field \"[1].a\"");
    for (size_t len = 0; len < sizeof(text); len++) /* cut anywhere, it ends */
        body_find_duplicates(text, len, found);
    json_decref(found);
}

static void findings_are_bounded(void **state) {
    AUTO_BUF text = BUF_INIT;
    buf_puts(&text, "{\"a\": 1");
    for (int i = 0; i < 2 * SCHEMA_FINDINGS_MAX; i++)
        buf_puts(&text, ", \"a\": 1");
    buf_puts(&text, "}");
    json_t *found = json_array();
    body_find_duplicates(text.data, text.len, found);
    assert_int_equal(json_array_size(found), SCHEMA_FINDINGS_MAX);
    json_decref(found);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_second_key_is_found_with_its_path),
        cmocka_unit_test(a_nul_behind_a_token_does_not_hold_the_walk),
        cmocka_unit_test(findings_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
