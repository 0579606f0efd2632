/* The plain C twins of the kernels, each in the file of its family. Sums are taken in F64, so they
 * say what the exact result is; the fast ones are tested against them. */
#ifndef ENGINE_CPU_KERNELS_REF_H
#define ENGINE_CPU_KERNELS_REF_H

#include "engine/cpu/kernels.h"

/* Four sums side by side, so that the additions need not wait for each other. */
static inline double kernels_ref_dot(const float *a, const float *b, uint32_t len) {
    double sum[4] = {0};
    for (uint32_t i = 0; i < len; i++)
        sum[i % 4] += (double)a[i] * (double)b[i];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

void matmul_ref(const struct matmul *mm, uint32_t row, uint32_t num_rows, float *scratch);
void rms_norm_ref(const float *x, const float *w, float eps, uint32_t len, float *out);
void silu_mul_ref(float *gate, const float *up, uint32_t len);
void attention_ref(const struct attention *a, uint32_t row, uint32_t kv_head, float *scratch);

#endif
