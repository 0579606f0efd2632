/* The engine: one thread that turns requests into tokens, a step at a time.
 *
 *   any thread                          engine thread
 *   engine_submit --- mailbox --->  take new requests        (blocks here when there are none)
 *   engine_abort ---- flag ------>  finish the aborted
 *                                   sched_schedule           what goes into the step
 *                                   batch_build, forward     tokens in, rows of logits out
 *                                   per row: sampler, sink   a token, its request's next input
 *                                   publish figures
 *
 * A request is allocated whole by the thread that submits it and freed by the engine thread; in
 * between the engine thread allocates nothing. `slots` is the register of live requests, under a
 * mutex that guards a few instructions: it bounds how many there are, so the mailbox, as large,
 * never refuses one; and it lets engine_abort find a request without racing its end. An abort is a
 * flag, not a message, so no number of aborts can fill anything up.
 *
 * Ids are counter * num_slots + slot: unique, and they say where to look.
 *
 * A row that is no distribution (NaN: broken weights, a broken kernel) finishes its request with
 * FINISH_ERROR and takes its blocks out of the prefix cache; the others go on. */
#include "engine/engine.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/random.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/mailbox.h"
#include "engine/batch.h"
#include "engine/engine_backend.h"
#include "engine/engine_limits.h"
#include "engine/free_memory.h"
#include "engine/kv_cache.h"
#include "engine/request.h"
#include "engine/sampler.h"
#include "engine/sampling_params.h"
#include "engine/scheduler.h"

/* Written by the engine thread, read by any. */
struct figures {
    atomic_uint num_running, num_blocks_used;
    atomic_ullong prompt_tokens, generation_tokens;
    atomic_ullong prefix_queries, prefix_hits;
    atomic_ullong preemptions, steps, step_tokens;
    atomic_ullong queued_prompt_tokens;
};

struct engine {
    struct engine_limits limits;
    struct engine_backend backend;
    uint64_t seed;
    struct mailbox *mailbox; /* of struct request */
    pthread_t thread;
    bool has_thread;

    pthread_mutex_t lock; /* of the register */
    struct request **slots;
    uint32_t *free_slots; /* [num_free_slots] */
    uint32_t num_slots, num_free_slots;
    uint64_t num_submitted;
    atomic_uint num_live; /* in the register */

    atomic_bool has_aborts; /* some request's abort_requested was set */
    struct figures figures;

    /* The engine thread's. */
    struct kv_cache *kv;
    struct sched *sched;
    struct sampler *sampler;
    struct batch *batch;
    float *logits; /* [max_num_seqs + max_num_prompt_logits, V] */
};

static void add(atomic_ullong *figure, uint64_t n) {
    atomic_fetch_add_explicit(figure, n, memory_order_relaxed);
}

/* Prompt tokens that wait; nothing is walked when nobody does. */
static uint64_t queued_prompt_tokens(const struct engine *e) {
    uint64_t num = 0;
    if (!sched_num_waiting(e->sched))
        return 0;
    for (const struct request *rq = sched_first(e->sched); rq; rq = rq->next) {
        if (!rq->running && rq->num_prompt > rq->num_computed_tokens)
            num += rq->num_prompt - rq->num_computed_tokens;
    }
    return num;
}

static void publish(struct engine *e) {
    atomic_store_explicit(&e->figures.queued_prompt_tokens, queued_prompt_tokens(e),
                          memory_order_relaxed);
    atomic_store_explicit(&e->figures.num_running, sched_num_running(e->sched),
                          memory_order_relaxed);
    atomic_store_explicit(&e->figures.num_blocks_used,
                          e->limits.num_blocks - kv_cache_num_free(e->kv), memory_order_relaxed);
}

/* Takes rq out of the register: from now on nobody else can find it. */
static void unregister(struct engine *e, const struct request *rq) {
    uint32_t slot = (uint32_t)(rq->id % e->num_slots);
    pthread_mutex_lock(&e->lock);
    ASSERT(e->slots[slot] == rq);
    e->slots[slot] = NULL;
    atomic_fetch_sub(&e->num_live, 1);
    e->free_slots[e->num_free_slots++] = slot;
    pthread_mutex_unlock(&e->lock);
}

/* Tells rq's sink that it is finished with what `last` says, and frees rq, which the scheduler does
 * not know any more. */
