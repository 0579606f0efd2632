/* The certificates of one installation: a CA, a server certificate, an admin client certificate.
 *
 * All keys are EC P-256. What is missing, near its end, or does not fit (another CA, other names)
 * is made anew at start; the CA itself only when none of its two files exists, because every client
 * trusts it. Nothing here locks: a pki is constant once it is open. */
#ifndef CORE_PKI_H
#define CORE_PKI_H

#include "core/base/mem.h"

enum {
    PKI_CA_DAYS = 3650,
    PKI_LEAF_DAYS = 365,
    PKI_RENEW_DAYS = 30, /* a certificate that ends sooner is made anew */
    PKI_SANS_MAX = 64,
    PKI_FILE_BYTES_MAX = 64 << 10,
};

struct pki {
    char *ca_cert, *ca_key; /* PEM texts */
    char *server_cert, *server_key;
    char *admin_cert, *admin_key; /* CN=admin, O=system:masters */
};

/* dir: made 0700 if missing; files ca.crt ca.key server.crt server.key admin.crt admin.key, 0600.
 * The server certificate names localhost, the loopback addresses, this host's name and addresses,
 * kubernetes[.default[.svc]], and extra_sans (NULL-terminated, may be NULL). Errors name the file.
 */
MUST_CHECK enum errc pki_open(const char *dir, const char *const *extra_sans, struct pki **ret_pki,
                              struct error *err);
/* As it is on disk, writing nothing: for commands beside a running daemon. ERR_NOT_FOUND names the
 * file that is missing. */
MUST_CHECK enum errc pki_load(const char *dir, struct pki **ret_pki, struct error *err);
void pki_close(struct pki *p);
DEFINE_AUTO(pki, pki_close)

/* Gives a fresh client certificate and its key as PEM. organization may be NULL. ERR_INVALID: a
 * name that is empty, too long (64 bytes) or holds other characters than letters, digits and
 * :@._- . */
MUST_CHECK enum errc pki_issue_client(const struct pki *p, const char *common_name,
                                      const char *organization, char **ret_cert, char **ret_key,
                                      struct error *err);

/* Files of keys. Gives the text; NULL and OK when the file does not exist; what is longer than
 * PKI_FILE_BYTES_MAX is cut there. */
MUST_CHECK enum errc pki_read_file(const char *path, char **ret_text, struct error *err);
/* Writes it whole or not at all, mode 0600, synced. */
MUST_CHECK enum errc pki_write_file(const char *path, const char *text, struct error *err);

/* Fills `buf` from the kernel's random source: the generator handed to mbedTLS. Returns 0. */
int pki_random(void *unused, unsigned char *buf, size_t len);

#endif
