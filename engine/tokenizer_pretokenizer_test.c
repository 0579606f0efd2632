/* Pre-tokenizers and the expressions below them: where text is cut. */
#include "engine/tokenizer_pretokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "engine/tokenizer_regex.h"

/* Runs p over text; want is the pretokens with '|' between. Takes p. */
static void expect(struct pretokenizer *p, const char *text, const char *want) {
    struct error err = ERROR_INIT;
    struct pretokens t = {0};
    AUTO_BUF got = BUF_INIT;
    buf_puts(&t.text, text);
    if (pretokenizer_run(p, &t, true, &err))
        fail_msg("%s", err.text);
    buf_puts(&got, "");
    for (size_t i = 0; i < t.len; i++)
        buf_printf(&got, "%s%.*s", i ? "|" : "", (int)t.data[i].len, t.text.data + t.data[i].start);
    assert_string_equal(got.data, want);
    pretokens_deinit(&t);
    pretokenizer_deinit(p);
}

static void expect_named(const char *name, const char *text, const char *want) {
    struct pretokenizer p = {0};
    struct error err = ERROR_INIT;
    if (pretokenizer_add_named(&p, name, &err))
        fail_msg("%s", err.text);
    expect(&p, text, want);
}

static void expect_split(const char *pattern, enum split_behavior behavior, bool invert,
                         const char *text, const char *want) {
    struct pretokenizer p = {0};
    struct error err = ERROR_INIT;
    if (pretokenizer_add_split(&p, pattern, behavior, invert, &err))
        fail_msg("%s", err.text);
    expect(&p, text, want);
}

static void named_ones_cut_as_their_models_do(void **state) {
    expect_named("gpt-2", "I'll pay  1234$\n", "I|'ll| pay| | 1234|$|\n");
    expect_named("llama-bpe", "I'LL pay  1234$\n\n x", "I|'LL| pay| | |123|4|$\n\n| x");
    expect_named("qwen2", "abc 1234", "abc| |1|2|3|4");
    expect_named("starcoder", "ab 12", "ab| |1|2");
    expect_named("deepseek-llm", " one\xC2\xB5\xE4\xBD\xA0 \n12",
                 " one|\xC2\xB5|\xE4\xBD\xA0| |\n|12");
    expect_named("deepseek-v3", "12345 f(x)", "123|45| f|(x|)");
    expect_named("falcon", "a-1234", "a|-|123|4");
    expect_named("tekken", "HelloWORLD don't", "Hello|WORLD| don|'t");
    expect_named("gpt-4o", "HelloWORLD don't", "Hello|WORLD| don't");
    expect_named("bloom", "a, b", "a|,| b");
    expect_named("default", "a1234", "a|123|4");
}

static void matches_go_where_the_behavior_says(void **state) {
    expect_split("-", SPLIT_ISOLATED, false, "a--b-", "a|-|-|b|-");
    expect_split("-", SPLIT_REMOVED, false, "a--b-", "a|b");
    expect_split("-", SPLIT_MERGED_WITH_PREVIOUS, false, "a--b-", "a-|-|b-");
    expect_split("-", SPLIT_MERGED_WITH_NEXT, false, "a--b-", "a|-|-b|-");
    expect_split("-", SPLIT_CONTIGUOUS, false, "a--b-", "a|--|b|-");
    expect_split("[a-z]+", SPLIT_REMOVED, true, "a--b-", "a|b");
    expect_split("x*", SPLIT_ISOLATED, false, "axxb\u00e9", "a|xx|b\u00e9"); /* empty matches */
    expect_split("-", SPLIT_ISOLATED, false, "", "");
}