static void finish(struct engine *e, struct request *rq, const struct engine_token *last) {
    engine_sink_fn *sink = rq->sink;
    void *user = rq->user;
    unregister(e, rq);
    request_destroy(rq);
    sink(user, last);
}

static void finish_without_token(struct engine *e, struct request *rq, enum finish_reason why) {
    struct engine_token last = {
        .finish = why,
        .index = request_num_output(rq),
        .mono_ns = clock_mono_ns(),
        .num_cached_tokens = rq->num_cached_tokens,
    };
    finish(e, rq, &last);
}

/* Takes new requests; waits for one when there is nothing else to do. False: time to end. */
static bool receive(struct engine *e) {
    int timeout_ms = sched_first(e->sched) ? 0 : -1;
    for (struct request *rq; (rq = mailbox_receive(e->mailbox, timeout_ms)); timeout_ms = 0) {
        if (atomic_load(&rq->abort_requested))
            finish_without_token(e, rq, FINISH_ABORT);
        else
            sched_add(e->sched, rq);
    }
    return !mailbox_closed(e->mailbox);
}

static void finish_aborted(struct engine *e) {
    if (!atomic_exchange(&e->has_aborts, false))
        return;
    for (struct request *rq = sched_first(e->sched), *next; rq; rq = next) {
        next = rq->next;
        if (!atomic_load(&rq->abort_requested))
            continue;
        sched_remove(e->sched, rq, false);
        publish(e);
        finish_without_token(e, rq, FINISH_ABORT);
    }
}

/* One row of logits and what becomes of it. */
static const float *next_row(const struct engine *e, const float **row) {
    const float *logits = *row;
    *row += e->backend.vocab_size;
    return logits;
}

static void look(const struct engine *e, const struct request *rq, const float *logits) {
    if (rq->on_logits)
        rq->on_logits(rq->user, logits, e->backend.vocab_size);
}

/* Reports the prompt tokens that the step's rows tell about. False: a row is no distribution. */
static bool report_prompt(struct engine *e, const struct sched_entry *entry,
                          struct engine_token *token, const float **row) {
    struct request *rq = entry->rq;
    struct request_rows rows = request_prompt_rows(rq, entry->num_scheduled);
    for (uint32_t i = 0; i < rows.num; i++) {
        const float *logits = next_row(e, row);
        token->is_prompt = token->has_token = true;
        token->index = rq->next_prompt_logprob;
        if (!sampler_score(e->sampler, rq, rq->tokens[token->index], logits, token))
            return false;
        look(e, rq, logits);
        rq->next_prompt_logprob++;
        rq->sink(rq->user, token);
    }
    return true;
}

static enum finish_reason finish_of(const struct engine *e, const struct request *rq, int32_t id) {
    const struct sampling_params *p = &rq->sampling;
    if (!p->ignore_eos && sampler_is_eog(e->sampler, id))
        return FINISH_STOP;
    for (uint32_t i = 0; i < p->num_stop_ids; i++) {
        if (p->stop_ids[i] == id)
            return FINISH_STOP;
    }
    return rq->num_tokens == rq->num_tokens_max ? FINISH_LENGTH : FINISH_NONE;
}

static void fail(struct engine *e, struct request *rq, const float **row, const float *next) {
    log_error("logits are not a distribution", "request=%" PRIu64 " tokens=%u", rq->id,
              rq->num_tokens);
    sched_remove(e->sched, rq, true);
    publish(e);
    finish_without_token(e, rq, FINISH_ERROR);
    *row = next;
}

