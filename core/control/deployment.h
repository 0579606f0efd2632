/* Deployment: one ReplicaSet per version of the pod template, rolled from one to the next,
 * or, while an InferenceService asks for a canary, two of them side by side. */
#ifndef CORE_CONTROL_DEPLOYMENT_H
#define CORE_CONTROL_DEPLOYMENT_H

#include "core/control/world.h"

#define DEPLOYMENT_HASH_LABEL "pod-template-hash"

/* Why a rollout goes on without surge, whatever the strategy allows (isvc_room.h). */
#define DEPLOYMENT_NO_SURGE_ANNOTATION "inferd.io/no-room-for-surge"

MUST_CHECK enum errc deployment_reconcile(struct world *w, const char *ns, const char *name,
                                          struct error *err);

/* The ReplicaSet is of the Deployment's present template. */
bool deployment_has_template_of(const json_t *deployment, const json_t *set);

/* maxSurge and maxUnavailable as numbers; both zero is not allowed, so unavailable becomes 1. */
void deployment_bounds(const json_t *deployment, int64_t *ret_surge, int64_t *ret_unavailable);

#endif
