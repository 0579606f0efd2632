/* The `behavior` section: from what the metrics want to what is done.
 *
 * Stabilization: going up, the least that was recommended within the window counts; going down, the
 * most. Rates: each policy allows a change per period, counted from the replicas at the start of
 * the period, which are those of now without what was changed since. Of several policies the
 * selected one (the greatest change, or the smallest) holds.
 *
 * Source: KEP-853 (configurable scale velocity) and autoscaling/v2's field documentation. */
#include "core/scale/hpa.h"

#include <math.h>
#include <string.h>

struct hpa_rules hpa_rules_up_default(void) {
    return (struct hpa_rules){.policies = {{.percent = false, .value = 4, .period_seconds = 15},
                                           {.percent = true, .value = 100, .period_seconds = 15}},
                              .num_policies = 2};
}

struct hpa_rules hpa_rules_down_default(void) {
    return (struct hpa_rules){.stabilization_seconds = 300,
                              .policies = {{.percent = true, .value = 100, .period_seconds = 15}},
                              .num_policies = 1};
}

static void append(struct hpa_record *records, uint32_t *num, int64_t now_ms, int32_t replicas) {
    if (*num == HPA_RECORDS_MAX) {
        memmove(records, records + 1, (HPA_RECORDS_MAX - 1) * sizeof(records[0]));
        (*num)--;
    }
    records[(*num)++] = (struct hpa_record){.at_ms = now_ms, .replicas = replicas};
}

/* The same number twice in a row is one record with the later time: no least and no most of a
 * window that ends now changes by it, and an hour of looks a second apart fits. */
void hpa_history_recommended(struct hpa_history *h, int64_t now_ms, int32_t replicas) {
    struct hpa_record *last = h->recommendations + h->num_recommendations;
    if (h->num_recommendations && last[-1].replicas == replicas) {
        last[-1].at_ms = now_ms > last[-1].at_ms ? now_ms : last[-1].at_ms;
        return;
    }
    append(h->recommendations, &h->num_recommendations, now_ms, replicas);
}

void hpa_history_changed(struct hpa_history *h, int64_t now_ms, int32_t from, int32_t to) {
    if (to > from)
        append(h->ups, &h->num_ups, now_ms, to - from);
    else if (to < from)
        append(h->downs, &h->num_downs, now_ms, from - to);
}

int32_t hpa_stabilize(struct hpa_history *h, const struct hpa_spec *spec, int64_t now_ms,
                      int32_t current, int32_t wanted, const char **ret_reason) {
    int64_t up_from_ms = now_ms - (int64_t)spec->up.stabilization_seconds * 1000;
    int64_t down_from_ms = now_ms - (int64_t)spec->down.stabilization_seconds * 1000;
    int32_t up = wanted, down = wanted, replicas = current;
    for (uint32_t i = 0; i < h->num_recommendations; i++) {
        const struct hpa_record *r = &h->recommendations[i];
        if (r->at_ms > up_from_ms && r->replicas < up)
            up = r->replicas;
        if (r->at_ms > down_from_ms && r->replicas > down)
            down = r->replicas;
    }
    if (replicas < up)
        replicas = up;
    if (replicas > down)
        replicas = down;
    hpa_history_recommended(h, now_ms, wanted);
    *ret_reason = replicas == wanted  ? "ReadyForNewScale"
                  : replicas > wanted ? "ScaleDownStabilized"
                                      : "ScaleUpStabilized";
    return replicas;
}

static int64_t changed_since(const struct hpa_record *records, uint32_t num, int64_t from_ms) {
    int64_t sum = 0;
    for (uint32_t i = 0; i < num; i++)
        sum += records[i].at_ms > from_ms ? records[i].replicas : 0;
    return sum;
}

/* The farthest that a policy lets the replicas go. */
static double policy_limit(const struct hpa_history *h, const struct hpa_policy *p, int64_t now_ms,
                           int32_t current, bool up) {
    int64_t from_ms = now_ms - (int64_t)p->period_seconds * 1000;
    double start = (double)(current - changed_since(h->ups, h->num_ups, from_ms) +
                            changed_since(h->downs, h->num_downs, from_ms));
    if (!p->percent)
        return up ? start + p->value : start - p->value;
    return up ? ceil(start * (1 + p->value / 100.0)) : trunc(start * (1 - p->value / 100.0));
}

static int32_t rate_limit(const struct hpa_history *h, const struct hpa_rules *rules,
                          int64_t now_ms, int32_t current, bool up) {
    if (rules->select == HPA_SELECT_DISABLED || !rules->num_policies)
        return current;
    bool far = rules->select == HPA_SELECT_MAX;
    double limit = 0;
    for (uint32_t i = 0; i < rules->num_policies; i++) {
        double each = policy_limit(h, &rules->policies[i], now_ms, current, up);
        if (!i || (far == up ? each > limit : each < limit))
            limit = each;
    }
    limit = limit > INT32_MAX ? INT32_MAX : limit < 0 ? 0 : limit;
    int32_t replicas = (int32_t)limit;
    return up ? (replicas < current ? current : replicas) : replicas > current ? current : replicas;
}

int32_t hpa_limit(const struct hpa_history *h, const struct hpa_spec *spec, int64_t now_ms,
                  int32_t current, int32_t wanted, const char **ret_reason) {
    *ret_reason = "DesiredWithinRange";
    if (wanted > current) {
        int32_t rate = rate_limit(h, &spec->up, now_ms, current, true);
        int32_t most = rate < spec->max_replicas ? rate : spec->max_replicas;
        if (wanted > most) {
            *ret_reason = rate < spec->max_replicas ? "ScaleUpLimit" : "TooManyReplicas";
            return most;
        }
    } else if (wanted < current) {
        int32_t rate = rate_limit(h, &spec->down, now_ms, current, false);
        int32_t least = rate > spec->min_replicas ? rate : spec->min_replicas;
        if (wanted < least) {
            *ret_reason = rate > spec->min_replicas ? "ScaleDownLimit" : "TooFewReplicas";
            return least;
        }
    }
    return wanted;
}

void hpa_decide(struct hpa_history *h, const struct hpa_spec *spec, int64_t now_ms, int32_t current,
                int32_t wanted, struct hpa_decision *ret) {
    if (!h->num_recommendations) /* after a start, what is there is what was recommended */
        hpa_history_recommended(h, now_ms, current);
    int32_t steady = hpa_stabilize(h, spec, now_ms, current, wanted, &ret->able_reason);
    ret->replicas = hpa_limit(h, spec, now_ms, current, steady, &ret->limit_reason);
    if (ret->replicas > spec->max_replicas) {
        ret->replicas = spec->max_replicas;
        ret->limit_reason = "TooManyReplicas";
    } else if (ret->replicas < spec->min_replicas) {
        ret->replicas = spec->min_replicas;
        ret->limit_reason = "TooFewReplicas";
    }
}
