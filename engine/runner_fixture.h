/* Drives a runner for tests: sequences with block tables of their own, any mix of them in a step.
 * Only tests include it. */
#ifndef ENGINE_RUNNER_FIXTURE_H
#define ENGINE_RUNNER_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "engine/model.h"
#include "engine/runner.h"

enum {
    FIXTURE_BLOCK_SIZE = 16,
    FIXTURE_SEQ_BLOCKS = 48,
    FIXTURE_SEQ_TOKENS = FIXTURE_BLOCK_SIZE * FIXTURE_SEQ_BLOCKS,
    FIXTURE_SEQS = 8,
    FIXTURE_STEP_TOKENS = 1024,
};

struct fixture_seq {
    uint32_t index; /* which of FIXTURE_SEQS: decides its blocks */
    int32_t ids[FIXTURE_SEQ_TOKENS];
    uint32_t num_ids;
    uint32_t num_computed;
};

/* A part of a step: the next num_tokens of a sequence. */
struct fixture_part {
    struct fixture_seq *seq;
    uint32_t num_tokens;
    bool logits; /* of each of its rows */
};

static inline struct runner *fixture_runner(const struct model *m, bool reference,
                                            uint32_t num_threads) {
    struct error err = ERROR_INIT;
    struct runner *r = NULL;
    struct runner_options opt = {
        .num_blocks = FIXTURE_SEQS * FIXTURE_SEQ_BLOCKS,
        .block_size = FIXTURE_BLOCK_SIZE,
        .num_tokens_max = FIXTURE_STEP_TOKENS,
        .num_seqs_max = FIXTURE_SEQS,
        .num_logits_max = FIXTURE_STEP_TOKENS,
        .seq_len_max = FIXTURE_SEQ_TOKENS,
        .num_threads = num_threads,
        .reference = reference,
    };
    if (runner_create(m, &opt, &r, &err))
        fail_msg("%s", err.text);
    return r;
}

static inline struct model *fixture_model(const char *path) {
    struct error err = ERROR_INIT;
    struct model *m = NULL;
    if (model_open(path, &m, &err))
        fail_msg("%s", err.text);
    return m;
}

/* Blocks of all sequences are interleaved, and each goes through its own backwards. */
static inline uint32_t fixture_block(const struct fixture_seq *seq, uint32_t i) {
    return (FIXTURE_SEQ_BLOCKS - 1 - i) * FIXTURE_SEQS + seq->index;
}

/* One step. logits [rows wanted, V]. */
static inline void fixture_forward(struct runner *r, const struct fixture_part *parts,
                                   uint32_t num_parts, float *logits) {
    static int32_t ids[FIXTURE_STEP_TOKENS], positions[FIXTURE_STEP_TOKENS];
    static uint32_t slots[FIXTURE_STEP_TOKENS], rows[FIXTURE_STEP_TOKENS];
    static uint32_t tables[FIXTURE_SEQS * FIXTURE_SEQ_BLOCKS];
    uint32_t query_start[FIXTURE_SEQS + 1] = {0}, seq_len[FIXTURE_SEQS];
    struct runner_batch b = {
        .token_ids = ids,
        .positions = positions,
        .slots = slots,
        .num_seqs = num_parts,
        .query_start = query_start,
        .seq_len = seq_len,
        .block_table = tables,
        .block_table_stride = FIXTURE_SEQ_BLOCKS,
        .logits_rows = rows,
    };
    assert_true(num_parts <= FIXTURE_SEQS);
    for (uint32_t p = 0; p < num_parts; p++) {
        struct fixture_seq *seq = parts[p].seq;
        assert_true(seq->num_computed + parts[p].num_tokens <= seq->num_ids);
        for (uint32_t i = 0; i < parts[p].num_tokens; i++) {
            uint32_t position = seq->num_computed++;
            if (parts[p].logits)
                rows[b.num_logits++] = b.num_tokens;
            ids[b.num_tokens] = seq->ids[position];
            positions[b.num_tokens] = (int32_t)position;
            slots[b.num_tokens++] =
                fixture_block(seq, position / FIXTURE_BLOCK_SIZE) * FIXTURE_BLOCK_SIZE +
                position % FIXTURE_BLOCK_SIZE;
        }
        query_start[p + 1] = b.num_tokens;
        seq_len[p] = seq->num_computed;
        for (uint32_t i = 0; i < FIXTURE_SEQ_BLOCKS; i++)
            tables[p * FIXTURE_SEQ_BLOCKS + i] = fixture_block(seq, i);
    }
    runner_forward(r, &b, logits);
}

static inline uint32_t fixture_best(const float *logits, uint32_t len) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < len; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

#endif
