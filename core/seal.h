/* Sealing: what is written to disk encrypted, under keys that lie in a file of their own.
 *
 * Which objects: those of the resources listed, by default Secrets. The key file has one key a
 * line, "ID BASE64" with 32 bytes; the first one seals, all of them open, so that a key is changed
 * by putting a new line before the old one. Constant once it has keys; then any thread. */
#ifndef CORE_SEAL_H
#define CORE_SEAL_H

#include "core/base/buf.h"

struct seal;

enum {
    SEAL_KEYS_MAX = 16,
    SEAL_KEY_ID_BYTES_MAX = 64,
    SEAL_RESOURCES_MAX = 32,
    SEAL_FILE_BYTES_MAX = 16 << 10,
};

struct seal_options {
    const char *key_path;
    const char *resources; /* "secrets,leases.coordination.k8s.io"; "" seals nothing new */
};

/* Gives a seal, without keys when the file does not exist (see seal_make_key). ERR_INVALID: a line
 * of the file or a resource that cannot be, or a file that others may read; ERR_IO. */
MUST_CHECK enum errc seal_open(const struct seal_options *opt, struct seal **ret_seal,
                               struct error *err);
void seal_close(struct seal *s);
DEFINE_AUTO(seal, seal_close)

const char *seal_path(const struct seal *s); /* borrowed */
bool seal_has_keys(const struct seal *s);
/* Makes the key file, 0600, with one random key. Only where nothing was ever sealed. */
MUST_CHECK enum errc seal_make_key(struct seal *s, struct error *err);

/* Is the object under this store key to be sealed? */
bool seal_covers(const struct seal *s, const char *key);
/* A number that changes with the keys and the resources: whoever has seen to it that all is sealed
 * as they say need not look again while it stays the same. Never 0. */
int64_t seal_fingerprint(const struct seal *s);

/* Appends the sealed form of text. It opens only for the same key and revision: rows of a database
 * cannot be exchanged. */
void seal_text(const struct seal *s, const char *key, int64_t revision, const char *text,
               size_t len, struct buf *out);
/* Appends the text. ERR_INVALID names the key file and the key id: a key that is not there, or is
 * not the one, or sealed bytes that were changed. s NULL: nothing can be opened. */
MUST_CHECK enum errc seal_unseal(const struct seal *s, const char *key, int64_t revision,
                                 const void *sealed, size_t len, struct buf *out,
                                 struct error *err);
/* Sealed under the key that seals today? */
bool seal_is_current(const struct seal *s, const void *sealed, size_t len);

#endif
