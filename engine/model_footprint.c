/* The headers of a model, added up.
 *
 *   tensor                 in memory
 *   a layer's matrix       packed, beside a file whose pages are let go; or pages of the file
 *   embedding              pages of the file: rows are looked up, all of them in the long run
 *   head                   as a layer's matrix, also when it is the embedding (tied)
 *   norms, biases          copied as F32
 *
 * Which of the two forms a matrix takes is the processor's and the options' affair: both are told
 * (memory_need.c chooses). Names are looked at no closer than that; whether all tensors are there
 * and have the right shape is seen when the model is opened. */
#include "engine/model_footprint.h"

#include <sys/stat.h>

#include "engine/cpu/dtype.h"
#include "engine/cpu/packed.h"
#include "engine/embedded.h"
#include "engine/gguf.h"
#include "engine/gguf_config.h"
#include "engine/hf_config.h"
#include "engine/model_spec.h"
#include "engine/safetensors.h"
#include "engine/tensor_source.h"
#include "engine/tokenizer_bpe.h"
#include "engine/tokenizer_vocab.h"

/* Of a directory, whose tokenizer is not opened: what a token's spelling takes, on average of the
 * vocabularies of Llama 3 and Qwen. */
enum { HF_TOKEN_BYTES = 8 };

static const char *const embedding_names[] = {"token_embd.weight", "model.embed_tokens.weight"};
static const char *const head_names[] = {"output.weight", "lm_head.weight"};

static bool among(const char *name, const char *const names[2]) {
    return !strcmp(name, names[0]) || !strcmp(name, names[1]);
}

static void add_matrix(struct model_footprint *f, const struct source_tensor *t) {
    uint64_t packed = packed_bytes((enum dtype)t->type, (uint32_t)t->dims[1], (uint32_t)t->dims[0]);
    f->packed_bytes += packed;
    f->packable_bytes += packed ? t->bytes : 0;
    f->mapped_bytes += packed ? 0 : t->bytes;
}

/* The embedding is looked up in the file, and is the head as well when there is no other. */
static void add_embedding(struct model_footprint *f, const struct source_tensor *t, bool is_head) {
    f->mapped_bytes += t->bytes;
    if (is_head)
        f->packed_bytes +=
            packed_bytes((enum dtype)t->type, (uint32_t)t->dims[1], (uint32_t)t->dims[0]);
}

static enum errc add_tensors(struct model_footprint *f, const struct model_spec *spec,
                             const struct tensor_source *source, struct error *err) {
    bool directory = false, embedding = false, head = false;
    for (uint32_t i = 0; i < source->num_tensors; i++) {
        embedding = embedding || among(source->tensors[i].name, embedding_names);
        head = head || among(source->tensors[i].name, head_names);
        directory = directory || !strcmp(source->tensors[i].name, embedding_names[1]);
    }
    /* A directory that ties them may hold both: then the embedding counts. */
    bool ignores_head = directory && spec->tied && embedding;
    for (uint32_t i = 0; i < source->num_tensors; i++) {
        const struct source_tensor *t = &source->tensors[i];
        if (!t->data || t->dims[0] > UINT32_MAX || t->dims[1] > UINT32_MAX)
            return err_set(
                err, ERR_INVALID,
                "%s: tensor %s, type %s: not supported; these types are: " DTYPE_SUPPORTED, t->path,
                t->name, t->type_name);
        f->file_bytes += t->bytes;
        if (t->dims[1] <= 1)
            f->vector_bytes += t->dims[0] * sizeof(float);
        else if (among(t->name, embedding_names))
            add_embedding(f, t, !head || ignores_head);
        else if (!among(t->name, head_names) || !ignores_head)
            add_matrix(f, t);
    }
    return OK;
}

/* The next power of two that a table of this many takes, in slots of four bytes. */
static uint64_t table_bytes(uint64_t num) {
    uint64_t slots = 16;
    while (slots < num)
        slots *= 2;
    return slots * sizeof(uint32_t);
}

static uint64_t tokenizer_bytes(uint64_t num_tokens, uint64_t text_bytes, uint64_t num_merges) {
    return num_tokens * (sizeof(struct vocab_token) + sizeof(float)) + text_bytes +
           table_bytes(2 * num_tokens) + num_merges * sizeof(struct bpe_merge) +
           table_bytes(num_merges + num_merges / 2);
}

/* What a list of strings in the metadata holds; ret_text NULL: its text is not kept. */
static uint64_t count_strings(const struct gguf *g, const char *key, uint64_t *ret_text) {
    struct gguf_array list;
    struct error none = ERROR_INIT;
    if (gguf_get_strings(g, key, &list, &none))
        return 0;
    for (uint64_t i = 0; ret_text && i < list.len; i++)
        *ret_text += gguf_array_string(&list, i).len;
    return list.len;
}

static enum errc read_gguf(const char *path, struct model_spec *spec, struct arena *arena,
                           struct model_footprint *f, struct error *err) {
    AUTO(gguf) g = NULL;
    const struct embedded *e = NULL;
    struct tensor_source source;
    size_t scheme_len = strlen(EMBEDDED_SCHEME);
    bool inside = !strncmp(path, EMBEDDED_SCHEME, scheme_len);
    if (inside && embedded_find(path + scheme_len, &e, err))
        return err->code;
    if (inside ? gguf_open_memory(path, e->start, (size_t)(e->end - e->start), &g, err)
               : gguf_open_head(path, &g, err))
        return err->code;
    if (gguf_config_read(g, spec, err))
        return err->code;
    gguf_config_tensors(g, arena, &source);
    uint64_t text = 0, num_tokens = count_strings(g, "tokenizer.ggml.tokens", &text);
    uint64_t num_merges = count_strings(g, "tokenizer.ggml.merges", NULL);
    /* Every string's place is kept, and the pages where they stand were looked at. */
    f->tokenizer_bytes = tokenizer_bytes(num_tokens, 2 * text, num_merges) + gguf_head_bytes(g) +
                         (num_tokens + num_merges) * sizeof(uint64_t);
    return add_tensors(f, spec, &source, err);
}

static enum errc read_dir(const char *dir, struct model_spec *spec, struct model_footprint *f,
                          struct error *err) {
    AUTO(safetensors) st = NULL;
    if (hf_config_read(dir, spec, err) || safetensors_open_dir_head(dir, &st, err))
        return err->code;
    uint64_t num_tokens = spec->config.vocab_size;
    f->tokenizer_bytes = tokenizer_bytes(num_tokens, 2 * HF_TOKEN_BYTES * num_tokens, num_tokens);
    return add_tensors(f, spec, safetensors_tensors(st), err);
}

enum errc model_footprint_read(const char *path, struct model_footprint *ret_f, struct error *err) {
    struct model_footprint f = {0};
    struct model_spec *spec = mem_alloc(sizeof(*spec));
    struct arena *arena = arena_create();
    struct stat st;
    model_spec_init(spec);
    bool dir = !stat(path, &st) && S_ISDIR(st.st_mode);
    enum errc rc = dir ? read_dir(path, spec, &f, err) : read_gguf(path, spec, arena, &f, err);
    if (!rc) {
        f.config = spec->config;
        f.config.name = NULL;
        *ret_f = f;
    }
    model_spec_deinit(spec);
    free(spec);
    arena_destroy(arena);
    return rc;
}
