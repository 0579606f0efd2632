/* Measuring what a HorizontalPodAutoscaler looks at: the pods of its target, what they use. */
#ifndef CORE_CONTROL_POD_AUTOSCALER_METRICS_H
#define CORE_CONTROL_POD_AUTOSCALER_METRICS_H

#include "core/control/pod_autoscaler_spec.h"
#include "core/control/scale_target.h"
#include "core/node/usage.h"

/* The target and its pods, as they are in this round. */
struct metric_scope {
    struct world *w; /* borrowed, like the target */
    const struct scale_target *target;
    struct usage_snapshot *usage; /* NULL: nothing was measured yet */
    struct store_list all;        /* of the namespace */
    const json_t **pods;          /* those whom the target's selector knows; borrowed from `all` */
    uint32_t num_pods;
};
void metric_scope_open(struct metric_scope *s, struct world *w, const struct scale_target *target);
void metric_scope_close(struct metric_scope *s);
#define AUTO_METRIC_SCOPE __attribute__((cleanup(metric_scope_close))) struct metric_scope

struct metric_reading {
    int32_t replicas; /* that this metric asks for */
    char shown[64];   /* "90%/50%", "12/10": what was measured over the target */
    char *name;       /* "cpu resource utilization (percentage of request)" */
    json_t *current;  /* an item of status.currentMetrics */
};
void metric_reading_deinit(struct metric_reading *r);
void metric_show(struct metric_reading *r, int64_t milli, int64_t target_milli); /* fills shown */

/* ERR_UNAVAILABLE, ERR_INVALID: it cannot be told, for the reason that Kubernetes gives; then
 * nothing is to be deinitialised. */
MUST_CHECK enum errc metric_read(const struct metric_scope *s, const struct metric_spec *m,
                                 struct metric_reading *ret_r, struct error *err);

#endif
