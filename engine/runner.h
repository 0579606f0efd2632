/* Runner: one model on one device, and its KV storage. It turns one step's tokens into logits.
 *
 * The engine thread owns it. Which positions live in which block is the KV cache's business
 * (kv_cache.h); the runner only reads and writes the slots it is told. runner_forward() allocates
 * nothing. Results of a row never depend on which other rows are in the batch.
 *
 * Letters: T tokens in the step, S sequences in the step, V vocabulary. */
#ifndef ENGINE_RUNNER_H
#define ENGINE_RUNNER_H

#include "core/base/mem.h"

struct model;
struct model_config;
struct runner;
struct weights_share;

struct runner_options {
    uint32_t num_blocks;     /* KV blocks */
    uint32_t block_size;     /* token positions per block, a power of two */
    uint32_t num_tokens_max; /* T at most (max_num_batched_tokens) */
    uint32_t num_seqs_max;   /* S at most (max_num_seqs) */
    uint32_t num_logits_max; /* rows of logits at most, >= num_seqs_max */
    uint32_t seq_len_max;    /* longest context (max_model_len) */
    uint32_t num_threads;    /* CPU threads incl. the caller's; 0: all that this process may use */
    bool reference;          /* exact F32 throughout: slower, for checks (--dtype float32) */
    struct weights_share *share; /* borrowed for the runner's life; NULL: none */
};

struct runner_batch {
    uint32_t num_tokens;         /* T */
    const int32_t *token_ids;    /* [T] */
    const int32_t *positions;    /* [T] position of the token in its sequence */
    const uint32_t *slots;       /* [T] block * block_size + offset, where its K and V go */
    uint32_t num_seqs;           /* S */
    const uint32_t *query_start; /* [S + 1] rows query_start[s] .. query_start[s+1]-1 belong to s */
    const uint32_t *seq_len;     /* [S] positions known after this step, incl. its own rows */
    const uint32_t *block_table; /* [S, block_table_stride] */
    uint32_t block_table_stride;
    uint32_t num_logits;         /* rows whose logits are wanted */
    const uint32_t *logits_rows; /* [num_logits] row numbers, ascending */
};

/* Gives a runner; the model is borrowed for its life. ERR_EXHAUSTED: no memory for the KV cache. */
MUST_CHECK enum errc runner_create(const struct model *m, const struct runner_options *opt,
                                   struct runner **ret_r, struct error *err);
void runner_destroy(struct runner *r);
DEFINE_AUTO(runner, runner_destroy)

/* Writes logits [num_logits, V] f32. */
void runner_forward(struct runner *r, const struct runner_batch *b, float *logits);

/* Memory that a runner takes for weights beside the mapped file, on this machine. */
uint64_t runner_model_bytes(const struct model *m);

uint64_t runner_kv_block_bytes(const struct model_config *config, uint32_t block_size);

/* Memory for the activations of a step; `packed`: with weights in their packed form. */
uint64_t runner_workspace_bytes(const struct model_config *config, const struct runner_options *opt,
                                bool packed);

#endif
