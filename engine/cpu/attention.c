/* Causal attention of one row over the paged cache, plain: all scores, softmax, weighted sum.
 *   p[j] = softmax_j(scale * q . k[j]),  out = sum_j p[j] * v[j],  j over the positions it sees
 * Positions are walked in ascending order whatever block they lie in, so neither the blocks' places
 * nor the rest of the batch change the result. */
#include <math.h>

#include "engine/cpu/kernels_ref.h"

/* K or V of one position. */
static const float *cached(const struct attention *a, const float *cache, const uint32_t *blocks,
                           uint32_t position, uint32_t kv_head) {
    uint32_t block = blocks[position / a->block_size];
    size_t slot =
        ((size_t)block * a->num_kv_heads + kv_head) * a->block_size + position % a->block_size;
    return cache + slot * kernels_padded(a->head_dim);
}

static void attend(const struct attention *a, const uint32_t *blocks, uint32_t position,
                   uint32_t kv_head, const float *q, float *out, float *p) {
    uint32_t first = a->window && position >= a->window ? position - a->window + 1 : 0;
    float top = -INFINITY;
    for (uint32_t j = first; j <= position; j++) {
        const float *k = cached(a, a->k_cache, blocks, j, kv_head);
        p[j - first] = (float)kernels_ref_dot(q, k, a->head_dim) * a->scale;
        top = fmaxf(top, p[j - first]);
    }
    double sum = 0;
    for (uint32_t j = first; j <= position; j++) {
        p[j - first] = expf(p[j - first] - top);
        sum += (double)p[j - first];
    }
    for (uint32_t d = 0; d < a->head_dim; d++) {
        double weighted = 0;
        for (uint32_t j = first; j <= position; j++)
            weighted += (double)p[j - first] * (double)cached(a, a->v_cache, blocks, j, kv_head)[d];
        out[d] = (float)(weighted / sum);
    }
}

void attention_ref(const struct attention *a, uint32_t row, uint32_t kv_head, float *scratch) {
    uint32_t group = a->num_heads / a->num_kv_heads;
    const uint32_t *blocks = a->block_table + (size_t)a->row_seq[row] * a->block_table_stride;
    for (uint32_t h = kv_head * group; h < (kv_head + 1) * group; h++) {
        size_t at = row * a->q_stride + (size_t)h * a->head_dim;
        attend(a, blocks, (uint32_t)a->positions[row], kv_head, a->q + at, a->out + at, scratch);
    }
}
