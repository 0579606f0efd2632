/* What a model's metadata says, whichever file it stands in: the public configuration, and what is
 * needed to bind and run the weights. Filled by gguf_config.c and hf_config.c, checked in one place
 * by model_spec_check(). */
#ifndef ENGINE_MODEL_SPEC_H
#define ENGINE_MODEL_SPEC_H

#include "engine/model.h"

enum {
    MODEL_LAYERS_MAX = 1024,
    MODEL_HEADS_MAX = 1024,
    MODEL_HEAD_DIM_MAX = 1024,
    MODEL_HIDDEN_MAX = 1 << 17,
    MODEL_FFN_MAX = 1 << 20,
    MODEL_VOCAB_MAX = 1 << 22,
    MODEL_CONTEXT_MAX = 1 << 24,
};

enum rope_scaling {
    ROPE_SCALING_NONE,
    ROPE_SCALING_LINEAR,
    ROPE_SCALING_LLAMA3,
    ROPE_SCALING_YARN
};

struct rope_spec {
    enum rope_scaling scaling;
    float factor; /* how much longer than trained */
    uint32_t original_context_length;
    float low_freq_factor, high_freq_factor; /* LLAMA3 */
    float beta_fast, beta_slow;              /* YARN */
    float magnitude;                         /* YARN: of cos and sin; 0: 0.1 ln(factor) + 1 */
    bool halves;
};

struct model_spec {
    struct model_config config; /* the names point to `name` and to constants */
    struct rope_spec rope;
    char *name;                     /* owned */
    bool tied;                      /* the head may be the embedding */
    uint32_t window;                /* sliding attention: positions that a row sees; 0: none */
    bool sliding[MODEL_LAYERS_MAX]; /* the layers that it holds for */
};

#define MODEL_ARCHS_SUPPORTED "llama (also Mistral), qwen2, qwen3"

/* Zeroes, and the defaults that both formats share. */
void model_spec_init(struct model_spec *s);
void model_spec_deinit(struct model_spec *s);

/* ERR_INVALID names `where` (the file), the value and its bound. */
MUST_CHECK enum errc model_spec_check(const struct model_spec *s, const char *where,
                                      struct error *err);

/* Gives the inverse frequencies [rope_dim / 2] and the magnitude of cos and sin. */
double *model_spec_rope(const struct model_spec *s, float *ret_magnitude);

#endif
