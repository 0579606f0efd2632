/* Base64, standard and URL-safe without padding. Pure. */
#ifndef CORE_BASE_BASE64_H
#define CORE_BASE_BASE64_H

#include "core/base/buf.h"

void base64_append(struct buf *out, const void *data, size_t len);    /* RFC 4648 section 4 */
void base64url_append(struct buf *out, const void *data, size_t len); /* section 5, no padding */
/* Appends the decoded bytes; false when text is not base64url without padding. */
bool base64url_decode(struct buf *out, const char *text);
/* The same for the standard form, padded. */
bool base64_decode(struct buf *out, const char *text);
bool base64_check(const char *text, size_t len); /* standard form, padded */

#endif
