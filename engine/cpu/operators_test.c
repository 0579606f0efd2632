/* The kernels against the outputs of another program's operators (PyTorch under vLLM): recorded
 * tensors, outside the repository in ../shared, or where INFERD_SHARED says. Skips by name what is
 * not there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>

#include "core/base/mem.h"
#include "engine/cpu/half.h"
#include "engine/cpu/kernels.h"
#include "engine/cpu/rope.h"

enum { HEADER_BYTES_MAX = 4096 };

struct array {
    uint32_t len;
    float *values;
    uint8_t *raw; /* as in the file */
};

static void array_deinit(struct array *a) {
    free(a->values);
    free(a->raw);
}
#define AUTO_ARRAY __attribute__((cleanup(array_deinit))) struct array

static const char *shared_dir(void) {
    const char *dir = getenv("INFERD_SHARED");
    return dir && *dir ? dir : "../shared";
}

static float element(const uint8_t *p, const char *descr) {
    float f;
    int64_t i;
    if (strstr(descr, "<u2"))
        return half_bf16(p);
    if (strstr(descr, "<i8")) {
        memcpy(&i, p, sizeof(i));
        return (float)i;
    }
    assert_non_null(strstr(descr, "<f4"));
    memcpy(&f, p, sizeof(f));
    return f;
}

/* A .npy file, version 1: magic and version (8 bytes), u16 length, header text, data. */
static struct array load(const char *test, const char *name) {
    AUTO_FREE char *path = mem_printf("%s/data/operators/%s/%s.npy", shared_dir(), test, name);
    struct array a = {0};
    char header[HEADER_BYTES_MAX + 1] = {0};
    uint16_t header_len = 0;
    FILE *file = fopen(path, "rb");
    if (!file) {
        printf("skipped: %s is not there\n", path);
        skip();
    }
    assert_int_equal(fread(header, 1, 8, file), 8);
    assert_int_equal(fread(&header_len, 1, 2, file), 2);
    assert_true(header_len < HEADER_BYTES_MAX);
    assert_int_equal(fread(header, 1, header_len, file), header_len);
    long start = ftell(file);
    fseek(file, 0, SEEK_END);
    size_t bytes = (size_t)(ftell(file) - start);
    size_t size = strstr(header, "<u2") ? 2 : strstr(header, "<i8") ? 8 : 4;
    fseek(file, start, SEEK_SET);
    a.raw = mem_alloc(bytes);
    assert_int_equal(fread(a.raw, 1, bytes, file), bytes);
    fclose(file);
    a.len = (uint32_t)(bytes / size);
    a.values = mem_array(kernels_padded(a.len), sizeof(float));
    for (uint32_t i = 0; i < a.len; i++)
        a.values[i] = element(a.raw + i * size, header);
    return a;
}

static void check_near(const char *what, const float *got, const float *want, uint32_t len,
                       double tolerance) {
    for (uint32_t i = 0; i < len; i++) {
        double bound = tolerance + tolerance * fabs((double)want[i]);
        if (!(fabs((double)got[i] - (double)want[i]) <= bound))
            fail_msg("%s: element %u is %f, recorded %f", what, i, (double)got[i], (double)want[i]);
    }
}

static void rms_norm_is_as_recorded(void **state) {
    static const char test[] = "rmsnorm_f32_8x128";
    AUTO_ARRAY x = load(test, "x");
    AUTO_ARRAY w = load(test, "weight");
    AUTO_ARRAY want = load(test, "out");
    AUTO_FREE float *got = mem_array(x.len, sizeof(float));
    for (const struct cpu_kernels *const *k = cpu_kernels_all(); *k; k++) {
        for (uint32_t row = 0; row < x.len; row += w.len)
            (*k)->rms_norm(x.values + row, w.values, 1e-6f, w.len, got + row);
        check_near((*k)->name, got, want.values, want.len, 1e-5);
    }
}

