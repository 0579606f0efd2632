/* What a HorizontalPodAutoscaler (autoscaling/v2) says, for the deciders. Pure. */
#ifndef CORE_CONTROL_POD_AUTOSCALER_SPEC_H
#define CORE_CONTROL_POD_AUTOSCALER_SPEC_H

#include <jansson.h>

#include "core/base/error.h"
#include "core/scale/hpa.h"

enum { POD_AUTOSCALER_METRICS_MAX = 32 };

enum metric_source {
    METRIC_SOURCE_RESOURCE,
    METRIC_SOURCE_CONTAINER_RESOURCE,
    METRIC_SOURCE_PODS,
    METRIC_SOURCE_OBJECT,
    METRIC_SOURCE_EXTERNAL,
    METRIC_SOURCES, /* of no known type */
};
const char *metric_source_name(enum metric_source source);   /* "ContainerResource" */
const char *metric_source_member(enum metric_source source); /* "containerResource" */
enum metric_source metric_source_of(const json_t *metric);   /* by its type */

/* One item of spec.metrics. Everything is borrowed from the object. */
struct metric_spec {
    enum metric_source source;
    const char *type;       /* as written; "" when it is not */
    const char *resource;   /* Resource, ContainerResource */
    const char *container;  /* ContainerResource */
    const char *name;       /* the others: of the metric */
    const json_t *selector; /* the others: of its series; NULL: all */
    const json_t *object;   /* Object: {kind, name, apiVersion} */
    int64_t utilization;    /* the target, one of these three; 0: not this one */
    int64_t average_milli, value_milli;
};
struct metric_spec metric_spec_read(const json_t *metric);

/* Bounds and behaviour, with Kubernetes' defaults for what is not said. */
struct hpa_spec pod_autoscaler_spec(const json_t *autoscaler);

/* ERR_INVALID: names field, value and bound. */
MUST_CHECK enum errc pod_autoscaler_check(const json_t *autoscaler, struct error *err);

#endif
