/* config.json, as the Transformers library writes it for llama, mistral, qwen2 and qwen3.
 *
 * Two habits of these files matter. A key that is absent or null has the library's default, which
 * is the same for these architectures where nothing else is said below. And a key that changes the
 * mathematics must not be passed over: what is not supported here is refused by name.
 *
 * Weights in this form keep Q and K as trained, so rotary pairs are (i, i + rope_dim/2). */
#include "engine/hf_config.h"

#include <inttypes.h>
#include <jansson.h>

#include "engine/file_map.h"
#include "engine/model_spec.h"

/* The file being read, for messages. */
struct config_file {
    char *path;
    json_t *root;
};

static void config_file_close(struct config_file *f) {
    free(f->path);
    json_decref(f->root);
}
#define AUTO_CONFIG_FILE __attribute__((cleanup(config_file_close))) struct config_file

static enum errc config_file_open(const char *dir, const char *name, struct config_file *f,
                                  struct error *err) {
    struct file_map map;
    json_error_t json_err;
    f->path = mem_printf("%s/%s", dir, name);
    if (file_map_open_head(f->path, HF_CONFIG_BYTES_MAX, &map, err))
        return err->code;
    if (map.len > HF_CONFIG_BYTES_MAX) {
        err_set(err, ERR_MALFORMED, "%s: %zu bytes, expected up to %d", f->path, map.len,
                HF_CONFIG_BYTES_MAX);
        file_map_close(&map);
        return err->code;
    }
    f->root = json_loadb((const char *)map.data, map.len, JSON_REJECT_DUPLICATES, &json_err);
    file_map_close(&map);
    if (!f->root)
        return err_set(err, ERR_MALFORMED, "%s: line %d: %s", f->path, json_err.line,
                       json_err.text);
    if (!json_is_object(f->root))
        return err_set(err, ERR_MALFORMED, "%s: expected an object", f->path);
    return OK;
}

static const json_t *get(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

static enum errc bad_key(const struct config_file *f, const char *key, const char *expected,
                         struct error *err) {
    return err_set(err, ERR_INVALID, "%s: %s: expected %s", f->path, key, expected);
}

/* The readers leave *ret_v as it is when the key is absent or null. */
static enum errc read_u32(const struct config_file *f, const char *key, uint32_t *ret_v,
                          struct error *err) {
    const json_t *value = get(f->root, key);
    if (!value)
        return OK;
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        json_integer_value(value) > UINT32_MAX)
        return bad_key(f, key, "an integer from 0 to 2^32 - 1", err);
    *ret_v = (uint32_t)json_integer_value(value);
    return OK;
}

static enum errc read_f32(const struct config_file *f, const json_t *object, const char *key,
                          float *ret_v, struct error *err) {
    const json_t *value = get(object, key);
    if (!value)
        return OK;
    if (!json_is_number(value))
        return bad_key(f, key, "a number", err);
    *ret_v = (float)json_number_value(value);
    return OK;
}

static enum errc read_bool(const struct config_file *f, const char *key, bool *ret_v,
                           struct error *err) {
    const json_t *value = get(f->root, key);
    if (!value)
        return OK;
    if (!json_is_boolean(value))
        return bad_key(f, key, "true or false", err);
    *ret_v = json_is_true(value);
    return OK;
}

/* A string's text for a message, whatever it is. */
static const char *shown(const json_t *value) {
    const char *text = json_string_value(value);
    return text && strlen(text) < 100 ? text : "?";
}

/* ---- what must be as expected ---- */

static enum errc read_arch(const struct config_file *f, struct model_spec *s, struct error *err) {
    static const struct {
        const char *model_type, *class_name;
        enum model_arch arch;
        const char *arch_name;
        bool tied; /* the default of tie_word_embeddings */
    } archs[] = {
        {"llama", "LlamaForCausalLM", MODEL_LLAMA, "llama", false},
        {"mistral", "MistralForCausalLM", MODEL_LLAMA, "mistral", false},
        {"qwen2", "Qwen2ForCausalLM", MODEL_QWEN2, "qwen2", false},
        {"qwen3", "Qwen3ForCausalLM", MODEL_QWEN3, "qwen3", false},
    };
    const json_t *type = get(f->root, "model_type");
    const json_t *class_name = json_array_get(get(f->root, "architectures"), 0);
    for (size_t i = 0; json_is_string(type) && i < ARRAY_LEN(archs); i++) {
        if (strcmp(json_string_value(type), archs[i].model_type) != 0)
            continue;
        if (class_name && strcmp(shown(class_name), archs[i].class_name) != 0)
            return err_set(err, ERR_INVALID,
                           "%s: architectures: \"%s\" is not supported; with model_type \"%s\" "
                           "expected \"%s\"",
                           f->path, shown(class_name), archs[i].model_type, archs[i].class_name);
        s->config.arch = archs[i].arch;
        s->config.arch_name = archs[i].arch_name;
        s->tied = archs[i].tied;
        return OK;
    }
    return err_set(err, ERR_INVALID,
                   "%s: model_type: \"%s\" is not supported; supported are: llama, mistral, qwen2, "
                   "qwen3",
                   f->path, shown(type));
}

