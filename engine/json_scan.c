/* A scanner over JSON text (RFC 8259). Nesting needs no stack: skipping only counts brackets, and
 * the callers, who know what they want to find, do the rest. */
#include "engine/json_scan.h"

#include "engine/tokenizer_unicode.h"

static void skip_space(struct json_scan *s) {
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\r' || *s->at == '\t'))
        s->at++;
}

bool json_scan_take(struct json_scan *s, char punctuation) {
    skip_space(s);
    if (s->at == s->end || *s->at != punctuation)
        return false;
    s->at++;
    return true;
}

int json_scan_peek(struct json_scan *s) {
    skip_space(s);
    return s->at < s->end ? (unsigned char)*s->at : -1;
}

/* Four hexadecimal digits; -1: something else. */
static int32_t hex4(struct json_scan *s) {
    if (s->end - s->at < 4)
        return -1;
    int32_t code = 0;
    for (int i = 0; i < 4; i++, s->at++) {
        char c = *s->at;
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return -1;
        code = code * 16 + digit;
    }
    return code;
}

/* What follows "\u": one code point, which may take a second escape. */
static bool unicode_escape(struct json_scan *s, struct buf *out) {
    int32_t code = hex4(s);
    if (code >= 0xD800 && code < 0xDC00) {
        if (s->end - s->at < 2 || s->at[0] != '\\' || s->at[1] != 'u')
            return false;
        s->at += 2;
        int32_t low = hex4(s);
        if (low < 0xDC00 || low > 0xDFFF)
            return false;
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    } else if (code < 0 || (code >= 0xDC00 && code <= 0xDFFF)) {
        return false;
    }
    utf8_append(out, (uint32_t)code);
    return true;
}

static bool escape(struct json_scan *s, struct buf *out) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (s->at == s->end)
        return false;
    char c = *s->at++;
    if (c == 'u')
        return unicode_escape(s, out);
    const char *which = c ? strchr(from, c) : NULL;
    if (!which)
        return false;
    buf_putc(out, to[which - from]);
    return true;
}

bool json_scan_string(struct json_scan *s, struct buf *out) {
    if (!json_scan_take(s, '"'))
        return false;
    size_t first = out->len;
    for (;;) {
        const char *run = s->at;
        while (s->at < s->end && *s->at != '"' && *s->at != '\\' && (unsigned char)*s->at >= 0x20)
            s->at++;
        buf_append(out, run, (size_t)(s->at - run));
        if (s->at == s->end)
            return false;
        char c = *s->at++;
        if (c == '"')
            return utf8_valid_len(out->data + first, out->len - first) == out->len - first;
        if (c != '\\' || !escape(s, out))
            return false;
    }
}

bool json_scan_integer(struct json_scan *s, int64_t *ret_value) {
    skip_space(s);
    const char *p = s->at;
    bool negative = p < s->end && *p == '-';
    p += negative;
    int64_t value = 0;
    const char *digits = p;
    for (; p < s->end && *p >= '0' && *p <= '9' && p - digits < 18; p++)
        value = value * 10 + (*p - '0');
    bool more = p < s->end && ((*p >= '0' && *p <= '9') || *p == '.' || *p == 'e' || *p == 'E');
    if (p == digits || more)
        return false;
    s->at = p;
    *ret_value = negative ? -value : value;
    return true;
}

static bool skip_string(struct json_scan *s) {
    for (s->at++; s->at < s->end && *s->at != '"'; s->at++)
        if (*s->at == '\\' && s->at + 1 < s->end)
            s->at++;
    if (s->at == s->end)
        return false;
    s->at++;
    return true;
}

bool json_scan_skip(struct json_scan *s) {
    skip_space(s);
    const char *start = s->at;
    size_t depth = 0;
    while (s->at < s->end) {
        char c = *s->at;
        if (c == '"') {
            if (!skip_string(s))
                return false;
        } else if (c == '{' || c == '[') {
            depth++;
            s->at++;
        } else if (c == '}' || c == ']') {
            if (!depth)
                return s->at > start;
            depth--;
            s->at++;
        } else if (!depth && c == ',') {
            return s->at > start;
        } else {
            s->at++;
            continue;
        }
        if (!depth)
            return true;
    }
    return false;
}
