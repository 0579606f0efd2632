/* Products of packed weights by `vpdpbusd` (AVX-512 VNNI).
 *   out[t, r] = sum_c x[t, c] * w[r, c], x as codes (packed.h)
 * Cost       few tokens: the bytes of w, read once, in one stream per strip. Many: 2*T*R*C integer
 *            operations a plane; a register of weights is used for TOKENS x planes products before
 *            the next is taken apart, the strips stay in L2.
 * Reference  packed.c: packed_matmul_ref(), the same bits.
 *
 * In a tile's turn, TOKENS x STRIPS integer sums and as many float sums are in registers. Every
 * 32 columns (16 of Q6_K) the integers are converted, scaled and added: two multiplications and a
 * conversion after eight dot products, so at most 80 % of their peak is left (67 % for Q6_K). */
#include "engine/cpu/packed_avx512.h"

#include <immintrin.h>

/* Few tokens: one strip at a time, since two streams side by side hide from the hardware that each
 * is one piece of memory, and that halves what a core reads. Many: two, for half as many loads. */
enum { STRIPS = 2, TOKENS = 8, MANY_TOKENS = 5 /* of two strips */, MANY_FROM = 16 };

#define INLINE static inline __attribute__((always_inline))

/* ---- taking tiles apart ---- */

INLINE __m512i load_codes(struct packed_form f, const uint8_t *tile, uint32_t quad) {
    const __m512i low = _mm512_set1_epi8(15);
    if (f.bits == 8)
        return _mm512_loadu_si512(tile + 64 * quad);
    __m512i v = _mm512_loadu_si512(tile + 64 * (quad % 4));
    v = _mm512_and_si512(quad < 4 ? v : _mm512_srli_epi16(v, 4), low);
    if (f.bits == 5) {
        uint64_t fifth;
        memcpy(&fifth, tile + 256 + 8 * quad, sizeof(fifth));
        v = _mm512_mask_add_epi8(v, fifth, v, _mm512_set1_epi8(16));
    }
    if (f.bits == 6) {
        __m512i upper = _mm512_loadu_si512(tile + 256 + 64 * (quad / 4));
        upper = _mm512_and_si512(_mm512_srli_epi16(upper, 2 * (quad % 4)), _mm512_set1_epi8(3));
        v = _mm512_or_si512(v, _mm512_slli_epi16(upper, 4));
    }
    return v;
}

