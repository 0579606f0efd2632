/* The log subresource of pods. */
#ifndef KUBE_COMPAT_PODLOG_STREAM_H
#define KUBE_COMPAT_PODLOG_STREAM_H

#include "kube-compat/request.h"

void podlog_stream_start(struct request *rq); /* answers GET pods/NAME/log */

#endif
