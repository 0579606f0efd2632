#include "engine/philox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* The known answers that Random123 publishes for philox4x32, 10 rounds. */
static void agrees_with_the_published_answers(void **state) {
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } cases[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint32_t out[4];
        philox4x32(cases[i].counter, cases[i].key, out);
        assert_memory_equal(out, cases[i].out, sizeof(out));
    }
}

static void uniform_stays_in_its_interval_and_is_flat(void **state) {
    enum { DRAWS = 100000, BINS = 10 };
    int bins[BINS] = {0};
    for (uint64_t i = 0; i < DRAWS; i++) {
        double u = philox_uniform(42, i);
        assert_true(u >= 0 && u < 1);
        bins[(int)(u * BINS)]++;
    }
    for (int b = 0; b < BINS; b++) /* five standard deviations of a binomial */
        assert_in_range(bins[b], DRAWS / BINS - 475, DRAWS / BINS + 475);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_published_answers),
        cmocka_unit_test(uniform_stays_in_its_interval_and_is_flat),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
