/* The scheduler and the KV cache alone. `world` plays the device: for each slot it remembers a hash
 * of the whole prefix that was written there, so any block that is shared, reused or freed wrongly
 * shows as a position that holds another prefix than its request's. */
#include "engine/scheduler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#include "engine/kv_cache.h"
#include "engine/philox.h"
#include "engine/request.h"

enum { LIVE_MAX = 64 };

struct world {
    struct kv_cache_options kv_opt;
    struct sched_options opt;
    struct kv_cache *kv;
    struct sched *s;
    uint64_t *slots; /* [num_blocks * block_size] */
    uint64_t seed, draws, next_id;
    uint64_t num_preempted, num_cached, num_finished;
};

static uint32_t draw(struct world *w, uint32_t below) {
    return (uint32_t)(philox_uniform(w->seed, w->draws++) * below);
}

static void world_init(struct world *w) {
    struct error err = ERROR_INIT;
    assert_int_equal(kv_cache_create(&w->kv_opt, &w->kv, &err), OK);
    assert_int_equal(sched_create(&w->opt, w->kv, &w->s, &err), OK);
    w->slots = mem_array((size_t)w->kv_opt.num_blocks * w->kv_opt.block_size, sizeof(uint64_t));
}

static void world_deinit(struct world *w) {
    for (struct request *rq; (rq = sched_first(w->s));) {
        sched_remove(w->s, rq, false);
        request_destroy(rq);
    }
    assert_int_equal(kv_cache_num_free(w->kv), w->kv_opt.num_blocks);
    sched_destroy(w->s);
    kv_cache_destroy(w->kv);
    free(w->slots);
}

static struct request *submit(struct world *w, const int32_t *prompt, uint32_t num_prompt,
                              uint32_t max_tokens, bool prompt_logprobs) {
    struct engine_request er = {.prompt = prompt,
                                .num_prompt = num_prompt,
                                .sampling = {.prompt_logprobs = prompt_logprobs}};
    struct request_shape shape = {.num_tokens_max = num_prompt + max_tokens,
                                  .block_size = w->kv_opt.block_size};
    struct request *rq = request_create(&er, shape);
    rq->id = w->next_id++;
    sched_add(w->s, rq);
    return rq;
}

/* Prompt: 1, 2, 3, ... from `first` on. */
static struct request *submit_run(struct world *w, int32_t first, uint32_t num_prompt,
                                  uint32_t max_tokens) {
    int32_t prompt[256];
    for (uint32_t i = 0; i < num_prompt; i++)
        prompt[i] = first + (int32_t)i;
    return submit(w, prompt, num_prompt, max_tokens, false);
}

static uint64_t extend(uint64_t prefix, int32_t token) {
    uint64_t x = (prefix ^ (uint64_t)(uint32_t)token) * 0x9E3779B97F4A7C15 + 1;
    return x ^ x >> 29;
}

static void check_plan(struct world *w, const struct sched_step *step) {
    uint32_t sum = 0, prompt_rows = 0;
    assert_true(step->num_entries <= w->opt.max_num_seqs);
    for (uint32_t i = 0; i < step->num_entries; i++) {
        const struct sched_entry *e = &step->entries[i];
        assert_true(e->num_scheduled >= 1);
        assert_true(e->rq->running);
        assert_true(e->rq->num_computed_tokens + e->num_scheduled <= e->rq->num_tokens);
        sum += e->num_scheduled;
        prompt_rows += request_prompt_rows(e->rq, e->num_scheduled).num;
    }
    assert_int_equal(sum, step->num_tokens);
    assert_true(sum <= w->opt.max_num_batched_tokens);
    assert_true(prompt_rows <= w->opt.max_num_prompt_logits);
    /* Nobody starves: the oldest request goes on in every step. */
    if (sched_first(w->s))
        assert_ptr_equal(step->entries[0].rq, sched_first(w->s));
}

