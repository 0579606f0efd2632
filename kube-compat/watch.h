/* Watches: the changes of a collection as they happen. */
#ifndef KUBE_COMPAT_WATCH_H
#define KUBE_COMPAT_WATCH_H

#include "kube-compat/request.h"

/* Answers a list request with watch=true: a stream of events, or a failure. */
void watch_start(struct request *rq);

#endif
