/* Weights: the tensors of an opened model, by role instead of by name, each one's type and shape
 * checked. What the runner reads. Matrices stay where the file has them; vectors (norms, biases)
 * are copied as F32. Immutable after binding. */
#ifndef ENGINE_WEIGHTS_H
#define ENGINE_WEIGHTS_H

#include "core/base/mem.h"
#include "engine/cpu/kernels.h"
#include "engine/model.h"

struct model_spec;
struct tensor_source;

/* Letters: D hidden, H query heads, Hkv KV heads, Dh head size, F feed-forward, V vocabulary. */
struct layer_weights {
    const float *attn_norm;                               /* [D] */
    struct matrix attn_q, attn_k, attn_v;                 /* [H*Dh, D], [Hkv*Dh, D] twice */
    const float *attn_q_bias, *attn_k_bias, *attn_v_bias; /* NULL: none */
    const float *attn_q_norm, *attn_k_norm;               /* [Dh]; NULL: none */
    struct matrix attn_out;                               /* [D, H*Dh] */
    const float *attn_out_bias;                           /* [D]; NULL: none */
    const float *ffn_norm;                                /* [D] */
    struct matrix ffn_gate, ffn_up, ffn_down;             /* [F, D] twice, [D, F] */
    uint32_t window;                                      /* sliding attention; 0: none */
};

struct weights {
    struct matrix embedding, head; /* [V, D]; the same when tied */
    const float *output_norm;      /* [D] */
    struct layer_weights *layers;  /* [L] */
    const double *rope_inv_freq;   /* [rope_dim / 2] */
    float rope_magnitude;          /* of cos and sin */
    bool rope_halves;              /* pairs (i, i + rope_dim/2) instead of (2i, 2i + 1) */
    const char *type_name;         /* the commonest type of the matrices */
    uint64_t num_parameters, bytes;
    struct arena *arena; /* owns all of the above but the matrices' data */
};

enum weights_naming { WEIGHTS_GGUF, WEIGHTS_HUGGING_FACE };

/* Binds every tensor of the source; its data must outlive the result. ERR_INVALID or ERR_MALFORMED
 * names file, tensor and offset: one is missing, has another shape, a type that is not supported,
 * or no part in this architecture. */
MUST_CHECK enum errc weights_create(const struct model_spec *spec, struct tensor_source *source,
                                    enum weights_naming naming, struct weights **ret_w,
                                    struct error *err);
void weights_destroy(struct weights *w);
DEFINE_AUTO(weights, weights_destroy)

/* Borrowed for the model's life. */
const struct weights *model_weights(const struct model *m);

#endif
