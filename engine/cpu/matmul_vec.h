/* Matrix product family, in vectors. Included behind a vec_*.h.
 *   out[t, r] = sum_c x[t, c] * w[r, c]
 * Cost       few tokens: the bytes of w, read once, unpacked in registers for FEW_TOKENS at a time.
 *            Many: w unpacked once into scratch (L2), then 4 rows x TILE_TOKENS sums in registers;
 *            2*T*R*C flops.
 * Reference  matmul.c: matmul_ref().
 *
 * Order of an element's sum: lane l adds columns l, l + LANES, l + 2*LANES, ... one after the
 * other, the lanes are added at the end. Both ways above keep it, so they give the same bits. */
#ifndef ENGINE_CPU_MATMUL_VEC_H
#define ENGINE_CPU_MATMUL_VEC_H

#include "engine/cpu/kernels.h"
#include "engine/cpu/unpack_vec.h"

enum {
    TILE_ROWS = 4,
    STRIP_TOKENS = 16, /* from here on unpacking once pays for the way through memory */
};

typedef void unpack_fn(const uint8_t *block, uint32_t part, vf w[VECS]);

/* A type's geometry and unpacking: constants once inlined. */
struct packed {
    uint32_t block_len, block_bytes;
    unpack_fn *unpack;
};

INLINE void put(const struct matmul *mm, uint32_t token, uint32_t row, vf sum) {
    float *out = &mm->out[token * mm->out_stride + row];
    *out = mm->add ? *out + vf_sum(sum) : vf_sum(sum);
}

/* The columns behind the last whole chunk, of the plain float types, zeros behind their end. */
INLINE void unpack_rest(const struct matrix *w, const uint8_t *block, uint32_t len, vf out[VECS]) {
    float rest[CHUNK] = {0};
    dequant_row(w->type, block, rest, len);
    for (int i = 0; i < VECS; i++)
        out[i] = vf_load(rest + i * LANES);
}

/* ---- few tokens ---- */

/* While a group of rows is multiplied, the next one is fetched. Short rows that are read side by
 * side keep the hardware from seeing that the memory is one piece, so it is asked for as such;
 * that doubles what a core reads. Long rows the hardware follows by itself, and a whole group ahead
 * would not stay in L1: there each row's next neighbour is asked for. */
enum { CACHE_LINE = 64, PREFETCH_PIECE_MAX = 8192 };

INLINE void prefetch(const uint8_t *p, uint32_t len) {
    for (uint32_t at = 0; at < len; at += CACHE_LINE)
        __builtin_prefetch(p + at);
}

/* num_rows x num_tokens sums, the weights unpacked in registers and used at once. Both numbers are
 * constants once inlined. */
INLINE void rows_few(const struct matmul *mm, struct packed p, uint32_t row, uint32_t num_rows,
                     uint32_t token, uint32_t num_tokens) {
    const struct matrix *m = mm->w;
    const float *x = mm->x + token * mm->x_stride;
    const uint8_t *w[TILE_ROWS];
    vf sum[TILE_ROWS][FEW_TOKENS], part[VECS];
    for (uint32_t r = 0; r < num_rows; r++) {
        w[r] = m->data + (row + r) * m->row_bytes;
        for (uint32_t t = 0; t < num_tokens; t++)
            sum[r][t] = vf_set1(0);
    }
    const uint8_t *next = w[0] + num_rows * m->row_bytes;
    bool piece = num_rows * m->row_bytes <= PREFETCH_PIECE_MAX;
    size_t pitch = piece ? p.block_bytes : m->row_bytes;
    uint32_t step = piece ? num_rows * p.block_bytes : p.block_bytes;
    uint32_t c = 0, parts = p.block_len / CHUNK;
    for (; c + p.block_len <= m->cols; c += p.block_len) {
        for (uint32_t j = 0; j < parts; j++) {
            for (uint32_t r = 0; r < num_rows; r++) {
                p.unpack(w[r], j, part);
                for (uint32_t t = 0; t < num_tokens; t++)
                    for (uint32_t i = 0; i < VECS; i++)
                        sum[r][t] = vf_fma(
                            part[i], vf_load(x + t * mm->x_stride + c + j * CHUNK + i * LANES),
                            sum[r][t]);
            }
        }
        for (uint32_t r = 0; r < num_rows; r++) {
            prefetch(next + r * pitch, p.block_bytes);
            w[r] += p.block_bytes;
        }
        next += step;
    }
    for (uint32_t r = 0; r < num_rows; r++) {
        if (c < m->cols)
            unpack_rest(m, w[r], m->cols - c, part);
        for (uint32_t t = 0; t < num_tokens; t++) {
            for (uint32_t i = 0; c + i * LANES < m->cols; i++)
                sum[r][t] =
                    vf_fma(part[i], vf_load(x + t * mm->x_stride + c + i * LANES), sum[r][t]);
            put(mm, token + t, row + r, sum[r][t]);
        }
    }
}

