/* KEDA's rules of combination.
 *
 *   paused-replicas      so many, whatever the triggers say
 *   paused               what is there stays
 *   a trigger is active  at least one replica; then the greatest that the triggers ask for
 *   below the minimum    the minimum
 *   none is active       idleReplicaCount, or the minimum, once the cooldown has passed since the
 *                        last activity
 *   a trigger fails      it does not vote; after failureThreshold failures the fallback votes for
 *                        it; and nothing goes down to zero while one fails
 *
 * Source: keda.sh/docs, "Scaling Deployments" and "ScaledObject specification". */
#include "core/scale/keda.h"

#include <math.h>
#include <stdio.h>

enum { COOLDOWN_MS = 300 * 1000, REPLICAS_MAX = 100, FAILURES = 3 };
static const double TOLERANCE = 0.1; /* of the HorizontalPodAutoscaler behind it */

struct keda_spec keda_spec_default(void) {
    return (struct keda_spec){.max_replicas = REPLICAS_MAX,
                              .idle_replicas = -1,
                              .cooldown_ms = COOLDOWN_MS,
                              .fallback_failures = FAILURES,
                              .paused_replicas = -1};
}

/* What a trigger that works asks for. */
static double asked(const struct keda_trigger *t, int32_t current) {
    if (t->is_resource)
        return t->replicas;
    double share = current > 0 ? t->value / (t->threshold * (t->is_value ? 1 : current)) : 0;
    if (current > 0 && fabs(share - 1) <= TOLERANCE)
        return current;
    if (t->is_value)
        return ceil(t->value / t->threshold * (current > 0 ? current : 1));
    return ceil(t->value / t->threshold);
}

/* True: the fallback votes. */
static bool fallen_back(const struct keda_spec *s, const struct keda_trigger *t, int32_t current,
                        double *ret) {
    /* As in KEDA, the fallback is for averages: a value says nothing of replicas. */
    if (s->fallback == KEDA_FALLBACK_NONE || t->is_value || t->is_resource ||
        t->num_failures < s->fallback_failures)
        return false;
    int32_t fixed = s->fallback_replicas;
    bool keep = s->fallback == KEDA_FALLBACK_CURRENT ||
                (s->fallback == KEDA_FALLBACK_CURRENT_IF_HIGHER && current > fixed) ||
                (s->fallback == KEDA_FALLBACK_CURRENT_IF_LOWER && current < fixed);
    *ret = keep ? current : fixed;
    return true;
}

static int32_t bounded(const struct keda_spec *s, double want) {
    double least = s->min_replicas > 1 ? s->min_replicas : 1;
    want = want < least ? least : want;
    return want > s->max_replicas ? s->max_replicas : (int32_t)want;
}

struct votes {
    bool any, fallback, missing; /* somebody votes; a fallback does; somebody cannot */
    int32_t replicas;
};

static struct votes count_votes(const struct keda_spec *s, const struct keda_trigger *triggers,
                                uint32_t num_triggers, int32_t current) {
    struct votes v = {0};
    double most = 0, want = 0;
    for (uint32_t i = 0; i < num_triggers; i++) {
        bool fallback = triggers[i].fails && fallen_back(s, &triggers[i], current, &want);
        if (triggers[i].fails && !fallback) {
            v.missing = true;
            continue;
        }
        if (!fallback)
            want = asked(&triggers[i], current);
        v.any = true;
        v.fallback = v.fallback || fallback;
        most = want > most ? want : most;
    }
    v.replicas = bounded(s, most);
    return v;
}

bool keda_wanted(const struct keda_spec *s, const struct keda_trigger *triggers,
                 uint32_t num_triggers, int32_t current, int32_t *ret_replicas) {
    struct votes v = count_votes(s, triggers, num_triggers, current);
    if (!v.any || (v.missing && v.replicas < current))
        return false;
    *ret_replicas = v.replicas;
    return true;
}

/* Nobody asks. True: it rests at the idle count or the minimum, or goes there now. */
static bool at_rest(const struct keda_state *state, const struct keda_spec *s, int64_t now_ms,
                    int32_t current, struct scale_decision *d) {
    int32_t rest = s->idle_replicas >= 0 ? s->idle_replicas : s->min_replicas;
    int64_t since_ms = state->active_ms >= 0 ? state->active_ms : state->created_ms;
    int64_t initial_ms = state->created_ms + s->initial_cooldown_ms;
    int64_t from_ms = since_ms + s->cooldown_ms;
    int64_t left_ms = (from_ms > initial_ms ? from_ms : initial_ms) - now_ms;
    bool passed = current <= rest || left_ms <= 0;
    d->replicas = rest;
    d->reason = current <= rest ? "Idle" : "CooldownPassed";
    d->again_ms = passed ? 0 : left_ms;
    return passed;
}

static void describe(const struct keda_trigger *triggers, uint32_t num, struct scale_decision *d) {
    size_t len = 0;
    d->inputs[0] = '\0';
    for (uint32_t i = 0; i < num && len < sizeof(d->inputs); i++) {
        const struct keda_trigger *t = &triggers[i];
        char value[64] = "failed";
        if (!t->fails && t->is_resource)
            snprintf(value, sizeof(value), "%d", t->replicas);
        else if (!t->fails)
            snprintf(value, sizeof(value), "%.3f/%.3f", t->value, t->threshold);
        len += (size_t)snprintf(d->inputs + len, sizeof(d->inputs) - len, "%strigger%u=%s",
                                i ? " " : "", i, value);
    }
}

void keda_decide(struct keda_state *state, const struct keda_spec *s,
                 const struct keda_trigger *triggers, uint32_t num_triggers, int64_t now_ms,
                 int32_t current, struct scale_decision *ret) {
    bool active = false, fails = false;
    uint32_t num_resources = 0;
    *ret = (struct scale_decision){.replicas = current};
    describe(triggers, num_triggers, ret);
    for (uint32_t i = 0; i < num_triggers; i++) {
        fails = fails || triggers[i].fails;
        num_resources += triggers[i].is_resource;
        active = active || (!triggers[i].fails && !triggers[i].is_resource &&
                            triggers[i].value > triggers[i].activation_threshold);
    }
    active = active || (num_triggers && num_resources == num_triggers); /* they cannot say no */
    if (active)
        state->active_ms = now_ms;
    if (s->paused_replicas >= 0) {
        ret->replicas = s->paused_replicas;
        ret->reason = "PausedReplicas";
        return;
    }
    if (s->paused) {
        ret->reason = "Paused";
        return;
    }
    bool rests = s->min_replicas < 1 || s->idle_replicas >= 0; /* else it never goes below */
    if (rests && !active && !fails && at_rest(state, s, now_ms, current, ret))
        return;
    if (!active && s->idle_replicas < 0 && current < s->min_replicas) {
        ret->replicas = s->min_replicas;
        ret->reason = "BelowMinimum";
        return;
    }
    struct votes v = count_votes(s, triggers, num_triggers, current);
    bool starts = active || v.fallback || current > 0; /* a failing trigger starts nothing */
    if (!v.any || !starts || (v.missing && v.replicas < current)) {
        ret->replicas = current;
        ret->reason = "TriggersFail";
        return;
    }
    ret->replicas = v.replicas;
    ret->reason = v.fallback ? "Fallback" : active ? "Triggers" : "Cooldown";
}
