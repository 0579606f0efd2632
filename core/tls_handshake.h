/* Handshakes of TLS 1.2 by mbedTLS: certificates, key exchange, who the client is. What it leaves
 * are the keys of tls_record.h; the library's own state, 40 KiB a connection, is gone then. */
#ifndef CORE_TLS_HANDSHAKE_H
#define CORE_TLS_HANDSHAKE_H

#include "core/auth.h"
#include "core/tls_record.h"

/* What all handshakes of a server share. Used by one thread. */
struct tls_handshakes;

/* Borrows a: server certificate, and the CA that signs clients'. */
MUST_CHECK enum errc tls_handshakes_create(const struct auth *a, struct tls_handshakes **ret_hs,
                                           struct error *err);
void tls_handshakes_destroy(struct tls_handshakes *hs); /* after all of its handshakes */

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
