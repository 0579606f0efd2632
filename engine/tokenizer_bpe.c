/* BPE. Symbols form a doubly linked list over the text; a binary heap holds the pairs that could be
 * joined. Joining makes the right symbol vanish and offers the two new neighbour pairs.
 *
 * A candidate goes stale when a neighbour took part in another join. It names its left symbol and
 * the bytes that both cover: symbols only grow, so as long as these still fit, the pair is the one
 * that was offered, and nothing has to be removed from the middle of the heap.
 *
 * Every join removes a symbol and offers at most two candidates, so n symbols cost O(n log n): a
 * megabyte of "a" is one pretoken of a million symbols.
 * Source: Sennrich et al. arXiv:1508.07909; tie-breaking (leftmost first) as in the Hugging Face
 * and SentencePiece tokenizers. */
#include "engine/tokenizer_bpe.h"

#include "engine/tokenizer_unicode.h"

static uint32_t pair_hash(uint32_t left, uint32_t right) {
    uint64_t h = ((uint64_t)left << 32 | right) * 0x9E3779B97F4A7C15u;
    h ^= h >> 32;
    h *= 0xD6E8FEB86659FD93u;
    return (uint32_t)(h >> 32);
}

/* The slot where the pair stands, or the empty one where it would. */
static uint32_t *slot(const struct bpe *b, uint32_t left, uint32_t right) {
    uint32_t i = pair_hash(left, right) & b->table_mask;
    for (; b->table[i]; i = (i + 1) & b->table_mask) {
        const struct bpe_merge *m = &b->merges[b->table[i] - 1];
        if (m->left == left && m->right == right)
            break;
    }
    return &b->table[i];
}

void bpe_set_merges(struct bpe *b, struct bpe_merge *merges, uint32_t num_merges) {
    b->merges = mem_realloc(merges, num_merges * sizeof(*merges)); /* give slack back */
    merges = b->merges;
    b->num_merges = num_merges;
    uint32_t size = 16;
    while (size < num_merges + num_merges / 2)
        size *= 2;
    b->table = mem_array(size, sizeof(*b->table));
    b->table_mask = size - 1;
    for (uint32_t rank = 0; rank < num_merges; rank++) {
        uint32_t *entry = slot(b, merges[rank].left, merges[rank].right);
        if (!*entry)
            *entry = rank + 1;
    }
}

void bpe_deinit(struct bpe *b) {
    free(b->merges);
    free(b->table);
    memset(b, 0, sizeof(*b));
}

void bpe_workspace_deinit(struct bpe_workspace *w) {
    free(w->symbols);
    free(w->heap);
    *w = (struct bpe_workspace){0};
}

/* Orders scores from high to low as unsigned integers (no NaN: the loader refuses it). */
static uint32_t score_order(float score) {
    uint32_t bits;
    score += 0.0f; /* -0 and 0 are one score */
    memcpy(&bits, &score, sizeof(bits));
    return bits & 0x80000000u ? bits : ~bits & 0x7FFFFFFFu;
}

static void heap_push(struct bpe_workspace *w, struct bpe_candidate c) {
    if (w->num_heap == w->cap_heap) {
        w->cap_heap = w->cap_heap ? w->cap_heap * 2 : 64;
        w->heap = mem_realloc(w->heap, w->cap_heap * sizeof(*w->heap));
    }
    size_t i = w->num_heap++;
    while (i && c.order < w->heap[(i - 1) / 2].order) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = c;
}

static struct bpe_candidate heap_pop(struct bpe_workspace *w) {
    struct bpe_candidate top = w->heap[0];
    struct bpe_candidate last = w->heap[--w->num_heap];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= w->num_heap)
            break;
        if (child + 1 < w->num_heap && w->heap[child + 1].order < w->heap[child].order)
            child++;
        if (last.order <= w->heap[child].order)
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    if (w->num_heap)
        w->heap[i] = last;
    return top;
}

