/* Defaults and rules of roles and bindings. Pure. */
#ifndef KUBE_COMPAT_VALIDATE_RBAC_H
#define KUBE_COMPAT_VALIDATE_RBAC_H

#include "kube-compat/kinds.h"

bool validate_is_rbac(const struct kind *kind);

void defaults_rbac(json_t *object);
/* Append causes. */
void validate_rbac(const struct kind *kind, const json_t *object, json_t *causes);
void validate_rbac_update(const struct kind *kind, const json_t *object, const json_t *old,
                          json_t *causes);

#endif
