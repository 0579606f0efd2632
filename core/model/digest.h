/* Digests of models: SHA-256 of what is stored, HMAC-SHA-256 of signed requests, and the SHA-1 by
 * which git (and so the Hub) names small files. The sole user of nettle in this folder. */
#ifndef CORE_MODEL_DIGEST_H
#define CORE_MODEL_DIGEST_H

#include "core/base/mem.h"

enum digest_kind {
    DIGEST_SHA256,
    DIGEST_SHA1,
};

enum {
    DIGEST_HEX_BYTES = 65, /* of the longest, with its end */
    DIGEST_SHA256_BYTES = 32,
};

struct digest;
struct digest *digest_create(enum digest_kind kind);
void digest_destroy(struct digest *d);
DEFINE_AUTO(digest, digest_destroy)

void digest_update(struct digest *d, const void *data, size_t len);
/* Writes lower-case hexadecimal; d starts anew. */
void digest_hex(struct digest *d, char out[DIGEST_HEX_BYTES]);

/* SHA-256 of a text, in hexadecimal. */
void digest_text(const char *text, char out[DIGEST_HEX_BYTES]);
/* HMAC-SHA-256. `out` may be `key`. */
void digest_hmac(const void *key, size_t key_len, const char *text,
                 unsigned char out[DIGEST_SHA256_BYTES]);
void digest_bytes_hex(const unsigned char *bytes, size_t len, char *out); /* 2 * len + 1 */

/* 64 digits of lower-case hexadecimal? */
bool digest_is_sha256(const char *text);

#endif
