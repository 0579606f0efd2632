/* What works on rows of activations, in vectors: RMSNorm, SwiGLU's gate, attention. Included behind
 * a vec_*.h. References: norm.c, silu.c, attention.c. */
#ifndef ENGINE_CPU_ROWS_VEC_H
#define ENGINE_CPU_ROWS_VEC_H

#include <math.h>

#include "engine/cpu/kernels.h"

/* ---- RMSNorm ---- */

static void rms_norm_vec(const float *x, const float *w, float eps, uint32_t len, float *out) {
    vf sums = vf_set1(0);
    uint32_t i = 0;
    for (; i + LANES <= len; i += LANES)
        sums = vf_fma(vf_load(x + i), vf_load(x + i), sums);
    float sum = vf_sum(sums);
    for (; i < len; i++)
        sum += x[i] * x[i];
    float scale = 1.0f / sqrtf(sum / (float)len + eps);
    for (i = 0; i + LANES <= len; i += LANES)
        vf_store(out + i, vf_mul(vf_mul(vf_load(x + i), vf_set1(scale)), vf_load(w + i)));
    for (; i < len; i++)
        out[i] = x[i] * scale * w[i];
}

/* ---- exponential and SwiGLU ---- */

/* exp(x) within 2 units of the last place: x = n ln 2 + r with |r| <= ln(2)/2, then the series of r
 * to the seventh power. Below -87 the result would be subnormal and is exp(-87). */
static inline vf vf_exp(vf x) {
    x = vf_max(vf_min(x, vf_set1(88.0f)), vf_set1(-87.0f));
    vf n = vf_round(vf_mul(x, vf_set1(0x1.715476p+0f)));
    vf r = vf_fma(n, vf_set1(-0x1.62e400p-1f), x); /* ln 2 in two parts, the first exact times n */
    r = vf_fma(n, vf_set1(-0x1.7f7d1cp-20f), r);
    vf p = vf_set1(1.0f / 5040);
    p = vf_fma(p, r, vf_set1(1.0f / 720));
    p = vf_fma(p, r, vf_set1(1.0f / 120));
    p = vf_fma(p, r, vf_set1(1.0f / 24));
    p = vf_fma(p, r, vf_set1(1.0f / 6));
    p = vf_fma(p, r, vf_set1(0.5f));
    p = vf_fma(p, r, vf_set1(1.0f));
    p = vf_fma(p, r, vf_set1(1.0f));
    return vf_scale(p, n);
}

static void silu_mul_vec(float *gate, const float *up, uint32_t len) {
    for (uint32_t i = 0; i < len; i += LANES) { /* the padding is zero and stays so */
        vf g = vf_load(gate + i);
        vf below = vf_add(vf_set1(1), vf_exp(vf_sub(vf_set1(0), g)));
        vf_store(gate + i, vf_mul(vf_div(g, below), vf_load(up + i)));
    }
}

/* ---- attention ---- */

enum {
    OUT_VECS = 4,     /* registers that gather the weighted sum of one head */
    GATHER_HEADS = 4, /* the most that FEW_HEADS can be */
};

/* What one call works on: a row, and the query heads that share a KV head. */
struct attend {
    const struct attention *a;
    const uint32_t *blocks;
    uint32_t kv_head, group;
    uint32_t first, count; /* the positions it sees */
    int block_shift;       /* log2(block_size) */
    size_t padded;         /* Dp */
    float *q;              /* [group, Dp] */
    float *p;              /* [group, p_stride] scores, then weights */
    size_t p_stride;
};

/* K or V of one position. */
static inline const float *cached(const struct attend *at, const float *cache, uint32_t position) {
    uint32_t block = position >> at->block_shift, within = position & (at->a->block_size - 1);
    size_t head = (size_t)at->blocks[block] * at->a->num_kv_heads + at->kv_head;
    return cache + ((head << at->block_shift) + within) * at->padded;
}

/* As many positions at a time as a vector has lanes: each has a register that gathers its products,
 * and these are summed crosswise, which costs a third of as many sums of single registers. K of
 * those positions stays in the first cache while all heads of the group read it. */
static void score(const struct attend *at) {
    for (uint32_t j = 0; j < at->count; j += LANES) {
        const float *k[LANES];
        for (uint32_t i = 0; i < LANES; i++) {
            uint32_t position = j + i < at->count ? j + i : at->count - 1;
            k[i] = cached(at, at->a->k_cache, at->first + position);
        }
        for (uint32_t h = 0; h < at->group; h++) {
            const float *q = at->q + h * at->padded;
            vf sums[LANES];
            for (int i = 0; i < LANES; i++)
                sums[i] = vf_set1(0);
            for (size_t d = 0; d < at->padded; d += LANES) {
                vf part = vf_load(q + d);
#pragma GCC unroll 16
                for (int i = 0; i < LANES; i++)
                    sums[i] = vf_fma(part, vf_load(k[i] + d), sums[i]);
            }
            vf scores = vf_mul(vf_sums(sums), vf_set1(at->a->scale));
            vf_store(at->p + h * at->p_stride + j, scores);
        }
    }
}

