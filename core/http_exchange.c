/* One request and its answer, shared by two sides that do not wait for each other.
 *
 * libmicrohttpd's side runs in one server thread: it calls the handler, queues the response, asks
 * for stream bytes, and tells when it is through. The owner's side may be any thread: it replies,
 * writes to a stream, ends it. Between them stands the exchange's mutex.
 *
 * Parking. When libmicrohttpd asks for something that is not there yet (a reply, stream bytes), its
 * thread sets `parked` and suspends the connection under the mutex. Whoever has news clears
 * `parked` under the same mutex and resumes. So a resume never comes before its suspend, never
 * twice, and never for a connection that is gone.
 *
 * Callbacks. Reasons to call back are bits in `due`; one thread at a time runs them (`calling`),
 * without the mutex. An owner that lets go waits until that thread is done, unless it is itself
 * that thread; afterwards nothing is called any more. */
#include "core/http_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <strings.h>

#include "core/base/clock.h"
#include "core/base/json_text.h"
#include "core/base/log.h"

enum {
    OUT_KEEP_BYTES = 64 << 10, /* an empty stream buffer larger than this is given back */
    WARNING_BYTES_MAX = 1024,
    SMALL_BYTES = 64 << 10,  /* a body in parts that is copied together */
    BLOCK_BYTES = 128 << 10, /* of a body in parts, between here and libmicrohttpd */
};

struct http_exchange *http_exchange_create(struct http_server *s) {
    struct http_exchange *x = mem_alloc(sizeof(*x));
    x->server = s;
    s->refs++;
    x->refs = 1;
    x->arena = arena_create();
    x->method = x->path = x->raw_path = x->raw_query = x->request_id = x->client_address = "";
    x->stream_length = MHD_SIZE_UNKNOWN;
    x->start_ns = clock_mono_ns();
    x->slot = HTTP_NO_SLOT;
    pthread_mutex_init(&x->lock, NULL);
    pthread_cond_init(&x->callback_done, NULL);
    s->num_open++;
    return x;
}

bool http_exchange_try_ref(struct http_exchange *x) {
    uint32_t refs = x->refs;
    while (refs)
        if (atomic_compare_exchange_weak(&x->refs, &refs, refs + 1))
            return true;
    return false;
}

void http_exchange_unref(struct http_exchange *x) {
    if (--x->refs)
        return;
    http_front_forget(x);
    if (x->response)
        MHD_destroy_response(x->response);
    buf_deinit(&x->body);
    buf_deinit(&x->out);
    arena_destroy(x->arena);
    pthread_cond_destroy(&x->callback_done);
    pthread_mutex_destroy(&x->lock);
    x->server->num_open--;
    http_server_unref(x->server);
    free(x);
}

/* Called with the lock held. */
static void unpark(struct http_exchange *x) {
    if (!x->parked)
        return;
    x->parked = false;
    MHD_resume_connection(x->connection);
}

/* ---- callbacks ---- */

void http_exchange_call(struct http_exchange *x, unsigned due) {
    pthread_mutex_lock(&x->lock);
    x->due |= due;
    if (x->calling) {
        pthread_mutex_unlock(&x->lock);
        return;
    }
    x->calling = true;
    x->caller = pthread_self();
    while (x->due && !x->ended) {
        unsigned now = x->due;
        struct http_stream_callbacks cb = x->cb;
        x->due = 0;
        if (x->gone_told)
            break;
        void (*fn)(struct http_exchange *, void *) = NULL;
        if (now & HTTP_DUE_GONE) {
            fn = cb.on_gone;
            x->gone_told = fn != NULL;
        } else if (now & HTTP_DUE_DRAINED) {
            fn = cb.on_drained;
            x->due = now & HTTP_DUE_TICK;
        } else if (!x->gone) {
            fn = cb.on_tick;
        }
        if (!fn)
            continue;
        pthread_mutex_unlock(&x->lock);
        fn(x, cb.user);
        pthread_mutex_lock(&x->lock);
    }
    x->calling = false;
    pthread_cond_broadcast(&x->callback_done);
    pthread_mutex_unlock(&x->lock);
}