static void check_queue_and_blocks(struct world *w) {
    uint32_t *refs = mem_array(w->kv_opt.num_blocks, sizeof(refs[0]));
    uint32_t running = 0, waiting = 0, used = 0;
    for (struct request *rq = sched_first(w->s); rq; rq = rq->next) {
        assert_true(!rq->next || rq->id < rq->next->id); /* order of arrival */
        assert_true(!rq->running || !waiting);           /* the running ones come first */
        assert_true(rq->running || !rq->num_blocks);
        running += rq->running;
        waiting += !rq->running;
        for (uint32_t b = 0; b < rq->num_blocks; b++)
            refs[rq->block_table[b]]++;
    }
    assert_int_equal(running, sched_num_running(w->s));
    assert_int_equal(waiting, sched_num_waiting(w->s));
    for (uint32_t b = 0; b < w->kv_opt.num_blocks; b++) {
        assert_int_equal(refs[b], kv_cache_ref_count(w->kv, b));
        used += refs[b] > 0;
    }
    assert_int_equal(used + kv_cache_num_free(w->kv), w->kv_opt.num_blocks);
    free(refs);
}

/* "Computes" one entry: all that is before must be there, what is written must be rq's alone. */
static void compute(struct world *w, const struct sched_entry *e) {
    const uint32_t size = w->kv_opt.block_size;
    uint64_t prefix = 0;
    for (uint32_t p = 0; p < e->rq->num_computed_tokens + e->num_scheduled; p++) {
        assert_true(p / size < e->rq->num_blocks);
        uint32_t block = e->rq->block_table[p / size];
        uint64_t *slot = &w->slots[(size_t)block * size + p % size];
        prefix = extend(prefix, e->rq->tokens[p]);
        if (p < e->rq->num_computed_tokens) {
            assert_true(*slot == prefix);
        } else {
            assert_int_equal(kv_cache_ref_count(w->kv, block), 1);
            *slot = prefix;
        }
    }
}

/* One engine step; finished requests leave. Tokens sampled come from `alphabet`. */
static const struct sched_step *step(struct world *w, uint32_t alphabet) {
    const struct sched_step *st = sched_schedule(w->s);
    check_plan(w, st);
    check_queue_and_blocks(w);
    w->num_preempted += st->num_preempted;
    for (uint32_t i = 0; i < st->num_entries; i++)
        compute(w, &st->entries[i]);
    for (uint32_t i = 0; i < st->num_entries; i++) {
        const struct sched_entry *e = &st->entries[i];
        struct request *rq = e->rq;
        struct request_rows rows = request_prompt_rows(rq, e->num_scheduled);
        if (rows.num) { /* in order, none left out, none twice */
            assert_int_equal(rq->num_computed_tokens + rows.first + 1, rq->next_prompt_logprob);
            rq->next_prompt_logprob += rows.num;
        }
        sched_computed(w->s, e);
        if (rq->num_computed_tokens < rq->num_tokens)
            continue;
        assert_int_equal(rq->next_prompt_logprob, rq->num_prompt);
        rq->tokens[rq->num_tokens++] = (int32_t)draw(w, alphabet);
        if (rq->num_tokens == rq->num_tokens_max) {
            w->num_cached += rq->num_cached_tokens;
            w->num_finished++;
            sched_remove(w->s, rq, false);
            request_destroy(rq);
        }
    }
    check_queue_and_blocks(w);
    return st;
}

static struct world small_world(uint32_t num_blocks, uint32_t seqs, uint32_t budget) {
    struct world w = {
        .kv_opt = {.num_blocks = num_blocks, .block_size = 4, .hash_key = {3, 4}},
        .opt = {.max_num_seqs = seqs, .max_num_batched_tokens = budget, .max_num_prompt_logits = 4},
        .seed = 1};
    world_init(&w);
    return w;
}

static void create_names_the_option_at_fault(void **state) {
    struct sched *s = NULL;
    struct error err = ERROR_INIT;
    struct sched_options opt = {0, 8, 1};
    assert_int_equal(sched_create(&opt, NULL, &s, &err), ERR_INVALID);
    assert_string_equal(err.field, "max_num_seqs");
    opt = (struct sched_options){9, 8, 1};
    assert_int_equal(sched_create(&opt, NULL, &s, &err), ERR_INVALID);
    assert_string_equal(err.field, "max_num_batched_tokens");
    opt = (struct sched_options){8, 8, 0};
    assert_int_equal(sched_create(&opt, NULL, &s, &err), ERR_INVALID);
    assert_string_equal(err.field, "max_num_prompt_logits");
}

