/* TLS: one epoll thread does handshakes and records for all connections and hands the HTTP server
 * the plain side of a socketpair. */
#ifndef CORE_TLS_H
#define CORE_TLS_H

#include "core/auth.h"

struct tls;

enum {
    TLS_CONNECTIONS_MAX = 8192, /* beyond it new ones are closed at once */
    TLS_HANDSHAKES_MAX = 1024,  /* of those, not through their handshake yet */
    TLS_HANDSHAKE_SECONDS = 10,
    TLS_FLUSH_SECONDS = 60, /* for the last bytes to a client, when the HTTP side has closed */
    TLS_LINGER_SECONDS = 2, /* reading on after our side is closed, so that the last bytes arrive */
};

struct tls_options {
    const struct auth *auth; /* borrowed for the life: its PKI's server certificate, if no files are
                                named, and the CA of clients' certificates */
    const char *cert_file, *key_file; /* PEM, the server's certificate first; both, or neither (NULL
                                         or ""). Looked at when a client connects, and read again
                                         when they have changed; files that are bad then change
                                         nothing, and a warning is logged, once */
    const char *cert_option, *key_option; /* what messages call them; needed beside files */
    bool ask_clients; /* for a certificate. It is not required; one that our CA did not sign, or
                         that has expired, counts as none */
};

/* TLS 1.2, ALPN http/1.1. ERR_INVALID, ERR_IO: option and file are named. */
MUST_CHECK enum errc tls_start(const struct tls_options *opt, struct tls **ret_tls,
                               struct error *err);
void tls_stop(struct tls *t);
DEFINE_AUTO(tls, tls_stop)

/* Takes a connected, non-blocking TCP socket. When the handshake is done, calls on_plain from the
 * TLS thread with the plain side (callee owns it), the encrypted socket to ask for the client's
 * address, and the client certificate's identity (NULL: none); both borrowed for the call. */
typedef void tls_plain_fn(void *user, int plain_fd, int socket_fd,
                          const struct auth_identity *peer);
void tls_accept(struct tls *t, int socket_fd, tls_plain_fn *on_plain, void *user);
/* Closes the connections of `user` that are in their handshake; when it returns, on_plain is not
 * called for that user any more. */
void tls_detach(struct tls *t, void *user);

#endif
