/* What the engine runs on: a model's figures and a way to turn a step's tokens into logits. Two
 * implementations: a runner for a model (model_backend.c) and the fake of engine_test.c. */
#ifndef ENGINE_ENGINE_BACKEND_H
#define ENGINE_ENGINE_BACKEND_H

#include "engine/engine.h"
#include "engine/runner.h"

struct engine_backend {
    uint32_t vocab_size, context_length;
    uint64_t weights_bytes; /* of memory that open() takes for weights */
    uint64_t (*kv_block_bytes)(void *ctx, uint32_t block_size);
    bool (*is_eog)(void *ctx, int32_t id);
    /* Takes the memory for `opt`; called once. ERR_EXHAUSTED: there is not enough. */
    enum errc (*open)(void *ctx, const struct runner_options *opt, struct error *err);
    void (*forward)(void *ctx, const struct runner_batch *b, float *logits); /* engine thread */
    void (*close)(void *ctx); /* frees ctx too; called once, opened or not */
    void *ctx;
};

/* As engine_create(); takes the backend, whatever the outcome. */
MUST_CHECK enum errc engine_create_on(const struct engine_backend *be,
                                      const struct engine_options *opt, struct engine **ret_e,
                                      struct error *err);

#endif
