/* Regular expressions of schemas' `pattern`. A compiled pattern is immutable: all threads match. */
#ifndef KUBE_COMPAT_PATTERN_H
#define KUBE_COMPAT_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/mem.h"

struct pattern;

enum { PATTERN_BYTES_MAX = 16 << 10 };

/* Gives a compiled pattern. ERR_INVALID: it does not compile (the text says where), or is longer
 * than PATTERN_BYTES_MAX. */
MUST_CHECK enum errc pattern_create(const char *text, struct pattern **ret_p, struct error *err);
void pattern_destroy(struct pattern *p);

/* Is there a match anywhere in text? One that takes more steps than a bound is none. */
bool pattern_match(const struct pattern *p, const char *text, size_t len);

#endif