static enum errc refuse_what_differs(const struct config_file *f, struct error *err) {
    const json_t *act = get(f->root, "hidden_act");
    bool mlp_bias = false;
    if (act && strcmp(shown(act), "silu") != 0)
        return err_set(err, ERR_INVALID, "%s: hidden_act: \"%s\" is not supported; expected silu",
                       f->path, shown(act));
    if (get(f->root, "quantization_config"))
        return err_set(err, ERR_INVALID,
                       "%s: quantization_config: quantised safetensors are not supported; use the "
                       "unquantised model or a GGUF",
                       f->path);
    if (read_bool(f, "mlp_bias", &mlp_bias, err))
        return err->code;
    if (mlp_bias)
        return err_set(err, ERR_INVALID, "%s: mlp_bias: true is not supported", f->path);
    return OK;
}

/* ---- sizes ---- */

static enum errc read_sizes(const struct config_file *f, struct model_spec *s, struct error *err) {
    struct model_config *c = &s->config;
    if (read_u32(f, "num_hidden_layers", &c->num_layers, err) ||
        read_u32(f, "hidden_size", &c->hidden, err) ||
        read_u32(f, "intermediate_size", &c->ffn_hidden, err) ||
        read_u32(f, "vocab_size", &c->vocab_size, err) ||
        read_u32(f, "max_position_embeddings", &c->context_length, err) ||
        read_u32(f, "num_attention_heads", &c->num_heads, err))
        return err->code;
    c->num_kv_heads = c->num_heads;
    c->head_dim = c->num_heads ? c->hidden / c->num_heads : 0;
    if (c->arch == MODEL_QWEN3)
        c->head_dim = 128;
    c->rms_eps = 1e-6f;
    if (read_u32(f, "num_key_value_heads", &c->num_kv_heads, err) ||
        read_u32(f, "head_dim", &c->head_dim, err) ||
        read_f32(f, f->root, "rms_norm_eps", &c->rms_eps, err) ||
        read_bool(f, "tie_word_embeddings", &s->tied, err))
        return err->code;
    c->rope_dim = c->head_dim;
    return OK;
}

/* ---- sliding attention ---- */

static enum errc read_layer_types(const struct config_file *f, struct model_spec *s,
                                  const json_t *types, struct error *err) {
    size_t i;
    json_t *type;
    if (!json_is_array(types) || json_array_size(types) != s->config.num_layers)
        return bad_key(f, "layer_types", "an array with one entry a layer", err);
    json_array_foreach ((json_t *)(uintptr_t)types, i, type) {
        s->sliding[i] = !strcmp(shown(type), "sliding_attention");
        if (!s->sliding[i] && strcmp(shown(type), "full_attention") != 0)
            return err_set(err, ERR_INVALID,
                           "%s: layer_types: \"%s\" is not supported; supported are: "
                           "full_attention, sliding_attention",
                           f->path, shown(type));
    }
    return OK;
}

/* Mistral slides in every layer when sliding_window is set. Qwen sets it and means it only with
 * use_sliding_window, from layer max_window_layers on, or as layer_types says. */
static enum errc read_window(const struct config_file *f, struct model_spec *s, struct error *err) {
    bool qwen = s->config.arch != MODEL_LLAMA, use = !qwen;
    uint32_t first = qwen ? s->config.num_layers : 0;
    if (strcmp(s->config.arch_name, "llama") == 0)
        return OK; /* the library's Llama knows no window */
    if (qwen && (read_bool(f, "use_sliding_window", &use, err) ||
                 read_u32(f, "max_window_layers", &first, err)))
        return err->code;
    s->window = json_object_get(f->root, "sliding_window") ? 0 : 4096; /* null is none */
    if (read_u32(f, "sliding_window", &s->window, err))
        return err->code;
    if (!use)
        s->window = 0;
    for (uint32_t i = first; i < s->config.num_layers && i < MODEL_LAYERS_MAX; i++)
        s->sliding[i] = true;
    const json_t *types = get(f->root, "layer_types");
    return types && s->config.num_layers <= MODEL_LAYERS_MAX ? read_layer_types(f, s, types, err)
                                                             : OK;
}

