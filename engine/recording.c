/* A recording sits between the engine thread, which must never wait, and a thread that waits for
 * tokens: an array under a mutex, and a condition for "one more".
 *
 * Candidates beyond the twenty that a token carries come from the raw row that on_logits shows just
 * before the token: the row is ranked then, on the engine thread. That is slow and meant for
 * comparing models; a request that asks for none is not looked at. */
#include "engine/recording.h"

#include <pthread.h>

#include "engine/sampler.h"

struct kept {
    int32_t id;
    float logprob;
    uint32_t num_top;
};

struct recording {
    struct recording_options opt;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct kept *tokens;    /* [num_tokens_max] */
    struct engine_top *top; /* [num_tokens_max, num_top] */
    uint32_t num_tokens;
    int64_t first_ns;
    enum finish_reason finish;

    struct engine_top *ranking; /* [V] engine thread only */
    uint32_t num_rows;          /* rows seen, engine thread only */
    bool is_ranked;             /* the row of the token that comes next was */
};

enum errc recording_create(const struct recording_options *opt, struct recording **ret_r,
                           struct error *err) {
    AUTO(recording) r = mem_alloc(sizeof(*r));
    r->opt = *opt;
    if (r->opt.num_top > opt->vocab_size)
        r->opt.num_top = opt->vocab_size;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    r->tokens = mem_try_alloc(opt->num_tokens_max * sizeof(r->tokens[0]));
    r->top = mem_try_alloc((size_t)opt->num_tokens_max * r->opt.num_top * sizeof(r->top[0]));
    r->ranking = mem_try_alloc(opt->vocab_size * sizeof(r->ranking[0]));
    if (!r->tokens || !r->top || !r->ranking)
        return err_set(err, ERR_EXHAUSTED, "no memory to keep %u candidates of %u tokens",
                       r->opt.num_top, opt->num_tokens_max);
    *ret_r = steal(r);
    return OK;
}

void recording_destroy(struct recording *r) {
    if (!r)
        return;
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->changed);
    free(r->tokens);
    free(r->top);
    free(r->ranking);
    free(r);
}

static int compare(const void *pa, const void *pb) {
    const struct engine_top *a = pa, *b = pb;
    if (a->logprob != b->logprob)
        return a->logprob > b->logprob ? -1 : 1;
    return a->id < b->id ? -1 : a->id > b->id;
}

/* Rows come in order of position, the first one tells about the token at 1; those of the prompt
 * only when its log probabilities are asked for. */
static bool is_wanted(const struct recording *r, uint32_t row) {
    if (r->opt.first_prompt_index == UINT32_MAX)
        return true;
    return row + 1 >= r->opt.first_prompt_index;
}

static void see_logits(void *user, const float *logits, uint32_t vocab_size) {
    struct recording *r = user;
    r->is_ranked = is_wanted(r, r->num_rows++);
    if (!r->is_ranked)
        return;
    double logsumexp = sampler_logsumexp(logits, vocab_size);
    for (uint32_t i = 0; i < vocab_size; i++) {
        r->ranking[i].id = (int32_t)i;
        r->ranking[i].logprob = (float)((double)logits[i] - logsumexp);
    }
    qsort(r->ranking, vocab_size, sizeof(r->ranking[0]), compare);
}

static void keep(struct recording *r, const struct engine_token *token) {
    struct kept *k = &r->tokens[r->num_tokens];
    *k = (struct kept){.id = token->id, .logprob = token->logprob};
    if (r->is_ranked) {
        k->num_top = r->opt.num_top;
        memcpy(r->top + (size_t)r->num_tokens * r->opt.num_top, r->ranking,
               k->num_top * sizeof(r->top[0]));
    }
    if (!r->num_tokens++)
        r->first_ns = token->mono_ns;
}

static void sink(void *user, const struct engine_token *token) {
    struct recording *r = user;
    bool wanted = token->has_token && (token->is_prompt ? token->index >= r->opt.first_prompt_index
                                                        : !r->opt.drops_sampled);
    pthread_mutex_lock(&r->lock);
    if (wanted && r->num_tokens < r->opt.num_tokens_max)
        keep(r, token);
    r->finish = token->finish;
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

void recording_attach(struct recording *r, struct engine_request *rq) {
    rq->sink = sink;
    rq->user = r;
    rq->on_logits = r->opt.num_top ? see_logits : NULL;
    rq->sampling.prompt_logprobs = r->opt.first_prompt_index != UINT32_MAX;
}

bool recording_wait(struct recording *r, uint32_t index, struct recorded_token *ret_token) {
    pthread_mutex_lock(&r->lock);
    while (r->num_tokens <= index && !r->finish)
        pthread_cond_wait(&r->changed, &r->lock);
    bool is_there = index < r->num_tokens;
    if (is_there)
        *ret_token = (struct recorded_token){
            .id = r->tokens[index].id,
            .logprob = r->tokens[index].logprob,
            .num_top = r->tokens[index].num_top,
            .top = r->top + (size_t)index * r->opt.num_top,
        };
    pthread_mutex_unlock(&r->lock);
    return is_there;
}

enum finish_reason recording_finish(struct recording *r) {
    pthread_mutex_lock(&r->lock);
    while (!r->finish)
        pthread_cond_wait(&r->changed, &r->lock);
    enum finish_reason finish = r->finish;
    pthread_mutex_unlock(&r->lock);
    return finish;
}

int64_t recording_first_ns(struct recording *r) {
    pthread_mutex_lock(&r->lock);
    int64_t first_ns = r->first_ns;
    pthread_mutex_unlock(&r->lock);
    return first_ns;
}
