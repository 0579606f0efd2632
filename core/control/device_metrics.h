/* What the GPUs do, as metrics with the names of NVIDIA's DCGM exporter, so that its dashboards
 * work. */
#ifndef CORE_CONTROL_DEVICE_METRICS_H
#define CORE_CONTROL_DEVICE_METRICS_H

#include "core/base/metrics.h"
#include "core/node/devices.h"

/* Sets the figures of each GPU; what a card does not tell has no series. m and d may be NULL. */
void device_metrics_set(struct metrics *m, const struct devices *d, const char *node_name);

#endif
