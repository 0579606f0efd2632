/* The kernels for processors with AVX-512 (F, BW, VL, DQ). */
#include "engine/cpu/vec_avx512.h"
#include "engine/cpu/matmul_vec.h"
#include "engine/cpu/rows_vec.h"
#include "engine/cpu/kernels_x86.h"

const struct cpu_kernels kernels_avx512 = {
    .name = "AVX-512",
    .matmul = matmul_vec,
    .rms_norm = rms_norm_vec,
    .silu_mul = silu_mul_vec,
    .attention = attention_vec,
};
