/* What an autoscaler scales: an object with a scale subresource, found by a scaleTargetRef.
 *
 * Deployments and ReplicaSets, the Deployment behind an InferenceService (which has no scale of its
 * own), and every kind of a CustomResourceDefinition that says where its numbers are. Shared by
 * HorizontalPodAutoscalers and ScaledObjects. Owned by the control thread. */
#ifndef CORE_CONTROL_SCALE_TARGET_H
#define CORE_CONTROL_SCALE_TARGET_H

#include "core/control/world.h"

struct scale_target {
    struct store_object *object; /* as it was read */
    int32_t replicas;            /* that are asked for */
    int32_t status_replicas;     /* that there are */
    json_t *selector;            /* of its pods, as matchLabels and matchExpressions; NULL: none */
    char *replicas_path;         /* "spec.replicas" */
    char *resource;              /* "deployments.apps" */
};

/* ref: {apiVersion, kind, name}. ERR_INVALID: apiVersion or kind say nothing that can be scaled;
 * ERR_NOT_FOUND: there is no such object. The text is what Kubernetes says. On an error ret_t is
 * left alone. */
MUST_CHECK enum errc scale_target_open(struct world *w, const char *ns, const json_t *ref,
                                       struct scale_target *ret_t, struct error *err);
void scale_target_close(struct scale_target *t);
#define AUTO_SCALE_TARGET __attribute__((cleanup(scale_target_close))) struct scale_target

/* Writes the number that is asked for, and owns that field from then on (under the name that tools
 * look for: kube-controller-manager). ERR_CONFLICT: somebody wrote in between. */
MUST_CHECK enum errc scale_target_set(struct world *w, const struct scale_target *t,
                                      int32_t replicas, struct error *err);

/* The InferenceService that scales this object by itself, so that nobody else should; NULL: none.
 * Gives a reference. */
struct store_object *scale_target_service(struct world *w, const struct scale_target *t);

/* A selector's text ("app=web,tier in (a,b),!old") in the form of a LabelSelector. Gives it; NULL:
 * it is not a selector. Pure. */
json_t *scale_target_parse_selector(const char *text);

#endif
