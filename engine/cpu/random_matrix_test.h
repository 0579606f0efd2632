/* Random packed weights and activations, for the tests of the kernels. */
#ifndef ENGINE_CPU_RANDOM_MATRIX_TEST_H
#define ENGINE_CPU_RANDOM_MATRIX_TEST_H

#include "core/base/mem.h"
#include "engine/cpu/kernels.h"

static const enum dtype types[] = {DTYPE_F32,  DTYPE_F16,  DTYPE_BF16, DTYPE_Q8_0,
                                   DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q5_0, DTYPE_Q5_1,
                                   DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K};

static uint64_t seed = 1;

static uint32_t next(void) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 32);
}

/* About -1 to 1. */
static float next_float(void) {
    return (float)(int32_t)next() * 0x1p-31f;
}

/* Rows of floats with a padded stride; the padding is zero. */
static float *random_rows(uint32_t rows, size_t stride, uint32_t len) {
    float *x = mem_array(rows * stride + KERNELS_PAD, sizeof(*x));
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t i = 0; i < len; i++)
            x[r * stride + i] = next_float();
    return x;
}

/* Where a block has F16 scales: random bytes there would be infinities. */
static void put_scales(enum dtype type, uint8_t *block) {
    uint32_t first = type == DTYPE_Q6_K ? 208 : 0;
    bool two = type == DTYPE_Q4_1 || type == DTYPE_Q5_1 || type == DTYPE_Q4_K || type == DTYPE_Q5_K;
    for (uint32_t i = 0; i < (two ? 2 : 1); i++) {
        uint16_t small = (uint16_t)(0x1400 | (next() & 0x83ff)); /* +-0.001 to +-0.002 */
        memcpy(block + first + 2 * i, &small, 2);
    }
}

/* Packed weights of any bits; in its own allocation, so that a read beyond is seen. */
static struct matrix random_matrix(enum dtype type, uint32_t rows, uint32_t cols) {
    size_t row_bytes = dtype_bytes(type, cols);
    uint8_t *data = mem_alloc(rows * row_bytes);
    for (size_t i = 0; i < rows * row_bytes; i++)
        data[i] = (uint8_t)next();
    uint32_t num_blocks = rows * cols / dtype_block_len(type);
    for (uint32_t i = 0; i < num_blocks; i++) {
        uint8_t *block = data + (size_t)i * dtype_block_bytes(type);
        float v = next_float();
        uint32_t bits;
        memcpy(&bits, &v, 4);
        if (type == DTYPE_F32)
            memcpy(block, &v, 4);
        else if (type == DTYPE_BF16)
            memcpy(block, (uint8_t *)&bits + 2, 2);
        else if (type == DTYPE_F16)
            block[1] = (uint8_t)(0x20 | (block[1] & 0x9f)); /* up to 1 */
        else
            put_scales(type, block);
    }
    return (struct matrix){
        .data = data,
        .type = type,
        .rows = rows,
        .cols = cols,
        .row_bytes = row_bytes,
    };
}

static void free_matrix(struct matrix *m) {
    free((void *)(uintptr_t)m->data);
}

#endif
