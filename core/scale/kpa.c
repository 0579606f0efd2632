/* Knative's rule. Two averages of the same measurement ask for replicas: the stable one (a minute)
 * and the panic one (a tenth of it). As long as the short one asks for twice the ready replicas or
 * more, the service panics: it goes up with the short average and does not come down, until the
 * short one has been quiet for a stable window.
 *
 *   want(window) = ceil(average / (target * utilization)), within
 *                  floor(ready / max_scale_down_rate) .. ceil(ready * max_scale_up_rate)
 *
 * What the decider asks for then passes the scale-down delay (the greatest of the last while) and
 * the bounds. The last replica goes when nobody has asked for a grace period.
 *
 * Source: knative.dev/docs/serving/autoscaling (concepts, bounds, KPA-specific settings) and the
 * behaviour described in knative/serving's docs/scaling. */
#include "core/scale/kpa.h"

#include <math.h>
#include <stdio.h>

enum { NEVER = -1 };

static const double TARGET_MIN = 0.01; /* Knative's */
static const double CONCURRENCY_TARGET = 100, RPS_TARGET = 200;

struct kpa {
    struct kpa_spec spec;
    struct scale_window *load;  /* over the stable window */
    struct scale_window *delay; /* what was asked for; NULL: no scale-down delay */
    int64_t panic_ms;           /* when it last was over the threshold; NEVER: no panic */
    int32_t panic_replicas;     /* the most that this panic asked for */
    int64_t idle_ms;            /* since when nothing is wanted; NEVER: something is */
    bool reached_initial;
};

struct kpa_spec kpa_spec_default(void) {
    return (struct kpa_spec){.metric = KPA_CONCURRENCY,
                             .target_utilization = 0.7,
                             .window_ms = 60000,
                             .panic_window_percentage = 10,
                             .panic_threshold = 200,
                             .max_scale_up_rate = 1000,
                             .max_scale_down_rate = 2,
                             .zero_grace_ms = 30000,
                             .initial_scale = 1,
                             .activation_scale = 1};
}

double kpa_target(const struct kpa_spec *s) {
    double total = s->target > 0              ? s->target
                   : s->metric == KPA_RPS     ? RPS_TARGET
                   : s->container_concurrency ? s->container_concurrency
                                              : CONCURRENCY_TARGET;
    if (s->metric == KPA_CONCURRENCY && s->container_concurrency &&
        total > s->container_concurrency)
        total = s->container_concurrency;
    double target = total * s->target_utilization;
    return target < TARGET_MIN ? TARGET_MIN : target;
}

struct kpa *kpa_create(const struct kpa_spec *spec) {
    struct kpa *k = mem_alloc(sizeof(*k));
    k->spec = *spec;
    k->panic_ms = k->idle_ms = NEVER;
    k->load = scale_window_create(spec->window_ms);
    if (spec->scale_down_delay_ms > 0)
        k->delay = scale_window_create(spec->scale_down_delay_ms);
    return k;
}

void kpa_destroy(struct kpa *k) {
    if (!k)
        return;
    scale_window_destroy(k->load);
    scale_window_destroy(k->delay);
    free(k);
}

void kpa_record(struct kpa *k, int64_t now_ms, double value) {
    scale_window_record(k->load, now_ms, value);
}

/* Replicas that the average asks for, within the rates. */
static int32_t wanted(const struct kpa_spec *s, double average, int32_t ready) {
    double base = ready > 0 ? ready : 1;
    double want = ceil(average / kpa_target(s));
    double most = ceil(base * s->max_scale_up_rate);
    double least = floor((ready > 0 ? ready : 0) / s->max_scale_down_rate);
    want = want < least ? least : want > most ? most : want;
    if (want > 0 && want < s->activation_scale)
        want = s->activation_scale;
    return want > INT32_MAX ? INT32_MAX : (int32_t)want;
}

