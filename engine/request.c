/* A request and its memory. Everything a request can grow to is allocated here, by the thread that
 * submits it, because the engine thread allocates nothing while it runs: the token array for prompt
 * and completion, the block table that covers them, and a name for each block.
 *
 * A request knows no phase. It has num_tokens and has computed num_computed_tokens of them; when
 * the two are equal after a step, the last row's logits give the next token. */
#include "engine/request.h"

struct request *request_create(const struct engine_request *rq, struct request_shape shape) {
    ASSERT(shape.num_tokens_max > rq->num_prompt && shape.block_size);
    AUTO(request) r = mem_try_alloc(sizeof(*r));
    if (!r)
        return NULL;
    size_t num_blocks = (shape.num_tokens_max + shape.block_size - 1) / shape.block_size;
    r->tokens = mem_try_alloc(shape.num_tokens_max * sizeof(r->tokens[0]));
    r->block_table = mem_try_alloc(num_blocks * sizeof(r->block_table[0]));
    r->block_hashes = mem_try_alloc(num_blocks * sizeof(r->block_hashes[0]));
    if (!r->tokens || !r->block_table || !r->block_hashes)
        return NULL;
    r->sampling = rq->sampling;
    r->sink = rq->sink;
    r->on_logits = rq->on_logits;
    r->user = rq->user;
    memcpy(r->tokens, rq->prompt, rq->num_prompt * sizeof(r->tokens[0]));
    r->num_prompt = r->num_tokens = rq->num_prompt;
    r->num_tokens_max = shape.num_tokens_max;
    r->next_prompt_logprob = rq->sampling.prompt_logprobs ? 1 : rq->num_prompt;
    return steal(r);
}

void request_destroy(struct request *rq) {
    if (!rq)
        return;
    ASSERT(!rq->num_blocks);
    free(rq->tokens);
    free(rq->block_table);
    free(rq->block_hashes);
    free(rq);
}

struct request_rows request_prompt_rows(const struct request *rq, uint32_t num_scheduled) {
    /* The row of position p tells the probability of token p + 1. */
    uint32_t from = rq->next_prompt_logprob - 1, to = rq->num_prompt - 1;
    uint32_t start = rq->num_computed_tokens, end = start + num_scheduled;
    if (from < start)
        from = start;
    if (to > end)
        to = end;
    if (from >= to)
        return (struct request_rows){0};
    return (struct request_rows){.first = from - start, .num = to - from};
}

uint32_t request_num_output(const struct request *rq) {
    return rq->num_tokens - rq->num_prompt;
}
