/* Batch: the scheduler's plan for a step in the arrays that the runner takes. */
#ifndef ENGINE_BATCH_H
#define ENGINE_BATCH_H

#include "engine/runner.h"

struct batch;
struct sched_step;

struct batch_options {
    uint32_t num_tokens_max, num_seqs_max, num_logits_max;
    uint32_t seq_len_max;
    uint32_t block_size;
};

/* Gives a batch with room for the largest step. ERR_EXHAUSTED: no memory. */
MUST_CHECK enum errc batch_create(const struct batch_options *opt, struct batch **ret_b,
                                  struct error *err);
void batch_destroy(struct batch *b); /* NULL is fine */
DEFINE_AUTO(batch, batch_destroy)

/* Fills the arrays from the plan; the result is borrowed until the next call. Rows of logits come
 * in the order of entries, of one entry first those for its prompt (request_prompt_rows), then,
 * when the step completes its tokens, the one to sample from. */
const struct runner_batch *batch_build(struct batch *b, const struct sched_step *step);

#endif