INLINE void rows_few_all(const struct matmul *mm, struct packed p, uint32_t row, uint32_t num_rows,
                         uint32_t token, uint32_t num_tokens) {
    uint32_t r = 0;
    for (; r + TILE_ROWS <= num_rows; r += TILE_ROWS)
        rows_few(mm, p, row + r, TILE_ROWS, token, num_tokens);
    for (; r < num_rows; r++)
        for (uint32_t t = 0; t < num_tokens; t++)
            rows_few(mm, p, row + r, 1, token + t, 1);
}

/* Tokens in groups of FEW_TOKENS; the second group finds the packed rows in L1. */
INLINE void matmul_few(const struct matmul *mm, struct packed p, uint32_t row, uint32_t num_rows) {
    _Static_assert(FEW_TOKENS <= 4, "a case is missing");
    for (uint32_t t = 0; t < mm->num_tokens; t += FEW_TOKENS)
        switch (mm->num_tokens - t) {
        case 1:
            rows_few_all(mm, p, row, num_rows, t, 1);
            break;
#if FEW_TOKENS > 2
        case 2:
            rows_few_all(mm, p, row, num_rows, t, 2);
            break;
        case 3:
            rows_few_all(mm, p, row, num_rows, t, 3);
            break;
#endif
        default:
            rows_few_all(mm, p, row, num_rows, t, FEW_TOKENS);
            break;
        }
}

/* ---- many tokens ---- */

INLINE void unpack_row(const struct matrix *m, struct packed p, uint32_t row, float *out) {
    const uint8_t *w = m->data + row * m->row_bytes;
    vf part[VECS];
    uint32_t c = 0;
    for (; c + p.block_len <= m->cols; c += p.block_len, w += p.block_bytes)
        for (uint32_t j = 0; j < p.block_len / CHUNK; j++) {
            p.unpack(w, j, part);
            for (int i = 0; i < VECS; i++)
                vf_store(out + c + j * CHUNK + (uint32_t)(i * LANES), part[i]);
        }
    if (c < m->cols) {
        unpack_rest(m, w, m->cols - c, part);
        for (uint32_t i = 0; i * LANES < m->cols - c; i++)
            vf_store(out + c + i * LANES, part[i]);
    }
}

/* num_rows x num_tokens sums; both are constants once inlined. */
INLINE void tile(const struct matmul *mm, const float *w, size_t w_stride, uint32_t row,
                 uint32_t num_rows, uint32_t token, uint32_t num_tokens) {
    vf sum[TILE_ROWS][TILE_TOKENS];
    const float *x = mm->x + token * mm->x_stride;
    for (uint32_t r = 0; r < num_rows; r++)
        for (uint32_t t = 0; t < num_tokens; t++)
            sum[r][t] = vf_set1(0);
    for (uint32_t c = 0; c < mm->w->cols; c += LANES) {
        vf part[TILE_ROWS];
        for (uint32_t r = 0; r < num_rows; r++)
            part[r] = vf_load(w + r * w_stride + c);
        for (uint32_t t = 0; t < num_tokens; t++) {
            vf value = vf_load(x + t * mm->x_stride + c);
            for (uint32_t r = 0; r < num_rows; r++)
                sum[r][t] = vf_fma(part[r], value, sum[r][t]);
        }
    }
    for (uint32_t r = 0; r < num_rows; r++)
        for (uint32_t t = 0; t < num_tokens; t++)
            put(mm, token + t, row + r, sum[r][t]);
}

