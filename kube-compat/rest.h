/* The verbs. Each answers the exchange, exactly once. */
#ifndef KUBE_COMPAT_REST_H
#define KUBE_COMPAT_REST_H

#include "kube-compat/request.h"

#define APPLY_MEDIA_TYPE "application/apply-patch+yaml"

void rest_get(struct request *rq);
void rest_list(struct request *rq);
void rest_create(struct request *rq);
void rest_update(struct request *rq);
void rest_patch(struct request *rq);
void rest_apply(struct request *rq); /* a patch of type APPLY_MEDIA_TYPE */
void rest_delete(struct request *rq);
void rest_delete_collection(struct request *rq);
void rest_scale(struct request *rq);    /* get, update, patch of SCALE */
void rest_eviction(struct request *rq); /* create of pods/NAME/eviction */

/* Reads the object that the URL names. ERR_NOT_FOUND in Kubernetes' words. */
MUST_CHECK enum errc rest_read(const struct request *rq, struct store_object **ret_o,
                               struct error *err);

/* The store's prefix of what a list, watch or deletecollection covers. */
struct object_key;
const char *rest_prefix(const struct request *rq, struct object_key *out);

#endif
