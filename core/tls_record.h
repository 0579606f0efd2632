/* Records of TLS 1.2 under AES-GCM (RFC 5246, section 6.2; RFC 5288), one direction each, after a
 * handshake that somebody else made. Pure: no sockets, no allocation. The sole user of nettle.
 *
 *     type(1) version(2) length(2) │ nonce(8) │ text, encrypted │ tag(16)
 *     └──────── header ──────────┘ └──────────── length ──────────────┘ */
#ifndef CORE_TLS_RECORD_H
#define CORE_TLS_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <nettle/gcm.h>

enum {
    TLS_RECORD_TEXT_MAX = 16 << 10, /* bytes of one record, RFC 5246, section 6.2.1 */
    TLS_RECORD_HEADER_BYTES = 5,
    TLS_RECORD_NONCE_BYTES = 8,
    TLS_RECORD_TAG_BYTES = 16,
    TLS_RECORD_OVERHEAD = TLS_RECORD_HEADER_BYTES + TLS_RECORD_NONCE_BYTES + TLS_RECORD_TAG_BYTES,
    TLS_RECORD_BYTES_MAX = TLS_RECORD_TEXT_MAX + TLS_RECORD_OVERHEAD,
    TLS_RECORD_SALT_BYTES = 4,
    TLS_RECORD_KEY_BYTES_MAX = 32,
};

enum tls_record_type {
    TLS_RECORD_CHANGE_CIPHER_SPEC = 20,
    TLS_RECORD_ALERT = 21,
    TLS_RECORD_HANDSHAKE = 22,
    TLS_RECORD_DATA = 23,
};

/* Alerts, RFC 5246, section 7.2; a record of this type holds a level and one of these. */
enum { TLS_ALERT_WARNING = 1, TLS_ALERT_FATAL = 2 };
enum {
    TLS_ALERT_CLOSE_NOTIFY = 0,
    TLS_ALERT_UNEXPECTED_MESSAGE = 10,
    TLS_ALERT_BAD_RECORD_MAC = 20,
    TLS_ALERT_RECORD_OVERFLOW = 22,
    TLS_ALERT_DECODE_ERROR = 50,
    TLS_ALERT_NO_RENEGOTIATION = 100,
};

/* The key of one direction and how many records it has seen. Never copied: two users of one key
 * would repeat a nonce, which gives the key away. */
struct tls_record_key {
    bool aes256;
    union {
        struct gcm_aes128_ctx aes128;
        struct gcm_aes256_ctx aes256_ctx;
    };
    uint8_t salt[TLS_RECORD_SALT_BYTES];
    uint64_t sequence; /* of the next record */
};

/* key: 16 or 32 bytes. sequence: 1 right after a handshake, whose Finished was record 0. */
void tls_record_key_init(struct tls_record_key *k, const uint8_t *key, size_t key_len,
                         const uint8_t salt[TLS_RECORD_SALT_BYTES], uint64_t sequence);

/* Writes one record of len (at most TLS_RECORD_TEXT_MAX) bytes of text, that is
 * len + TLS_RECORD_OVERHEAD bytes, to out, which does not overlap text. Gives their number. */
size_t tls_record_seal(struct tls_record_key *k, enum tls_record_type type, const void *text,
                       size_t len, uint8_t *out);

/* The length of the record that begins at data, its header included; 0: more bytes are needed to
 * tell; negative: no record under AES-GCM looks like this, the value is the alert, negated. */
int tls_record_length(const uint8_t *data, size_t len);

/* Opens a whole record (see tls_record_length) in place. Gives the alert to send, 0 when all is
 * well; then the text is *ret_text, within the record. */
int tls_record_open(struct tls_record_key *k, uint8_t *record, size_t record_len,
                    enum tls_record_type *ret_type, uint8_t **ret_text, size_t *ret_len);

#endif
