/* The SPDY codec: header blocks as client-go writes them (one deflate stream with the dictionary),
 * frames in every cut, and everything that is refused. */
#include "core/spdy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <zlib.h>

#include <cmocka.h>

/* ---- a client's side ---- */

static void put_u32(struct buf *out, uint32_t value) {
    for (int shift = 24; shift >= 0; shift -= 8)
        buf_putc(out, (char)(value >> shift));
}

static void put_control(struct buf *out, unsigned type, unsigned flags, const struct buf *body) {
    put_u32(out, 0x80030000u | type);
    put_u32(out, flags << 24 | (uint32_t)body->len);
    buf_append(out, body->data, body->len);
}

/* "streamtype: data\nport: 80": compressed onto the deflate stream. */
static void put_block(struct buf *out, z_stream *z, const char *text) {
    AUTO_BUF plain = BUF_INIT;
    uint32_t num = 0;
    for (const char *p = text; *p; p += strcspn(p, "\n"), p += *p == '\n')
        num++;
    put_u32(&plain, num);
    for (const char *p = text; *p; p += strcspn(p, "\n"), p += *p == '\n') {
        size_t name = strcspn(p, ":"), line = strcspn(p, "\n");
        put_u32(&plain, (uint32_t)name);
        buf_append(&plain, p, name);
        put_u32(&plain, (uint32_t)(line - name - 2));
        buf_append(&plain, p + name + 2, line - name - 2);
    }
    unsigned char piece[4096];
    z->next_in = (Bytef *)plain.data;
    z->avail_in = (uInt)plain.len;
    do {
        z->next_out = piece;
        z->avail_out = sizeof(piece);
        assert_int_equal(deflate(z, Z_SYNC_FLUSH), Z_OK);
        buf_append(out, piece, sizeof(piece) - z->avail_out);
    } while (!z->avail_out);
}

static void put_open(struct buf *out, z_stream *z, uint32_t stream, unsigned flags,
                     const char *headers) {
    AUTO_BUF body = BUF_INIT;
    put_u32(&body, stream);
    put_u32(&body, 0);
    buf_append(&body, "\0\0", 2);
    put_block(&body, z, headers);
    put_control(out, 1, flags, &body);
}

static void put_data(struct buf *out, uint32_t stream, unsigned flags, const char *text) {
    put_u32(out, stream);
    put_u32(out, flags << 24 | (uint32_t)strlen(text));
    buf_puts(out, text);
}

/* Reads everything in pieces, and writes down what came; a data frame's pieces are joined. */
static enum spdy_result read_all(const struct buf *in, size_t step, struct buf *seen) {
    AUTO(spdy_reader) r = spdy_reader_create();
    enum spdy_result result = SPDY_MORE;
    struct error err = ERROR_INIT;
    uint32_t data_of = 0;
    buf_puts(seen, "");
    for (size_t at = 0; at < in->len && result != SPDY_FAILED; at += step) {
        size_t left = in->len - at;
        struct spdy_event e;
        spdy_feed(r, in->data + at, left < step ? left : step);
        while ((result = spdy_next(r, &e, &err)) == SPDY_EVENT) {
            if (e.type != SPDY_DATA || data_of != e.stream)
                buf_printf(seen, "%s%d:%u ", seen->len ? " " : "", (int)e.type,
                           e.type == SPDY_PING ? e.ping_id : e.stream);
            for (size_t i = 0; i < e.num_headers; i++)
                buf_printf(seen, "[%s=%s]", e.headers[i].name, e.headers[i].value);
            buf_append(seen, e.data ? e.data : "", e.len);
            data_of = e.type == SPDY_DATA && !e.fin ? e.stream : 0;
            if (e.fin)
                buf_puts(seen, "|");
        }
    }
    if (result == SPDY_FAILED) {
        struct spdy_event e;
        assert_true(err.text[0]);
        assert_int_equal(spdy_next(r, &e, &err), SPDY_FAILED); /* for good */
    }
    return result;
}

/* What client-go's library writes with: zlib's own compressor and the dictionary, whose length and
 * sum are the reference's. */
static void with_dictionary(z_stream *z) {
    *z = (z_stream){0};
    AUTO_BUF dictionary = BUF_INIT;
    spdy_dictionary(&dictionary);
    assert_int_equal(dictionary.len, 1423);
    uLong sum = adler32(adler32(0, NULL, 0), (const Bytef *)dictionary.data, (uInt)dictionary.len);
    assert_int_equal(sum, 0xe3c6a7c2);
    assert_int_equal(deflateInit(z, 9), Z_OK);
    assert_int_equal(deflateSetDictionary(z, (const Bytef *)dictionary.data, (uInt)dictionary.len),
                     Z_OK);
}

