/* API keys of an endpoint: who sends one of them, as "Authorization: Bearer KEY", may ask.
 *
 * What is kept is SHA-256 of each, so that whoever reads this memory, or what is made of it, cannot
 * ask. Constant once filled; then any thread. */
#ifndef CORE_AUTH_KEYS_H
#define CORE_AUTH_KEYS_H

#include "core/base/mem.h"

enum { AUTH_KEYS_MAX = 64, AUTH_KEY_BYTES_MAX = 512, AUTH_KEY_DIGEST_BYTES = 32 };

struct auth_keys {
    uint32_t num;
    uint8_t digests[AUTH_KEYS_MAX][AUTH_KEY_DIGEST_BYTES];
};

/* Adds a key, without the white space around it; the same key twice is once. ERR_INVALID: it is
 * empty, longer than AUTH_KEY_BYTES_MAX, or holds what a header cannot (the message does not quote
 * it). ERR_EXHAUSTED: AUTH_KEYS_MAX are there. */
MUST_CHECK enum errc auth_keys_add(struct auth_keys *k, const char *key, struct error *err);

/* Does the value of an Authorization header (NULL: absent) bear one of the keys? Takes the same
 * time whichever it is. */
bool auth_keys_accept(const struct auth_keys *k, const char *authorization);

#endif
