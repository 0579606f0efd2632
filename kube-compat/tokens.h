/* ServiceAccount tokens over the API: making them, asking about them, and the documents with which
 * others check them. */
#ifndef KUBE_COMPAT_TOKENS_H
#define KUBE_COMPAT_TOKENS_H

#include "kube-compat/request.h"

/* Answers a create of serviceaccounts/NAME/token. */
void tokens_request(struct request *rq);

/* Gives the status of a TokenReview. ERR_MALFORMED: it holds no token. */
MUST_CHECK enum errc tokens_review(struct request *rq, const json_t *spec, json_t **ret_status,
                                   struct error *err);

/* Gives what an identity looks like as UserInfo. who NULL: the server runs without auth. */
json_t *tokens_user(const struct auth_identity *who);

/* /.well-known/openid-configuration and /openid/v1/jwks. False: the path is neither. */
bool tokens_handle(struct request *rq, const char *path);

#endif
