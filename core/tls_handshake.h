/* Handshakes of TLS 1.2 by mbedTLS: certificates, key exchange, who the client is. What it leaves
 * are the keys of tls_record.h; the library's own state, 40 KiB a connection, is gone then. */
#ifndef CORE_TLS_HANDSHAKE_H
#define CORE_TLS_HANDSHAKE_H

#include "core/tls.h"
#include "core/tls_record.h"

struct tls_credentials;

/* What all handshakes of a server share. Used by one thread. */
struct tls_handshakes;

/* Borrows opt->auth, copies the rest. Errors as tls_credentials_load(). */
MUST_CHECK enum errc tls_handshakes_create(const struct tls_options *opt,
                                           struct tls_handshakes **ret_hs, struct error *err);
void tls_handshakes_destroy(struct tls_handshakes *hs); /* after all of its handshakes */

/* Loads certificate and key again when their files have changed, for the handshakes that begin
 * after it. An error leaves everything as it is, and the next call tries again. */
MUST_CHECK enum errc tls_handshakes_refresh(struct tls_handshakes *hs, bool *ret_changed,
                                            struct error *err);
const struct tls_credentials *tls_handshakes_credentials(const struct tls_handshakes *hs);

/* One handshake; borrows hs and the socket, which does not block. NULL: out of memory. */
struct tls_handshake;
struct tls_handshake *tls_handshake_create(struct tls_handshakes *hs, int socket_fd);
void tls_handshake_destroy(struct tls_handshake *h);

enum tls_handshake_state { TLS_HANDSHAKE_WAITS, TLS_HANDSHAKE_DONE, TLS_HANDSHAKE_FAILED };
/* Goes on as far as the socket lets it. FAILED: the alert that says why is written. */
enum tls_handshake_state tls_handshake_step(struct tls_handshake *h);

/* After DONE, once: the keys of both directions. */
void tls_handshake_keys(struct tls_handshake *h, struct tls_record_key *ret_from_client,
                        struct tls_record_key *ret_to_client);
/* After DONE: true when the client's certificate names somebody whom our CA vouches for. */
bool tls_handshake_identity(const struct tls_handshake *h, struct auth_identity *ret_identity);

#endif
