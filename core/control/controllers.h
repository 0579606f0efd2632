/* All reconcilers behind one queue: what the control thread turns, and what tests turn by hand. */
#ifndef CORE_CONTROL_CONTROLLERS_H
#define CORE_CONTROL_CONTROLLERS_H

#include "core/control/world.h"

struct controllers;

/* Takes over a world whose borrowed fields and clock are set; makes its tables and what every
 * installation has (namespaces, Node, runtime), and opens the watch. notify is called from the
 * store thread when there may be something to do. */
MUST_CHECK enum errc controllers_create(const struct world *world, store_notify_fn *notify,
                                        void *user, struct controllers **ret_c, struct error *err);
void controllers_destroy(struct controllers *c);
DEFINE_AUTO(controllers, controllers_destroy)

/* One round: turns events into keys and looks at the keys that are due, until none is left or
 * CONTROLLERS_KEYS_MAX were looked at; then publishes the traffic table and writes events. */
void controllers_run(struct controllers *c, int64_t wall_ms, int64_t mono_ms);
/* How many ms until a key is due; -1: none is. */
int64_t controllers_wait_ms(const struct controllers *c, int64_t mono_ms);

/* A process changed its phase (supervisor's on_change). */
void controllers_replica_changed(struct controllers *c, const char *uid);

enum {
    CONTROLLERS_KEYS_MAX = 32,    /* per round, so that processes are attended to in between */
    CONTROLLERS_GC_DELAY_MS = 20, /* collects once for a burst of deletions */
    CONTROLLERS_EVENT_SWEEP_MS = 60 * 1000,
};

#endif
