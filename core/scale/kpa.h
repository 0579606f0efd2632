/* Knative's pod autoscaler (KPA) as a decider: concurrency or requests per second, averaged over a
 * stable and a panic window. Pure: state, measurements and `now` in, a number of replicas out.
 *
 * Field names are those of Knative's annotations (autoscaling.knative.dev/NAME). */
#ifndef CORE_SCALE_KPA_H
#define CORE_SCALE_KPA_H

#include "core/scale/decision.h"
#include "core/scale/window.h"

enum kpa_metric { KPA_CONCURRENCY, KPA_RPS };

struct kpa_spec {
    enum kpa_metric metric;
    double target;                  /* per replica, before utilization; 0: the metric's default */
    double target_utilization;      /* 0 < x <= 1 */
    int64_t window_ms;              /* stable */
    double panic_window_percentage; /* of the stable window, 1..100 */
    double panic_threshold;         /* percent of the ready replicas' capacity: 110..1000 */
    double max_scale_up_rate;       /* > 1: at most so many times the ready replicas */
    double max_scale_down_rate;     /* > 1 */
    int64_t scale_down_delay_ms;
    int64_t zero_grace_ms;          /* how long the last replica stays when nobody asks */
    int64_t pod_retention_ms;       /* scale-to-zero-pod-retention-period; the longer one counts */
    int32_t min_scale, max_scale;   /* max 0: unbounded */
    int32_t initial_scale;          /* held until so many are ready once */
    int32_t activation_scale;       /* at least so many when it leaves zero */
    uint32_t container_concurrency; /* > 0: bounds the concurrency target */
};

/* Knative's defaults. */
struct kpa_spec kpa_spec_default(void);

struct kpa; /* windows and what is remembered between two decisions */
struct kpa *kpa_create(const struct kpa_spec *spec);
void kpa_destroy(struct kpa *k);
DEFINE_AUTO(kpa, kpa_destroy)

/* The sum over all replicas and what is held, sampled about once a second. */
void kpa_record(struct kpa *k, int64_t now_ms, double value);

/* ready: replicas that serve; current: those that are asked for (kept when nothing was measured:
 * missing metrics never scale down). */
void kpa_decide(struct kpa *k, int64_t now_ms, int32_t ready, int32_t current,
                struct scale_decision *ret);

/* The load per replica that kpa_decide() aims at. */
double kpa_target(const struct kpa_spec *spec);

#endif
