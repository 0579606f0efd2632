/* ES256: ECDSA over P-256 with SHA-256. A token is three parts in base64url without padding:
 *
 *   {"alg":"ES256","kid":KID} . CLAIMS . r || s        32 bytes each, big endian
 *
 * mbedTLS signs in ASN.1 (SEQUENCE of two INTEGERs), so signatures are rewritten on their way in
 * and out. KID is the SHA-256 of the public key's DER, as Kubernetes has it.
 *
 * mbedTLS 2.28 caches within an elliptic curve group that is used, so contexts may not be shared
 * between threads: each call parses its key from DER, which costs a few microseconds beside the
 * half millisecond of a verification. */
#include "core/auth_jwt.h"

#include <mbedtls/asn1.h>
#include <mbedtls/asn1write.h>
#include <mbedtls/ecp.h>
#include <mbedtls/error.h>
#include <mbedtls/md.h>
#include <mbedtls/pk.h>
#include <mbedtls/version.h>
#include <stdio.h>

#include "core/base/base64.h"
#include "core/pki.h"

enum {
    HASH_BYTES = 32,
    COORDINATE_BYTES = 32,
    SIGNATURE_BYTES = 2 * COORDINATE_BYTES,
    DER_SIGNATURE_BYTES_MAX = 80,
    DER_KEY_BYTES_MAX = 256,
    PEM_BYTES_MAX = 1024,
};

static const char PEM_BEGIN[] = "-----BEGIN ";

struct key {
    char kid[AUTH_JWT_KID_BYTES_MAX];
    char *pem;                            /* private */
    unsigned char der[DER_KEY_BYTES_MAX]; /* public: SubjectPublicKeyInfo, ends in 04 || X || Y */
    size_t der_len;
};

struct auth_jwt {
    char *path;
    struct key keys[AUTH_JWT_KEYS_MAX];
    size_t num_keys;
};

/* ---- keys ---- */

static enum errc fail(const char *what, int rc, struct error *err) {
    char text[128];
    mbedtls_strerror(rc, text, sizeof(text));
    return err_set(err, ERR_INTERNAL, "%s: %s", what, text);
}

static void hash(const void *data, size_t len, unsigned char out[HASH_BYTES]) {
    ASSERT(!mbedtls_md(mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), data, len, out));
}

static int parse_private(mbedtls_pk_context *pk, const char *pem) {
    size_t len = strlen(pem) + 1; /* mbedTLS counts the NUL of a PEM text */
#if MBEDTLS_VERSION_MAJOR >= 3
    return mbedtls_pk_parse_key(pk, (const unsigned char *)pem, len, NULL, 0, pki_random, NULL);
#else
    return mbedtls_pk_parse_key(pk, (const unsigned char *)pem, len, NULL, 0);
#endif
}

/* Takes pem. */
static enum errc add_key(struct auth_jwt *j, char *pem, struct error *err) {
    if (j->num_keys == AUTH_JWT_KEYS_MAX) {
        free(pem);
        return err_set(err, ERR_INVALID, "%s: more than %d keys", j->path, AUTH_JWT_KEYS_MAX);
    }
    struct key *k = &j->keys[j->num_keys++];
    k->pem = pem;
    mbedtls_pk_context pk;
    mbedtls_pk_init(&pk);
    int rc = parse_private(&pk, pem);
    bool fits =
        !rc && mbedtls_pk_can_do(&pk, MBEDTLS_PK_ECDSA) && mbedtls_pk_get_bitlen(&pk) == 256;
    int len = fits ? mbedtls_pk_write_pubkey_der(&pk, k->der, sizeof(k->der)) : 0;
    mbedtls_pk_free(&pk);
    if (len <= SIGNATURE_BYTES)
        return err_set(err, ERR_INVALID, "%s: key %zu is not a P-256 private key in PEM", j->path,
                       j->num_keys);
    k->der_len = (size_t)len;
    memmove(k->der, k->der + sizeof(k->der) - k->der_len, k->der_len); /* written from the end */
    unsigned char digest[HASH_BYTES];
    AUTO_BUF kid = BUF_INIT;
    hash(k->der, k->der_len, digest);
    base64url_append(&kid, digest, sizeof(digest));
    snprintf(k->kid, sizeof(k->kid), "%s", kid.data);
    return OK;
}

static enum errc make_key(const char *path, char **ret_pem, struct error *err) {
    mbedtls_pk_context pk;
    unsigned char pem[PEM_BYTES_MAX];
    mbedtls_pk_init(&pk);
    int bad = mbedtls_pk_setup(&pk, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));
    if (!bad)
        bad = mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(pk), pki_random, NULL);
    if (!bad)
        bad = mbedtls_pk_write_key_pem(&pk, pem, sizeof(pem));
    mbedtls_pk_free(&pk);
    enum errc rc =
        bad ? fail("make a signing key", bad, err) : pki_write_file(path, (const char *)pem, err);
    if (!rc)
        *ret_pem = mem_strdup((const char *)pem);
    explicit_bzero(pem, sizeof(pem));
    return rc;
}

