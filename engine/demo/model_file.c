/* Checkpoints, and a reader for exactly the GGUF files that export.py writes.
 *
 * GGUF v3, little endian: "GGUF", u32 version, u64 tensors, u64 keys; then per key: string, u32
 * type, value; then per tensor: string, u32 dimensions, u64 each, u32 type, u64 offset; then,
 * aligned to 32, the data. Strings are u64 length and bytes. Q8_0 is, per 32 weights, a
 * half-precision scale and 32 signed bytes. The engine has its own, careful loader; this one exists
 * so that the examination after quantization runs on the shipped bytes, and stops at anything
 * unexpected. */
#include "engine/demo/model_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char magic[8] = "DEMOCKPT";

static float *new_floats(size_t n) {
    float *p = calloc(n, sizeof *p);

    if (!p)
        abort();
    return p;
}

bool checkpoint_save(const char *path, const struct net *n, const struct optimizer *o) {
    char partial[4096];
    snprintf(partial, sizeof partial, "%s.partial", path);
    FILE *f = fopen(partial, "wb");
    if (!f)
        return false;
    size_t size = n->num_weights;
    bool ok = fwrite(magic, sizeof magic, 1, f) == 1 &&
              fwrite(&n->shape, sizeof n->shape, 1, f) == 1 &&
              fwrite(&o->step, sizeof o->step, 1, f) == 1 &&
              fwrite(n->w, sizeof(float), size, f) == size &&
              fwrite(o->m, sizeof(float), size, f) == size &&
              fwrite(o->v, sizeof(float), size, f) == size;
    return !fclose(f) && ok && !rename(partial, path);
}

bool checkpoint_load(const char *path, struct net *n, struct optimizer *o) {
    char begin[8];
    struct net_shape shape;
    int64_t step;
    FILE *f = fopen(path, "rb");

    if (!f)
        return false;
    bool ok = fread(begin, sizeof begin, 1, f) == 1 && !memcmp(begin, magic, sizeof magic) &&
              fread(&shape, sizeof shape, 1, f) == 1 && fread(&step, sizeof step, 1, f) == 1;
    if (ok) {
        net_init(n, &shape);
        size_t size = n->num_weights;
        ok = fread(n->w, sizeof(float), size, f) == size;
        if (o) {
            *o = (struct optimizer){.step = step, .m = new_floats(size), .v = new_floats(size)};
            ok = ok && fread(o->m, sizeof(float), size, f) == size &&
                 fread(o->v, sizeof(float), size, f) == size;
        }
    }
    fclose(f);
    return ok;
}

/* A cursor over the file in memory. Past the end everything reads as zero. */
struct cursor {
    const unsigned char *data;
    size_t size, at;
};

static uint64_t take(struct cursor *c, size_t bytes) {
    uint64_t v = 0;

    if (bytes <= sizeof v && c->at + bytes <= c->size)
        memcpy(&v, c->data + c->at, bytes);
    c->at += bytes;
    return v;
}

static void take_string(struct cursor *c, char *into, size_t size) {
    size_t len = take(c, 8);

    into[0] = '\0';
    if (len < size && c->at + len <= c->size) {
        memcpy(into, c->data + c->at, len);
        into[len] = '\0';
    }
    c->at += len;
}

enum { GGUF_U32 = 4, GGUF_STRING = 8, GGUF_ARRAY = 9, GGML_F32 = 0, GGML_Q8_0 = 8 };

static size_t scalar_bytes(uint32_t type) {
    static const unsigned char bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type < sizeof bytes ? bytes[type] : 0;
}

static void skip_value(struct cursor *c, uint32_t type) {
    if (type == GGUF_STRING) {
        c->at += take(c, 8);
    } else if (type == GGUF_ARRAY) {
        uint32_t of = (uint32_t)take(c, 4);
        for (uint64_t i = take(c, 8); i > 0 && c->at < c->size; i--)
            skip_value(c, of);
    } else {
        c->at += scalar_bytes(type);
    }
}

