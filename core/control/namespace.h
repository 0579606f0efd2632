/* Namespaces: what each one has, and how a terminating one is emptied. */
#ifndef CORE_CONTROL_NAMESPACE_H
#define CORE_CONTROL_NAMESPACE_H

#include "core/control/world.h"

MUST_CHECK enum errc namespace_reconcile(struct world *w, const char *name, struct error *err);

/* Makes default, kube-system, kube-public and kube-node-lease, and the `kubernetes` Service. */
MUST_CHECK enum errc namespace_ensure_builtin(struct world *w, struct error *err);

#endif
