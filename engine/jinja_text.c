/* UTF-8 as a sequence of code points. Templates are almost always ASCII where it matters, so each
 * function has a byte-wise fast path and falls back to utf8proc's tables. */
#include "engine/jinja_text.h"

#include <utf8proc.h>

bool jinja_text_valid(const char *s, size_t len) {
    const utf8proc_uint8_t *p = (const utf8proc_uint8_t *)s;
    for (size_t i = 0; i < len;) {
        if (p[i] < 0x80) {
            i++;
            continue;
        }
        utf8proc_int32_t cp;
        utf8proc_ssize_t n = utf8proc_iterate(p + i, (utf8proc_ssize_t)(len - i), &cp);
        if (n <= 0)
            return false;
        i += (size_t)n;
    }
    return true;
}

uint32_t jinja_text_decode(const char *s, size_t len, size_t *ret_bytes) {
    const unsigned char *p = (const unsigned char *)s;
    if (p[0] < 0x80) {
        *ret_bytes = 1;
        return p[0];
    }
    utf8proc_int32_t cp;
    utf8proc_ssize_t n = utf8proc_iterate(p, (utf8proc_ssize_t)len, &cp);
    ASSERT(n > 0);
    *ret_bytes = (size_t)n;
    return (uint32_t)cp;
}

size_t jinja_text_encode(uint32_t cp, char *out) {
    return (size_t)utf8proc_encode_char((utf8proc_int32_t)cp, (utf8proc_uint8_t *)out);
}

size_t jinja_text_count(const char *s, size_t len) {
    size_t n = 0;
    for (size_t i = 0; i < len; i++)
        n += ((unsigned char)s[i] & 0xc0) != 0x80;
    return n;
}

size_t jinja_text_offset(const char *s, size_t len, size_t index) {
    for (size_t i = 0; i < len; i++)
        if (((unsigned char)s[i] & 0xc0) != 0x80 && index-- == 0)
            return i;
    return len;
}

bool jinja_text_is_space(uint32_t cp) {
    if (cp < 0x80)
        return (cp >= 9 && cp <= 13) || (cp >= 0x1c && cp <= 0x20);
    return cp == 0x85 || cp == 0xa0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) ||
           cp == 0x2028 || cp == 0x2029 || cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

bool jinja_text_is_letter(uint32_t cp) {
    if (cp < 0x80)
        return (cp | 32) >= 'a' && (cp | 32) <= 'z';
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

bool jinja_text_is_digit(uint32_t cp) {
    if (cp < 0x80)
        return cp >= '0' && cp <= '9';
    return utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_ND;
}

bool jinja_text_is_word(uint32_t cp) {
    if (cp < 0x80)
        return cp == '_' || jinja_text_is_letter(cp) || jinja_text_is_digit(cp);
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return (c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO) ||
           (c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO);
}

bool jinja_text_is_printable(uint32_t cp) {
    if (cp < 0x80)
        return cp >= 0x20 && cp < 0x7f;
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
        return false;
    default:
        return true;
    }
}

const char *jinja_text_find(const char *s, size_t len, const char *needle, size_t needle_len) {
    if (needle_len == 1)
        return memchr(s, *needle, len);
    return needle_len ? memmem(s, len, needle, needle_len) : s;
}

const char *jinja_text_rfind(const char *s, size_t len, const char *needle, size_t needle_len) {
    if (needle_len > len)
        return NULL;
    for (const char *p = s + len - needle_len;; p--) {
        if (!needle_len || memcmp(p, needle, needle_len) == 0)
            return p;
        if (p == s)
            return NULL;
    }
}

size_t jinja_text_space_prefix(const char *s, size_t len) {
    size_t i = 0, n;
    while (i < len && jinja_text_is_space(jinja_text_decode(s + i, len - i, &n)))
        i += n;
    return i;
}

size_t jinja_text_space_suffix(const char *s, size_t len) {
    size_t end = len;
    while (end > 0) {
        size_t start = end - 1, n;
        while (start > 0 && ((unsigned char)s[start] & 0xc0) == 0x80)
            start--;
        if (!jinja_text_is_space(jinja_text_decode(s + start, end - start, &n)))
            break;
        end = start;
    }
    return len - end;
}
