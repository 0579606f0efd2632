#include "core/control/quantity.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void quantities_read_as_kubernetes_reads_them(void **state) {
    static const struct {
        const char *text;
        int64_t milli; /* -1: refused */
    } rows[] = {
        {"500m", 500},
        {"2", 2000},
        {"1.5", 1500},
        {"0", 0},
        {"128Mi", 134217728000},
        {"1Gi", 1073741824000},
        {"1e3", 1000000},
        {"2G", 2000000000000},
        {"100n", 1},
        {"1E2", 100000},
        {"0.1", 100},
        {".5", 500},
        {"12E", -1},
        {"", -1},
        {"-1", -1},
        {".", -1},
        {"1.2.3", -1},
        {"1x", -1},
        {"Mi", -1},
        {"1 Gi", -1},
        {"0x10", -1},
        {"1e", -1},
        {"nan", -1},
        {"99999999999999999999", -1},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int64_t milli = -1;
        bool ok = quantity_parse(rows[i].text, &milli);
        if (ok != (rows[i].milli >= 0) || milli != rows[i].milli)
            fail_msg("\"%s\" gives %lld, not %lld", rows[i].text, (long long)milli,
                     (long long)rows[i].milli);
    }
}

static void numbers_in_json_are_quantities_too(void **state) {
    json_t *two = json_integer(2), *half = json_real(0.5), *minus = json_integer(-1);
    json_t *text = json_string("250m"), *none = json_true();
    int64_t milli;
    assert_true(quantity_from_json(two, &milli));
    assert_int_equal(milli, 2000);
    assert_true(quantity_from_json(half, &milli));
    assert_int_equal(milli, 500);
    assert_true(quantity_from_json(text, &milli));
    assert_int_equal(milli, 250);
    assert_false(quantity_from_json(minus, &milli));
    assert_false(quantity_from_json(none, &milli));
    assert_false(quantity_from_json(NULL, &milli));
    json_decref(two);
    json_decref(half);
    json_decref(minus);
    json_decref(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantities_read_as_kubernetes_reads_them),
        cmocka_unit_test(numbers_in_json_are_quantities_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