static void a_long_prompt_goes_through_in_chunks_beside_those_that_generate(void **state) {
    struct world w = small_world(64, 4, 8);
    struct request *a = submit_run(&w, 1, 3, 20);
    step(&w, 10); /* a's prompt */
    struct request *b = submit_run(&w, 100, 20, 2);
    for (int i = 0; i < 2; i++) {
        const struct sched_step *st = step(&w, 10);
        assert_int_equal(st->num_entries, 2);
        assert_ptr_equal(st->entries[0].rq, a);
        assert_int_equal(st->entries[0].num_scheduled, 1);
        assert_ptr_equal(st->entries[1].rq, b);
        assert_int_equal(st->entries[1].num_scheduled, 7);
    }
    const struct sched_step *st = step(&w, 10);
    assert_int_equal(st->entries[1].num_scheduled, 6);
    world_deinit(&w);
}

static void waiting_requests_start_in_order_of_arrival(void **state) {
    struct world w = small_world(64, 2, 8);
    struct request *a = submit_run(&w, 1, 2, 9), *b = submit_run(&w, 100, 2, 9);
    struct request *c = submit_run(&w, 200, 1, 9); /* small, and still comes third */
    const struct sched_step *st = step(&w, 10);
    assert_int_equal(st->num_entries, 2);
    assert_true(a->running && b->running && !c->running);
    assert_int_equal(sched_num_waiting(w.s), 1);
    sched_remove(w.s, a, false);
    request_destroy(a);
    step(&w, 10);
    assert_true(c->running);
    world_deinit(&w);
}

static void the_youngest_is_preempted_and_goes_on_from_the_prefix_cache(void **state) {
    struct world w = small_world(6, 4, 32);
    struct request *a = submit_run(&w, 1, 8, 16), *b = submit_run(&w, 100, 8, 8);
    step(&w, 10); /* both hold two blocks and begin a third in the next step */
    for (int i = 0; i < 4; i++)
        step(&w, 10);
    assert_int_equal(kv_cache_num_free(w.kv), 0);
    const struct sched_step *st = step(&w, 10); /* a wants its fourth block */
    assert_int_equal(st->num_preempted, 1);
    assert_int_equal(st->num_entries, 1);
    assert_ptr_equal(st->entries[0].rq, a);
    assert_false(b->running);
    assert_int_equal(b->num_computed_tokens, 0);
    while (sched_first(w.s) == a)
        step(&w, 10);
    assert_int_equal(b->num_preemptions, 1);
    step(&w, 10);
    assert_true(b->running);
    assert_int_equal(b->num_cached_tokens, 0); /* that figure is about the first admission */
    world_deinit(&w);
}

static void a_request_with_a_cached_prefix_computes_only_the_rest(void **state) {
    struct world w = small_world(64, 4, 32);
    submit_run(&w, 1, 16, 1);
    step(&w, 10);
    struct request *b = submit_run(&w, 1, 16, 2);
    const struct sched_step *st = step(&w, 10);
    assert_int_equal(b->num_cached_tokens, 12); /* its last block holds the token to compute */
    assert_int_equal(st->entries[0].num_scheduled, 4);
    world_deinit(&w);
}

static void a_prompt_is_let_in_only_when_all_of_it_has_room(void **state) {
    struct world w = small_world(6, 4, 4);
    struct request *a = submit_run(&w, 1, 4, 12);
    step(&w, 10);
    struct request *b = submit_run(&w, 100, 20, 1); /* five blocks; its first chunk needs but one */
    step(&w, 10);
    assert_true(a->running);
    assert_false(b->running);
    while (sched_first(w.s) == a)
        step(&w, 10);
    step(&w, 10);
    assert_true(b->running);
    assert_int_equal(w.num_preempted, 0);
    world_deinit(&w);
}

