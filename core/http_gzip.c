/* Compression of large answers: the sole user of zlib. Level 1, as kube-apiserver does: JSON of
 * objects shrinks to a fifth with it, and higher levels cost more time than the wire gives back. */
#include <strings.h>
#include <zlib.h>

#include "core/http_internal.h"

enum {
    GZIP_LEVEL = 1,
    GZIP_WINDOW_BITS = 15 + 16, /* 16: with gzip's head and tail */
    GZIP_MEMORY_LEVEL = 8,      /* zlib's default */
};

/* The first character behind a word's parameters is its end; `q=0` takes it back. */
static bool refused(const char *parameters, size_t len) {
    const char *end = parameters + len, *q = memchr(parameters, '=', len);
    if (!q || q == parameters || (q[-1] != 'q' && q[-1] != 'Q'))
        return false;
    for (q++; q < end; q++) {
        if (*q >= '1' && *q <= '9')
            return false;
    }
    return true;
}

bool http_gzip_accepted(const char *accept_encoding) {
    for (const char *p = accept_encoding; p && *p;) {
        p += strspn(p, " \t,");
        size_t len = strcspn(p, ","), word = strcspn(p, " \t,;");
        if (word == 4 && !strncasecmp(p, "gzip", 4))
            return !refused(p + word, len - word);
        p += len;
    }
    return false;
}

bool http_gzip(const struct buf *body, struct buf *out) {
    z_stream z = {0};
    if (body->len > UINT_MAX || deflateInit2(&z, GZIP_LEVEL, Z_DEFLATED, GZIP_WINDOW_BITS,
                                             GZIP_MEMORY_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK)
        return false;
    buf_reserve(out, body->len);
    z.next_in = (unsigned char *)body->data;
    z.avail_in = (unsigned)body->len;
    z.next_out = (unsigned char *)out->data;
    z.avail_out = (unsigned)body->len;
    bool done = deflate(&z, Z_FINISH) == Z_STREAM_END; /* else it would not be shorter */
    if (done)
        out->len = z.total_out;
    deflateEnd(&z);
    return done;
}
