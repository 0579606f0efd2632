/* Bounds of a model's numbers, and the frequencies of its rotary embedding.
 *
 * Pair i of rope_dim/2 turns by theta^(-2i/rope_dim) per position. A model trained on a short
 * context and stretched by `factor` scales that:
 *   linear   every frequency / factor                                          arXiv:2306.15595
 *   llama3   long waves / factor, short ones kept, between them in proportion  (Llama 3.1 config)
 *   yarn     as llama3, with the borders counted in turns within the original
 *            context, and cos and sin scaled by 0.1 ln(factor) + 1             arXiv:2309.00071 */
#include "engine/model_spec.h"

#include <inttypes.h>
#include <math.h>

void model_spec_init(struct model_spec *s) {
    *s = (struct model_spec){
        .rope = {.factor = 1,
                 .low_freq_factor = 1,
                 .high_freq_factor = 4,
                 .beta_fast = 32,
                 .beta_slow = 1},
    };
}

void model_spec_deinit(struct model_spec *s) {
    free(s->name);
    s->name = NULL;
}

static enum errc check_count(const char *where, const char *what, uint32_t value, uint32_t max,
                             struct error *err) {
    if (value >= 1 && value <= max)
        return OK;
    return err_set(err, ERR_INVALID, "%s: %s: %" PRIu32 ", expected 1 to %" PRIu32, where, what,
                   value, max);
}

static enum errc check_counts(const struct model_config *c, const char *where, struct error *err) {
    const struct {
        const char *what;
        uint32_t value, max;
    } counts[] = {
        {"layers", c->num_layers, MODEL_LAYERS_MAX},
        {"hidden size", c->hidden, MODEL_HIDDEN_MAX},
        {"attention heads", c->num_heads, MODEL_HEADS_MAX},
        {"key-value heads", c->num_kv_heads, MODEL_HEADS_MAX},
        {"head size", c->head_dim, MODEL_HEAD_DIM_MAX},
        {"rotary dimensions", c->rope_dim, MODEL_HEAD_DIM_MAX},
        {"feed-forward size", c->ffn_hidden, MODEL_FFN_MAX},
        {"vocabulary", c->vocab_size, MODEL_VOCAB_MAX},
        {"context length", c->context_length, MODEL_CONTEXT_MAX},
    };
    for (size_t i = 0; i < ARRAY_LEN(counts); i++)
        if (check_count(where, counts[i].what, counts[i].value, counts[i].max, err))
            return err->code;
    return OK;
}

enum errc model_spec_check(const struct model_spec *s, const char *where, struct error *err) {
    const struct model_config *c = &s->config;
    if (check_counts(c, where, err))
        return err->code;
    if (c->num_heads % c->num_kv_heads)
        return err_set(err, ERR_INVALID,
                       "%s: %" PRIu32 " attention heads are no multiple of %" PRIu32
                       " key-value heads",
                       where, c->num_heads, c->num_kv_heads);
    if (c->rope_dim % 2 || c->rope_dim > c->head_dim)
        return err_set(err, ERR_INVALID,
                       "%s: rotary dimensions: %" PRIu32 ", expected an even number up to the head "
                       "size %" PRIu32,
                       where, c->rope_dim, c->head_dim);
    if (!(c->rms_eps >= 0 && c->rms_eps < 1))
        return err_set(err, ERR_INVALID, "%s: RMS norm epsilon: %g, expected 0 to 1", where,
                       (double)c->rms_eps);
    if (!(c->rope_theta > 0) || !isfinite(c->rope_theta))
        return err_set(err, ERR_INVALID, "%s: rotary base: %g, expected above 0", where,
                       (double)c->rope_theta);
    const struct rope_spec *r = &s->rope;
    if (!(r->factor > 0) || !isfinite(r->factor))
        return err_set(err, ERR_INVALID, "%s: rotary scaling factor: %g, expected above 0", where,
                       (double)r->factor);
    if (r->scaling >= ROPE_SCALING_LLAMA3 && !r->original_context_length)
        return err_set(err, ERR_INVALID, "%s: rotary scaling without the original context length",
                       where);
    if (r->scaling == ROPE_SCALING_LLAMA3 && !(r->high_freq_factor > r->low_freq_factor))
        return err_set(err, ERR_INVALID,
                       "%s: rotary scaling: high_freq_factor %g is not above low_freq_factor %g",
                       where, (double)r->high_freq_factor, (double)r->low_freq_factor);
    return OK;
}

/* ---- rotary frequencies ---- */

static double clamp01(double v) {
    return v < 0 ? 0 : v > 1 ? 1 : v;
}

static double llama3_freq(const struct rope_spec *r, double freq) {
    double low = (double)r->low_freq_factor, high = (double)r->high_freq_factor;
    double turns = (double)r->original_context_length * freq / (2 * M_PI);
    double kept = clamp01((turns - low) / (high - low));
    return freq * (kept + (1 - kept) / (double)r->factor);
}

/* The pair that makes `turns` turns within the original context. */
static double yarn_pair(const struct model_spec *s, double turns) {
    double context = (double)s->rope.original_context_length;
    return s->config.rope_dim * log(context / (turns * 2 * M_PI)) /
           (2 * log((double)s->config.rope_theta));
}

static double yarn_freq(const struct model_spec *s, double freq, uint32_t pair) {
    double low = fmax(0, floor(yarn_pair(s, (double)s->rope.beta_fast)));
    double high = fmin(s->config.rope_dim - 1, ceil(yarn_pair(s, (double)s->rope.beta_slow)));
    double kept = 1 - clamp01((pair - low) / fmax(0.001, high - low));
    return freq * (kept + (1 - kept) / (double)s->rope.factor);
}

double *model_spec_rope(const struct model_spec *s, float *ret_magnitude) {
    const struct rope_spec *r = &s->rope;
    uint32_t num_pairs = s->config.rope_dim / 2;
    double *inv_freq = mem_array(num_pairs, sizeof(*inv_freq));
    for (uint32_t i = 0; i < num_pairs; i++) {
        double freq = pow((double)s->config.rope_theta, -2.0 * i / s->config.rope_dim);
        inv_freq[i] = r->scaling == ROPE_SCALING_LINEAR   ? freq / (double)r->factor
                      : r->scaling == ROPE_SCALING_LLAMA3 ? llama3_freq(r, freq)
                      : r->scaling == ROPE_SCALING_YARN   ? yarn_freq(s, freq, i)
                                                          : freq;
    }
    *ret_magnitude = 1;
    if (r->scaling == ROPE_SCALING_YARN)
        *ret_magnitude = r->magnitude > 0 ? r->magnitude : 0.1f * logf(r->factor) + 1.0f;
    return inv_freq;
}
