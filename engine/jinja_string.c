/* Python's str operations on UTF-8.
 *
 * Results that are a part of their input borrow it: trimming, splitting and slicing a message of
 * megabytes copies nothing. Case mapping is Unicode's simple mapping, plus the sharp s. */
#include "engine/jinja_string.h"

#include <utf8proc.h>

#include "engine/jinja_text.h"

bool jinja_list_from(struct jinja_run *run, const struct buf *b, enum jinja_kind kind,
                     struct jinja_value *ret) {
    size_t count = b->len / sizeof(struct jinja_value);
    struct jinja_value *items = jinja_alloc(run, count, sizeof(*items));
    if (!items)
        return false;
    if (count)
        memcpy(items, b->data, count * sizeof(*items));
    *ret = jinja_list_of(run, kind, kind == JINJA_ITERATOR ? "generator" : NULL, items,
                         (uint32_t)count);
    return true;
}

/* Adds nothing above the memory bound; jinja_list_from() then fails on what is there. */
static void add_part(struct buf *parts, const char *text, size_t len) {
    struct jinja_value v = jinja_borrow(text, len);
    if (parts->len <= JINJA_MEMORY_BYTES_MAX)
        buf_append(parts, &v, sizeof(v));
}

static bool is_upper(uint32_t cp) {
    return cp < 0x80 ? cp >= 'A' && cp <= 'Z' : utf8proc_isupper((utf8proc_int32_t)cp);
}

static bool is_lower(uint32_t cp) {
    return cp < 0x80 ? cp >= 'a' && cp <= 'z' : utf8proc_islower((utf8proc_int32_t)cp);
}

static void put_case(struct buf *b, uint32_t cp, bool upper, bool title) {
    char out[4];
    if (upper && cp == 0xdf) {
        buf_puts(b, title ? "Ss" : "SS");
        return;
    }
    if (cp < 0x80)
        cp = upper ? (is_lower(cp) ? cp - 32 : cp) : (is_upper(cp) ? cp + 32 : cp);
    else
        cp = (uint32_t)(!upper  ? utf8proc_tolower((utf8proc_int32_t)cp)
                        : title ? utf8proc_totitle((utf8proc_int32_t)cp)
                                : utf8proc_toupper((utf8proc_int32_t)cp));
    buf_append(b, out, jinja_text_encode(cp, out));
}

bool jinja_string_case(struct jinja_run *run, struct jinja_value s, enum jinja_case how,
                       struct jinja_value *ret) {
    AUTO_BUF b = BUF_INIT;
    bool after_cased = false;
    for (size_t i = 0, n; i < s.len; i += n) {
        uint32_t cp = jinja_text_decode(s.text + i, s.len - i, &n);
        bool cased = is_upper(cp) || is_lower(cp);
        bool upper = how == JINJA_UPPER || (how == JINJA_CAPITALIZE && i == 0) ||
                     (how == JINJA_TITLE && !after_cased) ||
                     (how == JINJA_SWAPCASE && is_lower(cp));
        put_case(&b, cp, upper, how == JINJA_CAPITALIZE || how == JINJA_TITLE);
        after_cased = cased;
    }
    return jinja_spend(run, s.len / 8) && jinja_string(run, b.data ? b.data : "", b.len, ret);
}

bool jinja_string_is_upper(struct jinja_value s) {
    bool any = false;
    for (size_t i = 0, n; i < s.len; i += n) {
        uint32_t cp = jinja_text_decode(s.text + i, s.len - i, &n);
        if (is_lower(cp))
            return false;
        any |= is_upper(cp);
    }
    return any;
}

bool jinja_string_is_lower(struct jinja_value s) {
    bool any = false;
    for (size_t i = 0, n; i < s.len; i += n) {
        uint32_t cp = jinja_text_decode(s.text + i, s.len - i, &n);
        if (is_upper(cp))
            return false;
        any |= is_lower(cp);
    }
    return any;
}

static bool has_character(struct jinja_value chars, const char *c, size_t n) {
    for (size_t i = 0, m; i < chars.len; i += m) {
        jinja_text_decode(chars.text + i, chars.len - i, &m);
        if (m == n && memcmp(chars.text + i, c, n) == 0)
            return true;
    }
    return false;
}

