/* The sampler: logits in, token out, in vLLM's order of operations.
 *
 *   raw logits -- logprobs are taken here, from the model's own distribution
 *     min_tokens: end-of-generation and stop ids become impossible
 *     logit_bias
 *     repetition, then frequency and presence penalties
 *     temperature 0: the largest, of equals the lowest id. Otherwise
 *     / temperature -> min_p -> top_k -> top_p -> draw
 *
 * What changes logits touches few of them, so it works on a copy of the row and only when a request
 * asks for any of it. Penalties count tokens in an array of one count per vocabulary entry that is
 * zero between calls: walking the request's tokens twice beats keeping a table per request.
 *
 * top_k and top_p never sort the vocabulary: select_largest() is quickselect, which narrows to the
 * cut in linear expected time; measured by count it is top_k, by probability top_p. Nor do they
 * look at all of it twice: what cannot be among the k best, or within the probability p, is passed
 * over in one walk, and only the rest become candidates.
 *
 * The draw inverts the cumulative distribution at one uniform number, philox(seed, index of the
 * token). No generator has a state, so a seeded request gets the same tokens beside any others,
 * after any preemption, at any time. Candidates are compared by (logit, id), a total order, hence
 * the result is defined for equal logits too. */
#include "engine/sampler.h"

#include <math.h>

#include "engine/philox.h"
#include "engine/request.h"
#include "engine/softmax.h"

/* Below it a division would overflow before it changed any choice. */
#define TEMPERATURE_MIN 1e-5f

enum { TOP_K_SLACK_MIN = 1024 };

struct candidate {
    float logit, weight; /* weight: exp((logit - largest) / temperature) */
    int32_t id;
};

struct sampler {
    uint32_t vocab_size;
    int32_t *eog_ids;
    uint32_t num_eog_ids;
    float *changed;               /* [V] the row after bias and penalties */
    float *weights;               /* [V] of the row, where all of them are needed */
    struct candidate *candidates; /* [V] */
    uint32_t *counts;             /* [V] all 0 between calls */
};

#define COUNT_IN_PROMPT (1u << 31) /* beside the count of the completion */

uint64_t sampler_bytes(uint32_t vocab_size) {
    const struct sampler *s = NULL;
    return vocab_size * (uint64_t)(sizeof(s->changed[0]) + sizeof(s->weights[0]) +
                                   sizeof(s->candidates[0]) + sizeof(s->counts[0]));
}

enum errc sampler_create(const struct sampler_options *opt, struct sampler **ret_s,
                         struct error *err) {
    AUTO(sampler) s = mem_alloc(sizeof(*s));
    s->vocab_size = opt->vocab_size;
    s->num_eog_ids = opt->num_eog_ids;
    s->eog_ids = mem_dup(opt->eog_ids, opt->num_eog_ids * sizeof(s->eog_ids[0]));
    s->changed = mem_try_alloc(opt->vocab_size * sizeof(s->changed[0]));
    s->weights = mem_try_alloc(opt->vocab_size * sizeof(s->weights[0]));
    s->candidates = mem_try_alloc(opt->vocab_size * sizeof(s->candidates[0]));
    s->counts = mem_try_alloc(opt->vocab_size * sizeof(s->counts[0]));
    if (!s->changed || !s->weights || !s->candidates || !s->counts)
        return err_set(err, ERR_EXHAUSTED, "no memory to sample from a vocabulary of %u",
                       opt->vocab_size);
    *ret_s = steal(s);
    return OK;
}

void sampler_destroy(struct sampler *s) {
    if (!s)
        return;
    free(s->eog_ids);
    free(s->changed);
    free(s->weights);
    free(s->candidates);
    free(s->counts);
    free(s);
}

bool sampler_is_eog(const struct sampler *s, int32_t id) {
    for (uint32_t i = 0; i < s->num_eog_ids; i++) {
        if (s->eog_ids[i] == id)
            return true;
    }
    return false;
}

/* The index of the largest logit, of equals the lowest. False when the row is no distribution. */
static bool find_largest(const float *logits, uint32_t vocab_size, uint32_t *ret_index) {
    float largest = -INFINITY;
    bool is_nan = false;
    for (uint32_t i = 0; i < vocab_size; i++) {
        is_nan |= isnan(logits[i]);
        if (logits[i] > largest) {
            largest = logits[i];
            *ret_index = i;
        }
    }
    return !is_nan && isfinite(largest);
    return true;
}

double sampler_logsumexp(const float *logits, uint32_t vocab_size) {
    uint32_t best = 0;
    if (!find_largest(logits, vocab_size, &best))
        return NAN;
    double sum = softmax_sum(logits, vocab_size, logits[best], 1);
    return (double)logits[best] + log(sum);
}

/* Keeps the k best of the row in token->top, by insertion: k is at most 20, and after the first few
 * hundred logits hardly any is better than the last of them. */
