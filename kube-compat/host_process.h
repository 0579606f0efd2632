/* Who may run processes of this machine as pods. */
#ifndef KUBE_COMPAT_HOST_PROCESS_H
#define KUBE_COMPAT_HOST_PROCESS_H

#include "kube-compat/request.h"

/* Checks a Pod, what has a template of Pods, an InferenceService or a runtime that rq->who is about
 * to write; other kinds pass.
 * old: what it replaces, or NULL. ERR_FORBIDDEN: a container has the image `host`, what the pods
 * are is new or changed, and he may not use hostprocesses in this namespace. */
MUST_CHECK enum errc host_process_check(struct request *rq, const json_t *object, const json_t *old,
                                        struct error *err);

#endif
