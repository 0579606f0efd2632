/* The engine on a fake model. Its "KV cache" holds the token of each slot, and its logits are a
 * hash of the whole prefix as read back through the block table: a wrong slot, a wrongly shared
 * block or a wrong chunk changes every later token. expect() says what the tokens must be without
 * an engine. */
#include "engine/engine.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <time.h>
#include <cmocka.h>

#include "engine/engine_backend.h"
#include "engine/philox.h"
#include "engine/request.h"
#include "engine/sampler.h"

enum { VOCAB = 97, EOG = 96, CONTEXT = 256, POISON = 95, TOKENS_MAX = CONTEXT };

/* ---- allocations of the engine thread, where the C library lets us count them ---- */

static _Thread_local bool on_engine_thread;
static atomic_uint engine_allocations;

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
void *malloc(size_t bytes) {
    engine_allocations += on_engine_thread;
    return __libc_malloc(bytes);
}
void *calloc(size_t n, size_t bytes) {
    engine_allocations += on_engine_thread;
    return __libc_calloc(n, bytes);
}
void *realloc(void *p, size_t bytes) {
    engine_allocations += on_engine_thread;
    return __libc_realloc(p, bytes);
}
#endif

/* ---- the fake model ---- */

struct fake {
    struct runner_options opt;
    int32_t *slots; /* the token in each */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_gated;        /* steps wait for permits */
    uint32_t permits;     /* steps that may run */
    uint32_t num_arrived; /* steps that began */
    bool was_closed;
};

static uint64_t extend(uint64_t prefix, int32_t token) {
    uint64_t x = (prefix ^ (uint64_t)(uint32_t)token) * 0x9E3779B97F4A7C15 + 1;
    return x ^ x >> 29;
}

/* The model: a prefix that holds POISON has no distribution. */
static void fake_logits(uint64_t prefix, bool poisoned, float *logits) {
    for (uint32_t i = 0; i < VOCAB; i++) {
        uint64_t x = extend(prefix, (int32_t)i + 1000);
        logits[i] = (float)(x >> 40) * (8.0f / (1 << 24));
    }
    logits[POISON] = poisoned ? NAN : -INFINITY; /* the model itself never says it */
}

static uint64_t fake_block_bytes(void *ctx, uint32_t block_size) {
    return block_size * sizeof(int32_t);
}

static bool fake_is_eog(void *ctx, int32_t id) {
    return id == EOG;
}

static enum errc fake_open(void *ctx, const struct runner_options *opt, struct error *err) {
    struct fake *f = ctx;
    f->opt = *opt;
    f->slots = mem_array((size_t)opt->num_blocks * opt->block_size, sizeof(f->slots[0]));
    return OK;
}

static void wait_for_permit(struct fake *f) {
    pthread_mutex_lock(&f->lock);
    f->num_arrived++;
    pthread_cond_broadcast(&f->changed);
    while (f->is_gated && !f->permits)
        pthread_cond_wait(&f->changed, &f->lock);
    f->permits -= f->permits > 0;
    pthread_mutex_unlock(&f->lock);
}

static void check_batch(const struct fake *f, const struct runner_batch *b) {
    ASSERT(b->num_tokens >= 1 && b->num_tokens <= f->opt.num_tokens_max);
    ASSERT(b->num_seqs >= 1 && b->num_seqs <= f->opt.num_seqs_max);
    ASSERT(b->num_logits <= f->opt.num_logits_max);
    ASSERT(b->query_start[0] == 0 && b->query_start[b->num_seqs] == b->num_tokens);
    for (uint32_t i = 1; i < b->num_logits; i++)
        ASSERT(b->logits_rows[i - 1] < b->logits_rows[i]);
    for (uint32_t s = 0; s < b->num_seqs; s++) {
        ASSERT(b->query_start[s] < b->query_start[s + 1]);
        ASSERT(b->seq_len[s] <= f->opt.seq_len_max);
        const uint32_t *table = b->block_table + (size_t)s * b->block_table_stride;
        for (uint32_t row = b->query_start[s]; row < b->query_start[s + 1]; row++) {
            uint32_t p = (uint32_t)b->positions[row], size = f->opt.block_size;
            ASSERT(p == b->seq_len[s] - (b->query_start[s + 1] - row));
            ASSERT(b->slots[row] == table[p / size] * size + p % size);
            ASSERT(table[p / size] < f->opt.num_blocks);
        }
    }
}

