/* Rotary frequencies of stretched models against the tables of another program (PyTorch under
 * vLLM), outside the repository in ../shared; and what needs no table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>

#include "engine/cpu/half.h"
#include "engine/model_spec.h"
#include "engine/shared_data.h"

enum { POSITIONS = 128, PAIRS_MAX = 8 };

static struct model_spec make_spec(enum rope_scaling scaling, uint32_t rope_dim) {
    struct model_spec s;
    model_spec_init(&s);
    s.config.rope_dim = rope_dim;
    s.config.rope_theta = 10000;
    s.rope.scaling = scaling;
    s.rope.factor = 4;
    s.rope.original_context_length = 32;
    return s;
}

/* The data of a .npy file of `bytes` bytes, which stands at its end. */
static void read_table(const char *name, void *data, size_t bytes) {
    AUTO_FREE char *path = shared_data_path(name);
    if (!path)
        skip();
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, -(long)bytes, SEEK_END), 0);
    assert_int_equal(fread(data, 1, bytes, file), bytes);
    fclose(file);
}

/* table [POSITIONS, cos of each pair then sin of each pair] */
static void check_table(const struct model_spec *s, const float *table, double tolerance) {
    float magnitude;
    AUTO_FREE double *inv_freq = model_spec_rope(s, &magnitude);
    uint32_t num_pairs = s->config.rope_dim / 2;
    for (uint32_t p = 0; p < POSITIONS; p++)
        for (uint32_t i = 0; i < num_pairs; i++) {
            const float *row = table + (size_t)p * 2 * num_pairs;
            double cosine = cos(p * inv_freq[i]) * (double)magnitude;
            double sine = sin(p * inv_freq[i]) * (double)magnitude;
            if (fabs(cosine - (double)row[i]) > tolerance ||
                fabs(sine - (double)row[num_pairs + i]) > tolerance)
                fail_msg("position %u, pair %u: %f %f, recorded %f %f", p, i, cosine, sine,
                         (double)row[i], (double)row[num_pairs + i]);
        }
}

static void llama3_is_as_recorded(void **state) {
    float table[POSITIONS * 2 * PAIRS_MAX];
    struct model_spec s = make_spec(ROPE_SCALING_LLAMA3, 16);
    read_table("data/operators/long_rope_llama3_neox_f32_bands/cos_sin_cache.npy", table,
               sizeof(table));
    check_table(&s, table, 2e-5);
}

static void yarn_is_as_recorded(void **state) {
    enum { LEN = POSITIONS * 8 };
    uint16_t halves[LEN];
    float table[LEN];
    struct model_spec s = make_spec(ROPE_SCALING_YARN, 8);
    s.rope.magnitude = 1.1f * (0.1f * logf(4) + 1);
    read_table("data/operators/long_rope_yarn_neox_bf16/cos_sin_cache.npy", halves, sizeof(halves));
    for (size_t i = 0; i < LEN; i++)
        table[i] = half_bf16(&halves[i]);
    check_table(&s, table, 0.01); /* BF16 near 1.25 */
}

static void linear_divides_every_frequency(void **state) {
    float magnitude;
    struct model_spec plain = make_spec(ROPE_SCALING_NONE, 16);
    struct model_spec linear = make_spec(ROPE_SCALING_LINEAR, 16);
    AUTO_FREE double *want = model_spec_rope(&plain, &magnitude);
    AUTO_FREE double *got = model_spec_rope(&linear, &magnitude);
    assert_true(magnitude == 1);
    assert_true(want[0] == 1);
    for (int i = 0; i < 8; i++) {
        assert_true(got[i] == want[i] / 4);
        assert_true(fabs(want[i] - pow(10000, -i / 8.0)) < 1e-12);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama3_is_as_recorded),
        cmocka_unit_test(yarn_is_as_recorded),
        cmocka_unit_test(linear_divides_every_frequency),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
