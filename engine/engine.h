/* The engine: token ids in, token ids out, by continuous batching on one thread per device.
 *
 * A request belongs to the engine from engine_submit() until its sink has seen `finished`. Text,
 * JSON and HTTP never come here. The engine thread allocates nothing while running. */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include "core/base/mem.h"

struct engine;
struct model;
struct weights_share;

struct engine_options {
    uint32_t max_model_len;          /* 0: the model's context_length */
    uint32_t max_num_seqs;           /* 0: 64 on the CPU */
    uint32_t max_num_batched_tokens; /* 0: 512 on the CPU */
    uint32_t max_num_waiting;        /* 0: 1024; with max_num_seqs and this many requests in the
                                        engine, engine_submit gives ERR_EXHAUSTED */
    uint32_t block_size;             /* 0: 16 */
    uint64_t kv_cache_bytes;         /* 0: enough for max_num_seqs/4 full contexts, within half of
                                        the memory that is free; at least one must fit */
    uint32_t num_threads;            /* 0: all that this process may use */
    bool disable_prefix_caching;
    bool reference;              /* exact F32 path */
    uint64_t seed;               /* for requests that bring none */
    struct weights_share *share; /* borrowed for the engine's life; NULL: weights of its own */
};

enum { ENGINE_TOP_LOGPROBS_MAX = 20, ENGINE_LOGIT_BIAS_MAX = 300, ENGINE_STOP_IDS_MAX = 16 };

struct sampling_params {
    float temperature; /* 0: greedy */
    float top_p;       /* 1: off */
    float min_p;       /* 0: off */
    int32_t top_k;     /* <= 0: off */
    float presence_penalty, frequency_penalty;
    float repetition_penalty; /* 1: off */
    uint64_t seed;
    bool has_seed;
    bool ignore_eos;
    int32_t num_logprobs; /* -1: none; k: the sampled token's and the k best, k <= 20 */
    bool prompt_logprobs; /* also for the prompt's tokens (completions' echo) */
    uint32_t max_tokens;  /* >= 1; cut to what max_model_len leaves behind the prompt */
    uint32_t min_tokens;
    uint32_t num_stop_ids;
    int32_t stop_ids[ENGINE_STOP_IDS_MAX];
    uint32_t num_logit_bias;
    struct {
        int32_t id;
        float bias;
    } logit_bias[ENGINE_LOGIT_BIAS_MAX];
};
void sampling_params_init(struct sampling_params *p); /* vLLM's defaults: temperature 1, no cuts */

enum finish_reason { FINISH_NONE, FINISH_STOP, FINISH_LENGTH, FINISH_ABORT, FINISH_ERROR };

/* A candidate of one position and its natural logarithm of probability. */
struct engine_top {
    int32_t id;
    float logprob;
};

/* One sampled token (or, with prompt_logprobs, one prompt token). Log probabilities are those of
 * the model's own distribution, before penalties, temperature and cuts. */
struct engine_token {
    int32_t id;
    bool is_prompt; /* the prompt's second and later tokens, in order, before the first sampled one;
                       the first has nothing that predicts it and is not reported */
    enum finish_reason finish; /* not FINISH_NONE: this was the last; for FINISH_STOP by an
                                  end-of-generation or stop id, id is that token */
    bool has_token;            /* false: only the news that it is finished (abort, error) */
    uint32_t index; /* 0-based among sampled tokens; of a prompt token: its place there */
    float logprob;  /* 0 unless log probabilities were asked for */
    uint32_t num_top;
    struct engine_top top[ENGINE_TOP_LOGPROBS_MAX]; /* best first, the lower id first when equal */
    int64_t mono_ns;                                /* when the engine had it */
    uint32_t num_cached_tokens; /* prompt tokens that came from the prefix cache */
};

/* Called on the engine thread: must not block, allocate little, and not call back into the engine.
 * After the call with token->finish set the engine never touches `user` again. */
typedef void engine_sink_fn(void *user, const struct engine_token *token);

/* Sees the model's raw logits [V] just before the sink gets the token they led to; borrowed for the
 * call. For tools that compare distributions; same rules as for the sink. */
typedef void engine_logits_fn(void *user, const float *logits, uint32_t vocab_size);

struct engine_request {
    const int32_t *prompt; /* copied by engine_submit */
    uint32_t num_prompt;
    struct sampling_params sampling;
    engine_sink_fn *sink;
    void *user;
    engine_logits_fn *on_logits; /* NULL: nobody looks */
};

/* Gives a running engine; the model is borrowed for its life. */
MUST_CHECK enum errc engine_create(const struct model *m, const struct engine_options *opt,
                                   struct engine **ret_e, struct error *err);
/* Finishes every request with FINISH_ABORT, joins the thread. */
void engine_destroy(struct engine *e);
DEFINE_AUTO(engine, engine_destroy)

/* Any thread. ERR_INVALID with field: prompt and one token more are longer than max_model_len, a
 * token id outside the vocabulary, a parameter out of its range. ERR_EXHAUSTED: too many requests,
 * or no memory for this one; ERR_UNAVAILABLE: the engine is being destroyed. On error the sink is
 * not called; otherwise it may be called before this returns. ret_id names the request for
 * engine_abort, never 0. */
MUST_CHECK enum errc engine_submit(struct engine *e, const struct engine_request *rq,
                                   uint64_t *ret_id, struct error *err);
/* Any thread; unknown or finished ids are ignored. The sink gets FINISH_ABORT soon after. */
void engine_abort(struct engine *e, uint64_t id);

/* Figures for /metrics and health; any thread. */
struct engine_stats {
    uint32_t num_running, num_waiting;
    uint64_t queued_prompt_tokens; /* of the requests that wait for their first step */
    uint32_t num_blocks, num_blocks_used;
    uint64_t prompt_tokens_total, generation_tokens_total;
    uint64_t prefix_queries_total, prefix_hits_total; /* in tokens */
    uint64_t preemptions_total, steps_total, step_tokens_total;
};
void engine_stats(const struct engine *e, struct engine_stats *ret_stats);

uint32_t engine_max_model_len(const struct engine *e);
uint32_t engine_max_num_seqs(const struct engine *e);

#endif
