/* JSON Web Tokens (RFC 7519) signed with ES256 (RFC 7518): the signing keys, and nothing about what
 * the claims mean. Constant once open; any thread. */
#ifndef CORE_AUTH_JWT_H
#define CORE_AUTH_JWT_H

#include <jansson.h>

#include "core/base/mem.h"

struct auth_jwt;

enum { AUTH_JWT_KEYS_MAX = 8, AUTH_JWT_BYTES_MAX = 16 << 10, AUTH_JWT_KID_BYTES_MAX = 64 };

/* path: a PEM file of P-256 private keys; the first signs, all verify, so a key is changed by
 * putting another before it. Made with one key, 0600, when it does not exist; with existing_only
 * that is ERR_NOT_FOUND. ERR_INVALID names the file. */
MUST_CHECK enum errc auth_jwt_open(const char *path, bool existing_only, struct auth_jwt **ret_jwt,
                                   struct error *err);
void auth_jwt_close(struct auth_jwt *j);
DEFINE_AUTO(auth_jwt, auth_jwt_close)

/* Gives the token. */
MUST_CHECK enum errc auth_jwt_sign(const struct auth_jwt *j, const json_t *claims, char **ret_token,
                                   struct error *err);
/* Gives the claims of a token that one of the keys signed. ERR_MALFORMED: no JWT at all, so it may
 * be a token of another kind; ERR_UNAUTHENTICATED: another algorithm, key or signature. Looks at no
 * claim: not even at the time. */
MUST_CHECK enum errc auth_jwt_verify(const struct auth_jwt *j, const char *token,
                                     json_t **ret_claims, struct error *err);
/* Gives a JSON Web Key Set (RFC 7517) of the public keys. */
json_t *auth_jwt_jwks(const struct auth_jwt *j);

#endif
