/* WebSocket, the server's side (RFC 6455): the handshake's words and the codec. Pure: no sockets,
 * no threads; whoever has the connection feeds the reader and sends what the writers append. */
#ifndef CORE_WEBSOCKET_H
#define CORE_WEBSOCKET_H

#include "core/base/buf.h"

enum {
    WEBSOCKET_MESSAGE_BYTES_MAX = 1 << 20, /* of all its fragments; above: close code 1009 */
    WEBSOCKET_CONTROL_BYTES_MAX = 125,
    WEBSOCKET_KEY_BYTES = 24, /* of Sec-WebSocket-Key: 16 bytes in base64 */
    WEBSOCKET_ACCEPT_BYTES = 29,
};

enum websocket_opcode {
    WEBSOCKET_CONTINUATION = 0,
    WEBSOCKET_TEXT = 1,
    WEBSOCKET_BINARY = 2,
    WEBSOCKET_CLOSE = 8,
    WEBSOCKET_PING = 9,
    WEBSOCKET_PONG = 10,
};

enum websocket_code {
    WEBSOCKET_NORMAL = 1000,
    WEBSOCKET_GOING_AWAY = 1001,
    WEBSOCKET_PROTOCOL_ERROR = 1002,
    WEBSOCKET_UNSUPPORTED_DATA = 1003,
    WEBSOCKET_NO_CODE = 1005, /* never sent */
    WEBSOCKET_BAD_TEXT = 1007,
    WEBSOCKET_TOO_BIG = 1009,
    WEBSOCKET_SERVER_ERROR = 1011,
};

/* The value of Sec-WebSocket-Accept for a key. False: the key is not 16 bytes in base64. */
MUST_CHECK bool websocket_accept(const char *key, char ret_accept[WEBSOCKET_ACCEPT_BYTES]);

/* A whole message, its fragments joined, or one control frame, which may come between the fragments
 * of a message. */
struct websocket_message {
    enum websocket_opcode opcode; /* TEXT, BINARY, CLOSE, PING, PONG */
    const char *data; /* borrowed until the reader is used again; of CLOSE: the reason's text */
    size_t len;
    uint16_t close_code; /* of CLOSE; WEBSOCKET_NO_CODE: the frame is empty */
};

/* In place: zeroed is ready. Text is valid UTF-8. Holds less than one message and what was fed. */
struct websocket_reader {
    struct buf in; /* fed, not read yet */
    size_t at;
    struct buf message;           /* fragments so far */
    enum websocket_opcode opcode; /* of the message; CONTINUATION: none has begun */
    bool done;                    /* the message was given, and goes with the next call */
    enum errc failed;             /* for good */
};
void websocket_reader_deinit(struct websocket_reader *r);

void websocket_feed(struct websocket_reader *r, const void *data, size_t len);

enum websocket_result { WEBSOCKET_MORE, WEBSOCKET_MESSAGE, WEBSOCKET_FAILED };
/* Gives the next message. MORE: feed first. FAILED: the client broke the protocol or a bound; err
 * says how and *ret_code what to close with; nothing more is read. */
MUST_CHECK enum websocket_result websocket_next(struct websocket_reader *r,
                                                struct websocket_message *ret_message,
                                                enum websocket_code *ret_code, struct error *err);

/* Appends a frame: a whole message, or a control frame (data within its bound). */
void websocket_write(struct buf *out, enum websocket_opcode opcode, const void *data, size_t len);
/* The same without its payload: the caller appends exactly len bytes. */
void websocket_write_head(struct buf *out, enum websocket_opcode opcode, size_t len);
void websocket_write_close(struct buf *out, enum websocket_code code, const char *reason); /* cut */

#endif
