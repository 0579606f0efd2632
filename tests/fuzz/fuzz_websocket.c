/* WebSocket frames: the first byte says in how large pieces the rest is fed.
 *
 * Promises: how the bytes are cut changes nothing of what is read; a message is within its bound; a
 * reader that failed stays so. */
#include "core/websocket.h"

#include "tests/fuzz/fuzz.h"

/* Reads everything, and writes down what came. */
static void read_all(const uint8_t *data, size_t size, size_t step, struct buf *out) {
    struct websocket_reader r = {0};
    enum websocket_result result = WEBSOCKET_MORE;
    enum websocket_code code = 0;
    for (size_t at = 0; at < size && result != WEBSOCKET_FAILED; at += step) {
        struct websocket_message m;
        struct error err = ERROR_INIT;
        websocket_feed(&r, data + at, size - at < step ? size - at : step);
        while ((result = websocket_next(&r, &m, &code, &err)) == WEBSOCKET_MESSAGE) {
            ASSERT(m.len <= WEBSOCKET_MESSAGE_BYTES_MAX);
            ASSERT(m.opcode < WEBSOCKET_CLOSE || m.len <= WEBSOCKET_CONTROL_BYTES_MAX);
            buf_printf(out, "%d %zu %u ", (int)m.opcode, m.len,
                       m.opcode == WEBSOCKET_CLOSE ? m.close_code : 0u);
            buf_append(out, m.data, m.len);
        }
        ASSERT((result == WEBSOCKET_FAILED) == (err.code != OK));
    }
    if (result == WEBSOCKET_FAILED) {
        struct websocket_message m;
        enum websocket_code again;
        struct error err = ERROR_INIT;
        buf_printf(out, "failed %d", (int)code);
        ASSERT(websocket_next(&r, &m, &again, &err) == WEBSOCKET_FAILED);
    }
    websocket_reader_deinit(&r);
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
