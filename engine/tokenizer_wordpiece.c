/* WordPiece (Schuster and Nakajima 2012, as BERT uses it): greedy from the left, so a word of n
 * bytes costs at most n times the longest key in look-ups, and words are bounded. */
#include "engine/tokenizer_wordpiece.h"

#include "engine/tokenizer_unicode.h"

static size_t count_chars(const char *s, size_t len) {
    size_t n = 0;
    for (size_t i = 0; i < len; i++)
        n += ((unsigned char)s[i] & 0xC0) != 0x80;
    return n;
}

/* The longest token that is a head of s[0..len), cut at characters; -1: none. */
static int32_t longest_head(const struct vocab *v, const char *s, size_t len, size_t *ret_len) {
    for (size_t n = len < v->key_len_max ? len : v->key_len_max; n; n--) {
        if (n < len && ((unsigned char)s[n] & 0xC0) == 0x80)
            continue;
        int32_t id = vocab_find(v, s, n);
        if (id >= 0) {
            *ret_len = n;
            return id;
        }
    }
    return -1;
}

void wordpiece_encode(const struct wordpiece *w, const char *word, size_t len, struct buf *scratch,
                      struct token_ids *ids) {
    buf_clear(scratch);
    buf_puts(scratch, "\xE2\x96\x81");
    size_t mark = scratch->len, first = ids->len;
    bool known = count_chars(word, len) <= w->word_chars_max;
    if (known)
        buf_append(scratch, word, len);
    for (size_t at = 0; known && at < scratch->len;) {
        size_t n = 0;
        int32_t id = longest_head(w->vocab, scratch->data + at, scratch->len - at, &n);
        known = id >= 0 && (at || n > mark);
        if (known)
            token_ids_push(ids, id);
        at += n;
    }
    if (known)
        return;
    ids->len = first;
    if (w->unknown_id >= 0)
        token_ids_push(ids, w->unknown_id);
}
