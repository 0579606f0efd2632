/* Priorities: what a PriorityClass makes of a pod. */
#ifndef CORE_CONTROL_PRIORITY_H
#define CORE_CONTROL_PRIORITY_H

#include <jansson.h>

#include "core/control/world.h"

/* Fills spec.priority, preemptionPolicy and, from the global default, priorityClassName of a new
 * pod. ERR_FORBIDDEN, without the pod's name in front: no such class; a number that is not the
 * class's. */
MUST_CHECK enum errc priority_assign(struct store *st, json_t *pod, struct error *err);

/* ERR_FORBIDDEN: another class is the global default already. */
MUST_CHECK enum errc priority_check_class(struct store *st, const json_t *priority_class,
                                          struct error *err);

/* The two classes that every cluster has. */
MUST_CHECK enum errc priority_ensure_builtin(struct world *w, struct error *err);

#endif
