/* Nobody grants rights that he does not have. */
#ifndef KUBE_COMPAT_ESCALATION_H
#define KUBE_COMPAT_ESCALATION_H

#include "kube-compat/request.h"

/* Checks a role or binding that rq->who is about to write, validated and with its defaults; other
 * kinds pass. old: what it replaces, or NULL. ERR_FORBIDDEN in Kubernetes' words; ERR_NOT_FOUND:
 * the caller does not hold all rights and the role that a binding names is not there. */
MUST_CHECK enum errc escalation_check(struct request *rq, const json_t *object, const json_t *old,
                                      struct error *err);

#endif
