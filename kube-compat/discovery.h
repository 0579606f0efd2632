/* Discovery: which groups, versions and resources there are, in both of Kubernetes' forms. */
#ifndef KUBE_COMPAT_DISCOVERY_H
#define KUBE_COMPAT_DISCOVERY_H

#include "kube-compat/request.h"

/* Answers /version, /api, /api/v1, /apis, /apis/GROUP, /apis/GROUP/VERSION. False: the path names
 * no such thing, and nothing was answered. group NULL: the roots. */
void discovery_version(struct http_exchange *x);
bool discovery_handle(struct request *rq, const char *group, const char *version);
void discovery_root(struct request *rq, bool core);
/* Answers /: the paths that there are. */
void discovery_paths(struct request *rq);

#endif
