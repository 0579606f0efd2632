/* Special tokens. They are sorted by text; from a position that starts with the first byte of one,
 * the range of those that still agree is narrowed byte by byte. That costs O(length of the longest
 * common head) where a token may start and one table look-up everywhere else. */
#include "engine/tokenizer_special.h"

#include "engine/tokenizer_unicode.h"

void special_tokens_add(struct special_tokens *s, const struct special_token *t) {
    if (!t->len)
        return;
    if (s->len == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 32;
        s->data = mem_realloc(s->data, s->cap * sizeof(*s->data));
    }
    s->data[s->len++] = *t;
}

static int compare(const void *pa, const void *pb) {
    const struct special_token *a = pa, *b = pb;
    int c = memcmp(a->text, b->text, a->len < b->len ? a->len : b->len);
    if (c || a->len != b->len)
        return c ? c : a->len < b->len ? -1 : 1;
    return a->id < b->id ? -1 : a->id > b->id;
}

void special_tokens_seal(struct special_tokens *s) {
    if (!s->len)
        return;
    qsort(s->data, s->len, sizeof(*s->data), compare);
    size_t kept = 0;
    for (size_t i = 0; i < s->len; i++) {
        const struct special_token *t = &s->data[i];
        if (kept && s->data[kept - 1].len == t->len &&
            !memcmp(s->data[kept - 1].text, t->text, t->len))
            kept--;
        s->data[kept++] = *t;
        s->first_bytes[(unsigned char)t->text[0]] = true;
    }
    s->len = kept;
}

void special_tokens_deinit(struct special_tokens *s) {
    free(s->data);
    memset(s, 0, sizeof(*s));
}

/* First index in [lo, hi) whose byte at `depth` is at least `byte`; all are longer than depth. */
static size_t lower_bound(const struct special_tokens *s, size_t lo, size_t hi, size_t depth,
                          unsigned byte) {
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if ((unsigned char)s->data[mid].text[depth] < byte)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Whether a letter or its like stands right before `start` or right behind `end`. */
static bool touches_word(const char *text, size_t len, size_t start, size_t end) {
    uint32_t code;
    size_t before = start;
    while (before && start - before < 4 && ((unsigned char)text[before - 1] & 0xC0) == 0x80)
        before--;
    before -= before > 0;
    bool left = start && utf8_next(text + before, start - before, &code) == start - before &&
                unicode_is_word(code);
    bool right = end < len && utf8_next(text + end, len - end, &code) && unicode_is_word(code);
    return left || right;
}

static const struct special_token *longest_at(const struct special_tokens *s, const char *text,
                                              size_t len, size_t at, bool parse_control) {
    const struct special_token *best = NULL;
    size_t lo = 0, hi = s->len;
    for (size_t depth = 0; at + depth < len; depth++) {
        unsigned byte = (unsigned char)text[at + depth];
        lo = lower_bound(s, lo, hi, depth, byte);
        hi = lower_bound(s, lo, hi, depth, byte + 1);
        if (lo == hi)
            break;
        const struct special_token *t = &s->data[lo];
        if (t->len != depth + 1)
            continue;
        size_t end = at + t->len;
        if ((parse_control || !t->control) && !(t->single_word && touches_word(text, len, at, end)))
            best = t;
        lo++; /* the others are longer */
    }
    return best;
}

static size_t skip_space_back(const char *text, size_t from, size_t at) {
    while (at > from) {
        size_t head = at - 1;
        while (head > from && ((unsigned char)text[head] & 0xC0) == 0x80)
            head--;
        uint32_t code;
        if (utf8_next(text + head, at - head, &code) != at - head || !unicode_is_space(code))
            break;
        at = head;
    }
    return at;
}

static size_t skip_space(const char *text, size_t len, size_t at) {
    uint32_t code;
    for (size_t n; (n = utf8_next(text + at, len - at, &code)) && unicode_is_space(code);)
        at += n;
    return at;
}

bool special_tokens_next(const struct special_tokens *s, const char *text, size_t len, size_t from,
                         bool parse_control, struct special_match *ret_match) {
    for (size_t at = from; at < len; at++) {
        if (!s->first_bytes[(unsigned char)text[at]])
            continue;
        const struct special_token *t = longest_at(s, text, len, at, parse_control);
        if (!t)
            continue;
        ret_match->id = t->id;
        ret_match->start = t->lstrip ? skip_space_back(text, from, at) : at;
        ret_match->end = t->rstrip ? skip_space(text, len, at + t->len) : at + t->len;
        return true;
    }
    return false;
}

const struct special_token *special_tokens_find(const struct special_tokens *s, const char *text,
                                                size_t len) {
    struct special_token key = {.text = text, .len = (uint32_t)len, .id = -1};
    size_t lo = 0, hi = s->len;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (compare(&s->data[mid], &key) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo < s->len && s->data[lo].len == len && !memcmp(s->data[lo].text, text, len))
        return &s->data[lo];
    return NULL;
}
