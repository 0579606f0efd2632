/* Garbage collection: dependents follow their owners, as ownerReferences and finalizers say. */
#ifndef CORE_CONTROL_GC_H
#define CORE_CONTROL_GC_H

#include "core/control/world.h"

/* One look at all objects. Work that waits for other objects to go comes back by their deletion. */
MUST_CHECK enum errc gc_collect(struct world *w, struct error *err);

#endif
