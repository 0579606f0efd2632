/* The world in which scaling rules are replayed: a trace of requests, replicas with continuous
 * batching, and a gateway in front of them. Virtual time, no threads, the same for every rule. */
#ifndef TESTS_BENCH_REPLAY_MODEL_H
#define TESTS_BENCH_REPLAY_MODEL_H

#include "core/base/error.h"
#include "core/base/mem.h"

struct replay_request {
    double arrival; /* seconds */
    int32_t prompt_tokens, output_tokens;
};

struct replay_trace {
    struct replay_request *requests; /* by arrival */
    uint32_t num;
    double seconds; /* from the first arrival to the last */
};

/* Reads Azure's CSV (TIMESTAMP, ContextTokens, GeneratedTokens) or lines of JSON with timestamp
 * (ms), input_length and output_length. Errors: file, line. */
MUST_CHECK enum errc replay_trace_read(const char *path, struct replay_trace *ret,
                                       struct error *err);
void replay_trace_deinit(struct replay_trace *t);

/* One kind of replica. A step takes step_seconds, and sequence_seconds for each sequence that gets
 * a token, and 1 / prefill_rate for each prompt token that is computed in it. */
struct replay_speed {
    double prefill_rate;
    double step_seconds, sequence_seconds;
    int32_t step_tokens; /* of prompts, per step */
    int32_t num_seqs_max;
    double start_seconds; /* from the decision to the first request */
    int32_t replicas_max;
};

/* What a rule sees, and what it answers. Called once a virtual second. */
struct replay_view {
    int64_t now_ms;
    double in_flight, queued, queued_tokens;
    double ttft_p95; /* of the last 30 s; -1: none */
    int32_t ready, current;
    int64_t start_ms;
};
struct replay_rule {
    int32_t (*decide)(void *state, const struct replay_view *view); /* replicas */
    void *state;
};

struct replay_result {
    double replica_seconds;
    uint32_t misses; /* requests later than their goal */
    double ttft_p50, ttft_p99;
    int32_t most_replicas;
};

/* The goals: a first token within 1 s and three times what the prompt takes alone; then a token
 * within four times what it takes alone, on average. */
void replay_run(const struct replay_trace *t, const struct replay_speed *speed,
                const struct replay_rule *rule, struct replay_result *ret);

/* Scales a trace to a machine for eight replicas: the slowest ones with which all eight, always on,
 * are late for at most one request in a hundred. */
struct replay_speed replay_speed_for(const struct replay_trace *t, double start_seconds);

#endif
