/* PodDisruptionBudgets: how many pods may be taken away by choice. */
#ifndef CORE_CONTROL_DISRUPTION_H
#define CORE_CONTROL_DISRUPTION_H

#include "core/control/admission.h"
#include "core/control/world.h"

enum { DISRUPTION_CAUSE_BYTES_MAX = ADMISSION_CAUSE_BYTES_MAX, DISRUPTED_SECONDS_MAX = 120 };

/* What a budget is judged by. */
struct disruption_counts {
    int64_t expected; /* replicas that the owners of its pods want; for a number in minAvailable:
                         pods that there are */
    int64_t healthy;  /* ready, and nobody has taken them away */
};

struct disruption_verdict {
    int64_t desired_healthy, allowed;
};
/* Pure. spec: of the budget. */
struct disruption_verdict disruption_decide(const json_t *spec,
                                            const struct disruption_counts *counts);

/* The budget covers the pod: an empty selector means all pods of the namespace, none means none. */
bool disruption_covers(const json_t *budget, const json_t *pod);

MUST_CHECK enum errc disruption_reconcile(struct world *w, const char *ns, const char *name,
                                          struct error *err);
/* Looks at the budgets of a namespace again. */
void disruption_enqueue(struct world *w, const char *ns);

/* May the pod be evicted? When a budget pays for it, the budget with one disruption less becomes a
 * charge, to be committed with the deletion. ERR_EXHAUSTED: the budget has none left; ret_cause
 * then says why (a Status cause DisruptionBudget). ERR_INTERNAL: two budgets cover the pod. */
MUST_CHECK enum errc disruption_charge(struct store *st, const json_t *pod, int64_t wall_ms,
                                       struct charges *charges,
                                       char ret_cause[DISRUPTION_CAUSE_BYTES_MAX],
                                       struct error *err);

#endif