static void fill_top(const float *logits, uint32_t vocab_size, double logsumexp, uint32_t k,
                     struct engine_token *token) {
    uint32_t n = 0;
    if (k > vocab_size)
        k = vocab_size;
    for (uint32_t i = 0; i < vocab_size && k; i++) {
        if (n == k && !(logits[i] > token->top[n - 1].logprob))
            continue;
        if (n < k)
            n++;
        uint32_t at = n - 1;
        for (; at && logits[i] > token->top[at - 1].logprob; at--)
            token->top[at] = token->top[at - 1];
        token->top[at] = (struct engine_top){.id = (int32_t)i, .logprob = logits[i]};
    }
    for (uint32_t i = 0; i < n; i++)
        token->top[i].logprob = (float)((double)token->top[i].logprob - logsumexp);
    token->num_top = n;
}

bool sampler_score(const struct sampler *s, const struct request *rq, int32_t id,
                   const float *logits, struct engine_token *ret_token) {
    double logsumexp = sampler_logsumexp(logits, s->vocab_size);
    if (isnan(logsumexp))
        return false;
    ret_token->id = id;
    ret_token->logprob = (float)((double)logits[id] - logsumexp);
    int32_t k = rq->sampling.num_logprobs;
    fill_top(logits, s->vocab_size, logsumexp, k > 0 ? (uint32_t)k : 0, ret_token);
    return true;
}

static void forbid(struct sampler *s, const int32_t *ids, uint32_t num_ids) {
    for (uint32_t i = 0; i < num_ids; i++) {
        if (ids[i] >= 0 && (uint32_t)ids[i] < s->vocab_size)
            s->changed[ids[i]] = -INFINITY;
    }
}

/* Presence and frequency look at what was generated, repetition at the prompt too. */
static void apply_penalties(struct sampler *s, const struct request *rq) {
    const struct sampling_params *p = &rq->sampling;
    for (uint32_t i = 0; i < rq->num_prompt; i++)
        s->counts[rq->tokens[i]] = COUNT_IN_PROMPT;
    for (uint32_t i = rq->num_prompt; i < rq->num_tokens; i++)
        s->counts[rq->tokens[i]]++;
    for (uint32_t i = 0; i < rq->num_tokens; i++) {
        int32_t id = rq->tokens[i];
        if (!s->counts[id])
            continue; /* done at an earlier place of the same token */
        uint32_t count = s->counts[id] & ~COUNT_IN_PROMPT;
        s->counts[id] = 0;
        float x = s->changed[id];
        x = x > 0 ? x / p->repetition_penalty : x * p->repetition_penalty;
        if (count)
            x -= p->frequency_penalty * (float)count + p->presence_penalty;
        s->changed[id] = x;
    }
}

/* The row after min_tokens, bias and penalties: `logits` itself when none applies. */
static const float *change(struct sampler *s, const struct request *rq, const float *logits) {
    const struct sampling_params *p = &rq->sampling;
    bool below_min = request_num_output(rq) < p->min_tokens;
    bool penalties = p->repetition_penalty != 1 || p->frequency_penalty || p->presence_penalty;
    if (!below_min && !penalties && !p->num_logit_bias)
        return logits;
    memcpy(s->changed, logits, s->vocab_size * sizeof(s->changed[0]));
    if (below_min) {
        forbid(s, p->stop_ids, p->num_stop_ids);
        if (!p->ignore_eos)
            forbid(s, s->eog_ids, s->num_eog_ids);
    }
    for (uint32_t i = 0; i < p->num_logit_bias; i++)
        s->changed[p->logit_bias[i].id] += p->logit_bias[i].bias;
    if (penalties)
        apply_penalties(s, rq);
    return s->changed;
}

static bool before(const struct candidate *a, const struct candidate *b) {
    return a->logit != b->logit ? a->logit > b->logit : a->id < b->id;
}

static void swap(struct candidate *a, struct candidate *b) {
    struct candidate was = *a;
    *a = *b;
    *b = was;
}

/* Reorders c[lo..hi) so that what comes before a pivot stands before it; returns its place. */
static uint32_t partition(struct candidate *c, uint32_t lo, uint32_t hi) {
    uint32_t mid = lo + (hi - lo) / 2, last = hi - 1;
    if (before(&c[mid], &c[lo])) /* median of three, moved to the end */
        swap(&c[mid], &c[lo]);
    if (before(&c[last], &c[lo]))
        swap(&c[last], &c[lo]);
    if (before(&c[mid], &c[last]))
        swap(&c[mid], &c[last]);
    uint32_t place = lo;
    for (uint32_t i = lo; i < last; i++) {
        if (before(&c[i], &c[last]))
            swap(&c[i], &c[place++]);
    }
    swap(&c[place], &c[last]);
    return place;
}

enum measure { MEASURE_COUNT, MEASURE_WEIGHT };

static double measure(const struct candidate *c, uint32_t lo, uint32_t hi, enum measure by) {
    if (by == MEASURE_COUNT)
        return hi - lo;
    double sum = 0;
    for (uint32_t i = lo; i < hi; i++)
        sum += (double)c[i].weight;
    return sum;
}

/* Moves to the front the fewest largest candidates that together measure at least `need`; returns
 * how many they are (all, when all measure less). */