void http_exchange_gone(struct http_exchange *x) {
    pthread_mutex_lock(&x->lock);
    x->gone = true;
    unpark(x);
    pthread_mutex_unlock(&x->lock);
    http_exchange_call(x, HTTP_DUE_GONE);
}

/* The owner's last step. */
static void let_go(struct http_exchange *x, bool aborted) {
    if (x->observer.ended)
        x->observer.ended(x, x->observer.user);
    pthread_mutex_lock(&x->lock);
    ASSERT(!x->ended);
    x->ended = true;
    x->aborted = aborted;
    while (x->calling && !pthread_equal(x->caller, pthread_self()))
        pthread_cond_wait(&x->callback_done, &x->lock);
    unpark(x);
    pthread_mutex_unlock(&x->lock);
    http_exchange_unref(x);
}

/* ---- the answer's head ---- */

void http_set_header(struct http_exchange *x, const char *name, const char *value) {
    struct http_field **at = &x->out_headers;
    while (*at && strcasecmp((*at)->name, name) != 0)
        at = &(*at)->next;
    if (!*at) {
        *at = arena_alloc(x->arena, sizeof(**at));
        (*at)->name = arena_strdup(x->arena, name);
    }
    (*at)->value = arena_strdup(x->arena, value);
}

void http_add_header(struct http_exchange *x, const char *name, const char *value) {
    struct http_field **at = &x->out_headers;
    while (*at)
        at = &(*at)->next;
    *at = arena_alloc(x->arena, sizeof(**at));
    (*at)->name = arena_strdup(x->arena, name);
    (*at)->value = arena_strdup(x->arena, value);
}

void http_add_warning(struct http_exchange *x, const char *text) {
    AUTO_BUF b = BUF_INIT;
    buf_puts(&b, "299 - \"");
    for (; *text && b.len < WARNING_BYTES_MAX; text++) {
        if (*text == '"' || *text == '\\')
            buf_putc(&b, '\\');
        buf_putc(&b, (unsigned char)*text < ' ' || *text == 0x7f ? ' ' : *text);
    }
    buf_putc(&b, '"');
    http_add_header(x, "Warning", b.data);
}

void http_set_stream_length(struct http_exchange *x, uint64_t len) {
    x->stream_length = len;
}

static void add_headers(struct http_exchange *x, struct MHD_Response *r, const char *content_type) {
    if (content_type)
        MHD_add_response_header(r, "Content-Type", content_type);
    for (const struct http_field *f = x->out_headers; f; f = f->next)
        if (MHD_add_response_header(r, f->name, f->value) != MHD_YES)
            log_debug("response header left out", "name=%s request=%s", f->name, x->request_id);
    MHD_add_response_header(r, "X-Request-Id", x->request_id);
}

/* Of answers after which the connection is still HTTP's. */
static void add_last_headers(struct http_exchange *x, struct MHD_Response *r) {
    if (x->close || x->server->draining)
        MHD_add_response_header(r, "Connection", "close");
}

/* Takes r; a server thread queues it. */
static void answer(struct http_exchange *x, int status, struct MHD_Response *r) {
    if (x->observer.answered)
        x->observer.answered(x, status, x->streaming || status == 101, x->observer.user);
    pthread_mutex_lock(&x->lock);
    ASSERT(!x->answered);
    x->answered = true;
    x->status = status;
    x->response = r;
    unpark(x);
    pthread_mutex_unlock(&x->lock);
}

/* ---- plain replies ---- */

static void reply_with(struct http_exchange *x, int status, const char *content_type,
                       struct MHD_Response *r) {
    ASSERT(r);
    add_headers(x, r, content_type);
    add_last_headers(x, r);
    answer(x, status, r);
}

static void reply(struct http_exchange *x, int status, const char *content_type, void *body,
                  size_t len, enum MHD_ResponseMemoryMode mode) {
    reply_with(x, status, content_type, MHD_create_response_from_buffer(len, body, mode));
}

