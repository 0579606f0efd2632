/* Matrix product for training: bf16 inputs with fp32 sums where the processor has AVX-512 BF16,
 * OpenBLAS elsewhere. */
#ifndef ENGINE_DEMO_GEMM_H
#define ENGINE_DEMO_GEMM_H

#include <stdbool.h>

struct gemm {
    bool transpose_a, transpose_b;
    int m, n, k;
    float keep; /* 0: overwrite c; 1: add to it */
};

/* c [m, n] = op(a) op(b) + keep * c, all row-major and dense; op(a) is [m, k], op(b) is [k, n]. */
void gemm(const struct gemm *g, const float *a, const float *b, float *c);

#endif
