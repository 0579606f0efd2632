/* Continuous batching: one call to sched_schedule() plans one engine step.
 *
 * There is no prefill mode and no decode mode. A request has computed some of its tokens and wants
 * them all computed; a step hands out at most max_num_batched_tokens of the difference, first to
 * running requests (they already hold blocks), then to waiting ones in order of arrival. A long
 * prompt thus goes through in chunks, beside the single tokens of those that are generating.
 *
 * Requests stand in one list in order of arrival; the running ones are its beginning:
 *
 *     first                           border                        last
 *     [ running, oldest ... youngest ][ waiting, oldest ... newest ]
 *
 * Admission moves the border one to the right. Out of blocks: the youngest running request is
 * preempted, the border moves one to the left. Its blocks are released and it recomputes later,
 * mostly from the prefix cache. So whoever came first is never overtaken, and the oldest request
 * can always go on, because the cache alone holds it (sched_fits()): nobody starves.
 *
 * A waiting request is let in only when the cache has room for all tokens that it has by now, not
 * just for its first chunk; otherwise a long prompt would push out others and be pushed out itself
 * half-way, again and again. One that was just preempted waits by the same rule: what it gave back
 * was needed.
 *
 * Invariant: sum of num_scheduled <= budget; every scheduled position has a block.
 * Pure: no clock, no device, no allocation after sched_create(); the tests run it alone.
 * Source: PagedAttention arXiv:2309.06180 s.4.5, chunked prefill arXiv:2403.02310. */
#include "engine/scheduler.h"

#include "engine/kv_cache.h"
#include "engine/request.h"

struct sched {
    struct sched_options opt;
    struct kv_cache *kv;
    struct request *first, *last;
    struct request *border; /* the first waiting, or NULL */
    uint32_t num_running, num_waiting;
    struct sched_step step;
    struct sched_entry *entries; /* [max_num_seqs] */
};

enum errc sched_create(const struct sched_options *opt, struct kv_cache *kv, struct sched **ret_s,
                       struct error *err) {
    if (!opt->max_num_seqs)
        return err_field(err, ERR_INVALID, "max_num_seqs", "max_num_seqs: 0 is below 1");
    if (opt->max_num_batched_tokens < opt->max_num_seqs)
        return err_field(err, ERR_INVALID, "max_num_batched_tokens",
                         "max_num_batched_tokens: %u is below max_num_seqs (%u)",
                         opt->max_num_batched_tokens, opt->max_num_seqs);
    if (!opt->max_num_prompt_logits)
        return err_field(err, ERR_INVALID, "max_num_prompt_logits",
                         "max_num_prompt_logits: 0 is below 1");
    struct sched *s = mem_alloc(sizeof(*s));
    s->opt = *opt;
    s->kv = kv;
    s->entries = mem_array(opt->max_num_seqs, sizeof(s->entries[0]));
    *ret_s = s;
    return OK;
}

void sched_destroy(struct sched *s) {
    if (!s)
        return;
    ASSERT(!s->first);
    free(s->entries);
    free(s);
}

bool sched_fits(const struct sched *s, uint32_t num_tokens) {
    uint64_t positions =
        (uint64_t)kv_cache_num_blocks(s->kv) * (uint64_t)kv_cache_block_size(s->kv);
    return num_tokens <= positions;
}

void sched_add(struct sched *s, struct request *rq) {
    ASSERT(sched_fits(s, rq->num_tokens_max));
    rq->prev = s->last;
    rq->next = NULL;
    if (s->last)
        s->last->next = rq;
    else
        s->first = rq;
    s->last = rq;
    if (!s->border)
        s->border = rq;
    s->num_waiting++;
}

static struct request *youngest_running(const struct sched *s) {
    return s->border ? s->border->prev : s->last;
}

static void preempt(struct sched *s, struct request *rq) {
    ASSERT(rq == youngest_running(s));
    kv_cache_release(s->kv, rq);
    rq->num_computed_tokens = 0;
    rq->num_preemptions++;
    rq->running = false;
    s->border = rq;
    s->num_running--;
    s->num_waiting++;
    s->step.num_preempted++;
}

/* What is left to hand out in the step being planned. */
struct budget {
    uint32_t num_tokens, num_prompt_logits;
};

