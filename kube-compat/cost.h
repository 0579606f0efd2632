/* What a request will cost, as far as its URL and headers tell: for the fair queue (dispatch.h). */
#ifndef KUBE_COMPAT_COST_H
#define KUBE_COMPAT_COST_H

#include "kube-compat/dispatch.h"
#include "kube-compat/request.h"

enum {
    COST_OBJECTS = 40, /* as many of a list cost as much as one request for one object */
    COST_MAX = 26,
};

/* Never queued: health, version, and the leases by which administrators and nodes say that they
 * live. */
bool cost_exempt(const struct request *rq);

/* Reads a request whose URL was read; the strings live in the exchange. */
void cost_read(const struct request *rq, struct dispatch_request *ret_request);

#endif
