/* From an InferenceService to the pods that serve it: runtime, container, pod template. */
#ifndef CORE_CONTROL_ISVC_PREDICTOR_H
#define CORE_CONTROL_ISVC_PREDICTOR_H

#include "core/control/world.h"

struct isvc_plan {
    json_t *template;     /* the pod template; NULL: nothing to run */
    const char *reason;   /* why nothing runs: KServe's lastFailureInfo.reason */
    char *message;        /* the same for a human */
    char *runtime;        /* name of the ServingRuntime; NULL: custom containers */
    bool cluster_runtime; /* it is a ClusterServingRuntime */
};

/* Plans the predictor. That nothing can run is a result, not an error. */
void isvc_predictor_plan(struct world *w, const json_t *isvc, struct isvc_plan *ret);
void isvc_plan_deinit(struct isvc_plan *p);

/* The framework of spec.predictor in `model` form: what spec.predictor.model says, or a legacy
 * shorthand (predictor.pytorch ...) translated. Gives a new reference; NULL: custom containers. */
json_t *isvc_predictor_model(const json_t *isvc);
/* "model", "pytorch" ...: the fields of spec.predictor that are a framework. NULL after the last.
 */
const char *const *isvc_predictor_frameworks(void);

/* Gives the name of the Deployment and the Service of spec.predictor: NAME-predictor, or, when it
 * has a name of its own, NAME-ITS-predictor. */
char *isvc_predictor_child(const json_t *isvc);

#define ISVC_LABEL           "serving.kserve.io/inferenceservice"
#define ISVC_CONTAINER_NAME  "kserve-container"
#define ISVC_COMPONENT_LABEL "component"
/* "api-key" or "header:NAME": a client that sends it stays with its revision. */
#define ISVC_STICKY_ANNOTATION "inferd.io/sticky-by"
/* "true": the newest revision has hosts of its own, by the tag "latest". */
#define ISVC_TAGS_ANNOTATION "serving.kserve.io/enable-tag-routing"

#endif
