/* A language model of a few thousand random weights, written as GGUF where a test wants it: enough
 * to run everything from the file to the token without any file from elsewhere. Its tokenizer
 * spells bytes. Only tests include it. */
#ifndef ENGINE_TINY_MODEL_H
#define ENGINE_TINY_MODEL_H

#include <stdio.h>

#include "engine/cpu/dtype.h"
#include "engine/gguf_writer.h"
#include "engine/philox.h"

enum {
    TINY_LAYERS = 2,
    TINY_HIDDEN = 32,
    TINY_HEADS = 4,
    TINY_KV_HEADS = 2,
    TINY_FFN = 64,
    TINY_VOCAB = 3 + 256, /* <unk> <s> </s>, then a token for each byte */
    TINY_CONTEXT = 256,
    TINY_BOS = 1,
    TINY_EOS = 2,
};

static inline void tiny_put_matrix(struct gguf_writer *w, const char *name, uint64_t columns,
                                   uint64_t rows, float gain) {
    static uint64_t seed;
    uint64_t dims[2] = {columns, rows}, n = columns * rows;
    AUTO_FREE float *data = mem_array(n, sizeof(data[0]));
    seed++;
    for (uint64_t i = 0; i < n; i++)
        data[i] = gain * (float)(philox_uniform(seed, i) - 0.5);
    gguf_put_tensor(w, name, DTYPE_F32, 2, dims, data, n * sizeof(data[0]));
}

static inline void tiny_put_ones(struct gguf_writer *w, const char *name) {
    float data[TINY_HIDDEN];
    for (int i = 0; i < TINY_HIDDEN; i++)
        data[i] = 1;
    gguf_put_tensor(w, name, DTYPE_F32, 1, (const uint64_t[]){TINY_HIDDEN}, data, sizeof(data));
}

static inline void tiny_put_tokenizer(struct gguf_writer *w) {
    char pieces[TINY_VOCAB][8] = {"<unk>", "<s>", "</s>"};
    const char *tokens[TINY_VOCAB];
    int32_t types[TINY_VOCAB] = {2, 3, 3}; /* unknown, control, control; 6: a byte */
    float scores[TINY_VOCAB] = {0};
    for (int i = 0; i < TINY_VOCAB; i++) {
        if (i > TINY_EOS) {
            snprintf(pieces[i], sizeof(pieces[i]), "<0x%02X>", (unsigned)(i - TINY_EOS - 1) & 0xff);
            types[i] = 6;
        }
        tokens[i] = pieces[i];
    }
    gguf_put_string(w, "tokenizer.ggml.model", "llama");
    gguf_put_strings(w, "tokenizer.ggml.tokens", TINY_VOCAB, tokens);
    gguf_put_array_header(w, "tokenizer.ggml.scores", 6, TINY_VOCAB);
    buf_append(&w->pairs, scores, sizeof(scores));
    gguf_put_i32s(w, "tokenizer.ggml.token_type", TINY_VOCAB, types);
    gguf_put_u32(w, "tokenizer.ggml.bos_token_id", TINY_BOS);
    gguf_put_u32(w, "tokenizer.ggml.eos_token_id", TINY_EOS);
}

static inline void tiny_put_layer(struct gguf_writer *w, int layer) {
    enum { KV = TINY_HIDDEN / TINY_HEADS * TINY_KV_HEADS };
    static const struct {
        const char *name;
        uint64_t columns, rows;
    } matrices[] = {
        {"attn_q", TINY_HIDDEN, TINY_HIDDEN}, {"attn_k", TINY_HIDDEN, KV},
        {"attn_v", TINY_HIDDEN, KV},          {"attn_output", TINY_HIDDEN, TINY_HIDDEN},
        {"ffn_gate", TINY_HIDDEN, TINY_FFN},  {"ffn_up", TINY_HIDDEN, TINY_FFN},
        {"ffn_down", TINY_FFN, TINY_HIDDEN},
    };
    char name[64];
    for (size_t i = 0; i < ARRAY_LEN(matrices); i++) {
        snprintf(name, sizeof(name), "blk.%d.%s.weight", layer, matrices[i].name);
        tiny_put_matrix(w, name, matrices[i].columns, matrices[i].rows, 1);
    }
    snprintf(name, sizeof(name), "blk.%d.attn_norm.weight", layer);
    tiny_put_ones(w, name);
    snprintf(name, sizeof(name), "blk.%d.ffn_norm.weight", layer);
    tiny_put_ones(w, name);
}

/* Writes the model to a new file and gives its path; the caller unlinks it. */
static inline char *tiny_model_write(void) {
    struct gguf_writer w;
    gguf_writer_init(&w);
    gguf_put_string(&w, "general.architecture", "llama");
    gguf_put_string(&w, "general.name", "tiny");
    gguf_put_u32(&w, "llama.context_length", TINY_CONTEXT);
    gguf_put_u32(&w, "llama.embedding_length", TINY_HIDDEN);
    gguf_put_u32(&w, "llama.block_count", TINY_LAYERS);
    gguf_put_u32(&w, "llama.feed_forward_length", TINY_FFN);
    gguf_put_u32(&w, "llama.attention.head_count", TINY_HEADS);
    gguf_put_u32(&w, "llama.attention.head_count_kv", TINY_KV_HEADS);
    gguf_put_u32(&w, "llama.rope.dimension_count", TINY_HIDDEN / TINY_HEADS);
    gguf_put_f32(&w, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    tiny_put_tokenizer(&w);
    tiny_put_matrix(&w, "token_embd.weight", TINY_HIDDEN, TINY_VOCAB, 2);
    for (int i = 0; i < TINY_LAYERS; i++)
        tiny_put_layer(&w, i);
    tiny_put_ones(&w, "output_norm.weight");
    tiny_put_matrix(&w, "output.weight", TINY_HIDDEN, TINY_VOCAB, 2);
    gguf_writer_finish(&w);

    char *path = mem_strdup("/tmp/inferd-tiny-XXXXXX.gguf");
    int fd = mkstemps(path, 5);
    ASSERT(fd >= 0);
    FILE *f = fdopen(fd, "wb");
    ASSERT(f && fwrite(w.file.data, 1, w.file.len, f) == w.file.len && !fclose(f));
    gguf_writer_deinit(&w);
    return path;
}

#endif
