/* Normalizer steps, and the Unicode below them. */
#include "engine/tokenizer_normalizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "engine/tokenizer_regex.h"
#include "engine/tokenizer_unicode.h"

static void expect(const struct normalizer_step *step, const char *text, const char *want) {
    struct normalizer n = {0};
    struct error err = ERROR_INIT;
    AUTO_BUF got = BUF_INIT, spare = BUF_INIT;
    buf_puts(&got, text);
    assert_int_equal(normalizer_add(&n, step, &err), OK);
    if (normalizer_run(&n, &got, &spare, &err))
        fail_msg("%s", err.text);
    buf_puts(&got, "");
    assert_string_equal(got.data, want);
    normalizer_deinit(&n);
}

static void steps_rewrite_text(void **state) {
    static const struct {
        struct normalizer_step step;
        const char *text, *want;
    } cases[] = {
        {{.kind = NORMALIZE_FORM_C}, "e\u0301 x", "\u00e9 x"},
        {{.kind = NORMALIZE_FORM_D}, "\u00e9", "e\u0301"},
        {{.kind = NORMALIZE_FORM_KC}, "\ufb01\uff11", "fi1"},
        {{.kind = NORMALIZE_FORM_KD}, "\u00bd", "1\u20442"},
        {{.kind = NORMALIZE_FORM_C}, "\u1100\u1161", "\uac00"}, /* Hangul */
        {{.kind = NORMALIZE_LOWERCASE}, "\u00c4B\u0416", "\u00e4b\u0436"},
        {{.kind = NORMALIZE_DROP_MARKS}, "e\u0301o", "eo"},
        {{.kind = NORMALIZE_CLEAN}, "a\tb\u200bc\x01\u2003d", "a bc d"},
        {{.kind = NORMALIZE_SPACE_IDEOGRAPHS}, "a\u4f60b", "a \u4f60 b"},
        {{.kind = NORMALIZE_STRIP, .strip_left = true}, " \u3000a ", "a "},
        {{.kind = NORMALIZE_STRIP, .strip_right = true}, " a\u3000 ", " a"},
        {{.kind = NORMALIZE_STRIP, .strip_left = true, .strip_right = true}, " \t", ""},
        {{.kind = NORMALIZE_COLLAPSE_SPACES}, "  a   b ", "a b"},
        {{.kind = NORMALIZE_COLLAPSE_SPACES}, "   ", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        expect(&cases[i].step, cases[i].text, cases[i].want);
}

static void replacements_replace(void **state) {
    expect(&(struct normalizer_step){.kind = NORMALIZE_PREPEND, .content = mem_strdup("_")}, "a",
           "_a");
    expect(&(struct normalizer_step){.kind = NORMALIZE_PREPEND, .content = mem_strdup("_")}, "",
           "");
    expect(&(struct normalizer_step){.kind = NORMALIZE_REPLACE,
                                     .pattern = mem_strdup("ab"),
                                     .content = mem_strdup("x")},
           "ababcab", "xxcx");
    struct normalizer_step step = {.kind = NORMALIZE_REPLACE, .content = mem_strdup("_")};
    struct error err = ERROR_INIT;
    assert_int_equal(tokenizer_regex_create(" {2,}|x*", &step.regex, &err), OK);
    expect(&step, "a   b xx\u00e9", "a_b _\u00e9");
}

static void growth_is_bounded(void **state) {
    struct normalizer n = {0};
    struct error err = ERROR_INIT;
    AUTO_BUF text = BUF_INIT, spare = BUF_INIT;
    struct normalizer_step step = {
        .kind = NORMALIZE_REPLACE, .pattern = mem_strdup("a"), .content = mem_alloc(1001)};
    memset(step.content, 'a', 1000);
    assert_int_equal(normalizer_add(&n, &step, &err), OK);
    for (int i = 0; i < 1000; i++)
        buf_putc(&text, 'a');
    assert_int_equal(normalizer_run(&n, &text, &spare, &err), ERR_TOO_LARGE);
    for (int i = 1; i < NORMALIZER_STEPS_MAX; i++)
        assert_int_equal(
            normalizer_add(&n, &(struct normalizer_step){.kind = NORMALIZE_CLEAN}, &err), OK);
    assert_int_equal(normalizer_add(&n, &(struct normalizer_step){.kind = NORMALIZE_CLEAN}, &err),
                     ERR_INVALID);
    normalizer_deinit(&n);
}

/* A quarter of a million marks in a row; ordering them in one go would take their square. */
static void runs_of_marks_are_cut(void **state) {
    struct error err = ERROR_INIT;
    AUTO_BUF text = BUF_INIT, out = BUF_INIT;
    buf_putc(&text, 'a');
    for (int i = 0; i < 1 << 17; i++)
        buf_puts(&text, "\u0301\u0316");
    assert_int_equal(unicode_normalize(UNICODE_NFD, text.data, text.len, &out, &err), OK);
    assert_int_equal(out.len, text.len);
}

static void utf8_is_judged_by_the_book(void **state) {
    static const struct {
        const char *text;
        size_t valid;
    } cases[] = {
        {"abc", 3},
        {"\xC3\xA9", 2},
        {"a\xC3", 1},
        {"\xC0\x80", 0},
        {"\xE0\x9F\xBF", 0},
        {"\xE0\xA0\x80", 3},
        {"\xED\xA0\x80", 0},
        {"\xF4\x8F\xBF\xBF", 4},
        {"\xF4\x90\x80\x80", 0},
        {"\xF0\x8F\xBF\xBF", 0},
        {"\x80", 0},
        {"\xFF", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(utf8_valid_len(cases[i].text, strlen(cases[i].text)), cases[i].valid);
    AUTO_BUF repaired = BUF_INIT;
    utf8_append_repaired(&repaired, "a\xE4\xBDz\xFF", 5);
    assert_string_equal(repaired.data, "a\uFFFD\uFFFDz\uFFFD");
}

static void cut_sequences_are_told_from_broken_ones(void **state) {
    static const char *const may[] = {"\xC3",         "\xE4",     "\xE4\xBD", "\xF0\x9F",
                                      "\xF0\x9F\x99", "\xE0\xA0", "\xF4\x8F", "\xED\x9F",
                                      "\xE0",         "\xED",     "\xF0",     "\xF4"};
    static const char *const cannot[] = {"",         "a",        "\x80",     "\xC0",
                                         "\xFF",     "\xE4z",    "\xE0\x80", "\xED\xA0",
                                         "\xF4\x90", "\xF0\x80", "\xC3\xA9", "\xF5"};
    for (size_t i = 0; i < ARRAY_LEN(may); i++)
        if (!utf8_may_continue(may[i], strlen(may[i])))
            fail_msg("case %zu may continue", i);
    for (size_t i = 0; i < ARRAY_LEN(cannot); i++)
        if (utf8_may_continue(cannot[i], strlen(cannot[i])))
            fail_msg("case %zu cannot continue", i);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_rewrite_text),
        cmocka_unit_test(replacements_replace),
        cmocka_unit_test(growth_is_bounded),
        cmocka_unit_test(runs_of_marks_are_cut),
        cmocka_unit_test(utf8_is_judged_by_the_book),
        cmocka_unit_test(cut_sequences_are_told_from_broken_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
