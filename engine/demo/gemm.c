/* Matrix product in bf16.
 *
 * VDPBF16PS multiplies sixteen pairs of bf16 numbers and adds both products of a pair to an fp32
 * sum: twice the work of an fp32 multiply-add. Both operands must therefore hold *pairs along k*:
 *   a: one u32 per (row, pair), broadcast. A plain matrix is already so when converted row by row;
 * a transposed one is paired up from two rows. Two strides describe either layout. b: panels of 32
 * columns, [n / 32][pairs][32] u32, so that the kernel reads two registers in a row. The kernel
 * keeps a tile of 12 x 32 sums in 24 registers over the whole of k. The operands of one micro-batch
 * fit the second-level cache as a whole, so there is no further blocking.
 *
 * bf16 has 8 bits of mantissa; sums, weights, and everything between the products stay fp32. */
#include "engine/demo/gemm.h"

#include <cblas.h>

#if !defined(__AVX512BF16__) || defined(GEMM_FP32)

void gemm(const struct gemm *g, const float *a, const float *b, float *c) {
    cblas_sgemm(CblasRowMajor, g->transpose_a ? CblasTrans : CblasNoTrans,
                g->transpose_b ? CblasTrans : CblasNoTrans, g->m, g->n, g->k, 1, a,
                g->transpose_a ? g->m : g->k, b, g->transpose_b ? g->k : g->n, g->keep, c, g->n);
}

#else

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

enum { TILE_ROWS = 12, TILE_COLUMNS = 32 };

/* Scratch of one thread; grows, is never freed: this is a tool. */
struct scratch {
    uint32_t *data;
    size_t size;
};

static uint32_t *scratch_of(struct scratch *s, size_t size) {
    if (size > s->size) {
        free(s->data);
        s->data = aligned_alloc(64, (size * 4 + 4095) / 4096 * 4096);
        if (!s->data)
            abort();
        s->size = size;
    }
    return s->data;
}

static __m512i widen(__m512 x) {
    return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x));
}

static uint32_t pair_of(float low, float high) {
    __m128i both = (__m128i)_mm_cvtneps_pbh(_mm_set_ps(0, 0, high, low));
    return (uint32_t)_mm_cvtsi128_si32(both);
}

/* Sixteen pairs from two rows, `high` may be NULL (an odd k ends on half a pair); up to 16 columns.
 */
static __m512i pair_rows(const float *low, const float *high, __mmask16 columns) {
    __m512i l = widen(_mm512_maskz_loadu_ps(columns, low));

    if (!high)
        return l;
    return _mm512_or_si512(l, _mm512_slli_epi32(widen(_mm512_maskz_loadu_ps(columns, high)), 16));
}

static __mmask16 columns_left(int left) {
    return left >= 16 ? 0xffff : left > 0 ? (__mmask16)((1u << left) - 1) : 0;
}

/* x [rows, k] into [rows, pairs]. */
static void pair_within_rows(const float *x, int rows, int k, uint32_t *out) {
    int pairs = (k + 1) / 2;

    for (int i = 0; i < rows; i++, x += k, out += pairs) {
        int j = 0;
        for (; j + 32 <= k; j += 32)
            _mm512_storeu_si512(
                out + j / 2,
                (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + j + 16), _mm512_loadu_ps(x + j)));
        for (; j < k; j += 2)
            out[j / 2] = pair_of(x[j], j + 1 < k ? x[j + 1] : 0);
    }
}

/* x [k, columns] into [pairs, columns]. */
static void pair_across_rows(const float *x, int k, int columns, uint32_t *out) {
    for (int t = 0; t < k; t += 2, x += 2 * (size_t)columns, out += columns)
        for (int j = 0; j < columns; j += 16) {
            __mmask16 some = columns_left(columns - j);
            _mm512_mask_storeu_epi32(out + j, some,
                                     pair_rows(x + j, t + 1 < k ? x + columns + j : NULL, some));
        }
}

/* b [k, n] into panels; columns past n are zero. */
static void panels_of(const float *b, int k, int n, uint32_t *out) {
    int pairs = (k + 1) / 2;

    for (int t = 0; t < k; t += 2, b += 2 * (size_t)n)
        for (int j = 0; j < n; j += TILE_COLUMNS) {
            uint32_t *to = out + ((size_t)(j / TILE_COLUMNS) * pairs + t / 2) * TILE_COLUMNS;
            for (int half = 0; half < TILE_COLUMNS; half += 16) {
                const float *low = b + j + half, *high = t + 1 < k ? low + n : NULL;
                _mm512_store_si512(to + half, pair_rows(low, high, columns_left(n - j - half)));
            }
        }
}