/* Enters, prolongs or ends the panic; gives what is wanted then. */
static int32_t with_panic(struct kpa *k, int64_t now_ms, int32_t stable, int32_t panic,
                          int32_t ready, const char **ret_reason) {
    const struct kpa_spec *s = &k->spec;
    bool over = (double)panic / (ready > 0 ? ready : 1) >= s->panic_threshold / 100;
    if (over) {
        k->panic_ms = now_ms;
    } else if (k->panic_ms != NEVER && now_ms - k->panic_ms > s->window_ms) {
        k->panic_ms = NEVER;
        k->panic_replicas = 0;
    }
    *ret_reason = "StableWindow";
    if (k->panic_ms == NEVER)
        return stable;
    *ret_reason = "PanicWindow";
    int32_t want = stable > panic ? stable : panic;
    if (want > k->panic_replicas)
        k->panic_replicas = want;
    return k->panic_replicas;
}

static int32_t delayed(struct kpa *k, int64_t now_ms, int32_t want, const char **reason) {
    double most;
    if (!k->delay)
        return want;
    scale_window_record(k->delay, now_ms, want);
    if (scale_window_max(k->delay, now_ms, k->spec.scale_down_delay_ms, &most) && most > want) {
        *reason = "ScaleDownDelay";
        return (int32_t)most;
    }
    return want;
}

/* The last replica stays for the grace or the retention, whichever is longer. */
static int32_t before_zero(struct kpa *k, int64_t now_ms, int32_t want, int32_t current,
                           struct scale_decision *d) {
    const struct kpa_spec *s = &k->spec;
    if (want > 0) {
        k->idle_ms = NEVER;
        return want;
    }
    if (current == 0) {
        d->reason = "Idle";
        return 0;
    }
    if (k->idle_ms == NEVER)
        k->idle_ms = now_ms;
    int64_t stay_ms =
        s->zero_grace_ms > s->pod_retention_ms ? s->zero_grace_ms : s->pod_retention_ms;
    int64_t left_ms = k->idle_ms + stay_ms - now_ms;
    if (left_ms > 0) {
        d->reason = "LastReplicaStays";
        d->again_ms = left_ms;
        return 1;
    }
    d->reason = "Idle";
    return 0;
}

static int32_t within_bounds(const struct kpa_spec *s, int32_t want, const char **reason) {
    if (want < s->min_scale) {
        *reason = "AtMinScale";
        return s->min_scale;
    }
    if (s->max_scale > 0 && want > s->max_scale) {
        *reason = "AtMaxScale";
        return s->max_scale;
    }
    return want;
}

void kpa_decide(struct kpa *k, int64_t now_ms, int32_t ready, int32_t current,
                struct scale_decision *ret) {
    const struct kpa_spec *s = &k->spec;
    *ret = (struct scale_decision){.replicas = current, .reason = "MissingMetrics"};
    double stable, panic;
    int64_t panic_ms = (int64_t)((double)s->window_ms * s->panic_window_percentage / 100);
    if (!scale_window_average(k->load, now_ms, s->window_ms, &stable)) {
        ret->replicas = within_bounds(s, current, &ret->reason);
        return;
    }
    if (!scale_window_average(k->load, now_ms, panic_ms, &panic))
        panic = stable;
    int32_t want_stable = wanted(s, stable, ready), want_panic = wanted(s, panic, ready);
    int32_t want = with_panic(k, now_ms, want_stable, want_panic, ready, &ret->reason);
    want = delayed(k, now_ms, want, &ret->reason);
    if (!k->reached_initial) {
        k->reached_initial = ready >= s->initial_scale;
        if (!k->reached_initial && want < s->initial_scale) {
            want = s->initial_scale;
            ret->reason = "InitialScale";
        }
    }
    want = before_zero(k, now_ms, want, current, ret);
    ret->replicas = within_bounds(s, want, &ret->reason);
    snprintf(ret->inputs, sizeof(ret->inputs),
             "metric=%s stable=%.3f panic=%.3f target=%.3f ready=%d want_stable=%d want_panic=%d",
             s->metric == KPA_RPS ? "rps" : "concurrency", stable, panic, kpa_target(s), ready,
             want_stable, want_panic);
}
