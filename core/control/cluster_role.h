/* Aggregated ClusterRoles: those with an aggregationRule, whose rules are those of the roles that
 * it selects. */
#ifndef CORE_CONTROL_CLUSTER_ROLE_H
#define CORE_CONTROL_CLUSTER_ROLE_H

#include "core/control/world.h"

MUST_CHECK enum errc cluster_role_reconcile(struct world *w, const char *ns, const char *name,
                                            struct error *err);

/* A ClusterRole changed: every aggregated one looks again. */
void cluster_role_changed(struct world *w);

#endif
