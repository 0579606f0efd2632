/* BPE: joins neighbouring symbols of one pretoken, best pair first, until no pair joins.
 *
 * Two ways to say which pair is best: a list of merges (GPT-2 and its kin: the earliest merge), or
 * a score per token (SentencePiece: the joined token with the highest score). */
#ifndef ENGINE_TOKENIZER_BPE_H
#define ENGINE_TOKENIZER_BPE_H

#include "engine/tokenizer.h"
#include "engine/tokenizer_vocab.h"

struct bpe_merge {
    uint32_t left, right, result; /* token ids */
};

struct bpe {
    const struct vocab *vocab; /* borrowed */
    struct bpe_merge *merges;  /* by rank */
    uint32_t num_merges;
    uint32_t *table; /* (left, right) to rank + 1 */
    uint32_t table_mask;
    bool byte_level;    /* symbols start as bytes, else as UTF-8 characters */
    bool ignore_merges; /* a pretoken that is a token is taken whole */
    bool byte_fallback; /* unknown characters become byte tokens */
    bool fuse_unknown;  /* neighbouring unknown characters become one unknown token */
    int32_t unknown_id; /* -1: unknown characters vanish */
};

enum { BPE_MERGES_MAX = 1 << 23 };

/* Sets up merging by rank: takes `merges` (from mem_alloc). Of equal pairs the first counts. */
void bpe_set_merges(struct bpe *b, struct bpe_merge *merges, uint32_t num_merges);
void bpe_deinit(struct bpe *b);

/* Memory for one encode call, reused from pretoken to pretoken. */
struct bpe_symbol {
    uint32_t start, len; /* len 0: joined into its left neighbour */
    int32_t prev, next;  /* -1: the end */
    int32_t id;          /* -1: not a token */
};
struct bpe_candidate {
    uint64_t order; /* rank or score, then the left symbol: the smallest is joined first */
    uint32_t len;   /* of both symbols */
    int32_t result;
};
struct bpe_workspace {
    struct bpe_symbol *symbols;
    size_t num_symbols, cap_symbols;
    struct bpe_candidate *heap;
    size_t num_heap, cap_heap;
};
void bpe_workspace_deinit(struct bpe_workspace *w);

/* Appends the ids of one pretoken; O(n log n) in its length, which is at most INT32_MAX. */
void bpe_encode(const struct bpe *b, const char *text, size_t len, struct bpe_workspace *w,
                struct token_ids *ids);

#endif
