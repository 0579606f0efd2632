/* AES-256-GCM around single objects.
 *
 *   0       1    version, 1
 *   1       1    n, length of the key id
 *   2       n    key id
 *   2 + n   12   nonce, random
 *   14 + n  16   tag
 *   30 + n       ciphertext, as long as the text
 *
 * The store's key and the revision are authenticated with it ("KEY\0REVISION"): a sealed row that
 * is put in the place of another, also of an older one of the same object, does not open.
 *
 * A random nonce of 96 bits is good for 2^32 texts under one key (NIST SP 800-38D, 8.3): at a
 * hundred Secrets written a second that is more than a year; a key is changed by a line in a file
 * long before. Plain texts that were opened are wiped where they are parsed. */
#include "core/seal.h"

#include <ctype.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <mbedtls/base64.h>
#include <mbedtls/gcm.h>
#include <mbedtls/md.h>

#include "core/object.h"
#include "core/pki.h"

enum { VERSION = 1, KEY_BYTES = 32, NONCE_BYTES = 12, TAG_BYTES = 16, AAD_BYTES_MAX = 1200 };

struct seal_key {
    char id[SEAL_KEY_ID_BYTES_MAX + 1];
    unsigned char bytes[KEY_BYTES];
};

struct seal {
    char *path;
    struct seal_key keys[SEAL_KEYS_MAX];
    size_t num_keys;
    struct object_key prefixes[SEAL_RESOURCES_MAX];
    size_t num_prefixes;
};

/* ---- which objects ---- */

/* "leases.coordination.k8s.io" is the resource leases of that group. */
static enum errc add_resource(struct seal *s, const char *name, size_t len, struct error *err) {
    const char *dot = memchr(name, '.', len);
    size_t plural_len = dot ? (size_t)(dot - name) : len;
    if (s->num_prefixes == SEAL_RESOURCES_MAX)
        return err_set(err, ERR_INVALID, "encryptedResources: more than %d resources",
                       SEAL_RESOURCES_MAX);
    bool ok = plural_len && len < 256;
    for (size_t i = 0; i < len; i++)
        ok = ok && (islower((unsigned char)name[i]) || isdigit((unsigned char)name[i]) ||
                    name[i] == '.' || name[i] == '-');
    if (!ok)
        return err_set(err, ERR_INVALID,
                       "encryptedResources: \"%.*s\" is not a resource (secrets) or "
                       "resource.group (leases.coordination.k8s.io)",
                       (int)(len < 256 ? len : 256), name);
    AUTO_FREE char *plural = mem_strndup(name, plural_len);
    AUTO_FREE char *group = mem_strndup(dot ? dot + 1 : "", dot ? len - plural_len - 1 : 0);
    object_key(&s->prefixes[s->num_prefixes++], group, plural, NULL, NULL);
    return OK;
}

static enum errc read_resources(struct seal *s, const char *list, struct error *err) {
    enum errc rc = OK;
    while (*list && !rc) {
        list += strspn(list, " ,");
        size_t len = strcspn(list, " ,");
        if (len)
            rc = add_resource(s, list, len, err);
        list += len;
    }
    return rc;
}

bool seal_covers(const struct seal *s, const char *key) {
    for (size_t i = 0; i < s->num_prefixes; i++) {
        const char *prefix = s->prefixes[i].text;
        if (!strncmp(key, prefix, strlen(prefix)))
            return true;
    }
    return false;
}

/* ---- the key file ---- */

static const struct seal_key *find_key(const struct seal *s, const char *id, size_t len) {
    for (size_t i = 0; i < s->num_keys; i++) {
        if (strlen(s->keys[i].id) == len && !memcmp(s->keys[i].id, id, len))
            return &s->keys[i];
    }
    return NULL;
}

static enum errc read_line(struct seal *s, unsigned line_no, const char *line, struct error *err) {
    size_t id_len = strcspn(line, " \t");
    const char *text = line + id_len + strspn(line + id_len, " \t");
    struct seal_key k = {0};
    size_t written = 0;
    if (!id_len || id_len > SEAL_KEY_ID_BYTES_MAX)
        return err_set(err, ERR_INVALID, "%s:%u: a key id has 1 to %d bytes", s->path, line_no,
                       SEAL_KEY_ID_BYTES_MAX);
    memcpy(k.id, line, id_len);
    if (find_key(s, k.id, id_len))
        return err_set(err, ERR_INVALID, "%s:%u: key \"%s\" stands twice", s->path, line_no, k.id);
    if (s->num_keys == SEAL_KEYS_MAX)
        return err_set(err, ERR_INVALID, "%s:%u: more than %d keys", s->path, line_no,
                       SEAL_KEYS_MAX);
    int bad = mbedtls_base64_decode(k.bytes, sizeof(k.bytes), &written, (const unsigned char *)text,
                                    strlen(text));
    if (bad || written != KEY_BYTES) {
        explicit_bzero(&k, sizeof(k));
        return err_set(err, ERR_INVALID, "%s:%u: key \"%.*s\" is not base64 of %d bytes", s->path,
                       line_no, (int)id_len, line, KEY_BYTES);
    }
    s->keys[s->num_keys++] = k;
    explicit_bzero(&k, sizeof(k));
    return OK;
}

