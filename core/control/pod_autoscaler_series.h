/* Pods, Object and External metrics: from inferd's own series (core/series). */
#ifndef CORE_CONTROL_POD_AUTOSCALER_SERIES_H
#define CORE_CONTROL_POD_AUTOSCALER_SERIES_H

#include "core/control/pod_autoscaler_metrics.h"

/* As metric_read(), for those three. */
MUST_CHECK enum errc metric_read_series(const struct metric_scope *s, const struct metric_spec *m,
                                        struct metric_reading *ret_r, struct error *err);

#endif