void http_reply(struct http_exchange *x, int status, const char *content_type, const void *body,
                size_t len) {
    reply(x, status, content_type, (void *)body, len, MHD_RESPMEM_MUST_COPY);
    let_go(x, false);
}

void http_reply_text(struct http_exchange *x, int status, const char *text) {
    http_reply(x, status, "text/plain; charset=utf-8", text, strlen(text));
}

void http_compress(struct http_exchange *x) {
    x->compress = true;
}

static size_t parts_length(const struct http_part *parts, size_t num_parts) {
    size_t len = 0;
    for (size_t i = 0; i < num_parts; i++)
        len += parts[i].len;
    return len;
}

/* Compresses what is worth it for who takes it, and says so in the headers. False: it goes as it
 * is. */
static bool compressed(struct http_exchange *x, const struct http_part *parts, size_t num_parts,
                       struct buf *out) {
    if (!x->compress || parts_length(parts, num_parts) < HTTP_GZIP_BYTES_MIN)
        return false;
    http_set_header(x, "Vary", "Accept-Encoding");
    if (!http_gzip_accepted(http_header(x, "Accept-Encoding")) || !http_gzip(parts, num_parts, out))
        return false;
    http_set_header(x, "Content-Encoding", "gzip");
    return true;
}

void http_reply_take(struct http_exchange *x, int status, const char *content_type,
                     struct buf *body) {
    AUTO_BUF small = BUF_INIT;
    struct http_part whole = {.data = body->data, .len = body->len};
    if (compressed(x, &whole, 1, &small)) {
        buf_deinit(body);
        body = &small;
    }
    size_t len = body->len;
    reply(x, status, content_type, buf_steal(body), len, MHD_RESPMEM_MUST_FREE);
    let_go(x, false);
}

/* A body in parts, on its way. libmicrohttpd has responses of this kind, but 0.9.75 aborts the
 * process when there are more parts than one system call takes (1,024), so they are copied
 * into its buffer, a block at a time. */
struct parts_reader {
    void (*release)(void *user);
    void *user;
    size_t num_parts, part, offset; /* the next byte to send */
    struct http_part parts[];
};

static ssize_t read_parts(void *user, uint64_t pos, char *into, size_t max) {
    struct parts_reader *r = user;
    size_t n = 0;
    while (n < max && r->part < r->num_parts) {
        const struct http_part *p = &r->parts[r->part];
        size_t more = p->len - r->offset < max - n ? p->len - r->offset : max - n;
        memcpy(into + n, (const char *)p->data + r->offset, more);
        n += more;
        r->offset += more;
        if (r->offset == p->len) {
            r->part++;
            r->offset = 0;
        }
    }
    return n ? (ssize_t)n : MHD_CONTENT_READER_END_OF_STREAM;
}

static void free_parts(void *user) {
    struct parts_reader *r = user;
    r->release(r->user);
    free(r);
}

void http_reply_parts(struct http_exchange *x, int status, const char *content_type,
                      const struct http_part *parts, size_t num_parts, void (*release)(void *user),
                      void *user) {
    AUTO_BUF whole = BUF_INIT;
    size_t len = parts_length(parts, num_parts);
    if (len <= SMALL_BYTES) { /* goes out in one piece with its head */
        for (size_t i = 0; i < num_parts; i++)
            buf_append(&whole, parts[i].data, parts[i].len);
    }
    if (len <= SMALL_BYTES || compressed(x, parts, num_parts, &whole)) {
        release(user);
        len = whole.len;
        reply(x, status, content_type, buf_steal(&whole), len, MHD_RESPMEM_MUST_FREE);
    } else {
        struct parts_reader *r = mem_alloc(sizeof(*r) + num_parts * sizeof(*parts));
        r->release = release;
        r->user = user;
        r->num_parts = num_parts;
        memcpy(r->parts, parts, num_parts * sizeof(*parts));
        reply_with(x, status, content_type,
                   MHD_create_response_from_callback(len, BLOCK_BYTES, read_parts, r, free_parts));
    }
    let_go(x, false);
}

