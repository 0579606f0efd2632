/* Unicode for tokenizers.
 *
 * utf8proc orders combining marks with a bubble sort, so one run of n marks costs n^2; text from
 * strangers may hold a megabyte of them. Runs are therefore cut at UNICODE_MARKS_MAX, far above
 * what any language writes (UAX #15 calls text with at most 30 "stream-safe"). */
#include "engine/tokenizer_unicode.h"

#include <utf8proc.h>

size_t utf8_next(const char *s, size_t len, uint32_t *ret_code) {
    const unsigned char *p = (const unsigned char *)s;
    if (!len)
        return 0;
    if (p[0] < 0x80) {
        *ret_code = p[0];
        return 1;
    }
    size_t need = p[0] >= 0xF0 ? 4 : p[0] >= 0xE0 ? 3 : 2;
    if (p[0] < 0xC2 || p[0] > 0xF4 || len < need)
        return 0;
    uint32_t code = p[0] & (0xFFu >> (need + 1));
    for (size_t i = 1; i < need; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0;
        code = code << 6 | (p[i] & 0x3F);
    }
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    if (code < least[need] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
        return 0;
    *ret_code = code;
    return need;
}

size_t utf8_valid_len(const char *s, size_t len) {
    size_t i = 0;
    uint32_t code;
    while (i < len) {
        size_t n = utf8_next(s + i, len - i, &code);
        if (!n)
            break;
        i += n;
    }
    return i;
}

bool utf8_may_continue(const char *s, size_t len) {
    if (!len || len > 3)
        return false;
    char tail[4];
    memcpy(tail, s, len);
    /* A second byte decides about overlong forms, surrogates and the upper end, so with one byte
     * there is only the first to judge; 0x90 and 0x8F between them complete any fair start. */
    unsigned char first = (unsigned char)s[0];
    size_t need = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : first >= 0xC0 ? 2 : 1;
    if (len >= need)
        return false;
    for (int filler = 0x8F; filler <= 0xA0; filler += 0x11) {
        memset(tail + len, filler, need - len);
        uint32_t code;
        if (utf8_next(tail, need, &code))
            return true;
    }
    return false;
}

void utf8_append(struct buf *out, uint32_t code) {
    char b[4];
    size_t n = (size_t)utf8proc_encode_char((utf8proc_int32_t)code, (utf8proc_uint8_t *)b);
    buf_append(out, b, n);
}

void utf8_append_repaired(struct buf *out, const char *s, size_t len) {
    while (len) {
        size_t good = utf8_valid_len(s, len);
        buf_append(out, s, good);
        s += good;
        len -= good;
        if (len) {
            buf_puts(out, "\xEF\xBF\xBD");
            s++;
            len--;
        }
    }
}

bool unicode_is_space(uint32_t code) {
    return (code >= 0x09 && code <= 0x0D) || code == 0x20 || code == 0x85 || code == 0xA0 ||
           code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 ||
           code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

bool unicode_is_control(uint32_t code) {
    if (code == '\t' || code == '\n' || code == '\r')
        return false;
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CS:
        return true;
    default:
        return false;
    }
}

bool unicode_is_mark(uint32_t code) {
    return utf8proc_category((utf8proc_int32_t)code) == UTF8PROC_CATEGORY_MN;
}

bool unicode_is_word(uint32_t code) {
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return false;
    }
}

bool unicode_is_ideograph(uint32_t code) {
    return (code >= 0x4E00 && code <= 0x9FFF) || (code >= 0x3400 && code <= 0x4DBF) ||
           (code >= 0x20000 && code <= 0x2A6DF) || (code >= 0x2A700 && code <= 0x2CEAF) ||
           (code >= 0xF900 && code <= 0xFAFF) || (code >= 0x2F800 && code <= 0x2FA1F);
}

/* Length of the head of s that holds no run of more than UNICODE_MARKS_MAX marks. */
static size_t bounded_marks_len(const char *s, size_t len) {
    size_t num_marks = 0;
    for (size_t i = 0; i < len;) {
        uint32_t code;
        size_t n = utf8_next(s + i, len - i, &code);
        if (!n)
            return len; /* not well-formed: utf8proc will say so */
        bool mark =
            code >= 0x300 && utf8proc_get_property((utf8proc_int32_t)code)->combining_class != 0;
        num_marks = mark ? num_marks + 1 : 0;
        if (num_marks > UNICODE_MARKS_MAX)
            return i;
        i += n;
    }
    return len;
}

enum errc unicode_normalize(enum unicode_form form, const char *s, size_t len, struct buf *out,
                            struct error *err) {
    static const utf8proc_option_t options[] = {
        [UNICODE_NFC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE,
        [UNICODE_NFD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
        [UNICODE_NFKC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
        [UNICODE_NFKD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT,
    };
    while (len) {
        size_t part = bounded_marks_len(s, len);
        utf8proc_uint8_t *text = NULL;
        utf8proc_ssize_t n =
            utf8proc_map((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)part, &text, options[form]);
        if (n < 0)
            return err_set(err, ERR_INVALID, "normalize text: %s", utf8proc_errmsg(n));
        buf_append(out, text, (size_t)n);
        free(text);
        s += part;
        len -= part;
    }
    return OK;
}

void unicode_append_lower(struct buf *out, const char *s, size_t len) {
    for (size_t i = 0; i < len;) {
        uint32_t code;
        size_t n = utf8_next(s + i, len - i, &code);
        if (!n) {
            buf_putc(out, s[i++]);
            continue;
        }
        utf8_append(out, (uint32_t)utf8proc_tolower((utf8proc_int32_t)code));
        i += n;
    }
}
