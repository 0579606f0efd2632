/* A condition on one label: equal, not equal, or by a regular expression that has to match the
 * whole value. A series without the label has the empty value. */
#ifndef CORE_SERIES_MATCHER_H
#define CORE_SERIES_MATCHER_H

#include "core/series/labels.h"

enum { MATCHER_REGEX_BYTES_MAX = 4096, MATCHER_STEPS_MAX = 100000 };

enum matcher_op { MATCHER_EQUAL, MATCHER_NOT_EQUAL, MATCHER_REGEX, MATCHER_NOT_REGEX };

struct matcher {
    enum matcher_op op;
    char *name, *value;
    struct matcher_regex *regex;
};

/* Copies both texts. ERR_INVALID: a regular expression that does not compile, or is longer than
 * MATCHER_REGEX_BYTES_MAX; nothing to deinit then. */
MUST_CHECK enum errc matcher_init(struct matcher *m, const char *name, enum matcher_op op,
                                  const char *value, struct error *err);
void matcher_deinit(struct matcher *m);

/* One thread at a time for each matcher. A regular expression that takes more than
 * MATCHER_STEPS_MAX steps on a value does not match it. */
bool matcher_matches(const struct matcher *m, const struct labels *labels);

#endif
