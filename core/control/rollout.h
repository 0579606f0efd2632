/* Rollout: how many replicas each ReplicaSet of a Deployment is to have next. Pure. */
#ifndef CORE_CONTROL_ROLLOUT_H
#define CORE_CONTROL_ROLLOUT_H

#include <jansson.h>

#include "core/base/mem.h"

struct rollout_set {
    int64_t replicas;  /* spec.replicas: what it was told to have; the plan is written here */
    int64_t available; /* of those, available now */
    int64_t num_pods;  /* pods of it that exist, ending ones too */
    /* For rollout_scale(): */
    int64_t max_replicas; /* desired + max_surge when it was sized last; 0: nobody knows */
    int64_t created;      /* orders sets by age */
};

struct rollout {
    int64_t desired; /* the Deployment's spec.replicas */
    int64_t max_surge, max_unavailable;
    bool recreate;
    struct rollout_set *new_set; /* NULL: there is none yet */
    struct rollout_set *old_sets;
    size_t num_old_sets;     /* oldest first */
    int64_t status_replicas; /* stands in for a max_replicas that nobody knows */
};

/* One step of a rollout towards only the new set: changes `replicas` of some sets. True: it did. */
bool rollout_step(struct rollout *r);

/* A canary: the new set and `stable`, one of the old sets, each get `desired` replicas, whatever
 * surge, unavailability and Recreate say. Further old sets go once all of stable is available.
 * True: something changed. */
bool rollout_split(struct rollout *r, struct rollout_set *stable);

/* The Deployment was scaled in the middle of a rollout (or is paused): every set with replicas
 * keeps its share of desired + max_surge, rounded; what rounding leaves goes to the largest, of
 * equals to the newest when growing and the oldest when shrinking. True: something changed. */
bool rollout_scale(struct rollout *r);

/* "25%" or a number of `total`; percentages round up for surge, down for unavailable. False: it is
 * neither. */
MUST_CHECK bool rollout_resolve(const json_t *value, int64_t total, bool round_up,
                                int64_t *ret_number);

#endif
