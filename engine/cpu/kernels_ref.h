/* The plain C twins of the kernels, each in the file of its family. Sums are taken in F64, so they
 * say what the exact result is; the fast ones are tested against them. */
#ifndef ENGINE_CPU_KERNELS_REF_H
#define ENGINE_CPU_KERNELS_REF_H

#include "engine/cpu/kernels.h"

void matmul_ref(const struct matmul *mm, uint32_t row, uint32_t num_rows, float *scratch);
void rms_norm_ref(const float *x, const float *w, float eps, uint32_t len, float *out);
void silu_mul_ref(float *gate, const float *up, uint32_t len);
void attention_ref(const struct attention *a, uint32_t row, uint32_t kv_head, float *scratch);

#endif