bool jinja_string_strip(struct jinja_run *run, struct jinja_value s, struct jinja_value chars,
                        int sides, struct jinja_value *ret) {
    size_t from = 0, to = s.len, n;
    if (chars.kind == JINJA_ABSENT || chars.kind == JINJA_NONE) {
        if (sides & JINJA_STRIP_LEFT)
            from = jinja_text_space_prefix(s.text, s.len);
        if (sides & JINJA_STRIP_RIGHT)
            to -= jinja_text_space_suffix(s.text + from, s.len - from);
        *ret = jinja_borrow(s.text + from, to - from);
        return jinja_spend(run, (s.len - (to - from)) / 8);
    }
    if (chars.kind != JINJA_STRING)
        return jinja_fail(run, ERR_INVALID, "strip arg must be None or str");
    while ((sides & JINJA_STRIP_LEFT) && from < to) {
        jinja_text_decode(s.text + from, to - from, &n);
        if (!has_character(chars, s.text + from, n))
            break;
        from += n;
    }
    while ((sides & JINJA_STRIP_RIGHT) && from < to) {
        size_t start = to - 1;
        while (((unsigned char)s.text[start] & 0xc0) == 0x80)
            start--;
        if (!has_character(chars, s.text + start, to - start))
            break;
        to = start;
    }
    *ret = jinja_borrow(s.text + from, to - from);
    return jinja_spend(run, ((uint64_t)s.len - (to - from)) * chars.len);
}

static size_t word_prefix(const char *s, size_t len) {
    size_t i = 0, n;
    while (i < len && !jinja_text_is_space(jinja_text_decode(s + i, len - i, &n)))
        i += n;
    return i;
}

static size_t word_suffix(const char *s, size_t len) {
    size_t end = len, n;
    while (end > 0) {
        size_t start = end - 1;
        while (start > 0 && ((unsigned char)s[start] & 0xc0) == 0x80)
            start--;
        if (jinja_text_is_space(jinja_text_decode(s + start, end - start, &n)))
            break;
        end = start;
    }
    return len - end;
}

static void split_words(const char *s, size_t len, int64_t limit, bool from_right,
                        struct buf *parts) {
    for (;;) {
        if (from_right) {
            len -= jinja_text_space_suffix(s, len);
        } else {
            size_t skip = jinja_text_space_prefix(s, len);
            s += skip;
            len -= skip;
        }
        if (!len)
            return;
        size_t word = limit == 0 ? len : from_right ? word_suffix(s, len) : word_prefix(s, len);
        add_part(parts, from_right ? s + len - word : s, word);
        limit -= limit > 0;
        len -= word;
        s += from_right ? 0 : word;
    }
}

static void split_text(const char *s, size_t len, struct jinja_value sep, int64_t limit,
                       bool from_right, struct buf *parts) {
    const char *hit;
    while (limit != 0 && (hit = from_right ? jinja_text_rfind(s, len, sep.text, sep.len)
                                           : jinja_text_find(s, len, sep.text, sep.len))) {
        size_t before = (size_t)(hit - s), behind = len - before - sep.len;
        limit -= limit > 0;
        if (from_right) {
            add_part(parts, hit + sep.len, behind);
            len = before;
        } else {
            add_part(parts, s, before);
            s = hit + sep.len;
            len = behind;
        }
    }
    add_part(parts, s, len);
}

bool jinja_string_split(struct jinja_run *run, struct jinja_value s, struct jinja_value sep,
                        int64_t limit, bool from_right, struct jinja_value *ret) {
    AUTO_BUF parts = BUF_INIT;
    if (sep.kind == JINJA_ABSENT || sep.kind == JINJA_NONE) {
        split_words(s.text, s.len, limit, from_right, &parts);
    } else if (sep.kind != JINJA_STRING) {
        return jinja_fail(run, ERR_INVALID, "must be str or None, not %s", jinja_type_name(sep));
    } else if (!sep.len) {
        return jinja_fail(run, ERR_INVALID, "empty separator");
    } else {
        split_text(s.text, s.len, sep, limit, from_right, &parts);
    }
    if (!jinja_spend(run, s.len / 8) || !jinja_list_from(run, &parts, JINJA_LIST, ret))
        return false;
    struct jinja_list *list = ret->list;
    for (uint32_t i = 0; from_right && i < list->len / 2; i++) {
        struct jinja_value swap = list->items[i];
        list->items[i] = list->items[list->len - 1 - i];
        list->items[list->len - 1 - i] = swap;
    }
    return true;
}

