/* channel.k8s.io: binary messages whose first byte is the channel's number.
 *
 * Version 5 adds the end of a channel, the message 255 NUMBER, with which a client ends stdin.
 * Version 4 has none: there the command's input ends with the connection. A text message is not
 * part of the protocol and ends it. */
#include "kube-compat/channels.h"

#include "core/websocket.h"

enum { CLOSE_CHANNEL = 255, PIECE_BYTES_MAX = 32 << 10 };

const char *const channels_websocket_protocols[] = {"v5.channel.k8s.io", "v4.channel.k8s.io", NULL};

struct websocket_channels {
    struct channels base;
    struct websocket_reader reader;
    bool has_ends; /* version 5 */
};

static struct websocket_channels *of(struct channels *c) {
    return (struct websocket_channels *)c;
}

static void feed(struct channels *c, const void *data, size_t len) {
    websocket_feed(&of(c)->reader, data, len);
}

static enum channels_result broken(struct buf *out, enum websocket_code code,
                                   const struct error *err) {
    websocket_write_close(out, code, err->text);
    return CHANNELS_BROKEN;
}

/* A binary message. EVENT, BROKEN, or MORE: it says nothing. */
static enum channels_result read_binary(const struct websocket_channels *w, struct buf *out,
                                        const struct websocket_message *m,
                                        struct channel_event *ret, struct error *err) {
    const unsigned char *p = (const unsigned char *)m->data;
    if (!m->len)
        return CHANNELS_MORE;
    bool end = w->has_ends && p[0] == CLOSE_CHANNEL;
    if (end && m->len != 2) {
        err_set(err, ERR_MALFORMED, "the end of a channel of %zu bytes", m->len);
        return broken(out, WEBSOCKET_PROTOCOL_ERROR, err);
    }
    unsigned channel = end ? p[1] : p[0];
    if (end && channel < CHANNEL_COUNT && channel != CHANNEL_STDIN)
        return CHANNELS_MORE; /* it does not want to send more there; it never could */
    if (channel != CHANNEL_STDIN && channel != CHANNEL_RESIZE) {
        err_set(err, ERR_MALFORMED, "channel %u is not the client's to write", channel);
        return broken(out, WEBSOCKET_PROTOCOL_ERROR, err);
    }
    *ret = (struct channel_event){.channel = (enum channel)channel,
                                  .end = end,
                                  .data = end ? "" : m->data + 1,
                                  .len = end ? 0 : m->len - 1};
    return !end && !ret->len ? CHANNELS_MORE : CHANNELS_EVENT; /* kubectl opens channels so */
}

static enum channels_result next(struct channels *c, struct buf *out, struct channel_event *ret,
                                 struct error *err) {
    struct websocket_channels *w = of(c);
    for (;;) {
        struct websocket_message m;
        enum websocket_code code;
        enum channels_result result = CHANNELS_MORE;
        switch (websocket_next(&w->reader, &m, &code, err)) {
        case WEBSOCKET_MORE:
            return CHANNELS_MORE;
        case WEBSOCKET_FAILED:
            return broken(out, code, err);
        case WEBSOCKET_MESSAGE:
            break;
        }
        if (m.opcode == WEBSOCKET_CLOSE) {
            websocket_write_close(out, WEBSOCKET_NORMAL, "");
            return CHANNELS_CLOSED;
        }
        if (m.opcode == WEBSOCKET_PING)
            websocket_write(out, WEBSOCKET_PONG, m.data, m.len);
        if (m.opcode == WEBSOCKET_TEXT) {
            err_set(err, ERR_MALFORMED, "a text message where channels are binary");
            result = broken(out, WEBSOCKET_UNSUPPORTED_DATA, err);
        }
        if (m.opcode == WEBSOCKET_BINARY)
            result = read_binary(w, out, &m, ret, err);
        if (result != CHANNELS_MORE)
            return result;
    }
}

static bool ready(const struct channels *c) {
    return true;
}

static void write_channel(struct channels *c, struct buf *out, enum channel channel,
                          const void *data, size_t len) {
    const char *p = data;
    while (len) {
        size_t n = len < PIECE_BYTES_MAX ? len : PIECE_BYTES_MAX;
        websocket_write_head(out, WEBSOCKET_BINARY, n + 1);
        buf_putc(out, (char)channel);
        buf_append(out, p, n);
        p += n;
        len -= n;
    }
}

static void close_all(struct channels *c, struct buf *out) {
    websocket_write_close(out, WEBSOCKET_NORMAL, "");
}

static void ping(struct channels *c, struct buf *out) {
    websocket_write(out, WEBSOCKET_PING, "", 0);
}

static void destroy(struct channels *c) {
    websocket_reader_deinit(&of(c)->reader);
    free(c);
}

struct channels *channels_websocket_create(const char *protocol) {
    static const struct channels_ops ops = {.feed = feed,
                                            .next = next,
                                            .ready = ready,
                                            .write = write_channel,
                                            .close = close_all,
                                            .ping = ping,
                                            .destroy = destroy};
    struct websocket_channels *w = mem_alloc(sizeof(*w));
    w->base.ops = &ops;
    w->has_ends = !strcmp(protocol, channels_websocket_protocols[0]);
    return &w->base;
}
