/* pods/NAME/portforward: answers the exchange. */
#ifndef KUBE_COMPAT_FORWARD_H
#define KUBE_COMPAT_FORWARD_H

#include "kube-compat/request.h"

enum {
    FORWARD_PAIRS_MAX = 128,             /* connections through one tunnel; one more is refused */
    FORWARD_INPUT_BYTES_MAX = 256 << 10, /* for one target; then the client is not read */
};

void forward_begin(struct request *rq);

#endif
