/* Normalizer: rewrites text before it is cut into pretokens, by a sequence of steps. Immutable when
 * built. */
#ifndef ENGINE_TOKENIZER_NORMALIZER_H
#define ENGINE_TOKENIZER_NORMALIZER_H

#include "core/base/buf.h"

struct tokenizer_regex;
struct regex_matcher;

enum { NORMALIZER_STEPS_MAX = 16, NORMALIZER_GROWTH_MAX = 64 };

enum normalizer_kind {
    NORMALIZE_FORM_C,
    NORMALIZE_FORM_D,
    NORMALIZE_FORM_KC,
    NORMALIZE_FORM_KD,
    NORMALIZE_LOWERCASE,
    NORMALIZE_DROP_MARKS,       /* StripAccents: takes the marks out of decomposed text */
    NORMALIZE_CLEAN,            /* BERT: white space becomes a space, control characters vanish */
    NORMALIZE_SPACE_IDEOGRAPHS, /* BERT: spaces around each CJK ideograph */
    NORMALIZE_STRIP,            /* white space at the ends */
    NORMALIZE_COLLAPSE_SPACES,  /* SentencePiece's remove_extra_whitespaces */
    NORMALIZE_PREPEND,          /* `content`, unless the text is empty */
    NORMALIZE_REPLACE,          /* `pattern` by `content` */
};

struct normalizer_step {
    enum normalizer_kind kind;
    bool strip_left, strip_right;
    char *pattern, *content;       /* owned */
    struct tokenizer_regex *regex; /* replace: instead of pattern; owned */
};

struct normalizer {
    struct normalizer_step steps[NORMALIZER_STEPS_MAX];
    uint32_t num_steps;
};

void normalizer_deinit(struct normalizer *n);

/* Adds a step; takes what it owns, also on failure. ERR_INVALID: too many. */
MUST_CHECK enum errc normalizer_add(struct normalizer *n, const struct normalizer_step *step,
                                    struct error *err);

/* Rewrites *text (well-formed UTF-8, unless all steps are PREPEND, REPLACE by a string and
 * COLLAPSE_SPACES) through *spare. ERR_TOO_LARGE: it would become more than NORMALIZER_GROWTH_MAX
 * times as long. */
MUST_CHECK enum errc normalizer_run(const struct normalizer *n, struct buf *text, struct buf *spare,
                                    struct error *err);

#endif
