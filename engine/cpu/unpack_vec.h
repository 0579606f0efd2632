/* Unpacking weights into registers, 32 at a time. Included behind a vec_*.h. The layouts stand in
 * dequant.c, and the results are its bits: every product before the last rounding is exact in F32,
 * so the fused multiply-add rounds just where the plain code does.
 *
 * unpack(block, part, w): the part-th 32 weights of the block; the floats take any position. */
#ifndef ENGINE_CPU_UNPACK_VEC_H
#define ENGINE_CPU_UNPACK_VEC_H

#include <string.h>

#include "engine/cpu/dequant.h"

enum { CHUNK = 32, VECS = CHUNK / LANES };

#define INLINE static inline __attribute__((always_inline))

INLINE void unpack_f32(const uint8_t *block, uint32_t part, vf w[VECS]) {
    for (int i = 0; i < VECS; i++) {
        __builtin_memcpy(&w[i], block + 4 * (size_t)(part * CHUNK + (uint32_t)(i * LANES)),
                         sizeof(w[i]));
    }
}

INLINE void unpack_f16(const uint8_t *block, uint32_t part, vf w[VECS]) {
    for (int i = 0; i < VECS; i++)
        w[i] = vf_f16(block + 2 * (size_t)(part * CHUNK + (uint32_t)(i * LANES)));
}

INLINE void unpack_bf16(const uint8_t *block, uint32_t part, vf w[VECS]) {
    for (int i = 0; i < VECS; i++)
        w[i] = vf_bf16(block + 2 * (size_t)(part * CHUNK + (uint32_t)(i * LANES)));
}

INLINE void unpack_q8_0(const uint8_t *b, uint32_t part, vf w[VECS]) {
    vf d = vf_f16_set1(b);
    for (int i = 0; i < VECS; i++)
        w[i] = vf_mul(d, vf_from_vi(vi_i8(b + 2 + i * LANES)));
}

/* The nibbles of 16 bytes: low ones first. */
INLINE void unpack_nibbles(const uint8_t *q, struct levels levels, vf w[VECS]) {
    for (int i = 0; i < VECS / 2; i++) {
        vi byte = vi_u8(q + i * LANES);
        w[i] = levels_at(levels, byte);
        w[i + VECS / 2] = levels_at(levels, vi_shr(byte, 4));
    }
}

INLINE void unpack_q4_0(const uint8_t *b, uint32_t part, vf w[VECS]) {
    unpack_nibbles(b + 2, levels_centred(vf_f16_set1(b)), w);
}

INLINE void unpack_q4_1(const uint8_t *b, uint32_t part, vf w[VECS]) {
    unpack_nibbles(b + 4, levels_make(vf_f16_set1(b), vf_f16_set1(b + 2)), w);
}

/* As above with a fifth bit for each weight. */
INLINE void unpack_fives(const uint8_t *q, const uint8_t *high, vf d, vf m, vf w[VECS]) {
    uint32_t bits;
    memcpy(&bits, high, sizeof(bits));
    for (int i = 0; i < VECS / 2; i++) {
        vi byte = vi_u8(q + i * LANES);
        vi low = vi_or(vi_and(byte, vi_set1(15)), vi_shl(vi_bits(bits, i * LANES), 4));
        vi top = vi_or(vi_shr(byte, 4), vi_shl(vi_bits(bits, 16 + i * LANES), 4));
        w[i] = vf_fma(vf_from_vi(low), d, m);
        w[i + VECS / 2] = vf_fma(vf_from_vi(top), d, m);
    }
}

INLINE void unpack_q5_0(const uint8_t *b, uint32_t part, vf w[VECS]) {
    vf d = vf_f16_set1(b);
    unpack_fives(b + 6, b + 2, d, vf_mul(vf_set1(-16), d), w);
}

INLINE void unpack_q5_1(const uint8_t *b, uint32_t part, vf w[VECS]) {
    unpack_fives(b + 8, b + 4, vf_f16_set1(b), vf_f16_set1(b + 2), w);
}

/* Scale and offset of a sub-block of Q4_K and Q5_K. */
INLINE void load_scale_min(const uint8_t *b, uint32_t part, vf *d, vf *m) {
    uint32_t scale, min;
    dequant_scale_min(b + 4, part, &scale, &min);
    *d = vf_mul(vf_f16_set1(b), vf_set1((float)scale));
    *m = vf_mul(vf_f16_set1(b + 2), vf_set1(-(float)min));
}

INLINE void unpack_q4_k(const uint8_t *b, uint32_t part, vf w[VECS]) {
    vf d, m;
    load_scale_min(b, part, &d, &m);
    struct levels levels = levels_make(d, m);
    const uint8_t *q = b + 16 + part / 2 * 32;
    for (int i = 0; i < VECS; i++)
        w[i] = levels_at(levels, vi_shr(vi_u8(q + i * LANES), part & 1 ? 4 : 0));
}

INLINE void unpack_q5_k(const uint8_t *b, uint32_t part, vf w[VECS]) {
    vf d, m;
    load_scale_min(b, part, &d, &m);
    const uint8_t *q = b + 48 + part / 2 * 32;
    for (int i = 0; i < VECS; i++) {
        vi byte = vi_u8(q + i * LANES);
        vi nibble = part & 1 ? vi_shr(byte, 4) : vi_and(byte, vi_set1(15));
        vi bit = vi_and(vi_shr(vi_u8(b + 16 + i * LANES), part), vi_set1(1));
        w[i] = vf_fma(vf_from_vi(vi_or(nibble, vi_shl(bit, 4))), d, m);
    }
}

INLINE void unpack_q6_k(const uint8_t *b, uint32_t part, vf w[VECS]) {
    uint32_t half = part / 4, quarter = part % 4;
    const uint8_t *low = b + 64 * half + 32 * (quarter & 1), *high = b + 128 + 32 * half;
    const int8_t *scales = (const int8_t *)b + 192 + 2 * part;
    for (int i = 0; i < VECS; i++) {
        int scale = scales[i * LANES / 16];
        vf ds = vf_mul(vf_f16_set1(b + 208), vf_set1((float)scale));
        vi byte = vi_u8(low + i * LANES);
        vi nibble = quarter & 2 ? vi_shr(byte, 4) : vi_and(byte, vi_set1(15));
        vi pair = vi_and(vi_shr(vi_u8(high + i * LANES), 2 * quarter), vi_set1(3));
        vi q = vi_or(nibble, vi_shl(pair, 4));
        w[i] = vf_fma(vf_from_vi(q), ds, vf_mul(vf_set1(-32), ds));
    }
}

#endif
