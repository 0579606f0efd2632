/* A rolling update on a full machine: the replica of the new revision does not fit beside those
 * that serve, and would fit in the place of one. */
#ifndef CORE_CONTROL_ISVC_ROOM_H
#define CORE_CONTROL_ISVC_ROOM_H

#include "core/control/world.h"

/* Why the rollout has to go on without surge: the scheduler's words for the first replica of `isvc`
 * that waits for room which older replicas of the same service have. Gives; NULL: there is none
 * such. */
char *isvc_room_wanted(struct world *w, const json_t *isvc);

#endif
