#include "engine/sampler.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "engine/philox.h"
#include "engine/request.h"

enum { VOCAB = 3000, EOG = 7 };

/* A request to sample for, on the stack: prompt {1, 2}, then what the test appends. */
struct subject {
    struct request rq;
    int32_t tokens[64];
};

static void subject_init(struct subject *t) {
    *t = (struct subject){.tokens = {1, 2}, .rq = {.num_prompt = 2, .num_tokens = 2, .seed = 99}};
    t->rq.tokens = t->tokens;
    sampling_params_init(&t->rq.sampling);
}

static void append(struct subject *t, int32_t id) {
    t->tokens[t->rq.num_tokens++] = id;
}

static struct sampler *new_sampler(uint32_t vocab_size) {
    struct sampler *s = NULL;
    struct error err = ERROR_INIT;
    const int32_t eog[] = {EOG};
    struct sampler_options opt = {.vocab_size = vocab_size, .eog_ids = eog, .num_eog_ids = 1};
    assert_int_equal(sampler_create(&opt, &s, &err), OK);
    return s;
}

static int32_t sample(struct sampler *s, const struct subject *t, const float *logits) {
    struct engine_token token = {0};
    assert_true(sampler_sample(s, &t->rq, logits, &token));
    return token.id;
}

static void random_logits(float *logits, uint32_t n, uint64_t seed, double spread) {
    for (uint32_t i = 0; i < n; i++)
        logits[i] = (float)((philox_uniform(seed, i) - 0.5) * spread);
}

static void greedy_takes_the_lowest_of_equal_ids(void **state) {
    AUTO(sampler) s = new_sampler(4);
    struct subject t;
    subject_init(&t);
    t.rq.sampling.temperature = 0;
    const float logits[4] = {1, 5, 5, 2};
    assert_int_equal(sample(s, &t, logits), 1);
}

static void logits_that_are_no_distribution_are_refused(void **state) {
    AUTO(sampler) s = new_sampler(3);
    struct subject t;
    subject_init(&t);
    const float bad[][3] = {
        {1, NAN, 2}, {NAN, 1, 2}, {1, 2, NAN}, {1, INFINITY, 2}, {-INFINITY, -INFINITY, -INFINITY}};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct engine_token token = {0};
        t.rq.sampling.temperature = i % 2 ? 1 : 0;
        assert_false(sampler_sample(s, &t.rq, bad[i], &token));
        assert_false(sampler_score(s, &t.rq, 0, bad[i], &token));
        assert_true(isnan(sampler_logsumexp(bad[i], 3)));
    }
    const float good[3] = {-INFINITY, 3, -INFINITY};
    assert_int_equal(sample(s, &t, good), 1);
}

static void logprobs_are_of_the_raw_distribution(void **state) {
    AUTO(sampler) s = new_sampler(4);
    struct subject t;
    subject_init(&t);
    t.rq.sampling.num_logprobs = 3;
    t.rq.sampling.temperature = 0;
    t.rq.sampling.num_logit_bias = 1; /* moves the choice, not the reported distribution */
    t.rq.sampling.logit_bias[0].id = 0;
    t.rq.sampling.logit_bias[0].bias = 100;
    const float logits[4] = {logf(1), logf(4), logf(2), logf(1)};
    struct engine_token token = {0};
    assert_true(sampler_sample(s, &t.rq, logits, &token));
    assert_int_equal(token.id, 0);
    assert_true(fabs((double)token.logprob - log(1.0 / 8)) < 1e-6);
    assert_int_equal(token.num_top, 3);
    const int32_t ids[] = {1, 2, 0}; /* 0 and 3 are equal: the lower id first */
    const double p[] = {4.0 / 8, 2.0 / 8, 1.0 / 8};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(token.top[i].id, ids[i]);
        assert_true(fabs((double)token.top[i].logprob - log(p[i])) < 1e-6);
    }
    t.rq.sampling.num_logprobs = 0; /* the sampled token's alone */
    assert_true(sampler_sample(s, &t.rq, logits, &token));
    assert_int_equal(token.num_top, 0);
    assert_true(token.logprob < -2);
    t.rq.sampling.num_logprobs = ENGINE_TOP_LOGPROBS_MAX; /* more than there are */
    assert_true(sampler_sample(s, &t.rq, logits, &token));
    assert_int_equal(token.num_top, 4);
}

static void top_logprobs_agree_with_a_full_sort(void **state) {
    AUTO(sampler) s = new_sampler(VOCAB);
    struct subject t;
    subject_init(&t);
    t.rq.sampling.num_logprobs = ENGINE_TOP_LOGPROBS_MAX;
    float logits[VOCAB];
    for (uint64_t seed = 0; seed < 50; seed++) {
        random_logits(logits, VOCAB, seed, 10);
        for (int i = 0; i < VOCAB; i++) /* many equal ones */
            logits[i] = roundf(logits[i] * 20) / 20;
        struct engine_token token = {0};
        assert_true(sampler_score(s, &t.rq, 3, logits, &token));
        for (uint32_t k = 0; k < token.num_top; k++) {
            uint32_t better = 0;
            int32_t id = token.top[k].id;
            for (int32_t i = 0; i < VOCAB; i++)
                better += logits[i] > logits[id] || (logits[i] == logits[id] && i < id);
            assert_int_equal(better, k);
        }
    }
}

