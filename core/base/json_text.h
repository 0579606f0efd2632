/* JSON as text. */
#ifndef CORE_BASE_JSON_TEXT_H
#define CORE_BASE_JSON_TEXT_H

#include <jansson.h>

#include "core/base/buf.h"

/* Appends what json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) gives, byte for byte. A value that
 * is nested without end (a cycle) is a broken invariant. */
void json_text(struct buf *b, const json_t *value);
void json_text_string(struct buf *b, const char *text, size_t len); /* with its quotes */

#endif