static void rows_of_prompt_logits_are_a_budget_too(void **state) {
    struct world w = small_world(64, 4, 32);
    int32_t prompt[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    struct request *a = submit(&w, prompt, 10, 2, false);
    step(&w, 10);
    sched_remove(w.s, a, false); /* leaves its prefix in the cache */
    request_destroy(a);
    struct request *b = submit(&w, prompt, 10, 2, true);
    const uint32_t scheduled[] = {4, 4, 2}; /* 4 rows a step, 9 prompt tokens to tell about */
    for (size_t i = 0; i < ARRAY_LEN(scheduled); i++) {
        const struct sched_step *st = step(&w, 10);
        assert_int_equal(st->entries[0].num_scheduled, scheduled[i]);
    }
    assert_int_equal(b->num_cached_tokens, 0); /* its rows must be computed, cached or not */
    world_deinit(&w);
}

static void broken_blocks_are_not_handed_on(void **state) {
    struct world w = small_world(64, 4, 32);
    struct request *a = submit_run(&w, 1, 16, 8);
    step(&w, 10);
    sched_remove(w.s, a, true);
    request_destroy(a);
    struct request *b = submit_run(&w, 1, 16, 8);
    step(&w, 10);
    assert_int_equal(b->num_cached_tokens, 0);
    world_deinit(&w);
}

/* Prompts begin with one of three texts so that they share prefixes, and the alphabet is so small
 * that completions meet again too. */
static void submit_random(struct world *w, uint32_t positions) {
    int32_t prompt[128];
    uint32_t num_prompt = 1 + draw(w, positions <= 100 ? positions - 1 : 100);
    uint32_t text = draw(w, 3), common = draw(w, 100);
    for (uint32_t i = 0; i < num_prompt; i++)
        prompt[i] = i < common ? (int32_t)(text * 7 + i % 5) : (int32_t)draw(w, 3);
    uint32_t room = positions - num_prompt;
    uint32_t max_tokens = 1 + draw(w, room < 40 ? room : 40);
    submit(w, prompt, num_prompt, max_tokens, !draw(w, 8));
}

static void random_workload(uint64_t seed, struct world *totals) {
    struct world w = {.seed = seed, .kv_opt = {.hash_key = {seed, 5}}};
    w.kv_opt.block_size = 1u << draw(&w, 5);
    w.kv_opt.num_blocks = 1 + draw(&w, 40);
    if (w.kv_opt.num_blocks * w.kv_opt.block_size < 2)
        w.kv_opt.num_blocks = 2;
    w.kv_opt.disable_prefix_caching = !draw(&w, 10);
    w.opt.max_num_seqs = 1 + draw(&w, 8);
    w.opt.max_num_batched_tokens = w.opt.max_num_seqs + draw(&w, 40);
    w.opt.max_num_prompt_logits = 1 + draw(&w, 8);
    world_init(&w);
    uint32_t to_submit = 1 + draw(&w, 24), steps = 0;
    while (to_submit || sched_first(w.s)) {
        uint32_t burst = draw(&w, 4);
        for (; burst && to_submit; burst--, to_submit--)
            submit_random(&w, w.kv_opt.num_blocks * w.kv_opt.block_size);
        step(&w, 2);
        if (!draw(&w, 30) && sched_first(w.s)) { /* somebody leaves */
            struct request *rq = sched_first(w.s);
            for (uint32_t skip = draw(&w, 6); skip && rq->next; skip--)
                rq = rq->next;
            sched_remove(w.s, rq, !draw(&w, 4));
            request_destroy(rq);
            check_queue_and_blocks(&w);
        }
        assert_true(++steps < 20000);
    }
    totals->num_preempted += w.num_preempted;
    totals->num_cached += w.num_cached;
    totals->num_finished += w.num_finished;
    world_deinit(&w);
}

static void random_workloads_keep_every_invariant(void **state) {
    struct world totals = {0};
    for (uint64_t seed = 1; seed <= 2000; seed++)
        random_workload(seed, &totals);
    /* The workloads do exercise what they are for. */
    assert_true(totals.num_preempted > 1000);
    assert_true(totals.num_cached > 10000);
    assert_true(totals.num_finished > 10000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(create_names_the_option_at_fault),
        cmocka_unit_test(a_long_prompt_goes_through_in_chunks_beside_those_that_generate),
        cmocka_unit_test(waiting_requests_start_in_order_of_arrival),
        cmocka_unit_test(the_youngest_is_preempted_and_goes_on_from_the_prefix_cache),
        cmocka_unit_test(a_request_with_a_cached_prefix_computes_only_the_rest),
        cmocka_unit_test(a_prompt_is_let_in_only_when_all_of_it_has_room),
        cmocka_unit_test(rows_of_prompt_logits_are_a_budget_too),
        cmocka_unit_test(broken_blocks_are_not_handed_on),
        cmocka_unit_test(random_workloads_keep_every_invariant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