/* TILE_ROWS rows and up to TILE_TOKENS tokens: each number its own code, sums in registers. */
static void tile_tokens(const struct matmul *mm, const float *w, size_t w_stride, uint32_t row,
                        uint32_t token, uint32_t num_tokens) {
    _Static_assert(TILE_TOKENS <= 6, "a case is missing");
    switch (num_tokens) {
    case 1:
        return tile(mm, w, w_stride, row, TILE_ROWS, token, 1);
    case 2:
        return tile(mm, w, w_stride, row, TILE_ROWS, token, 2);
#if TILE_TOKENS > 2
    case 3:
        return tile(mm, w, w_stride, row, TILE_ROWS, token, 3);
    case 4:
        return tile(mm, w, w_stride, row, TILE_ROWS, token, 4);
    case 5:
        return tile(mm, w, w_stride, row, TILE_ROWS, token, 5);
    default:
        return tile(mm, w, w_stride, row, TILE_ROWS, token, 6);
#endif
    }
}

/* The rows in scratch times all tokens. */
static void multiply_strip(const struct matmul *mm, const float *w, size_t w_stride, uint32_t row,
                           uint32_t num_rows) {
    for (uint32_t t = 0; t < mm->num_tokens; t += TILE_TOKENS) {
        uint32_t tokens = mm->num_tokens - t < TILE_TOKENS ? mm->num_tokens - t : TILE_TOKENS;
        uint32_t r = 0;
        for (; r + TILE_ROWS <= num_rows; r += TILE_ROWS)
            tile_tokens(mm, w + r * w_stride, w_stride, row + r, t, tokens);
        for (; r < num_rows; r++)
            for (uint32_t i = 0; i < tokens; i++)
                tile(mm, w + r * w_stride, w_stride, row + r, 1, t + i, 1);
    }
}

/* ---- any number of tokens ---- */

INLINE void matmul_packed(const struct matmul *mm, struct packed p, uint32_t row, uint32_t num_rows,
                          float *scratch) {
    if (mm->num_tokens < STRIP_TOKENS)
        return matmul_few(mm, p, row, num_rows);
    size_t w_stride = kernels_padded(mm->w->cols);
    for (uint32_t r = 0; r < num_rows; r += KERNELS_STRIP) {
        uint32_t strip = num_rows - r < KERNELS_STRIP ? num_rows - r : KERNELS_STRIP;
        for (uint32_t i = 0; i < strip; i++)
            unpack_row(mm->w, p, row + r + i, scratch + i * w_stride);
        multiply_strip(mm, scratch, w_stride, row + r, strip);
    }
}

#define MATMUL(name, len, bytes)                                                                   \
    static void matmul_##name(const struct matmul *mm, uint32_t row, uint32_t num_rows,            \
                              float *scratch) {                                                    \
        matmul_packed(mm, (struct packed){len, bytes, unpack_##name}, row, num_rows, scratch);     \
    }

MATMUL(f32, 32, 128)
MATMUL(f16, 32, 64)
MATMUL(bf16, 32, 64)
MATMUL(q8_0, 32, 34)
MATMUL(q4_0, 32, 18)
MATMUL(q4_1, 32, 20)
MATMUL(q5_0, 32, 22)
MATMUL(q5_1, 32, 24)
MATMUL(q4_k, 256, 144)
MATMUL(q5_k, 256, 176)
MATMUL(q6_k, 256, 210)

static void matmul_vec(const struct matmul *mm, uint32_t row, uint32_t num_rows, float *scratch) {
    static void (*const by_type[DTYPE_COUNT])(const struct matmul *mm, uint32_t row,
                                              uint32_t num_rows, float *scratch) = {
        [DTYPE_F32] = matmul_f32,   [DTYPE_F16] = matmul_f16,   [DTYPE_BF16] = matmul_bf16,
        [DTYPE_Q8_0] = matmul_q8_0, [DTYPE_Q4_0] = matmul_q4_0, [DTYPE_Q4_1] = matmul_q4_1,
        [DTYPE_Q5_0] = matmul_q5_0, [DTYPE_Q5_1] = matmul_q5_1, [DTYPE_Q4_K] = matmul_q4_k,
        [DTYPE_Q5_K] = matmul_q5_k, [DTYPE_Q6_K] = matmul_q6_k,
    };
    by_type[mm->w->type](mm, row, num_rows, scratch);
}

#endif
