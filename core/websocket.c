/* WebSocket frames (RFC 6455 section 5.2), as a client sends them:
 *
 *   byte 0   FIN | 3 reserved bits | opcode (4)
 *   byte 1   MASK, which a client must set | length (7): 0..125, or
 *            126: length in the next 2 bytes, 127: in the next 8, big-endian, never longer than it
 *            needs to be
 *   4 bytes  the mask, xor-ed over the payload from its first byte on
 *
 * A message is one frame, or a first frame without FIN, continuations, and a last one with FIN;
 * control frames are whole, short, and may stand between. What we send is never masked and never
 * fragmented.
 *
 * Everything that the RFC calls a failure ends the reader for good: after it the borders of frames
 * are not known any more. */
#include "core/websocket.h"

#include <mbedtls/sha1.h>

#include "core/base/base64.h"
#include "core/base/utf8.h"

enum {
    FIN_BIT = 0x80,
    RESERVED_BITS = 0x70,
    OPCODE_BITS = 0x0f,
    CONTROL_BIT = 0x08,
    MASK_BIT = 0x80,
    LENGTH_BITS = 0x7f,
    LENGTH_16 = 126,
    LENGTH_64 = 127,
    MASK_BYTES = 4,
    KEPT_BYTES_MAX = 64 << 10, /* an empty buffer larger than this is given back */
};

/* ---- handshake ---- */

