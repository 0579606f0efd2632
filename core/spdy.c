/* SPDY/3.1 frames (draft-mbelshe-httpbis-spdy-00 section 2):
 *
 *   data      0 | stream (31)                   flags (8) | length (24)   bytes
 *   control   1 | version (15) = 3, type (16)   flags (8) | length (24)   by type:
 *       SYN_STREAM 1      stream (32), associated (32), priority (8), slot (8), header block
 *       SYN_REPLY 2       stream (32), header block
 *       RST_STREAM 3      stream (32), status (32)
 *       SETTINGS 4, PING 6: id (32), GOAWAY 7, HEADERS 8: as SYN_REPLY, WINDOW_UPDATE 9
 *   header block, compressed: count (32), then name and value, each behind its length (32)
 *
 * All header blocks of one direction are one zlib stream with a dictionary that both sides know,
 * cut by sync flushes: every block that comes must be inflated, wanted or not. Ours are written
 * without compression: a zlib header without the dictionary flag, then stored blocks, which any
 * inflater takes.
 *
 * Data frames may be 16 MiB long; their bytes are given as they come, so that only control frames
 * are ever held whole. */
#include "core/spdy.h"

#include <ctype.h>
#include <strings.h>
#include <zlib.h>

enum {
    HEAD_BYTES = 8,
    CONTROL_BIT = 0x80,
    VERSION = 3,
    FLAG_FIN = 1,
    STREAM_BITS = 0x7fffffff,
    SYN_STREAM = 1,
    SYN_REPLY = 2,
    RST_STREAM = 3,
    PING = 6,
    GOAWAY = 7,
    HEADERS = 8,
    SYN_STREAM_BYTES = 10, /* in front of the header block */
    SYN_REPLY_BYTES = 4,
    KEPT_BYTES_MAX = 64 << 10,
};

/* Section 2.6.10.1: words behind their lengths, then text. */
static const char *const dictionary_words[] = {"options",
                                               "head",
                                               "post",
                                               "put",
                                               "delete",
                                               "trace",
                                               "accept",
                                               "accept-charset",
                                               "accept-encoding",
                                               "accept-language",
                                               "accept-ranges",
                                               "age",
                                               "allow",
                                               "authorization",
                                               "cache-control",
                                               "connection",
                                               "content-base",
                                               "content-encoding",
                                               "content-language",
                                               "content-length",
                                               "content-location",
                                               "content-md5",
                                               "content-range",
                                               "content-type",
                                               "date",
                                               "etag",
                                               "expect",
                                               "expires",
                                               "from",
                                               "host",
                                               "if-match",
                                               "if-modified-since",
                                               "if-none-match",
                                               "if-range",
                                               "if-unmodified-since",
                                               "last-modified",
                                               "location",
                                               "max-forwards",
                                               "pragma",
                                               "proxy-authenticate",
                                               "proxy-authorization",
                                               "range",
                                               "referer",
                                               "retry-after",
                                               "server",
                                               "te",
                                               "trailer",
                                               "transfer-encoding",
                                               "upgrade",
                                               "user-agent",
                                               "vary",
                                               "via",
                                               "warning",
                                               "www-authenticate",
                                               "method",
                                               "get",
                                               "status",
                                               "200 OK",
                                               "version",
                                               "HTTP/1.1",
                                               "url",
                                               "public",
                                               "set-cookie",
                                               "keep-alive",
                                               "origin"};
static const char dictionary_text[] =
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request"
    "401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented"
    "503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, "
    "Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,"
    "application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdch"
    "charset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

struct spdy_reader {
    struct buf in; /* fed, not read yet */
    size_t at;
    uint32_t data_stream; /* of the data frame that is being read */
    size_t data_left;     /* of it; 0: the next byte begins a frame */
    bool data_fin;
    bool failed;
    z_stream inflate;
    struct buf block; /* the header block that was given last */
};

static void put_u32(struct buf *out, uint32_t value) {
    for (int shift = 24; shift >= 0; shift -= 8)
        buf_putc(out, (char)(value >> shift));
}

