/* The autoscaler: once a second, and at once when a request waits for a service without replicas,
 * it asks the decider of each InferenceService and writes its Deployment's replicas. */
#ifndef CORE_CONTROL_AUTOSCALE_H
#define CORE_CONTROL_AUTOSCALE_H

#include "core/control/world.h"

struct autoscale_table *autoscale_table_create(void);
void autoscale_table_destroy(struct autoscale_table *t);

/* Looks at all services. Gives how many scale by themselves: with none there is nothing to do until
 * an InferenceService changes. */
uint32_t autoscale_tick(struct world *w);

enum { AUTOSCALE_TICK_MS = 1000 };

#endif
