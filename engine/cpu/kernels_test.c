/* Every set of kernels that this machine can run against the plain C twins, over odd shapes, and
 * the promise that a row's result does not depend on what is computed with it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>

#include "engine/cpu/dequant.h"
#include "engine/cpu/half.h"
#include "engine/cpu/random_matrix_test.h"

/* What a product may differ by: F32 sums in another order. */
static void check_product(const struct cpu_kernels *k, const struct matrix *w, const float *x,
                          size_t x_stride, uint32_t token, uint32_t row, float got, float want) {
    AUTO_FREE float *weights = mem_array(w->cols, sizeof(*weights));
    double size = 0;
    dequant_row(w->type, w->data + row * w->row_bytes, weights, w->cols);
    for (uint32_t c = 0; c < w->cols; c++)
        size += fabs((double)weights[c] * (double)x[token * x_stride + c]);
    if (!(fabs((double)got - (double)want) <= 1e-6 * size + 1e-30))
        fail_msg("%s %s [%u, %u] token %u row %u: %g, exact %g", k->name, dtype_name(w->type),
                 w->rows, w->cols, token, row, (double)got, (double)want);
}

static void check_matmul(const struct cpu_kernels *k, enum dtype type, uint32_t rows, uint32_t cols,
                         uint32_t tokens) {
    struct matrix w = random_matrix(type, rows, cols);
    size_t x_stride = kernels_padded(cols), out_stride = rows + 3;
    AUTO_FREE float *x = random_rows(tokens, x_stride, cols);
    AUTO_FREE float *got = mem_array(tokens * out_stride, sizeof(*got));
    AUTO_FREE float *want = mem_array(tokens * out_stride, sizeof(*want));
    AUTO_FREE float *alone = mem_array(out_stride, sizeof(*alone));
    AUTO_FREE float *scratch = mem_array(kernels_matmul_scratch(cols), sizeof(*scratch));
    struct matmul mm = {
        .w = &w,
        .x = x,
        .out = got,
        .num_tokens = tokens,
        .x_stride = x_stride,
        .out_stride = out_stride,
    };
    k->matmul(&mm, 0, rows, scratch);
    mm.out = want;
    cpu_kernels_ref()->matmul(&mm, 0, rows, scratch);
    for (uint32_t t = 0; t < tokens; t++) {
        struct matmul one = mm;
        one.x = x + t * x_stride;
        one.out = alone;
        one.num_tokens = 1;
        for (uint32_t r = 0; r < rows; r++) {
            check_product(k, &w, x, x_stride, t, r, got[t * out_stride + r],
                          want[t * out_stride + r]);
            k->matmul(&one, r, 1, scratch);
        }
        assert_memory_equal(alone, got + t * out_stride, rows * sizeof(float));
    }
    /* with `add`, and the rows cut elsewhere */
    mm.out = want;
    mm.add = true;
    memset(want, 0, tokens * out_stride * sizeof(*want));
    k->matmul(&mm, 0, rows / 2, scratch);
    k->matmul(&mm, rows / 2, rows - rows / 2, scratch);
    for (uint32_t t = 0; t < tokens; t++)
        assert_memory_equal(want + t * out_stride, got + t * out_stride, rows * sizeof(float));
    free_matrix(&w);
}

static void products_are_exact_to_rounding_and_the_same_alone_or_together(void **state) {
    static const uint32_t rows[] = {1, 3, 4, 5, 17, 32}, tokens[] = {1, 2, 3, 7, 16, 25};
    static const uint32_t cols[] = {1, 5, 16, 31, 32, 96, 100, 256, 288, 768};
    for (const struct cpu_kernels *const *k = cpu_kernels_all(); *k; k++)
        for (size_t i = 0; i < ARRAY_LEN(types); i++)
            for (size_t c = 0; c < ARRAY_LEN(cols); c++)
                for (size_t n = 0; n < ARRAY_LEN(rows) * ARRAY_LEN(tokens); n++)
                    if (cols[c] % dtype_block_len(types[i]) == 0)
                        check_matmul(*k, types[i], rows[n / ARRAY_LEN(tokens)], cols[c],
                                     tokens[n % ARRAY_LEN(tokens)]);
}

/* With a row of the identity the product is the weight itself: bit for bit what dequant says. */
static void unpacked_weights_are_those_of_the_format(void **state) {
    enum { COLS = 512 };
    float weights[COLS], x[2 * COLS], out[2];
    AUTO_FREE float *scratch = mem_array(kernels_matmul_scratch(COLS), sizeof(*scratch));
    for (const struct cpu_kernels *const *k = cpu_kernels_all(); *k; k++)
        for (size_t i = 0; i < ARRAY_LEN(types); i++) {
            struct matrix w = random_matrix(types[i], 1, COLS);
            dequant_row(types[i], w.data, weights, COLS);
            for (uint32_t c = 0; c < COLS; c++) {
                memset(x, 0, sizeof(x));
                x[c] = x[COLS + c] = 1;
                struct matmul mm = {
                    .w = &w,
                    .x = x,
                    .out = out,
                    .num_tokens = 1 + c % 2,
                    .x_stride = COLS,
                    .out_stride = 1,
                };
                (*k)->matmul(&mm, 0, 1, scratch);
                assert_true(out[0] == weights[c]);
            }
            free_matrix(&w);
        }
}

