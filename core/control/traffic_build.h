/* From InferenceServices and their ready pods to the traffic table of the gateway. */
#ifndef CORE_CONTROL_TRAFFIC_BUILD_H
#define CORE_CONTROL_TRAFFIC_BUILD_H

#include "core/control/world.h"

/* Publishes a new table if it says something else than the published one. `about_to_be` is an
 * InferenceService as it is going to be written, which stands for the stored one: a status may say
 * only what requests find already. NULL: the stored ones. Borrows. */
void traffic_build(struct world *w, const json_t *about_to_be);

#endif
