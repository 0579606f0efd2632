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
void rest_finalize(struct request *rq); /* update of namespaces/NAME/finalize */

/* Reads the object that the URL names. ERR_NOT_FOUND in Kubernetes' words. */
MUST_CHECK enum errc rest_read(const struct request *rq, struct store_object **ret_o,
                               struct error *err);

/* The parts of apply. A configuration is a body of YAML or JSON, an object with metadata; it comes
 * with a manager; it is laid over the object that the URL names (config: in stored form, as is
 * rq->kind), which is made when it is not there and this is no subresource. */
MUST_CHECK enum errc rest_parse_config(const struct request *rq, json_t *duplicates,
                                       json_t **ret_config, struct error *err);
MUST_CHECK enum errc rest_check_manager(struct request *rq, struct error *err);
MUST_CHECK enum errc rest_apply_config(struct request *rq, const json_t *config,
                                       json_t **ret_object, bool *ret_created, struct error *err);

/* Answers with an object of the store in the form of kind. Where that is plain JSON, its text is
 * sent from where it is, and made for who asks next. */
void rest_reply_stored(struct request *rq, int status, const struct kind *kind,
                       struct store_object *o);

/* The store's prefix of what a list, watch or deletecollection covers. */
struct object_key;
const char *rest_prefix(const struct request *rq, struct object_key *out);

#endif
