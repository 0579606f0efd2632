/* Recording: what one request of the engine says, kept for the thread that waits for it. All memory
 * is taken before the request starts. */
#ifndef ENGINE_RECORDING_H
#define ENGINE_RECORDING_H

#include "engine/engine.h"

struct recording;

struct recording_options {
    uint32_t num_tokens_max;     /* tokens to keep at most; later ones are dropped */
    uint32_t first_prompt_index; /* keep the prompt's tokens from here on; UINT32_MAX: none */
    bool drops_sampled;          /* keep the prompt's tokens only */
    uint32_t num_top;            /* candidates to keep for each, at most the vocabulary */
    uint32_t vocab_size;
};

struct recorded_token {
    int32_t id;
    float logprob;
    uint32_t num_top;
    const struct engine_top *top; /* best first; borrowed from the recording */
};

/* Gives a recording. ERR_EXHAUSTED: no memory for that many candidates. */
MUST_CHECK enum errc recording_create(const struct recording_options *opt, struct recording **ret_r,
                                      struct error *err);
void recording_destroy(struct recording *r); /* its request is finished; NULL is fine */
DEFINE_AUTO(recording, recording_destroy)

/* Sets the sink of rq and what else the recording needs of it. */
void recording_attach(struct recording *r, struct engine_request *rq);

/* Waits for token `index`. False: the request finished before it. */
bool recording_wait(struct recording *r, uint32_t index, struct recorded_token *ret_token);

/* Waits for the end. */
enum finish_reason recording_finish(struct recording *r);
int64_t recording_first_ns(struct recording *r); /* when the first kept token came; 0: none did */

#endif