/* Turns the entry's rows of logits into tokens; moves *row behind them. */
static void settle(struct engine *e, const struct sched_entry *entry, int64_t mono_ns,
                   const float **row) {
    struct request *rq = entry->rq;
    bool completes = rq->num_computed_tokens + entry->num_scheduled == rq->num_tokens;
    uint32_t num_rows = request_prompt_rows(rq, entry->num_scheduled).num + completes;
    const float *next = *row + (size_t)num_rows * e->backend.vocab_size;
    struct engine_token token = {.mono_ns = mono_ns, .num_cached_tokens = rq->num_cached_tokens};

    if (!report_prompt(e, entry, &token, row)) {
        fail(e, rq, row, next);
        return;
    }
    if (!completes) {
        sched_computed(e->sched, entry);
        return;
    }
    const float *logits = next_row(e, row);
    token.is_prompt = false;
    token.has_token = true;
    token.index = request_num_output(rq);
    if (!sampler_sample(e->sampler, rq, logits, &token)) {
        fail(e, rq, row, next);
        return;
    }
    look(e, rq, logits);
    sched_computed(e->sched, entry);
    rq->tokens[rq->num_tokens++] = token.id;
    if (!token.index)
        add(&e->figures.prompt_tokens, rq->num_prompt);
    add(&e->figures.generation_tokens, 1);
    token.finish = finish_of(e, rq, token.id);
    if (!token.finish) {
        rq->sink(rq->user, &token);
        return;
    }
    sched_remove(e->sched, rq, false);
    publish(e);
    finish(e, rq, &token);
}

static void run_step(struct engine *e) {
    const struct sched_step *step = sched_schedule(e->sched);
    publish(e);
    add(&e->figures.steps, 1);
    add(&e->figures.step_tokens, step->num_tokens);
    add(&e->figures.preemptions, step->num_preempted);
    add(&e->figures.prefix_queries, step->num_prefix_queries);
    add(&e->figures.prefix_hits, step->num_prefix_hits);

    const struct runner_batch *b = batch_build(e->batch, step);
    e->backend.forward(e->backend.ctx, b, e->logits);

    int64_t mono_ns = clock_mono_ns();
    const float *row = e->logits;
    for (uint32_t i = 0; i < step->num_entries; i++)
        settle(e, &step->entries[i], mono_ns, &row);
    ASSERT(row == e->logits + (size_t)b->num_logits * e->backend.vocab_size);
}

static void *engine_main(void *arg) {
    struct engine *e = arg;
    pthread_setname_np(pthread_self(), "engine");
    while (receive(e)) {
        finish_aborted(e);
        if (sched_first(e->sched))
            run_step(e);
    }
    for (struct request *rq; (rq = sched_first(e->sched));) {
        sched_remove(e->sched, rq, false);
        publish(e);
        finish_without_token(e, rq, FINISH_ABORT);
    }
    return NULL;
}

static enum errc create_sampler(struct engine *e, struct error *err) {
    struct sampler_options opt = {.vocab_size = e->backend.vocab_size};
    AUTO_FREE int32_t *eog = mem_array(opt.vocab_size, sizeof(eog[0]));
    for (uint32_t id = 0; id < opt.vocab_size; id++) {
        if (e->backend.is_eog(e->backend.ctx, (int32_t)id))
            eog[opt.num_eog_ids++] = (int32_t)id;
    }
    opt.eog_ids = eog;
    return sampler_create(&opt, &e->sampler, err);
}

/* Makes all that the engine thread works with, for limits that are known. */
static enum errc create_parts(struct engine *e, const struct engine_options *opt,
                              struct error *err) {
    const struct engine_limits *l = &e->limits;
    uint32_t num_logits_max = l->max_num_seqs + l->max_num_prompt_logits;
    struct kv_cache_options kv = {
        .num_blocks = l->num_blocks,
        .block_size = l->block_size,
        .disable_prefix_caching = opt->disable_prefix_caching,
    };
    if (getrandom(kv.hash_key, sizeof(kv.hash_key), 0) != sizeof(kv.hash_key))
        return err_errno(err, "getrandom");
    struct sched_options sched = {
        .max_num_seqs = l->max_num_seqs,
        .max_num_batched_tokens = l->max_num_batched_tokens,
        .max_num_prompt_logits = l->max_num_prompt_logits,
    };
    struct batch_options batch = {
        .num_tokens_max = l->max_num_batched_tokens,
        .num_seqs_max = l->max_num_seqs,
        .num_logits_max = num_logits_max,
        .seq_len_max = l->max_model_len,
        .block_size = l->block_size,
    };
    struct runner_options runner = {
        .num_blocks = l->num_blocks,
        .block_size = l->block_size,
        .num_tokens_max = l->max_num_batched_tokens,
        .num_seqs_max = l->max_num_seqs,
        .num_logits_max = num_logits_max,
        .seq_len_max = l->max_model_len,
        .num_threads = opt->num_threads,
        .reference = opt->reference,
        .share = opt->share,
    };
    enum errc rc;
    if ((rc = kv_cache_create(&kv, &e->kv, err)) ||
        (rc = sched_create(&sched, e->kv, &e->sched, err)) ||
        (rc = batch_create(&batch, &e->batch, err)) || (rc = create_sampler(e, err)) ||
        (rc = e->backend.open(e->backend.ctx, &runner, err)))
        return rc;
    e->logits = mem_try_alloc((size_t)num_logits_max * e->backend.vocab_size * sizeof(float));
    if (!e->logits)
        return err_set(err, ERR_EXHAUSTED, "no memory for %u rows of %u logits", num_logits_max,
                       e->backend.vocab_size);
    return OK;
}

