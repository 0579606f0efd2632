/* Packed weights: the packing loses nothing, the rounding of activations is within half a step, and
 * the vector kernels give the bits of their plain twins, alone and in a batch. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>

#include "engine/cpu/dequant.h"
#include "engine/cpu/packed.h"
#include "engine/cpu/random_matrix_test.h"

struct fixture {
    struct matrix w;
    struct packed_activations x;
    uint8_t *packed, *memory;
    float *rows; /* x before rounding */
};

static void fixture_init(struct fixture *f, enum dtype type, uint32_t rows, uint32_t cols,
                         uint32_t tokens, uint32_t planes) {
    f->w = random_matrix(type, rows, cols);
    f->packed = mem_alloc(packed_bytes(type, rows, cols));
    for (uint32_t s = 0; s * PACKED_ROWS < rows; s++)
        packed_put_strip(&f->w, s, f->packed);
    f->w.packed = f->packed;
    f->rows = random_rows(tokens, cols, cols);
    f->memory = mem_alloc(packed_activations_bytes(tokens, cols));
    packed_activations_carve(&f->x, f->memory, tokens, cols, planes);
    for (uint32_t t = 0; t < tokens; t++)
        packed_round_row_ref(&f->x, t, f->rows + (size_t)t * cols);
}

static void fixture_deinit(struct fixture *f) {
    free_matrix(&f->w);
    free(f->packed);
    free(f->memory);
    free(f->rows);
}

static int32_t code_of(const struct packed_activations *x, size_t at) {
    return x->planes == 1 ? x->codes[0][at] : x->codes[0][at] * 256 + x->codes[1][at];
}

static void check_rounding(const struct fixture *f, uint32_t tokens) {
    for (size_t i = 0; i < (size_t)tokens * f->w.cols; i++) {
        float scale = f->x.scales[i / PACKED_GROUP];
        assert_true(fabsf((float)code_of(&f->x, i) * scale - f->rows[i]) <= scale * 0.51f);
    }
}

/* The twin against the weights as dequant_row() reads them. */
static void check_twin(const struct fixture *f, uint32_t tokens, const float *got) {
    const struct matrix *w = &f->w;
    AUTO_FREE float *weights = mem_array(w->cols, sizeof(*weights));
    for (uint32_t r = 0; r < w->rows; r++) {
        dequant_row(w->type, w->data + r * w->row_bytes, weights, w->cols);
        for (uint32_t t = 0; t < tokens; t++) {
            double sum = 0, size = 0;
            for (uint32_t c = 0; c < w->cols; c++) {
                size_t at = (size_t)t * w->cols + c;
                double x = (double)code_of(&f->x, at) * (double)f->x.scales[at / PACKED_GROUP];
                sum += x * (double)weights[c];
                size += fabs(x * (double)weights[c]) + fabs(x) * 0.03; /* the parts of d*q + m */
            }
            double off = fabs((double)got[t * w->rows + r] - sum);
            if (!(off <= 2e-6 * size))
                fail_msg("%s [%u, %u] row %u token %u: %g instead of %g", dtype_name(w->type),
                         w->rows, w->cols, r, t, (double)got[t * w->rows + r], sum);
        }
    }
}

static void check_kernels(const struct cpu_kernels *k, struct fixture *f, uint32_t tokens,
                          const float *want) {
    uint32_t rows = f->w.rows, cut = rows / PACKED_ROWS / 2 * PACKED_ROWS;
    AUTO_FREE float *got = mem_array((size_t)tokens * rows, sizeof(*got));
    struct matmul mm = {
        .w = &f->w, .rounded = &f->x, .out = got, .num_tokens = tokens, .out_stride = rows};
    k->packed_matmul(&mm, 0, rows);
    assert_memory_equal(got, want, (size_t)tokens * rows * sizeof(*got));
    /* with `add`, the rows cut in two */
    memset(got, 0, (size_t)tokens * rows * sizeof(*got));
    mm.add = true;
    k->packed_matmul(&mm, 0, cut);
    k->packed_matmul(&mm, cut, rows - cut);
    for (size_t i = 0; i < (size_t)tokens * rows; i++)
        assert_true(got[i] == want[i]);
    /* the last token alone, rounded by the kernel */
    struct packed_activations one;
    AUTO_FREE uint8_t *memory = mem_alloc(packed_activations_bytes(1, f->w.cols));
    packed_activations_carve(&one, memory, 1, f->w.cols, f->x.planes);
    k->packed_round_row(&one, 0, f->rows + (size_t)(tokens - 1) * f->w.cols);
    struct matmul alone = {
        .w = &f->w, .rounded = &one, .out = got, .num_tokens = 1, .out_stride = rows};
    k->packed_matmul(&alone, 0, rows);
    assert_memory_equal(got, want + (size_t)(tokens - 1) * rows, rows * sizeof(*got));
}

