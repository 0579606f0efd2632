/* Stop strings: found across pieces, never shown in part, earliest wins. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "api/stop_match.h"

/* Pushes text in pieces of every size. */
static void expect(const char *const *stops, uint32_t n, bool include, const char *text,
                   const char *expected, const char *stop) {
    for (size_t piece = 1; piece <= strlen(text); piece++) {
        struct stop_match m;
        stop_match_init(&m, stops, n, include);
        AUTO_BUF out = BUF_INIT;
        const char *found = NULL;
        for (size_t i = 0; i < strlen(text) && !found; i += piece) {
            size_t len = strlen(text) - i < piece ? strlen(text) - i : piece;
            found = stop_match_push(&m, text + i, len, &out);
        }
        if (!found)
            stop_match_flush(&m, &out);
        buf_putc(&out, '\0');
        assert_string_equal(out.data, expected);
        if (stop)
            assert_string_equal(found, stop);
        else
            assert_null(found);
        stop_match_deinit(&m);
    }
}

static void a_stop_string_is_found_across_pieces(void **state) {
    const char *stops[] = {"END", "\n\n"};
    expect(stops, 2, false, "hello EN END of it", "hello EN ", "END");
    expect(stops, 2, true, "hello END of it", "hello END", "END");
    expect(stops, 2, false, "a\nb\n\nEND", "a\nb", "\n\n");
}

static void text_without_one_comes_out_whole(void **state) {
    const char *stops[] = {"END"};
    expect(stops, 1, false, "EN EEN ENE EN", "EN EEN ENE EN", NULL);
    expect(stops, 0, false, "anything", "anything", NULL);
}

static void overlapping_beginnings_are_not_missed(void **state) {
    const char *stops[] = {"aab"};
    expect(stops, 1, false, "xaaab", "xa", "aab");
    const char *two[] = {"abcd", "bc"};
    expect(two, 1, false, "ababcd!", "ab", "abcd");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stop_string_is_found_across_pieces),
        cmocka_unit_test(text_without_one_comes_out_whole),
        cmocka_unit_test(overlapping_beginnings_are_not_missed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
