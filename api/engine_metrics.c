/* The engine's figures under vLLM's names (vllm/v1/metrics). Histograms are fed as completions run;
 * gauges and the engine's own counters are read when somebody asks. */
#include "api/engine_metrics.h"

#define LABELS                                                                                     \
    { "model_name", "engine" }

static const struct metric_family running = {
    METRIC_GAUGE, "vllm:num_requests_running", "Requests in the running batch.", LABELS, {0}};
static const struct metric_family waiting = {
    METRIC_GAUGE, "vllm:num_requests_waiting", "Requests waiting to be scheduled.", LABELS, {0}};
static const struct metric_family kv_usage = {
    METRIC_GAUGE, "vllm:kv_cache_usage_perc", "KV-cache usage, 1 is full.", LABELS, {0}};
static const struct metric_family queued_prompt_tokens = {
    METRIC_GAUGE,
    "inferd_queued_prompt_tokens",
    "Prompt tokens of requests that wait to be scheduled.",
    LABELS,
    {0}};
static const struct metric_family prompt_tokens = {
    METRIC_COUNTER, "vllm:prompt_tokens_total", "Prefill tokens processed.", LABELS, {0}};
static const struct metric_family generation_tokens = {
    METRIC_COUNTER, "vllm:generation_tokens_total", "Generation tokens processed.", LABELS, {0}};
static const struct metric_family prefix_queries = {METRIC_COUNTER,
                                                    "vllm:prefix_cache_queries_total",
                                                    "Tokens looked up in the prefix cache.",
                                                    LABELS,
                                                    {0}};
static const struct metric_family prefix_hits = {METRIC_COUNTER,
                                                 "vllm:prefix_cache_hits_total",
                                                 "Tokens found in the prefix cache.",
                                                 LABELS,
                                                 {0}};
static const struct metric_family preemptions = {
    METRIC_COUNTER, "vllm:num_preemptions_total", "Requests preempted by the engine.", LABELS, {0}};
static const struct metric_family ttft = {
    METRIC_HISTOGRAM,
    "vllm:time_to_first_token_seconds",
    "Time from arrival to the first token.",
    LABELS,
    {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40}};
static const struct metric_family itl = {
    METRIC_HISTOGRAM,
    "vllm:inter_token_latency_seconds",
    "Time between two tokens of a request.",
    LABELS,
    {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5}};
static const struct metric_family e2e = {
    METRIC_HISTOGRAM,
    "vllm:e2e_request_latency_seconds",
    "Time from arrival to the last token.",
    LABELS,
    {0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60}};
static const struct metric_family request_prompt = {
    METRIC_HISTOGRAM,
    "vllm:request_prompt_tokens",
    "Prompt tokens per request.",
    LABELS,
    {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000}};
static const struct metric_family request_generation = {
    METRIC_HISTOGRAM,
    "vllm:request_generation_tokens",
    "Generated tokens per request.",
    LABELS,
    {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000}};
static const struct metric_family success = {METRIC_COUNTER,
                                             "vllm:request_success_total",
                                             "Finished requests by reason.",
                                             {"model_name", "engine", "finished_reason"},
                                             {0}};

struct engine_metrics {
    struct metrics *registry;
    char *model;
    struct metric *ttft, *itl, *e2e, *request_prompt, *request_generation;
    struct metric *finished[FINISH_ERROR + 1];
};

static struct metric *get(struct engine_metrics *m, const struct metric_family *family) {
    const char *values[] = {m->model, "0"};
    return metrics_get(m->registry, family, values);
}

struct engine_metrics *engine_metrics_create(const char *model) {
    static const char *const reasons[] = {"", "stop", "length", "abort", "error"};
    struct engine_metrics *m = mem_alloc(sizeof(*m));
    m->registry = metrics_create();
    m->model = mem_strdup(model);
    m->ttft = get(m, &ttft);
    m->itl = get(m, &itl);
    m->e2e = get(m, &e2e);
    m->request_prompt = get(m, &request_prompt);
    m->request_generation = get(m, &request_generation);
    for (int i = FINISH_STOP; i <= FINISH_ERROR; i++) {
        const char *values[] = {m->model, "0", reasons[i]};
        m->finished[i] = metrics_get(m->registry, &success, values);
    }
    return m;
}

void engine_metrics_destroy(struct engine_metrics *m) {
    if (!m)
        return;
    metrics_destroy(m->registry);
    free(m->model);
    free(m);
}

void engine_metrics_first_token(struct engine_metrics *m, int64_t since_arrival_ns) {
    metric_observe(m->ttft, (double)since_arrival_ns * 1e-9);
}

void engine_metrics_next_token(struct engine_metrics *m, int64_t since_last_ns) {
    metric_observe(m->itl, (double)since_last_ns * 1e-9);
}

void engine_metrics_finished(struct engine_metrics *m, enum finish_reason reason,
                             uint32_t num_prompt_tokens, uint32_t num_tokens,
                             int64_t since_arrival_ns) {
    metric_add(m->finished[reason], 1);
    metric_observe(m->e2e, (double)since_arrival_ns * 1e-9);
    metric_observe(m->request_prompt, num_prompt_tokens);
    metric_observe(m->request_generation, num_tokens);
}

void engine_metrics_write(struct engine_metrics *m, const struct engine *e, struct buf *out) {
    struct engine_stats s;
    engine_stats(e, &s);
    metric_set(get(m, &running), s.num_running);
    metric_set(get(m, &waiting), s.num_waiting);
    metric_set(get(m, &queued_prompt_tokens), (double)s.queued_prompt_tokens);
    metric_set(get(m, &kv_usage), s.num_blocks ? (double)s.num_blocks_used / s.num_blocks : 0);
    metric_set(get(m, &prompt_tokens), (double)s.prompt_tokens_total);
    metric_set(get(m, &generation_tokens), (double)s.generation_tokens_total);
    metric_set(get(m, &prefix_queries), (double)s.prefix_queries_total);
    metric_set(get(m, &prefix_hits), (double)s.prefix_hits_total);
    metric_set(get(m, &preemptions), (double)s.preemptions_total);
    metrics_write(m->registry, out);
}
