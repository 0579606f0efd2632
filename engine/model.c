/* Opening a model: find out what the path is, read the configuration, bind the weights, load the
 * tokenizer. A model owns the mapping of its file, so everything that points into it lives as long
 * as the model. */
#include "engine/model.h"

#include <inttypes.h>
#include <sys/stat.h>

#include "core/base/buf.h"
#include "engine/embedded.h"
#include "engine/file_map.h"
#include "engine/gguf.h"
#include "engine/gguf_config.h"
#include "engine/hf_config.h"
#include "engine/model_spec.h"
#include "engine/safetensors.h"
#include "engine/tensor_source.h"
#include "engine/tokenizer.h"
#include "engine/weights.h"

struct model {
    struct model_spec spec;
    struct model_generation generation;
    struct weights *weights;
    struct tokenizer *tokenizer; /* NULL: the model brings none */
    struct gguf *gguf;           /* one of the two */
    struct safetensors *safetensors;
    struct arena *arena;
};

/* The GGUF at a path, or the one that is linked into this program. */
static enum errc open_gguf_file(const char *path, struct gguf **ret_g, struct error *err) {
    const struct embedded *e = NULL;
    size_t scheme_len = strlen(EMBEDDED_SCHEME);
    if (strncmp(path, EMBEDDED_SCHEME, scheme_len) != 0)
        return gguf_open(path, ret_g, err);
    if (embedded_find(path + scheme_len, &e, err))
        return err->code;
    return gguf_open_memory(path, e->start, (size_t)(e->end - e->start), ret_g, err);
}

static enum errc open_gguf(struct model *m, const char *path, struct error *err) {
    struct tensor_source source;
    if (open_gguf_file(path, &m->gguf, err) || gguf_config_read(m->gguf, &m->spec, err))
        return err->code;
    gguf_config_tensors(m->gguf, m->arena, &source);
    if (weights_create(&m->spec, &source, WEIGHTS_GGUF, &m->weights, err))
        return err->code;
    enum errc rc = tokenizer_from_gguf(m->gguf, &m->tokenizer, err);
    return rc == ERR_NOT_FOUND ? OK : rc;
}

static enum errc open_dir(struct model *m, const char *dir, struct error *err) {
    if (hf_config_read(dir, &m->spec, err) || hf_config_read_generation(dir, &m->generation, err) ||
        safetensors_open_dir(dir, &m->safetensors, err) ||
        weights_create(&m->spec, safetensors_tensors(m->safetensors), WEIGHTS_HUGGING_FACE,
                       &m->weights, err))
        return err->code;
    enum errc rc = tokenizer_from_dir(dir, &m->tokenizer, err);
    return rc == ERR_NOT_FOUND ? OK : rc;
}

static bool is_dir(const char *path) {
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

enum errc model_open(const char *path, struct model **ret_m, struct error *err) {
    AUTO(model) m = mem_alloc(sizeof(*m));
    m->arena = arena_create();
    m->generation = (struct model_generation){-1, -1, -1, -1, -1};
    model_spec_init(&m->spec);
    if (is_dir(path) ? open_dir(m, path, err) : open_gguf(m, path, err))
        return err->code;
    m->spec.config.weights_type = m->weights->type_name;
    m->spec.config.num_parameters = m->weights->num_parameters;
    m->spec.config.weights_bytes = m->weights->bytes;
    *ret_m = steal(m);
    return OK;
}

void model_close(struct model *m) {
    if (!m)
        return;
    tokenizer_destroy(m->tokenizer);
    weights_destroy(m->weights);
    gguf_close(m->gguf);
    safetensors_close(m->safetensors);
    arena_destroy(m->arena);
    model_spec_deinit(&m->spec);
    free(m);
}

enum errc model_open_tokenizer(const char *path, struct tokenizer **ret_tk, struct error *err) {
    AUTO(gguf) g = NULL;
    if (is_dir(path))
        return tokenizer_from_dir(path, ret_tk, err);
    if (open_gguf_file(path, &g, err))
        return err->code;
    return tokenizer_from_gguf(g, ret_tk, err);
}

/* The files of the weights; none of a model in this program. */
static const struct file_map *weights_files(const struct model *m, uint32_t *ret_num) {
    if (m->safetensors)
        return safetensors_files(m->safetensors, ret_num);
    const struct file_map *file = gguf_file(m->gguf);
    *ret_num = file ? 1 : 0;
    return file;
}

void model_identify(const struct model *m, struct buf *out) {
    uint32_t num;
    const struct file_map *files = weights_files(m, &num);
    if (!num)
        buf_printf(out, "model %s\n", gguf_path(m->gguf));
    for (uint32_t i = 0; i < num; i++) {
        const struct file_identity *id = &files[i].identity;
        buf_printf(out,
                   "file %s device=%" PRIu64 " inode=%" PRIu64 " bytes=%" PRIu64
                   " modified=%" PRId64 " changed=%" PRId64 "\n",
                   files[i].path, id->device, id->inode, id->bytes, id->modified_ns,
                   id->changed_ns);
    }
}

bool model_is_settled(const struct model *m, int64_t wall_ms) {
    uint32_t num;
    const struct file_map *files = weights_files(m, &num);
    for (uint32_t i = 0; i < num; i++) {
        if (!file_map_is_settled(&files[i], wall_ms))
            return false;
    }
    return true;
}

const struct model_config *model_config(const struct model *m) {
    return &m->spec.config;
}

const struct tokenizer *model_tokenizer(const struct model *m) {
    return m->tokenizer;
}

const struct model_generation *model_generation(const struct model *m) {
    return &m->generation;
}

const struct weights *model_weights(const struct model *m) {
    return m->weights;
}
