/* Impersonation: an administrator asks to be treated as somebody else (kubectl --as, --as-group).
 */
#ifndef KUBE_COMPAT_IMPERSONATE_H
#define KUBE_COMPAT_IMPERSONATE_H

#include "kube-compat/request.h"

/* Replaces rq->who (in the exchange's arena) by the identity of the Impersonate-* headers, if there
 * are any. ERR_FORBIDDEN: the caller may not; ERR_MALFORMED: groups without a user. */
MUST_CHECK enum errc impersonate(struct request *rq, struct error *err);

#endif