static void fake_forward(void *ctx, const struct runner_batch *b, float *logits) {
    struct fake *f = ctx;
    on_engine_thread = false; /* what the fake does is not the engine's doing */
    wait_for_permit(f);
    check_batch(f, b);
    for (uint32_t row = 0; row < b->num_tokens; row++)
        f->slots[b->slots[row]] = b->token_ids[row];
    uint32_t s = 0, size = f->opt.block_size;
    for (uint32_t i = 0; i < b->num_logits; i++, logits += VOCAB) {
        while (b->query_start[s + 1] <= b->logits_rows[i])
            s++;
        const uint32_t *table = b->block_table + (size_t)s * b->block_table_stride;
        uint64_t prefix = 0;
        bool poisoned = false;
        for (uint32_t p = 0; p <= (uint32_t)b->positions[b->logits_rows[i]]; p++) {
            int32_t token = f->slots[table[p / size] * size + p % size];
            prefix = extend(prefix, token);
            poisoned |= token == POISON;
        }
        fake_logits(prefix, poisoned, logits);
    }
    on_engine_thread = true;
}

static void fake_close(void *ctx) {
    struct fake *f = ctx;
    free(f->slots);
    f->slots = NULL;
    f->was_closed = true;
}

static void fake_init(struct fake *f) {
    *f = (struct fake){0};
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
}

