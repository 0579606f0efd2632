/* Opening a model: find out what the path is, read the configuration, bind the weights, load the
 * tokenizer. A model owns the mapping of its file, so everything that points into it lives as long
 * as the model. */
#include "engine/model.h"

#include <sys/stat.h>

#include "engine/gguf.h"
#include "engine/gguf_config.h"
#include "engine/model_spec.h"
#include "engine/tensor_source.h"
#include "engine/tokenizer.h"
#include "engine/weights.h"

struct model {
    struct model_spec spec;
    struct model_generation generation;
    struct weights *weights;
    struct tokenizer *tokenizer; /* NULL: the model brings none */
    struct gguf *gguf;
    struct arena *arena;
};

static enum errc open_gguf(struct model *m, const char *path, struct error *err) {
    struct tensor_source source;
    if (gguf_open(path, &m->gguf, err) || gguf_config_read(m->gguf, &m->spec, err))
        return err->code;
    gguf_config_tensors(m->gguf, m->arena, &source);
    if (weights_create(&m->spec, &source, WEIGHTS_GGUF, &m->weights, err))
        return err->code;
    enum errc rc = tokenizer_from_gguf(m->gguf, &m->tokenizer, err);
    return rc == ERR_NOT_FOUND ? OK : rc;
}

enum errc model_open(const char *path, struct model **ret_m, struct error *err) {
    AUTO(model) m = mem_alloc(sizeof(*m));
    m->arena = arena_create();
    m->generation = (struct model_generation){-1, -1, -1, -1, -1};
    model_spec_init(&m->spec);
    if (open_gguf(m, path, err))
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
    arena_destroy(m->arena);
    model_spec_deinit(&m->spec);
    free(m);
}

enum errc model_open_tokenizer(const char *path, struct tokenizer **ret_tk, struct error *err) {
    AUTO(gguf) g = NULL;
    if (gguf_open(path, &g, err))
        return err->code;
    return tokenizer_from_gguf(g, ret_tk, err);
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
