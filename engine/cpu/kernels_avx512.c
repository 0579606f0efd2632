/* The kernels for processors with AVX-512 (F, BW, VL, DQ), and those with VNNI besides. */
#include "engine/cpu/vec_avx512.h"
#include "engine/cpu/matmul_vec.h"
#include "engine/cpu/rows_vec.h"
#include "engine/cpu/kernels_x86.h"
#include "engine/cpu/packed_avx512.h"

const struct cpu_kernels kernels_avx512 = {
    .name = "AVX-512",
    .matmul = matmul_vec,
    .rms_norm = rms_norm_vec,
    .silu_mul = silu_mul_vec,
    .attention = attention_vec,
};

const struct cpu_kernels kernels_avx512_vnni = {
    .name = "AVX-512 VNNI",
    .matmul = matmul_vec,
    .packed_matmul = packed_matmul_avx512,
    .packed_round_row = packed_round_row_avx512,
    .rms_norm = rms_norm_vec,
    .silu_mul = silu_mul_vec,
    .attention = attention_vec,
};