static void permit(struct fake *f, uint32_t steps) {
    pthread_mutex_lock(&f->lock);
    f->permits += steps;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

static void open_gate(struct fake *f) {
    pthread_mutex_lock(&f->lock);
    f->is_gated = false;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

static void wait_for_steps(struct fake *f, uint32_t num_arrived) {
    pthread_mutex_lock(&f->lock);
    while (f->num_arrived < num_arrived)
        pthread_cond_wait(&f->changed, &f->lock);
    pthread_mutex_unlock(&f->lock);
}

static struct engine *new_engine(struct fake *f, const struct engine_options *opt) {
    struct engine_backend be = {
        .vocab_size = VOCAB,
        .context_length = CONTEXT,
        .kv_block_bytes = fake_block_bytes,
        .is_eog = fake_is_eog,
        .open = fake_open,
        .forward = fake_forward,
        .close = fake_close,
        .ctx = f,
    };
    struct engine *e = NULL;
    struct error err = ERROR_INIT;
    enum errc rc = engine_create_on(&be, opt, &e, &err);
    if (rc)
        fail_msg("engine_create_on: %s", err.text);
    return e;
}

/* ---- a client ---- */

struct client {
    struct engine_request rq;
    int32_t prompt[TOKENS_MAX];
    uint64_t id;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct engine_token *tokens; /* [num_tokens], capacity 2 * TOKENS_MAX */
    uint32_t num_tokens, num_rows_seen;
    enum finish_reason finish;
};

static void sink(void *user, const struct engine_token *token) {
    struct client *c = user;
    pthread_mutex_lock(&c->lock);
    ASSERT(!c->finish && c->num_tokens < 2 * TOKENS_MAX);
    if (token->has_token)
        c->tokens[c->num_tokens++] = *token;
    c->finish = token->finish;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

static void client_init(struct client *c, int32_t first, uint32_t num_prompt) {
    *c = (struct client){.tokens = mem_array(2 * TOKENS_MAX, sizeof(c->tokens[0]))};
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    for (uint32_t i = 0; i < num_prompt; i++)
        c->prompt[i] = (first + (int32_t)i) % POISON;
    c->rq = (struct engine_request){
        .prompt = c->prompt, .num_prompt = num_prompt, .sink = sink, .user = c};
    sampling_params_init(&c->rq.sampling);
    c->rq.sampling.temperature = 0;
}

static void client_deinit(struct client *c) {
    free(c->tokens);
}

static void submit(struct engine *e, struct client *c) {
    struct error err = ERROR_INIT;
    if (engine_submit(e, &c->rq, &c->id, &err))
        fail_msg("engine_submit: %s", err.text);
    assert_int_not_equal(c->id, 0);
}

static enum finish_reason wait_for_end(struct client *c) {
    pthread_mutex_lock(&c->lock);
    while (!c->finish)
        pthread_cond_wait(&c->changed, &c->lock);
    pthread_mutex_unlock(&c->lock);
    return c->finish;
}

/* What the request must give: the sampler on the fake's logits, token by token. */
static uint32_t expect(const struct client *c, int32_t *ret_tokens) {
    struct sampler *s = NULL;
    struct error err = ERROR_INIT;
    const int32_t eog[] = {EOG};
    struct sampler_options opt = {.vocab_size = VOCAB, .eog_ids = eog, .num_eog_ids = 1};
    assert_int_equal(sampler_create(&opt, &s, &err), OK);
    uint32_t room = CONTEXT - c->rq.num_prompt, n = 0;
    uint32_t max = c->rq.sampling.max_tokens < room ? c->rq.sampling.max_tokens : room;
    struct request *rq = request_create(
        &c->rq, (struct request_shape){.num_tokens_max = c->rq.num_prompt + max, .block_size = 16});
    rq->seed = c->rq.sampling.seed;
    uint64_t prefix = 0;
    for (uint32_t i = 0; i < rq->num_prompt; i++)
        prefix = extend(prefix, rq->tokens[i]);
    while (n < max) {
        float logits[VOCAB];
        fake_logits(prefix, false, logits);
        struct engine_token token = {0};
        assert_true(sampler_sample(s, rq, logits, &token));
        rq->tokens[rq->num_tokens++] = ret_tokens[n++] = token.id;
        prefix = extend(prefix, token.id);
        if (token.id == EOG && !rq->sampling.ignore_eos)
            break;
    }
    request_destroy(rq);
    sampler_destroy(s);
    return n;
}

static void check_tokens(const struct client *c) {
    int32_t expected[TOKENS_MAX];
    uint32_t n = expect(c, expected);
    assert_int_equal(c->num_tokens, n);
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(c->tokens[i].id, expected[i]);
        assert_int_equal(c->tokens[i].index, i);
        assert_int_equal(c->tokens[i].finish, i + 1 < n ? FINISH_NONE : c->finish);
    }
}

/* ---- tests ---- */

static void greedy_tokens_are_the_models_own(void **state) {
    struct fake f;
    fake_init(&f);
    struct engine *e = new_engine(&f, &(struct engine_options){0});
    assert_int_equal(engine_max_model_len(e), CONTEXT);
    assert_int_equal(engine_max_num_seqs(e), 64);
    struct client c;
    client_init(&c, 5, 40);
    c.rq.sampling.max_tokens = 30;
    c.rq.sampling.ignore_eos = true;
    submit(e, &c);
    assert_int_equal(wait_for_end(&c), FINISH_LENGTH);
    check_tokens(&c);
    struct engine_stats stats;
    engine_stats(e, &stats);
    assert_int_equal(stats.prompt_tokens_total, 40);
    assert_int_equal(stats.generation_tokens_total, 30);
    assert_int_equal(stats.steps_total, 30);
    assert_int_equal(stats.step_tokens_total, 69);
    assert_int_equal(stats.num_blocks_used, 0);
    assert_int_equal(stats.num_running + stats.num_waiting, 0);
    engine_destroy(e);
    assert_true(f.was_closed);
    client_deinit(&c);
}

static uint32_t draw(uint64_t seed, uint64_t *draws, uint32_t below) {
    return (uint32_t)(philox_uniform(seed, (*draws)++) * below);
}

static void random_client(struct client *c, uint64_t seed, uint64_t *draws) {
    client_init(c, (int32_t)draw(seed, draws, 2) * 50, 1 + draw(seed, draws, 120));
    struct sampling_params *p = &c->rq.sampling;
    p->max_tokens = 1 + draw(seed, draws, 40);
    p->ignore_eos = draw(seed, draws, 2);
    if (draw(seed, draws, 2)) {
        p->temperature = 0.8f;
        p->top_p = 0.5f + 0.5f * (float)draw(seed, draws, 2);
        p->top_k = (int32_t)draw(seed, draws, 30);
        p->has_seed = true;
        p->seed = draw(seed, draws, 1000);
    }
    if (!draw(seed, draws, 3))
        p->repetition_penalty = 1.3f;
    if (!draw(seed, draws, 3))
        p->presence_penalty = 0.7f;
}

/* Small cache, small steps, shared prefixes: preemption, chunks and reuse all happen, and each
 * request still gets exactly what it would get alone. */
static void tokens_do_not_depend_on_what_else_is_in_the_batch(void **state) {
    enum { CLIENTS = 32 };
    static const struct engine_options options[] = {
        {.block_size = 4,
         .kv_cache_bytes = CONTEXT * 4,
         .max_num_batched_tokens = 16,
         .max_num_seqs = 8},
        {.block_size = 16, .kv_cache_bytes = CONTEXT * 8, .max_num_batched_tokens = 64},
        {.block_size = 1, .kv_cache_bytes = CONTEXT * 4, .max_num_batched_tokens = 7},
        {.block_size = 8, .disable_prefix_caching = true, .kv_cache_bytes = CONTEXT * 5},
        {0},
    };
    uint64_t preemptions = 0, hits = 0;
    for (size_t o = 0; o < ARRAY_LEN(options); o++) {
        struct fake f;
        fake_init(&f);
        f.is_gated = true; /* until all are there, so that they do crowd each other */
        struct engine *e = new_engine(&f, &options[o]);
        static struct client clients[CLIENTS];
        uint64_t draws = 0;
        for (int i = 0; i < CLIENTS; i++) {
            random_client(&clients[i], o + 1, &draws);
            submit(e, &clients[i]);
        }
        open_gate(&f);
        for (int i = 0; i < CLIENTS; i++) {
            wait_for_end(&clients[i]);
            check_tokens(&clients[i]);
            client_deinit(&clients[i]);
        }
        struct engine_stats stats;
        engine_stats(e, &stats);
        assert_int_equal(stats.num_blocks_used, 0);
        preemptions += stats.preemptions_total;
        hits += stats.prefix_hits_total;
        engine_destroy(e);
    }
    printf("%lu preemptions, %lu tokens from the prefix cache\n", (unsigned long)preemptions,
           (unsigned long)hits);
    assert_true(preemptions > 10);
    assert_true(hits > 100);
}

static void a_request_without_a_seed_draws_its_own_numbers(void **state) {
    struct fake f;
    fake_init(&f);
    struct engine *e = new_engine(&f, &(struct engine_options){.seed = 3});
    struct client a, b;
    client_init(&a, 1, 10);
    client_init(&b, 1, 10);
    a.rq.sampling.temperature = b.rq.sampling.temperature = 2;
    a.rq.sampling.ignore_eos = b.rq.sampling.ignore_eos = true;
    submit(e, &a);
    submit(e, &b);
    wait_for_end(&a);
    wait_for_end(&b);
    uint32_t same = 0;
    for (uint32_t i = 0; i < a.num_tokens; i++)
        same += a.tokens[i].id == b.tokens[i].id;
    assert_true(same < a.num_tokens / 2);
    engine_destroy(e);
    client_deinit(&a);
    client_deinit(&b);
}

static void an_answer_ends_where_it_should(void **state) {
    struct fake f;
    fake_init(&f);
    struct engine *e = new_engine(&f, &(struct engine_options){.max_model_len = 64});
    struct client free_run, stopped, eog, ignoring, clipped;
    client_init(&free_run, 1, 10);
    free_run.rq.sampling.max_tokens = 20;
    free_run.rq.sampling.ignore_eos = true;
    submit(e, &free_run);
    assert_int_equal(wait_for_end(&free_run), FINISH_LENGTH);
    assert_int_equal(free_run.num_tokens, 20);

    client_init(&stopped, 1, 10); /* its sixth token is a stop id */
    stopped.rq.sampling = free_run.rq.sampling;
    stopped.rq.sampling.num_stop_ids = 1;
    stopped.rq.sampling.stop_ids[0] = free_run.tokens[5].id;
    submit(e, &stopped);
    assert_int_equal(wait_for_end(&stopped), FINISH_STOP);
    assert_true(stopped.num_tokens <= 6);
    assert_int_equal(stopped.tokens[stopped.num_tokens - 1].id, free_run.tokens[5].id);
    assert_int_equal(stopped.tokens[stopped.num_tokens - 1].finish, FINISH_STOP);

    client_init(&eog, 1, 10); /* made to say the end-of-generation token, but not at once */
    eog.rq.sampling.num_logit_bias = 1;
    eog.rq.sampling.logit_bias[0].id = EOG;
    eog.rq.sampling.logit_bias[0].bias = 100;
    eog.rq.sampling.min_tokens = 3;
    submit(e, &eog);
    assert_int_equal(wait_for_end(&eog), FINISH_STOP);
    assert_int_equal(eog.num_tokens, 4);
    assert_int_equal(eog.tokens[3].id, EOG);

    client_init(&ignoring, 1, 10);
    ignoring.rq.sampling = eog.rq.sampling;
    ignoring.rq.sampling.ignore_eos = true;
    submit(e, &ignoring);
    assert_int_equal(wait_for_end(&ignoring), FINISH_LENGTH);
    assert_int_equal(ignoring.num_tokens, ignoring.rq.sampling.max_tokens);

    client_init(&clipped, 1, 63); /* room for one token */
    clipped.rq.sampling.max_tokens = UINT32_MAX;
    submit(e, &clipped);
    assert_int_equal(wait_for_end(&clipped), FINISH_LENGTH);
    assert_int_equal(clipped.num_tokens, 1);

    engine_destroy(e);
    client_deinit(&free_run);
    client_deinit(&stopped);
    client_deinit(&eog);
    client_deinit(&ignoring);
    client_deinit(&clipped);
}

static void refuses(struct engine *e, struct client *c, const char *field) {
    struct error err = ERROR_INIT;
    uint64_t id = 0;
    assert_int_equal(engine_submit(e, &c->rq, &id, &err), ERR_INVALID);
    assert_string_equal(err.field, field);
    assert_int_equal(id, 0);
    assert_int_equal(c->num_tokens, 0);
}

static void bad_requests_are_refused_by_field(void **state) {
    struct fake f;
    fake_init(&f);
    struct engine *e = new_engine(&f, &(struct engine_options){.max_model_len = 64});
    struct client c;
    client_init(&c, 1, 64);
    refuses(e, &c, "prompt");
    c.rq.num_prompt = 0;
    refuses(e, &c, "prompt");
    c.rq.num_prompt = 10;
    c.prompt[9] = VOCAB;
    refuses(e, &c, "prompt");
    c.prompt[9] = -1;
    refuses(e, &c, "prompt");
    c.prompt[9] = 0;
    c.rq.sampling.temperature = NAN;
    refuses(e, &c, "temperature");
    c.rq.sampling.temperature = 0;
    submit(e, &c);
    wait_for_end(&c);
    engine_destroy(e);
    client_deinit(&c);
}

static void a_full_engine_says_so_and_recovers(void **state) {
    struct fake f;
    fake_init(&f);
    f.is_gated = true;
    struct engine_options opt = {.max_num_seqs = 1, .max_num_waiting = 2};
    struct engine *e = new_engine(&f, &opt);
    struct client c[4];
    for (int i = 0; i < 4; i++)
        client_init(&c[i], i, 10);
    for (int i = 0; i < 3; i++)
        submit(e, &c[i]);
    wait_for_steps(&f, 1);
    struct engine_stats stats;
    engine_stats(e, &stats);
    assert_int_equal(stats.num_running, 1);
    assert_int_equal(stats.num_waiting, 2);
    struct error err = ERROR_INIT;
    uint64_t id;
    assert_int_equal(engine_submit(e, &c[3].rq, &id, &err), ERR_EXHAUSTED);
    assert_true(err.retry_after_seconds > 0);
    open_gate(&f);
    wait_for_end(&c[0]);
    submit(e, &c[3]);
    for (int i = 1; i < 4; i++) {
        wait_for_end(&c[i]);
        check_tokens(&c[i]);
    }
    engine_destroy(e);
    for (int i = 0; i < 4; i++)
        client_deinit(&c[i]);
}

static void abort_ends_running_and_waiting_requests(void **state) {
    struct fake f;
    fake_init(&f);
    f.is_gated = true;
    struct engine *e = new_engine(&f, &(struct engine_options){.max_num_seqs = 1});
    struct client running, waiting, after;
    client_init(&running, 1, 10);
    client_init(&waiting, 2, 10);
    client_init(&after, 3, 10);
    submit(e, &running);
    submit(e, &waiting);
    wait_for_steps(&f, 1);
    engine_abort(e, 0);
    engine_abort(e, running.id + 1000000);
    engine_abort(e, waiting.id);
    permit(&f, 1);
    assert_int_equal(wait_for_end(&waiting), FINISH_ABORT);
    assert_int_equal(waiting.num_tokens, 0);
    wait_for_steps(&f, 2);
    for (int i = 0; i < 5000; i++) /* any number of aborts */
        engine_abort(e, running.id);
    open_gate(&f);
    assert_int_equal(wait_for_end(&running), FINISH_ABORT);
    assert_int_equal(running.num_tokens, 2);
    engine_abort(e, running.id); /* long gone */
    submit(e, &after);
    assert_int_equal(wait_for_end(&after), FINISH_LENGTH);
    check_tokens(&after);
    engine_destroy(e);
    client_deinit(&running);
    client_deinit(&waiting);
    client_deinit(&after);
}

static void *destroy(void *e) {
    engine_destroy(e);
    return NULL;
}

static void destroy_ends_every_request(void **state) {
    enum { CLIENTS = 20 };
    struct fake f;
    fake_init(&f);
    f.is_gated = true;
    struct engine *e =
        new_engine(&f, &(struct engine_options){.max_num_seqs = 4, .max_num_waiting = 16});
    static struct client c[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        client_init(&c[i], i, 10);
        submit(e, &c[i]);
    }
    permit(&f, 3);
    wait_for_steps(&f, 4); /* in the middle of the fourth */
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, destroy, e), 0);
    struct error err = ERROR_INIT;
    uint64_t id;
    while (engine_submit(e, &c[0].rq, &id, &err) == ERR_EXHAUSTED)
        sched_yield(); /* until destroy has begun */
    assert_int_equal(err.code, ERR_UNAVAILABLE);
    open_gate(&f);
    pthread_join(thread, NULL);
    for (int i = 0; i < CLIENTS; i++) {
        assert_int_equal(c[i].finish, FINISH_ABORT);
        assert_in_range(c[i].num_tokens, i < 4 ? 3 : 0,
                        i < 4 ? 4 : 0); /* all but the first may have missed the first step */
        client_deinit(&c[i]);
    }
    assert_true(f.was_closed);
}

