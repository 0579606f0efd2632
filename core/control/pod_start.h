/* From a container in a Pod to its process. */
#ifndef CORE_CONTROL_POD_START_H
#define CORE_CONTROL_POD_START_H

#include "core/control/pod_record.h"

/* Starts the container and tells so. True: its process runs. False: it waits, for what its record
 * says, until start_at_ms. */
bool pod_start(struct world *w, const json_t *pod, struct pod_record *r, struct pod_container *c);

#endif
