/* KEDA's ScaledObject as a decider: what its triggers come to. Between zero (or the idle count) and
 * one KEDA decides by itself; above that, the greatest of the triggers within the bounds. Pure.
 *
 * In a cluster KEDA leaves the upper part to a HorizontalPodAutoscaler that it makes; keda_wanted()
 * is the number that goes into that (hpa.h), keda_decide() what KEDA itself makes of it. */
#ifndef CORE_SCALE_KEDA_H
#define CORE_SCALE_KEDA_H

#include "core/base/error.h"
#include "core/scale/decision.h"

enum { KEDA_TRIGGERS_MAX = 16 };

struct keda_trigger {
    double threshold;            /* > 0; per replica, or (is_value) for all together */
    double activation_threshold; /* above it the trigger is active */
    bool is_value;               /* metricType Value; else AverageValue */
    bool fails;                  /* its source cannot be read now */
    uint32_t num_failures;       /* in a row */
    double value;                /* when it can be read */
    bool is_resource;            /* cpu, memory: what the HorizontalPodAutoscaler's rule asks for */
    int32_t replicas;            /* by that; such a trigger starts nothing from zero */
};

enum keda_fallback { /* spec.fallback.behavior */
                     KEDA_FALLBACK_NONE,
                     KEDA_FALLBACK_STATIC,
                     KEDA_FALLBACK_CURRENT,
                     KEDA_FALLBACK_CURRENT_IF_HIGHER,
                     KEDA_FALLBACK_CURRENT_IF_LOWER,
};

struct keda_spec {
    int32_t min_replicas, max_replicas; /* minReplicaCount (0), maxReplicaCount (100) */
    int32_t idle_replicas;              /* idleReplicaCount; -1: not given */
    int64_t cooldown_ms;                /* cooldownPeriod */
    int64_t initial_cooldown_ms;        /* from the object's creation */
    enum keda_fallback fallback;
    int32_t fallback_replicas;
    uint32_t fallback_failures; /* failureThreshold */
    bool paused;                /* annotation autoscaling.keda.sh/paused */
    int32_t paused_replicas;    /* annotation autoscaling.keda.sh/paused-replicas; -1: not given */
};
struct keda_spec keda_spec_default(void);

struct keda_state {
    int64_t created_ms;
    int64_t active_ms; /* when a trigger was active last; -1: never */
};

/* What the triggers ask for, within max(1, min) .. max: greatest of all. A trigger that failed
 * often enough asks for what the fallback says. False, keep what is there: none can be read, or one
 * cannot and the others would scale down. */
MUST_CHECK bool keda_wanted(const struct keda_spec *spec, const struct keda_trigger *triggers,
                            uint32_t num_triggers, int32_t current, int32_t *ret_replicas);

void keda_decide(struct keda_state *state, const struct keda_spec *spec,
                 const struct keda_trigger *triggers, uint32_t num_triggers, int64_t now_ms,
                 int32_t current, struct scale_decision *ret);

#endif
