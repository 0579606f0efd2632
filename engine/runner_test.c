/* The runner's promises on small random models: a row's logits are the same bits whatever else is
 * in the batch, however the prompt is cut, and however many threads work; and the fast path is the
 * exact one to rounding. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>

#include "engine/model_fixture.h"
#include "engine/runner_fixture.h"

enum { VOCAB = 77, LEN = 70 };

static const struct model_shape shapes[] = {
    {"llama", 2, 64, 4, 2, 16, 96, VOCAB, .tied = true},
    {"llama", 2, 96, 3, 1, 32, 160, VOCAB, .q8_0 = true},
    {"llama", 2, 40, 5, 5, 8, 50, VOCAB, .window = 9},
    {"qwen2", 3, 64, 8, 2, 8, 128, VOCAB, .q8_0 = true},
    {"qwen3", 2, 64, 2, 1, 64, 64, VOCAB, .tied = false},
};

static struct model *open_shape(struct model_shape shape) {
    struct model_fixture f;
    model_fixture_init(&f, shape);
    AUTO_FREE char *path = fixture_write_gguf(&f);
    struct model *m = fixture_model(path);
    model_fixture_deinit(&f);
    return m;
}

static void fill_seq(struct fixture_seq *seq, uint32_t index, uint32_t len) {
    *seq = (struct fixture_seq){.index = index, .num_ids = len};
    for (uint32_t i = 0; i < len; i++)
        seq->ids[i] = (int32_t)((i * i * 31 + i * 7 + index * 13) % VOCAB);
}

/* Logits of every position, computed in one step of its own. */
static float *logits_alone(struct runner *r, struct fixture_seq *seq) {
    float *logits = mem_array((size_t)seq->num_ids * VOCAB, sizeof(*logits));
    fixture_forward(r, &(struct fixture_part){seq, seq->num_ids, true}, 1, logits);
    return logits;
}

static void check_same(const float *got, const float *want, uint32_t first, uint32_t count) {
    for (uint32_t i = 0; i < count * VOCAB; i++)
        if (memcmp(&got[i], &want[first * VOCAB + i], sizeof(*got)) != 0)
            fail_msg("position %u, logit %u: %a, alone %a", first + i / VOCAB, i % VOCAB,
                     (double)got[i], (double)want[first * VOCAB + i]);
}

static void check_chunks(struct runner *r, const float *want, uint32_t chunk) {
    struct fixture_seq seq;
    AUTO_FREE float *logits = mem_array((size_t)LEN * VOCAB, sizeof(*logits));
    fill_seq(&seq, 3, LEN);
    while (seq.num_computed < LEN) {
        uint32_t first = seq.num_computed, count = LEN - first < chunk ? LEN - first : chunk;
        fixture_forward(r, &(struct fixture_part){&seq, count, true}, 1, logits);
        check_same(logits, want, first, count);
    }
}

static void a_prompt_in_chunks_gives_the_same_bits(void **state) {
    static const uint32_t chunks[] = {1, 2, 3, 7, 16, 33};
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        struct fixture_seq seq;
        AUTO(model) m = open_shape(shapes[i]);
        AUTO(runner) r = fixture_runner(m, false, 2);
        fill_seq(&seq, 3, LEN);
        AUTO_FREE float *want = logits_alone(r, &seq);
        for (size_t c = 0; c < ARRAY_LEN(chunks); c++)
            check_chunks(r, want, chunks[c]);
    }
}

/* Five sequences advance by different steps; each must be as if alone. */
static void check_batch(const struct model *m, bool reference) {
    enum { SEQS = 5 };
    static const uint32_t steps[SEQS] = {1, 13, 5, 2, 30}, lens[SEQS] = {20, 70, 33, 41, 60};
    struct fixture_seq seqs[SEQS];
    float *want[SEQS];
    AUTO(runner) r = fixture_runner(m, reference, 2);
    AUTO_FREE float *logits = mem_array((size_t)FIXTURE_STEP_TOKENS * VOCAB, sizeof(*logits));
    for (uint32_t s = 0; s < SEQS; s++) {
        fill_seq(&seqs[s], s, lens[s]);
        want[s] = logits_alone(r, &seqs[s]);
        seqs[s].num_computed = 0;
    }
    for (;;) {
        struct fixture_part parts[SEQS];
        uint32_t num_parts = 0, row = 0;
        for (uint32_t s = 0; s < SEQS; s++) {
            uint32_t left = lens[s] - seqs[s].num_computed;
            if (left)
                parts[num_parts++] =
                    (struct fixture_part){&seqs[s], left < steps[s] ? left : steps[s], true};
        }
        if (!num_parts)
            break;
        fixture_forward(r, parts, num_parts, logits);
        for (uint32_t p = 0; p < num_parts; p++) {
            const struct fixture_seq *seq = parts[p].seq;
            check_same(logits + (size_t)row * VOCAB, want[seq->index],
                       seq->num_computed - parts[p].num_tokens, parts[p].num_tokens);
            row += parts[p].num_tokens;
        }
    }
    for (uint32_t s = 0; s < SEQS; s++)
        free(want[s]);
}

static void a_sequence_in_a_batch_gives_the_same_bits(void **state) {
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        AUTO(model) m = open_shape(shapes[i]);
        check_batch(m, false);
        if (!i)
            check_batch(m, true);
    }
}

static void the_number_of_threads_changes_no_bit(void **state) {
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        struct fixture_seq seq;
        AUTO(model) m = open_shape(shapes[i]);
        AUTO(runner) one = fixture_runner(m, false, 1);
        AUTO(runner) three = fixture_runner(m, false, 3);
        fill_seq(&seq, 0, LEN);
        AUTO_FREE float *want = logits_alone(one, &seq);
        seq.num_computed = 0;
        AUTO_FREE float *got = logits_alone(three, &seq);
        check_same(got, want, 0, LEN);
    }
}