static void a_broken_row_ends_its_request_and_no_other(void **state) {
    struct fake f;
    fake_init(&f);
    struct engine *e = new_engine(&f, &(struct engine_options){.block_size = 4});
    struct client good, bad, again;
    client_init(&good, 1, 10);
    client_init(&bad, 1, 20);
    client_init(&again, 1, 20);
    bad.prompt[18] = again.prompt[18] = POISON;
    bad.rq.sampling.prompt_logprobs = true;
    submit(e, &bad);
    submit(e, &good);
    assert_int_equal(wait_for_end(&bad), FINISH_ERROR);
    assert_int_equal(bad.num_tokens, 18); /* the poisoned row is the one of position 18 */
    assert_int_equal(wait_for_end(&good), FINISH_LENGTH);
    check_tokens(&good);
    submit(e, &again);
    assert_int_equal(wait_for_end(&again), FINISH_ERROR);
    assert_int_equal(again.num_tokens, 0);
    engine_destroy(e);
    client_deinit(&good);
    client_deinit(&bad);
    client_deinit(&again);
}

static void see_logits(void *user, const float *logits, uint32_t vocab_size) {
    struct client *c = user;
    ASSERT(vocab_size == VOCAB && !isnan(logits[0]));
    c->num_rows_seen++;
}

