/* Small random models for tests, written as GGUF or as a Hugging Face directory: the same numbers
 * in both. Only tests include it. */
#ifndef ENGINE_MODEL_FIXTURE_H
#define ENGINE_MODEL_FIXTURE_H

#include <math.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/cpu/dtype.h"
#include "engine/gguf_writer.h"

/* What to build. Everything after `vocab` may be left out. */
struct model_shape {
    const char *arch; /* llama, qwen2, qwen3 */
    uint32_t layers, hidden, heads, kv_heads, head_dim, ffn, vocab;
    bool tied;
    bool q8_0; /* GGUF only: matrices of that type, else F32 */
    bool bf16; /* directory only */
    uint32_t window;
    uint32_t num_shards;      /* directory only: 0 is one file without an index */
    const char *skip_tensor;  /* by GGUF name */
    const char *extra_config; /* directory only: "\"key\": value," */
};

enum { FIXTURE_TENSORS_MAX = 64 };

struct fixture_tensor {
    char gguf[64], hf[96];
    uint32_t rows, cols;   /* rows 0: a vector */
    float *values;         /* as trained: rotary halves */
    uint32_t rotary_heads; /* of Q and K */
};

struct model_fixture {
    struct model_shape shape;
    struct fixture_tensor tensors[FIXTURE_TENSORS_MAX];
    uint32_t num_tensors;
    char dir[64]; /* a fresh folder for the files */
};

static inline void fixture_add(struct model_fixture *f, const char *gguf, const char *hf,
                               uint32_t rows, uint32_t cols, uint32_t rotary_heads, float base,
                               float spread) {
    if (f->shape.skip_tensor && !strcmp(f->shape.skip_tensor, gguf))
        return;
    struct fixture_tensor *t = &f->tensors[f->num_tensors++];
    ASSERT(f->num_tensors <= FIXTURE_TENSORS_MAX);
    snprintf(t->gguf, sizeof(t->gguf), "%s", gguf);
    snprintf(t->hf, sizeof(t->hf), "%s", hf);
    t->rows = rows;
    t->cols = cols;
    t->rotary_heads = rotary_heads;
    size_t len = (size_t)(rows ? rows : 1) * cols;
    t->values = mem_array(len, sizeof(float));
    uint64_t seed = 1;
    for (const char *c = gguf; *c; c++)
        seed = seed * 31 + (uint64_t)*c;
    for (size_t i = 0; i < len; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        t->values[i] = base + spread * (float)(int32_t)(seed >> 32) * 0x1p-31f;
        if (f->shape.bf16) { /* what BF16 holds, so that both forms mean the same */
            uint32_t bits;
            memcpy(&bits, &t->values[i], 4);
            bits &= 0xffff0000;
            memcpy(&t->values[i], &bits, 4);
        }
    }
}

