/* Stop strings in streamed text.
 *
 * `held` is always the longest tail of the text that could still become a stop string: shorter than
 * the longest of them. The earliest match wins; at one place the first string in the list. */
#include "api/stop_match.h"

void stop_match_init(struct stop_match *m, const char *const *strings, uint32_t num_strings,
                     bool include) {
    *m = (struct stop_match){.strings = strings, .num_strings = num_strings, .include = include};
}

void stop_match_deinit(struct stop_match *m) {
    buf_deinit(&m->held);
}

/* Bytes at the end of text that are the beginning of a stop string. */
static size_t possible_start(const struct stop_match *m) {
    size_t longest = 0;
    for (uint32_t i = 0; i < m->num_strings; i++) {
        size_t n = strlen(m->strings[i]) - 1;
        if (n > m->held.len)
            n = m->held.len;
        for (; n > longest; n--) {
            if (!memcmp(m->held.data + m->held.len - n, m->strings[i], n)) {
                longest = n;
                break;
            }
        }
    }
    return longest;
}

const char *stop_match_push(struct stop_match *m, const char *text, size_t len, struct buf *out) {
    if (!m->num_strings) {
        buf_append(out, text, len);
        return NULL;
    }
    buf_append(&m->held, text, len);
    const char *found = NULL, *at = NULL;
    for (uint32_t i = 0; i < m->num_strings; i++) {
        const char *p = memmem(m->held.data, m->held.len, m->strings[i], strlen(m->strings[i]));
        if (p && (!at || p < at)) {
            at = p;
            found = m->strings[i];
        }
    }
    size_t certain = found ? (size_t)(at - m->held.data) + (m->include ? strlen(found) : 0)
                           : m->held.len - possible_start(m);
    buf_append(out, m->held.data, certain);
    buf_consume(&m->held, found ? m->held.len : certain);
    return found;
}

void stop_match_flush(struct stop_match *m, struct buf *out) {
    buf_append(out, m->held.data, m->held.len);
    buf_clear(&m->held);
}
