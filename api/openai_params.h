/* What a completion request asks for, apart from its prompt: parsed once, checked with bounds. */
#ifndef API_OPENAI_PARAMS_H
#define API_OPENAI_PARAMS_H

#include <jansson.h>

#include "engine/engine.h"
#include "engine/model.h"

enum {
    OPENAI_CHOICES_MAX = 128, /* n, and prompts x n */
    OPENAI_STOP_STRINGS_MAX = 16,
    OPENAI_STOP_BYTES_MAX = 1024, /* of one stop string */
};

enum openai_endpoint { OPENAI_CHAT, OPENAI_COMPLETIONS };

struct openai_params {
    struct sampling_params sampling;
    bool has_max_tokens; /* else: chat fills the context, completions make 16 */
    bool stream, include_usage, continuous_usage;
    uint32_t n;
    uint32_t num_stop;
    const char *stop[OPENAI_STOP_STRINGS_MAX]; /* borrowed from the body */
    bool include_stop_in_output, keep_special_tokens;
    bool logprobs; /* the answer carries log probabilities */
    bool echo;     /* completions: the prompt's text comes first */
    bool add_generation_prompt, continue_final_message; /* chat */
};

/* defaults: the model's generation_config (NULL: none). max_logprobs: the operator's bound.
 * ERR_INVALID with the parameter's name: wrong type, out of bounds, not supported here, or a
 * parameter that OpenAI and vLLM do not know. */
MUST_CHECK enum errc openai_params_parse(const json_t *body, enum openai_endpoint endpoint,
                                         const struct model_generation *defaults,
                                         int32_t max_logprobs, struct openai_params *ret_params,
                                         struct error *err);

#endif