static inline void fixture_add_layer(struct model_fixture *f, uint32_t layer) {
    const struct model_shape *s = &f->shape;
    uint32_t q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim;
    const struct {
        const char *gguf, *hf;
        uint32_t rows, cols, rotary_heads;
        float base, spread;
        const char *arch;
    } parts[] = {
        {"attn_norm.weight", "input_layernorm.weight", 0, s->hidden, 0, 1, 0.2f, NULL},
        {"attn_q.weight", "self_attn.q_proj.weight", q, s->hidden, s->heads, 0, 0.3f, NULL},
        {"attn_k.weight", "self_attn.k_proj.weight", kv, s->hidden, s->kv_heads, 0, 0.3f, NULL},
        {"attn_v.weight", "self_attn.v_proj.weight", kv, s->hidden, 0, 0, 0.3f, NULL},
        {"attn_q.bias", "self_attn.q_proj.bias", 0, q, 0, 0, 0.3f, "qwen2"},
        {"attn_k.bias", "self_attn.k_proj.bias", 0, kv, 0, 0, 0.3f, "qwen2"},
        {"attn_v.bias", "self_attn.v_proj.bias", 0, kv, 0, 0, 0.3f, "qwen2"},
        {"attn_q_norm.weight", "self_attn.q_norm.weight", 0, s->head_dim, 0, 1, 0.2f, "qwen3"},
        {"attn_k_norm.weight", "self_attn.k_norm.weight", 0, s->head_dim, 0, 1, 0.2f, "qwen3"},
        {"attn_output.weight", "self_attn.o_proj.weight", s->hidden, q, 0, 0, 0.3f, NULL},
        {"ffn_norm.weight", "post_attention_layernorm.weight", 0, s->hidden, 0, 1, 0.2f, NULL},
        {"ffn_gate.weight", "mlp.gate_proj.weight", s->ffn, s->hidden, 0, 0, 0.3f, NULL},
        {"ffn_up.weight", "mlp.up_proj.weight", s->ffn, s->hidden, 0, 0, 0.3f, NULL},
        {"ffn_down.weight", "mlp.down_proj.weight", s->hidden, s->ffn, 0, 0, 0.3f, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        char gguf[64], hf[96];
        if (parts[i].arch && strcmp(parts[i].arch, s->arch) != 0)
            continue;
        snprintf(gguf, sizeof(gguf), "blk.%u.%s", layer, parts[i].gguf);
        snprintf(hf, sizeof(hf), "model.layers.%u.%s", layer, parts[i].hf);
        fixture_add(f, gguf, hf, parts[i].rows, parts[i].cols, parts[i].rotary_heads, parts[i].base,
                    parts[i].spread);
    }
}

static inline void model_fixture_init(struct model_fixture *f, struct model_shape shape) {
    *f = (struct model_fixture){.shape = shape};
    strcpy(f->dir, "/tmp/inferd-model-XXXXXX");
    ASSERT(mkdtemp(f->dir));
    fixture_add(f, "token_embd.weight", "model.embed_tokens.weight", shape.vocab, shape.hidden, 0,
                0, 1);
    for (uint32_t i = 0; i < shape.layers; i++)
        fixture_add_layer(f, i);
    fixture_add(f, "output_norm.weight", "model.norm.weight", 0, shape.hidden, 0, 1, 0.2f);
    if (!shape.tied)
        fixture_add(f, "output.weight", "lm_head.weight", shape.vocab, shape.hidden, 0, 0, 0.5f);
}

static inline void model_fixture_deinit(struct model_fixture *f) {
    static const char *const names[] = {
        "model.gguf",    "config.json",   "model.safetensors", "model.safetensors.index.json",
        "0.safetensors", "1.safetensors", "2.safetensors",     "generation_config.json",
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        AUTO_FREE char *path = mem_printf("%s/%s", f->dir, names[i]);
        unlink(path);
    }
    rmdir(f->dir);
    for (uint32_t i = 0; i < f->num_tensors; i++)
        free(f->tensors[i].values);
}

/* Gives the path. */
static inline char *fixture_write_file(const struct model_fixture *f, const char *name,
                                       const void *data, size_t len) {
    char *path = mem_printf("%s/%s", f->dir, name);
    FILE *file = fopen(path, "wb");
    ASSERT(file && fwrite(data, 1, len, file) == len && !fclose(file));
    return path;
}

/* ---- GGUF ---- */

/* Rows as Llama's GGUF converter orders them: the two halves of a head interleaved. */
static inline float *fixture_interleave(const struct model_fixture *f,
                                        const struct fixture_tensor *t) {
    float *out = mem_dup(t->values, (size_t)t->rows * t->cols * sizeof(float));
    uint32_t half = f->shape.head_dim / 2;
    for (uint32_t h = 0; h < t->rotary_heads; h++)
        for (uint32_t i = 0; i < half; i++)
            for (uint32_t j = 0; j < 2; j++)
                memcpy(out + (size_t)(2 * half * h + 2 * i + j) * t->cols,
                       t->values + (size_t)(2 * half * h + j * half + i) * t->cols,
                       t->cols * sizeof(float));
    return out;
}

/* Scales are powers of two, which F16 holds. */
static inline void fixture_q8_0(struct buf *b, const float *values, size_t len) {
    for (size_t i = 0; i < len; i += 32) {
        uint16_t d = 0x2000; /* 2^-7 */
        buf_append(b, &d, 2);
        for (size_t j = 0; j < 32; j++) {
            float q = roundf(values[i + j] * 128);
            buf_putc(b, (char)(int8_t)(q > 127 ? 127 : q < -127 ? -127 : q));
        }
    }
}

static inline void fixture_put_config(struct gguf_writer *w, const struct model_shape *s) {
    const struct {
        const char *key;
        uint32_t value;
    } sizes[] = {
        {"block_count", s->layers},
        {"embedding_length", s->hidden},
        {"feed_forward_length", s->ffn},
        {"context_length", 512},
        {"attention.head_count", s->heads},
        {"attention.head_count_kv", s->kv_heads},
        {"attention.key_length", s->head_dim},
        {"attention.value_length", s->head_dim},
    };
    char key[96];
    gguf_put_string(w, "general.architecture", s->arch);
    gguf_put_string(w, "general.name", "fixture");
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        snprintf(key, sizeof(key), "%s.%s", s->arch, sizes[i].key);
        gguf_put_u32(w, key, sizes[i].value);
    }
    snprintf(key, sizeof(key), "%s.attention.layer_norm_rms_epsilon", s->arch);
    gguf_put_f32(w, key, 1e-5f);
    snprintf(key, sizeof(key), "%s.attention.sliding_window", s->arch);
    if (s->window)
        gguf_put_u32(w, key, s->window);
}

