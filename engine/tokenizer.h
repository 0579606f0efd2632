/* Tokenizer: text to token ids and back. Immutable after creation, shared by threads without locks.
 *
 * Kinds: byte-level BPE with the pre-tokenizers that GGUF files name (gpt-2, llama-bpe, qwen2,
 * falcon, deepseek-llm, deepseek-coder, starcoder, ...) or that a tokenizer.json spells out;
 * SentencePiece-style BPE ("llama"); WordPiece ("bert"). */
#ifndef ENGINE_TOKENIZER_H
#define ENGINE_TOKENIZER_H

#include "core/base/buf.h"

struct gguf;
struct tokenizer;

struct token_ids {
    int32_t *data; /* owned by the holder */
    size_t len, cap;
};
#define TOKEN_IDS_INIT ((struct token_ids){0})
void token_ids_push(struct token_ids *ids, int32_t id);
void token_ids_deinit(struct token_ids *ids);
#define AUTO_TOKEN_IDS __attribute__((cleanup(token_ids_deinit))) struct token_ids

/* From the tokenizer.ggml.* keys of a GGUF (borrowed for the call only: strings are copied).
 * ERR_INVALID names the key, ERR_NOT_FOUND: the file has no tokenizer. */
MUST_CHECK enum errc tokenizer_from_gguf(const struct gguf *g, struct tokenizer **ret_tk,
                                         struct error *err);
/* From tokenizer.json, or tokenizer.model where there is none, in a Hugging Face directory, with
 * tokenizer_config.json, generation_config.json and chat_template.jinja where present.
 * ERR_NOT_FOUND: neither is there; other errors name file and place. */
MUST_CHECK enum errc tokenizer_from_dir(const char *dir, struct tokenizer **ret_tk,
                                        struct error *err);
/* The same from one of the two files, named *.json or otherwise. */
MUST_CHECK enum errc tokenizer_from_file(const char *path, struct tokenizer **ret_tk,
                                         struct error *err);
void tokenizer_destroy(struct tokenizer *tk);
DEFINE_AUTO(tokenizer, tokenizer_destroy)

struct tokenizer_encode_options {
    bool add_special;   /* BOS/EOS/CLS as the model wants them */
    bool parse_special; /* "<|im_end|>" in the text is the token, not eleven characters */
};

enum { TOKENIZER_TEXT_BYTES_MAX = 16 << 20 };

/* Appends the ids of text[0..len) to ids. Invalid UTF-8 becomes U+FFFD per bad byte, or byte
 * tokens. Empty text has no ids, special ones neither. On failure ids is as before. ERR_TOO_LARGE:
 * more than TOKENIZER_TEXT_BYTES_MAX; ERR_EXHAUSTED: the model's own expressions explode on this
 * text. */
MUST_CHECK enum errc tokenizer_encode(const struct tokenizer *tk, const char *text, size_t len,
                                      struct tokenizer_encode_options opt, struct token_ids *ids,
                                      struct error *err);

/* Appends the text of ids; may end inside a UTF-8 sequence. skip_special leaves control tokens out.
 */
void tokenizer_decode(const struct tokenizer *tk, const int32_t *ids, size_t num_ids,
                      bool skip_special, struct buf *out);

/* Takes out the spaces before punctuation and contractions that Hugging Face's
 * clean_up_tokenization_spaces means. Not part of decoding: it does not give the text back. */
void tokenizer_clean_up_spaces(struct buf *text);

/* The bytes of one token as they stand inside a text; borrowed for the tokenizer's life. */
const char *tokenizer_piece(const struct tokenizer *tk, int32_t id, size_t *ret_len);

uint32_t tokenizer_vocab_size(const struct tokenizer *tk);
int32_t tokenizer_bos(const struct tokenizer *tk); /* -1: none */
int32_t tokenizer_eos(const struct tokenizer *tk);
bool tokenizer_is_eog(const struct tokenizer *tk, int32_t id); /* any end-of-generation token */
bool tokenizer_is_control(const struct tokenizer *tk, int32_t id);
int32_t tokenizer_find(const struct tokenizer *tk, const char *piece); /* -1: no such token */
bool tokenizer_adds_bos(const struct tokenizer *tk);
const char *tokenizer_chat_template(const struct tokenizer *tk); /* NULL: the model brings none */

/* Streaming detokenizer: one per running completion. Holds back bytes until they are whole UTF-8,
 * and strips the leading space where the tokenizer would: set `started` after detokenizer_init()
 * when the text goes on from a prompt, to keep that space. */
struct detokenizer {
    const struct tokenizer *tk;
    bool skip_special, started;
    unsigned char held[8];
    uint8_t num_held;
};
void detokenizer_init(struct detokenizer *d, const struct tokenizer *tk, bool skip_special);
void detokenizer_push(struct detokenizer *d, int32_t id, struct buf *out);
void detokenizer_flush(struct detokenizer *d, struct buf *out); /* broken rest becomes U+FFFD */

#endif
