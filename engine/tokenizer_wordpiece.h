/* WordPiece: the longest token that starts a word, then the longest that goes on, to its end. Keys
 * in the vocabulary: "\u2581word" at the start of a word, "word" inside one. */
#ifndef ENGINE_TOKENIZER_WORDPIECE_H
#define ENGINE_TOKENIZER_WORDPIECE_H

#include "engine/tokenizer.h"
#include "engine/tokenizer_vocab.h"

struct wordpiece {
    const struct vocab *vocab; /* borrowed */
    int32_t unknown_id;        /* stands for a word that cannot be spelled; -1: nothing does */
    uint32_t word_chars_max;   /* longer words are unknown */
};

enum { WORDPIECE_WORD_CHARS_MAX = 100 }; /* BERT's own bound */

/* Appends the ids of one word of well-formed UTF-8. */
void wordpiece_encode(const struct wordpiece *w, const char *word, size_t len, struct buf *scratch,
                      struct token_ids *ids);

#endif
