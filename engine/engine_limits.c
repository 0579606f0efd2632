/* How large an engine becomes. The KV cache is what grows with everything: bytes = num_blocks *
 * bytes of a block. It must hold one context of max_model_len, or the longest request could never
 * finish; the default holds max_num_seqs / 4 of them, since few requests use all of theirs, and at
 * most half of the free memory. */
#include "engine/engine_limits.h"

#include <inttypes.h>

#include "core/base/engine_args.h"

enum {
    DEFAULT_NUM_SEQS = 64,
    DEFAULT_BATCHED_TOKENS = 512,
    DEFAULT_NUM_WAITING = 1024,
    DEFAULT_BLOCK_SIZE = 16,
    DEFAULT_PROMPT_LOGITS = 32,
    MODEL_LEN_MIN = 2, /* a prompt of one token and one token more */
};

void engine_options_of(const struct engine_args *args, struct engine_options *ret_opt) {
    *ret_opt = (struct engine_options){.max_model_len = args->max_model_len,
                                       .max_num_seqs = args->max_num_seqs,
                                       .max_num_batched_tokens = args->max_num_batched_tokens,
                                       .block_size = args->block_size,
                                       .kv_cache_bytes = args->kv_cache_bytes,
                                       .num_threads = args->num_threads,
                                       .disable_prefix_caching = args->disable_prefix_caching,
                                       .reference = args->reference,
                                       .seed = args->seed};
}

enum errc engine_limits_block_size(const struct engine_options *opt, uint32_t *ret_block_size,
                                   struct error *err) {
    uint32_t size = opt->block_size ? opt->block_size : DEFAULT_BLOCK_SIZE;
    if (size > ENGINE_BLOCK_SIZE_MAX || size & (size - 1))
        return err_field(err, ERR_INVALID, "block_size",
                         "block_size: %u is not a power of two up to %d", size,
                         ENGINE_BLOCK_SIZE_MAX);
    *ret_block_size = size;
    return OK;
}

/* The option, or its default; an error above its bound. */
static enum errc take(const char *field, uint32_t option, uint32_t otherwise, uint32_t max,
                      uint32_t *ret_value, struct error *err) {
    uint32_t value = option ? option : otherwise;
    if (value > max)
        return err_field(err, ERR_INVALID, field, "%s: %u is above %u", field, value, max);
    *ret_value = value;
    return OK;
}

static enum errc size_kv_cache(const struct engine_options *opt, const struct engine_site *site,
                               struct engine_limits *l, struct error *err) {
    uint64_t per_context = (l->max_model_len + l->block_size - 1) / l->block_size;
    uint64_t most = UINT32_MAX / l->block_size; /* slots are numbered in 32 bits */
    uint64_t bytes = opt->kv_cache_bytes ? opt->kv_cache_bytes : site->free_bytes / 2;
    uint64_t affordable = bytes / site->kv_block_bytes;
    if (affordable > most)
        affordable = most;
    if (affordable < per_context) {
        if (opt->max_model_len || affordable * l->block_size < MODEL_LEN_MIN)
            return err_field(err, ERR_EXHAUSTED,
                             opt->kv_cache_bytes ? "kv_cache_bytes" : "max_model_len",
                             "a context of %u tokens needs a KV cache of %" PRIu64
                             " MiB, there is room for %" PRIu64 " MiB (%" PRIu64
                             " tokens): lower max_model_len or give the cache more memory",
                             l->max_model_len, (per_context * site->kv_block_bytes + 1048575) >> 20,
                             bytes >> 20, affordable * l->block_size);
        l->max_model_len = (uint32_t)affordable * l->block_size;
        l->is_shortened = true;
        per_context = affordable;
    }
    uint64_t contexts = l->max_num_seqs / 4 ? l->max_num_seqs / 4 : 1;
    uint64_t wanted = opt->kv_cache_bytes ? affordable : contexts * per_context;
    l->num_blocks = (uint32_t)(wanted < affordable ? wanted : affordable);
    return OK;
}

enum errc engine_limits_resolve(const struct engine_options *opt, const struct engine_site *site,
                                struct engine_limits *ret_limits, struct error *err) {
    struct engine_limits l = {.max_num_prompt_logits = DEFAULT_PROMPT_LOGITS};
    uint32_t num_seqs = DEFAULT_NUM_SEQS;
    if (opt->max_num_batched_tokens && opt->max_num_batched_tokens < num_seqs)
        num_seqs = opt->max_num_batched_tokens;
    enum errc rc;
    if ((rc = engine_limits_block_size(opt, &l.block_size, err)) ||
        (rc = take("max_num_seqs", opt->max_num_seqs, num_seqs, ENGINE_NUM_SEQS_MAX,
                   &l.max_num_seqs, err)) ||
        (rc =
             take("max_num_batched_tokens", opt->max_num_batched_tokens,
                  l.max_num_seqs > DEFAULT_BATCHED_TOKENS ? l.max_num_seqs : DEFAULT_BATCHED_TOKENS,
                  ENGINE_BATCHED_TOKENS_MAX, &l.max_num_batched_tokens, err)) ||
        (rc = take("max_num_waiting", opt->max_num_waiting, DEFAULT_NUM_WAITING,
                   ENGINE_NUM_WAITING_MAX, &l.max_num_waiting, err)))
        return rc;
    if (l.max_num_batched_tokens < l.max_num_seqs)
        return err_field(err, ERR_INVALID, "max_num_batched_tokens",
                         "max_num_batched_tokens: %u is below max_num_seqs (%u)",
                         l.max_num_batched_tokens, l.max_num_seqs);
    if (opt->max_model_len > site->context_length)
        return err_field(err, ERR_INVALID, "max_model_len",
                         "max_model_len: %u is above the model's context length (%u)",
                         opt->max_model_len, site->context_length);
    l.max_model_len = opt->max_model_len ? opt->max_model_len : site->context_length;
    if (!opt->max_model_len && l.max_model_len > ENGINE_MODEL_LEN_MAX)
        l.max_model_len = ENGINE_MODEL_LEN_MAX;
    if (l.max_model_len < MODEL_LEN_MIN || l.max_model_len > ENGINE_MODEL_LEN_MAX)
        return err_field(err, ERR_INVALID, "max_model_len",
                         "max_model_len: %u is not within %d..%d", l.max_model_len, MODEL_LEN_MIN,
                         ENGINE_MODEL_LEN_MAX);
    if ((rc = size_kv_cache(opt, site, &l, err)))
        return rc;
    *ret_limits = l;
    return OK;
}