INLINE __m512 load_f16(const uint8_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

INLINE __m512 load_u8(const uint8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

INLINE __m512 load_i8(const uint8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

struct tile_scales {
    __m512 d[2], m; /* d of each half where they differ */
};

INLINE struct tile_scales load_scales(struct packed_form f, const uint8_t *head,
                                      const uint8_t *tile) {
    const uint8_t *s = tile + f.code_bytes;
    struct tile_scales out = {0};
    switch (f.scales) {
    case PACKED_D:
        out.d[0] = load_f16(s);
        break;
    case PACKED_D_M:
        out.d[0] = load_f16(s);
        out.m = load_f16(s + 32);
        break;
    case PACKED_SUPER:
        out.d[0] = _mm512_mul_ps(load_f16(head), load_i8(s));
        out.d[1] = _mm512_mul_ps(load_f16(head), load_i8(s + 16));
        break;
    case PACKED_SUPER_DM:
        out.d[0] = _mm512_mul_ps(load_f16(head), load_u8(s));
        out.m =
            _mm512_sub_ps(_mm512_setzero_ps(), _mm512_mul_ps(load_f16(head + 32), load_u8(s + 16)));
        break;
    }
    return out;
}

/* ---- sums ---- */

/* All that a tile's turn needs to know; the numbers are constants once inlined. */
struct turn {
    struct packed_form form;
    const struct packed_activations *x;
    size_t group, groups_per_row; /* of the first token */
    uint32_t num_strips, num_tokens, planes;
};

/* Adds quads first..first+len-1 of one plane to the integer sums. */
INLINE void add_quads(const struct turn *n, const uint8_t *const tile[STRIPS], uint32_t plane,
                      uint32_t first, uint32_t len, __m512i sum[TOKENS][STRIPS]) {
    const int8_t *x = n->x->codes[plane] + n->group * PACKED_GROUP;
    size_t stride = n->groups_per_row * PACKED_GROUP;
    for (uint32_t q = first; q < first + len; q++) {
        __m512i w[STRIPS];
        for (uint32_t s = 0; s < n->num_strips; s++)
            w[s] = load_codes(n->form, tile[s], q);
        for (uint32_t t = 0; t < n->num_tokens; t++) {
            int32_t four;
            memcpy(&four, x + t * stride + 4 * (size_t)q, sizeof(four));
            __m512i value = _mm512_set1_epi32(four);
            for (uint32_t s = 0; s < n->num_strips; s++)
                sum[t][s] = _mm512_dpbusd_epi32(sum[t][s], w[s], value);
        }
    }
}

/* What the sum starts from: the codes' zero is taken off here. */
INLINE __m512i start_of(const struct turn *n, uint32_t token, uint32_t half, bool whole) {
    const int32_t *negative = n->x->negative_sums + 2 * (n->group + token * n->groups_per_row);
    if (!n->form.zero_shift)
        return _mm512_setzero_si512();
    int32_t sum = whole ? negative[0] + negative[1] : negative[half];
    return _mm512_slli_epi32(_mm512_set1_epi32(sum), n->form.zero_shift);
}

INLINE void add_half(const struct turn *n, const uint8_t *const tile[STRIPS], uint32_t half,
                     bool whole, const struct tile_scales scales[STRIPS],
                     __m512 acc[TOKENS][STRIPS]) {
    __m512i sum[TOKENS][STRIPS];
    uint32_t first = whole ? 0 : half * PACKED_QUADS / 2;
    uint32_t len = whole ? PACKED_QUADS : PACKED_QUADS / 2;
    for (uint32_t t = 0; t < n->num_tokens; t++)
        for (uint32_t s = 0; s < n->num_strips; s++)
            sum[t][s] = n->planes == 2 ? _mm512_setzero_si512() : start_of(n, t, half, whole);
    add_quads(n, tile, 0, first, len, sum);
    if (n->planes == 2) {
        for (uint32_t t = 0; t < n->num_tokens; t++)
            for (uint32_t s = 0; s < n->num_strips; s++)
                sum[t][s] =
                    _mm512_add_epi32(_mm512_slli_epi32(sum[t][s], 8), start_of(n, t, half, whole));
        add_quads(n, tile, 1, first, len, sum);
    }
    for (uint32_t t = 0; t < n->num_tokens; t++) {
        __m512 scale = _mm512_set1_ps(n->x->scales[n->group + t * n->groups_per_row]);
        for (uint32_t s = 0; s < n->num_strips; s++)
            acc[t][s] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[t][s]),
                                        _mm512_mul_ps(scales[s].d[half], scale), acc[t][s]);
    }
}

INLINE void add_tile(const struct turn *n, const uint8_t *const head[STRIPS],
                     const uint8_t *const tile[STRIPS], __m512 acc[TOKENS][STRIPS]) {
    struct tile_scales scales[STRIPS];
    for (uint32_t s = 0; s < n->num_strips; s++)
        scales[s] = load_scales(n->form, head[s], tile[s]);
    if (n->form.scales == PACKED_SUPER) {
        add_half(n, tile, 0, false, scales, acc);
        add_half(n, tile, 1, false, scales, acc);
    } else {
        add_half(n, tile, 0, true, scales, acc);
    }
    if (n->form.scales != PACKED_D_M && n->form.scales != PACKED_SUPER_DM)
        return;
    for (uint32_t t = 0; t < n->num_tokens; t++) {
        __m512 offset = _mm512_set1_ps(n->x->offsets[n->group + t * n->groups_per_row]);
        for (uint32_t s = 0; s < n->num_strips; s++)
            acc[t][s] = _mm512_fmadd_ps(scales[s].m, offset, acc[t][s]);
    }
}

INLINE void put_rows(const struct matmul *mm, uint32_t token, uint32_t row, __m512 sum) {
    float *out = mm->out + token * mm->out_stride + row;
    uint32_t left = mm->w->rows - row;
    __mmask16 some = left >= PACKED_ROWS ? 0xffff : (__mmask16)((1u << left) - 1);
    if (mm->add)
        sum = _mm512_add_ps(_mm512_maskz_loadu_ps(some, out), sum);
    _mm512_mask_storeu_ps(out, some, sum);
}

/* num_strips x num_tokens: the rows of those strips for those tokens. */
INLINE void strips_tokens(const struct matmul *mm, struct packed_form f, uint32_t planes,
                          uint32_t strip, uint32_t num_strips, uint32_t token,
                          uint32_t num_tokens) {
    size_t block_bytes = f.head_bytes + (size_t)f.tiles * f.tile_bytes;
    uint32_t num_blocks = mm->w->cols / (f.tiles * PACKED_GROUP);
    const uint8_t *block[STRIPS];
    __m512 acc[TOKENS][STRIPS];
    struct turn n = {
        .form = f,
        .x = mm->rounded,
        .groups_per_row = mm->w->cols / PACKED_GROUP,
        .num_strips = num_strips,
        .num_tokens = num_tokens,
        .planes = planes,
    };
    n.group = token * n.groups_per_row;
    for (uint32_t s = 0; s < num_strips; s++) {
        block[s] = mm->w->packed + (strip + s) * num_blocks * block_bytes;
        for (uint32_t t = 0; t < num_tokens; t++)
            acc[t][s] = _mm512_setzero_ps();
    }
    for (uint32_t i = 0; i < num_blocks; i++) {
#pragma GCC unroll 1 /* a tile is long enough */
        for (uint32_t j = 0; j < f.tiles; j++, n.group++) {
            const uint8_t *tile[STRIPS];
            for (uint32_t s = 0; s < num_strips; s++)
                tile[s] = block[s] + f.head_bytes + (size_t)j * f.tile_bytes;
            add_tile(&n, block, tile, acc);
        }
        for (uint32_t s = 0; s < num_strips; s++)
            block[s] += block_bytes;
    }
    for (uint32_t t = 0; t < num_tokens; t++)
        for (uint32_t s = 0; s < num_strips; s++)
            put_rows(mm, token + t, (strip + s) * PACKED_ROWS, acc[t][s]);
}

/* All tokens in groups of 8, 4, 2 and 1, each its own code. */
INLINE void strip_all_tokens(const struct matmul *mm, struct packed_form f, uint32_t planes,
                             uint32_t strip, uint32_t token) {
    _Static_assert(TOKENS == 8, "a group is missing");
    for (; token + 8 <= mm->num_tokens; token += 8)
        strips_tokens(mm, f, planes, strip, 1, token, 8);
    for (; token + 4 <= mm->num_tokens; token += 4)
        strips_tokens(mm, f, planes, strip, 1, token, 4);
    for (; token + 2 <= mm->num_tokens; token += 2)
        strips_tokens(mm, f, planes, strip, 1, token, 2);
    for (; token < mm->num_tokens; token++)
        strips_tokens(mm, f, planes, strip, 1, token, 1);
}

INLINE void matmul_of(const struct matmul *mm, struct packed_form f, uint32_t planes, uint32_t row,
                      uint32_t num_rows) {
    uint32_t strip = row / PACKED_ROWS, end = (row + num_rows + PACKED_ROWS - 1) / PACKED_ROWS;
    uint32_t token;
    for (; mm->num_tokens >= MANY_FROM && strip + STRIPS <= end; strip += STRIPS) {
        for (token = 0; token + MANY_TOKENS <= mm->num_tokens; token += MANY_TOKENS)
            strips_tokens(mm, f, planes, strip, STRIPS, token, MANY_TOKENS);
        for (uint32_t s = 0; s < STRIPS; s++)
            strip_all_tokens(mm, f, planes, strip + s, token);
    }
    for (; strip < end; strip++)
        strip_all_tokens(mm, f, planes, strip, 0);
}

#define MATMUL(name, type)                                                                         \
    static void matmul_##name(const struct matmul *mm, uint32_t row, uint32_t num_rows) {          \
        if (mm->rounded->planes == 1)                                                              \
            matmul_of(mm, packed_form(type), 1, row, num_rows);                                    \
        else                                                                                       \
            matmul_of(mm, packed_form(type), 2, row, num_rows);                                    \
    }

