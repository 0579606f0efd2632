/* What Python's str can do, shared by string methods and filters. Strings in, strings out. */
#ifndef ENGINE_JINJA_STRING_H
#define ENGINE_JINJA_STRING_H

#include "engine/jinja_value.h"

/* upper, lower, capitalize, title, swapcase... */
enum jinja_case { JINJA_UPPER, JINJA_LOWER, JINJA_CAPITALIZE, JINJA_TITLE, JINJA_SWAPCASE };
MUST_CHECK bool jinja_string_case(struct jinja_run *run, struct jinja_value s, enum jinja_case how,
                                  struct jinja_value *ret);

/* Cuts white space (chars ABSENT or NONE) or the characters of `chars` off the ends. */
enum { JINJA_STRIP_LEFT = 1, JINJA_STRIP_RIGHT = 2 };
MUST_CHECK bool jinja_string_strip(struct jinja_run *run, struct jinja_value s,
                                   struct jinja_value chars, int sides, struct jinja_value *ret);

/* A LIST. sep ABSENT or NONE: white space. limit < 0: no limit. */
MUST_CHECK bool jinja_string_split(struct jinja_run *run, struct jinja_value s,
                                   struct jinja_value sep, int64_t limit, bool from_right,
                                   struct jinja_value *ret);
MUST_CHECK bool jinja_string_lines(struct jinja_run *run, struct jinja_value s, bool keep_ends,
                                   struct jinja_value *ret);

/* limit < 0: no limit. */
MUST_CHECK bool jinja_string_replace(struct jinja_run *run, struct jinja_value s,
                                     struct jinja_value old, struct jinja_value new, int64_t limit,
                                     struct jinja_value *ret);

/* Pads to `width` characters with `fill` (one character): left, right or both sides. */
enum jinja_align { JINJA_ALIGN_LEFT, JINJA_ALIGN_RIGHT, JINJA_ALIGN_CENTER };
MUST_CHECK bool jinja_string_pad(struct jinja_run *run, struct jinja_value s, int64_t width,
                                 struct jinja_value fill, enum jinja_align align,
                                 struct jinja_value *ret);

/* s * count; count < 0 is 0. */
MUST_CHECK bool jinja_string_repeat(struct jinja_run *run, struct jinja_value s, int64_t count,
                                    struct jinja_value *ret);

/* True when at least one character is cased and all cased ones are upper (lower). */
bool jinja_string_is_upper(struct jinja_value s);
bool jinja_string_is_lower(struct jinja_value s);

/* A LIST (or ITERATOR) of the jinja_value structs that b holds. */
MUST_CHECK bool jinja_list_from(struct jinja_run *run, const struct buf *b, enum jinja_kind kind,
                                struct jinja_value *ret);

#endif
