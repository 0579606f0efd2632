/* Pre-tokenizer: cuts text into the pretokens that BPE or WordPiece then work on alone, by a
 * sequence of steps. Each step cuts further what the one before it left. Immutable when built. */
#ifndef ENGINE_TOKENIZER_PRETOKENIZER_H
#define ENGINE_TOKENIZER_PRETOKENIZER_H

#include "core/base/buf.h"

struct tokenizer_regex;
struct regex_matcher;

enum { PRETOKENIZER_STEPS_MAX = 16 };

/* BERT's punctuation mark: all of ASCII's, symbols too, and Unicode's. */
#define PRETOKENIZER_PUNCTUATION "[!-/:-@\\[-`{-~\\p{P}]"

enum split_behavior { /* what becomes of the matches; Hugging Face's words */
                      SPLIT_ISOLATED,
                      SPLIT_REMOVED,
                      SPLIT_MERGED_WITH_PREVIOUS,
                      SPLIT_MERGED_WITH_NEXT,
                      SPLIT_CONTIGUOUS,
};

enum prepend_scheme { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER };

struct pretokenizer_step {
    enum { STEP_SPLIT, STEP_PREFIX_SPACE, STEP_METASPACE } kind;
    struct tokenizer_regex *regex; /* split: owned */
    enum split_behavior behavior;
    bool invert;       /* split: the gaps are the matches */
    char *replacement; /* metaspace: what stands for a space; owned */
    enum prepend_scheme prepend;
    bool split; /* metaspace: cut before each replacement */
};

struct pretokenizer {
    struct pretokenizer_step steps[PRETOKENIZER_STEPS_MAX];
    uint32_t num_steps;
};

void pretokenizer_deinit(struct pretokenizer *p);

/* Adds a split by regular expression. ERR_INVALID: see tokenizer_regex_create, or too many steps.
 */
MUST_CHECK enum errc pretokenizer_add_split(struct pretokenizer *p, const char *pattern,
                                            enum split_behavior behavior, bool invert,
                                            struct error *err);
/* Adds a step other than a split; takes step->replacement. */
MUST_CHECK enum errc pretokenizer_add_step(struct pretokenizer *p,
                                           const struct pretokenizer_step *step, struct error *err);
/* Adds the splits that tokenizer.ggml.pre names ("llama-bpe", "qwen2", ...). ERR_INVALID: a name
 * that is not known here. */
MUST_CHECK enum errc pretokenizer_add_named(struct pretokenizer *p, const char *name,
                                            struct error *err);

/* Adds BERT's two splits: at white space, which vanishes, and around each punctuation mark. */
MUST_CHECK enum errc pretokenizer_add_words(struct pretokenizer *p, struct error *err);

/* Text and the pretokens in it, in order; a workspace for one encode call. */
struct pretoken {
    uint32_t start, len;
};
struct pretokens {
    struct buf text;
    struct pretoken *data;
    size_t len, cap;
    struct buf text_spare; /* the output of the step under way */
    struct pretoken *spare;
    size_t spare_len, spare_cap;
    struct regex_matcher *matcher;
};
void pretokens_deinit(struct pretokens *t);

/* Cuts t->text (well-formed UTF-8, at most UINT32_MAX bytes). is_first: it is the head of the whole
 * input. ERR_EXHAUSTED: a split ran beyond its bounds. */
MUST_CHECK enum errc pretokenizer_run(const struct pretokenizer *p, struct pretokens *t,
                                      bool is_first, struct error *err);

#endif
