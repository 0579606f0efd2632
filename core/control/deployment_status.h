/* A Deployment's status and conditions. Works on a copy of the object; reads no store. */
#ifndef CORE_CONTROL_DEPLOYMENT_STATUS_H
#define CORE_CONTROL_DEPLOYMENT_STATUS_H

#include "core/control/world.h"

/* new_set may be NULL; stable_set is the one that a canary leaves in place, or NULL; sets are all
 * ReplicaSets of the Deployment, the new one included. */
struct deployment_sets {
    const json_t *new_set, *stable_set;
    const json_t *const *sets;
    size_t num_sets;
};

/* Fills the counts, Available and Progressing. Gives in how many ms the progress deadline is due;
 * 0: there is none to wait for. */
int64_t deployment_status_update(const struct world *w, json_t *deployment,
                                 const struct deployment_sets *sets);

/* Sets Progressing when a ReplicaSet was made, found, or the Deployment paused or resumed. */
void deployment_status_progress(const struct world *w, json_t *deployment, const char *status,
                                const char *reason, const char *message);

/* One version runs, all of it. */
bool deployment_status_complete(const json_t *deployment);
/* Two versions run side by side as a canary wants it, all of both. */
bool deployment_status_split_complete(const json_t *deployment);

#endif
