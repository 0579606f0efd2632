/* The HorizontalPodAutoscaler that an InferenceService asks for, as KServe makes it: by scaleMetric
 * cpu or memory, by autoScaling.metrics, or by an annotation. It is an object like any other, owned
 * by the service and named as its Deployment. */
#ifndef CORE_CONTROL_ISVC_AUTOSCALER_H
#define CORE_CONTROL_ISVC_AUTOSCALER_H

#include "core/control/world.h"

/* Does the service ask for one (and has it room to scale)? Pure. */
bool isvc_autoscaler_asked(const json_t *isvc);

/* Makes, changes or deletes it; `name` is that of the Deployment. One of that name that belongs to
 * somebody else is left alone. */
MUST_CHECK enum errc isvc_autoscaler_reconcile(struct world *w, const json_t *isvc,
                                               const char *name, struct error *err);

/* ERR_INVALID: names field, value and bound. Pure. */
MUST_CHECK enum errc isvc_autoscaler_check(const json_t *isvc, struct error *err);

#endif