static enum errc read_keys(struct seal *s, char *text, struct error *err) {
    unsigned line_no = 0;
    enum errc rc = OK;
    for (char *rest = text, *line; !rc && (line = strsep(&rest, "\n"));) {
        line_no++;
        size_t len = strlen(line);
        while (len && isspace((unsigned char)line[len - 1]))
            line[--len] = '\0';
        if (len && *line != '#')
            rc = read_line(s, line_no, line, err);
    }
    if (!rc && !s->num_keys)
        rc = err_set(err, ERR_INVALID, "%s: holds no key (ID BASE64, one a line)", s->path);
    return rc;
}

static enum errc check_mode(const char *path, struct error *err) {
    struct stat st;
    if (stat(path, &st))
        return err_errno(err, "look at %s", path);
    if (st.st_mode & 077)
        return err_set(err, ERR_INVALID, "%s: mode %04o lets others read the keys: chmod 0600 it",
                       path, (unsigned)(st.st_mode & 07777));
    if (st.st_size > SEAL_FILE_BYTES_MAX)
        return err_set(err, ERR_INVALID, "%s: more than %d bytes", path, SEAL_FILE_BYTES_MAX);
    return OK;
}

enum errc seal_open(const struct seal_options *opt, struct seal **ret_seal, struct error *err) {
    AUTO(seal) s = mem_alloc(sizeof(*s));
    AUTO_FREE char *text = NULL;
    s->path = mem_strdup(opt->key_path);
    enum errc rc = read_resources(s, opt->resources, err);
    if (!rc)
        rc = pki_read_file(s->path, &text, err);
    if (!rc && text) {
        rc = check_mode(s->path, err);
        if (!rc)
            rc = read_keys(s, text, err);
        explicit_bzero(text, strlen(text));
    }
    if (!rc)
        *ret_seal = steal(s);
    return rc;
}

void seal_close(struct seal *s) {
    if (!s)
        return;
    explicit_bzero(s->keys, sizeof(s->keys));
    free(s->path);
    free(s);
}

const char *seal_path(const struct seal *s) {
    return s->path;
}

bool seal_has_keys(const struct seal *s) {
    return s->num_keys > 0;
}

enum errc seal_make_key(struct seal *s, struct error *err) {
    ASSERT(!s->num_keys);
    struct seal_key k = {0};
    unsigned char text[64];
    uint32_t noise;
    size_t written;
    pki_random(NULL, k.bytes, sizeof(k.bytes));
    pki_random(NULL, (unsigned char *)&noise, sizeof(noise));
    snprintf(k.id, sizeof(k.id), "key-%08" PRIx32, noise);
    ASSERT(!mbedtls_base64_encode(text, sizeof(text), &written, k.bytes, sizeof(k.bytes)));
    AUTO_FREE char *file =
        mem_printf("# Keys of what inferd encrypts in its database, one a line: ID BASE64.\n"
                   "# The first seals. To change it put a new line before it and restart; the old\n"
                   "# one may go after that start. Without its key a Secret cannot be read again.\n"
                   "%s %s\n",
                   k.id, text);
    enum errc rc = pki_write_file(s->path, file, err);
    if (!rc)
        s->keys[s->num_keys++] = k;
    explicit_bzero(file, strlen(file));
    explicit_bzero(text, sizeof(text));
    explicit_bzero(&k, sizeof(k));
    return rc;
}

int64_t seal_fingerprint(const struct seal *s) {
    const mbedtls_md_info_t *sha256 = mbedtls_md_info_from_type(MBEDTLS_MD_SHA256);
    unsigned char digest[32];
    mbedtls_md_context_t md;
    mbedtls_md_init(&md);
    ASSERT(!mbedtls_md_setup(&md, sha256, 0) && !mbedtls_md_starts(&md));
    mbedtls_md_update(&md, (const unsigned char *)s->keys, s->num_keys * sizeof(s->keys[0]));
    for (size_t i = 0; i < s->num_prefixes; i++)
        mbedtls_md_update(&md, (const unsigned char *)s->prefixes[i].text,
                          strlen(s->prefixes[i].text) + 1);
    ASSERT(!mbedtls_md_finish(&md, digest));
    mbedtls_md_free(&md);
    int64_t value;
    memcpy(&value, digest, sizeof(value));
    value &= INT64_MAX;
    return value ? value : 1;
}

