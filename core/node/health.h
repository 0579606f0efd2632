/* When to ask a container how it is, and what the answers mean. Pure: time is an argument. */
#ifndef CORE_NODE_HEALTH_H
#define CORE_NODE_HEALTH_H

#include "core/base/mem.h"

enum health_probe { HEALTH_STARTUP, HEALTH_LIVENESS, HEALTH_READINESS, HEALTH_PROBES };

const char *health_probe_name(enum health_probe probe); /* "Startup": as events spell it */

/* A probe of the container's spec. */
struct health_rule {
    bool asked; /* false: there is no such probe */
    int64_t initial_delay_ms, period_ms, timeout_ms;
    int success_threshold, failure_threshold; /* in a row, at least 1 */
    int64_t grace_ms; /* between SIGTERM and SIGKILL when it has failed; -1: the pod's */
};

/* One run of a container. */
struct health {
    struct health_rule rules[HEALTH_PROBES];
    bool started;            /* the startup probe has succeeded, or there is none */
    bool ready;              /* what the readiness probe says; without one: started */
    enum health_probe fatal; /* the one that has failed for good; HEALTH_PROBES: none */
    struct {
        int64_t due_ms;
        int num_same; /* answers in a row that were like the last one */
        bool last_ok, passes, under_way;
    } probes[HEALTH_PROBES];
};

void health_init(struct health *h, const struct health_rule rules[HEALTH_PROBES], int64_t now_ms);

/* Which probe is to be asked now; it is under way then. HEALTH_PROBES: none; *ret_wait_ms: when to
 * ask again, -1: not before an answer has come. */
enum health_probe health_next(struct health *h, int64_t now_ms, int64_t *ret_wait_ms);

enum health_answer {
    HEALTH_YES,
    HEALTH_NO,
    HEALTH_UNKNOWN, /* it could not be asked: counts for nothing */
};
/* The answer to a probe that was under way. Changes started, ready and fatal. */
void health_observe(struct health *h, enum health_probe probe, enum health_answer answer,
                    int64_t now_ms);

#endif