/* Scores to weights that are still to be divided by their sum, which is returned. */
static float soften(float *p, uint32_t count) {
    uint32_t padded = (count + LANES - 1) / LANES * LANES;
    vf tops = vf_set1(-INFINITY), sums = vf_set1(0);
    for (uint32_t j = count; j < padded; j++)
        p[j] = -INFINITY;
    for (uint32_t j = 0; j < padded; j += LANES)
        tops = vf_max(tops, vf_load(p + j));
    vf top = vf_set1(vf_top(tops));
    for (uint32_t j = 0; j < padded; j += LANES)
        vf_store(p + j, vf_exp(vf_sub(vf_load(p + j), top)));
    for (uint32_t j = count; j < padded; j++)
        p[j] = 0;
    for (uint32_t j = 0; j < padded; j += LANES)
        sums = vf_add(sums, vf_load(p + j));
    return vf_sum(sums);
}

/* out[h][d .. d + num_vecs*LANES) = sum_j p[h][j] * v[j] / sums[h], for heads that read V together;
 * num_heads and num_vecs are constants once inlined. */
static inline __attribute__((always_inline)) void gather(const struct attend *at, const float *p,
                                                         const float *sums, size_t d, int num_heads,
                                                         int num_vecs, float *out) {
    vf acc[GATHER_HEADS][OUT_VECS];
    for (int h = 0; h < num_heads; h++)
        for (int i = 0; i < num_vecs; i++)
            acc[h][i] = vf_set1(0);
    for (uint32_t j = 0; j < at->count; j++) {
        const float *v = cached(at, at->a->v_cache, at->first + j) + d;
        vf parts[OUT_VECS];
        for (int i = 0; i < num_vecs; i++)
            parts[i] = vf_load(v + i * LANES);
        for (int h = 0; h < num_heads; h++) {
            vf weight = vf_set1(p[(size_t)h * at->p_stride + j]);
            for (int i = 0; i < num_vecs; i++)
                acc[h][i] = vf_fma(weight, parts[i], acc[h][i]);
        }
    }
    for (int h = 0; h < num_heads; h++)
        for (int i = 0; i < num_vecs; i++)
            vf_store(out + (size_t)h * at->padded + d + i * LANES,
                     vf_div(acc[h][i], vf_set1(sums[h])));
}

static inline __attribute__((always_inline)) void gather_heads(const struct attend *at,
                                                               const float *p, const float *sums,
                                                               int num_heads, float *out) {
    size_t d = 0;
    for (; d + OUT_VECS * LANES <= at->padded; d += OUT_VECS * LANES)
        gather(at, p, sums, d, num_heads, OUT_VECS, out);
    for (; d < at->padded; d += LANES)
        gather(at, p, sums, d, num_heads, 1, out);
}

/* Turns scores into weights and gathers V by them, for num <= FEW_HEADS heads. */
static void gather_some(const struct attend *at, float *p, uint32_t num, float *out) {
    float sums[GATHER_HEADS];
    for (uint32_t h = 0; h < num; h++)
        sums[h] = soften(p + h * at->p_stride, at->count);
    switch (num) {
    case 1:
        gather_heads(at, p, sums, 1, out);
        break;
    case 2:
        gather_heads(at, p, sums, 2, out);
        break;
    case 3:
        gather_heads(at, p, sums, 3, out);
        break;
    default:
        gather_heads(at, p, sums, 4, out);
        break;
    }
}

static void attention_vec(const struct attention *a, uint32_t row, uint32_t kv_head,
                          float *scratch) {
    uint32_t position = (uint32_t)a->positions[row], group = a->num_heads / a->num_kv_heads;
    uint32_t first = a->window && position >= a->window ? position - a->window + 1 : 0;
    struct attend at = {
        .a = a,
        .blocks = a->block_table + (size_t)a->row_seq[row] * a->block_table_stride,
        .kv_head = kv_head,
        .group = group,
        .first = first,
        .count = position + 1 - first,
        .block_shift = __builtin_ctz(a->block_size),
        .padded = kernels_padded(a->head_dim),
    };
    at.q = scratch;
    float *out = at.q + group * at.padded;
    at.p = out + group * at.padded;
    at.p_stride = kernels_padded(at.count);
    size_t start = row * a->q_stride + (size_t)kv_head * group * a->head_dim;
    memset(at.q, 0, group * at.padded * sizeof(float));
    for (uint32_t h = 0; h < group; h++)
        memcpy(at.q + h * at.padded, a->q + start + (size_t)h * a->head_dim,
               a->head_dim * sizeof(float));
    score(&at);
    for (uint32_t h = 0, num; h < group; h += num) {
        num = group - h < FEW_HEADS ? group - h : FEW_HEADS;
        gather_some(&at, at.p + h * at.p_stride, num, out + h * at.padded);
    }
    for (uint32_t h = 0; h < group; h++)
        memcpy(a->out + start + (size_t)h * a->head_dim, out + h * at.padded,
               a->head_dim * sizeof(float));
}

#endif
