/* SPDY frames: the first byte says in how large pieces the rest is fed.
 *
 * Promises: how the bytes are cut changes nothing of what is read but where a data frame is cut,
 * too; header blocks and data are within their bounds; a reader that failed stays so. */
#include "core/spdy.h"

#include "tests/fuzz/fuzz.h"

/* data_of: the stream whose data frame goes on; -1: none does. */
static void note(const struct spdy_event *e, int64_t *data_of, struct buf *out) {
    bool goes_on = e->type == SPDY_DATA && *data_of == e->stream;
    if (!goes_on)
        buf_printf(out, " %d:%u:%u ", (int)e->type, e->stream, e->ping_id);
    ASSERT(e->num_headers <= SPDY_HEADERS_MAX);
    size_t bytes = 0;
    for (size_t i = 0; i < e->num_headers; i++) {
        buf_printf(out, "%s=%s;", e->headers[i].name, e->headers[i].value);
        bytes += strlen(e->headers[i].name) + strlen(e->headers[i].value);
    }
    ASSERT(bytes <= SPDY_HEADERS_BYTES_MAX);
    buf_append(out, e->data ? e->data : "", e->len);
    *data_of = e->type == SPDY_DATA && !e->fin ? (int64_t)e->stream : -1;
    if (e->fin)
        buf_putc(out, '|');
}

/* Reads everything, and writes down what came. Data of one stream that follows itself is joined, so
 * that the cuts do not show. */
static void read_all(const uint8_t *data, size_t size, size_t step, struct buf *out) {
    AUTO(spdy_reader) r = spdy_reader_create();
    enum spdy_result result = SPDY_MORE;
    int64_t data_of = -1;
    struct spdy_event e;
    for (size_t at = 0; at < size && result != SPDY_FAILED; at += step) {
        struct error err = ERROR_INIT;
        spdy_feed(r, data + at, size - at < step ? size - at : step);
        while ((result = spdy_next(r, &e, &err)) == SPDY_EVENT)
            note(&e, &data_of, out);
        ASSERT((result == SPDY_FAILED) == (err.code != OK));
    }
    if (result != SPDY_FAILED)
        return;
    struct error err = ERROR_INIT;
    buf_puts(out, " failed");
    ASSERT(spdy_next(r, &e, &err) == SPDY_FAILED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    AUTO_BUF whole = BUF_INIT;
    AUTO_BUF pieces = BUF_INIT;
    if (!size)
        return 0;
    size_t step = (size_t)data[0] % 64 + 1;
    read_all(data + 1, size - 1, size, &whole);
    read_all(data + 1, size - 1, step, &pieces);
    ASSERT(whole.len == pieces.len);
    ASSERT(!whole.len || !memcmp(whole.data, pieces.data, whole.len));
    return 0;
}
