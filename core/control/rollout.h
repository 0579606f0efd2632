/* Rollout: how many replicas each ReplicaSet of a Deployment is to have next. Pure. */
#ifndef CORE_CONTROL_ROLLOUT_H
#define CORE_CONTROL_ROLLOUT_H

#include <jansson.h>

#include "core/base/mem.h"

struct rollout_set {
    int64_t replicas;  /* spec.replicas: what it was told to have; the plan is written here */
    int64_t available; /* of those, available now */
    int64_t num_pods;  /* pods of it that exist, ending ones too */
};

struct rollout {
    int64_t desired; /* the Deployment's spec.replicas */
    int64_t max_surge, max_unavailable;
    bool recreate;
    struct rollout_set *new_set; /* NULL: there is none yet */
    struct rollout_set *old_sets;
    size_t num_old_sets; /* oldest first */
};

/* One step of a rollout towards only the new set: changes `replicas` of some sets. True: it did. */
bool rollout_step(struct rollout *r);

/* A canary: the new set and `stable`, one of the old sets, each get `desired` replicas, whatever
 * surge, unavailability and Recreate say. Further old sets go once all of stable is available.
 * True: something changed. */
bool rollout_split(struct rollout *r, struct rollout_set *stable);

/* The Deployment was scaled in the middle of a rollout (or is paused): spreads the difference over
 * the sets in proportion to their sizes, the largest first. True: something changed. */
bool rollout_scale(struct rollout *r);

/* "25%" or a number of `total`; percentages round up for surge, down for unavailable. False: it is
 * neither. */
MUST_CHECK bool rollout_resolve(const json_t *value, int64_t total, bool round_up,
                                int64_t *ret_number);

#endif