static void log_probabilities_of_prompt_and_answer_come_in_order(void **state) {
    struct fake f;
    fake_init(&f);
    struct engine *e = new_engine(&f, &(struct engine_options){.block_size = 4});
    struct client warm, c;
    client_init(&warm, 1, 60); /* its prefix is cached, and must be computed all the same */
    submit(e, &warm);
    wait_for_end(&warm);
    client_init(&c, 1, 60);
    c.rq.sampling.prompt_logprobs = true;
    c.rq.sampling.num_logprobs = 5;
    c.rq.sampling.max_tokens = 4;
    c.rq.sampling.ignore_eos = true;
    c.rq.on_logits = see_logits;
    submit(e, &c);
    assert_int_equal(wait_for_end(&c), FINISH_LENGTH);
    assert_int_equal(c.num_tokens, 59 + 4);
    assert_int_equal(c.num_rows_seen, 59 + 4);
    uint64_t prefix = extend(0, c.prompt[0]);
    for (uint32_t i = 0; i < c.num_tokens; i++) {
        const struct engine_token *t = &c.tokens[i];
        bool is_prompt = i < 59;
        assert_int_equal(t->is_prompt, is_prompt);
        assert_int_equal(t->index, is_prompt ? i + 1 : i - 59);
        if (is_prompt)
            assert_int_equal(t->id, c.prompt[i + 1]);
        assert_int_equal(t->num_top, 5);
        float logits[VOCAB];
        fake_logits(prefix, false, logits);
        double expected = (double)logits[t->id] - sampler_logsumexp(logits, VOCAB);
        assert_true(fabs((double)t->logprob - expected) < 1e-5);
        prefix = extend(prefix, t->id);
    }
    engine_destroy(e);
    client_deinit(&warm);
    client_deinit(&c);
}

