/* Vocabulary: the tokens of one tokenizer, by id and by spelling.
 *
 * A token has two spellings. Its key is how it matches prepared text (SentencePiece's "\u2581the");
 * its piece is what it adds to decoded text (" the"). Filled by a loader, then indexed once,
 * immutable afterwards. */
#ifndef ENGINE_TOKENIZER_VOCAB_H
#define ENGINE_TOKENIZER_VOCAB_H

#include "core/base/buf.h"

enum {
    VOCAB_TOKENS_MAX = 1 << 22,
    VOCAB_PIECE_BYTES_MAX = 65535,
};

/* GGUF's numbers. */
enum token_kind {
    TOKEN_NORMAL = 1,
    TOKEN_UNKNOWN = 2,
    TOKEN_CONTROL = 3,
    TOKEN_USER_DEFINED = 4,
    TOKEN_UNUSED = 5,
    TOKEN_BYTE = 6,
};

struct vocab_token {
    uint32_t key, piece; /* offsets into vocab.text */
    uint16_t key_len, piece_len;
    uint8_t kind;
    bool matchable; /* plain text can become this token */
};

struct vocab {
    struct vocab_token *tokens;
    uint32_t len;
    struct buf text;
    uint32_t *table; /* open addressing: id + 1 of matchable tokens, 0 is empty */
    uint32_t table_mask;
    uint64_t seed;
    uint32_t key_len_max;  /* of matchable tokens */
    float *scores;         /* SentencePiece's, [len]; NULL: ranked by merges */
    int32_t byte_ids[256]; /* the token of a single byte, -1: none; set by vocab_index */
};

/* ERR_INVALID above VOCAB_TOKENS_MAX or at 0. All tokens start as empty UNUSED ones. */
MUST_CHECK enum errc vocab_init(struct vocab *v, uint64_t num_tokens, struct error *err);
void vocab_deinit(struct vocab *v);

struct vocab_spelling {
    const char *key, *piece; /* piece NULL: the same as the key */
    size_t key_len, piece_len;
};
/* Sets token `id`; the strings are copied. ERR_INVALID: longer than VOCAB_PIECE_BYTES_MAX. */
MUST_CHECK enum errc vocab_set(struct vocab *v, uint32_t id, const struct vocab_spelling *s,
                               enum token_kind kind, bool matchable, struct error *err);
/* Builds the index. Of equal keys the last id wins. byte_level: matchable keys of one byte are the
 * tokens of these bytes; else the TOKEN_BYTE ones are. */
void vocab_index(struct vocab *v, bool byte_level);

int32_t vocab_find(const struct vocab *v, const char *key, size_t len); /* -1: none */
const char *vocab_key(const struct vocab *v, uint32_t id, size_t *ret_len);
const char *vocab_piece(const struct vocab *v, uint32_t id, size_t *ret_len);

#endif
