/* Channels over SPDY: one stream each, which the client opens with the header `streamtype`, and
 * which end like any stream. The command starts when all that the query promises are there. */
#include "kube-compat/channels.h"

#include "core/spdy.h"

const char *const channels_spdy_protocols[] = {"v4.channel.k8s.io", NULL};

struct spdy_channels {
    struct channels base;
    struct spdy_reader *reader;
    struct spdy_writer writer;
    bool expected[CHANNEL_COUNT];
    bool opened[CHANNEL_COUNT];      /* once, for good */
    uint32_t streams[CHANNEL_COUNT]; /* 0: not open */
    uint32_t last_stream;
};

static const char *const names[CHANNEL_COUNT] = {
    [CHANNEL_STDIN] = "stdin", [CHANNEL_STDOUT] = "stdout", [CHANNEL_STDERR] = "stderr",
    [CHANNEL_ERROR] = "error", [CHANNEL_RESIZE] = "resize",
};

static struct spdy_channels *of(struct channels *c) {
    return (struct spdy_channels *)c;
}

static void feed(struct channels *c, const void *data, size_t len) {
    spdy_feed(of(c)->reader, data, len);
}

static bool ready(const struct channels *c) {
    const struct spdy_channels *s = (const struct spdy_channels *)c;
    for (int i = 0; i < CHANNEL_COUNT; i++) {
        if (s->expected[i] && !s->opened[i])
            return false;
    }
    return true;
}

/* False: it is refused. */
static bool open_stream(struct spdy_channels *s, struct buf *out, const struct spdy_event *e) {
    const char *type = spdy_header(e, "streamtype");
    s->last_stream = e->stream;
    for (int i = 0; i < CHANNEL_COUNT; i++) {
        if (!type || strcmp(type, names[i]) != 0 || !s->expected[i] || s->opened[i])
            continue;
        s->opened[i] = true;
        s->streams[i] = e->stream;
        spdy_write_reply(&s->writer, out, e->stream);
        return true;
    }
    spdy_write_reset(out, e->stream, SPDY_REFUSED_STREAM);
    return false;
}

/* Something about one stream. True: *ret is an event for the owner. */
static bool read_stream(struct spdy_channels *s, const struct spdy_event *e,
                        struct channel_event *ret) {
    static const enum channel from_client[] = {CHANNEL_STDIN, CHANNEL_RESIZE};
    for (size_t i = 0; i < ARRAY_LEN(from_client); i++) {
        enum channel channel = from_client[i];
        if (!e->stream || s->streams[channel] != e->stream)
            continue;
        bool end = e->fin || e->type == SPDY_RESET;
        *ret = (struct channel_event){.channel = channel, .data = e->data, .len = e->len};
        ret->end = end && !e->len;
        if (end)
            s->streams[channel] = 0;
        return e->len || end;
    }
    return false;
}

static enum channels_result next(struct channels *c, struct buf *out, struct channel_event *ret,
                                 struct error *err) {
    struct spdy_channels *s = of(c);
    struct spdy_event e;
    for (;;) {
        switch (spdy_next(s->reader, &e, err)) {
        case SPDY_MORE:
            return CHANNELS_MORE;
        case SPDY_FAILED:
            spdy_write_goaway(out, s->last_stream);
            return CHANNELS_BROKEN;
        case SPDY_EVENT:
            break;
        }
        if (e.type == SPDY_GOAWAY)
            return CHANNELS_CLOSED;
        if (e.type == SPDY_PING)
            spdy_write_ping(out, e.ping_id);
        if (e.type == SPDY_OPEN && open_stream(s, out, &e) && ready(c))
            return CHANNELS_MORE; /* who waits for that does not want what comes behind it yet */
        if (read_stream(s, &e, ret))
            return CHANNELS_EVENT;
    }
}

static void write_channel(struct channels *c, struct buf *out, enum channel channel,
                          const void *data, size_t len) {
    if (of(c)->streams[channel])
        spdy_write_data(out, of(c)->streams[channel], data, len, false);
}

static void close_all(struct channels *c, struct buf *out) {
    static const enum channel from_us[] = {CHANNEL_STDOUT, CHANNEL_STDERR, CHANNEL_ERROR};
    for (size_t i = 0; i < ARRAY_LEN(from_us); i++) {
        if (of(c)->streams[from_us[i]])
            spdy_write_data(out, of(c)->streams[from_us[i]], "", 0, true);
    }
}

static void ping(struct channels *c, struct buf *out) {
    spdy_write_ping(out, 2);
}

static void destroy(struct channels *c) {
    spdy_reader_destroy(of(c)->reader);
    free(c);
}

struct channels *channels_spdy_create(const bool expected[CHANNEL_COUNT]) {
    static const struct channels_ops ops = {.feed = feed,
                                            .next = next,
                                            .ready = ready,
                                            .write = write_channel,
                                            .close = close_all,
                                            .ping = ping,
                                            .destroy = destroy};
    struct spdy_channels *s = mem_alloc(sizeof(*s));
    s->base.ops = &ops;
    s->reader = spdy_reader_create();
    memcpy(s->expected, expected, sizeof(s->expected));
    return &s->base;
}
