/* The write pipeline: what happens to an object between a client's bytes and the store.
 *
 *   read -> unknown fields -> prune -> defaults -> metadata -> validate -> admit -> owners -> store
 *
 * Create, update, patch and their subresources share it, so a rule stands in one place. */
#ifndef KUBE_COMPAT_WRITE_H
#define KUBE_COMPAT_WRITE_H

#include "kube-compat/managed_fields.h"
#include "kube-compat/request.h"

/* Which part of an object a write may change. */
enum write_scope { WRITE_WHOLE, WRITE_STATUS };

/* Unknown and duplicate fields by rq->field_validation: ERR_MALFORMED, warnings, or nothing.
 * duplicates: what body_read() noted, may be NULL. Then prunes. */
MUST_CHECK enum errc write_check_fields(struct request *rq, json_t *object,
                                        const json_t *duplicates, struct error *err);

/* Who writes, for managedFields: the query's fieldManager, else the program that the User-Agent
 * names. */
struct managed_writer write_writer(const struct request *rq);

/* Creates object (taken); gives what is stored (or would be: dry run). Fills rq->causes with
 * ERR_INVALID. */
MUST_CHECK enum errc write_create(struct request *rq, json_t *object, json_t **ret_object,
                                  struct error *err);

/* Replaces `old` by object (taken). ERR_CONFLICT also when somebody else wrote meanwhile and the
 * object carries no resourceVersion: the caller may read again and retry (*ret_retry is true). */
MUST_CHECK enum errc write_update(struct request *rq, struct store_object *old, json_t *object,
                                  enum write_scope scope, json_t **ret_object, bool *ret_retry,
                                  struct error *err);

/* After a write or delete reached the store: what is served may have changed with it. */
void write_done(const struct request *rq);

#endif