void http_reply_json(struct http_exchange *x, int status, const json_t *body) {
    AUTO_BUF b = BUF_INIT;
    json_text(&b, body);
    buf_putc(&b, '\n');
    http_reply_take(x, status, "application/json", &b);
}

void http_observe(struct http_exchange *x, const struct http_observer *observer) {
    x->observer = *observer;
}

void http_on_gone(struct http_exchange *x, void (*fn)(struct http_exchange *x, void *user),
                  void *user) {
    pthread_mutex_lock(&x->lock);
    x->cb.on_gone = fn;
    x->cb.user = user;
    pthread_mutex_unlock(&x->lock);
}

/* ---- answers before the handler ---- */

static int error_status(enum errc code) {
    switch (code) {
    case ERR_MALFORMED:
        return 400;
    case ERR_UNAUTHENTICATED:
        return 401;
    case ERR_FORBIDDEN:
        return 403;
    case ERR_TOO_LARGE:
        return 413;
    case ERR_UNAVAILABLE:
        return 503;
    default:
        return 500;
    }
}

void http_exchange_error_body(struct http_exchange *x, const struct error *err, struct buf *out) {
    int status = error_status(err->code);
    if (x->server->opt.error_body) {
        x->server->opt.error_body(status, err, x->request_id, out);
        return;
    }
    const char *type = status == 401   ? "authentication_error"
                       : status >= 500 ? "server_error"
                                       : "invalid_request_error";
    json_t *doc = json_pack("{s:{s:s,s:s,s:i,s:s}}", "error", "message", err->text, "type", type,
                            "code", status, "request_id", x->request_id);
    if (!doc) /* the message quotes bytes that are not UTF-8 */
        doc = json_pack("{s:{s:s,s:s,s:i}}", "error", "message", "malformed request", "type", type,
                        "code", status);
    json_text(out, doc);
    json_decref(doc);
}

void http_exchange_refuse(struct http_exchange *x, const struct error *err) {
    AUTO_BUF b = BUF_INIT;
    http_exchange_error_body(x, err, &b);
    x->close = true;
    if (err->code == ERR_UNAUTHENTICATED)
        http_set_header(x, "WWW-Authenticate", "Bearer realm=\"inferd\"");
    if (err->code == ERR_UNAVAILABLE)
        http_set_header(x, "Retry-After", "1");
    size_t len = b.len;
    reply(x, error_status(err->code), "application/json", buf_steal(&b), len,
          MHD_RESPMEM_MUST_FREE);
}

/* ---- streams ---- */