static void f16_is_read_exactly(void **state) {
    const struct {
        uint16_t bits;
        float value;
    } cases[] = {{0x3c00, 1},
                 {0xc000, -2},
                 {0x7bff, 65504},
                 {0x0400, 0x1p-14f},
                 {0x0001, 0x1p-24f},
                 {0x83ff, -0x1.ff8p-15f},
                 {0x0000, 0},
                 {0x7c00, (float)INFINITY},
                 {0xfc00, -(float)INFINITY}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_true(half_f16(&cases[i].bits) == cases[i].value);
    assert_true(isnan(half_f16(&(uint16_t){0x7e00})));
    assert_true(half_bf16(&(uint16_t){0xc040}) == -3);
}

static void norms_and_gates_are_exact_to_rounding(void **state) {
    static const uint32_t lens[] = {1, 7, 8, 16, 33, 64, 100, 896};
    for (const struct cpu_kernels *const *k = cpu_kernels_all(); *k; k++)
        for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
            uint32_t len = lens[i];
            size_t padded = kernels_padded(len);
            AUTO_FREE float *x = random_rows(1, padded, len), *w = random_rows(1, padded, len);
            AUTO_FREE float *got = mem_array(padded, 4), *want = mem_array(padded, 4);
            (*k)->rms_norm(x, w, 1e-5f, len, got);
            cpu_kernels_ref()->rms_norm(x, w, 1e-5f, len, want);
            for (uint32_t c = 0; c < len; c++)
                assert_true(fabsf(got[c] - want[c]) <= 2e-6f * fabsf(want[c]));
            for (uint32_t c = 0; c < len; c++)
                got[c] = want[c] = 100 * x[c] * x[c] * x[c]; /* both far ends of exp */
            (*k)->silu_mul(got, w, len);
            cpu_kernels_ref()->silu_mul(want, w, len);
            for (uint32_t c = 0; c < len; c++)
                assert_true(fabsf(got[c] - want[c]) <= 2e-6f * fabsf(want[c]) + 1e-30f);
        }
}

/* One sequence of 83 positions in blocks of 16 that lie anywhere. */
static void check_attention(const struct cpu_kernels *k, uint32_t head_dim, uint32_t heads,
                            uint32_t kv_heads, uint32_t window) {
    enum { BLOCK = 16, BLOCKS = 6, LEN = 83 };
    static const uint32_t table[BLOCKS] = {4, 0, 5, 2, 1, 3};
    static const int32_t positions[] = {0, 1, 15, 16, 82};
    static const uint32_t row_seq[ARRAY_LEN(positions)] = {0};
    size_t stride = kernels_padded(heads * head_dim), padded = kernels_padded(head_dim);
    AUTO_FREE float *q = random_rows(ARRAY_LEN(positions), stride, heads * head_dim);
    AUTO_FREE float *keys = random_rows(BLOCKS * BLOCK * kv_heads, padded, head_dim);
    AUTO_FREE float *values = random_rows(BLOCKS * BLOCK * kv_heads, padded, head_dim);
    AUTO_FREE float *got = mem_array(ARRAY_LEN(positions) * stride, 4);
    AUTO_FREE float *want = mem_array(ARRAY_LEN(positions) * stride, 4);
    AUTO_FREE float *scratch =
        mem_array(kernels_attention_scratch(heads, kv_heads, head_dim, LEN), 4);
    struct attention a = {
        .q = q,
        .out = got,
        .k_cache = keys,
        .v_cache = values,
        .block_table = table,
        .row_seq = row_seq,
        .positions = positions,
        .q_stride = stride,
        .block_table_stride = BLOCKS,
        .block_size = BLOCK,
        .num_heads = heads,
        .num_kv_heads = kv_heads,
        .head_dim = head_dim,
        .window = window,
        .scale = 3.0f,
    };
    struct attention exact = a;
    exact.out = want;
    for (uint32_t row = 0; row < ARRAY_LEN(positions); row++)
        for (uint32_t h = 0; h < kv_heads; h++) {
            k->attention(&a, row, h, scratch);
            cpu_kernels_ref()->attention(&exact, row, h, scratch);
        }
    for (size_t i = 0; i < ARRAY_LEN(positions) * stride; i++)
        if (!(fabsf(got[i] - want[i]) <= 3e-6f))
            fail_msg("%s heads %u/%u of %u, window %u: element %zu is %g, exact %g", k->name, heads,
                     kv_heads, head_dim, window, i, (double)got[i], (double)want[i]);
}

static void attention_is_exact_to_rounding(void **state) {
    static const uint32_t head_dims[] = {4, 16, 40, 64, 80, 128};
    static const uint32_t heads[][2] = {{1, 1}, {4, 4}, {6, 2}, {5, 1}};
    static const uint32_t windows[] = {0, 1, 17, 83, 4096};
    for (const struct cpu_kernels *const *k = cpu_kernels_all(); *k; k++)
        for (size_t d = 0; d < ARRAY_LEN(head_dims); d++)
            for (size_t h = 0; h < ARRAY_LEN(heads); h++)
                for (size_t w = 0; w < ARRAY_LEN(windows); w++)
                    check_attention(*k, head_dims[d], heads[h][0], heads[h][1], windows[w]);
}

static void the_best_kernels_are_named(void **state) {
    assert_non_null(cpu_kernels_best()->name);
    assert_true(strlen(cpu_features_name()) > 0);
    printf("kernels: %s; processor: %s\n", cpu_kernels_best()->name, cpu_features_name());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_kernels_are_named),
        cmocka_unit_test(f16_is_read_exactly),
        cmocka_unit_test(unpacked_weights_are_those_of_the_format),
        cmocka_unit_test(products_are_exact_to_rounding_and_the_same_alone_or_together),
        cmocka_unit_test(norms_and_gates_are_exact_to_rounding),
        cmocka_unit_test(attention_is_exact_to_rounding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
