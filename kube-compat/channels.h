/* The streams of exec and attach, whatever carries them: frames of a WebSocket with a channel
 * number, or streams of a SPDY connection. Pure; on the tunnel's thread. */
#ifndef KUBE_COMPAT_CHANNELS_H
#define KUBE_COMPAT_CHANNELS_H

#include "core/base/buf.h"

enum channel { /* the numbers of channel.k8s.io */
               CHANNEL_STDIN,
               CHANNEL_STDOUT,
               CHANNEL_STDERR,
               CHANNEL_ERROR, /* a Status, at the end */
               CHANNEL_RESIZE,
               CHANNEL_COUNT,
};

struct channel_event {
    enum channel channel; /* STDIN or RESIZE */
    bool end;             /* no data: the client closes this channel */
    const char *data;     /* borrowed until the next call */
    size_t len;
};

enum channels_result {
    CHANNELS_MORE,   /* feed first */
    CHANNELS_EVENT,  /* one is given */
    CHANNELS_CLOSED, /* the client is through */
    CHANNELS_BROKEN, /* it broke the protocol; err says how, `out` has what to say to that */
};

struct channels;

/* One of two: channels_websocket.c, channels_spdy.c. */
struct channels_ops {
    void (*feed)(struct channels *c, const void *data, size_t len);
    enum channels_result (*next)(struct channels *c, struct buf *out, struct channel_event *ret,
                                 struct error *err);
    bool (*ready)(const struct channels *c); /* every channel that the client asked for is open */
    void (*write)(struct channels *c, struct buf *out, enum channel channel, const void *data,
                  size_t len);
    void (*close)(struct channels *c, struct buf *out); /* all of them; the last word */
    void (*ping)(struct channels *c, struct buf *out);
    void (*destroy)(struct channels *c);
};
struct channels {
    const struct channels_ops *ops;
};

/* protocol: what was agreed upon, "v5.channel.k8s.io" or "v4.channel.k8s.io". Gives. */
struct channels *channels_websocket_create(const char *protocol);

/* Ready when each of the expected ones is open; others are refused. Gives. */
struct channels *channels_spdy_create(const bool expected[CHANNEL_COUNT]);

extern const char *const channels_websocket_protocols[]; /* NULL-terminated */
extern const char *const channels_spdy_protocols[];

static inline void channels_destroy(struct channels *c) {
    if (c)
        c->ops->destroy(c);
}

#endif
