/* What a ScaledObject (keda.sh/v1alpha1) says, for the deciders. Pure. */
#ifndef CORE_CONTROL_SCALED_OBJECT_SPEC_H
#define CORE_CONTROL_SCALED_OBJECT_SPEC_H

#include <jansson.h>

#include "core/base/error.h"
#include "core/scale/hpa.h"
#include "core/scale/keda.h"

struct scaled_object_spec {
    struct keda_spec keda; /* annotations included */
    struct hpa_spec hpa;   /* between one and the maximum */
    int64_t polling_ms;
};

/* KEDA's defaults for what is not said. ERR_INVALID: names field, value and bound, or what is not
 * supported. */
MUST_CHECK enum errc scaled_object_spec(const json_t *o, struct scaled_object_spec *ret,
                                        struct error *err);

/* Gives spec.scaleTargetRef with its defaults: a Deployment of apps/v1. */
json_t *scaled_object_target(const json_t *o);

#endif