/* ---- rotary embedding ---- */

static enum errc read_scaling_type(const struct config_file *f, const json_t *scaling,
                                   struct rope_spec *r, struct error *err) {
    static const struct {
        const char *name;
        enum rope_scaling scaling;
    } types[] = {
        {"default", ROPE_SCALING_NONE},
        {"linear", ROPE_SCALING_LINEAR},
        {"llama3", ROPE_SCALING_LLAMA3},
        {"yarn", ROPE_SCALING_YARN},
    };
    const json_t *type = get(scaling, "rope_type");
    if (!type)
        type = get(scaling, "type");
    if (!type)
        return OK;
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (!strcmp(shown(type), types[i].name)) {
            r->scaling = types[i].scaling;
            return OK;
        }
    return err_set(err, ERR_INVALID,
                   "%s: rope_scaling: type \"%s\" is not supported; supported are: default, "
                   "linear, llama3, yarn",
                   f->path, shown(type));
}

/* rope_theta and rope_scaling, or both in rope_parameters, as newer files have it. */
static enum errc read_rope(const struct config_file *f, struct model_spec *s, struct error *err) {
    struct rope_spec *r = &s->rope;
    float original = (float)s->config.context_length, rotary_part = 1;
    const json_t *scaling = get(f->root, "rope_parameters");
    if (!scaling)
        scaling = get(f->root, "rope_scaling");
    if (scaling && !json_is_object(scaling))
        return bad_key(f, "rope_scaling", "an object", err);
    r->halves = true;
    s->config.rope_theta = 10000.0f;
    if (read_f32(f, f->root, "rope_theta", &s->config.rope_theta, err) ||
        read_f32(f, f->root, "partial_rotary_factor", &rotary_part, err) ||
        read_f32(f, scaling, "rope_theta", &s->config.rope_theta, err) ||
        read_f32(f, scaling, "factor", &r->factor, err) ||
        read_f32(f, scaling, "low_freq_factor", &r->low_freq_factor, err) ||
        read_f32(f, scaling, "high_freq_factor", &r->high_freq_factor, err) ||
        read_f32(f, scaling, "beta_fast", &r->beta_fast, err) ||
        read_f32(f, scaling, "beta_slow", &r->beta_slow, err) ||
        read_f32(f, scaling, "attention_factor", &r->magnitude, err) ||
        read_f32(f, scaling, "original_max_position_embeddings", &original, err) ||
        read_scaling_type(f, scaling, r, err))
        return err->code;
    if (rotary_part != 1)
        return bad_key(f, "partial_rotary_factor", "1, nothing else is supported", err);
    if (!(original >= 0 && original <= MODEL_CONTEXT_MAX))
        return bad_key(f, "original_max_position_embeddings", "a context length", err);
    r->original_context_length = (uint32_t)original;
    return OK;
}

static char *directory_name(const char *dir) {
    size_t len = strlen(dir);
    while (len > 1 && dir[len - 1] == '/')
        len--;
    size_t start = len;
    while (start > 0 && dir[start - 1] != '/')
        start--;
    return mem_strndup(dir + start, len - start);
}

enum errc hf_config_read(const char *dir, struct model_spec *spec, struct error *err) {
    AUTO_CONFIG_FILE f = {0};
    if (config_file_open(dir, "config.json", &f, err) || read_arch(&f, spec, err) ||
        refuse_what_differs(&f, err) || read_sizes(&f, spec, err) || read_window(&f, spec, err) ||
        read_rope(&f, spec, err))
        return err->code;
    free(spec->name);
    spec->name = directory_name(dir);
    spec->config.name = spec->name;
    return model_spec_check(spec, f.path, err);
}

enum errc hf_config_read_generation(const char *dir, struct model_generation *gen,
                                    struct error *err) {
    AUTO_CONFIG_FILE f = {0};
    enum errc rc = config_file_open(dir, "generation_config.json", &f, err);
    if (rc)
        return rc == ERR_NOT_FOUND ? OK : rc;
    uint32_t top_k = UINT32_MAX;
    if (read_f32(&f, f.root, "temperature", &gen->temperature, err) ||
        read_f32(&f, f.root, "top_p", &gen->top_p, err) ||
        read_f32(&f, f.root, "min_p", &gen->min_p, err) ||
        read_f32(&f, f.root, "repetition_penalty", &gen->repetition_penalty, err) ||
        read_u32(&f, "top_k", &top_k, err))
        return err->code;
    if (top_k <= INT32_MAX)
        gen->top_k = (int32_t)top_k;
    return OK;
}
