/* Impersonation: a client asks to be treated as somebody else (kubectl --as, --as-group, --as-uid),
 * and has the right to. */
#ifndef KUBE_COMPAT_IMPERSONATE_H
#define KUBE_COMPAT_IMPERSONATE_H

#include "kube-compat/request.h"

/* Replaces rq->who (in the exchange's arena) by the identity of the Impersonate-* headers, if there
 * are any. ERR_FORBIDDEN: the caller may not; ERR_MALFORMED: groups, a uid or extra values without
 * a user, or more or longer ones than an identity holds. */
MUST_CHECK enum errc impersonate(struct request *rq, struct error *err);

#endif