/* ---- sealing ---- */

static size_t make_aad(const char *key, int64_t revision, unsigned char aad[AAD_BYTES_MAX]) {
    size_t len = strlen(key) + 1;
    ASSERT(len + 24 < AAD_BYTES_MAX);
    memcpy(aad, key, len);
    return len + (size_t)snprintf((char *)aad + len, AAD_BYTES_MAX - len, "%" PRId64, revision);
}

static void start(mbedtls_gcm_context *gcm, const struct seal_key *k) {
    mbedtls_gcm_init(gcm);
    ASSERT(!mbedtls_gcm_setkey(gcm, MBEDTLS_CIPHER_ID_AES, k->bytes, KEY_BYTES * 8));
}

void seal_text(const struct seal *s, const char *key, int64_t revision, const char *text,
               size_t len, struct buf *out) {
    ASSERT(s->num_keys);
    const struct seal_key *k = &s->keys[0];
    unsigned char aad[AAD_BYTES_MAX];
    size_t aad_len = make_aad(key, revision, aad), id_len = strlen(k->id);
    buf_reserve(out, 2 + id_len + NONCE_BYTES + TAG_BYTES + len);
    buf_putc(out, VERSION);
    buf_putc(out, (char)id_len);
    buf_append(out, k->id, id_len);
    unsigned char *nonce = (unsigned char *)out->data + out->len, *tag = nonce + NONCE_BYTES;
    pki_random(NULL, nonce, NONCE_BYTES);
    mbedtls_gcm_context gcm;
    start(&gcm, k);
    ASSERT(!mbedtls_gcm_crypt_and_tag(&gcm, MBEDTLS_GCM_ENCRYPT, len, nonce, NONCE_BYTES, aad,
                                      aad_len, (const unsigned char *)text, tag + TAG_BYTES,
                                      TAG_BYTES, tag));
    mbedtls_gcm_free(&gcm);
    out->len += NONCE_BYTES + TAG_BYTES + len;
    out->data[out->len] = '\0';
}

/* The key id in sealed bytes; NULL: they are no such thing. */
static const char *id_of(const void *sealed, size_t len, size_t *ret_id_len) {
    const unsigned char *p = sealed;
    if (len < 2 || p[0] != VERSION || !p[1] || p[1] > SEAL_KEY_ID_BYTES_MAX ||
        len < (size_t)2 + p[1] + NONCE_BYTES + TAG_BYTES)
        return NULL;
    *ret_id_len = p[1];
    return (const char *)p + 2;
}

bool seal_is_current(const struct seal *s, const void *sealed, size_t len) {
    size_t id_len;
    const char *id = id_of(sealed, len, &id_len);
    return id && s->num_keys && find_key(s, id, id_len) == &s->keys[0];
}

enum errc seal_unseal(const struct seal *s, const char *key, int64_t revision, const void *sealed,
                      size_t len, struct buf *out, struct error *err) {
    size_t id_len;
    const char *id = id_of(sealed, len, &id_len);
    if (!id)
        return err_set(err, ERR_INVALID, "%s revision %" PRId64 ": the sealed bytes are damaged",
                       key, revision);
    const struct seal_key *k = s ? find_key(s, id, id_len) : NULL;
    if (!k)
        return err_set(err, ERR_INVALID,
                       "%s revision %" PRId64 " is sealed under key \"%.*s\", and %s%s: put the "
                       "key back (nothing has been changed)",
                       key, revision, (int)id_len, id, s ? s->path : "no key file is configured",
                       !s            ? ""
                       : s->num_keys ? " does not hold it"
                                     : " is not there");
    unsigned char aad[AAD_BYTES_MAX];
    size_t aad_len = make_aad(key, revision, aad);
    const unsigned char *nonce = (const unsigned char *)id + id_len, *tag = nonce + NONCE_BYTES;
    size_t text_len = len - 2 - id_len - NONCE_BYTES - TAG_BYTES;
    buf_reserve(out, text_len);
    mbedtls_gcm_context gcm;
    start(&gcm, k);
    int bad =
        mbedtls_gcm_auth_decrypt(&gcm, text_len, nonce, NONCE_BYTES, aad, aad_len, tag, TAG_BYTES,
                                 tag + TAG_BYTES, (unsigned char *)out->data + out->len);
    mbedtls_gcm_free(&gcm);
    if (bad)
        return err_set(err, ERR_INVALID,
                       "%s revision %" PRId64 " does not open with key \"%s\" of %s: that is "
                       "another key of this name, or the row was changed (nothing has been "
                       "changed now)",
                       key, revision, k->id, s->path);
    out->len += text_len;
    out->data[out->len] = '\0';
    return OK;
}
