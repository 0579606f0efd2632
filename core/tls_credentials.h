/* What a TLS server shows of itself: certificate, key, and mbedTLS' configuration made of them.
 * From the installation's own PKI, or from two PEM files, which may change while the server runs.
 * Used by one thread. */
#ifndef CORE_TLS_CREDENTIALS_H
#define CORE_TLS_CREDENTIALS_H

#include <mbedtls/ssl.h>

#include "core/tls.h"

struct tls_credentials;

/* Gives a reference. ERR_INVALID names option and file: only one of two is named, the file is not
 * there, holds no PEM, a key of a kind that is not served (RSA; EC on P-256 or P-384 are), or one
 * that is not the certificate's. ERR_IO: it cannot be read. Borrows opt for the call. */
MUST_CHECK enum errc tls_credentials_load(const struct tls_options *opt,
                                          struct tls_credentials **ret_c, struct error *err);
struct tls_credentials *tls_credentials_ref(struct tls_credentials *c);
void tls_credentials_unref(struct tls_credentials *c); /* NULL is fine */

mbedtls_ssl_config *tls_credentials_config(struct tls_credentials *c); /* borrowed */
/* Have the files that it was made from changed, or gone, since? */
bool tls_credentials_stale(const struct tls_credentials *c, const struct tls_options *opt);

enum { TLS_CREDENTIALS_DATE_BYTES = 80 }; /* room for numbers of any size */
/* The end of the certificate, "2027-11-24T16:00:00Z"; true when that is past. */
bool tls_credentials_expired(const struct tls_credentials *c,
                             char ret_not_after[TLS_CREDENTIALS_DATE_BYTES]);

#endif
