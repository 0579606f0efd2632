/* Binding: one table says, per tensor of a layer, its two names, its shape and where it goes.
 *
 * A tensor that no row of the table claims is an error, not a curiosity: the file then holds a
 * model that these layers would run wrongly. */
#include "engine/weights.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "engine/cpu/dequant.h"
#include "engine/model_spec.h"
#include "engine/tensor_source.h"

enum { NAME_BYTES_MAX = 128 };

enum dim { DIM_NONE, DIM_HIDDEN, DIM_Q, DIM_KV, DIM_HEAD, DIM_FFN, DIM_VOCAB };

/* Which architectures must have a tensor, and which may. */
enum {
    LLAMA = 1 << MODEL_LLAMA,
    QWEN2 = 1 << MODEL_QWEN2,
    QWEN3 = 1 << MODEL_QWEN3,
    ALL = LLAMA | QWEN2 | QWEN3,
};

struct role {
    const char *names[2]; /* by enum weights_naming, behind the layer's prefix */
    size_t offset;        /* in struct layer_weights */
    enum dim cols, rows;  /* rows DIM_NONE: a vector */
    uint32_t must, may;
};

#define AT(field) offsetof(struct layer_weights, field)

static const char *const layer_prefix[2] = {"blk.%" PRIu32 ".", "model.layers.%" PRIu32 "."};

static const struct role roles[] = {
    {{"attn_norm.weight", "input_layernorm.weight"}, AT(attn_norm), DIM_HIDDEN, 0, ALL, ALL},
    {{"attn_q.weight", "self_attn.q_proj.weight"}, AT(attn_q), DIM_HIDDEN, DIM_Q, ALL, ALL},
    {{"attn_k.weight", "self_attn.k_proj.weight"}, AT(attn_k), DIM_HIDDEN, DIM_KV, ALL, ALL},
    {{"attn_v.weight", "self_attn.v_proj.weight"}, AT(attn_v), DIM_HIDDEN, DIM_KV, ALL, ALL},
    {{"attn_q.bias", "self_attn.q_proj.bias"}, AT(attn_q_bias), DIM_Q, 0, QWEN2, ALL},
    {{"attn_k.bias", "self_attn.k_proj.bias"}, AT(attn_k_bias), DIM_KV, 0, QWEN2, ALL},
    {{"attn_v.bias", "self_attn.v_proj.bias"}, AT(attn_v_bias), DIM_KV, 0, QWEN2, ALL},
    {{"attn_q_norm.weight", "self_attn.q_norm.weight"}, AT(attn_q_norm), DIM_HEAD, 0, QWEN3, QWEN3},
    {{"attn_k_norm.weight", "self_attn.k_norm.weight"}, AT(attn_k_norm), DIM_HEAD, 0, QWEN3, QWEN3},
    {{"attn_output.weight", "self_attn.o_proj.weight"}, AT(attn_out), DIM_Q, DIM_HIDDEN, ALL, ALL},
    {{"attn_output.bias", "self_attn.o_proj.bias"}, AT(attn_out_bias), DIM_HIDDEN, 0, 0, ALL},
    {{"ffn_norm.weight", "post_attention_layernorm.weight"}, AT(ffn_norm), DIM_HIDDEN, 0, ALL, ALL},
    {{"ffn_gate.weight", "mlp.gate_proj.weight"}, AT(ffn_gate), DIM_HIDDEN, DIM_FFN, ALL, ALL},
    {{"ffn_up.weight", "mlp.up_proj.weight"}, AT(ffn_up), DIM_HIDDEN, DIM_FFN, ALL, ALL},
    {{"ffn_down.weight", "mlp.down_proj.weight"}, AT(ffn_down), DIM_FFN, DIM_HIDDEN, ALL, ALL},
};

static const char *const embedding_names[2] = {"token_embd.weight", "model.embed_tokens.weight"};
static const char *const head_names[2] = {"output.weight", "lm_head.weight"};
static const char *const output_norm_names[2] = {"output_norm.weight", "model.norm.weight"};

struct binder {
    const struct model_spec *spec;
    struct tensor_source *source;
    enum weights_naming naming;
    struct weights *w;
    uint64_t num_by_type[DTYPE_COUNT]; /* parameters in matrices */
};

static uint64_t dim_size(const struct model_config *c, enum dim dim) {
    switch (dim) {
    case DIM_HIDDEN:
        return c->hidden;
    case DIM_Q:
        return (uint64_t)c->num_heads * c->head_dim;
    case DIM_KV:
        return (uint64_t)c->num_kv_heads * c->head_dim;
    case DIM_HEAD:
        return c->head_dim;
    case DIM_FFN:
        return c->ffn_hidden;
    case DIM_VOCAB:
        return c->vocab_size;
    case DIM_NONE:
        break;
    }
    return 1;
}