static void streams_open_speak_and_end_however_they_are_cut(void **state) {
    z_stream z = {0};
    with_dictionary(&z);
    AUTO_BUF in = BUF_INIT;
    AUTO_BUF ping = BUF_INIT;
    AUTO_BUF reset = BUF_INIT;
    AUTO_BUF settings = BUF_INIT;
    AUTO_BUF trailers = BUF_INIT;
    put_u32(&ping, 7);
    put_u32(&reset, 3);
    put_u32(&reset, 5);
    put_u32(&settings, 0);
    put_u32(&trailers, 1);
    put_open(&in, &z, 1, 0, "Streamtype: error\nport: 8080\nrequestid: 0");
    put_control(&in, 4, 0, &settings);
    put_open(&in, &z, 3, 1, "streamtype: data\nport: 8080\nrequestid: 0");
    put_data(&in, 1, 0, "hello, ");
    put_data(&in, 1, 1, "world");
    put_block(&trailers, &z, "x: y"); /* HEADERS: inflated, or what comes next would not */
    put_control(&in, 8, 0, &trailers);
    put_open(&in, &z, 5, 0, "streamtype: data");
    put_control(&in, 6, 0, &ping);
    ping.data[3] = 8; /* the answer to a ping of ours */
    put_control(&in, 6, 0, &ping);
    put_control(&in, 3, 0, &reset);
    put_data(&in, 5, 1, "");
    put_control(&in, 7, 0, &reset);
    deflateEnd(&z);
    static const size_t steps[] = {1, 2, 3, 7, 100, 1 << 20};
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        AUTO_BUF seen = BUF_INIT;
        assert_int_equal(read_all(&in, steps[i], &seen), SPDY_MORE);
        assert_string_equal(seen.data,
                            "0:1 [streamtype=error][port=8080][requestid=0]"
                            " 0:3 [streamtype=data][port=8080][requestid=0]|"
                            " 1:1 hello, world| 0:5 [streamtype=data] 3:7  2:3  1:5 | 4:0 ");
    }
}

static void broken_frames_are_refused(void **state) {
    z_stream z = {0};
    with_dictionary(&z);
    AUTO_BUF block = BUF_INIT;
    AUTO_FREE char *large = mem_alloc(SPDY_HEADERS_BYTES_MAX + 16);
    memset(large, 'x', SPDY_HEADERS_BYTES_MAX + 8);
    large[0] = 'a';
    large[1] = ':';
    large[2] = ' ';
    AUTO_BUF many = BUF_INIT;
    for (int i = 0; i <= SPDY_HEADERS_MAX; i++)
        buf_printf(&many, "%sa%d: b", i ? "\n" : "", i);
    for (int i = 0; i < 9; i++) {
        AUTO_BUF in = BUF_INIT;
        AUTO_BUF body = BUF_INIT;
        AUTO_BUF seen = BUF_INIT;
        switch (i) {
        case 0: /* another version */
            put_u32(&in, 0x80020001u);
            put_u32(&in, 0);
            break;
        case 1: /* a control frame above its bound */
            put_u32(&in, 0x80030001u);
            put_u32(&in, SPDY_CONTROL_BYTES_MAX + 1);
            break;
        case 2: /* too short for its type */
            put_u32(&body, 1);
            put_control(&in, 1, 0, &body);
            break;
        case 3: /* headers that do not inflate */
            buf_append(&body, "\0\0\0\1\0\0\0\0\0\0garbage", 17);
            put_control(&in, 1, 0, &body);
            break;
        case 4: /* headers that are large when inflated */
            put_open(&in, &z, 1, 0, large);
            break;
        case 5:
            deflateReset(&z);
            deflateEnd(&z);
            with_dictionary(&z);
            put_open(&in, &z, 1, 0, many.data);
            break;
        case 6: /* stream 0 */
            deflateEnd(&z);
            with_dictionary(&z);
            put_open(&in, &z, 0, 0, "a: b");
            break;
        case 7: /* a ping without its number */
            put_control(&in, 6, 0, &body);
            break;
        default: /* half a reset */
            put_u32(&body, 1);
            put_control(&in, 3, 0, &body);
        }
        assert_int_equal(read_all(&in, 1 << 20, &seen), SPDY_FAILED);
        assert_string_equal(seen.data, "");
    }
    deflateEnd(&z);
    /* A block whose lengths lead out of it: 1 header, whose name has 255 bytes. */
    static const unsigned char stored[] = {0x78, 0x01, 0, 8, 0,   0xf7, 0xff, 0, 0,    0,
                                           1,    0,    0, 0, 255, 0,    0,    0, 0xff, 0xff};
    AUTO_BUF in = BUF_INIT;
    AUTO_BUF body = BUF_INIT;
    AUTO_BUF seen = BUF_INIT;
    put_u32(&body, 1);
    put_u32(&body, 0);
    buf_append(&body, "\0\0", 2);
    buf_append(&body, stored, sizeof(stored));
    put_control(&in, 1, 0, &body);
    assert_int_equal(read_all(&in, 1 << 20, &seen), SPDY_FAILED);
}

/* What we write is what the reader reads: both sides have the same frames. */
static void written_frames_read_back(void **state) {
    AUTO_BUF out = BUF_INIT;
    AUTO_BUF seen = BUF_INIT;
    struct spdy_writer w = {0};
    AUTO_FREE char *large = mem_alloc(SPDY_DATA_BYTES_MAX + 2);
    memset(large, 'x', SPDY_DATA_BYTES_MAX + 1);
    spdy_write_reply(&w, &out, 1); /* two of them: one stream of headers */
    spdy_write_reply(&w, &out, 3);
    spdy_write_data(&out, 1, large, SPDY_DATA_BYTES_MAX + 1, true);
    spdy_write_data(&out, 3, "", 0, true);
    spdy_write_reset(&out, 5, SPDY_CANCEL);
    spdy_write_ping(&out, 9);
    spdy_write_goaway(&out, 3);
    assert_int_equal(read_all(&out, 1 << 20, &seen), SPDY_MORE);
    AUTO_FREE char *want = mem_printf("1:1 %s| 1:3 | 2:5  3:9  4:0 ", large);
    assert_string_equal(seen.data, want);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_open_speak_and_end_however_they_are_cut),
        cmocka_unit_test(broken_frames_are_refused),
        cmocka_unit_test(written_frames_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
