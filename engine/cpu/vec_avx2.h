/* The vector that the kernels in *_vec.h are written in, as AVX2 with FMA and F16C. */
#ifndef ENGINE_CPU_VEC_AVX2_H
#define ENGINE_CPU_VEC_AVX2_H

#include <immintrin.h>
#include <stdint.h>

enum { LANES = 8 };
#define TILE_TOKENS 2 /* with 4 rows: 8 of 16 registers hold sums */
#define FEW_TOKENS  2 /* fewer, beside the registers that unpacking takes */
#define FEW_HEADS   2 /* with 4 vectors of V each: 8 of 16 registers hold sums */

typedef __m256 vf;
typedef __m256i vi;

static inline vf vf_set1(float v) {
    return _mm256_set1_ps(v);
}
static inline vf vf_load(const float *p) {
    return _mm256_loadu_ps(p);
}
static inline void vf_store(float *p, vf v) {
    _mm256_storeu_ps(p, v);
}
static inline vf vf_add(vf a, vf b) {
    return _mm256_add_ps(a, b);
}
static inline vf vf_sub(vf a, vf b) {
    return _mm256_sub_ps(a, b);
}
static inline vf vf_mul(vf a, vf b) {
    return _mm256_mul_ps(a, b);
}
static inline vf vf_div(vf a, vf b) {
    return _mm256_div_ps(a, b);
}
static inline vf vf_max(vf a, vf b) {
    return _mm256_max_ps(a, b);
}
static inline vf vf_min(vf a, vf b) {
    return _mm256_min_ps(a, b);
}
/* a * b + c, rounded once */
static inline vf vf_fma(vf a, vf b, vf c) {
    return _mm256_fmadd_ps(a, b, c);
}
static inline float vf_sum(vf v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
/* Lane i of the result is the sum of v[i], in an order that is the same for every i. */
static inline vf vf_sums(const vf v[LANES]) {
    vf pairs[4], fours[2];
    for (int i = 0; i < 4; i++)
        pairs[i] = _mm256_add_ps(_mm256_unpacklo_ps(v[2 * i], v[2 * i + 1]),
                                 _mm256_unpackhi_ps(v[2 * i], v[2 * i + 1]));
    for (int i = 0; i < 2; i++) {
        __m256d a = _mm256_castps_pd(pairs[2 * i]), b = _mm256_castps_pd(pairs[2 * i + 1]);
        fours[i] = _mm256_add_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(a, b)),
                                 _mm256_castpd_ps(_mm256_unpackhi_pd(a, b)));
    }
    return _mm256_add_ps(_mm256_permute2f128_ps(fours[0], fours[1], 0x20),
                         _mm256_permute2f128_ps(fours[0], fours[1], 0x31));
}
static inline float vf_top(vf v) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
static inline vf vf_round(vf v) {
    return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* v * 2^n for integral n from -126 to 127 */
static inline vf vf_scale(vf v, vf n) {
    __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_mul_ps(v, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
}
static inline vf vf_from_vi(vi v) {
    return _mm256_cvtepi32_ps(v);
}
/* LANES 16-bit floats at p */
static inline vf vf_f16(const void *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(p));
}
static inline vf vf_bf16(const void *p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), 16));
}

static inline vi vi_set1(int32_t v) {
    return _mm256_set1_epi32(v);
}
/* LANES bytes at p */
static inline vi vi_u8(const uint8_t *p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
}
static inline vi vi_i8(const uint8_t *p) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p));
}
static inline vi vi_and(vi a, vi b) {
    return _mm256_and_si256(a, b);
}
static inline vi vi_or(vi a, vi b) {
    return _mm256_or_si256(a, b);
}
static inline vi vi_shl(vi v, unsigned n) {
    return _mm256_slli_epi32(v, (int)n);
}
static inline vi vi_shr(vi v, unsigned n) {
    return _mm256_srli_epi32(v, (int)n);
}
/* The F16 at p in all lanes. */
static inline vf vf_f16_set1(const void *p) {
    int16_t bits;
    __builtin_memcpy(&bits, p, sizeof(bits));
    return _mm256_cvtph_ps(_mm_set1_epi16(bits));
}

/* The values d*q + m, rounded once, of a nibble q: sixteen do not fit a register, so computed. */
struct levels {
    vf d, m;
};
static inline struct levels levels_make(vf d, vf m) {
    return (struct levels){d, m};
}
/* d*(q - 8) */
static inline struct levels levels_centred(vf d) {
    return (struct levels){d, vf_mul(vf_set1(-8), d)};
}
/* The level of the lowest four bits of each lane. */
static inline vf levels_at(struct levels l, vi q) {
    return vf_fma(vf_from_vi(vi_and(q, vi_set1(15))), l.d, l.m);
}

/* lane i of the result is bit first + i of bits */
static inline vi vi_bits(uint32_t bits, int first) {
    vi at = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), vi_set1(first));
    return vi_and(_mm256_srlv_epi32(vi_set1((int32_t)bits), at), vi_set1(1));
}

#endif
