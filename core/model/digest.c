/* Digests. nettle, because it uses the processor's SHA instructions: a model of 100 GB is read and
 * hashed whole before it is believed. */
#include "core/model/digest.h"

#include <nettle/hmac.h>
#include <nettle/sha1.h>
#include <nettle/sha2.h>

struct digest {
    enum digest_kind kind;
    union {
        struct sha256_ctx sha256;
        struct sha1_ctx sha1;
    };
};

struct digest *digest_create(enum digest_kind kind) {
    struct digest *d = mem_alloc(sizeof(*d));
    d->kind = kind;
    if (kind == DIGEST_SHA256)
        sha256_init(&d->sha256);
    else
        sha1_init(&d->sha1);
    return d;
}

void digest_destroy(struct digest *d) {
    free(d);
}

void digest_update(struct digest *d, const void *data, size_t len) {
    if (d->kind == DIGEST_SHA256)
        sha256_update(&d->sha256, len, data);
    else
        sha1_update(&d->sha1, len, data);
}

void digest_bytes_hex(const unsigned char *bytes, size_t len, char *out) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * len] = '\0';
}

void digest_hex(struct digest *d, char out[DIGEST_HEX_BYTES]) {
    unsigned char bytes[DIGEST_SHA256_BYTES];
    size_t len = d->kind == DIGEST_SHA256 ? SHA256_DIGEST_SIZE : SHA1_DIGEST_SIZE;
    if (d->kind == DIGEST_SHA256)
        sha256_digest(&d->sha256, len, bytes);
    else
        sha1_digest(&d->sha1, len, bytes);
    digest_bytes_hex(bytes, len, out);
}

void digest_text(const char *text, char out[DIGEST_HEX_BYTES]) {
    AUTO(digest) d = digest_create(DIGEST_SHA256);
    digest_update(d, text, strlen(text));
    digest_hex(d, out);
}

void digest_hmac(const void *key, size_t key_len, const char *text,
                 unsigned char out[DIGEST_SHA256_BYTES]) {
    struct hmac_sha256_ctx ctx;
    hmac_sha256_set_key(&ctx, key_len, key);
    hmac_sha256_update(&ctx, strlen(text), (const unsigned char *)text);
    hmac_sha256_digest(&ctx, DIGEST_SHA256_BYTES, out);
}

bool digest_is_sha256(const char *text) {
    return strlen(text) == 64 && strspn(text, "0123456789abcdef") == 64;
}