static void metaspace_marks_spaces(void **state) {
    static const struct {
        enum prepend_scheme prepend;
        bool split;
        const char *want;
    } cases[] = {
        {PREPEND_ALWAYS, true, "_a|_b|_|_c"},
        {PREPEND_FIRST, false, "_a_b__c"},
        {PREPEND_NEVER, true, "a|_b|_|_c"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct pretokenizer p = {0};
        struct error err = ERROR_INIT;
        struct pretokenizer_step step = {.kind = STEP_METASPACE,
                                         .replacement = mem_strdup("_"),
                                         .prepend = cases[i].prepend,
                                         .split = cases[i].split};
        assert_int_equal(pretokenizer_add_step(&p, &step, &err), OK);
        expect(&p, "a b  c", cases[i].want);
    }
}

static void prefix_space_is_put_once(void **state) {
    static const char *const cases[][2] = {{"a b", " a b"}, {" a", " a"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct pretokenizer p = {0};
        struct error err = ERROR_INIT;
        assert_int_equal(
            pretokenizer_add_step(&p, &(struct pretokenizer_step){.kind = STEP_PREFIX_SPACE}, &err),
            OK);
        expect(&p, cases[i][0], cases[i][1]);
    }
}

static void dialects_are_translated(void **state) {
    expect_split("\\s+", SPLIT_REMOVED, false,
                 "a\xC2\x85"
                 "b\u2003c\u180ed",
                 "a|b|c\u180ed");
    expect_split("[^\\s]+", SPLIT_REMOVED, true, "a\u3000b", "a|b");
    expect_split("\\S", SPLIT_ISOLATED, false, "a\u180e", "a|\u180e");
    expect_split("\\u4f60", SPLIT_ISOLATED, false, "a\u4f60b", "a|\u4f60|b");
    expect_split("\\p{Han}+", SPLIT_ISOLATED, false, "a\u4f60\u3001b", "a|\u4f60|\u3001b");
    expect_split("\\p{Lu}\\P{Lu}*", SPLIT_ISOLATED, false, "OneTwo", "One|Two");
    expect_split("[[:digit:]]", SPLIT_ISOLATED, false, "a1b", "a|1|b");
    expect_split("[]x]", SPLIT_ISOLATED, false, "a]b", "a|]|b");
}

static void what_is_not_understood_is_refused(void **state) {
    static const char *const patterns[][2] = {
        {"(", "offset"},
        {"[a", "offset"},
        {"[a-z&&[^x]]", "sets inside sets"},
        {"[a[b]]", "sets inside sets"},
        {"\\p{NoSuchScript}", "offset"},
        {"a\\", "offset"},
        {"\\p{", "offset"},
    };
    struct pretokenizer p = {0};
    for (size_t i = 0; i < ARRAY_LEN(patterns); i++) {
        struct error err = ERROR_INIT;
        assert_int_equal(pretokenizer_add_split(&p, patterns[i][0], SPLIT_ISOLATED, false, &err),
                         ERR_INVALID);
        if (!strstr(err.text, patterns[i][1]))
            fail_msg("%s: %s", patterns[i][0], err.text);
    }
    struct error err = ERROR_INIT;
    AUTO_FREE char *longest = mem_alloc(TOKENIZER_REGEX_BYTES_MAX + 2);
    memset(longest, 'a', TOKENIZER_REGEX_BYTES_MAX + 1);
    assert_int_equal(pretokenizer_add_split(&p, longest, SPLIT_ISOLATED, false, &err), ERR_INVALID);
    for (int i = 0; i < PRETOKENIZER_STEPS_MAX; i++)
        assert_int_equal(pretokenizer_add_split(&p, "a", SPLIT_ISOLATED, false, &err), OK);
    assert_int_equal(pretokenizer_add_split(&p, "a", SPLIT_ISOLATED, false, &err), ERR_INVALID);
    pretokenizer_deinit(&p);
}

/* An expression that explodes costs an error. */
static void explosions_are_bounded(void **state) {
    struct pretokenizer p = {0};
    struct pretokens t = {0};
    struct error err = ERROR_INIT;
    assert_int_equal(pretokenizer_add_split(&p, "(?:a+)+$", SPLIT_ISOLATED, false, &err), OK);
    for (int i = 0; i < 100; i++)
        buf_putc(&t.text, 'a');
    buf_putc(&t.text, 'b');
    assert_int_equal(pretokenizer_run(&p, &t, true, &err), ERR_EXHAUSTED);
    buf_clear(&t.text);
    buf_puts(&t.text, "aaa"); /* the workspace is fit for use */
    assert_int_equal(pretokenizer_run(&p, &t, true, &err), OK);
    assert_int_equal(t.len, 1);
    pretokens_deinit(&t);
    pretokenizer_deinit(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(named_ones_cut_as_their_models_do),
        cmocka_unit_test(matches_go_where_the_behavior_says),
        cmocka_unit_test(metaspace_marks_spaces),
        cmocka_unit_test(prefix_space_is_put_once),
        cmocka_unit_test(dialects_are_translated),
        cmocka_unit_test(what_is_not_understood_is_refused),
        cmocka_unit_test(explosions_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
