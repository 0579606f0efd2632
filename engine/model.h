/* Model: an opened model file (GGUF, or a Hugging Face directory): what it is, where its tensors
 * are, and how its tokens are spelled. Weights stay mapped, read-only; every offset and size was
 * checked against the file when model_open() returns OK. Immutable afterwards. */
#ifndef ENGINE_MODEL_H
#define ENGINE_MODEL_H

#include "core/base/mem.h"

struct buf;
struct model;
struct tokenizer;

enum model_arch { MODEL_LLAMA, MODEL_QWEN2, MODEL_QWEN3 };

struct model_config {
    enum model_arch arch;
    const char *arch_name;    /* "llama" */
    const char *name;         /* general.name or the directory's; never NULL */
    const char *weights_type; /* "Q8_0", "BF16", "Q4_K_M", the commonest type of the matrices */
    uint32_t num_layers;      /* L */
    uint32_t hidden;          /* D */
    uint32_t num_heads;       /* H */
    uint32_t num_kv_heads;    /* Hkv */
    uint32_t head_dim;        /* Dh */
    uint32_t rope_dim;
    uint32_t ffn_hidden;
    uint32_t vocab_size;     /* V */
    uint32_t context_length; /* trained positions */
    float rms_eps, rope_theta;
    uint64_t num_parameters;
    uint64_t weights_bytes;
};

/* path: a .gguf file, a directory with config.json, or "embedded://NAME" (models in this program).
 * Errors name file, tensor and offset: ERR_NOT_FOUND, ERR_MALFORMED (truncated, lying), ERR_INVALID
 * (architecture or type that is not supported, with the list of those that are). */
MUST_CHECK enum errc model_open(const char *path, struct model **ret_m, struct error *err);
void model_close(struct model *m);
DEFINE_AUTO(model, model_close)

/* Vocabulary-only files: the tokenizer alone, no tensors looked at. */
MUST_CHECK enum errc model_open_tokenizer(const char *path, struct tokenizer **ret_tk,
                                          struct error *err);

const struct model_config *model_config(const struct model *m);
const struct tokenizer *model_tokenizer(const struct model *m);

/* Appends what names the bytes of the weights: the path of each file, its device, inode, size and
 * times; of a model in this program only the path. Two models with the same text are the same. */
void model_identify(const struct model *m, struct buf *out);
/* Whether that still holds (file_map_is_settled() of every file). */
bool model_is_settled(const struct model *m, int64_t wall_ms);

/* Sampling defaults from generation_config.json; absent ones are negative. */
struct model_generation {
    float temperature, top_p, min_p, repetition_penalty;
    int32_t top_k;
};
const struct model_generation *model_generation(const struct model *m);

#endif
