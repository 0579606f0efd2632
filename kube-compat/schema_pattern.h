/* Regular expressions of schemas' `pattern`. A compiled pattern is immutable: all threads match. */
#ifndef KUBE_COMPAT_SCHEMA_PATTERN_H
#define KUBE_COMPAT_SCHEMA_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/mem.h"

struct schema_pattern;

enum { SCHEMA_PATTERN_BYTES_MAX = 16 << 10 };

/* Gives a compiled pattern. ERR_INVALID: it does not compile (the text says where), or is longer
 * than SCHEMA_PATTERN_BYTES_MAX. */
MUST_CHECK enum errc schema_pattern_create(const char *text, struct schema_pattern **ret_p,
                                           struct error *err);
void schema_pattern_destroy(struct schema_pattern *p);

/* Is there a match anywhere in text? One that takes more steps than a bound is none. */
bool schema_pattern_match(const struct schema_pattern *p, const char *text, size_t len);

/* The first match at or behind the byte `from`. False: there is none. */
bool schema_pattern_find(const struct schema_pattern *p, const char *text, size_t len, size_t from,
                         size_t *ret_start, size_t *ret_end);

DEFINE_AUTO(schema_pattern, schema_pattern_destroy)

#endif