enum errc auth_jwt_open(const char *path, bool existing_only, struct auth_jwt **ret_jwt,
                        struct error *err) {
    AUTO(auth_jwt) j = mem_alloc(sizeof(*j));
    AUTO_FREE char *text = NULL;
    j->path = mem_strdup(path);
    enum errc rc = pki_read_file(path, &text, err);
    if (!rc && !text && existing_only)
        rc = err_set(err, ERR_NOT_FOUND, "%s is not there; `inferd serve` makes it at start", path);
    else if (!rc && !text)
        rc = make_key(path, &text, err);
    for (char *at = rc || !text ? NULL : strstr(text, PEM_BEGIN); at && !rc;) {
        char *next = strstr(at + 1, PEM_BEGIN);
        rc = add_key(j, mem_strndup(at, next ? (size_t)(next - at) : strlen(at)), err);
        at = next;
    }
    if (text)
        explicit_bzero(text, strlen(text));
    if (!rc && !j->num_keys)
        rc = err_set(err, ERR_INVALID, "%s: holds no private key in PEM", path);
    if (!rc)
        *ret_jwt = steal(j);
    return rc;
}

void auth_jwt_close(struct auth_jwt *j) {
    if (!j)
        return;
    for (size_t i = 0; i < j->num_keys; i++) {
        explicit_bzero(j->keys[i].pem, strlen(j->keys[i].pem));
        free(j->keys[i].pem);
    }
    free(j->path);
    free(j);
}

json_t *auth_jwt_jwks(const struct auth_jwt *j) {
    json_t *keys = json_array();
    for (size_t i = 0; i < j->num_keys; i++) {
        const struct key *k = &j->keys[i];
        const unsigned char *point = k->der + k->der_len - SIGNATURE_BYTES;
        AUTO_BUF x = BUF_INIT, y = BUF_INIT;
        base64url_append(&x, point, COORDINATE_BYTES);
        base64url_append(&y, point + COORDINATE_BYTES, COORDINATE_BYTES);
        json_array_append_new(keys, json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "use", "sig",
                                              "kty", "EC", "kid", k->kid, "crv", "P-256", "alg",
                                              "ES256", "x", x.data, "y", y.data));
    }
    return json_pack("{s:o}", "keys", keys);
}

/* ---- signatures ---- */

/* SEQUENCE { INTEGER r, INTEGER s } to r || s. */
static int der_to_raw(const unsigned char *der, size_t len, unsigned char raw[SIGNATURE_BYTES]) {
    unsigned char *p = (unsigned char *)(uintptr_t)der;
    const unsigned char *end = der + len;
    size_t inner;
    int rc =
        mbedtls_asn1_get_tag(&p, end, &inner, MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE);
    for (int i = 0; i < 2 && !rc; i++) {
        mbedtls_mpi n;
        mbedtls_mpi_init(&n);
        rc = mbedtls_asn1_get_mpi(&p, end, &n);
        if (!rc)
            rc = mbedtls_mpi_write_binary(&n, raw + i * COORDINATE_BYTES, COORDINATE_BYTES);
        mbedtls_mpi_free(&n);
    }
    return rc;
}

/* Writes to the end of der; gives where it starts, NULL on failure. */
static unsigned char *raw_to_der(const unsigned char *raw,
                                 unsigned char der[DER_SIGNATURE_BYTES_MAX]) {
    unsigned char *p = der + DER_SIGNATURE_BYTES_MAX;
    int bad = 0, len = 0;
    for (int i = 1; i >= 0 && !bad; i--) {
        mbedtls_mpi n;
        mbedtls_mpi_init(&n);
        bad = mbedtls_mpi_read_binary(&n, raw + i * COORDINATE_BYTES, COORDINATE_BYTES);
        int more = bad ? bad : mbedtls_asn1_write_mpi(&p, der, &n);
        mbedtls_mpi_free(&n);
        bad = more < 0 ? more : 0;
        len += more;
    }
    if (bad || mbedtls_asn1_write_len(&p, der, (size_t)len) < 0 ||
        mbedtls_asn1_write_tag(&p, der, MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE) < 0)
        return NULL;
    return p;
}

static int sign_hash(const struct key *k, const unsigned char digest[HASH_BYTES],
                     unsigned char raw[SIGNATURE_BYTES]) {
    unsigned char der[MBEDTLS_PK_SIGNATURE_MAX_SIZE];
    size_t der_len = 0;
    mbedtls_pk_context pk;
    mbedtls_pk_init(&pk);
    int rc = parse_private(&pk, k->pem);
    if (!rc) {
#if MBEDTLS_VERSION_MAJOR >= 3
        rc = mbedtls_pk_sign(&pk, MBEDTLS_MD_SHA256, digest, HASH_BYTES, der, sizeof(der), &der_len,
                             pki_random, NULL);
#else
        rc = mbedtls_pk_sign(&pk, MBEDTLS_MD_SHA256, digest, HASH_BYTES, der, &der_len, pki_random,
                             NULL);
#endif
    }
    mbedtls_pk_free(&pk);
    return rc ? rc : der_to_raw(der, der_len, raw);
}

