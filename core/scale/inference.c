/* inferd's rule: keep ready what a start would come too late for, and follow the rest.
 *
 * The load is counted in replicas: requests in flight over what one replica serves at once (or its
 * KV cache, or its queue of prompt tokens, when those are fuller). Three terms, the greatest
 * counts:
 *
 *   now       the load of the last window, seconds by default. There is no panic threshold to
 *             cross: a queue that grows is a reason to start, since a start takes longer than any
 *             window.
 *   reserve   the load that was exceeded only in a share (1 - readiness) of the time in which
 *             somebody asked. This is the newsvendor's quantile: a replica is worth its keep as
 *             long as the load reaches it more often than its cost relates to that of being late.
 *             Averages, which other rules multiply by a headroom, say nothing of how bursty a load
 * is. held      what was wanted in the last start time: who stops a replica that is needed again
 *             before another could start has gained nothing (ski rental; break-even at the start's
 *             cost).
 *
 * With nobody asking for idle_ms the reserve is given up, and with min_replicas 0 the last replica.
 *
 * A latency goal corrects the first number: while the measured 95th percentile is above the goal
 * and the replicas are full, a replica serves less at once than was said, and the load counts
 * for more; below the goal the correction melts away.
 *
 * Builds on: A. Gandhi et al., AutoScale, ACM TOCS 30(4), 2012 (do not release early; capacity by
 * requests in the system instead of utilization); M. Shahrad et al., Serverless in the Wild, USENIX
 * ATC 2020 (histograms of what was, with the rest as fallback); the newsvendor problem (Arrow,
 * Harris, Marschak, Econometrica 1951); Karlin et al., Competitive snoopy caching, 1988 (ski
 * rental). */
#include "core/scale/inference.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    HISTORY_STEPS = 8, /* per replica */
    HISTORY_REPLICAS_MAX = 64,
    HISTORY_BINS = HISTORY_STEPS * HISTORY_REPLICAS_MAX,
    HELD_MS_MAX = 10 * 60 * 1000, /* a start that takes longer is not waited out */
    NEVER = -1,
};
static const double KV_FULL = 0.9; /* above it engines preempt */
static const double CORRECTION_MAX = 4, CORRECTION_UP = 1.05, CORRECTION_DOWN = 0.995;

struct inference {
    struct inference_spec spec;
    struct scale_window *load, *wanted;
    float seen[HISTORY_BINS]; /* how long the load was at each step; weights */
    double weight;            /* of the next second: grows, so that the old ones fade */
    double total;
    double correction; /* of the load, from latency; >= 1 */
    int64_t last_ms, asked_ms;
};

struct inference_spec inference_spec_default(void) {
    return (struct inference_spec){.concurrency = 8,
                                   .readiness = 0.9,
                                   .window_ms = 5000,
                                   .memory_ms = 30 * 60 * 1000,
                                   .idle_ms = 5 * 60 * 1000,
                                   .min_replicas = 1,
                                   .max_replicas = 1};
}

struct inference *inference_create(const struct inference_spec *spec) {
    struct inference *s = mem_alloc(sizeof(*s));
    s->spec = *spec;
    s->load = scale_window_create(spec->window_ms);
    s->wanted = scale_window_create(HELD_MS_MAX);
    s->weight = 1;
    s->correction = 1;
    s->last_ms = s->asked_ms = NEVER;
    return s;
}

void inference_destroy(struct inference *s) {
    if (!s)
        return;
    scale_window_destroy(s->load);
    scale_window_destroy(s->wanted);
    free(s);
}

/* The load in replicas. */
static double load_of(const struct inference *s, const struct inference_sample *m) {
    double load = m->in_flight / s->spec.concurrency * s->correction;
    double kv = m->kv_usage * m->ready / KV_FULL;
    double tokens = s->spec.queued_tokens > 0 ? m->queued_tokens / s->spec.queued_tokens : 0;
    load = m->kv_usage > KV_FULL && kv > load ? kv : load;
    return tokens > load ? tokens : load;
}

/* Only the time in which somebody asks is history: nights must not teach that bursts are rare. */
static void remember(struct inference *s, int64_t now_ms, double load) {
    double steps = load * HISTORY_STEPS;
    if (load <= 0)
        return;
    int bin = steps >= HISTORY_BINS ? HISTORY_BINS - 1 : (int)steps;
    double seconds = s->last_ms == NEVER ? 1 : (double)(now_ms - s->last_ms) / 1000;
    seconds = seconds > 10 ? 10 : seconds;
    s->weight *= exp2(seconds * 1000 / (double)s->spec.memory_ms);
    s->seen[bin] += (float)(s->weight * seconds);
    s->total += s->weight * seconds;
    if (s->weight < 1e6)
        return;
    for (int i = 0; i < HISTORY_BINS; i++)
        s->seen[i] = (float)(s->seen[i] / s->weight);
    s->total /= s->weight;
    s->weight = 1;
}