/* Fills a writer that the caller may add to before gguf_writer_finish(). */
static inline void fixture_fill_gguf(const struct model_fixture *f, struct gguf_writer *w) {
    gguf_writer_init(w);
    fixture_put_config(w, &f->shape);
    for (uint32_t i = 0; i < f->num_tensors; i++) {
        const struct fixture_tensor *t = &f->tensors[i];
        bool llama = !strcmp(f->shape.arch, "llama");
        AUTO_FREE float *turned = t->rotary_heads && llama ? fixture_interleave(f, t) : NULL;
        const float *values = turned ? turned : t->values;
        size_t len = (size_t)(t->rows ? t->rows : 1) * t->cols;
        AUTO_BUF packed = BUF_INIT;
        bool q8_0 = f->shape.q8_0 && t->rows;
        if (q8_0)
            fixture_q8_0(&packed, values, len);
        else
            buf_append(&packed, values, len * sizeof(float));
        gguf_put_tensor(w, t->gguf, q8_0 ? DTYPE_Q8_0 : DTYPE_F32, t->rows ? 2 : 1,
                        (const uint64_t[]){t->cols, t->rows}, packed.data, packed.len);
    }
}

/* Gives the path of the file. */
static inline char *fixture_write_gguf(const struct model_fixture *f) {
    struct gguf_writer w;
    fixture_fill_gguf(f, &w);
    gguf_writer_finish(&w);
    char *path = fixture_write_file(f, "model.gguf", w.file.data, w.file.len);
    gguf_writer_deinit(&w);
    return path;
}

/* ---- Hugging Face ---- */

static inline void fixture_write_config(const struct model_fixture *f) {
    const struct model_shape *s = &f->shape;
    AUTO_BUF b = BUF_INIT;
    buf_printf(&b,
               "{\"model_type\": \"%s\", %s \"hidden_size\": %u, \"num_hidden_layers\": %u, "
               "\"num_attention_heads\": %u, \"num_key_value_heads\": %u, \"head_dim\": %u, "
               "\"intermediate_size\": %u, \"vocab_size\": %u, \"max_position_embeddings\": 512, "
               "\"rms_norm_eps\": 1e-5, \"tie_word_embeddings\": %s}",
               s->arch, s->extra_config ? s->extra_config : "", s->hidden, s->layers, s->heads,
               s->kv_heads, s->head_dim, s->ffn, s->vocab, s->tied ? "true" : "false");
    free(fixture_write_file(f, "config.json", b.data, b.len));
}

/* The tensors whose number is `shard` modulo num_shards. */
static inline void fixture_write_shard(const struct model_fixture *f, uint32_t shard,
                                       uint32_t num_shards, const char *name) {
    AUTO_BUF header = BUF_INIT;
    AUTO_BUF data = BUF_INIT;
    AUTO_BUF file = BUF_INIT;
    buf_puts(&header, "{\"__metadata__\": {\"format\": \"pt\"}");
    for (uint32_t i = shard; i < f->num_tensors; i += num_shards) {
        const struct fixture_tensor *t = &f->tensors[i];
        size_t len = (size_t)(t->rows ? t->rows : 1) * t->cols, start = data.len;
        if (f->shape.bf16)
            for (size_t j = 0; j < len; j++)
                buf_append(&data, (const char *)&t->values[j] + 2, 2);
        else
            buf_append(&data, t->values, len * sizeof(float));
        buf_printf(&header, ", \"%s\": {\"dtype\": \"%s\", \"shape\": [", t->hf,
                   f->shape.bf16 ? "BF16" : "F32");
        if (t->rows)
            buf_printf(&header, "%u, ", t->rows);
        buf_printf(&header, "%u], \"data_offsets\": [%zu, %zu]}", t->cols, start, data.len);
    }
    buf_putc(&header, '}');
    uint64_t len = header.len;
    buf_append(&file, &len, 8);
    buf_append(&file, header.data, header.len);
    buf_append(&file, data.data, data.len);
    free(fixture_write_file(f, name, file.data, file.len));
}

/* Writes everything into f->dir. */
static inline void fixture_write_dir(const struct model_fixture *f) {
    uint32_t num_shards = f->shape.num_shards;
    AUTO_BUF index = BUF_INIT;
    fixture_write_config(f);
    if (!num_shards)
        return fixture_write_shard(f, 0, 1, "model.safetensors");
    buf_puts(&index, "{\"weight_map\": {");
    for (uint32_t i = 0; i < f->num_tensors; i++)
        buf_printf(&index, "%s\"%s\": \"%u.safetensors\"", i ? ", " : "", f->tensors[i].hf,
                   i % num_shards);
    buf_puts(&index, "}}");
    free(fixture_write_file(f, "model.safetensors.index.json", index.data, index.len));
    for (uint32_t i = 0; i < num_shards; i++) {
        char name[32];
        snprintf(name, sizeof(name), "%u.safetensors", i);
        fixture_write_shard(f, i, num_shards, name);
    }
}

#endif
