/* A request inside the engine: its tokens so far, how far they are computed, and which KV blocks
 * hold them. Made by the submitting thread with all memory it will ever need; then the engine
 * thread's alone, except `abort_requested`. */
#ifndef ENGINE_REQUEST_H
#define ENGINE_REQUEST_H

#include <stdatomic.h>

#include "engine/engine.h"
#include "engine/siphash.h"

struct request {
    uint64_t id;
    struct sampling_params sampling;
    uint64_t seed; /* of its random numbers: the caller's, or one derived from the id */
    engine_sink_fn *sink;
    engine_logits_fn *on_logits;
    void *user;
    atomic_bool abort_requested; /* any thread sets it */

    int32_t *tokens; /* [num_tokens_max]: the prompt, then what was sampled */
    uint32_t num_prompt, num_tokens, num_tokens_max;
    uint32_t num_computed_tokens; /* their K and V are in the cache */
    uint32_t num_cached_tokens;   /* of the prompt, found in the prefix cache at first admission */
    uint32_t next_prompt_logprob; /* the next prompt position to report */

    /* The KV cache's (kv_cache.c). */
    uint32_t *block_table; /* [num_blocks] */
    uint32_t num_blocks;
    uint32_t num_committed;       /* leading blocks that were offered to the prefix cache */
    struct siphash *block_hashes; /* [num_hashes] names of the leading full blocks */
    uint32_t num_hashes;

    /* The scheduler's (scheduler.c). */
    struct request *prev, *next;
    bool running, was_admitted;
    uint32_t num_preemptions;
};

struct request_shape {
    uint32_t num_tokens_max; /* prompt and completion; at least the prompt and one token */
    uint32_t block_size;
};

/* Gives a request with a copy of rq's prompt and parameters; NULL when memory is short. The
 * parameters were checked before. */
struct request *request_create(const struct engine_request *rq, struct request_shape shape)
    MUST_CHECK;
void request_destroy(struct request *rq); /* its blocks were released before; NULL is fine */
DEFINE_AUTO(request, request_destroy)

/* Rows of a chunk that begins at num_computed_tokens whose logits this request wants for its
 * prompt's log probabilities: the `num` rows from `first` on, counted from the chunk's start. */
struct request_rows {
    uint32_t first, num;
};
struct request_rows request_prompt_rows(const struct request *rq, uint32_t num_scheduled);

uint32_t request_num_output(const struct request *rq);

#endif
