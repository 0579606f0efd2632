/* Sampling parameters: defaults and bounds are vLLM's, and OpenAI's where vLLM has none. A NaN
 * fails every comparison below, so each condition is written as what must hold. */
#include "engine/sampling_params.h"

#include <math.h>

void sampling_params_init(struct sampling_params *p) {
    *p = (struct sampling_params){
        .temperature = 1,
        .top_p = 1,
        .repetition_penalty = 1,
        .num_logprobs = -1,
        .max_tokens = 16,
    };
}

static enum errc check_range(const char *field, float value, float min, float max,
                             struct error *err) {
    if (value >= min && value <= max)
        return OK;
    return err_field(err, ERR_INVALID, field, "%s: %g is not within %g..%g", field, (double)value,
                     (double)min, (double)max);
}

static enum errc check_counts(const struct sampling_params *p, struct error *err) {
    if (p->top_k < -1)
        return err_field(err, ERR_INVALID, "top_k", "top_k: %d is below -1 (-1 and 0: off)",
                         p->top_k);
    if (p->num_logprobs < -1 || p->num_logprobs > ENGINE_TOP_LOGPROBS_MAX)
        return err_field(err, ERR_INVALID, "logprobs", "logprobs: %d is not within 0..%d",
                         p->num_logprobs, ENGINE_TOP_LOGPROBS_MAX);
    if (!p->max_tokens)
        return err_field(err, ERR_INVALID, "max_tokens", "max_tokens: 0 is below 1");
    if (p->min_tokens > p->max_tokens)
        return err_field(err, ERR_INVALID, "min_tokens", "min_tokens: %u is above max_tokens (%u)",
                         p->min_tokens, p->max_tokens);
    if (p->num_stop_ids > ENGINE_STOP_IDS_MAX)
        return err_field(err, ERR_INVALID, "stop_token_ids",
                         "stop_token_ids: %u ids are more than the limit of %d", p->num_stop_ids,
                         ENGINE_STOP_IDS_MAX);
    if (p->num_logit_bias > ENGINE_LOGIT_BIAS_MAX)
        return err_field(err, ERR_INVALID, "logit_bias",
                         "logit_bias: %u entries are more than the limit of %d", p->num_logit_bias,
                         ENGINE_LOGIT_BIAS_MAX);
    return OK;
}

static enum errc check_logit_bias(const struct sampling_params *p, uint32_t vocab_size,
                                  struct error *err) {
    for (uint32_t i = 0; i < p->num_logit_bias; i++) {
        int32_t id = p->logit_bias[i].id;
        float bias = p->logit_bias[i].bias;
        if (id < 0 || (uint32_t)id >= vocab_size)
            return err_field(err, ERR_INVALID, "logit_bias",
                             "logit_bias: token id %d is not within the vocabulary of %u", id,
                             vocab_size);
        if (!(bias >= -100 && bias <= 100))
            return err_field(err, ERR_INVALID, "logit_bias",
                             "logit_bias: %g of token %d is not within -100..100", (double)bias,
                             id);
    }
    return OK;
}

enum errc sampling_params_check(const struct sampling_params *p, uint32_t vocab_size,
                                struct error *err) {
    if (!(p->temperature >= 0 && isfinite(p->temperature)))
        return err_field(err, ERR_INVALID, "temperature",
                         "temperature: %g is not a number of at least 0", (double)p->temperature);
    if (!(p->top_p > 0 && p->top_p <= 1))
        return err_field(err, ERR_INVALID, "top_p", "top_p: %g is not above 0 and at most 1",
                         (double)p->top_p);
    if (!(p->repetition_penalty > 0 && isfinite(p->repetition_penalty)))
        return err_field(err, ERR_INVALID, "repetition_penalty",
                         "repetition_penalty: %g is not a number above 0",
                         (double)p->repetition_penalty);
    enum errc rc;
    if ((rc = check_range("min_p", p->min_p, 0, 1, err)) ||
        (rc = check_range("presence_penalty", p->presence_penalty, -2, 2, err)) ||
        (rc = check_range("frequency_penalty", p->frequency_penalty, -2, 2, err)) ||
        (rc = check_counts(p, err)) || (rc = check_logit_bias(p, vocab_size, err)))
        return rc;
    return OK;
}
