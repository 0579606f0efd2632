/* metrics.k8s.io: what pods and nodes use, as objects that are made when somebody asks. */
#ifndef KUBE_COMPAT_RESOURCE_METRICS_H
#define KUBE_COMPAT_RESOURCE_METRICS_H

#include "kube-compat/request.h"

/* Serves get and list of a measured kind. OK: answered. ERR_METHOD: any other verb. */
MUST_CHECK enum errc resource_metrics_serve(struct request *rq, struct error *err);

/* ---- Pure. ---- */

struct usage_snapshot;

/* Gives the PodMetrics or NodeMetrics of a stored Pod or Node; NULL: it was not measured. */
json_t *resource_metrics_of_pod(const json_t *pod, const struct usage_snapshot *s);
json_t *resource_metrics_of_node(const json_t *node, const struct usage_snapshot *s);

#endif
