/* Streams: answers that go on for minutes. One thread, the hub, pumps all watches and log readers:
 * sources (store, pod logs) and the HTTP server only set a flag and wake it. */
#ifndef KUBE_COMPAT_STREAM_H
#define KUBE_COMPAT_STREAM_H

#include "core/http.h"

struct stream;
struct stream_hub;

enum { STREAMS_MAX = 4096 };

/* What a stream is. pump moves what is ready from the source to stream_write(); true: the stream is
 * done. It runs on the hub thread, whenever the stream was woken, the client drained its buffer, or
 * every few seconds. destroy closes the source (after it no stream_wake() may come). */
struct stream_source {
    bool (*pump)(struct stream *s, void *user, int64_t now_ms);
    void (*destroy)(void *user);
    void *user; /* taken by stream_start() */
};

/* every_minute (may be NULL) runs on the hub thread: housekeeping that may write to the store. */
MUST_CHECK enum errc stream_hub_create(void (*every_minute)(void *user), void *user,
                                       struct stream_hub **ret_hub, struct error *err);
void stream_hub_destroy(struct stream_hub *hub); /* ends every stream, joins the thread */
DEFINE_AUTO(stream_hub, stream_hub_destroy)

/* Makes a stream that stream_start() will begin; its pointer may be given to the source before.
 * ERR_EXHAUSTED: STREAMS_MAX are open. */
MUST_CHECK enum errc stream_create(struct stream_hub *hub, struct stream **ret_s,
                                   struct error *err);
/* Begins the answer on x and hands it to the hub. Takes s, x and the source. */
void stream_start(struct stream *s, struct http_exchange *x, const char *content_type,
                  const struct stream_source *source);
void stream_discard(struct stream *s); /* instead of a start that succeeds */

/* For a client that asks for a WebSocket: the stream is a tunnel's (tunnel.h), whose thread pumps
 * it; each line that is written becomes a text message, without its newline. What the client sends
 * is read and means nothing. */
struct tunnel_set;
MUST_CHECK enum errc stream_create_websocket(struct stream_hub *hub, struct stream **ret_s,
                                             struct error *err);
/* Takes s, x and the source. An error: nothing was taken. */
MUST_CHECK enum errc stream_start_websocket(struct stream *s, struct tunnel_set *tunnels,
                                            struct http_exchange *x,
                                            const struct stream_source *source, struct error *err);

void stream_wake(struct stream *s); /* any thread; does not block */

/* In pump only. False: nothing was taken, try again when pumped next. */
bool stream_write(struct stream *s, const void *data, size_t len);
#endif
