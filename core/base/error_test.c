/* Errors: texts are bounded and always UTF-8, contexts stack, fields stay. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "core/base/error.h"

static void contexts_stack_in_front_and_keep_code_and_field(void **state) {
    struct error err = ERROR_INIT;
    assert_int_equal(err_field(&err, ERR_INVALID, "spec.x", "spec.x: %d is above %d", 5, 3),
                     ERR_INVALID);
    assert_int_equal(err_wrap(&err, "load %s", "a.yaml"), ERR_INVALID);
    assert_string_equal(err.text, "load a.yaml: spec.x: 5 is above 3");
    assert_string_equal(err.field, "spec.x");
    errno = ENOENT;
    assert_int_equal(err_errno(&err, "open %s", "f"), ERR_IO);
    assert_string_equal(err.text, "open f: No such file or directory");
    assert_string_equal(err.field, "");
}

static void broken_utf8_is_mended(void **state) {
    struct error err = ERROR_INIT;
    (void)err_set(&err, ERR_INVALID,
                  "a\xff"
                  "b\xc3(\xe2\x82 \xed\xa0\x80 \xc3\xa4");
    assert_string_equal(err.text, "a?b?(?? ??? \xc3\xa4");
}

static void a_long_text_is_cut_on_a_character(void **state) {
    char text[ERROR_TEXT_BYTES_MAX * 2 + 1];
    for (size_t i = 0; i + 1 < sizeof(text); i += 2)
        memcpy(text + i, "\xc3\xa4", 2);
    text[sizeof(text) - 1] = '\0';
    struct error err = ERROR_INIT;
    (void)err_set(&err, ERR_INVALID, "%s", text);
    size_t len = strlen(err.text);
    assert_int_equal(len, ERROR_TEXT_BYTES_MAX - 1);
    assert_int_equal(err.text[len - 1], '?'); /* half of a character */
    (void)err_wrap(&err, "x");
    assert_int_equal(strlen(err.text), ERROR_TEXT_BYTES_MAX - 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contexts_stack_in_front_and_keep_code_and_field),
        cmocka_unit_test(broken_utf8_is_mended),
        cmocka_unit_test(a_long_text_is_cut_on_a_character),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
