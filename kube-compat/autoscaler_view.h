/* HorizontalPodAutoscalers are stored as autoscaling/v2; this is how autoscaling/v1 spells them. */
#ifndef KUBE_COMPAT_AUTOSCALER_VIEW_H
#define KUBE_COMPAT_AUTOSCALER_VIEW_H

#include <jansson.h>

/* Gives a copy in the form of autoscaling/v1. */
json_t *autoscaler_to_v1(const json_t *v2);
/* Gives a copy in the form of autoscaling/v2. What the annotations hold and cannot be read is
 * dropped, as the reference server does. */
json_t *autoscaler_to_v2(const json_t *v1);

#endif
