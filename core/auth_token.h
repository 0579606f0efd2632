/* ServiceAccount tokens: what is said in them, and whether it still holds. Any thread. */
#ifndef CORE_AUTH_TOKEN_H
#define CORE_AUTH_TOKEN_H

#include <jansson.h>

#include "core/auth.h"
#include "core/store.h"

struct auth_token;

enum {
    AUTH_TOKEN_SECONDS_DEFAULT = 3600,
    AUTH_TOKEN_SECONDS_MIN = 600,
    AUTH_TOKEN_AUDIENCES_MAX = 32,
    AUTH_TOKEN_VERIFIED_MAX = 256, /* signatures that were checked lately */
};
#define AUTH_TOKEN_SECONDS_MAX ((int64_t)1 << 32)

struct auth_token_options {
    const char *key_path; /* PEM, made when missing: see auth_jwt_open() */
    bool existing_only;
    struct store *store; /* borrowed; NULL: tokens are made, none is accepted */
    const char *issuer;  /* "https://kubernetes.default.svc" */
};
MUST_CHECK enum errc auth_token_open(const struct auth_token_options *opt,
                                     struct auth_token **ret_t, struct error *err);
void auth_token_close(struct auth_token *t);
DEFINE_AUTO(auth_token, auth_token_close)

/* An object that a token lives no longer than. */
struct auth_token_bond {
    const char *name, *uid; /* name NULL: none */
};
struct auth_token_order {
    const char *ns, *account, *uid; /* of the ServiceAccount */
    const json_t *audiences; /* strings; NULL or empty: the API server, auth_token_issuer() */
    int64_t seconds;         /* 0: for ever, a Secret's token */
    struct auth_token_bond pod, secret, node;
};
/* Gives a token. ERR_INVALID: a name too long for an identity. */
MUST_CHECK enum errc auth_token_issue(const struct auth_token *t,
                                      const struct auth_token_order *order, int64_t now_ms,
                                      char **ret_token, struct error *err);

/* Whose token is it? audiences: one of these must be the token's; NULL: the API server's.
 * *ret_audiences (may be NULL) gives those that are both. ERR_MALFORMED: it is no ServiceAccount
 * token at all; ERR_UNAUTHENTICATED says why it is not accepted (for the log, not for the client).
 */
MUST_CHECK enum errc auth_token_identify(struct auth_token *t, const char *token,
                                         const json_t *audiences, int64_t now_ms,
                                         struct auth_identity *ret_identity, json_t **ret_audiences,
                                         struct error *err);

const char *auth_token_issuer(const struct auth_token *t); /* borrowed */
json_t *auth_token_jwks(const struct auth_token *t);       /* gives */

#endif
