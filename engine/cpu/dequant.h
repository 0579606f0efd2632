/* Weights back to F32, in plain C: the meaning of every type, which the fast kernels are tested
 * against, and the way single rows (embeddings) are read. */
#ifndef ENGINE_CPU_DEQUANT_H
#define ENGINE_CPU_DEQUANT_H

#include "engine/cpu/dtype.h"

/* dst[0..len) from the packed weights at src (no alignment needed); len is a multiple of the
 * type's block length. */
void dequant_row(enum dtype type, const void *src, float *dst, uint32_t len);

/* The 6-bit scale and minimum of sub-block j (0..7) from the 12 packed bytes of Q4_K and Q5_K. */
static inline void dequant_scale_min(const uint8_t *packed, uint32_t j, uint32_t *ret_scale,
                                     uint32_t *ret_min) {
    if (j < 4) {
        *ret_scale = packed[j] & 63u;
        *ret_min = packed[j + 4] & 63u;
    } else {
        *ret_scale = (packed[j + 4] & 15u) | (packed[j - 4] >> 6) << 4;
        *ret_min = packed[j + 4] >> 4 | (packed[j] >> 6) << 4;
    }
}

#endif
