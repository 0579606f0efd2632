/* Compression of large answers: the sole user of zlib. Level 1, as kube-apiserver does: JSON of
 * objects shrinks to a fifth with it, and higher levels cost more time than the wire gives back. */
#include <strings.h>
#include <zlib.h>

#include "core/http_internal.h"

enum {
    GZIP_LEVEL = 1,
    GZIP_WINDOW_BITS = 15 + 16, /* 16: with gzip's head and tail */
    GZIP_MEMORY_LEVEL = 8,      /* zlib's default */
    OUTPUT_BYTES = 64 << 10,
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

bool http_gzip(const struct http_part *parts, size_t num_parts, struct buf *out) {
    z_stream z = {0};
    size_t len = 0;
    for (size_t i = 0; i < num_parts; i++)
        len += parts[i].len;
    if (len > UINT_MAX || deflateInit2(&z, GZIP_LEVEL, Z_DEFLATED, GZIP_WINDOW_BITS,
                                       GZIP_MEMORY_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK)
        return false;
    /* Grows with what comes out: reserving the body's length would touch pages for nothing. */
    int rc = Z_OK;
    for (size_t i = 0; i <= num_parts && rc == Z_OK && out->len < len; i++) {
        bool last = i == num_parts;
        z.next_in = last ? NULL : (unsigned char *)(uintptr_t)parts[i].data;
        z.avail_in = last ? 0 : (unsigned)parts[i].len;
        do {
            buf_reserve(out, OUTPUT_BYTES);
            z.next_out = (unsigned char *)out->data + out->len;
            z.avail_out = OUTPUT_BYTES;
            rc = deflate(&z, last ? Z_FINISH : Z_NO_FLUSH);
            out->len += OUTPUT_BYTES - z.avail_out;
        } while (rc == Z_OK && (z.avail_in || last));
        if (rc == Z_BUF_ERROR && !last) /* an empty part */
            rc = Z_OK;
    }
    bool done = rc == Z_STREAM_END && out->len < len;
    if (!done)
        buf_clear(out);
    deflateEnd(&z);
    return done;
}