MATMUL(q8_0, DTYPE_Q8_0)
MATMUL(q4_0, DTYPE_Q4_0)
MATMUL(q4_1, DTYPE_Q4_1)
MATMUL(q5_0, DTYPE_Q5_0)
MATMUL(q5_1, DTYPE_Q5_1)
MATMUL(q4_k, DTYPE_Q4_K)
MATMUL(q5_k, DTYPE_Q5_K)
MATMUL(q6_k, DTYPE_Q6_K)

void packed_matmul_avx512(const struct matmul *mm, uint32_t row, uint32_t num_rows) {
    static void (*const by_type[DTYPE_COUNT])(const struct matmul *mm, uint32_t row,
                                              uint32_t num_rows) = {
        [DTYPE_Q8_0] = matmul_q8_0, [DTYPE_Q4_0] = matmul_q4_0, [DTYPE_Q4_1] = matmul_q4_1,
        [DTYPE_Q5_0] = matmul_q5_0, [DTYPE_Q5_1] = matmul_q5_1, [DTYPE_Q4_K] = matmul_q4_k,
        [DTYPE_Q5_K] = matmul_q5_k, [DTYPE_Q6_K] = matmul_q6_k,
    };
    by_type[mm->w->type](mm, row, num_rows);
}

/* ---- activations ---- */