static void create_register(struct engine *e) {
    e->num_slots = e->limits.max_num_seqs + e->limits.max_num_waiting;
    e->slots = mem_array(e->num_slots, sizeof(struct request *));
    e->free_slots = mem_array(e->num_slots, sizeof(e->free_slots[0]));
    for (uint32_t i = 0; i < e->num_slots; i++)
        e->free_slots[i] = e->num_slots - 1 - i;
    e->num_free_slots = e->num_slots;
    e->mailbox = mailbox_create(e->num_slots);
}

enum errc engine_create_on(const struct engine_backend *be, const struct engine_options *opt,
                           struct engine **ret_e, struct error *err) {
    AUTO(engine) e = mem_alloc(sizeof(*e));
    e->backend = *be;
    e->seed = opt->seed;
    pthread_mutex_init(&e->lock, NULL);

    uint32_t block_size;
    enum errc rc = engine_limits_block_size(opt, &block_size, err);
    if (rc)
        return rc;
    uint64_t free_bytes = free_memory_bytes();
    struct engine_site site = {
        .context_length = be->context_length,
        .kv_block_bytes = be->kv_block_bytes(be->ctx, block_size),
        .free_bytes = free_bytes > be->weights_bytes ? free_bytes - be->weights_bytes : 0,
    };
    if ((rc = engine_limits_resolve(opt, &site, &e->limits, err)) ||
        (rc = create_parts(e, opt, err)))
        return rc;
    create_register(e);
    if (e->limits.is_shortened)
        log_warn("context shortened to what memory holds", "max_model_len=%u context_length=%u",
                 e->limits.max_model_len, be->context_length);
    int failed = pthread_create(&e->thread, NULL, engine_main, e);
    if (failed)
        return err_set(err, ERR_EXHAUSTED, "start the engine thread: %s", strerror(failed));
    e->has_thread = true;
    *ret_e = steal(e);
    return OK;
}

void engine_destroy(struct engine *e) {
    if (!e)
        return;
    if (e->has_thread) {
        mailbox_close(e->mailbox);
        pthread_join(e->thread, NULL);
    }
    mailbox_destroy(e->mailbox);
    e->backend.close(e->backend.ctx);
    sched_destroy(e->sched);
    kv_cache_destroy(e->kv);
    batch_destroy(e->batch);
    sampler_destroy(e->sampler);
    pthread_mutex_destroy(&e->lock);
    free(e->slots);
    free(e->free_slots);
    free(e->logits);
    free(e);
}

static enum errc check_request(const struct engine *e, const struct engine_request *rq,
                               struct error *err) {
    uint32_t max_len = e->limits.max_model_len, vocab_size = e->backend.vocab_size;
    if (!rq->num_prompt)
        return err_field(err, ERR_INVALID, "prompt", "prompt: has no tokens, at least 1 is needed");
    if (rq->num_prompt >= max_len)
        return err_field(err, ERR_INVALID, "prompt",
                         "prompt: %u tokens leave no room for an answer within the maximum context "
                         "length of %u tokens",
                         rq->num_prompt, max_len);
    for (uint32_t i = 0; i < rq->num_prompt; i++) {
        if (rq->prompt[i] < 0 || (uint32_t)rq->prompt[i] >= vocab_size)
            return err_field(err, ERR_INVALID, "prompt",
                             "prompt: token id %d at %u is not within the vocabulary of %u",
                             rq->prompt[i], i, vocab_size);
    }
    return sampling_params_check(&rq->sampling, vocab_size, err);
}