/* How many of rq's missing tokens the budget allows. */
static uint32_t chunk(const struct request *rq, const struct budget *left) {
    uint32_t n = rq->num_tokens - rq->num_computed_tokens;
    if (n > left->num_tokens)
        n = left->num_tokens;
    struct request_rows rows = request_prompt_rows(rq, n);
    if (rows.num > left->num_prompt_logits)
        n = rows.first + left->num_prompt_logits;
    return n;
}

static void schedule(struct sched *s, struct request *rq, uint32_t n, struct budget *left) {
    ASSERT(s->step.num_entries < s->opt.max_num_seqs);
    s->entries[s->step.num_entries++] = (struct sched_entry){.rq = rq, .num_scheduled = n};
    s->step.num_tokens += n;
    left->num_tokens -= n;
    left->num_prompt_logits -= request_prompt_rows(rq, n).num;
}

static void schedule_running(struct sched *s, struct budget *left) {
    for (struct request *rq = s->first; rq != s->border && left->num_tokens; rq = rq->next) {
        uint32_t n = chunk(rq, left);
        if (!n)
            continue; /* no rows of logits left for its prompt in this step */
        bool reserved;
        /* The youngest has nothing in this step yet: it comes last, and here it is rq's turn. */
        while (!(reserved = kv_cache_reserve(s->kv, rq, rq->num_computed_tokens + n)) &&
               rq != youngest_running(s))
            preempt(s, youngest_running(s));
        if (!reserved) {
            ASSERT(rq != s->first);
            preempt(s, rq);
            return;
        }
        schedule(s, rq, n, left);
    }
}

/* Finds what of rq the prefix cache holds. At least one token stays to be computed: its logits are
 * what the request waits for. So do the tokens whose logits tell its prompt's log probabilities. */
static void match_prefix(struct sched *s, struct request *rq) {
    uint32_t num_tokens_max = rq->num_tokens - 1;
    if (rq->next_prompt_logprob < rq->num_prompt)
        num_tokens_max = rq->next_prompt_logprob - 1;
    rq->num_computed_tokens = kv_cache_match(s->kv, rq, num_tokens_max);
}

static void schedule_waiting(struct sched *s, struct budget *left) {
    while (s->border && s->num_running < s->opt.max_num_seqs && left->num_tokens) {
        struct request *rq = s->border;
        match_prefix(s, rq);
        uint32_t n = chunk(rq, left);
        if (!n || kv_cache_num_missing(s->kv, rq, rq->num_tokens) > kv_cache_num_free(s->kv)) {
            kv_cache_release(s->kv, rq);
            rq->num_computed_tokens = 0;
            return;
        }
        bool reserved = kv_cache_reserve(s->kv, rq, rq->num_computed_tokens + n);
        ASSERT(reserved);
        if (!rq->was_admitted) {
            rq->was_admitted = true;
            rq->num_cached_tokens = rq->num_computed_tokens;
            s->step.num_prefix_queries += rq->num_prompt;
            s->step.num_prefix_hits += rq->num_cached_tokens;
        }
        rq->running = true;
        s->border = rq->next;
        s->num_running++;
        s->num_waiting--;
        schedule(s, rq, n, left);
    }
}

const struct sched_step *sched_schedule(struct sched *s) {
    struct budget left = {
        .num_tokens = s->opt.max_num_batched_tokens,
        .num_prompt_logits = s->opt.max_num_prompt_logits,
    };
    s->step = (struct sched_step){.entries = s->entries};
    schedule_running(s, &left);
    schedule_waiting(s, &left);
    ASSERT(s->step.num_entries || !s->first);
    return &s->step;
}

void sched_computed(struct sched *s, const struct sched_entry *entry) {
    entry->rq->num_computed_tokens += entry->num_scheduled;
    kv_cache_commit(s->kv, entry->rq);
}

void sched_remove(struct sched *s, struct request *rq, bool broken) {
    if (broken)
        kv_cache_discard(s->kv, rq);
    else
        kv_cache_release(s->kv, rq);
    if (rq == s->border)
        s->border = rq->next;
    *(rq->prev ? &rq->prev->next : &s->first) = rq->next;
    *(rq->next ? &rq->next->prev : &s->last) = rq->prev;
    if (rq->running)
        s->num_running--;
    else
        s->num_waiting--;
    rq->prev = rq->next = NULL;
    rq->running = false;
}

uint32_t sched_num_running(const struct sched *s) {
    return s->num_running;
}

uint32_t sched_num_waiting(const struct sched *s) {
    return s->num_waiting;
}

struct request *sched_first(const struct sched *s) {
    return s->first;
}
