/* Regular expressions as tokenizers write them (the dialect of Oniguruma and Rust), run by PCRE2,
 * whose only user this is. A compiled expression is immutable and shared; a matcher belongs to one
 * call. */
#ifndef ENGINE_TOKENIZER_REGEX_H
#define ENGINE_TOKENIZER_REGEX_H

#include "core/base/buf.h"

struct tokenizer_regex;

enum {
    TOKENIZER_REGEX_BYTES_MAX = 16384,
    TOKENIZER_REGEX_STEPS_MAX = 50000000, /* backtracking steps in one search */
    TOKENIZER_REGEX_HEAP_KIB_MAX = 262144,
};

/* ERR_INVALID: it does not compile (with the offset), is too long, or uses what is read otherwise
 * here (nested sets, set intersection). */
MUST_CHECK enum errc tokenizer_regex_create(const char *pattern, struct tokenizer_regex **ret_re,
                                            struct error *err);
void tokenizer_regex_destroy(struct tokenizer_regex *re);
DEFINE_AUTO(tokenizer_regex, tokenizer_regex_destroy)

/* Memory for searches by one thread. */
struct regex_matcher;
struct regex_matcher *regex_matcher_create(void);
void regex_matcher_destroy(struct regex_matcher *m);
DEFINE_AUTO(regex_matcher, regex_matcher_destroy)

struct regex_match {
    size_t start, end;
};
/* Finds the first match at or behind `from` in well-formed UTF-8; ret_match->start is len when
 * there is none. ERR_EXHAUSTED: the search ran beyond its bounds. */
MUST_CHECK enum errc tokenizer_regex_search(const struct tokenizer_regex *re,
                                            struct regex_matcher *m, const char *text, size_t len,
                                            size_t from, struct regex_match *ret_match,
                                            struct error *err);

#endif
