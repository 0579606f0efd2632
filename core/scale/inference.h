/* inferd's own rule for inference services. Pure: state, measurements and `now` in, replicas out.
 *
 * It differs from the general rules in what it knows: how long a replica takes to start, how many
 * requests one can serve at once within its latency goal, and what the load has looked like. */
#ifndef CORE_SCALE_INFERENCE_H
#define CORE_SCALE_INFERENCE_H

#include "core/scale/decision.h"
#include "core/scale/window.h"

struct inference_spec {
    double concurrency;   /* requests that one replica serves at once as it should; > 0 */
    double queued_tokens; /* prompt tokens that may wait per replica; 0: not looked at */
    double readiness;     /* 0..1: the share of the time in which a start is not waited for */
    double ttft_goal_seconds, itl_goal_seconds; /* of the 95th percentile; 0: none */
    int64_t window_ms; /* the load of now is the average of so much of the past; at most
                          SCALE_WINDOW_SECONDS_MAX */
    int64_t memory_ms; /* how far back the load counts: its weight halves in this time */
    int64_t idle_ms;   /* nobody asks for so long: none is needed (with min_replicas 0) */
    int32_t min_replicas, max_replicas;
};
struct inference_spec inference_spec_default(void);

/* One look at the service. A measurement that is not there is negative. */
struct inference_sample {
    double in_flight;     /* requests with replicas, and held for one */
    double queued_tokens; /* prompt tokens that no engine has begun */
    double kv_usage;      /* mean over the replicas, 0..1 */
    double ttft_p95_seconds, itl_p95_seconds;
    double tokens_per_second;
    int64_t start_ms; /* from the decision to a ready replica, as measured */
    int32_t ready, current;
};

struct inference;
struct inference *inference_create(const struct inference_spec *spec);
void inference_destroy(struct inference *s);
DEFINE_AUTO(inference, inference_destroy)

/* About once a second. With in_flight missing: keeps what is there, within the bounds. */
void inference_decide(struct inference *s, int64_t now_ms, const struct inference_sample *sample,
                      struct scale_decision *ret);

#endif
