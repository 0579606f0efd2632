/* From InferenceServices and their ready pods to the traffic table of the gateway. */
#ifndef CORE_CONTROL_TRAFFIC_BUILD_H
#define CORE_CONTROL_TRAFFIC_BUILD_H

#include "core/control/world.h"

/* Publishes a new table if it says something else than the published one. */
void traffic_build(struct world *w);

#endif
