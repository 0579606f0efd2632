/* The kubelet's rules.
 *
 * Until the startup probe has succeeded the others are not asked. The first question comes
 * initialDelaySeconds after the start, the next ones every periodSeconds; once started, readiness
 * is asked at once. An answer counts when it has come failureThreshold, or successThreshold, times
 * in a row. A startup or liveness probe that has failed is fatal: the container is to be restarted,
 * and nothing more is asked. A container is not ready before its readiness probe says so. */
#include "core/node/health.h"

const char *health_probe_name(enum health_probe probe) {
    static const char *const names[] = {"Startup", "Liveness", "Readiness"};
    ASSERT(probe < HEALTH_PROBES);
    return names[probe];
}

static void settle(struct health *h) {
    h->started = !h->rules[HEALTH_STARTUP].asked || h->probes[HEALTH_STARTUP].passes;
    h->ready =
        h->started && (!h->rules[HEALTH_READINESS].asked || h->probes[HEALTH_READINESS].passes);
}

void health_init(struct health *h, const struct health_rule rules[HEALTH_PROBES], int64_t now_ms) {
    *h = (struct health){.fatal = HEALTH_PROBES};
    for (int i = 0; i < HEALTH_PROBES; i++) {
        h->rules[i] = rules[i];
        h->probes[i].due_ms = now_ms + rules[i].initial_delay_ms;
    }
    settle(h);
}

static bool may_ask(const struct health *h, enum health_probe probe) {
    bool over = probe == HEALTH_STARTUP ? h->started : !h->started;
    return h->rules[probe].asked && !over && !h->probes[probe].under_way;
}

enum health_probe health_next(struct health *h, int64_t now_ms, int64_t *ret_wait_ms) {
    *ret_wait_ms = -1;
    for (int i = 0; i < HEALTH_PROBES && h->fatal == HEALTH_PROBES; i++) {
        if (!may_ask(h, i))
            continue;
        int64_t wait_ms = h->probes[i].due_ms - now_ms;
        if (wait_ms <= 0) {
            h->probes[i].under_way = true;
            h->probes[i].due_ms = now_ms + h->rules[i].period_ms;
            return i;
        }
        if (*ret_wait_ms < 0 || wait_ms < *ret_wait_ms)
            *ret_wait_ms = wait_ms;
    }
    return HEALTH_PROBES;
}

void health_observe(struct health *h, enum health_probe probe, enum health_answer answer,
                    int64_t now_ms) {
    const struct health_rule *rule = &h->rules[probe];
    bool ok = answer == HEALTH_YES, was_started = h->started;
    h->probes[probe].under_way = false;
    if (answer == HEALTH_UNKNOWN || h->fatal != HEALTH_PROBES)
        return;
    h->probes[probe].num_same = ok == h->probes[probe].last_ok ? h->probes[probe].num_same + 1 : 1;
    h->probes[probe].last_ok = ok;
    if (h->probes[probe].num_same < (ok ? rule->success_threshold : rule->failure_threshold))
        return;
    h->probes[probe].passes = ok;
    if (!ok && probe != HEALTH_READINESS)
        h->fatal = probe;
    settle(h);
    if (!was_started && h->started && h->probes[HEALTH_READINESS].due_ms > now_ms)
        h->probes[HEALTH_READINESS].due_ms = now_ms;
}