/* Files name type, shape and place the same way for every fault of a tensor. */
static enum errc bad_tensor(const struct source_tensor *t, struct error *err, const char *fault) {
    return err_set(err, ERR_INVALID,
                   "%s: tensor %s at offset %" PRIu64 ", type %s, shape [%" PRIu64 ", %" PRIu64
                   "]: %s",
                   t->path, t->name, t->offset, t->type_name, t->dims[1], t->dims[0], fault);
}

/* Marks the tensor used and counts it, once it was found to have a type and shape that fit. */
static enum errc claim(struct binder *b, struct source_tensor *t, uint64_t cols, uint64_t rows,
                       struct error *err) {
    char fault[128];
    if (!t->data) {
        snprintf(fault, sizeof(fault), "the type is not supported; these are: " DTYPE_SUPPORTED);
        return bad_tensor(t, err, fault);
    }
    if (t->dims[0] != cols || t->dims[1] != rows || t->dims[2] != 1 || t->dims[3] != 1) {
        snprintf(fault, sizeof(fault), "expected shape [%" PRIu64 ", %" PRIu64 "]", rows, cols);
        return bad_tensor(t, err, fault);
    }
    if (!t->used) {
        b->w->num_parameters += cols * rows;
        b->w->bytes += t->bytes;
        if (rows > 1)
            b->num_by_type[t->type] += cols * rows;
    }
    t->used = true;
    return OK;
}

static enum errc find(const struct binder *b, const char *name, struct source_tensor **ret_t,
                      struct error *err) {
    *ret_t = tensor_source_find(b->source, name);
    if (*ret_t)
        return OK;
    return err_set(err, ERR_INVALID, "%s: tensor %s is missing (architecture %s)", b->source->path,
                   name, b->spec->config.arch_name);
}

static enum errc bind_matrix(struct binder *b, struct source_tensor *t, enum dim cols,
                             enum dim rows, struct matrix *out, struct error *err) {
    const struct model_config *c = &b->spec->config;
    if (claim(b, t, dim_size(c, cols), dim_size(c, rows), err))
        return err->code;
    *out = (struct matrix){
        .data = t->data,
        .type = (enum dtype)t->type,
        .rows = (uint32_t)t->dims[1],
        .cols = (uint32_t)t->dims[0],
        .row_bytes = dtype_bytes((enum dtype)t->type, t->dims[0]),
    };
    return OK;
}

static enum errc bind_vector(struct binder *b, struct source_tensor *t, enum dim len,
                             const float **out, struct error *err) {
    if (claim(b, t, dim_size(&b->spec->config, len), 1, err))
        return err->code;
    if (dtype_block_len((enum dtype)t->type) != 1)
        return bad_tensor(t, err, "a vector of quantised weights; expected F32, F16 or BF16");
    float *copy = arena_alloc(b->w->arena, t->dims[0] * sizeof(*copy));
    dequant_row((enum dtype)t->type, t->data, copy, (uint32_t)t->dims[0]);
    *out = copy;
    return OK;
}

static enum errc bind_role(struct binder *b, uint32_t layer, const struct role *role,
                           struct error *err) {
    char name[NAME_BYTES_MAX];
    struct source_tensor *t;
    uint32_t arch = 1u << b->spec->config.arch;
    if (!(role->may & arch))
        return OK;
    int len = snprintf(name, sizeof(name), layer_prefix[b->naming], layer);
    snprintf(name + len, sizeof(name) - (size_t)len, "%s", role->names[b->naming]);
    if (!(role->must & arch) && !tensor_source_find(b->source, name))
        return OK;
    if (find(b, name, &t, err))
        return err->code;
    char *field = (char *)&b->w->layers[layer] + role->offset;
    if (role->rows == DIM_NONE)
        return bind_vector(b, t, role->cols, (const float **)field, err);
    return bind_matrix(b, t, role->cols, role->rows, (struct matrix *)field, err);
}

/* The embedding and the head may be one tensor under either name. A GGUF ties by leaving the head
 * out; a directory says tie_word_embeddings, and then the embedding counts where both are. */
