/* UTF-8, by table 3-7 of the Unicode standard: after some first bytes the second is bounded more
 * narrowly than to 80..BF, which is what keeps out the forms that are too long, the surrogates and
 * what lies above the last character. */
#include "core/base/utf8.h"

static size_t length_by_first(unsigned char first) {
    return first < 0x80   ? 1
           : first < 0xc2 ? 0
           : first < 0xe0 ? 2
           : first < 0xf0 ? 3
           : first < 0xf5 ? 4
                          : 0;
}

size_t utf8_character(const char *text, size_t len) {
    const unsigned char *p = (const unsigned char *)text;
    size_t num = len ? length_by_first(p[0]) : 0;
    if (num < 2)
        return num;
    unsigned low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
    unsigned high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
    for (size_t i = 1; i < num; i++) {
        if (i >= len || p[i] < low || p[i] > high)
            return 0;
        low = 0x80;
        high = 0xbf;
    }
    return num;
}

bool utf8_check(const char *text, size_t len) {
    for (size_t at = 0, num; at < len; at += num) {
        num = utf8_character(text + at, len - at);
        if (!num)
            return false;
    }
    return true;
}
