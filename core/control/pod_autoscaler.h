/* HorizontalPodAutoscaler: every hpaSyncSeconds each is looked at, its target scaled, its status
 * written. */
#ifndef CORE_CONTROL_POD_AUTOSCALER_H
#define CORE_CONTROL_POD_AUTOSCALER_H

#include "core/control/world.h"

/* What is remembered of each between two looks: its windows. */
struct pod_autoscaler_table *pod_autoscaler_table_create(void);
void pod_autoscaler_table_destroy(struct pod_autoscaler_table *t);

MUST_CHECK enum errc pod_autoscaler_reconcile(struct world *w, const char *ns, const char *name,
                                              struct error *err);

/* An event of such an object is news: its own status writes are none. */
bool pod_autoscaler_is_news(const struct store_event *e);

#endif
