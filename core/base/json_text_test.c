/* The same bytes as jansson's printer. */
#include "core/base/json_text.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void check(const json_t *value) {
    char *expect = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    AUTO_BUF b = BUF_INIT;
    json_text(&b, value);
    assert_non_null(expect);
    assert_string_equal(b.data, expect);
    assert_int_equal(b.len, strlen(expect));
    free(expect);
}

static void same_bytes_as_jansson(void **state) {
    static const char *const documents[] = {
        "{}",
        "[]",
        "{\"\":{\"a\":[[],{},null]},\"z\":1,\"a\":2}",
        "[true,false,null,0,-1,9223372036854775807,-9223372036854775808]",
        "[0.0,1.0,-2.5,1e300,1e-7,0.1,3.141592653589793]",
        "\"/ \\\" \\\\ \\u007f \\u2028 é 漢 😀\"",
        "{\"quo\\\"te\\n\":\"line\\nline\\ttab\"}",
    };
    for (size_t i = 0; i < ARRAY_LEN(documents); i++) {
        json_t *value = json_loads(documents[i], JSON_DECODE_ANY, NULL);
        assert_non_null(value);
        check(value);
        json_decref(value);
    }
}

static void every_byte_of_ascii(void **state) {
    char all[128];
    for (int i = 0; i < 128; i++)
        all[i] = (char)i;
    json_t *value = json_pack("[o, o]", json_stringn(all, sizeof(all)), json_stringn("", 0));
    check(value);
    for (int i = 0; i < 128; i++) {
        json_t *one = json_stringn(all + i, 1);
        check(one);
        json_decref(one);
    }
    json_decref(value);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bytes_as_jansson),
        cmocka_unit_test(every_byte_of_ascii),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