static enum errc bind_ends(struct binder *b, struct error *err) {
    struct source_tensor *norm;
    struct source_tensor *embedding = tensor_source_find(b->source, embedding_names[b->naming]);
    struct source_tensor *head = tensor_source_find(b->source, head_names[b->naming]);
    bool tied = b->spec->tied;
    if (tied && embedding && head && b->naming == WEIGHTS_HUGGING_FACE) {
        head->used = true;
        head = NULL;
    }
    if (!embedding && !(tied && head))
        return find(b, embedding_names[b->naming], &embedding, err);
    if (!head && !tied)
        return find(b, head_names[b->naming], &head, err);
    if (bind_matrix(b, embedding ? embedding : head, DIM_HIDDEN, DIM_VOCAB, &b->w->embedding,
                    err) ||
        bind_matrix(b, head ? head : embedding, DIM_HIDDEN, DIM_VOCAB, &b->w->head, err) ||
        find(b, output_norm_names[b->naming], &norm, err))
        return err->code;
    return bind_vector(b, norm, DIM_HIDDEN, &b->w->output_norm, err);
}

/* GGUF files of Llama 3.x carry the scaling as divisors of the frequencies. */
static enum errc bind_rope(struct binder *b, struct error *err) {
    uint32_t num_pairs = b->spec->config.rope_dim / 2;
    AUTO_FREE double *inv_freq = model_spec_rope(b->spec, &b->w->rope_magnitude);
    struct source_tensor *t = tensor_source_find(b->source, "rope_freqs.weight");
    if (t && b->naming == WEIGHTS_GGUF) {
        if (claim(b, t, num_pairs, 1, err))
            return err->code;
        if (t->type != DTYPE_F32)
            return bad_tensor(t, err, "expected type F32");
        for (uint32_t i = 0; i < num_pairs; i++) {
            float divisor;
            memcpy(&divisor, t->data + i * sizeof(divisor), sizeof(divisor));
            if (!(divisor > 0) || !isfinite(divisor))
                return bad_tensor(t, err, "a divisor that is not above 0");
            inv_freq[i] /= (double)divisor;
        }
    }
    double *kept = arena_alloc(b->w->arena, num_pairs * sizeof(*kept));
    memcpy(kept, inv_freq, num_pairs * sizeof(*kept));
    b->w->rope_inv_freq = kept;
    b->w->rope_halves = b->spec->rope.halves;
    return OK;
}

/* Old checkpoints stored the frequencies too; they are computed. */
static bool may_stay_unused(const char *name) {
    const char *suffix = ".rotary_emb.inv_freq";
    size_t len = strlen(name), suffix_len = strlen(suffix);
    return len > suffix_len && !strcmp(name + len - suffix_len, suffix);
}

static enum errc check_all_used(const struct binder *b, struct error *err) {
    for (uint32_t i = 0; i < b->source->num_tensors; i++) {
        const struct source_tensor *t = &b->source->tensors[i];
        if (!t->used && !may_stay_unused(t->name))
            return bad_tensor(
                t, err, "has no part in this architecture; supported are: " MODEL_ARCHS_SUPPORTED);
    }
    return OK;
}

static const char *commonest_type(const struct binder *b) {
    uint32_t best = DTYPE_F32;
    for (uint32_t type = 0; type < DTYPE_COUNT; type++)
        if (b->num_by_type[type] > b->num_by_type[best])
            best = type;
    return dtype_name(best);
}

static enum errc bind_all(struct binder *b, struct error *err) {
    const struct model_spec *spec = b->spec;
    uint32_t num_layers = spec->config.num_layers;
    b->w->layers = arena_alloc(b->w->arena, num_layers * sizeof(*b->w->layers));
    if (bind_ends(b, err) || bind_rope(b, err))
        return err->code;
    for (uint32_t layer = 0; layer < num_layers; layer++) {
        for (size_t i = 0; i < ARRAY_LEN(roles); i++)
            if (bind_role(b, layer, &roles[i], err))
                return err->code;
        b->w->layers[layer].window = spec->sliding[layer] ? spec->window : 0;
    }
    b->w->type_name = commonest_type(b);
    return check_all_used(b, err);
}

enum errc weights_create(const struct model_spec *spec, struct tensor_source *source,
                         enum weights_naming naming, struct weights **ret_w, struct error *err) {
    AUTO(weights) w = mem_alloc(sizeof(*w));
    w->arena = arena_create();
    struct binder b = {.spec = spec, .source = source, .naming = naming, .w = w};
    if (bind_all(&b, err))
        return err->code;
    *ret_w = steal(w);
    return OK;
}

void weights_destroy(struct weights *w) {
    if (!w)
        return;
    arena_destroy(w->arena);
    free(w);
}