static bool is_line_end(uint32_t cp) {
    return (cp >= 10 && cp <= 13) || (cp >= 0x1c && cp <= 0x1e) || cp == 0x85 || cp == 0x2028 ||
           cp == 0x2029;
}

bool jinja_string_lines(struct jinja_run *run, struct jinja_value s, bool keep_ends,
                        struct jinja_value *ret) {
    AUTO_BUF parts = BUF_INIT;
    size_t start = 0;
    for (size_t i = 0, n; i < s.len;) {
        uint32_t cp = jinja_text_decode(s.text + i, s.len - i, &n);
        size_t end = i;
        i += n;
        if (!is_line_end(cp))
            continue;
        if (cp == '\r' && i < s.len && s.text[i] == '\n')
            i++;
        add_part(&parts, s.text + start, (keep_ends ? i : end) - start);
        start = i;
    }
    if (start < s.len)
        add_part(&parts, s.text + start, s.len - start);
    return jinja_spend(run, s.len / 8) && jinja_list_from(run, &parts, JINJA_LIST, ret);
}

/* Between all characters and at both ends: what Python's replace does with an empty needle. */
static void interleave(struct jinja_value s, struct jinja_value new, int64_t limit, struct buf *b) {
    size_t i = 0;
    for (size_t n; limit != 0; limit -= limit > 0) {
        buf_append(b, new.text, new.len);
        if (i == s.len || b->len > JINJA_MEMORY_BYTES_MAX)
            return;
        jinja_text_decode(s.text + i, s.len - i, &n);
        buf_append(b, s.text + i, n);
        i += n;
    }
    buf_append(b, s.text + i, s.len - i);
}

bool jinja_string_replace(struct jinja_run *run, struct jinja_value s, struct jinja_value old,
                          struct jinja_value new, int64_t limit, struct jinja_value *ret) {
    AUTO_BUF b = BUF_INIT;
    if (!jinja_spend(run, 1 + s.len / JINJA_BYTES_PER_STEP))
        return false;
    if (old.len) {
        const char *at = s.text, *end = s.text + s.len, *hit;
        while (limit != 0 && b.len <= JINJA_MEMORY_BYTES_MAX &&
               (hit = jinja_text_find(at, (size_t)(end - at), old.text, old.len))) {
            buf_append(&b, at, (size_t)(hit - at));
            buf_append(&b, new.text, new.len);
            at = hit + old.len;
            limit -= limit > 0;
        }
        if (at == s.text) {
            *ret = s;
            return true;
        }
        buf_append(&b, at, (size_t)(end - at));
    } else {
        interleave(s, new, limit, &b);
    }
    return jinja_string(run, b.data ? b.data : "", b.len, ret);
}

bool jinja_string_repeat(struct jinja_run *run, struct jinja_value s, int64_t count,
                         struct jinja_value *ret) {
    if (count <= 0 || !s.len) {
        *ret = jinja_literal("");
        return true;
    }
    char *text = jinja_alloc(run, (size_t)count, s.len);
    if (!text)
        return false;
    for (int64_t i = 0; i < count; i++)
        memcpy(text + (size_t)i * s.len, s.text, s.len);
    *ret = jinja_borrow(text, (size_t)count * s.len);
    return jinja_spend(run, (uint64_t)count);
}

bool jinja_string_pad(struct jinja_run *run, struct jinja_value s, int64_t width,
                      struct jinja_value fill, enum jinja_align align, struct jinja_value *ret) {
    int64_t count = (int64_t)jinja_text_count(s.text, s.len), left = 0;
    if (jinja_text_count(fill.text, fill.len) != 1)
        return jinja_fail(run, ERR_INVALID, "the fill character must be exactly one character");
    if (width <= count) {
        *ret = s;
        return true;
    }
    int64_t pad = width - count;
    if (align == JINJA_ALIGN_RIGHT)
        left = pad;
    else if (align == JINJA_ALIGN_CENTER) /* CPython's rounding */
        left = pad / 2 + (pad & width & 1);
    struct jinja_value before, behind;
    return jinja_string_repeat(run, fill, left, &before) &&
           jinja_string_repeat(run, fill, pad - left, &behind) &&
           jinja_concat(run, before, s, ret) && jinja_concat(run, *ret, behind, ret);
}
