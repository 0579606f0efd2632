/* LimitRanges: what a new pod gets and may ask for. Pure. */
#ifndef CORE_CONTROL_LIMITS_H
#define CORE_CONTROL_LIMITS_H

#include <jansson.h>

#include "core/base/mem.h"

/* Writes the defaults of the range into the pod's containers, and which into an annotation. */
void limits_default(const json_t *limit_range, json_t *pod);

/* ERR_FORBIDDEN, without the pod's name in front: every bound that the pod violates. */
MUST_CHECK enum errc limits_check(const json_t *limit_range, const json_t *pod, struct error *err);

/* How much of a resource all containers of the pod want together, in thousandths: the sum, or the
 * largest init container when that is more. field: "requests" or "limits". False: none names it. */
MUST_CHECK bool limits_of_pod(const json_t *pod, const char *field, const char *resource,
                              int64_t *ret_milli);

#endif
