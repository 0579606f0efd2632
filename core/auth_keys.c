/* API keys. Keys are compared by their digests, all of them with every request, byte by byte to the
 * end: neither the time nor a copy of the table says anything about a key. A digest without salt
 * and without stretching is enough for keys that a program made; a key that a person thought of
 * could be guessed from its digest, but nothing ever writes digests to a disk. */
#include "core/auth_keys.h"

#include <strings.h>

#include <mbedtls/md.h>

static const char SPACE[] = " \t\r\n";

static void digest_of(const char *key, size_t len, uint8_t out[AUTH_KEY_DIGEST_BYTES]) {
    int rc = mbedtls_md(mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), (const unsigned char *)key,
                        len, out);
    ASSERT(!rc);
}

static bool holds(const struct auth_keys *k, const uint8_t digest[AUTH_KEY_DIGEST_BYTES]) {
    bool found = false;
    for (uint32_t i = 0; i < k->num; i++) {
        uint8_t differ = 0;
        for (size_t b = 0; b < AUTH_KEY_DIGEST_BYTES; b++)
            differ |= k->digests[i][b] ^ digest[b];
        found |= !differ;
    }
    return found;
}

/* Gives the length without white space at the end. */
static size_t trimmed(const char *text) {
    size_t len = strlen(text);
    while (len && strchr(SPACE, text[len - 1]))
        len--;
    return len;
}

enum errc auth_keys_add(struct auth_keys *k, const char *key, struct error *err) {
    key += strspn(key, SPACE);
    size_t len = trimmed(key);
    if (!len)
        return err_set(err, ERR_INVALID, "an API key is empty");
    if (len > AUTH_KEY_BYTES_MAX)
        return err_set(err, ERR_INVALID, "an API key has %zu bytes, at most %d", len,
                       AUTH_KEY_BYTES_MAX);
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)key[i] <= ' ' || key[i] == 0x7f)
            return err_set(err, ERR_INVALID,
                           "an API key has a space or control character in it, at byte %zu", i);
    uint8_t digest[AUTH_KEY_DIGEST_BYTES];
    digest_of(key, len, digest);
    if (holds(k, digest))
        return OK;
    if (k->num == AUTH_KEYS_MAX)
        return err_set(err, ERR_EXHAUSTED, "more than %d API keys", AUTH_KEYS_MAX);
    memcpy(k->digests[k->num++], digest, sizeof(digest));
    return OK;
}

bool auth_keys_accept(const struct auth_keys *k, const char *authorization) {
    static const char scheme[] = "Bearer";
    size_t scheme_len = sizeof(scheme) - 1;
    if (!authorization || strncasecmp(authorization, scheme, scheme_len) != 0 ||
        !strchr(" \t", authorization[scheme_len]) || !authorization[scheme_len])
        return false;
    const char *key = authorization + scheme_len;
    key += strspn(key, SPACE);
    size_t len = trimmed(key);
    uint8_t digest[AUTH_KEY_DIGEST_BYTES];
    digest_of(key, len, digest);
    return len && holds(k, digest);
}
