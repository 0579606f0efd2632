/* The step descriptions of a Hugging Face tokenizer.json (normalizer, pre_tokenizer, decoder,
 * post_processor), read into a tokenizer. Only tokenizer_hf.c includes this.
 *
 * Each takes the JSON value under the key of its name (NULL or null: nothing to do). ERR_INVALID
 * names the place inside it and what is not supported. */
#ifndef ENGINE_TOKENIZER_HF_STEPS_H
#define ENGINE_TOKENIZER_HF_STEPS_H

#include <jansson.h>

#include "engine/tokenizer_state.h"

enum { HF_NESTING_MAX = 8, HF_REPLACES_MAX = 8 };

/* What a decoder does to the spelling of a token; borrows from the JSON document. */
struct hf_decoder {
    struct {
        const char *pattern, *content;
    } replaces[HF_REPLACES_MAX];
    uint32_t num_replaces;
    bool byte_level, byte_fallback, wordpiece;
    const char *wordpiece_prefix; /* "##" */
};

MUST_CHECK enum errc hf_read_normalizer(const json_t *v, struct tokenizer *tk, struct error *err);
MUST_CHECK enum errc hf_read_pretokenizer(const json_t *v, struct tokenizer *tk,
                                          bool *ret_byte_level, struct error *err);
/* Sets strips_space, spaces_control and cleans_up too. */
MUST_CHECK enum errc hf_read_decoder(const json_t *v, struct tokenizer *tk,
                                     struct hf_decoder *ret_d, struct error *err);
/* Sets prefix and suffix; the vocabulary is there already. */
MUST_CHECK enum errc hf_read_postprocessor(const json_t *v, struct tokenizer *tk,
                                           struct error *err);

#endif
