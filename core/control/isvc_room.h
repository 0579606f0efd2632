/* A rolling update on a full machine: the replica of the new revision does not fit beside those
 * that serve, and would fit in the place of one. */
#ifndef CORE_CONTROL_ISVC_ROOM_H
#define CORE_CONTROL_ISVC_ROOM_H

#include "core/control/world.h"

/* Why the Deployment's rollout has to go on without surge: the scheduler's words for its first
 * replica that waits for room which replicas of its other revisions have. Gives; NULL: there is
 * none. */
char *isvc_room_wanted(struct world *w, const json_t *deployment);

#endif