/* Spreads neighbouring ids over all seeds (the finalizer of SplitMix64). */
static uint64_t seed_of(const struct engine *e, const struct request *rq) {
    if (rq->sampling.has_seed)
        return rq->sampling.seed;
    uint64_t x = e->seed ^ rq->id * 0x9E3779B97F4A7C15;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
    x = (x ^ x >> 27) * 0x94D049BB133111EB;
    return x ^ x >> 31;
}

static enum errc put_in_register(struct engine *e, struct request *rq, struct error *err) {
    pthread_mutex_lock(&e->lock);
    bool full = !e->num_free_slots;
    if (!full) {
        uint32_t slot = e->free_slots[--e->num_free_slots];
        rq->id = ++e->num_submitted * e->num_slots + slot;
        e->slots[slot] = rq;
        atomic_fetch_add(&e->num_live, 1);
    }
    pthread_mutex_unlock(&e->lock);
    if (!full)
        return OK;
    err_set(err, ERR_EXHAUSTED, "%u requests are running or waiting, the limit", e->num_slots);
    err->retry_after_seconds = 1;
    return ERR_EXHAUSTED;
}

static enum errc shutting_down(struct error *err) {
    return err_set(err, ERR_UNAVAILABLE, "the engine is shutting down");
}

enum errc engine_submit(struct engine *e, const struct engine_request *er, uint64_t *ret_id,
                        struct error *err) {
    if (mailbox_closed(e->mailbox))
        return shutting_down(err);
    enum errc rc = check_request(e, er, err);
    if (rc)
        return rc;
    uint32_t room = e->limits.max_model_len - er->num_prompt;
    uint32_t max_tokens = er->sampling.max_tokens < room ? er->sampling.max_tokens : room;
    AUTO(request)
    rq = request_create(er, (struct request_shape){
                                .num_tokens_max = er->num_prompt + max_tokens,
                                .block_size = e->limits.block_size,
                            });
    if (!rq)
        return err_set(err, ERR_EXHAUSTED, "no memory for a request of %u tokens",
                       er->num_prompt + max_tokens);
    if ((rc = put_in_register(e, rq, err)))
        return rc;
    uint64_t id = rq->id; /* once sent, rq may end at any moment */
    rq->seed = seed_of(e, rq);
    if (mailbox_send(e->mailbox, rq)) {
        unregister(e, rq);
        return shutting_down(err);
    }
    (void)steal(rq);
    *ret_id = id;
    return OK;
}

void engine_abort(struct engine *e, uint64_t id) {
    uint32_t slot = (uint32_t)(id % e->num_slots);
    pthread_mutex_lock(&e->lock);
    struct request *rq = e->slots[slot];
    if (rq && rq->id == id) {
        atomic_store(&rq->abort_requested, true);
        atomic_store(&e->has_aborts, true);
    }
    pthread_mutex_unlock(&e->lock);
}

static uint64_t read_figure(const atomic_ullong *figure) {
    return atomic_load_explicit(figure, memory_order_relaxed);
}

void engine_stats(const struct engine *e, struct engine_stats *ret_stats) {
    const struct figures *f = &e->figures;
    uint32_t num_live = atomic_load(&e->num_live);
    uint32_t num_running = atomic_load_explicit(&f->num_running, memory_order_relaxed);
    *ret_stats = (struct engine_stats){
        .num_running = num_running,
        .num_waiting = num_live > num_running ? num_live - num_running : 0,
        .num_blocks = e->limits.num_blocks,
        .num_blocks_used = atomic_load_explicit(&f->num_blocks_used, memory_order_relaxed),
        .prompt_tokens_total = read_figure(&f->prompt_tokens),
        .generation_tokens_total = read_figure(&f->generation_tokens),
        .prefix_queries_total = read_figure(&f->prefix_queries),
        .prefix_hits_total = read_figure(&f->prefix_hits),
        .preemptions_total = read_figure(&f->preemptions),
        .steps_total = read_figure(&f->steps),
        .step_tokens_total = read_figure(&f->step_tokens),
        .queued_prompt_tokens = read_figure(&f->queued_prompt_tokens),
    };
}

uint32_t engine_max_model_len(const struct engine *e) {
    return e->limits.max_model_len;
}

uint32_t engine_max_num_seqs(const struct engine *e) {
    return e->limits.max_num_seqs;
}
