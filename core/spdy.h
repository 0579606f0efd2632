/* SPDY/3.1, the server's side of what Kubernetes' clients speak (exec and port-forward): streams
 * that the client opens, data both ways, ends and resets. Pure: no sockets, no threads; whoever has
 * the connection feeds the reader and sends what the writers append.
 *
 * Flow control: Kubernetes' clients neither keep windows nor look at ours, so WINDOW_UPDATE and
 * SETTINGS are read and mean nothing. The connection itself is the bound. */
#ifndef CORE_SPDY_H
#define CORE_SPDY_H

#include "core/base/buf.h"

enum {
    SPDY_CONTROL_BYTES_MAX = 16 << 10, /* of one control frame */
    SPDY_HEADERS_BYTES_MAX = 16 << 10, /* of one header block, inflated */
    SPDY_HEADERS_MAX = 32,
    SPDY_DATA_BYTES_MAX = 32 << 10, /* of one frame that we write */
};

enum spdy_status { SPDY_PROTOCOL_ERROR = 1, SPDY_REFUSED_STREAM = 3, SPDY_CANCEL = 5 };

struct spdy_header {
    const char *name, *value; /* names are lower case; values joined by NUL end at the first */
};

enum spdy_event_type {
    SPDY_OPEN, /* the client opens a stream; answer with spdy_write_reply() or spdy_write_reset() */
    SPDY_DATA, /* some of its bytes, in pieces as they come */
    SPDY_RESET,  /* it will neither send nor take anything on it */
    SPDY_PING,   /* echo it with spdy_write_ping() */
    SPDY_GOAWAY, /* it opens no more */
};
struct spdy_event {
    enum spdy_event_type type;
    uint32_t stream;
    bool fin;         /* of OPEN and DATA: the client sends nothing more on it */
    const char *data; /* of DATA; this and the headers are borrowed until the reader is used */
    size_t len;
    struct spdy_header headers[SPDY_HEADERS_MAX]; /* of OPEN */
    size_t num_headers;
    uint32_t ping_id;
};
const char *spdy_header(const struct spdy_event *e, const char *name); /* NULL: absent */

struct spdy_reader;
struct spdy_reader *spdy_reader_create(void);
void spdy_reader_destroy(struct spdy_reader *r);
DEFINE_AUTO(spdy_reader, spdy_reader_destroy)

void spdy_feed(struct spdy_reader *r, const void *data, size_t len);

enum spdy_result { SPDY_MORE, SPDY_EVENT, SPDY_FAILED };
/* Gives the next event. MORE: feed first. FAILED: the client broke the protocol or a bound; nothing
 * more is read. */
MUST_CHECK enum spdy_result spdy_next(struct spdy_reader *r, struct spdy_event *ret_event,
                                      struct error *err);

/* Appends the dictionary that header blocks are compressed with. */
void spdy_dictionary(struct buf *out);

/* Appends frames. */
struct spdy_writer {
    bool replied; /* the stream of compressed headers has begun */
};
void spdy_write_reply(struct spdy_writer *w, struct buf *out, uint32_t stream); /* no headers */
void spdy_write_data(struct buf *out, uint32_t stream, const void *data, size_t len, bool fin);
void spdy_write_reset(struct buf *out, uint32_t stream, enum spdy_status status);
void spdy_write_ping(struct buf *out, uint32_t id); /* even: the server's own */
void spdy_write_goaway(struct buf *out, uint32_t last_stream);

#endif
