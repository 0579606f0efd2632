/* Batch: entries of a plan become rows. The rows of one request are consecutive and in order of
 * position, so attention finds them by query_start:
 *
 *     entries      A: 3 tokens from 0   B: 1 token from 17   C: 2 tokens from 4
 *     positions    0 1 2                17                   4 5
 *     query_start  0                    3                    4           6
 *     seq_len      3                    18                   6
 *
 * Each row brings the slot where its K and V go; all that is read goes through block_table. */
#include "engine/batch.h"

#include "engine/request.h"
#include "engine/scheduler.h"

struct batch {
    struct batch_options opt;
    int32_t *token_ids, *positions; /* [num_tokens_max] */
    uint32_t *slots;                /* [num_tokens_max] */
    uint32_t *query_start;          /* [num_seqs_max + 1] */
    uint32_t *seq_len;              /* [num_seqs_max] */
    uint32_t *block_table;          /* [num_seqs_max, stride] */
    uint32_t *logits_rows;          /* [num_logits_max] */
    struct runner_batch out;
};

enum errc batch_create(const struct batch_options *opt, struct batch **ret_b, struct error *err) {
    AUTO(batch) b = mem_alloc(sizeof(*b));
    b->opt = *opt;
    uint32_t stride = opt->seq_len_max / opt->block_size + 1;
    b->token_ids = mem_try_alloc(opt->num_tokens_max * sizeof(b->token_ids[0]));
    b->positions = mem_try_alloc(opt->num_tokens_max * sizeof(b->positions[0]));
    b->slots = mem_try_alloc(opt->num_tokens_max * sizeof(b->slots[0]));
    b->query_start = mem_try_alloc((opt->num_seqs_max + 1) * sizeof(b->query_start[0]));
    b->seq_len = mem_try_alloc(opt->num_seqs_max * sizeof(b->seq_len[0]));
    b->block_table = mem_try_alloc((size_t)opt->num_seqs_max * stride * sizeof(b->block_table[0]));
    b->logits_rows = mem_try_alloc(opt->num_logits_max * sizeof(b->logits_rows[0]));
    if (!b->token_ids || !b->positions || !b->slots || !b->query_start || !b->seq_len ||
        !b->block_table || !b->logits_rows)
        return err_set(err, ERR_EXHAUSTED, "no memory for steps of %u tokens in %u sequences",
                       opt->num_tokens_max, opt->num_seqs_max);
    b->out = (struct runner_batch){
        .token_ids = b->token_ids,
        .positions = b->positions,
        .slots = b->slots,
        .query_start = b->query_start,
        .seq_len = b->seq_len,
        .block_table = b->block_table,
        .block_table_stride = stride,
        .logits_rows = b->logits_rows,
    };
    *ret_b = steal(b);
    return OK;
}

void batch_destroy(struct batch *b) {
    if (!b)
        return;
    free(b->token_ids);
    free(b->positions);
    free(b->slots);
    free(b->query_start);
    free(b->seq_len);
    free(b->block_table);
    free(b->logits_rows);
    free(b);
}

static void add_logits_row(struct batch *b, uint32_t row) {
    ASSERT(b->out.num_logits < b->opt.num_logits_max);
    b->logits_rows[b->out.num_logits++] = row;
}

static void add_entry(struct batch *b, const struct sched_entry *e) {
    const struct request *rq = e->rq;
    uint32_t s = b->out.num_seqs++, first_row = b->out.num_tokens, size = b->opt.block_size;
    ASSERT(s < b->opt.num_seqs_max && first_row + e->num_scheduled <= b->opt.num_tokens_max);
    b->query_start[s] = first_row;
    for (uint32_t i = 0; i < e->num_scheduled; i++) {
        uint32_t position = rq->num_computed_tokens + i, row = first_row + i;
        ASSERT(position / size < rq->num_blocks);
        b->token_ids[row] = rq->tokens[position];
        b->positions[row] = (int32_t)position;
        b->slots[row] = rq->block_table[position / size] * size + position % size;
    }
    b->out.num_tokens += e->num_scheduled;
    b->seq_len[s] = rq->num_computed_tokens + e->num_scheduled;
    memcpy(b->block_table + (size_t)s * b->out.block_table_stride, rq->block_table,
           rq->num_blocks * sizeof(b->block_table[0]));

    struct request_rows rows = request_prompt_rows(rq, e->num_scheduled);
    for (uint32_t i = 0; i < rows.num; i++)
        add_logits_row(b, first_row + rows.first + i);
    if (b->seq_len[s] == rq->num_tokens)
        add_logits_row(b, b->out.num_tokens - 1);
}

const struct runner_batch *batch_build(struct batch *b, const struct sched_step *step) {
    b->out.num_tokens = b->out.num_seqs = b->out.num_logits = 0;
    for (uint32_t i = 0; i < step->num_entries; i++)
        add_entry(b, &step->entries[i]);
    b->query_start[b->out.num_seqs] = b->out.num_tokens;
    return &b->out;
}
