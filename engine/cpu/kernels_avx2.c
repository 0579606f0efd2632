/* The kernels for processors with AVX2, FMA and F16C. */
#include "engine/cpu/vec_avx2.h"
#include "engine/cpu/matmul_vec.h"
#include "engine/cpu/rows_vec.h"
#include "engine/cpu/kernels_x86.h"

const struct cpu_kernels kernels_avx2 = {
    .name = "AVX2",
    .matmul = matmul_vec,
    .rms_norm = rms_norm_vec,
    .silu_mul = silu_mul_vec,
    .attention = attention_vec,
};
