/* Vocabulary. Spellings lie in one buffer, so 128 k tokens cost a handful of allocations; the index
 * is a table of ids with linear probing, half full at most. The hash is seeded per vocabulary: a
 * model file cannot choose its collisions. */
#include "engine/tokenizer_vocab.h"

#include "core/base/clock.h"

enum errc vocab_init(struct vocab *v, uint64_t num_tokens, struct error *err) {
    memset(v, 0, sizeof(*v));
    if (!num_tokens || num_tokens > VOCAB_TOKENS_MAX)
        return err_set(err, ERR_INVALID, "%llu tokens: 1 to %d are possible",
                       (unsigned long long)num_tokens, VOCAB_TOKENS_MAX);
    v->tokens = mem_array(num_tokens, sizeof(*v->tokens));
    v->len = (uint32_t)num_tokens;
    for (uint32_t i = 0; i < v->len; i++)
        v->tokens[i].kind = TOKEN_UNUSED;
    for (int i = 0; i < 256; i++)
        v->byte_ids[i] = -1;
    v->seed = (uint64_t)clock_mono_ns() * 0x9E3779B97F4A7C15u ^ (uintptr_t)v->tokens;
    buf_reserve(&v->text, 1);
    return OK;
}

void vocab_deinit(struct vocab *v) {
    free(v->tokens);
    free(v->table);
    free(v->scores);
    buf_deinit(&v->text);
    memset(v, 0, sizeof(*v));
}

enum errc vocab_set(struct vocab *v, uint32_t id, const struct vocab_spelling *s,
                    enum token_kind kind, bool matchable, struct error *err) {
    ASSERT(id < v->len);
    size_t longest = s->piece && s->piece_len > s->key_len ? s->piece_len : s->key_len;
    if (longest > VOCAB_PIECE_BYTES_MAX)
        return err_set(err, ERR_INVALID, "token %u: %zu bytes long, at most %d are possible", id,
                       longest, VOCAB_PIECE_BYTES_MAX);
    if (v->text.len > UINT32_MAX - 2 * VOCAB_PIECE_BYTES_MAX)
        return err_set(err, ERR_INVALID, "token %u: the vocabulary's text exceeds 4 GiB", id);
    struct vocab_token *t = &v->tokens[id];
    t->key = (uint32_t)v->text.len;
    t->key_len = (uint16_t)s->key_len;
    buf_append(&v->text, s->key, s->key_len);
    bool same = !s->piece || (s->piece_len == s->key_len && !memcmp(s->piece, s->key, s->key_len));
    t->piece = same ? t->key : (uint32_t)v->text.len;
    t->piece_len = (uint16_t)(same ? s->key_len : s->piece_len);
    if (!same)
        buf_append(&v->text, s->piece, s->piece_len);
    t->kind = (uint8_t)kind;
    t->matchable = matchable && s->key_len;
    return OK;
}

static uint32_t hash(const struct vocab *v, const char *key, size_t len) {
    uint64_t h = v->seed ^ len;
    while (len >= 8) {
        uint64_t word;
        memcpy(&word, key, 8);
        h = (h ^ word) * 0x9FB21C651E98DF25u;
        h ^= h >> 32;
        key += 8;
        len -= 8;
    }
    uint64_t rest = 0;
    if (len)
        memcpy(&rest, key, len);
    h = (h ^ rest) * 0x9FB21C651E98DF25u;
    h ^= h >> 29;
    h *= 0xD6E8FEB86659FD93u;
    return (uint32_t)(h >> 32);
}

/* The slot where `key` stands, or the empty one where it would. */
static uint32_t *slot(const struct vocab *v, const char *key, size_t len) {
    for (uint32_t i = hash(v, key, len) & v->table_mask;; i = (i + 1) & v->table_mask) {
        uint32_t entry = v->table[i];
        if (!entry)
            return &v->table[i];
        const struct vocab_token *t = &v->tokens[entry - 1];
        if (t->key_len == len && !memcmp(v->text.data + t->key, key, len))
            return &v->table[i];
    }
}

void vocab_index(struct vocab *v, bool byte_level) {
    v->text.cap = v->text.len + 1; /* give slack back */
    v->text.data = mem_realloc(v->text.data, v->text.cap);
    uint32_t size = 16;
    while (size < v->len * 2)
        size *= 2;
    free(v->table);
    v->table = mem_array(size, sizeof(*v->table));
    v->table_mask = size - 1;
    v->key_len_max = 0;
    for (uint32_t id = 0; id < v->len; id++) {
        const struct vocab_token *t = &v->tokens[id];
        bool is_byte = byte_level ? t->matchable && t->key_len == 1
                                  : t->kind == TOKEN_BYTE && t->piece_len == 1;
        if (is_byte)
            v->byte_ids[(unsigned char)v->text.data[t->piece]] = (int32_t)id;
        if (!t->matchable)
            continue;
        *slot(v, v->text.data + t->key, t->key_len) = id + 1;
        if (t->key_len > v->key_len_max)
            v->key_len_max = t->key_len;
    }
}

int32_t vocab_find(const struct vocab *v, const char *key, size_t len) {
    if (!len || len > v->key_len_max)
        return -1;
    return (int32_t)*slot(v, key, len) - 1;
}

const char *vocab_key(const struct vocab *v, uint32_t id, size_t *ret_len) {
    *ret_len = v->tokens[id].key_len;
    return v->text.data + v->tokens[id].key;
}

const char *vocab_piece(const struct vocab *v, uint32_t id, size_t *ret_len) {
    *ret_len = v->tokens[id].piece_len;
    return v->text.data + v->tokens[id].piece;
}
