/* The engine on a real model: a runner behind the engine's backend. */
#include "engine/engine_backend.h"

#include "engine/cpu/kernels.h"
#include "engine/model.h"
#include "engine/tokenizer.h"
#include "engine/weights_share.h"

struct model_backend {
    const struct model *model;
    struct runner *runner;
};

static uint64_t kv_block_bytes(void *ctx, uint32_t block_size) {
    struct model_backend *mb = ctx;
    return runner_kv_block_bytes(model_config(mb->model), block_size);
}

static bool is_eog(void *ctx, int32_t id) {
    struct model_backend *mb = ctx;
    const struct tokenizer *tk = model_tokenizer(mb->model);
    return (uint32_t)id < tokenizer_vocab_size(tk) && tokenizer_is_eog(tk, id);
}

static enum errc open_runner(void *ctx, const struct runner_options *opt, struct error *err) {
    struct model_backend *mb = ctx;
    return runner_create(mb->model, opt, &mb->runner, err);
}

static void forward(void *ctx, const struct runner_batch *b, float *logits) {
    struct model_backend *mb = ctx;
    runner_forward(mb->runner, b, logits);
}

static void close_runner(void *ctx) {
    struct model_backend *mb = ctx;
    runner_destroy(mb->runner);
    free(mb);
}

/* Memory that weights will take: none when somebody has them already. */
static uint64_t ask_for_weights(const struct model *m, const struct engine_options *opt) {
    uint64_t bytes = runner_model_bytes(m);
    if (!opt->share || opt->reference || !bytes)
        return bytes;
    weights_share_ask(opt->share, m, cpu_kernels_best()->name, bytes);
    return weights_share_found(opt->share) ? 0 : bytes;
}

enum errc engine_create(const struct model *m, const struct engine_options *opt,
                        struct engine **ret_e, struct error *err) {
    struct model_backend *mb = mem_alloc(sizeof(*mb));
    mb->model = m;
    struct engine_backend be = {
        .vocab_size = model_config(m)->vocab_size,
        .context_length = model_config(m)->context_length,
        .weights_bytes = ask_for_weights(m, opt),
        .kv_block_bytes = kv_block_bytes,
        .is_eog = is_eog,
        .open = open_runner,
        .forward = forward,
        .close = close_runner,
        .ctx = mb,
    };
    return engine_create_on(&be, opt, ret_e, err);
}