/* Offers the pair of symbol `left` and its right neighbour, when they join. */
static void offer(const struct bpe *b, const char *text, struct bpe_workspace *w, int32_t left) {
    if (left < 0 || w->symbols[left].next < 0)
        return;
    const struct bpe_symbol *l = &w->symbols[left], *r = &w->symbols[l->next];
    struct bpe_candidate c = {.len = l->len + r->len};
    uint32_t order;
    if (b->merges) {
        if (l->id < 0 || r->id < 0)
            return;
        uint32_t entry = *slot(b, (uint32_t)l->id, (uint32_t)r->id);
        if (!entry)
            return;
        order = entry - 1;
        c.result = (int32_t)b->merges[order].result;
    } else {
        c.result = vocab_find(b->vocab, text + l->start, c.len);
        if (c.result < 0)
            return;
        order = score_order(b->vocab->scores[c.result]);
    }
    c.order = (uint64_t)order << 32 | (uint32_t)left;
    heap_push(w, c);
}

static void join_all(const struct bpe *b, const char *text, struct bpe_workspace *w) {
    w->num_heap = 0;
    for (size_t i = 0; i + 1 < w->num_symbols; i++)
        offer(b, text, w, (int32_t)i);
    while (w->num_heap) {
        struct bpe_candidate c = heap_pop(w);
        int32_t left = (int32_t)(c.order & UINT32_MAX);
        struct bpe_symbol *l = &w->symbols[left];
        if (!l->len || l->next < 0)
            continue;
        struct bpe_symbol *r = &w->symbols[l->next];
        if (l->len + r->len != c.len)
            continue;
        l->len = c.len;
        l->id = c.result;
        r->len = 0;
        l->next = r->next;
        if (l->next >= 0)
            w->symbols[l->next].prev = left;
        offer(b, text, w, l->prev);
        offer(b, text, w, left);
    }
}

/* Cuts the pretoken into its first symbols, linked in order. */
static void cut(const struct bpe *b, const char *text, size_t len, struct bpe_workspace *w) {
    if (w->cap_symbols < len) {
        w->cap_symbols = len > 2 * w->cap_symbols ? len : 2 * w->cap_symbols;
        free(w->symbols);
        w->symbols = mem_array(w->cap_symbols, sizeof(*w->symbols));
    }
    int32_t n = 0;
    for (size_t i = 0; i < len; n++) {
        uint32_t code;
        size_t width = b->byte_level ? 1 : utf8_next(text + i, len - i, &code);
        width = width ? width : 1;
        int32_t id = b->byte_level ? b->vocab->byte_ids[(unsigned char)text[i]]
                                   : vocab_find(b->vocab, text + i, width);
        w->symbols[n] = (struct bpe_symbol){
            .start = (uint32_t)i, .len = (uint32_t)width, .prev = n - 1, .next = n + 1, .id = id};
        i += width;
    }
    w->num_symbols = (size_t)n;
    if (n)
        w->symbols[n - 1].next = -1;
}

static bool has_byte_tokens(const struct vocab *v, const char *text, size_t len) {
    for (size_t i = 0; i < len; i++)
        if (v->byte_ids[(unsigned char)text[i]] < 0)
            return false;
    return true;
}

static void emit(const struct bpe *b, const char *text, const struct bpe_workspace *w,
                 struct token_ids *ids) {
    bool after_unknown = false;
    for (int32_t i = w->num_symbols ? 0 : -1; i >= 0; i = w->symbols[i].next) {
        const struct bpe_symbol *s = &w->symbols[i];
        bool unknown = false;
        if (s->id >= 0) {
            token_ids_push(ids, s->id);
        } else if (b->byte_fallback && has_byte_tokens(b->vocab, text + s->start, s->len)) {
            for (uint32_t k = 0; k < s->len; k++)
                token_ids_push(ids, b->vocab->byte_ids[(unsigned char)text[s->start + k]]);
        } else {
            unknown = true;
            if (b->unknown_id >= 0 && !(b->fuse_unknown && after_unknown))
                token_ids_push(ids, b->unknown_id);
        }
        after_unknown = unknown;
    }
}

void bpe_encode(const struct bpe *b, const char *text, size_t len, struct bpe_workspace *w,
                struct token_ids *ids) {
    if (b->ignore_merges) {
        int32_t whole = vocab_find(b->vocab, text, len);
        if (whole >= 0) {
            token_ids_push(ids, whole);
            return;
        }
    }
    cut(b, text, len, w);
    join_all(b, text, w);
    emit(b, text, w, ids);
}