enum errc auth_jwt_sign(const struct auth_jwt *j, const json_t *claims, char **ret_token,
                        struct error *err) {
    const struct key *k = &j->keys[0];
    AUTO_BUF token = BUF_INIT;
    AUTO_FREE char *header = mem_printf("{\"alg\":\"ES256\",\"kid\":\"%s\"}", k->kid);
    AUTO_FREE char *text = json_dumps(claims, JSON_COMPACT | JSON_SORT_KEYS);
    ASSERT(text);
    base64url_append(&token, header, strlen(header));
    buf_putc(&token, '.');
    base64url_append(&token, text, strlen(text));
    unsigned char digest[HASH_BYTES], raw[SIGNATURE_BYTES];
    hash(token.data, token.len, digest);
    int bad = sign_hash(k, digest, raw);
    if (bad)
        return fail("sign a token", bad, err);
    buf_putc(&token, '.');
    base64url_append(&token, raw, sizeof(raw));
    if (token.len > AUTH_JWT_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "a token of %zu bytes: above %d", token.len,
                       AUTH_JWT_BYTES_MAX);
    *ret_token = buf_steal(&token);
    return OK;
}

static bool verify_hash(const struct key *k, const unsigned char digest[HASH_BYTES],
                        const unsigned char *raw) {
    unsigned char buffer[DER_SIGNATURE_BYTES_MAX];
    const unsigned char *der = raw_to_der(raw, buffer);
    if (!der)
        return false;
    mbedtls_pk_context pk;
    mbedtls_pk_init(&pk);
    int bad = mbedtls_pk_parse_public_key(&pk, k->der, k->der_len);
    if (!bad)
        bad = mbedtls_pk_verify(&pk, MBEDTLS_MD_SHA256, digest, HASH_BYTES, der,
                                (size_t)(buffer + sizeof(buffer) - der));
    mbedtls_pk_free(&pk);
    return !bad;
}

static json_t *decode_object(const char *part, size_t len) {
    AUTO_BUF plain = BUF_INIT;
    AUTO_FREE char *text = mem_strndup(part, len);
    if (!base64url_decode(&plain, text) || !plain.len)
        return NULL;
    json_t *o = json_loadb(plain.data, plain.len, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(o))
        return o;
    json_decref(o);
    return NULL;
}

/* By the header's kid, or with any key when it has none. */
static enum errc check_signature(const struct auth_jwt *j, const json_t *header, const char *token,
                                 size_t signed_len, const struct buf *raw, struct error *err) {
    const char *alg = json_string_value(json_object_get(header, "alg"));
    const char *kid = json_string_value(json_object_get(header, "kid"));
    if (!alg || strcmp(alg, "ES256") != 0)
        return err_set(err, ERR_UNAUTHENTICATED, "the token is signed with %.32s, not ES256",
                       alg ? alg : "nothing");
    unsigned char digest[HASH_BYTES];
    hash(token, signed_len, digest);
    bool known = false;
    for (size_t i = 0; i < j->num_keys && raw->len == SIGNATURE_BYTES; i++) {
        if (kid && strcmp(kid, j->keys[i].kid) != 0)
            continue;
        known = true;
        if (verify_hash(&j->keys[i], digest, (const unsigned char *)raw->data))
            return OK;
    }
    return err_set(err, ERR_UNAUTHENTICATED,
                   known ? "the token's signature does not fit its text"
                         : "the token is signed by a key that is not known here");
}

enum errc auth_jwt_verify(const struct auth_jwt *j, const char *token, json_t **ret_claims,
                          struct error *err) {
    const char *first = strchr(token, '.');
    const char *second = first ? strchr(first + 1, '.') : NULL;
    if (!second || strchr(second + 1, '.') || strlen(token) > AUTH_JWT_BYTES_MAX)
        return err_set(err, ERR_MALFORMED, "not a JSON Web Token");
    AUTO_BUF raw = BUF_INIT;
    json_t *header = decode_object(token, (size_t)(first - token));
    json_t *claims = decode_object(first + 1, (size_t)(second - first - 1));
    enum errc rc = OK;
    if (!header || !claims || !base64url_decode(&raw, second + 1))
        rc = err_set(err, ERR_MALFORMED, "not a JSON Web Token");
    else
        rc = check_signature(j, header, token, (size_t)(second - token), &raw, err);
    json_decref(header);
    if (rc)
        json_decref(claims);
    else
        *ret_claims = claims;
    return rc;
}
