/* The packed kernels for processors with AVX-512 and VNNI. Contracts as of the plain twins. */
#ifndef ENGINE_CPU_PACKED_AVX512_H
#define ENGINE_CPU_PACKED_AVX512_H

#include "engine/cpu/packed.h"

void packed_matmul_avx512(const struct matmul *mm, uint32_t row, uint32_t num_rows);
void packed_round_row_avx512(const struct packed_activations *a, uint32_t token, const float *x);

#endif
