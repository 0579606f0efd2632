/* Unicode for tokenizers: UTF-8 scanning, general categories, normalization forms. The only user of
 * utf8proc. Pure functions, any thread. */
#ifndef ENGINE_TOKENIZER_UNICODE_H
#define ENGINE_TOKENIZER_UNICODE_H

#include "core/base/buf.h"

/* The code point at the head of s[0..len): returns its length, 1 to 4, or 0 when the first byte
 * starts no well-formed sequence (overlong forms, surrogates and cut sequences are not). */
size_t utf8_next(const char *s, size_t len, uint32_t *ret_code);
/* Length of the longest well-formed head of s. */
size_t utf8_valid_len(const char *s, size_t len);
/* Whether s is the head of one sequence that more bytes could complete. */
bool utf8_may_continue(const char *s, size_t len);
void utf8_append(struct buf *out, uint32_t code);
/* Appends s with U+FFFD in place of every byte that is not part of a well-formed sequence. */
void utf8_append_repaired(struct buf *out, const char *s, size_t len);

bool unicode_is_space(uint32_t code);     /* White_Space */
bool unicode_is_control(uint32_t code);   /* Cc, Cf, Cn, Co, Cs, without tab, LF, CR */
bool unicode_is_mark(uint32_t code);      /* Mn */
bool unicode_is_word(uint32_t code);      /* letters, marks, digits, connectors */
bool unicode_is_ideograph(uint32_t code); /* the CJK blocks that BERT sets apart */

enum unicode_form { UNICODE_NFC, UNICODE_NFD, UNICODE_NFKC, UNICODE_NFKD };
/* Appends the normalized form of well-formed UTF-8. A run of more than UNICODE_MARKS_MAX combining
 * marks is normalized in parts, so that a hostile text costs linear time. */
enum { UNICODE_MARKS_MAX = 256 };
MUST_CHECK enum errc unicode_normalize(enum unicode_form form, const char *s, size_t len,
                                       struct buf *out, struct error *err);
/* Appends the lower case of well-formed UTF-8, code point by code point. */
void unicode_append_lower(struct buf *out, const char *s, size_t len);

#endif
