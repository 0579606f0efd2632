/* Defaults and rules of the built-in kinds that a schema cannot express. Pure. */
#ifndef KUBE_COMPAT_VALIDATE_H
#define KUBE_COMPAT_VALIDATE_H

#include "kube-compat/kinds.h"

/* Prepares a new object: initial status, what the server assigns. */
void defaults_new(const struct kind *kind, json_t *object);
/* Fills in what was left out, on create and on update. old: NULL on create. */
void defaults_apply(const struct kind *kind, json_t *object, const json_t *old);

/* Appends causes. */
void validate_metadata(const struct kind *kind, const json_t *object, json_t *causes);
void validate_object(const struct kind *kind, const json_t *object, json_t *causes);
void validate_update(const struct kind *kind, const json_t *object, const json_t *old,
                     json_t *causes);

#endif
