/* Who is calling: client certificates and bearer tokens to identities. Immutable once loaded;
 * read by all server threads. (Authorization, what an identity may do, is kube-compat/authz.) */
#ifndef CORE_AUTH_H
#define CORE_AUTH_H

#include <jansson.h>

#include "core/base/mem.h"

struct auth;
struct auth_token;
struct store;

enum {
    AUTH_GROUPS_MAX = 16,
    AUTH_NAME_BYTES_MAX = 256,
    AUTH_UID_BYTES_MAX = 64,
    AUTH_EXTRA_MAX = 8,
    AUTH_EXTRA_KEY_BYTES_MAX = 64,
};

/* What else is known, as Kubernetes has it: "authentication.kubernetes.io/pod-name" and the like. A
 * key with several values stands several times, one behind the other. */
struct auth_extra {
    char key[AUTH_EXTRA_KEY_BYTES_MAX];
    char value[AUTH_NAME_BYTES_MAX];
};

struct auth_identity {
    char name[AUTH_NAME_BYTES_MAX]; /* certificate CN, or the token's user; "system:anonymous" */
    char uid[AUTH_UID_BYTES_MAX];   /* of the token's user; "": none */
    char groups[AUTH_GROUPS_MAX][AUTH_NAME_BYTES_MAX]; /* certificate O=..., token's groups */
    uint32_t num_groups;
    struct auth_extra extra[AUTH_EXTRA_MAX];
    uint32_t num_extra;
    bool anonymous;
    bool admin; /* member of system:masters */
};

/* False: the identity has all the groups that it can have, or the name is empty or too long. */
bool auth_identity_add_group(struct auth_identity *id, const char *group);

/* Loads `data_dir`/pki, making at first start: a CA, a server certificate (SANs: localhost,
 * loopback addresses, host name, host addresses, `extra_sans`), an admin client certificate
 * (CN=admin, O=system:masters), tokens.csv ("token,user,uid,\"group1,group2\"", Kubernetes'
 * static token file) with one random admin token, and keys/sa.key, which signs ServiceAccount
 * tokens. Files 0600, directories 0700. Certificates near expiry are made anew at start. */
struct auth_options {
    const char *data_dir;
    const char *const *extra_sans; /* NULL-terminated, may be NULL */
    const char *token_file;        /* a second static token file; NULL or "": none */
    const char *issuer;            /* of ServiceAccount tokens; NULL: AUTH_ISSUER_DEFAULT */
    struct store *store; /* borrowed: ServiceAccounts; NULL: their tokens are not accepted */
    bool existing_only;  /* write nothing; ERR_NOT_FOUND when no daemon has made the files yet */
};
#define AUTH_ISSUER_DEFAULT "https://kubernetes.default.svc"
MUST_CHECK enum errc auth_open(const struct auth_options *opt, struct auth **ret_auth,
                               struct error *err);
void auth_close(struct auth *a);
DEFINE_AUTO(auth, auth_close)

/* Authenticated identities also get the group system:authenticated, the anonymous one
 * system:unauthenticated, as in Kubernetes.
 * authorization: the header's value or NULL; peer: identity of a verified client certificate or
 * NULL. A bad token is ERR_UNAUTHENTICATED even beside a good certificate; neither present gives an
 * anonymous identity and OK. Constant-time comparison. */
MUST_CHECK enum errc auth_identify(const struct auth *a, const char *authorization,
                                   const struct auth_identity *peer,
                                   struct auth_identity *ret_identity, struct error *err);

/* A browser cannot set Authorization on a WebSocket, so the token comes among the subprotocols, as
 * base64url.bearer.authorization.k8s.io.TOKEN with TOKEN in base64url, beside at least one other.
 * Gives (arena) the value that Authorization would have, NULL when there is no token, and the other
 * subprotocols. ERR_UNAUTHENTICATED: a token that is no base64url, two of them, or none beside. */
MUST_CHECK enum errc auth_read_subprotocols(struct arena *arena, const char *subprotocols,
                                            const char **ret_authorization, const char **ret_others,
                                            struct error *err);

/* A bearer token by itself, for whoever asks about it (TokenReview). audiences: one of these must
 * be the token's, static tokens have the API server's; NULL: the API server's. *ret_audiences gives
 * those that are both (a new array). ERR_UNAUTHENTICATED says why not, for the log. */
MUST_CHECK enum errc auth_review(const struct auth *a, const char *token, const json_t *audiences,
                                 struct auth_identity *ret_identity, json_t **ret_audiences,
                                 struct error *err);
struct auth_token *auth_service_accounts(const struct auth *a); /* borrowed */

/* Do the two texts equal? The time tells at most the length of `shown`. */
bool auth_same_secret(const char *secret, size_t secret_len, const char *shown, size_t len);

const char *auth_ca_pem(const struct auth *a); /* borrowed */

/* For the TLS thread: its certificates (borrowed), and the identity of a verified client
 * certificate; groups beyond AUTH_GROUPS_MAX are left out. */
struct pki;
const struct pki *auth_pki(const struct auth *a);
void auth_certificate_identity(const char *const *organizations, size_t num_organizations,
                               const char *common_name, struct auth_identity *ret_identity);

/* Gives kubeconfig text for `server` ("https://127.0.0.1:6443"); user "admin" carries the admin
 * client certificate. Other names: a fresh client certificate with that CN, and group as its O
 * (NULL: no group). */
MUST_CHECK enum errc auth_kubeconfig(const struct auth *a, const char *server, const char *user,
                                     const char *group, char **ret_yaml, struct error *err);

#endif
