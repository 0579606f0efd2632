/* The vector that the kernels in *_vec.h are written in, as AVX-512. */
#ifndef ENGINE_CPU_VEC_AVX512_H
#define ENGINE_CPU_VEC_AVX512_H

#include <immintrin.h>
#include <stdint.h>

enum { LANES = 16 };
#define TILE_TOKENS 6 /* with 4 rows: 24 of 32 registers hold sums */
#define FEW_TOKENS  4 /* fewer, beside the registers that unpacking takes */
#define FEW_HEADS   4 /* with 4 vectors of V each: 16 of 32 registers hold sums */

typedef __m512 vf;
typedef __m512i vi;

static inline vf vf_set1(float v) {
    return _mm512_set1_ps(v);
}
static inline vf vf_load(const float *p) {
    return _mm512_loadu_ps(p);
}
static inline void vf_store(float *p, vf v) {
    _mm512_storeu_ps(p, v);
}
static inline vf vf_add(vf a, vf b) {
    return _mm512_add_ps(a, b);
}
static inline vf vf_sub(vf a, vf b) {
    return _mm512_sub_ps(a, b);
}
static inline vf vf_mul(vf a, vf b) {
    return _mm512_mul_ps(a, b);
}
static inline vf vf_div(vf a, vf b) {
    return _mm512_div_ps(a, b);
}
static inline vf vf_max(vf a, vf b) {
    return _mm512_max_ps(a, b);
}
static inline vf vf_min(vf a, vf b) {
    return _mm512_min_ps(a, b);
}
/* a * b + c, rounded once */
static inline vf vf_fma(vf a, vf b, vf c) {
    return _mm512_fmadd_ps(a, b, c);
}
static inline float vf_sum(vf v) {
    return _mm512_reduce_add_ps(v);
}
/* Lane i of the result is the sum of v[i], in an order that is the same for every i. */
static inline vf vf_sums(const vf v[LANES]) {
    vf pairs[8], fours[4], halves[2];
    for (int i = 0; i < 8; i++)
        pairs[i] = _mm512_add_ps(_mm512_unpacklo_ps(v[2 * i], v[2 * i + 1]),
                                 _mm512_unpackhi_ps(v[2 * i], v[2 * i + 1]));
    for (int i = 0; i < 4; i++) {
        __m512d a = _mm512_castps_pd(pairs[2 * i]), b = _mm512_castps_pd(pairs[2 * i + 1]);
        fours[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)),
                                 _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
    }
    for (int i = 0; i < 2; i++)
        halves[i] = _mm512_add_ps(_mm512_shuffle_f32x4(fours[2 * i], fours[2 * i + 1], 0x88),
                                  _mm512_shuffle_f32x4(fours[2 * i], fours[2 * i + 1], 0xdd));
    return _mm512_add_ps(_mm512_shuffle_f32x4(halves[0], halves[1], 0x88),
                         _mm512_shuffle_f32x4(halves[0], halves[1], 0xdd));
}
static inline float vf_top(vf v) {
    return _mm512_reduce_max_ps(v);
}
static inline vf vf_round(vf v) {
    return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* v * 2^n for integral n */
static inline vf vf_scale(vf v, vf n) {
    return _mm512_scalef_ps(v, n);
}
static inline vf vf_from_vi(vi v) {
    return _mm512_cvtepi32_ps(v);
}
/* LANES 16-bit floats at p */
static inline vf vf_f16(const void *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}
static inline vf vf_bf16(const void *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}

static inline vi vi_set1(int32_t v) {
    return _mm512_set1_epi32(v);
}
/* LANES bytes at p */
static inline vi vi_u8(const uint8_t *p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
}
static inline vi vi_i8(const uint8_t *p) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p));
}
static inline vi vi_and(vi a, vi b) {
    return _mm512_and_si512(a, b);
}
static inline vi vi_or(vi a, vi b) {
    return _mm512_or_si512(a, b);
}
static inline vi vi_shl(vi v, unsigned n) {
    return _mm512_slli_epi32(v, n);
}
static inline vi vi_shr(vi v, unsigned n) {
    return _mm512_srli_epi32(v, n);
}
/* The F16 at p in all lanes. */
static inline vf vf_f16_set1(const void *p) {
    int16_t bits;
    __builtin_memcpy(&bits, p, sizeof(bits));
    return _mm512_cvtph_ps(_mm256_set1_epi16(bits));
}

/* The sixteen values d*q + m, rounded once, of a nibble q: a register that nibbles index. */
struct levels {
    vf table;
};
static inline struct levels levels_make(vf d, vf m) {
    const vf q = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return (struct levels){_mm512_fmadd_ps(d, q, m)};
}
/* d*(q - 8) */
static inline struct levels levels_centred(vf d) {
    const vf q = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    return (struct levels){_mm512_mul_ps(d, q)};
}
/* The level of the lowest four bits of each lane. */
static inline vf levels_at(struct levels l, vi q) {
    return _mm512_permutexvar_ps(q, l.table);
}

/* lane i of the result is bit first + i of bits */
static inline vi vi_bits(uint32_t bits, int first) {
    const vi lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    vi at = _mm512_add_epi32(lane, vi_set1(first));
    return vi_and(_mm512_srlv_epi32(vi_set1((int32_t)bits), at), vi_set1(1));
}

#endif
