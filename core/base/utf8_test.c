/* Every character and every pair of bytes, against the definition. */
#include "core/base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

/* Writes a code point as UTF-8 would, however many bytes are asked for. */
static void encode(uint32_t code, size_t num, char out[4]) {
    static const unsigned char mark[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = num; i-- > 1; code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3f));
    out[0] = (char)(mark[num] | code);
}

static void every_code_point_has_one_form(void **state) {
    char text[4];
    for (uint32_t code = 0; code < 0x120000; code++) {
        size_t shortest = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
        bool fits = code < 0x110000 && (code < 0xd800 || code > 0xdfff);
        for (size_t num = shortest; num <= 4; num++) {
            encode(code, num, text);
            size_t want = fits && num == shortest ? num : 0;
            if (utf8_character(text, num) != want || utf8_check(text, num) != (want > 0))
                fail_msg("U+%X in %zu bytes", (unsigned)code, num);
            if (num > 1 && utf8_character(text, num - 1))
                fail_msg("U+%X cut to %zu bytes", (unsigned)code, num - 1);
        }
    }
}

static void what_is_no_character_is_seen_anywhere(void **state) {
    static const char *const wrong[] = {
        "\x80", "\xbf",     "\xc0\x80",    "\xc1\xbf", "\xf5\x80\x80\x80",
        "\xff", "\xe2\x82", "\xe2\x28\xa1"};
    assert_true(utf8_check("", 0));
    assert_true(utf8_check("a\0b", 3));
    assert_int_equal(utf8_character("", 0), 0);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        char text[16] = "a\xc3\xa9";
        size_t len = 3;
        for (const char *p = wrong[i]; *p; p++)
            text[len++] = *p;
        assert_false(utf8_check(text, len));
        assert_int_equal(utf8_character(text + 3, 8), 0); /* the NUL behind it cuts it off */
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_has_one_form),
        cmocka_unit_test(what_is_no_character_is_seen_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
