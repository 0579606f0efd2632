/* GGUF metadata: general.architecture says which keys follow, "<architecture>.<key>".
 * Source: github.com/ggml-org/ggml, docs/gguf.md. */
#include "engine/gguf_config.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "engine/cpu/dtype.h"
#include "engine/gguf.h"
#include "engine/model_spec.h"
#include "engine/tensor_source.h"

struct arch_row {
    const char *name;
    enum model_arch arch;
    bool rope_halves; /* Llama's converter reorders Q and K to pairs side by side */
};

static const struct arch_row archs[] = {
    {"llama", MODEL_LLAMA, false},
    {"qwen2", MODEL_QWEN2, true},
    {"qwen3", MODEL_QWEN3, true},
};

enum { KEY_BYTES_MAX = 128, NAME_BYTES_MAX = 200 };

/* "<arch>.<key>" */
static const char *arch_key(const struct model_spec *s, const char *key, char out[KEY_BYTES_MAX]) {
    snprintf(out, KEY_BYTES_MAX, "%s.%s", s->config.arch_name, key);
    return out;
}

static enum errc get_u32(const struct gguf *g, const struct model_spec *s, const char *key,
                         uint32_t *ret_v, struct error *err) {
    char full[KEY_BYTES_MAX];
    if (gguf_get_u32(g, arch_key(s, key, full), ret_v, err))
        return err->code == ERR_NOT_FOUND
                   ? err_set(err, ERR_INVALID, "%s: no key %s", gguf_path(g), full)
                   : err->code;
    return OK;
}

/* Leaves *ret_v as it is when the key is absent. */
static enum errc maybe_u32(const struct gguf *g, const struct model_spec *s, const char *key,
                           uint32_t *ret_v, struct error *err) {
    char full[KEY_BYTES_MAX];
    return gguf_has(g, arch_key(s, key, full)) ? gguf_get_u32(g, full, ret_v, err) : OK;
}

static enum errc maybe_f32(const struct gguf *g, const struct model_spec *s, const char *key,
                           float *ret_v, struct error *err) {
    char full[KEY_BYTES_MAX];
    return gguf_has(g, arch_key(s, key, full)) ? gguf_get_f32(g, full, ret_v, err) : OK;
}

static bool string_is(struct gguf_string s, const char *text) {
    return s.len == strlen(text) && !memcmp(s.data, text, s.len);
}

static enum errc read_arch(const struct gguf *g, struct model_spec *s, struct error *err) {
    struct gguf_string name = {0};
    if (gguf_get_string(g, "general.architecture", &name, err))
        return err->code == ERR_NOT_FOUND ? (err->code = ERR_INVALID) : err->code;
    for (size_t i = 0; i < ARRAY_LEN(archs); i++)
        if (string_is(name, archs[i].name)) {
            s->config.arch = archs[i].arch;
            s->config.arch_name = archs[i].name;
            s->rope.halves = archs[i].rope_halves;
            return OK;
        }
    return err_set(err, ERR_INVALID,
                   "%s: key general.architecture: \"%.*s\" is not supported; supported "
                   "are: " MODEL_ARCHS_SUPPORTED,
                   gguf_path(g), (int)(name.len < 64 ? name.len : 64), name.data);
}

/* general.name, or the file's name without its ending. */
static char *read_name(const struct gguf *g) {
    struct error ignored = ERROR_INIT;
    struct gguf_string name = {0};
    if (!gguf_get_string(g, "general.name", &name, &ignored) && name.len &&
        name.len <= NAME_BYTES_MAX && !memchr(name.data, 0, name.len))
        return mem_strndup(name.data, name.len);
    const char *slash = strrchr(gguf_path(g), '/');
    const char *base = slash ? slash + 1 : gguf_path(g);
    const char *dot = strrchr(base, '.');
    return dot && dot != base ? mem_strndup(base, (size_t)(dot - base)) : mem_strdup(base);
}

/* The file's vocabulary is as large as its embedding; a list of tokens that is longer would give
 * ids that have no row. */
static enum errc read_vocab(const struct gguf *g, struct model_spec *s, struct error *err) {
    struct gguf_array tokens;
    const struct gguf_tensor *t = gguf_find_tensor(g, "token_embd.weight");
    if (!t)
        return err_set(err, ERR_INVALID, "%s: tensor token_embd.weight is missing", gguf_path(g));
    if (t->dims[1] > MODEL_VOCAB_MAX)
        return err_set(err, ERR_INVALID,
                       "%s: tensor token_embd.weight at offset %" PRIu64 ": %" PRIu64
                       " rows, expected up to %d",
                       gguf_path(g), t->offset, t->dims[1], MODEL_VOCAB_MAX);
    s->config.vocab_size = (uint32_t)t->dims[1];
    if (!gguf_has(g, "tokenizer.ggml.tokens"))
        return OK;
    if (gguf_get_strings(g, "tokenizer.ggml.tokens", &tokens, err))
        return err->code;
    if (tokens.len > s->config.vocab_size)
        return err_set(err, ERR_INVALID,
                       "%s: key tokenizer.ggml.tokens: %" PRIu64
                       " tokens, but tensor token_embd.weight has %" PRIu32 " rows",
                       gguf_path(g), tokens.len, s->config.vocab_size);
    return OK;
}

