/* The 16-bit floats: F16 (IEEE binary16) and BF16 (the upper half of an F32), read from memory that
 * need not be aligned, as blocks of quantised weights are not. */
#ifndef ENGINE_CPU_HALF_H
#define ENGINE_CPU_HALF_H

#include <stdint.h>
#include <string.h>

static inline float half_from_bits(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

static inline uint16_t half_load_u16(const void *p) {
    uint16_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

/* Exact for every F16, subnormals, infinities and NaN included. */
static inline float half_f16(const void *p) {
    uint32_t h = half_load_u16(p);
    uint32_t sign = (h & 0x8000) << 16;
    uint32_t rest = h & 0x7fff;
    if (rest >= 0x7c00) /* infinity or NaN */
        return half_from_bits(sign | 0x7f800000 | (rest & 0x3ff) << 13);
    if (rest < 0x400) { /* subnormal: rest * 2^-24, exact in F32 */
        float v = (float)rest * 0x1p-24f;
        return sign ? -v : v;
    }
    return half_from_bits(sign | ((rest << 13) + ((127 - 15) << 23)));
}

static inline float half_bf16(const void *p) {
    return half_from_bits((uint32_t)half_load_u16(p) << 16);
}

#endif