/* The load that is not exceeded in a share `readiness` of the time. */
static double reserve(const struct inference *s) {
    double left = s->total * (1 - s->spec.readiness);
    int bin = HISTORY_BINS - 1;
    while (bin > 0 && left >= s->seen[bin])
        left -= s->seen[bin--];
    return s->total > 0 ? (double)(bin + 1) / HISTORY_STEPS : 0;
}

static void correct(struct inference *s, const struct inference_sample *m) {
    const struct inference_spec *p = &s->spec;
    bool late = (p->ttft_goal_seconds > 0 && m->ttft_p95_seconds > p->ttft_goal_seconds) ||
                (p->itl_goal_seconds > 0 && m->itl_p95_seconds > p->itl_goal_seconds);
    /* Late with room left is not for want of replicas; late while one starts is being seen to. */
    bool full = m->ready >= m->current && m->in_flight * s->correction >= p->concurrency * m->ready;
    s->correction *= late && full ? CORRECTION_UP : late ? 1 : CORRECTION_DOWN;
    s->correction = s->correction < 1 ? 1 : s->correction;
    s->correction = s->correction > CORRECTION_MAX ? CORRECTION_MAX : s->correction;
}

/* A load that is over a whole number by a breath needs no replica more. */
static int32_t replicas_for(double load) {
    double want = ceil(load - 0.05);
    return want < 0 ? 0 : want > INT32_MAX ? INT32_MAX : (int32_t)want;
}

static int32_t bounded(const struct inference_spec *p, int32_t want, const char **reason) {
    if (want < p->min_replicas) {
        *reason = "AtMinReplicas";
        return p->min_replicas;
    }
    if (want > p->max_replicas) {
        *reason = "AtMaxReplicas";
        return p->max_replicas;
    }
    return want;
}

/* Appends what is known. */
static void tell(struct scale_decision *d, const char *name, double value) {
    size_t len = strlen(d->inputs);
    if (value >= 0)
        snprintf(d->inputs + len, sizeof(d->inputs) - len, " %s=%.4g", name, value);
}

static void describe(const struct inference_sample *m, struct scale_decision *d) {
    tell(d, "kv_usage", m->kv_usage);
    tell(d, "queued_tokens", m->queued_tokens);
    tell(d, "ttft_p95", m->ttft_p95_seconds);
    tell(d, "itl_p95", m->itl_p95_seconds);
    tell(d, "tokens_per_second", m->tokens_per_second);
}

void inference_decide(struct inference *s, int64_t now_ms, const struct inference_sample *m,
                      struct scale_decision *ret) {
    const struct inference_spec *p = &s->spec;
    *ret = (struct scale_decision){.replicas = m->current, .reason = "MissingMetrics"};
    if (m->in_flight < 0) {
        ret->replicas = bounded(p, m->current, &ret->reason);
        return;
    }
    correct(s, m);
    double load = load_of(s, m), now = load, held = 0;
    scale_window_record(s->load, now_ms, load);
    remember(s, now_ms, load);
    s->last_ms = now_ms;
    if (load > 0 || s->asked_ms == NEVER)
        s->asked_ms = now_ms;
    bool idle = now_ms - s->asked_ms >= p->idle_ms;
    if (!scale_window_average(s->load, now_ms, p->window_ms, &now))
        now = load;
    double keep = idle ? 0 : reserve(s);
    int32_t want = replicas_for(now), want_keep = replicas_for(keep);
    ret->reason = "Load";
    if (want_keep > want) {
        want = want_keep;
        ret->reason = "Reserve";
    }
    scale_window_record(s->wanted, now_ms, want);
    if (scale_window_max(s->wanted, now_ms, m->start_ms, &held) && held > want) {
        want = (int32_t)held;
        ret->reason = "Held";
    }
    if (!want && !idle) {
        want = 1;
        ret->reason = "LastReplicaStays";
        ret->again_ms = s->asked_ms + p->idle_ms - now_ms;
    } else if (!want) {
        ret->reason = "Idle";
    }
    ret->replicas = bounded(p, want, &ret->reason);
    snprintf(ret->inputs, sizeof(ret->inputs),
             "load=%.2f now=%.2f reserve=%.2f held=%.0f in_flight=%.1f correction=%.2f ready=%d "
             "start_ms=%lld",
             load, now, keep, held, m->in_flight, s->correction, m->ready, (long long)m->start_ms);
    describe(m, ret);
}
