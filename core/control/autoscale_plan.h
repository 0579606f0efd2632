/* What an InferenceService says about its number of replicas: KServe's fields and Knative's
 * annotations, as the spec of a decider. Pure. */
#ifndef CORE_CONTROL_AUTOSCALE_PLAN_H
#define CORE_CONTROL_AUTOSCALE_PLAN_H

#include "core/config.h"
#include "core/object.h"
#include "core/scale/inference.h"
#include "core/scale/kpa.h"

enum autoscale_rule {
    AUTOSCALE_NONE,      /* as many as minReplicas says, or as somebody else sets */
    AUTOSCALE_OBJECT,    /* a HorizontalPodAutoscaler of the service's own: isvc_autoscaler.h */
    AUTOSCALE_INFERENCE, /* inferd's own */
    AUTOSCALE_KNATIVE, /* asked for by an annotation of Knative's autoscaler, or by scaleMetric rps
                        */
};

struct autoscale_plan {
    enum autoscale_rule rule;
    int32_t min, max; /* min 0: down to nothing, and back on a request */
    int32_t initial;  /* of a new service */
    struct kpa_spec kpa;
    struct inference_spec inference;
};

/* Values that autoscale_check() refuses count as not given. config NULL: its defaults. */
void autoscale_plan(const json_t *isvc, const struct config *config, struct autoscale_plan *ret);

bool autoscale_plan_equal(const struct autoscale_plan *a, const struct autoscale_plan *b);

/* The decider for this rule is here, and not in an object. */
bool autoscale_decides(enum autoscale_rule rule);

/* An annotation of the predictor's pods comes before one of the service; NULL: neither has it. */
const char *autoscale_annotation(const json_t *isvc, const char *key);

/* No replica runs, and the next request starts one. */
bool autoscale_wakes(const json_t *isvc);

/* ERR_INVALID: an annotation with a value that Knative would refuse; names it, the value and the
 * bounds. */
MUST_CHECK enum errc autoscale_check(const json_t *isvc, struct error *err);

#endif