/* Draws many tokens and counts them. */
static void histogram(struct sampler *s, struct subject *t, const float *logits, uint32_t draws,
                      uint32_t *counts) {
    for (uint32_t i = 0; i < draws; i++) {
        t->rq.seed = i * 7919 + 1;
        counts[sample(s, t, logits)]++;
    }
}

static void temperature_sampling_follows_the_distribution(void **state) {
    AUTO(sampler) s = new_sampler(4);
    struct subject t;
    subject_init(&t);
    const float logits[4] = {logf(0.1f), logf(0.2f), logf(0.3f), logf(0.4f)};
    uint32_t counts[4] = {0};
    histogram(s, &t, logits, 20000, counts);
    for (int i = 0; i < 4; i++) { /* five standard deviations are at most 346 */
        int expected = 2000 * (i + 1);
        assert_in_range(counts[i], expected - 350, expected + 350);
    }
    /* At temperature 1/2 probabilities are squared: 1, 4, 9, 16 of 30. */
    t.rq.sampling.temperature = 0.5f;
    uint32_t sharp[4] = {0};
    histogram(s, &t, logits, 20000, sharp);
    for (int i = 0; i < 4; i++) {
        int expected = 20000 * (i + 1) * (i + 1) / 30;
        assert_in_range(sharp[i], expected - 360, expected + 360);
    }
}

/* The ids that a full sort would leave, as a set. */
static void allowed_by_sorting(const struct sampling_params *p, const float *logits, uint32_t n,
                               bool *allowed) {
    int32_t order[VOCAB];
    for (uint32_t i = 0; i < n; i++) { /* insertion sort by (logit, id) */
        uint32_t at = i;
        for (; at && logits[i] > logits[order[at - 1]]; at--)
            order[at] = order[at - 1];
        order[at] = (int32_t)i;
        allowed[i] = false;
    }
    double weights[VOCAB], total = 0, mass = 0;
    uint32_t kept = 0;
    for (; kept < n; kept++) {
        weights[kept] =
            exp((double)(logits[order[kept]] - logits[order[0]]) / (double)p->temperature);
        if (weights[kept] < (double)p->min_p || (p->top_k > 0 && kept == (uint32_t)p->top_k))
            break;
        total += weights[kept];
    }
    for (uint32_t i = 0; i < kept && (!i || mass < (double)p->top_p * total); i++) {
        allowed[order[i]] = true;
        mass += weights[i];
    }
}

static void cuts_allow_what_a_full_sort_would(void **state) {
    AUTO(sampler) s = new_sampler(VOCAB);
    float logits[VOCAB];
    static bool allowed[VOCAB], seen[VOCAB];
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct subject t;
        subject_init(&t);
        random_logits(logits, VOCAB, seed, 4 + (double)(seed % 5) * 4);
        if (seed % 3 == 0)
            t.rq.sampling.top_k = 1 + (int32_t)(seed * 37 % 200);
        if (seed % 4 != 1)
            t.rq.sampling.top_p = 0.05f + (float)(seed % 10) * 0.1f;
        if (seed % 5 == 2)
            t.rq.sampling.min_p = 0.3f;
        t.rq.sampling.temperature = 0.5f + (float)(seed % 4) * 0.3f;
        allowed_by_sorting(&t.rq.sampling, logits, VOCAB, allowed);
        memset(seen, 0, sizeof(seen));
        uint32_t num_allowed = 0, num_seen = 0;
        for (uint32_t i = 0; i < 1500; i++) {
            t.rq.seed = i;
            int32_t id = sample(s, &t, logits);
            assert_true(allowed[id]);
            seen[id] = true;
        }
        for (uint32_t i = 0; i < VOCAB; i++) {
            num_allowed += allowed[i];
            num_seen += seen[i];
        }
        if (num_allowed <= 20) /* few enough for each to turn up */
            assert_int_equal(num_seen, num_allowed);
    }
}

static void tiny_cuts_leave_the_best_token(void **state) {
    AUTO(sampler) s = new_sampler(VOCAB);
    float logits[VOCAB];
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct subject t, greedy;
        subject_init(&t);
        subject_init(&greedy);
        greedy.rq.sampling.temperature = 0;
        t.rq.seed = seed;
        if (seed % 3 == 0)
            t.rq.sampling.top_k = 1;
        else if (seed % 3 == 1)
            t.rq.sampling.top_p = 1e-6f;
        else
            t.rq.sampling.min_p = 1;
        random_logits(logits, VOCAB, seed, 8);
        assert_int_equal(sample(s, &t, logits), sample(s, &greedy, logits));
    }
    /* All equal: the lowest id stands first. */
    struct subject t;
    subject_init(&t);
    t.rq.sampling.top_k = 1;
    memset(logits, 0, sizeof(logits));
    assert_int_equal(sample(s, &t, logits), 0);
}

