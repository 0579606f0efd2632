#include "engine/softmax.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "engine/philox.h"

enum { N = 1000 + 7 }; /* no multiple of the block */

static void weights_are_exponentials_to_rounding(void **state) {
    static float x[N], w[N];
    for (uint64_t seed = 0; seed < 100; seed++) {
        float scale = 0.1f + (float)(seed % 7);
        double sum = 0;
        for (uint32_t i = 0; i < N; i++)
            x[i] = 10 - (float)(philox_uniform(seed, i) * 86 / (double)scale);
        x[3] = 10;
        double got = softmax_weights(x, N, 10, scale, w);
        for (uint32_t i = 0; i < N; i++) {
            double exact = exp((double)((x[i] - 10) * scale));
            assert_true(fabs((double)w[i] - exact) <= 2e-7 * exact);
            sum += exact;
        }
        assert_true(fabs(got - sum) <= 3e-7 * sum);
        assert_true(softmax_sum(x, N, 10, scale) == got);
        assert_true(w[3] == 1);
    }
}

static void the_smallest_become_zero(void **state) {
    const float x[] = {0, -INFINITY, -1e30f, -3e38f, -88, -86};
    float w[6];
    softmax_weights(x, 6, 0, 1, w);
    assert_true(w[0] == 1 && w[1] == 0 && w[2] == 0 && w[3] == 0 && w[4] == 0);
    assert_true(w[5] > 0);
    softmax_weights(x, 6, 0, 1e5f, w); /* a temperature of 1e-5 */
    assert_true(w[0] == 1 && w[5] == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_are_exponentials_to_rounding),
        cmocka_unit_test(the_smallest_become_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
