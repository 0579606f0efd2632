/* The replica calculator: one metric to a number of replicas.
 *
 *   wanted = ceil(pods that count * usage / target), unless usage / target is within 10 % of one
 *
 * Pods without a measurement, and pods that are not ready yet, are guessed against the change:
 * going down they are taken to be at the target (or to use all they asked for), going up to use
 * nothing. When the guess turns the direction around, nothing is done.
 *
 * Source: kubernetes.io, "Horizontal Pod Autoscaling", Algorithm details; the test vectors are
 * those of Kubernetes' own replica calculator. */
#include "core/scale/hpa.h"

#include <math.h>
#include <stddef.h>

enum { CPU_INITIALIZATION_MS = 300 * 1000, INITIAL_READINESS_MS = 30 * 1000 };

bool hpa_pod_unready(const struct hpa_pod_times *t, int64_t now_ms) {
    if (t->started_ms < 0)
        return true;
    if (t->started_ms + CPU_INITIALIZATION_MS > now_ms)
        return !t->ready || t->measured_ms < t->changed_ms + t->window_ms;
    return !t->ready && t->started_ms + INITIAL_READINESS_MS > t->changed_ms;
}

/* What the pods come to: those measured, and those to be guessed. */
struct sums {
    int64_t value, request;
    uint32_t num_measured, num_missing, num_unready;
    int64_t missing_request, unready_request;
};

static enum errc add_up(const struct hpa_pod *pods, uint32_t num_pods, bool requests,
                        struct sums *s, struct error *err) {
    bool known = false;
    for (uint32_t i = 0; i < num_pods; i++) {
        const struct hpa_pod *p = &pods[i];
        known = known || (!p->gone && p->has_request);
        if (p->gone)
            continue;
        if (requests && !p->has_request)
            return err_set(err, ERR_INVALID, "missing request for a container of a pod");
        if (p->unready) {
            s->num_unready++;
            s->unready_request += p->request_milli;
        } else if (!p->has_value) {
            s->num_missing++;
            s->missing_request += p->request_milli;
        } else {
            s->num_measured++;
            s->value += p->value_milli;
            s->request += p->request_milli;
        }
    }
    if (requests && !known)
        return err_set(err, ERR_INVALID, "missing request for a container of a pod");
    return OK;
}

static enum errc none_measured(struct error *err) {
    return err_set(err, ERR_UNAVAILABLE, "no metrics returned matched known pods");
}

static bool within_tolerance(double ratio) {
    return fabs(1 - ratio) <= HPA_TOLERANCE;
}

/* From the ratio of the measured pods, and that with the guesses, to replicas. */
static int32_t from_ratios(const struct sums *s, double ratio, double guessed, int32_t current) {
    bool unready_matter = s->num_unready && ratio > 1;
    if (ratio == 1)
        return current;
    if (!unready_matter && !s->num_missing)
        return within_tolerance(ratio) ? current : (int32_t)ceil(ratio * s->num_measured);
    if (within_tolerance(guessed) || (ratio < 1 && guessed > 1) || (ratio > 1 && guessed < 1))
        return current;
    uint32_t num = s->num_measured + s->num_missing + (unready_matter ? s->num_unready : 0);
    int32_t wanted = (int32_t)ceil(guessed * num);
    if ((guessed < 1 && wanted > current) || (guessed > 1 && wanted < current))
        return current;
    return wanted;
}

enum errc hpa_by_utilization(const struct hpa_pod *pods, uint32_t num_pods, int64_t target_percent,
                             int32_t current, struct hpa_proposal *ret, struct error *err) {
    struct sums s = {0};
    if (add_up(pods, num_pods, true, &s, err))
        return err->code;
    if (!s.num_measured)
        return none_measured(err);
    if (s.request <= 0)
        return err_set(err, ERR_INVALID, "the pods' requests are 0");
    int64_t utilization = s.value * 100 / s.request;
    double target = (double)target_percent, ratio = (double)utilization / target;
    int64_t value = s.value, request = s.request;
    if (s.num_missing) { /* down: they use all they asked for, or the target; up: nothing */
        int64_t percent = target_percent > 100 ? target_percent : 100;
        value += ratio < 1 ? s.missing_request * percent / 100 : 0;
        request += s.missing_request;
    }
    if (ratio > 1)
        request += s.unready_request;
    int64_t guessed_percent = request > 0 ? value * 100 / request : utilization;
    double guessed = (double)guessed_percent / target;
    *ret = (struct hpa_proposal){.replicas = from_ratios(&s, ratio, guessed, current),
                                 .utilization = utilization,
                                 .average_milli = s.value / s.num_measured};
    return OK;
}

enum errc hpa_by_pod_average(const struct hpa_pod *pods, uint32_t num_pods, int64_t target_milli,
                             int32_t current, struct hpa_proposal *ret, struct error *err) {
    struct sums s = {0};
    if (add_up(pods, num_pods, false, &s, err))
        return err->code;
    if (!s.num_measured)
        return none_measured(err);
    int64_t average = s.value / s.num_measured;
    double target = (double)target_milli, ratio = (double)average / target;
    int64_t value = s.value, num = s.num_measured;
    if (s.num_missing) {
        value += ratio < 1 ? target_milli * s.num_missing : 0;
        num += s.num_missing;
    }
    if (ratio > 1)
        num += s.num_unready;
    int64_t guessed_average = value / num;
    double guessed = (double)guessed_average / target;
    *ret = (struct hpa_proposal){.replicas = from_ratios(&s, ratio, guessed, current),
                                 .average_milli = average};
    return OK;
}

void hpa_by_value(int64_t value_milli, int64_t target_milli, int32_t ready, int32_t current,
                  struct hpa_proposal *ret) {
    double ratio = (double)value_milli / (double)target_milli;
    *ret = (struct hpa_proposal){.average_milli = value_milli};
    if (!current)
        ret->replicas = (int32_t)ceil(ratio);
    else
        ret->replicas = within_tolerance(ratio) ? current : (int32_t)ceil(ratio * ready);
}

void hpa_by_average_value(int64_t value_milli, int64_t target_milli, int32_t status_replicas,
                          struct hpa_proposal *ret) {
    double value = (double)value_milli, target = (double)target_milli;
    *ret = (struct hpa_proposal){.replicas = status_replicas};
    if (!status_replicas || !within_tolerance(value / (target * status_replicas)))
        ret->replicas = (int32_t)ceil(value / target);
    if (status_replicas)
        ret->average_milli = (int64_t)ceil(value / status_replicas);
}

bool hpa_combine(const int32_t *proposals, uint32_t num_proposals, uint32_t num_missing,
                 int32_t current, int32_t *ret_replicas) {
    int32_t most = 0;
    for (uint32_t i = 0; i < num_proposals; i++)
        most = proposals[i] > most ? proposals[i] : most;
    if (!num_proposals || (num_missing && most < current))
        return false;
    *ret_replicas = most;
    return true;
}
