/* What Accept-Encoding allows, and that the compressed body is the body. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

#include "core/http_internal.h"

static void accepts_gzip_by_name(void **state) {
    static const char *const yes[] = {"gzip",          "GZIP",     "deflate, gzip",
                                      "gzip;q=0.5",    "br,gzip ", "identity, gzip;q=1.0, *",
                                      "gzip ; q=0.001"};
    static const char *const no[] = {NULL, "",      "identity", "gzip;q=0",        "gzip;q=0.000",
                                     "*",  "xgzip", "gzipped",  "br;q=1, deflate", ", ,"};
    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        if (!http_gzip_accepted(yes[i]))
            fail_msg("\"%s\" has gzip", yes[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(no); i++) {
        if (http_gzip_accepted(no[i]))
            fail_msg("\"%s\" has no gzip", no[i] ? no[i] : "(absent)");
    }
}

static void what_is_compressed_comes_back(void **state) {
    AUTO_BUF body = BUF_INIT, small = BUF_INIT, back = BUF_INIT;
    for (int i = 0; i < 20000; i++)
        buf_printf(&body, "{\"name\":\"object-%d\"},", i);
    struct http_part parts[3] = {
        {body.data, 100000}, {body.data, 0}, {body.data + 100000, body.len - 100000}};
    assert_true(http_gzip(parts, ARRAY_LEN(parts), &small));
    assert_true(small.len < body.len / 4);
    buf_reserve(&back, body.len);
    z_stream z = {.next_in = (unsigned char *)small.data,
                  .avail_in = (unsigned)small.len,
                  .next_out = (unsigned char *)back.data,
                  .avail_out = (unsigned)body.len};
    assert_int_equal(inflateInit2(&z, 15 + 16), Z_OK);
    assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
    assert_int_equal(z.total_out, body.len);
    assert_memory_equal(back.data, body.data, body.len);
    inflateEnd(&z);
}

static void what_does_not_shrink_is_left_alone(void **state) {
    AUTO_BUF body = BUF_INIT, out = BUF_INIT;
    uint32_t noise = 1;
    for (int i = 0; i < 200000; i++) {
        noise = noise * 1664525 + 1013904223;
        buf_putc(&body, (char)(noise >> 24));
    }
    struct http_part whole = {body.data, body.len};
    assert_false(http_gzip(&whole, 1, &out));
    assert_int_equal(out.len, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_gzip_by_name),
        cmocka_unit_test(what_is_compressed_comes_back),
        cmocka_unit_test(what_does_not_shrink_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