/* Where weights are multiplied as integers, the activations are rounded to 8 bits: a part in 250 of
 * the largest of 32, in each of a dozen products. */
static void check_rounding(size_t shape, const float *got, const float *want) {
    double off = 0, size = 0;
    for (uint32_t j = 0; j < LEN * VOCAB; j++) {
        off += pow((double)got[j] - (double)want[j], 2);
        size += pow((double)want[j], 2);
    }
    double part = sqrt(off / size);
    printf("shape %zu: rms difference is %.4f of the logits\n", shape, part);
    if (!(part <= 0.03))
        fail_msg("shape %zu: rms difference is %f of the logits", shape, part);
}

static void the_fast_path_is_exact_to_rounding(void **state) {
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        struct fixture_seq seq;
        AUTO(model) m = open_shape(shapes[i]);
        AUTO(runner) fast = fixture_runner(m, false, 2);
        AUTO(runner) exact = fixture_runner(m, true, 2);
        fill_seq(&seq, 0, LEN);
        AUTO_FREE float *want = logits_alone(exact, &seq);
        seq.num_computed = 0;
        AUTO_FREE float *got = logits_alone(fast, &seq);
        if (runner_model_bytes(m)) {
            check_rounding(i, got, want);
            continue;
        }
        for (uint32_t j = 0; j < LEN * VOCAB; j++)
            if (!(fabsf(got[j] - want[j]) <= 1e-4f))
                fail_msg("shape %zu, position %u: %f, exact %f", i, j / VOCAB, (double)got[j],
                         (double)want[j]);
    }
}

/* Only rows that are asked for are written, and they are the right ones. */
static void logits_come_for_the_rows_asked_for(void **state) {
    struct fixture_seq a, b, c;
    AUTO(model) m = open_shape(shapes[0]);
    AUTO(runner) r = fixture_runner(m, false, 2);
    AUTO_FREE float *logits = mem_array(8 * VOCAB, sizeof(*logits));
    fill_seq(&b, 1, 3);
    AUTO_FREE float *want = logits_alone(r, &b);
    fill_seq(&a, 0, 20);
    fill_seq(&b, 1, 3);
    fill_seq(&c, 2, 9);
    fixture_forward(r,
                    (const struct fixture_part[]){{&a, 20, false}, {&b, 3, true}, {&c, 9, false}},
                    3, logits);
    check_same(logits, want, 0, 3);
    for (uint32_t i = 3 * VOCAB; i < 8 * VOCAB; i++)
        assert_true(logits[i] == 0.0f);
}

/* A window of the whole length changes nothing; a shorter one changes the positions beyond it. */
static void a_window_hides_what_is_further_back(void **state) {
    enum { WINDOW = 9 };
    struct model_shape shape = shapes[2];
    struct fixture_seq seq;
    AUTO(model) windowed = open_shape(shape);
    shape.window = 0;
    AUTO(model) whole = open_shape(shape);
    shape.window = LEN;
    AUTO(model) wide = open_shape(shape);
    AUTO(runner) r = fixture_runner(windowed, false, 1);
    AUTO(runner) r_whole = fixture_runner(whole, false, 1);
    AUTO(runner) r_wide = fixture_runner(wide, false, 1);
    fill_seq(&seq, 0, LEN);
    AUTO_FREE float *want = logits_alone(r_whole, &seq);
    seq.num_computed = 0;
    AUTO_FREE float *same = logits_alone(r_wide, &seq);
    seq.num_computed = 0;
    AUTO_FREE float *got = logits_alone(r, &seq);
    check_same(same, want, 0, LEN);
    check_same(got, want, 0, WINDOW);
    assert_true(got[WINDOW * VOCAB] != want[WINDOW * VOCAB]);
}

static void options_out_of_range_are_refused_by_name(void **state) {
    AUTO(model) m = open_shape(shapes[0]);
    const struct runner_options good = {
        .num_blocks = 4,
        .block_size = 16,
        .num_tokens_max = 8,
        .num_seqs_max = 2,
        .num_logits_max = 2,
        .seq_len_max = 64,
        .num_threads = 1,
    };
    struct runner_options bad[6];
    static const char *const fields[] = {
        "block_size", "max_num_batched_tokens", "max_num_seqs", "max_model_len", "num_blocks", ""};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        bad[i] = good;
    bad[0].block_size = 24;
    bad[1].num_tokens_max = 0;
    bad[2].num_seqs_max = 3;
    bad[3].seq_len_max = 1u << 30;
    bad[4].num_blocks = 0;
    bad[5].num_blocks = UINT32_MAX; /* 35 TB */
    bad[5].block_size = 4096;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct error err = ERROR_INIT;
        struct runner *r = NULL;
        assert_int_equal(runner_create(m, &bad[i], &r, &err), i == 5 ? ERR_EXHAUSTED : ERR_INVALID);
        assert_string_equal(err.field, fields[i]);
        assert_null(r);
    }
    assert_int_equal(runner_kv_block_bytes(model_config(m), 16), 2 * 2 * 2 * 16 * 16 * 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_in_chunks_gives_the_same_bits),
        cmocka_unit_test(a_sequence_in_a_batch_gives_the_same_bits),
        cmocka_unit_test(the_number_of_threads_changes_no_bit),
        cmocka_unit_test(the_fast_path_is_exact_to_rounding),
        cmocka_unit_test(logits_come_for_the_rows_asked_for),
        cmocka_unit_test(a_window_hides_what_is_further_back),
        cmocka_unit_test(options_out_of_range_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
