/* Special tokens: the tokens that are found in raw text as they are spelled, before anything else
 * looks at it: "<|im_end|>", and user-defined ones such as "<tool_call>". Immutable when built. */
#ifndef ENGINE_TOKENIZER_SPECIAL_H
#define ENGINE_TOKENIZER_SPECIAL_H

#include "core/base/mem.h"

struct special_token {
    const char *text; /* borrowed from the vocabulary */
    uint32_t len;
    int32_t id;
    bool control;        /* matched only where special tokens are parsed */
    bool lstrip, rstrip; /* takes the white space on that side with it */
    bool single_word;    /* only where no letter stands beside it */
};

struct special_tokens {
    struct special_token *data; /* sorted by text once sealed */
    size_t len, cap;
    bool first_bytes[256];
};

void special_tokens_add(struct special_tokens *s, const struct special_token *t);
void special_tokens_seal(struct special_tokens *s); /* sorts; of equal texts the last added stays */
void special_tokens_deinit(struct special_tokens *s);

struct special_match {
    size_t start, end; /* with the white space that the token takes */
    int32_t id;
};
/* Finds the first and there the longest special token in text[from..len). */
bool special_tokens_next(const struct special_tokens *s, const char *text, size_t len, size_t from,
                         bool parse_control, struct special_match *ret_match);

const struct special_token *special_tokens_find(const struct special_tokens *s, const char *text,
                                                size_t len); /* NULL: none */

#endif