INLINE void round_half(const struct packed_activations *a, size_t at, __m512 x, __m512 factor,
                       int32_t *ret_sum) {
    __m512i code = _mm512_cvtps_epi32(_mm512_mul_ps(x, factor));
    __m512i upper = a->planes == 1
                        ? code
                        : _mm512_srai_epi32(_mm512_add_epi32(code, _mm512_set1_epi32(128)), 8);
    _mm_storeu_si128((__m128i *)(a->codes[0] + at), _mm512_cvtepi32_epi8(upper));
    if (a->planes == 2)
        _mm_storeu_si128((__m128i *)(a->codes[1] + at),
                         _mm512_cvtepi32_epi8(_mm512_sub_epi32(code, _mm512_slli_epi32(upper, 8))));
    *ret_sum = _mm512_reduce_add_epi32(code);
}

void packed_round_row_avx512(const struct packed_activations *a, uint32_t token, const float *x) {
    enum { NOT_FINITE = 0x99 }; /* NaN, -Inf, +Inf */
    uint32_t num_groups = a->cols / PACKED_GROUP;
    float levels = a->planes == 1 ? 127 : 127 * 256;
    for (uint32_t i = 0; i < num_groups; i++) {
        size_t group = (size_t)token * num_groups + i, at = group * PACKED_GROUP;
        __m512 x0 = _mm512_loadu_ps(x + (size_t)i * PACKED_GROUP);
        __m512 x1 = _mm512_loadu_ps(x + (size_t)i * PACKED_GROUP + PACKED_HALF);
        bool finite =
            !(_mm512_fpclass_ps_mask(x0, NOT_FINITE) | _mm512_fpclass_ps_mask(x1, NOT_FINITE));
        float top = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(x0), _mm512_abs_ps(x1)));
        if (!finite)
            x0 = x1 = _mm512_setzero_ps();
        __m512 factor = _mm512_set1_ps(finite && top > 0 ? levels / top : 0);
        int32_t sum0, sum1;
        round_half(a, at, x0, factor, &sum0);
        round_half(a, at + PACKED_HALF, x1, factor, &sum1);
        a->scales[group] = finite ? top / levels : __builtin_nanf("");
        a->offsets[group] = a->scales[group] * (float)(sum0 + sum1);
        a->negative_sums[2 * group] = -sum0;
        a->negative_sums[2 * group + 1] = -sum1;
    }
}
