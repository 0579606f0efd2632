/* Base64: three bytes are four letters. */
#include "core/base/base64.h"

static const char standard[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char url_safe[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void append(struct buf *out, const unsigned char *p, size_t len, const char *letters,
                   bool padded) {
    for (size_t i = 0; i < len; i += 3) {
        size_t left = len - i;
        uint32_t v = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) |
                     (left > 2 ? p[i + 2] : 0);
        buf_putc(out, letters[v >> 18]);
        buf_putc(out, letters[v >> 12 & 63]);
        if (left > 1)
            buf_putc(out, letters[v >> 6 & 63]);
        else if (padded)
            buf_putc(out, '=');
        if (left > 2)
            buf_putc(out, letters[v & 63]);
        else if (padded)
            buf_putc(out, '=');
    }
}

void base64_append(struct buf *out, const void *data, size_t len) {
    append(out, data, len, standard, true);
}

void base64url_append(struct buf *out, const void *data, size_t len) {
    append(out, data, len, url_safe, false);
}

/* len letters, without padding. */
static bool decode(struct buf *out, const char *text, size_t len, const char *letters) {
    if (len % 4 == 1)
        return false;
    uint32_t bits = 0;
    int num_bits = 0;
    for (size_t i = 0; i < len; i++) {
        const char *at = strchr(letters, text[i]);
        if (!at)
            return false;
        bits = bits << 6 | (uint32_t)(at - letters);
        num_bits += 6;
        if (num_bits >= 8) {
            num_bits -= 8;
            buf_putc(out, (char)(bits >> num_bits & 0xFF));
        }
    }
    return true;
}

bool base64url_decode(struct buf *out, const char *text) {
    return decode(out, text, strlen(text), url_safe);
}

bool base64_decode(struct buf *out, const char *text) {
    size_t len = strlen(text);
    return base64_check(text, len) && decode(out, text, strcspn(text, "="), standard);
}

bool base64_check(const char *text, size_t len) {
    size_t body = strspn(text, standard);
    return len % 4 == 0 && len - body <= 2 && strspn(text + body, "=") == len - body;
}