static void silu_mul_is_as_recorded(void **state) {
    enum { LEN = 128 };
    AUTO_ARRAY x = load("silu_and_mul_bf16_8x256", "x"); /* [8, gate and up] */
    AUTO_ARRAY want = load("silu_and_mul_bf16_8x256", "out");
    for (const struct cpu_kernels *const *k = cpu_kernels_all(); *k; k++)
        for (uint32_t row = 0; row < want.len / LEN; row++) {
            float gate[LEN];
            memcpy(gate, x.values + (size_t)row * 2 * LEN, sizeof(gate));
            (*k)->silu_mul(gate, x.values + (size_t)row * 2 * LEN + LEN, LEN);
            check_near((*k)->name, gate, want.values + (size_t)row * LEN, LEN, 0.008);
        }
}

static void matmul_is_as_recorded(void **state) {
    enum { T = 16, COLS = 64, ROWS = 32 };
    AUTO_ARRAY a = load("matmul_bf16_16x64x32", "a");
    AUTO_ARRAY b = load("matmul_bf16_16x64x32", "b"); /* [COLS, ROWS]: ours is the transpose */
    AUTO_ARRAY want = load("matmul_bf16_16x64x32", "out");
    uint8_t weights[ROWS * COLS * 2];
    for (uint32_t r = 0; r < ROWS; r++)
        for (uint32_t c = 0; c < COLS; c++)
            memcpy(weights + 2 * (r * COLS + c), b.raw + 2 * (c * ROWS + r), 2);
    struct matrix w = {
        .data = weights, .type = DTYPE_BF16, .rows = ROWS, .cols = COLS, .row_bytes = 2 * COLS};
    float out[T * ROWS];
    AUTO_FREE float *scratch = mem_array(kernels_matmul_scratch(COLS), sizeof(float));
    for (const struct cpu_kernels *const *k = cpu_kernels_all(); *k; k++) {
        struct matmul mm = {.w = &w,
                            .x = a.values,
                            .out = out,
                            .num_tokens = T,
                            .x_stride = COLS,
                            .out_stride = ROWS};
        (*k)->matmul(&mm, 0, ROWS, scratch);
        check_near((*k)->name, out, want.values, want.len, 1e-5);
    }
}

static void check_rotation(const char *test, const char *name, uint32_t head_dim,
                           const float *positions, uint32_t num_rows) {
    enum { PAIRS = 16 };
    AUTO_FREE char *in_name = mem_printf("%s_in", name);
    AUTO_FREE char *out_name = mem_printf("%s_out", name);
    AUTO_ARRAY x = load(test, in_name);
    AUTO_ARRAY want = load(test, out_name);
    double inv_freq[PAIRS];
    uint32_t row_len = x.len / num_rows;
    for (int i = 0; i < PAIRS; i++)
        inv_freq[i] = pow(10000, -2.0 * i / (2 * PAIRS));
    for (uint32_t row = 0; row < num_rows; row++) {
        float cos_row[PAIRS], sin_row[PAIRS];
        rope_angles((int32_t)positions[row], inv_freq, PAIRS, 1, cos_row, sin_row);
        rope_rotate(x.values + (size_t)row * row_len, row_len / head_dim, head_dim, PAIRS, cos_row,
                    sin_row, true);
    }
    check_near(name, x.values, want.values, want.len, 1e-5);
}

/* Rotates 32 of a head's 64 elements. */
static void rotation_is_as_recorded(void **state) {
    AUTO_ARRAY positions = load("rope_f32_pos_short", "positions");
    check_rotation("rope_f32_pos_short", "q", 64, positions.values, positions.len);
    check_rotation("rope_f32_pos_short", "k", 64, positions.values, positions.len);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rms_norm_is_as_recorded),
        cmocka_unit_test(silu_mul_is_as_recorded),
        cmocka_unit_test(matmul_is_as_recorded),
        cmocka_unit_test(rotation_is_as_recorded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
