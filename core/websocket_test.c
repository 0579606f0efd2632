/* The WebSocket codec: RFC 6455's own examples, frames in every cut, and everything that is
 * refused. */
#include "core/websocket.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

/* A client's frame, masked. */
static void put_frame(struct buf *out, unsigned first, const char *data, size_t len) {
    static const unsigned char mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    AUTO_BUF plain = BUF_INIT;
    websocket_write_head(&plain, first & 0x0f, len);
    plain.data[0] = (char)first;
    plain.data[1] = (char)(plain.data[1] | 0x80);
    buf_append(out, plain.data, plain.len);
    buf_append(out, mask, sizeof(mask));
    for (size_t i = 0; i < len; i++)
        buf_putc(out, (char)((unsigned char)data[i] ^ mask[i % 4]));
}

static void put_text_frame(struct buf *out, unsigned first, const char *text) {
    put_frame(out, first, text, strlen(text));
}

static void the_rfcs_key_gets_its_answer(void **state) {
    char accept[WEBSOCKET_ACCEPT_BYTES];
    assert_true(websocket_accept("dGhlIHNhbXBsZSBub25jZQ==", accept));
    assert_string_equal(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    static const char *const bad[] = {"",
                                      "dGhlIHNhbXBsZSBub25jZQ=",
                                      "dGhlIHNhbXBsZSBub25jZQ==x",
                                      "dGhlIHNhbXBsZSBub25jZ*==",
                                      "dGhlIHNhbXBsZSBub25jZXh4",
                                      "dGhlIHNhbXBsZSBub25j===="};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(websocket_accept(bad[i], accept));
}

static void the_rfcs_masked_hello_reads(void **state) {
    static const unsigned char hello[] = {0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d,
                                          0x7f, 0x9f, 0x4d, 0x51, 0x58};
    struct websocket_reader r = {0};
    struct websocket_message m;
    enum websocket_code code;
    struct error err = ERROR_INIT;
    websocket_feed(&r, hello, sizeof(hello));
    assert_int_equal(websocket_next(&r, &m, &code, &err), WEBSOCKET_MESSAGE);
    assert_int_equal(m.opcode, WEBSOCKET_TEXT);
    assert_int_equal(m.len, 5);
    assert_memory_equal(m.data, "Hello", 5);
    assert_int_equal(websocket_next(&r, &m, &code, &err), WEBSOCKET_MORE);
    websocket_reader_deinit(&r);
}

/* A conversation, fed in pieces of every size: the same messages come out. */
static void cuts_change_nothing(void **state) {
    AUTO_BUF in = BUF_INIT;
    AUTO_FREE char *large = mem_alloc(70000);
    memset(large, 'x', 70000);
    put_text_frame(&in, 0x02, "frag");
    put_text_frame(&in, 0x89, "are you there");
    put_text_frame(&in, 0x00, "");
    put_text_frame(&in, 0x80, "ments");
    put_frame(&in, 0x82, large, 126);
    put_frame(&in, 0x82, large, 70000);
    put_frame(&in, 0x88,
              "\x03\xe8"
              "bye",
              5);
    put_frame(&in, 0x88, "", 0);
    static const size_t steps[] = {1, 2, 3, 7, 4096, 1 << 20};
    for (size_t s = 0; s < ARRAY_LEN(steps); s++) {
        struct websocket_reader r = {0};
        AUTO_BUF seen = BUF_INIT;
        for (size_t at = 0; at < in.len; at += steps[s]) {
            size_t left = in.len - at;
            websocket_feed(&r, in.data + at, left < steps[s] ? left : steps[s]);
            struct websocket_message m;
            enum websocket_code code;
            struct error err = ERROR_INIT;
            while (websocket_next(&r, &m, &code, &err) == WEBSOCKET_MESSAGE)
                buf_printf(&seen, "%d:%zu:%.*s:%d ", (int)m.opcode, m.len,
                           (int)(m.len < 20 ? m.len : 0), m.data,
                           m.opcode == WEBSOCKET_CLOSE ? m.close_code : 0);
            assert_int_equal(err.code, OK);
        }
        assert_string_equal(seen.data, "9:13:are you there:0 2:9:fragments:0 2:126::0 2:70000::0 "
                                       "8:3:bye:1000 8:0::1005 ");
        websocket_reader_deinit(&r);
    }
}

static void expect_failure(const struct buf *in, enum websocket_code want) {
    struct websocket_reader r = {0};
    struct websocket_message m;
    enum websocket_code code = 0;
    struct error err = ERROR_INIT;
    enum websocket_result result;
    websocket_feed(&r, in->data, in->len);
    while ((result = websocket_next(&r, &m, &code, &err)) == WEBSOCKET_MESSAGE) {}
    assert_int_equal(result, WEBSOCKET_FAILED);
    assert_int_equal(code, want);
    assert_true(err.text[0]);
    assert_int_equal(websocket_next(&r, &m, &code, &err), WEBSOCKET_FAILED); /* for good */
    websocket_reader_deinit(&r);
}

static void broken_frames_are_refused(void **state) {
    static const struct {
        const char *bytes;
        size_t len;
        enum websocket_code code;
    } cases[] = {
#define CASE(text, want) {text, sizeof(text) - 1, want}
        CASE("\x81\x05Hello", WEBSOCKET_PROTOCOL_ERROR), /* no mask */
        CASE("\xc1\x80"
             "mask",
             WEBSOCKET_PROTOCOL_ERROR), /* a reserved bit */
        CASE("\x83\x80"
             "mask",
             WEBSOCKET_PROTOCOL_ERROR), /* opcode 3 */
        CASE("\x8f\x80"
             "mask",
             WEBSOCKET_PROTOCOL_ERROR), /* opcode 15 */
        CASE("\x80\x80"
             "mask",
             WEBSOCKET_PROTOCOL_ERROR), /* continues nothing */
        CASE("\x01\x80"
             "mask\x81\x80"
             "mask",
             WEBSOCKET_PROTOCOL_ERROR), /* begins inside another */
        CASE("\x09\x80"
             "mask",
             WEBSOCKET_PROTOCOL_ERROR), /* a ping in fragments */
        CASE("\x89\xfe\x00\x7e"
             "mask",
             WEBSOCKET_PROTOCOL_ERROR), /* a ping of 126 bytes */
        CASE("\x82\xfe\x00\x01"
             "maskx",
             WEBSOCKET_PROTOCOL_ERROR), /* length 1 in two bytes */
        CASE("\x82\xff\0\0\0\0\0\0\xff\xff"
             "mask",
             WEBSOCKET_PROTOCOL_ERROR),
        CASE("\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff"
             "mask",
             WEBSOCKET_TOO_BIG),
        CASE("\x82\xff\0\0\0\0\0\x10\0\x01"
             "mask",
             WEBSOCKET_TOO_BIG),                                    /* 1 MiB and 1 */
        CASE("\x88\x81\0\0\0\0\x03", WEBSOCKET_PROTOCOL_ERROR),     /* half a close code */
        CASE("\x88\x82\0\0\0\0\x03\xed", WEBSOCKET_PROTOCOL_ERROR), /* 1005 */
        CASE("\x88\x82\0\0\0\0\x00\x01", WEBSOCKET_PROTOCOL_ERROR),
        CASE("\x88\x83\0\0\0\0\x03\xe8\xff", WEBSOCKET_PROTOCOL_ERROR),
        CASE("\x81\x81\0\0\0\0\xff", WEBSOCKET_BAD_TEXT),
        CASE("\x81\x82\0\0\0\0\xc0\x80", WEBSOCKET_BAD_TEXT),         /* an overlong NUL */
        CASE("\x81\x83\0\0\0\0\xed\xa0\x80", WEBSOCKET_BAD_TEXT),     /* a surrogate */
        CASE("\x81\x84\0\0\0\0\xf4\x90\x80\x80", WEBSOCKET_BAD_TEXT), /* above the last one */
        CASE("\x81\x82\0\0\0\0\xe2\x82", WEBSOCKET_BAD_TEXT),         /* half a character */
#undef CASE
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_BUF in = BUF_INIT;
        buf_append(&in, cases[i].bytes, cases[i].len);
        expect_failure(&in, cases[i].code);
    }
}

/* The bound holds for all fragments together. */
static void fragments_add_up_to_the_bound(void **state) {
    AUTO_BUF in = BUF_INIT;
    AUTO_FREE char *part = mem_alloc(WEBSOCKET_MESSAGE_BYTES_MAX / 2);
    put_frame(&in, 0x02, part, WEBSOCKET_MESSAGE_BYTES_MAX / 2);
    put_frame(&in, 0x00, part, WEBSOCKET_MESSAGE_BYTES_MAX / 2);
    put_frame(&in, 0x80, "", 0);
    struct websocket_reader r = {0};
    struct websocket_message m;
    enum websocket_code code;
    struct error err = ERROR_INIT;
    websocket_feed(&r, in.data, in.len);
    assert_int_equal(websocket_next(&r, &m, &code, &err), WEBSOCKET_MESSAGE);
    assert_int_equal(m.len, WEBSOCKET_MESSAGE_BYTES_MAX);
    websocket_reader_deinit(&r);
    in.len -= 6; /* the empty last one */
    put_frame(&in, 0x80, "x", 1);
    expect_failure(&in, WEBSOCKET_TOO_BIG);
}

static void text_is_read_in_any_language(void **state) {
    AUTO_BUF in = BUF_INIT;
    static const char text[] = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\xa7";
    put_text_frame(&in, 0x01, "a\xc3"); /* the cut goes through a character */
    put_text_frame(&in, 0x80, text + 2);
    struct websocket_reader r = {0};
    struct websocket_message m;
    enum websocket_code code;
    struct error err = ERROR_INIT;
    websocket_feed(&r, in.data, in.len);
    assert_int_equal(websocket_next(&r, &m, &code, &err), WEBSOCKET_MESSAGE);
    assert_int_equal(m.len, sizeof(text) - 1);
    assert_memory_equal(m.data, text, m.len);
    websocket_reader_deinit(&r);
}

static void written_frames_are_minimal(void **state) {
    static const struct {
        size_t len, head;
    } cases[] = {{0, 2}, {125, 2}, {126, 4}, {65535, 4}, {65536, 10}};
    AUTO_FREE char *data = mem_alloc(65536);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_BUF out = BUF_INIT;
        websocket_write(&out, WEBSOCKET_BINARY, data, cases[i].len);
        assert_int_equal(out.len, cases[i].head + cases[i].len);
        assert_int_equal((unsigned char)out.data[0], 0x82);
        assert_false(out.data[1] & 0x80);
    }
    AUTO_BUF out = BUF_INIT;
    AUTO_FREE char *reason = mem_alloc(200);
    for (size_t i = 0; i < 66; i++)
        strcpy(reason + 3 * i, "\xe2\x82\xac");
    websocket_write_close(&out, WEBSOCKET_SERVER_ERROR, reason);
    assert_int_equal(out.len, 2 + 2 + 123); /* 41 whole characters */
    assert_int_equal((unsigned char)out.data[2] << 8 | (unsigned char)out.data[3], 1011);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rfcs_key_gets_its_answer),
        cmocka_unit_test(the_rfcs_masked_hello_reads),
        cmocka_unit_test(cuts_change_nothing),
        cmocka_unit_test(broken_frames_are_refused),
        cmocka_unit_test(fragments_add_up_to_the_bound),
        cmocka_unit_test(text_is_read_in_any_language),
        cmocka_unit_test(written_frames_are_minimal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