bool websocket_accept(const char *key, char ret_accept[WEBSOCKET_ACCEPT_BYTES]) {
    static const char GUID[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    if (strlen(key) != WEBSOCKET_KEY_BYTES || !base64_check(key, WEBSOCKET_KEY_BYTES) ||
        key[WEBSOCKET_KEY_BYTES - 3] == '=' || key[WEBSOCKET_KEY_BYTES - 2] != '=')
        return false; /* 22 digits and two signs of padding: 16 bytes */
    unsigned char text[WEBSOCKET_KEY_BYTES + sizeof(GUID) - 1], digest[20];
    memcpy(text, key, WEBSOCKET_KEY_BYTES);
    memcpy(text + WEBSOCKET_KEY_BYTES, GUID, sizeof(GUID) - 1);
    if (mbedtls_sha1_ret(text, sizeof(text), digest))
        return false;
    AUTO_BUF accept = BUF_INIT;
    base64_append(&accept, digest, sizeof(digest));
    memcpy(ret_accept, accept.data, WEBSOCKET_ACCEPT_BYTES);
    return true;
}

/* ---- reading ---- */

struct frame {
    enum websocket_opcode opcode;
    bool fin;
    size_t head_len;
    uint64_t len;
    const unsigned char *mask;
};

void websocket_reader_deinit(struct websocket_reader *r) {
    buf_deinit(&r->in);
    buf_deinit(&r->message);
}

/* Empties a buffer, and gives much memory back. */
static void drop(struct buf *b) {
    buf_clear(b);
    if (b->cap > KEPT_BYTES_MAX)
        buf_deinit(b);
}

void websocket_feed(struct websocket_reader *r, const void *data, size_t len) {
    if (r->at == r->in.len) {
        drop(&r->in);
        r->at = 0;
    } else if (r->at > KEPT_BYTES_MAX) {
        buf_consume(&r->in, r->at);
        r->at = 0;
    }
    buf_append(&r->in, data, len);
}

static enum websocket_result fail(struct websocket_reader *r, enum websocket_code code,
                                  enum websocket_code *ret_code, const struct error *err) {
    r->failed = err->code;
    *ret_code = code;
    return WEBSOCKET_FAILED;
}

/* Is the opcode one that may stand here? */
static enum errc check_opcode(const struct websocket_reader *r, const struct frame *f,
                              struct error *err) {
    switch (f->opcode) {
    case WEBSOCKET_CONTINUATION:
        return r->opcode ? OK : err_set(err, ERR_MALFORMED, "a continuation of no message");
    case WEBSOCKET_TEXT:
    case WEBSOCKET_BINARY:
        return r->opcode ? err_set(err, ERR_MALFORMED, "a new message inside another") : OK;
    case WEBSOCKET_CLOSE:
    case WEBSOCKET_PING:
    case WEBSOCKET_PONG:
        if (!f->fin)
            return err_set(err, ERR_MALFORMED, "a control frame in fragments");
        return f->len <= WEBSOCKET_CONTROL_BYTES_MAX
                   ? OK
                   : err_set(err, ERR_MALFORMED, "a control frame of more than %d bytes",
                             WEBSOCKET_CONTROL_BYTES_MAX);
    }
    return err_set(err, ERR_MALFORMED, "opcode %d", (int)f->opcode);
}

/* Reads the length behind the first two bytes; gives how many bytes that takes. */
static size_t read_length(const unsigned char *p, struct frame *f) {
    f->len = p[1] & LENGTH_BITS;
    size_t bytes = f->len == LENGTH_16 ? 2 : f->len == LENGTH_64 ? 8 : 0;
    if (bytes)
        f->len = 0;
    for (size_t i = 0; i < bytes; i++)
        f->len = f->len << 8 | p[2 + i];
    return bytes;
}

/* The frame's head. MORE: it is not all there. */
static enum websocket_result read_head(struct websocket_reader *r, struct frame *f,
                                       enum websocket_code *ret_code, struct error *err) {
    const unsigned char *p = (const unsigned char *)r->in.data + r->at;
    size_t have = r->in.len - r->at;
    if (have < 2)
        return WEBSOCKET_MORE;
    unsigned length = p[1] & LENGTH_BITS;
    size_t extra = length == LENGTH_16 ? 2 : length == LENGTH_64 ? 8 : 0;
    if (p[0] & RESERVED_BITS)
        err_set(err, ERR_MALFORMED, "a reserved bit is set");
    else if (!(p[1] & MASK_BIT))
        err_set(err, ERR_MALFORMED, "a frame without a mask");
    if (err->code)
        return fail(r, WEBSOCKET_PROTOCOL_ERROR, ret_code, err);
    if (have < 2 + extra + MASK_BYTES)
        return WEBSOCKET_MORE;
    read_length(p, f);
    f->opcode = p[0] & OPCODE_BITS;
    f->fin = p[0] & FIN_BIT;
    f->mask = p + 2 + extra;
    f->head_len = 2 + extra + MASK_BYTES;
    if ((extra == 2 && f->len < LENGTH_16) || (extra == 8 && f->len <= UINT16_MAX))
        err_set(err, ERR_MALFORMED, "a length that takes more bytes than it needs");
    if (err->code || check_opcode(r, f, err))
        return fail(r, WEBSOCKET_PROTOCOL_ERROR, ret_code, err);
    if (!(f->opcode & CONTROL_BIT) && f->len > WEBSOCKET_MESSAGE_BYTES_MAX - r->message.len) {
        err_set(err, ERR_TOO_LARGE, "a message of more than %d bytes", WEBSOCKET_MESSAGE_BYTES_MAX);
        return fail(r, WEBSOCKET_TOO_BIG, ret_code, err);
    }
    return WEBSOCKET_MESSAGE;
}

/* Codes that may stand in a frame (RFC 6455 section 7.4). */
static bool is_close_code(unsigned code) {
    return (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) ||
           (code >= 3000 && code <= 4999);
}

/* The payload of a CLOSE frame stands in the message. */
static enum errc read_close(struct websocket_message *m, struct error *err) {
    const unsigned char *p = (const unsigned char *)m->data;
    m->close_code = WEBSOCKET_NO_CODE;
    if (!m->len)
        return OK;
    unsigned code = m->len >= 2 ? (unsigned)p[0] << 8 | p[1] : 0;
    if (!is_close_code(code))
        return err_set(err, ERR_MALFORMED, "close code %u", code);
    m->close_code = (uint16_t)code;
    m->data += 2;
    m->len -= 2;
    return utf8_check(m->data, m->len) ? OK : err_set(err, ERR_MALFORMED, "a reason not in UTF-8");
}

/* The bytes of a frame, unmasked where they stand. */
static char *unmask(struct websocket_reader *r, const struct frame *f) {
    unsigned char mask[MASK_BYTES];
    memcpy(mask, f->mask, sizeof(mask));
    char *payload = r->in.data + r->at + f->head_len;
    for (size_t i = 0; i < f->len; i++)
        payload[i] = (char)((unsigned char)payload[i] ^ mask[i % MASK_BYTES]);
    return payload;
}

/* The end of a message. */
static enum websocket_result give_message(struct websocket_reader *r,
                                          struct websocket_message *ret_message,
                                          enum websocket_code *ret_code, struct error *err) {
    *ret_message = (struct websocket_message){
        .opcode = r->opcode, .data = r->message.data ? r->message.data : "", .len = r->message.len};
    r->opcode = WEBSOCKET_CONTINUATION;
    r->done = true;
    if (ret_message->opcode == WEBSOCKET_BINARY || utf8_check(ret_message->data, ret_message->len))
        return WEBSOCKET_MESSAGE;
    err_set(err, ERR_MALFORMED, "a text message that is not UTF-8");
    return fail(r, WEBSOCKET_BAD_TEXT, ret_code, err);
}

enum websocket_result websocket_next(struct websocket_reader *r,
                                     struct websocket_message *ret_message,
                                     enum websocket_code *ret_code, struct error *err) {
    if (r->done)
        drop(&r->message);
    r->done = false;
    *ret_code = WEBSOCKET_PROTOCOL_ERROR;
    if (r->failed) {
        err_set(err, r->failed, "nothing is read behind a broken frame");
        return WEBSOCKET_FAILED;
    }
    for (;;) {
        struct frame f;
        enum websocket_result result = read_head(r, &f, ret_code, err);
        if (result != WEBSOCKET_MESSAGE)
            return result;
        if (r->in.len - r->at - f.head_len < f.len)
            return WEBSOCKET_MORE;
        char *payload = unmask(r, &f);
        r->at += f.head_len + (size_t)f.len;
        if (f.opcode & CONTROL_BIT) {
            *ret_message = (struct websocket_message){
                .opcode = f.opcode, .data = payload, .len = (size_t)f.len};
            if (f.opcode == WEBSOCKET_CLOSE && read_close(ret_message, err))
                return fail(r, WEBSOCKET_PROTOCOL_ERROR, ret_code, err);
            return WEBSOCKET_MESSAGE;
        }
        if (f.opcode)
            r->opcode = f.opcode;
        buf_append(&r->message, payload, (size_t)f.len);
        if (f.fin)
            return give_message(r, ret_message, ret_code, err);
    }
}

/* ---- writing ---- */

void websocket_write_head(struct buf *out, enum websocket_opcode opcode, size_t len) {
    size_t bytes = len < LENGTH_16 ? 0 : len <= UINT16_MAX ? 2 : 8;
    buf_putc(out, (char)(FIN_BIT | (int)opcode));
    buf_putc(out, (char)(bytes == 0 ? len : bytes == 2 ? LENGTH_16 : LENGTH_64));
    for (size_t i = bytes; i-- > 0;)
        buf_putc(out, (char)((uint64_t)len >> (8 * i)));
}

void websocket_write(struct buf *out, enum websocket_opcode opcode, const void *data, size_t len) {
    ASSERT(!((int)opcode & CONTROL_BIT) || len <= WEBSOCKET_CONTROL_BYTES_MAX);
    websocket_write_head(out, opcode, len);
    buf_append(out, data, len);
}

void websocket_write_close(struct buf *out, enum websocket_code code, const char *reason) {
    size_t len = strlen(reason);
    if (len > WEBSOCKET_CONTROL_BYTES_MAX - 2)
        len = WEBSOCKET_CONTROL_BYTES_MAX - 2;
    while (len && !utf8_check(reason, len)) /* a character was cut */
        len--;
    websocket_write_head(out, WEBSOCKET_CLOSE, len + 2);
    buf_putc(out, (char)((unsigned)code >> 8));
    buf_putc(out, (char)code);
    buf_append(out, reason, len);
}
