/* Quantities: the reference's own cases when the shared data is there, and the edges by hand. */
#include "core/quantity.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static void canonical_text_uses_the_largest_unit(void **state) {
    static const char *const cases[][2] = {
        {"1024Mi", "1Gi"},  {"0.5", "500m"}, {"1", "1"},           {"1000", "1k"},
        {"1e3", "1e3"},     {"0", "0"},      {"0Mi", "0"},         {"1.5Gi", "1536Mi"},
        {"512Ki", "512Ki"}, {"-5", "-5"},    {"1023Ki", "1023Ki"}, {"2000m", "2"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char out[QUANTITY_BYTES_MAX];
        assert_int_equal(quantity_canonical(cases[i][0], out), OK);
        assert_string_equal(out, cases[i][1]);
    }
}

static void nonsense_is_refused(void **state) {
    static const char *const bad[] = {"",   "-",   ".",    "1 ", " 1",  "1x",
                                      "Gi", "1gi", "1Kii", "1e", "1..2"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(quantity_check(bad[i]), ERR_INVALID);
}

/* "1.5" to billionths, for the expected values of the reference cases. */
static __int128 nano_of(const char *text) {
    __int128 nano;
    assert_int_equal(quantity_nano(text, &nano), OK);
    return nano;
}

/* Skips the test, by name, where the shared data is absent. */
static json_t *shared_json(const char *file) {
    const char *shared = getenv("INFERD_SHARED");
    AUTO_FREE char *path =
        mem_printf("%s/data/api/kubernetes/%s", shared ? shared : "../shared", file);
    json_t *o = json_load_file(path, 0, NULL);
    if (!o) {
        print_message("skipped, absent: %s\n", path);
        skip();
    }
    return o;
}

static void thousandths_round_up_and_are_never_negative(void **state) {
    static const struct {
        const char *json;
        int64_t milli; /* -1: refused */
    } rows[] = {{"\"500m\"", 500}, {"2", 2000},          {"0.5", 500},
                {"\"1n\"", 1},     {"\"1.0001\"", 1001}, {"\"1Gi\"", 1073741824000},
                {"-1", -1},        {"\"-1\"", -1},       {"\"x\"", -1},
                {"true", -1},      {"null", -1},         {"\"9E\"", -1},
                {"1e30", -1},      {"\"0\"", 0}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        json_t *v = json_loads(rows[i].json, JSON_DECODE_ANY, NULL);
        int64_t milli = -1;
        bool ok = quantity_milli(v, &milli);
        if (ok != (rows[i].milli >= 0) || milli != rows[i].milli)
            fail_msg("%s gives %lld", rows[i].json, (long long)milli);
        json_decref(v);
    }
}

static void reference_cases(void **state) {
    json_t *parses = shared_json("quantity-parse.json");
    json_t *invalid = shared_json("quantity-invalid.json");
    json_t *written = shared_json("quantity-string.json");
    size_t i;
    json_t *c;
    json_array_foreach (parses, i, c) {
        const char *input = json_string_value(json_object_get(c, "input"));
        __int128 got = nano_of(input),
                 want = nano_of(json_string_value(json_object_get(c, "value")));
        if (got != want)
            fail_msg("%s has another value", input);
    }
    json_array_foreach (invalid, i, c) {
        assert_int_equal(quantity_check(json_string_value(c)), ERR_INVALID);
    }
    json_array_foreach (written, i, c) {
        const char *also = json_string_value(json_object_get(c, "also_written"));
        if (!*also)
            continue;
        char out[QUANTITY_BYTES_MAX];
        assert_int_equal(quantity_canonical(also, out), OK);
        assert_string_equal(out, json_string_value(json_object_get(c, "canonical")));
    }
    json_decref(parses);
    json_decref(invalid);
    json_decref(written);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(canonical_text_uses_the_largest_unit),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(thousandths_round_up_and_are_never_negative),
        cmocka_unit_test(reference_cases),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