static void a_seed_and_an_index_decide_the_draw(void **state) {
    AUTO(sampler) s = new_sampler(VOCAB);
    AUTO(sampler) other = new_sampler(VOCAB);
    struct subject t, u;
    subject_init(&t);
    subject_init(&u);
    t.rq.sampling.top_p = u.rq.sampling.top_p = 0.9f;
    float logits[VOCAB], noise[VOCAB];
    random_logits(noise, VOCAB, 77, 6);
    uint32_t differ = 0;
    for (uint32_t i = 0; i < 50; i++) {
        random_logits(logits, VOCAB, i, 6);
        int32_t id = sample(s, &t, logits);
        u.rq.seed = i + 1000; /* another request takes its turn in between */
        sample(other, &u, noise);
        u.rq.seed = t.rq.seed;
        assert_int_equal(sample(other, &u, logits), id);
        u.rq.seed = t.rq.seed + 1;
        differ += sample(other, &u, logits) != id;
        append(&t, id);
        append(&u, id);
    }
    assert_true(differ > 40);
}

static void penalties_follow_their_formulas(void **state) {
    AUTO(sampler) s = new_sampler(8);
    struct subject t;
    subject_init(&t);
    append(&t, 3);
    append(&t, 3);
    append(&t, 4);
    t.rq.sampling.temperature = 0;
    struct sampling_params *p = &t.rq.sampling;
    /* prompt {1, 2}, completion {3, 3, 4} */
    const float repeated[8] = {1, 1.9f, 0, 0, 0, 0.9f, 0, 0};
    p->repetition_penalty = 2; /* 1.9 / 2 < 1: the prompt's token loses */
    assert_int_equal(sample(s, &t, repeated), 0);
    const float negative[8] = {-1, -0.9f, -9, -9, -9, -1.5f, -9, -9};
    p->repetition_penalty = 2; /* -0.9 * 2 < -1 */
    assert_int_equal(sample(s, &t, negative), 0);
    p->repetition_penalty = 1;

    const float counted[8] = {0, 9, 9, 11.5f, 10.6f, 9.5f, 0, 0};
    p->frequency_penalty = 1; /* 3: 11.5 - 2, 4: 10.6 - 1, the prompt keeps its 9 */
    assert_int_equal(sample(s, &t, counted), 4);
    p->frequency_penalty = 0;
    p->presence_penalty = 2; /* 3: 9.5, 4: 8.6, 5: 9.5: the lower id */
    assert_int_equal(sample(s, &t, counted), 3);
    p->presence_penalty = 1.5f;
    p->frequency_penalty = 0.5f; /* 3: 9.0, 4: 8.6, 5: 9.5 */
    assert_int_equal(sample(s, &t, counted), 5);
    p->presence_penalty = p->frequency_penalty = 0; /* the counts of earlier calls are gone */
    assert_int_equal(sample(s, &t, counted), 3);
}

static void min_tokens_holds_back_every_kind_of_end(void **state) {
    AUTO(sampler) s = new_sampler(10);
    struct subject t;
    subject_init(&t);
    t.rq.sampling.temperature = 0;
    t.rq.sampling.min_tokens = 1;
    t.rq.sampling.num_stop_ids = 2;
    t.rq.sampling.stop_ids[0] = 4;
    t.rq.sampling.stop_ids[1] = 5000; /* of a larger vocabulary: no harm */
    const float logits[10] = {[EOG] = 9, [4] = 8, [5] = 7};
    assert_int_equal(sample(s, &t, logits), 5);
    t.rq.sampling.ignore_eos = true; /* then the end token is like any other */
    assert_int_equal(sample(s, &t, logits), EOG);
    t.rq.sampling.ignore_eos = false;
    append(&t, 5);
    assert_int_equal(sample(s, &t, logits), EOG);
}

static void the_row_itself_is_left_alone(void **state) {
    AUTO(sampler) s = new_sampler(VOCAB);
    struct subject t;
    subject_init(&t);
    append(&t, 9);
    t.rq.sampling.repetition_penalty = 1.5f;
    t.rq.sampling.min_tokens = 9;
    float logits[VOCAB], before[VOCAB];
    random_logits(logits, VOCAB, 5, 10);
    memcpy(before, logits, sizeof(before));
    sample(s, &t, logits);
    assert_memory_equal(logits, before, sizeof(before));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_lowest_of_equal_ids),
        cmocka_unit_test(logits_that_are_no_distribution_are_refused),
        cmocka_unit_test(logprobs_are_of_the_raw_distribution),
        cmocka_unit_test(top_logprobs_agree_with_a_full_sort),
        cmocka_unit_test(temperature_sampling_follows_the_distribution),
        cmocka_unit_test(cuts_allow_what_a_full_sort_would),
        cmocka_unit_test(tiny_cuts_leave_the_best_token),
        cmocka_unit_test(a_seed_and_an_index_decide_the_draw),
        cmocka_unit_test(penalties_follow_their_formulas),
        cmocka_unit_test(min_tokens_holds_back_every_kind_of_end),
        cmocka_unit_test(the_row_itself_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