static uint32_t select_largest(struct candidate *c, uint32_t n, double need, enum measure by) {
    uint32_t lo = 0, hi = n; /* c[0..lo) belongs to the answer, c[hi..n) does not */
    while (hi - lo > 1) {
        uint32_t pivot = partition(c, lo, hi);
        double front = measure(c, lo, pivot, by);
        if (front >= need) {
            hi = pivot;
            continue;
        }
        need -= front + measure(c, pivot, pivot + 1, by);
        if (need <= 0)
            return pivot + 1;
        lo = pivot + 1;
    }
    return hi;
}

/* The k best of the row become the candidates. Whenever the array is full, all but the k best so
 * far leave it; from then on only what beats the last of those comes in. */
static uint32_t gather_top_k(struct sampler *s, const float *logits, uint32_t k) {
    uint32_t cap = k < s->vocab_size / 2 ? 2 * k : s->vocab_size, n = 0;
    if (cap < TOP_K_SLACK_MIN)
        cap = TOP_K_SLACK_MIN < s->vocab_size ? TOP_K_SLACK_MIN : s->vocab_size;
    float bar = -INFINITY;
    for (uint32_t i = 0; i < s->vocab_size; i++) {
        if (!(logits[i] > bar)) /* of equals, the id that came first stays */
            continue;
        s->candidates[n++] = (struct candidate){.logit = logits[i], .id = (int32_t)i};
        if (n < cap)
            continue;
        n = select_largest(s->candidates, n, k, MEASURE_COUNT);
        bar = INFINITY;
        for (uint32_t c = 0; c < n; c++)
            bar = s->candidates[c].logit < bar ? s->candidates[c].logit : bar;
    }
    return select_largest(s->candidates, n, k, MEASURE_COUNT);
}

/* Drops the candidates whose weight is 0 or below min_p. */
static uint32_t keep_likely(struct candidate *c, uint32_t n, float min_p) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (c[i].weight > 0 && c[i].weight >= min_p)
            c[kept++] = c[i];
    }
    return kept;
}

static uint32_t candidates_of_top_k(struct sampler *s, const struct sampling_params *p,
                                    const float *logits, float largest) {
    uint32_t n = gather_top_k(s, logits, (uint32_t)p->top_k);
    for (uint32_t i = 0; i < n; i++) {
        float logit = s->candidates[i].logit;
        softmax_weights(&logit, 1, largest, 1 / p->temperature, &s->candidates[i].weight);
    }
    n = keep_likely(s->candidates, n, p->min_p);
    if (p->top_p < 1) {
        double total = measure(s->candidates, 0, n, MEASURE_WEIGHT);
        n = select_largest(s->candidates, n, (double)p->top_p * total, MEASURE_WEIGHT);
    }
    return n;
}

/* The whole vocabulary, without what min_p and top_p cut. Weights below bar = (1 - top_p) * total /
 * V are together less than what top_p leaves out, so none of them is within it. */
static uint32_t candidates_of_all(struct sampler *s, const struct sampling_params *p,
                                  const float *logits, float largest) {
    double total = softmax_weights(logits, s->vocab_size, largest, 1 / p->temperature, s->weights);
    if (p->min_p > 0) {
        total = 0;
        for (uint32_t i = 0; i < s->vocab_size; i++)
            total += s->weights[i] >= p->min_p ? (double)s->weights[i] : 0;
    }
    double bar = (1 - (double)p->top_p) * total / s->vocab_size;
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->vocab_size; i++) {
        float weight = s->weights[i];
        if (weight > 0 && weight >= p->min_p && (double)weight >= bar)
            s->candidates[n++] =
                (struct candidate){.logit = logits[i], .weight = weight, .id = (int32_t)i};
    }
    if (p->top_p < 1)
        n = select_largest(s->candidates, n, (double)p->top_p * total, MEASURE_WEIGHT);
    return n;
}

static int32_t draw(const struct candidate *c, uint32_t n, double uniform) {
    double left = uniform * measure(c, 0, n, MEASURE_WEIGHT);
    for (uint32_t i = 0; i + 1 < n; i++) {
        left -= (double)c[i].weight;
        if (left < 0)
            return c[i].id;
    }
    return c[n - 1].id;
}

bool sampler_sample(struct sampler *s, const struct request *rq, const float *logits,
                    struct engine_token *ret_token) {
    const struct sampling_params *p = &rq->sampling;
    uint32_t largest = 0;
    if (!find_largest(logits, s->vocab_size, &largest))
        return false;
    const float *changed = change(s, rq, logits);
    if (changed != logits && !find_largest(changed, s->vocab_size, &largest))
        return false;

    int32_t id = (int32_t)largest;
    if (p->temperature >= TEMPERATURE_MIN) {
        float best = changed[largest];
        uint32_t n = p->top_k > 0 && (uint32_t)p->top_k < s->vocab_size
                         ? candidates_of_top_k(s, p, changed, best)
                         : candidates_of_all(s, p, changed, best);
        id = draw(s->candidates, n, philox_uniform(rq->seed, request_num_output(rq)));
    }
    if (p->num_logprobs >= 0)
        return sampler_score(s, rq, id, logits, ret_token);
    ret_token->id = id;
    ret_token->logprob = 0;
    ret_token->num_top = 0;
    return true;
}
