#include "engine/command_options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "core/base/buf.h"

static bool flag, count_given;
static const char *text;
static uint32_t count;
static uint64_t seed;
static float real;

static const struct command_option table[] = {
    {"flag", OPTION_FLAG, &flag, NULL, 0, 0, "a flag"},
    {"some-text", OPTION_TEXT, &text, NULL, 0, 0, "a text"},
    {"count", OPTION_COUNT, &count, &count_given, 1, 10, "a count"},
    {"seed", OPTION_SEED, &seed, NULL, 0, 0, "a seed"},
    {"real", OPTION_REAL, &real, NULL, 0, 2, "a real"},
};

static enum errc parse(struct error *err, const char *a, const char *b) {
    char *argv[] = {(char[]){"command"}, (char *)(uintptr_t)a, (char *)(uintptr_t)b, NULL};
    return command_options_parse(table, ARRAY_LEN(table), b ? 3 : 2, argv, err);
}

static void every_type_is_read_in_both_spellings(void **state) {
    struct error err = ERROR_INIT;
    assert_int_equal(parse(&err, "--flag", NULL), OK);
    assert_true(flag);
    assert_int_equal(parse(&err, "--some_text", "--odd"), OK); /* a value may begin with dashes */
    assert_string_equal(text, "--odd");
    assert_int_equal(parse(&err, "--some-text=a=b", NULL), OK);
    assert_string_equal(text, "a=b");
    assert_int_equal(parse(&err, "--some-text=", NULL), OK);
    assert_string_equal(text, "");
    assert_false(count_given);
    assert_int_equal(parse(&err, "--count=10", NULL), OK);
    assert_int_equal(count, 10);
    assert_true(count_given);
    assert_int_equal(parse(&err, "--seed", "18446744073709551615"), OK);
    assert_true(seed == UINT64_MAX);
    assert_int_equal(parse(&err, "--real", "0.5"), OK);
    assert_true(real == 0.5f);
}

static void refuses(const char *a, const char *b, const char *field) {
    struct error err = ERROR_INIT;
    assert_int_equal(parse(&err, a, b), ERR_INVALID);
    assert_string_equal(err.field, field);
    assert_non_null(strstr(err.text, field));
}

static void bad_usage_names_the_option(void **state) {
    refuses("word", NULL, "word");
    refuses("--nothing", NULL, "--nothing");
    refuses("--flag=1", NULL, "--flag");
    refuses("--some-text", NULL, "--some-text");
    refuses("--count", "0", "--count");
    refuses("--count", "11", "--count");
    refuses("--count", "-1", "--count");
    refuses("--count", "3x", "--count");
    refuses("--count", "", "--count");
    refuses("--count", "99999999999999999999", "--count");
    refuses("--seed", "18446744073709551616", "--seed");
    refuses("--real", "2.5", "--real");
    refuses("--real", "nan", "--real");
    refuses("--real", "", "--real");
}

static void ids_are_read_up_to_their_bound(void **state) {
    int32_t ids[3];
    assert_int_equal(command_options_ids("1,22,333", ids, 3), 3);
    assert_int_equal(ids[2], 333);
    assert_int_equal(command_options_ids("7", ids, 3), 1);
    assert_int_equal(command_options_ids("1,2,3,4", ids, 3), -1);
    const char *bad[] = {"", ",", "1,", "1,,2", "-1", "1 2", "x", "2147483648"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(command_options_ids(bad[i], ids, 3), -1);
}

static void help_has_a_line_for_each(void **state) {
    AUTO_BUF out = BUF_INIT;
    command_options_help(table, ARRAY_LEN(table), &out);
    uint32_t lines = 0;
    for (size_t i = 0; i < out.len; i++)
        lines += out.data[i] == '\n';
    assert_int_equal(lines, ARRAY_LEN(table));
    assert_non_null(strstr(out.data, "--some-text TEXT"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_is_read_in_both_spellings),
        cmocka_unit_test(bad_usage_names_the_option),
        cmocka_unit_test(ids_are_read_up_to_their_bound),
        cmocka_unit_test(help_has_a_line_for_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
