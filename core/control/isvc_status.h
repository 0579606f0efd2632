/* The status of an InferenceService. Works on a copy of the object; reads no store. */
#ifndef CORE_CONTROL_ISVC_STATUS_H
#define CORE_CONTROL_ISVC_STATUS_H

#include "core/control/isvc_predictor.h"

struct isvc_view {
    const struct isvc_plan *plan;
    const json_t *deployment;  /* NULL: none */
    const json_t *const *sets; /* its ReplicaSets */
    size_t num_sets;
    const json_t *const *pods; /* of the predictor, deleted ones left out */
    size_t num_pods;
};

/* Fills url, address, components, modelStatus, canaryStatuses, conditions, observedGeneration,
 * deploymentMode. `v` is the stable predictor, `canaries` are those of spec.canary, in its order.
 */
void isvc_status_update(const struct world *w, json_t *isvc, const struct isvc_view *v,
                        const struct isvc_view *canaries, size_t num_canaries);

#endif
