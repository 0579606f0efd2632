/* Sampler: one row of logits to one token id. What it chooses depends on the row, the request's own
 * tokens and parameters, its seed and how many tokens it has; on nothing else. One thread;
 * allocates nothing after creation. */
#ifndef ENGINE_SAMPLER_H
#define ENGINE_SAMPLER_H

#include "engine/engine.h"

struct request;
struct sampler;

struct sampler_options {
    uint32_t vocab_size;    /* V */
    const int32_t *eog_ids; /* end-of-generation tokens; copied */
    uint32_t num_eog_ids;
};

/* Gives a sampler. ERR_EXHAUSTED: no memory for a vocabulary of this size. */
MUST_CHECK enum errc sampler_create(const struct sampler_options *opt, struct sampler **ret_s,
                                    struct error *err);
void sampler_destroy(struct sampler *s); /* NULL is fine */
DEFINE_AUTO(sampler, sampler_destroy)

/* Chooses rq's next token from logits [V], which it only reads, and writes id, logprob, num_top and
 * top of the token (the last three as rq's num_logprobs asks). False when the logits are no
 * distribution: one is NaN or +inf, or all are -inf. */
MUST_CHECK bool sampler_sample(struct sampler *s, const struct request *rq, const float *logits,
                               struct engine_token *ret_token);

/* Writes what sampler_sample() writes, for a token that was given: one of the prompt. */
MUST_CHECK bool sampler_score(const struct sampler *s, const struct request *rq, int32_t id,
                              const float *logits, struct engine_token *ret_token);

uint64_t sampler_bytes(uint32_t vocab_size); /* memory that one takes */

bool sampler_is_eog(const struct sampler *s, int32_t id);

/* log(sum(exp(logits))): logits[i] minus it is the logarithm of i's probability. NaN when the
 * logits are no distribution. */
double sampler_logsumexp(const float *logits, uint32_t vocab_size);

#endif