static uint32_t get_u32(const char *data) {
    const unsigned char *p = (const unsigned char *)data;
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

void spdy_dictionary(struct buf *out) {
    for (size_t i = 0; i < ARRAY_LEN(dictionary_words); i++) {
        put_u32(out, (uint32_t)strlen(dictionary_words[i]));
        buf_puts(out, dictionary_words[i]);
    }
    buf_puts(out, dictionary_text);
}

struct spdy_reader *spdy_reader_create(void) {
    struct spdy_reader *r = mem_alloc(sizeof(*r));
    ASSERT(inflateInit(&r->inflate) == Z_OK);
    return r;
}

void spdy_reader_destroy(struct spdy_reader *r) {
    if (!r)
        return;
    inflateEnd(&r->inflate);
    buf_deinit(&r->in);
    buf_deinit(&r->block);
    free(r);
}

void spdy_feed(struct spdy_reader *r, const void *data, size_t len) {
    if (r->at == r->in.len) {
        buf_clear(&r->in);
        r->at = 0;
    } else if (r->at > KEPT_BYTES_MAX) {
        buf_consume(&r->in, r->at);
        r->at = 0;
    }
    buf_append(&r->in, data, len);
}

/* ---- header blocks ---- */

static enum errc use_dictionary(z_stream *z, struct error *err) {
    AUTO_BUF dictionary = BUF_INIT;
    spdy_dictionary(&dictionary);
    if (inflateSetDictionary(z, (const Bytef *)dictionary.data, (uInt)dictionary.len) != Z_OK)
        return err_set(err, ERR_MALFORMED, "headers with a dictionary that is not SPDY/3's");
    return OK;
}

/* Inflates a block into r->block. */
static enum errc inflate_block(struct spdy_reader *r, const char *data, size_t len,
                               struct error *err) {
    z_stream *z = &r->inflate;
    z->next_in = (Bytef *)(uintptr_t)data;
    z->avail_in = (uInt)len;
    buf_clear(&r->block);
    for (;;) {
        Bytef piece[4096];
        z->next_out = piece;
        z->avail_out = sizeof(piece);
        int rc = inflate(z, Z_SYNC_FLUSH);
        size_t n = sizeof(piece) - z->avail_out;
        if (n > SPDY_HEADERS_BYTES_MAX - r->block.len)
            return err_set(err, ERR_TOO_LARGE, "headers of more than %d bytes",
                           SPDY_HEADERS_BYTES_MAX);
        buf_append(&r->block, piece, n);
        if (rc == Z_NEED_DICT) {
            if (use_dictionary(z, err))
                return err->code;
        } else if (rc != Z_OK && rc != Z_BUF_ERROR) {
            return err_set(err, ERR_MALFORMED, "headers that do not inflate");
        } else if (z->avail_out) {
            return OK; /* all that came in is out */
        }
    }
}

/* Takes a text behind its length from the block at *at; terminates it with the byte behind it,
 * which is the first of the next length and has been read by then, or the buffer's own end. */
static char *take_text(struct buf *block, size_t *at, uint32_t *ret_len) {
    if (block->len - *at < 4)
        return NULL;
    uint32_t len = get_u32(block->data + *at);
    if (len > block->len - *at - 4)
        return NULL;
    char *text = block->data + *at + 4;
    *at += 4 + (size_t)len;
    *ret_len = len;
    return text;
}

/* The block's headers, in place. */
static enum errc read_headers(struct spdy_reader *r, struct spdy_event *e, struct error *err) {
    struct buf *b = &r->block;
    size_t at = 4;
    if (b->len < 4)
        return err_set(err, ERR_MALFORMED, "a header block of %zu bytes", b->len);
    uint32_t num = get_u32(b->data);
    if (num > SPDY_HEADERS_MAX)
        return err_set(err, ERR_TOO_LARGE, "%u headers: the bound is %d", num, SPDY_HEADERS_MAX);
    char *end = NULL; /* of the text before; its length field is read by then */
    for (uint32_t i = 0; i < num; i++) {
        uint32_t name_len, value_len;
        char *name = take_text(b, &at, &name_len);
        if (end)
            *end = '\0';
        end = name ? name + name_len : NULL;
        char *value = name ? take_text(b, &at, &value_len) : NULL;
        if (!value)
            return err_set(err, ERR_MALFORMED, "a header block that is cut short");
        *end = '\0';
        end = value + value_len;
        for (char *p = name; *p; p++)
            *p = (char)tolower((unsigned char)*p);
        e->headers[i] = (struct spdy_header){name, value};
    }
    if (end)
        *end = '\0';
    e->num_headers = num;
    return OK;
}

const char *spdy_header(const struct spdy_event *e, const char *name) {
    for (size_t i = 0; i < e->num_headers; i++) {
        if (!strcmp(e->headers[i].name, name))
            return e->headers[i].value;
    }
    return NULL;
}

/* ---- frames ---- */

static enum errc too_short(unsigned type, size_t len, struct error *err) {
    return err_set(err, ERR_MALFORMED, "a control frame of type %u with %zu bytes", type, len);
}

/* A whole control frame. *ret_given: it is an event. */
static enum errc read_control(struct spdy_reader *r, unsigned type, unsigned flags,
                              const char *body, size_t len, struct spdy_event *e, bool *ret_given,
                              struct error *err) {
    size_t before = type == SYN_STREAM ? SYN_STREAM_BYTES : SYN_REPLY_BYTES;
    *ret_given = true;
    switch (type) {
    case SYN_STREAM:
    case SYN_REPLY:
    case HEADERS:
        if (len < before)
            return too_short(type, len, err);
        if (inflate_block(r, body + before, len - before, err) || read_headers(r, e, err))
            return err->code;
        e->type = SPDY_OPEN;
        e->stream = get_u32(body) & STREAM_BITS;
        e->fin = flags & FLAG_FIN;
        *ret_given = type == SYN_STREAM; /* trailers, and answers to what we never ask */
        if (*ret_given && !e->stream)
            return err_set(err, ERR_MALFORMED, "a stream with number 0");
        return OK;
    case RST_STREAM:
        if (len < 8)
            return too_short(type, len, err);
        e->type = SPDY_RESET;
        e->stream = get_u32(body) & STREAM_BITS;
        return OK;
    case PING:
        if (len < 4)
            return too_short(type, len, err);
        e->type = SPDY_PING;
        e->ping_id = get_u32(body);
        *ret_given = e->ping_id & 1; /* else it is the answer to one of ours */
        return OK;
    case GOAWAY:
        e->type = SPDY_GOAWAY;
        return OK;
    default:
        *ret_given = false;
        return OK;
    }
}

/* What has come of a data frame. False: nothing. */
static bool give_data(struct spdy_reader *r, struct spdy_event *e) {
    size_t have = r->in.len - r->at;
    if (!have)
        return false;
    size_t n = have < r->data_left ? have : r->data_left;
    *e = (struct spdy_event){.type = SPDY_DATA,
                             .stream = r->data_stream,
                             .data = r->in.data + r->at,
                             .len = n,
                             .fin = r->data_fin && n == r->data_left};
    r->at += n;
    r->data_left -= n;
    return true;
}

static enum spdy_result failed(struct spdy_reader *r) {
    r->failed = true;
    return SPDY_FAILED;
}

enum spdy_result spdy_next(struct spdy_reader *r, struct spdy_event *e, struct error *err) {
    if (r->failed) {
        err_set(err, ERR_MALFORMED, "nothing is read behind a broken frame");
        return SPDY_FAILED;
    }
    for (;;) {
        if (r->data_left)
            return give_data(r, e) ? SPDY_EVENT : SPDY_MORE;
        size_t have = r->in.len - r->at;
        if (have < HEAD_BYTES)
            return SPDY_MORE;
        const char *p = r->in.data + r->at;
        uint32_t first = get_u32(p), second = get_u32(p + 4);
        unsigned flags = second >> 24;
        size_t len = second & 0xffffff;
        if (!((unsigned char)p[0] & CONTROL_BIT)) {
            r->at += HEAD_BYTES;
            r->data_stream = first & STREAM_BITS;
            r->data_left = len;
            r->data_fin = flags & FLAG_FIN;
            if (len || !r->data_fin)
                continue;
            *e = (struct spdy_event){
                .type = SPDY_DATA, .stream = r->data_stream, .data = "", .fin = true};
            return SPDY_EVENT;
        }
        if (((first >> 16) & 0x7fff) != VERSION) {
            err_set(err, ERR_MALFORMED, "SPDY version %u", (first >> 16) & 0x7fff);
            return failed(r);
        }
        if (len > SPDY_CONTROL_BYTES_MAX) {
            err_set(err, ERR_TOO_LARGE, "a control frame of %zu bytes: the bound is %d", len,
                    SPDY_CONTROL_BYTES_MAX);
            return failed(r);
        }
        if (have < HEAD_BYTES + len)
            return SPDY_MORE;
        bool given;
        *e = (struct spdy_event){.data = ""};
        r->at += HEAD_BYTES + len;
        if (read_control(r, first & 0xffff, flags, p + HEAD_BYTES, len, e, &given, err))
            return failed(r);
        if (given)
            return SPDY_EVENT;
    }
}

/* ---- writing ---- */

static void put_control(struct buf *out, unsigned type, size_t len) {
    put_u32(out, (uint32_t)CONTROL_BIT << 24 | VERSION << 16 | type);
    put_u32(out, (uint32_t)len);
}

void spdy_write_reply(struct spdy_writer *w, struct buf *out, uint32_t stream) {
    static const unsigned char zlib_header[] = {0x78, 0x01};
    /* A stored block of 4 bytes, which say that there are no headers, and a sync flush. */
    static const unsigned char no_headers[] = {0, 4, 0, 0xfb, 0xff, 0,    0,
                                               0, 0, 0, 0,    0,    0xff, 0xff};
    size_t header_len = w->replied ? 0 : sizeof(zlib_header);
    put_control(out, SYN_REPLY, 4 + header_len + sizeof(no_headers));
    put_u32(out, stream);
    buf_append(out, zlib_header, header_len);
    buf_append(out, no_headers, sizeof(no_headers));
    w->replied = true;
}

void spdy_write_data(struct buf *out, uint32_t stream, const void *data, size_t len, bool fin) {
    const char *p = data;
    do {
        size_t n = len < SPDY_DATA_BYTES_MAX ? len : SPDY_DATA_BYTES_MAX;
        put_u32(out, stream);
        put_u32(out, (uint32_t)n | (fin && n == len ? (uint32_t)FLAG_FIN << 24 : 0));
        buf_append(out, p, n);
        p += n;
        len -= n;
    } while (len);
}

void spdy_write_reset(struct buf *out, uint32_t stream, enum spdy_status status) {
    put_control(out, RST_STREAM, 8);
    put_u32(out, stream);
    put_u32(out, status);
}

void spdy_write_ping(struct buf *out, uint32_t id) {
    put_control(out, PING, 4);
    put_u32(out, id);
}

void spdy_write_goaway(struct buf *out, uint32_t last_stream) {
    put_control(out, GOAWAY, 8);
    put_u32(out, last_stream);
    put_u32(out, 0);
}