static enum errc read_sizes(const struct gguf *g, struct model_spec *s, struct error *err) {
    struct model_config *c = &s->config;
    if (get_u32(g, s, "block_count", &c->num_layers, err) ||
        get_u32(g, s, "embedding_length", &c->hidden, err) ||
        get_u32(g, s, "feed_forward_length", &c->ffn_hidden, err) ||
        get_u32(g, s, "context_length", &c->context_length, err) ||
        get_u32(g, s, "attention.head_count", &c->num_heads, err))
        return err->code;
    c->num_kv_heads = c->num_heads;
    c->head_dim = c->num_heads ? c->hidden / c->num_heads : 0;
    if (maybe_u32(g, s, "attention.head_count_kv", &c->num_kv_heads, err) ||
        maybe_u32(g, s, "attention.key_length", &c->head_dim, err))
        return err->code;
    uint32_t value_length = c->head_dim;
    c->rope_dim = c->head_dim;
    c->rms_eps = 1e-5f;
    c->rope_theta = 10000.0f;
    if (maybe_u32(g, s, "attention.value_length", &value_length, err) ||
        maybe_u32(g, s, "rope.dimension_count", &c->rope_dim, err) ||
        maybe_f32(g, s, "attention.layer_norm_rms_epsilon", &c->rms_eps, err) ||
        maybe_f32(g, s, "rope.freq_base", &c->rope_theta, err) ||
        maybe_u32(g, s, "attention.sliding_window", &s->window, err))
        return err->code;
    for (uint32_t i = 0; i < MODEL_LAYERS_MAX; i++)
        s->sliding[i] = true;
    if (value_length != c->head_dim)
        return err_set(err, ERR_INVALID,
                       "%s: value heads of %" PRIu32 ", key heads of %" PRIu32
                       "; only equal ones are supported",
                       gguf_path(g), value_length, c->head_dim);
    return OK;
}

static enum errc refuse_split(const struct gguf *g, struct error *err) {
    uint32_t num_files = 0;
    if (gguf_has(g, "split.count") && gguf_get_u32(g, "split.count", &num_files, err))
        return err->code;
    if (num_files > 1)
        return err_set(err, ERR_INVALID,
                       "%s: key split.count: one of %" PRIu32
                       " files; a GGUF in several files is not supported, join them first",
                       gguf_path(g), num_files);
    return OK;
}

static enum errc refuse_experts(const struct gguf *g, const struct model_spec *s,
                                struct error *err) {
    uint32_t num_experts = 0;
    if (maybe_u32(g, s, "expert_count", &num_experts, err))
        return err->code;
    if (num_experts)
        return err_set(err, ERR_INVALID,
                       "%s: key %s.expert_count: a mixture of %" PRIu32 " experts is not supported",
                       gguf_path(g), s->config.arch_name, num_experts);
    return OK;
}

static enum errc read_rope(const struct gguf *g, struct model_spec *s, struct error *err) {
    char key[KEY_BYTES_MAX];
    struct rope_spec *r = &s->rope;
    struct gguf_string type = {"none", 4};
    float legacy_linear = 0;
    r->original_context_length = s->config.context_length;
    if (maybe_f32(g, s, "rope.scale_linear", &legacy_linear, err) ||
        maybe_f32(g, s, "rope.scaling.factor", &r->factor, err) ||
        maybe_u32(g, s, "rope.scaling.original_context_length", &r->original_context_length, err) ||
        maybe_f32(g, s, "rope.scaling.attn_factor", &r->magnitude, err))
        return err->code;
    if (r->magnitude > 0) /* GGUF's factor comes on top of the usual one */
        r->magnitude *= 0.1f * logf(r->factor) + 1.0f;
    if (legacy_linear > 0) {
        r->scaling = ROPE_SCALING_LINEAR;
        r->factor = legacy_linear;
    }
    if (!gguf_has(g, arch_key(s, "rope.scaling.type", key)))
        return OK;
    if (gguf_get_string(g, key, &type, err))
        return err->code;
    if (string_is(type, "none"))
        r->scaling = ROPE_SCALING_NONE;
    else if (string_is(type, "linear"))
        r->scaling = ROPE_SCALING_LINEAR;
    else if (string_is(type, "yarn"))
        r->scaling = ROPE_SCALING_YARN;
    else
        return err_set(err, ERR_INVALID,
                       "%s: key %s: \"%.*s\" is not supported; supported are: none, linear, yarn",
                       gguf_path(g), key, (int)(type.len < 64 ? type.len : 64), type.data);
    return OK;
}

enum errc gguf_config_read(const struct gguf *g, struct model_spec *spec, struct error *err) {
    if (refuse_split(g, err) || read_arch(g, spec, err) || read_sizes(g, spec, err) ||
        refuse_experts(g, spec, err) || read_rope(g, spec, err) || read_vocab(g, spec, err))
        return err->code;
    spec->tied = !gguf_find_tensor(g, "output.weight");
    free(spec->name);
    spec->name = read_name(g);
    spec->config.name = spec->name;
    return model_spec_check(spec, gguf_path(g), err);
}

void gguf_config_tensors(const struct gguf *g, struct arena *arena, struct tensor_source *ret_s) {
    uint32_t num_tensors = gguf_num_tensors(g);
    struct source_tensor *tensors = arena_alloc(arena, num_tensors * sizeof(*tensors));
    for (uint32_t i = 0; i < num_tensors; i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        tensors[i] = (struct source_tensor){
            .path = gguf_path(g),
            .name = arena_strndup(arena, t->name.data, t->name.len),
            .data = t->data,
            .type_name = dtype_name(t->type),
            .type = t->type,
            .num_dims = t->num_dims,
            .offset = t->offset,
            .bytes = t->bytes,
        };
        memcpy(tensors[i].dims, t->dims, sizeof(t->dims));
    }
    *ret_s = (struct tensor_source){gguf_path(g), tensors, num_tensors};
    tensor_source_sort(ret_s);
}
