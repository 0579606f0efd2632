/* What an engine is sized for: the options with every 0 replaced, checked against the model and the
 * memory there is. */
#ifndef ENGINE_ENGINE_LIMITS_H
#define ENGINE_ENGINE_LIMITS_H

#include "engine/engine.h"

enum {
    ENGINE_MODEL_LEN_MAX = 1 << 24,
    ENGINE_NUM_SEQS_MAX = 4096,
    ENGINE_BATCHED_TOKENS_MAX = 65536,
    ENGINE_NUM_WAITING_MAX = 65536,
    ENGINE_BLOCK_SIZE_MAX = 256,
};

struct engine_args;

/* What the command line of `inferd engine` asks for. */
void engine_options_of(const struct engine_args *args, struct engine_options *ret_opt);

struct engine_limits {
    uint32_t max_model_len;
    uint32_t max_num_seqs, max_num_batched_tokens, max_num_waiting;
    uint32_t max_num_prompt_logits; /* rows of logits per step, beside one per sequence */
    uint32_t block_size, num_blocks;
    bool
        is_shortened; /* max_model_len was not asked for, and memory allows less than the model's */
};

struct engine_site { /* what the model and the machine bring */
    uint32_t context_length;
    uint64_t kv_block_bytes; /* for the block size that is chosen */
    uint64_t free_bytes;
};

/* The block size comes first, because kv_block_bytes depends on it. ERR_INVALID names the option.
 */
MUST_CHECK enum errc engine_limits_block_size(const struct engine_options *opt,
                                              uint32_t *ret_block_size, struct error *err);

/* ERR_INVALID names the option, its value and its bound; ERR_EXHAUSTED: not one context of
 * max_model_len fits into the memory for the KV cache. */
MUST_CHECK enum errc engine_limits_resolve(const struct engine_options *opt,
                                           const struct engine_site *site,
                                           struct engine_limits *ret_limits, struct error *err);

#endif
