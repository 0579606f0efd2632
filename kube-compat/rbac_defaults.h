/* The roles and bindings that every installation has. */
#ifndef KUBE_COMPAT_RBAC_DEFAULTS_H
#define KUBE_COMPAT_RBAC_DEFAULTS_H

#include "core/store.h"

/* Makes those that are not there and gives back to the others what they have lost: rules,
 * aggregation selectors, subjects, labels and annotations. What was added to them stays, and an
 * object with the annotation rbac.authorization.kubernetes.io/autoupdate: "false" stays as it is. A
 * binding whose roleRef is another is made anew. Once, at start. */
MUST_CHECK enum errc rbac_defaults_reconcile(struct store *store, struct error *err);

#endif