static void a_repeated_prompt_comes_from_the_prefix_cache(void **state) {
    struct fake f;
    fake_init(&f);
    struct engine *e = new_engine(&f, &(struct engine_options){.block_size = 4});
    struct client a, b;
    client_init(&a, 1, 42);
    client_init(&b, 1, 42);
    submit(e, &a);
    wait_for_end(&a);
    submit(e, &b);
    wait_for_end(&b);
    check_tokens(&b);
    assert_int_equal(a.tokens[0].num_cached_tokens, 0);
    assert_int_equal(b.tokens[0].num_cached_tokens, 40);
    struct engine_stats stats;
    engine_stats(e, &stats);
    assert_int_equal(stats.prefix_queries_total, 84);
    assert_int_equal(stats.prefix_hits_total, 40);
    engine_destroy(e);
    client_deinit(&a);
    client_deinit(&b);
}

static void options_are_checked_before_anything_starts(void **state) {
    struct fake f;
    fake_init(&f);
    struct engine_backend be = {.vocab_size = VOCAB,
                                .context_length = CONTEXT,
                                .kv_block_bytes = fake_block_bytes,
                                .is_eog = fake_is_eog,
                                .open = fake_open,
                                .forward = fake_forward,
                                .close = fake_close,
                                .ctx = &f};
    struct engine *e = NULL;
    struct error err = ERROR_INIT;
    struct engine_options opt = {.max_model_len = CONTEXT + 1};
    assert_int_equal(engine_create_on(&be, &opt, &e, &err), ERR_INVALID);
    assert_string_equal(err.field, "max_model_len");
    assert_null(e);
    assert_null(f.slots);
    assert_true(f.was_closed); /* taken, whatever the outcome */
}

static void the_engine_thread_allocated_nothing_in_all_of_this(void **state) {
    assert_int_equal(engine_allocations, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_tokens_are_the_models_own),
        cmocka_unit_test(tokens_do_not_depend_on_what_else_is_in_the_batch),
        cmocka_unit_test(a_request_without_a_seed_draws_its_own_numbers),
        cmocka_unit_test(an_answer_ends_where_it_should),
        cmocka_unit_test(bad_requests_are_refused_by_field),
        cmocka_unit_test(a_full_engine_says_so_and_recovers),
        cmocka_unit_test(abort_ends_running_and_waiting_requests),
        cmocka_unit_test(destroy_ends_every_request),
        cmocka_unit_test(a_broken_row_ends_its_request_and_no_other),
        cmocka_unit_test(log_probabilities_of_prompt_and_answer_come_in_order),
        cmocka_unit_test(a_repeated_prompt_comes_from_the_prefix_cache),
        cmocka_unit_test(options_are_checked_before_anything_starts),
        cmocka_unit_test(the_engine_thread_allocated_nothing_in_all_of_this),
    };
    tzset(); /* the first log line of a process would allocate for it */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
