/* The one Node: this machine. */
#ifndef CORE_CONTROL_NODE_H
#define CORE_CONTROL_NODE_H

#include "core/control/world.h"

enum { NODE_HEARTBEAT_SECONDS = 300, NODE_PODS_MAX = 110 };

/* Makes the Node or brings its status and its Lease up to date (a heartbeat). What users own
 * (labels, taints, unschedulable) stays. */
MUST_CHECK enum errc node_ensure(struct world *w, struct error *err);
/* An Event when the node was cordoned or uncordoned between the two. */
void node_tell_schedulable(struct world *w, const json_t *was, const json_t *now);
/* Nodes of earlier names of this machine go, and with them the pods bound to them. */
MUST_CHECK enum errc node_remove_stale(struct world *w, struct error *err);

/* The machine's address for pods and Node: its first one that is not loopback. Gives text. */
char *node_find_ip(void);

#endif