static void check(enum dtype type, uint32_t rows, uint32_t cols, uint32_t tokens, uint32_t planes) {
    struct fixture f;
    fixture_init(&f, type, rows, cols, tokens, planes);
    check_rounding(&f, tokens);
    AUTO_FREE float *want = mem_array((size_t)tokens * rows, sizeof(*want));
    struct matmul mm = {
        .w = &f.w, .rounded = &f.x, .out = want, .num_tokens = tokens, .out_stride = rows};
    packed_matmul_ref(&mm, 0, rows);
    check_twin(&f, tokens, want);
    for (const struct cpu_kernels *const *k = cpu_kernels_all(); *k; k++)
        if ((*k)->packed_matmul)
            check_kernels(*k, &f, tokens, want);
    fixture_deinit(&f);
}

static void products_are_those_of_the_codes_and_the_same_bits_everywhere(void **state) {
    static const uint32_t rows[] = {1, 16, 17, 33, 70}, tokens[] = {1, 2, 4, 7, 8, 19};
    static const uint32_t cols[] = {32, 96, 256, 768};
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        for (size_t c = 0; c < ARRAY_LEN(cols); c++)
            for (size_t n = 0; n < ARRAY_LEN(rows) * ARRAY_LEN(tokens); n++)
                if (packed_bytes(types[i], 16, 256) && cols[c] % dtype_block_len(types[i]) == 0)
                    check(types[i], rows[n / ARRAY_LEN(tokens)], cols[c],
                          tokens[n % ARRAY_LEN(tokens)], 1 + n % 2);
}

static void rounding_is_the_same_in_vectors(void **state) {
    enum { COLS = 320, NUM_BYTES = 4096 };
    float x[COLS];
    for (uint32_t c = 0; c < COLS; c++)
        x[c] = ldexpf(next_float(), (int)(c / PACKED_GROUP) * 12 - 60);
    memset(x, 0, PACKED_GROUP * sizeof(x[0]));
    x[40] = -x[41];
    x[64] = NAN;
    x[99] = -INFINITY;
    for (uint32_t planes = 1; planes <= PACKED_PLANES_MAX; planes++)
        for (const struct cpu_kernels *const *k = cpu_kernels_all(); *k; k++) {
            if (!(*k)->packed_round_row)
                continue;
            assert_true(packed_activations_bytes(1, COLS) <= NUM_BYTES);
            _Alignas(64) uint8_t want_memory[NUM_BYTES] = {0}, got_memory[NUM_BYTES] = {0};
            struct packed_activations want, got;
            packed_activations_carve(&want, want_memory, 1, COLS, planes);
            packed_activations_carve(&got, got_memory, 1, COLS, planes);
            packed_round_row_ref(&want, 0, x);
            (*k)->packed_round_row(&got, 0, x);
            assert_memory_equal(want_memory, got_memory, NUM_BYTES);
            assert_true(isnan(got.scales[2]) && isnan(got.scales[3]) && isnan(got.offsets[3]));
            assert_true(got.scales[0] == 0);
        }
}

static void packing_takes_the_memory_that_it_says(void **state) {
    assert_int_equal(packed_bytes(DTYPE_F32, 64, 256), 0);
    assert_int_equal(packed_bytes(DTYPE_BF16, 64, 256), 0);
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        uint64_t bytes = packed_bytes(types[i], 64, 512), plain = 64 * dtype_bytes(types[i], 512);
        assert_true(!bytes || (bytes >= plain && bytes * 100 <= plain * 103));
        assert_int_equal(packed_bytes(types[i], 49, 512), bytes); /* whole strips */
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packing_takes_the_memory_that_it_says),
        cmocka_unit_test(rounding_is_the_same_in_vectors),
        cmocka_unit_test(products_are_those_of_the_codes_and_the_same_bits_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
