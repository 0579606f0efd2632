/* A scanner over JSON text for lists too long to build as objects: a vocabulary of 128 k tokens
 * with 280 k merges costs 40 MB and a quarter of a second as json_t, and nothing when walked in
 * place. Everything else goes through jansson. */
#ifndef ENGINE_JSON_SCAN_H
#define ENGINE_JSON_SCAN_H

#include "core/base/buf.h"

struct json_scan {
    const char *at, *end; /* borrowed text */
};

/* Each skips white space first. False: something else stands there, and the scanner is where it was
 * or, inside a broken value, somewhere in it. */
bool json_scan_take(struct json_scan *s, char punctuation);
int json_scan_peek(struct json_scan *s); /* the next character, -1 at the end */
/* Appends the string's text, which is well-formed UTF-8 and may hold NUL. */
bool json_scan_string(struct json_scan *s, struct buf *out);
bool json_scan_integer(struct json_scan *s, int64_t *ret_value);
/* Passes over one value. Checks strings and brackets, not what stands between them. */
bool json_scan_skip(struct json_scan *s);

#endif
