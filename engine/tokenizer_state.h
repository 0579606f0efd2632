/* The inside of a tokenizer, for its loaders and its two walks (text to ids: tokenizer.c, ids to
 * text: tokenizer_decode.c). Nobody else includes this.
 *
 *   text -> special tokens cut out -> normalizer -> pre-tokenizer -> BPE or WordPiece -> ids
 */
#ifndef ENGINE_TOKENIZER_STATE_H
#define ENGINE_TOKENIZER_STATE_H

#include "engine/tokenizer.h"
#include "engine/tokenizer_bpe.h"
#include "engine/tokenizer_normalizer.h"
#include "engine/tokenizer_pretokenizer.h"
#include "engine/tokenizer_special.h"
#include "engine/tokenizer_vocab.h"
#include "engine/tokenizer_wordpiece.h"

enum tokenizer_kind { TOKENIZER_BPE, TOKENIZER_WORDPIECE };

enum { TOKENIZER_TEMPLATE_BYTES_MAX = 1 << 20 }; /* of a chat template */

struct tokenizer {
    enum tokenizer_kind kind;
    struct vocab vocab;
    struct special_tokens special;
    struct normalizer normalizer;
    struct pretokenizer pretokenizer;
    struct bpe bpe;
    struct wordpiece wordpiece;
    struct token_ids prefix, suffix; /* what add_special puts around the text */
    struct token_ids eog;            /* end-of-generation tokens: a handful */
    int32_t bos, eos;                /* -1: none */
    bool keeps_bad_bytes;            /* ill-formed UTF-8 goes to byte tokens as it is */
    bool strips_space;               /* decoded text loses one space in front */
    bool spaces_control;             /* decoding puts a space before a control token (BERT) */
    bool cleans_up;                  /* decoding takes spaces before punctuation away (BERT) */
    char *chat_template;             /* NULL: none */
};

/* Adds to eog unless it is there; ids outside the vocabulary are ignored. */
void tokenizer_add_eog(struct tokenizer *tk, int64_t id);
/* The last step of every loader: indexes the special tokens, adds the control tokens to eog whose
 * name says that they end a turn, and names bos and eos where the file did not but they are clear.
 */
void tokenizer_seal(struct tokenizer *tk);

/* The vocabulary and pipeline of a tokenizer.json, or of a tokenizer.model (SentencePiece or
 * tiktoken), into an empty tokenizer; the text is borrowed for the call. */
MUST_CHECK enum errc tokenizer_load_json(struct tokenizer *tk, const char *text, size_t len,
                                         struct error *err);
MUST_CHECK enum errc tokenizer_load_model(struct tokenizer *tk, const char *data, size_t len,
                                          struct error *err);

/* SentencePiece vocabularies, whatever file they come from: sets token `id`; sets up joining by
 * score and the handling of spaces once all are set and vocab.scores is filled. */
MUST_CHECK enum errc tokenizer_set_spm_token(struct tokenizer *tk, uint32_t id, const char *text,
                                             size_t len, enum token_kind kind, struct error *err);
struct spm_options {
    bool add_space_prefix, remove_extra_whitespaces;
};
MUST_CHECK enum errc tokenizer_set_up_spm(struct tokenizer *tk, struct spm_options opt,
                                          struct error *err);

/* Adds control, unknown and user-defined tokens of the vocabulary to the special tokens; call it
 * when the vocabulary is complete. */
void tokenizer_add_special_kinds(struct tokenizer *tk);

/* The bytes that a byte-level vocabulary spells with letters: "\u0120the" is " the". False, and out
 * as it was, when a character stands for no byte. */
bool tokenizer_letters_to_bytes(const char *letters, size_t len, struct buf *out);
/* The byte that "<0x0A>" names, -1: it is not of that form. */
int tokenizer_byte_token(const char *text, size_t len);

#endif