static void take_key(struct cursor *c, struct net_shape *s) {
    char key[256];
    take_string(c, key, sizeof key);
    uint32_t type = (uint32_t)take(c, 4);
    if (type != GGUF_U32) {
        skip_value(c, type);
        return;
    }
    struct {
        const char *key;
        int32_t *into;
    } wanted[] = {
        {"llama.vocab_size", &s->vocab},
        {"llama.embedding_length", &s->dim},
        {"llama.block_count", &s->layers},
        {"llama.attention.head_count", &s->heads},
        {"llama.attention.head_count_kv", &s->kv_heads},
        {"llama.feed_forward_length", &s->ff},
        {"llama.context_length", &s->context},
    };
    int32_t value = (int32_t)take(c, 4);
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (!strcmp(key, wanted[i].key))
            *wanted[i].into = value;
}

/* Where a tensor's weights go in the flat array, -1: no such tensor. */
static long place_of(const struct net *n, const char *name) {
    const struct net_shape *s = &n->shape;
    size_t d = s->dim, head = NET_HEAD_DIM * d;
    int l, used = 0;

    if (!strcmp(name, "token_embd.weight"))
        return (long)n->embd;
    if (!strcmp(name, "output_norm.weight"))
        return (long)n->out_norm;
    if (sscanf(name, "blk.%d.%n", &l, &used) != 1 || l < 0 || l >= s->layers)
        return -1;
    const struct net_layer *y = &n->layer[l];
    const struct {
        const char *name;
        size_t at;
    } parts[] = {
        {"attn_norm.weight", y->attn_norm},
        {"attn_q.weight", y->qkv},
        {"attn_k.weight", y->qkv + s->heads * head},
        {"attn_v.weight", y->qkv + (s->heads + s->kv_heads) * head},
        {"attn_output.weight", y->out},
        {"ffn_norm.weight", y->ff_norm},
        {"ffn_gate.weight", y->gate_up},
        {"ffn_up.weight", y->gate_up + s->ff * d},
        {"ffn_down.weight", y->down},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strcmp(name + used, parts[i].name))
            return (long)parts[i].at;
    return -1;
}

static void take_weights(struct cursor *c, uint32_t type, float *w, size_t n) {
    _Float16 scale = 1;

    for (size_t i = 0; i < n; i++) {
        if (type == GGML_F32) {
            uint32_t bits = (uint32_t)take(c, 4);
            memcpy(&w[i], &bits, sizeof bits);
            continue;
        }
        if (i % 32 == 0) {
            uint16_t bits = (uint16_t)take(c, 2);
            memcpy(&scale, &bits, sizeof bits);
        }
        w[i] = (float)scale * (int8_t)take(c, 1);
    }
}

static bool take_tensors(struct cursor *c, struct net *n, uint64_t num_tensors) {
    struct cursor data = *c;

    for (uint64_t i = 0; i < num_tensors; i++) { /* once to find where the data begins */
        data.at += take(&data, 8);
        data.at += 8 * take(&data, 4) + 4 + 8;
    }
    size_t base = (data.at + 31) / 32 * 32;
    for (uint64_t i = 0; i < num_tensors; i++) {
        char name[256];
        size_t count = 1;
        take_string(c, name, sizeof name);
        for (uint64_t dims = take(c, 4); dims > 0; dims--)
            count *= take(c, 8);
        uint32_t type = (uint32_t)take(c, 4);
        data.at = base + take(c, 8);
        long place = place_of(n, name);
        if (place < 0 || place + count > n->num_weights ||
            (type != GGML_F32 && type != GGML_Q8_0)) {
            fprintf(stderr, "unexpected tensor %s, type %u\n", name, type);
            return false;
        }
        take_weights(&data, type, n->w + place, count);
    }
    return data.at <= data.size;
}

bool gguf_load(const char *path, struct net *n) {
    FILE *f = fopen(path, "rb");
    if (!f)
        return false;
    static unsigned char data[16 << 20];
    struct cursor c = {.data = data, .size = fread(data, 1, sizeof data, f)};
    fclose(f);
    struct net_shape shape = {0};
    if (take(&c, 4) != 0x46554747 || take(&c, 4) != 3)
        return false;
    uint64_t num_tensors = take(&c, 8);
    for (uint64_t keys = take(&c, 8); keys > 0; keys--)
        take_key(&c, &shape);
    if (shape.dim <= 0 || shape.layers <= 0 || shape.layers > NET_LAYERS_MAX || c.at > c.size)
        return false;
    net_init(n, &shape);
    return take_tensors(&c, n, num_tensors);
}