/* b [n, k] into panels. */
static void panels_of_transposed(const float *b, int k, int n, uint32_t *out) {
    int pairs = (k + 1) / 2;

    for (int j = 0; j < n; j++, b += k) {
        uint32_t *to = out + (size_t)(j / TILE_COLUMNS) * pairs * TILE_COLUMNS + j % TILE_COLUMNS;
        int t = 0;
        for (; t + 32 <= k; t += 32) {
            uint32_t row[16] __attribute__((aligned(64)));
            _mm512_store_si512(row, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(b + t + 16),
                                                                 _mm512_loadu_ps(b + t)));
            for (int i = 0; i < 16; i++)
                to[(size_t)(t / 2 + i) * TILE_COLUMNS] = row[i];
        }
        for (; t < k; t += 2)
            to[(size_t)(t / 2) * TILE_COLUMNS] = pair_of(b[t], t + 1 < k ? b[t + 1] : 0);
    }
    for (int j = n; j % TILE_COLUMNS; j++)
        for (int t = 0; t < pairs; t++)
            out[((size_t)(j / TILE_COLUMNS) * pairs + t) * TILE_COLUMNS + j % TILE_COLUMNS] = 0;
}

/* Rows and pairs of a: element (i, t) is at data[i * row + t * pair]. */
struct paired {
    const uint32_t *data;
    size_t row, pair;
};

static void tile(const struct paired *a, const uint32_t *panel, int pairs, int rows, int columns,
                 float keep, float *c, int n) {
    __m512 sum[TILE_ROWS][2];
    const uint32_t *row[TILE_ROWS];

    for (int i = 0; i < TILE_ROWS;
         i++) { /* rows past the end repeat the last one and are not stored */
        row[i] = a->data + a->row * (i < rows ? i : rows - 1);
        sum[i][0] = sum[i][1] = _mm512_setzero_ps();
    }
    size_t at = 0;
    for (int t = 0; t < pairs; t++, panel += TILE_COLUMNS, at += a->pair) {
        __m512bh b0 = (__m512bh)_mm512_load_si512(panel),
                 b1 = (__m512bh)_mm512_load_si512(panel + 16);
#pragma GCC unroll 12
        for (int i = 0; i < TILE_ROWS; i++) {
            __m512bh x = (__m512bh)_mm512_set1_epi32((int)row[i][at]);
            sum[i][0] = _mm512_dpbf16_ps(sum[i][0], x, b0);
            sum[i][1] = _mm512_dpbf16_ps(sum[i][1], x, b1);
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < TILE_ROWS; i++)
        for (int half = 0; half < 2 && i < rows; half++) {
            __mmask16 some = columns_left(columns - 16 * half);
            float *to = c + (size_t)i * n + 16 * half;
            __m512 out = sum[i][half];
            if (keep != 0)
                out = _mm512_fmadd_ps(_mm512_set1_ps(keep), _mm512_maskz_loadu_ps(some, to), out);
            _mm512_mask_storeu_ps(to, some, out);
        }
}

void gemm(const struct gemm *g, const float *a, const float *b, float *c) {
    static _Thread_local struct scratch for_a, for_b;
    int pairs = (g->k + 1) / 2, panels = (g->n + TILE_COLUMNS - 1) / TILE_COLUMNS;
    uint32_t *pa = scratch_of(&for_a, (size_t)g->m * pairs);
    uint32_t *pb = scratch_of(&for_b, (size_t)panels * pairs * TILE_COLUMNS);
    struct paired all = {pa, g->transpose_a ? 1 : pairs, g->transpose_a ? g->m : 1};

    if (g->transpose_a)
        pair_across_rows(a, g->k, g->m, pa);
    else
        pair_within_rows(a, g->m, g->k, pa);
    if (g->transpose_b)
        panels_of_transposed(b, g->k, g->n, pb);
    else
        panels_of(b, g->k, g->n, pb);
    for (int p = 0; p < panels; p++)
        for (int i = 0; i < g->m; i += TILE_ROWS) {
            struct paired some = {all.data + all.row * i, all.row, all.pair};
            int column = p * TILE_COLUMNS;
            tile(&some, pb + (size_t)p * pairs * TILE_COLUMNS, pairs,
                 g->m - i < TILE_ROWS ? g->m - i : TILE_ROWS, g->n - column, g->keep,
                 c + (size_t)i * g->n + column, g->n);
        }
}

#endif