/* Bytes for libmicrohttpd, in a server thread. */
static ssize_t read_stream(void *user, uint64_t pos, char *into, size_t max) {
    struct http_exchange *x = user;
    bool drained = false;
    ssize_t n = 0;
    pthread_mutex_lock(&x->lock);
    size_t unsent = x->out.len - x->out_sent;
    if (x->gone) {
        n = MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (unsent) {
        size_t take = unsent < max ? unsent : max;
        memcpy(into, x->out.data + x->out_sent, take);
        x->out_sent += take;
        unsent -= take;
        n = (ssize_t)take;
        if (!unsent) {
            buf_clear(&x->out);
            x->out_sent = 0;
            if (x->out.cap > OUT_KEEP_BYTES)
                buf_deinit(&x->out);
        }
        drained = x->refused && unsent < HTTP_STREAM_BYTES_MAX / 2;
        if (drained)
            x->refused = false;
    } else if (x->ended) {
        n = x->aborted ? MHD_CONTENT_READER_END_WITH_ERROR : MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        x->parked = true;
        MHD_suspend_connection(x->connection);
    }
    pthread_mutex_unlock(&x->lock);
    if (drained)
        http_exchange_call(x, HTTP_DUE_DRAINED);
    return n;
}

void http_stream_begin(struct http_exchange *x, int status, const char *content_type,
                       const struct http_stream_callbacks *cb) {
    struct MHD_Response *r = MHD_create_response_from_callback(
        x->stream_length, HTTP_HEADER_BYTES_MAX, read_stream, x, NULL);
    ASSERT(r);
    add_headers(x, r, content_type);
    add_last_headers(x, r);
    pthread_mutex_lock(&x->lock);
    x->streaming = true;
    if (cb)
        x->cb = *cb;
    x->next_tick_ms = clock_mono_ms() + x->server->opt.tick_ms;
    bool gone = x->gone;
    pthread_mutex_unlock(&x->lock);
    answer(x, status, r);
    if (gone)
        http_front_wake(x->server); /* it tells the owner, who cannot expect it in here */
}

bool http_stream_write(struct http_exchange *x, const void *data, size_t len) {
    bool taken = false;
    pthread_mutex_lock(&x->lock);
    size_t unsent = x->out.len - x->out_sent;
    bool deaf = x->gone || x->ended; /* ended: a callback still runs while its owner lets go */
    bool full = unsent && (unsent >= HTTP_STREAM_BYTES_MAX || len > HTTP_STREAM_BYTES_MAX - unsent);
    if (full && !deaf)
        x->refused = true;
    if (!full && !deaf) {
        if (x->out_sent > OUT_KEEP_BYTES && x->out_sent > unsent) {
            buf_consume(&x->out, x->out_sent);
            x->out_sent = 0;
        }
        buf_append(&x->out, data, len);
        if (len && x->streaming)
            unpark(x);
        taken = true;
    }
    pthread_mutex_unlock(&x->lock);
    return taken;
}

bool http_stream_gone(const struct http_exchange *x) {
    struct http_exchange *lockable = (struct http_exchange *)x;
    pthread_mutex_lock(&lockable->lock);
    bool gone = x->gone;
    pthread_mutex_unlock(&lockable->lock);
    return gone;
}

void http_stream_end(struct http_exchange *x) {
    let_go(x, false);
}

void http_stream_abort(struct http_exchange *x) {
    let_go(x, true);
}

/* ---- leaving HTTP ---- */

/* Gives the call that is owed, once; NULL afterwards. */
static http_upgraded_fn *take_upgrade(struct http_exchange *x, bool upgraded) {
    pthread_mutex_lock(&x->lock);
    http_upgraded_fn *fn = steal(x->upgrade);
    x->upgraded = upgraded;
    pthread_mutex_unlock(&x->lock);
    return fn;
}

void http_exchange_not_upgraded(struct http_exchange *x) {
    http_upgraded_fn *fn = take_upgrade(x, false);
    if (fn)
        fn(x, -1, NULL, 0, x->upgrade_user);
}

/* The 101 is sent. libmicrohttpd closes its descriptor at once, and would refuse to stop before
 * that; the owner gets a copy, so that neither has to wait for the other. */
static void on_upgraded(void *user, struct MHD_Connection *connection, void *context,
                        const char *early, size_t early_len, int fd,
                        struct MHD_UpgradeResponseHandle *handle) {
    struct http_exchange *x = user;
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy >= 0)
        fcntl(copy, F_SETFL, fcntl(copy, F_GETFL) | O_NONBLOCK);
    else
        log_warn("cannot keep an upgraded connection", "request=%s errno=%d", x->request_id, errno);
    http_upgraded_fn *fn = take_upgrade(x, true);
    fn(x, copy, early, early_len, x->upgrade_user);
    MHD_upgrade_action(handle, MHD_UPGRADE_ACTION_CLOSE);
}

void http_upgrade(struct http_exchange *x, const char *protocol, http_upgraded_fn *fn, void *user) {
    struct MHD_Response *r = MHD_create_response_for_upgrade(on_upgraded, x);
    ASSERT(r);
    http_set_header(x, "Upgrade", protocol);
    add_headers(x, r, NULL);
    pthread_mutex_lock(&x->lock);
    bool left = !x->connection;
    x->upgrade_user = user;
    if (!left)
        x->upgrade = fn;
    pthread_mutex_unlock(&x->lock);
    x->refs++; /* fn may end the exchange before answer() returns */
    answer(x, 101, r);
    if (left)
        fn(x, -1, NULL, 0, user);
    http_exchange_unref(x);
}

void http_upgrade_end(struct http_exchange *x) {
    let_go(x, false);
}
