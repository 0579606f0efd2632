/* HorizontalPodAutoscaler (autoscaling/v2) as a decider: from measurements to a wanted number of
 * replicas (the replica calculator), and from there, within the limits, to what is done. Pure.
 *
 * Quantities are in thousandths, as Kubernetes computes them. */
#ifndef CORE_SCALE_HPA_H
#define CORE_SCALE_HPA_H

#include "core/base/error.h"
#include "core/scale/decision.h"

#define HPA_TOLERANCE 0.1

/* ---- the replica calculator ---- */

struct hpa_pod {
    bool gone;      /* failed, or being deleted: does not count at all */
    bool unready;   /* pending, or (CPU) not ready yet: see hpa_pod_unready() */
    bool has_value; /* a measurement is there */
    bool has_request;
    int64_t value_milli, request_milli;
};

/* Whether a running pod's measurement is left out because it is still starting. Times in ms;
 * started_ms < 0: not started; measured_ms: when the measurement ended, over window_ms. */
struct hpa_pod_times {
    bool ready;
    int64_t started_ms, changed_ms; /* changed: lastTransitionTime of the Ready condition */
    int64_t measured_ms, window_ms;
};
bool hpa_pod_unready(const struct hpa_pod_times *t, int64_t now_ms);

struct hpa_proposal {
    int32_t replicas;
    int64_t utilization;   /* percent of the requests; 0 where there are none */
    int64_t average_milli; /* per pod; of hpa_by_value(): the value */
};

/* Resource, ContainerResource with averageUtilization. ERR_INVALID: a pod that counts has no
 * request; ERR_UNAVAILABLE: no pod has a measurement. */
MUST_CHECK enum errc hpa_by_utilization(const struct hpa_pod *pods, uint32_t num_pods,
                                        int64_t target_percent, int32_t current,
                                        struct hpa_proposal *ret, struct error *err);
/* Resource with averageValue, Pods. ERR_UNAVAILABLE: no pod has a measurement. */
MUST_CHECK enum errc hpa_by_pod_average(const struct hpa_pod *pods, uint32_t num_pods,
                                        int64_t target_milli, int32_t current,
                                        struct hpa_proposal *ret, struct error *err);
/* Object, External with value: one number for all. */
void hpa_by_value(int64_t value_milli, int64_t target_milli, int32_t ready, int32_t current,
                  struct hpa_proposal *ret);
/* Object, External with averageValue: the number is shared by status.replicas. */
void hpa_by_average_value(int64_t value_milli, int64_t target_milli, int32_t status_replicas,
                          struct hpa_proposal *ret);

/* ---- from proposals to replicas ---- */

enum { HPA_POLICIES_MAX = 8, HPA_RECORDS_MAX = 256 };
enum hpa_select { HPA_SELECT_MAX, HPA_SELECT_MIN, HPA_SELECT_DISABLED };

struct hpa_policy {
    bool percent; /* else: pods */
    int32_t value;
    int32_t period_seconds;
};

struct hpa_rules {
    int32_t stabilization_seconds;
    enum hpa_select select;
    struct hpa_policy policies[HPA_POLICIES_MAX];
    uint32_t num_policies;
};
struct hpa_rules hpa_rules_up_default(void);
struct hpa_rules hpa_rules_down_default(void);

struct hpa_spec {
    int32_t min_replicas, max_replicas;
    struct hpa_rules up, down;
};

/* What happened before: changes that were made and recommendations that were given. The oldest
 * make room when HPA_RECORDS_MAX is reached. */
struct hpa_record {
    int64_t at_ms;
    int32_t replicas;
};
struct hpa_history {
    struct hpa_record recommendations[HPA_RECORDS_MAX], ups[HPA_RECORDS_MAX],
        downs[HPA_RECORDS_MAX];
    uint32_t num_recommendations, num_ups, num_downs;
};
void hpa_history_recommended(struct hpa_history *h, int64_t now_ms, int32_t replicas);
/* A change that was made, from one number of replicas to another. */
void hpa_history_changed(struct hpa_history *h, int64_t now_ms, int32_t from, int32_t to);

/* The greatest of the proposals that could be computed. A missing one counts against going down:
 * false (keep what is there) when none is there, or when one is missing and the others would scale
 * down. */
MUST_CHECK bool hpa_combine(const int32_t *proposals, uint32_t num_proposals, uint32_t num_missing,
                            int32_t current, int32_t *ret_replicas);

struct hpa_decision {
    int32_t replicas;
    const char *able_reason;  /* of AbleToScale: ReadyForNewScale, ScaleDownStabilized, ... */
    const char *limit_reason; /* of ScalingLimited; DesiredWithinRange: not limited */
};

/* Stabilizes, applies the rates and the bounds, and remembers the recommendation. */
void hpa_decide(struct hpa_history *h, const struct hpa_spec *spec, int64_t now_ms, int32_t current,
                int32_t wanted, struct hpa_decision *ret);

/* Its two parts, as the vectors test them. */
int32_t hpa_stabilize(struct hpa_history *h, const struct hpa_spec *spec, int64_t now_ms,
                      int32_t current, int32_t wanted, const char **ret_reason);
int32_t hpa_limit(const struct hpa_history *h, const struct hpa_spec *spec, int64_t now_ms,
                  int32_t current, int32_t wanted, const char **ret_reason);

#endif
