/* Records: against mbedTLS' GCM as the twin, and what must not open. Whole connections with other
 * people's TLS are tls_test.c's. */
#include "core/tls_record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include <mbedtls/gcm.h>

#include "core/base/mem.h"

static const uint8_t KEY[32] = "0123456789abcdef0123456789abcdef";
static const uint8_t SALT[TLS_RECORD_SALT_BYTES] = {1, 2, 3, 4};

static void fill(uint8_t *data, size_t len) {
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)(i * 7 + 3);
}

/* Does mbedTLS find our text where RFC 5288 says? */
static void check_with_twin(const uint8_t *record, size_t record_len, size_t key_len,
                            uint64_t sequence, const uint8_t *text, size_t len) {
    mbedtls_gcm_context gcm;
    mbedtls_gcm_init(&gcm);
    assert_int_equal(mbedtls_gcm_setkey(&gcm, MBEDTLS_CIPHER_ID_AES, KEY, 8 * (unsigned)key_len),
                     0);
    uint8_t iv[12], authenticated[13] = {0};
    memcpy(iv, SALT, 4);
    memcpy(iv + 4, record + TLS_RECORD_HEADER_BYTES, 8);
    authenticated[7] = (uint8_t)sequence;
    memcpy(authenticated + 8, record, 3);
    authenticated[11] = (uint8_t)(len >> 8);
    authenticated[12] = (uint8_t)len;
    AUTO_FREE uint8_t *opened = mem_alloc(len + 1);
    assert_int_equal(record_len, len + TLS_RECORD_OVERHEAD);
    assert_int_equal(mbedtls_gcm_auth_decrypt(&gcm, len, iv, sizeof(iv), authenticated,
                                              sizeof(authenticated), record + record_len - 16, 16,
                                              record + 13, opened),
                     0);
    assert_memory_equal(opened, text, len);
    mbedtls_gcm_free(&gcm);
}

static void sealed_is_what_others_open(void **state) {
    static const size_t lengths[] = {0, 1, 15, 16, 17, 1000, TLS_RECORD_TEXT_MAX};
    static uint8_t text[TLS_RECORD_TEXT_MAX], record[TLS_RECORD_BYTES_MAX];
    fill(text, sizeof(text));
    for (size_t key_len = 16; key_len <= 32; key_len += 16) {
        struct tls_record_key out, in;
        tls_record_key_init(&out, KEY, key_len, SALT, 1);
        tls_record_key_init(&in, KEY, key_len, SALT, 1);
        for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
            size_t n = tls_record_seal(&out, TLS_RECORD_DATA, text, lengths[i], record);
            check_with_twin(record, n, key_len, i + 1, text, lengths[i]);
            assert_int_equal(tls_record_length(record, n), n);
            enum tls_record_type type;
            uint8_t *opened;
            size_t len;
            assert_int_equal(tls_record_open(&in, record, n, &type, &opened, &len), 0);
            assert_int_equal(type, TLS_RECORD_DATA);
            assert_int_equal(len, lengths[i]);
            assert_memory_equal(opened, text, len);
        }
    }
}

/* Opens a copy of the record with one byte changed, or under another sequence number. */
static int open_changed(const uint8_t *record, size_t n, size_t changed, uint64_t sequence) {
    uint8_t copy[256];
    struct tls_record_key in;
    enum tls_record_type type;
    uint8_t *text;
    size_t len;
    tls_record_key_init(&in, KEY, 16, SALT, sequence);
    memcpy(copy, record, n);
    if (changed < n)
        copy[changed] ^= 0x10;
    return tls_record_open(&in, copy, n, &type, &text, &len);
}

static void what_was_changed_does_not_open(void **state) {
    static const uint8_t text[100] = "secret";
    uint8_t record[sizeof(text) + TLS_RECORD_OVERHEAD];
    struct tls_record_key out;
    tls_record_key_init(&out, KEY, 16, SALT, 1);
    size_t n = tls_record_seal(&out, TLS_RECORD_DATA, text, sizeof(text), record);
    assert_int_equal(open_changed(record, n, SIZE_MAX, 1), 0);
    assert_int_equal(open_changed(record, n, SIZE_MAX, 2), TLS_ALERT_BAD_RECORD_MAC); /* repeated */
    assert_int_equal(open_changed(record, n, 0, 1), TLS_ALERT_BAD_RECORD_MAC);        /* the type */
    for (size_t i = TLS_RECORD_HEADER_BYTES; i < n; i++)
        assert_int_equal(open_changed(record, n, i, 1), TLS_ALERT_BAD_RECORD_MAC);
}

static void lengths_have_bounds(void **state) {
    struct {
        uint8_t head[5];
        size_t len;
        int expect;
    } cases[] = {
        {{23, 3, 3, 0, 0}, 4, 0},                                /* too early to tell */
        {{23, 3, 3, 0, 24}, 5, 29},                              /* empty */
        {{23, 3, 3, 0, 23}, 5, -TLS_ALERT_DECODE_ERROR},         /* no room for a tag */
        {{23, 3, 1, 0, 24}, 5, -TLS_ALERT_DECODE_ERROR},         /* TLS 1.0 */
        {{'G', 'E', 'T', ' ', '/'}, 5, -TLS_ALERT_DECODE_ERROR}, /* no TLS */
        {{23, 3, 3, 0x40, 24}, 5, TLS_RECORD_BYTES_MAX},         /* the longest */
        {{23, 3, 3, 0x40, 25}, 5, -TLS_ALERT_RECORD_OVERFLOW},   /* one more */
        {{23, 3, 3, 0xff, 0xff}, 5, -TLS_ALERT_RECORD_OVERFLOW},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(tls_record_length(cases[i].head, cases[i].len), cases[i].expect);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sealed_is_what_others_open),
        cmocka_unit_test(what_was_changed_does_not_open),
        cmocka_unit_test(lengths_have_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
