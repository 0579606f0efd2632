/* Certificate and key of a TLS server, and how it shakes hands.
 *
 * Files are known by device, inode, size and time of change. That is taken down before they are
 * read: a file that changes meanwhile is stale at once and read again. Two files cannot be replaced
 * in one step, so between the first and the second the pair does not match; loading then fails, and
 * whoever asked keeps what he has until it does (tls.c asks again at every handshake).
 *
 * mbedTLS' configuration points into certificate and key, and every handshake under way points
 * at the configuration: hence the references. */
#include "core/tls_credentials.h"

#include <stdio.h>
#include <sys/stat.h>

#include <mbedtls/ecp.h>
#include <mbedtls/error.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>

#include "core/pki.h"

/* Enough of a file's inode to see that it is another file, or was written to. */
struct file_mark {
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec modified, changed;
};

struct tls_credentials {
    uint32_t refs;
    struct file_mark cert_mark, key_mark; /* zero: not from files */
    mbedtls_ssl_config config;
    mbedtls_x509_crt ca, certificate;
    mbedtls_pk_context key;
};

/* AES-GCM is what tls_record.c speaks; the key of the certificate says which half applies. */
static const int ciphersuites[] = {MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
                                   MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
                                   MBEDTLS_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
                                   MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, 0};
/* The library would begin with the largest that the client knows, which takes three times as long
 * for a handshake and is stronger than the certificates' own P-256. */
static const mbedtls_ecp_group_id curves[] = {MBEDTLS_ECP_DP_SECP256R1, MBEDTLS_ECP_DP_SECP384R1,
                                              MBEDTLS_ECP_DP_NONE};
static const char *protocols[] = {"http/1.1", NULL};

/* ---- files ---- */

/* Of a file that is not there: zero. */
static struct file_mark mark_of(const char *path) {
    struct stat st;
    if (!path || !*path || stat(path, &st))
        return (struct file_mark){0};
    return (struct file_mark){.dev = st.st_dev,
                              .ino = st.st_ino,
                              .size = st.st_size,
                              .modified = st.st_mtim,
                              .changed = st.st_ctim};
}

static bool same_time(struct timespec a, struct timespec b) {
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool same_mark(const struct file_mark *a, const struct file_mark *b) {
    return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
           same_time(a->modified, b->modified) && same_time(a->changed, b->changed);
}

static enum errc bad_file(struct error *err, const char *option, const char *path, int rc) {
    char text[128];
    mbedtls_strerror(rc, text, sizeof(text));
    return err_field(err, ERR_INVALID, option, "%s: %s: %s", option, path, text);
}

static enum errc read_file(const char *option, const char *path, char **ret_text,
                           struct error *err) {
    enum errc rc = pki_read_file(path, ret_text, err);
    if (rc)
        return err_wrap(err, "%s", option);
    if (!*ret_text)
        return err_field(err, ERR_INVALID, option, "%s: %s: no such file", option, path);
    return OK;
}

/* ---- parsing ---- */

static int parse_certificate(mbedtls_x509_crt *into, const char *pem) {
    int rc = mbedtls_x509_crt_parse(into, (const unsigned char *)pem, strlen(pem) + 1);
    return rc > 0 ? MBEDTLS_ERR_X509_INVALID_FORMAT : rc; /* positive: so many of a chain failed */
}

static int parse_key(mbedtls_pk_context *into, const char *pem) {
    const unsigned char *text = (const unsigned char *)pem;
#if MBEDTLS_VERSION_MAJOR >= 3
    return mbedtls_pk_parse_key(into, text, strlen(pem) + 1, NULL, 0, pki_random, NULL);
#else
    return mbedtls_pk_parse_key(into, text, strlen(pem) + 1, NULL, 0);
#endif
}

static bool is_pair(const mbedtls_pk_context *public, mbedtls_pk_context *private) {
#if MBEDTLS_VERSION_MAJOR >= 3
    return !mbedtls_pk_check_pair(public, private, pki_random, NULL);
#else
    return !mbedtls_pk_check_pair(public, private);
#endif
}

static bool is_served_kind(mbedtls_pk_context *key) {
    if (mbedtls_pk_can_do(key, MBEDTLS_PK_RSA))
        return true;
    if (!mbedtls_pk_can_do(key, MBEDTLS_PK_ECKEY))
        return false;
    size_t bits = mbedtls_pk_get_bitlen(key);
    return bits == 256 || bits == 384;
}

static enum errc load_files(struct tls_credentials *c, const struct tls_options *opt,
                            struct error *err) {
    const char *cert_file = opt->cert_file, *key_file = opt->key_file;
    if (!key_file || !*key_file)
        return err_field(err, ERR_INVALID, opt->key_option, "%s: missing beside %s (%s)",
                         opt->key_option, opt->cert_option, cert_file);
    if (!cert_file || !*cert_file)
        return err_field(err, ERR_INVALID, opt->cert_option, "%s: missing beside %s (%s)",
                         opt->cert_option, opt->key_option, key_file);
    c->cert_mark = mark_of(cert_file);
    c->key_mark = mark_of(key_file);
    AUTO_FREE char *cert = NULL;
    AUTO_FREE char *key = NULL;
    enum errc rc = read_file(opt->cert_option, cert_file, &cert, err);
    rc = rc ? rc : read_file(opt->key_option, key_file, &key, err);
    if (rc)
        return rc;
    int bad = parse_certificate(&c->certificate, cert);
    if (bad)
        return bad_file(err, opt->cert_option, cert_file, bad);
    bad = parse_key(&c->key, key);
    explicit_bzero(key, strlen(key));
    if (bad)
        return bad_file(err, opt->key_option, key_file, bad);
    if (!is_served_kind(&c->key))
        return err_field(err, ERR_INVALID, opt->key_option,
                         "%s: %s: a key is RSA, or EC on P-256 or P-384", opt->key_option,
                         key_file);
    if (!is_pair(&c->certificate.pk, &c->key))
        return err_field(err, ERR_INVALID, opt->key_option,
                         "%s: %s is not the key of the certificate in %s", opt->key_option,
                         key_file, cert_file);
    return OK;
}

static enum errc load_pki(struct tls_credentials *c, const struct auth *a, struct error *err) {
    const struct pki *p = auth_pki(a);
    int rc = parse_certificate(&c->certificate, p->server_cert);
    rc = rc ? rc : parse_key(&c->key, p->server_key);
    return rc ? bad_file(err, "TLS", "the certificate of our own", rc) : OK;
}

/* ---- how to shake hands ---- */

static enum errc configure(struct tls_credentials *c, bool ask_clients, struct error *err) {
    mbedtls_ssl_config *config = &c->config;
    int rc = mbedtls_ssl_config_defaults(config, MBEDTLS_SSL_IS_SERVER,
                                         MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT);
    rc = rc ? rc : mbedtls_ssl_conf_own_cert(config, &c->certificate, &c->key);
    rc = rc ? rc : mbedtls_ssl_conf_alpn_protocols(config, protocols);
    if (rc) {
        char text[128];
        mbedtls_strerror(rc, text, sizeof(text));
        return err_set(err, ERR_INTERNAL, "TLS: %s", text);
    }
    mbedtls_ssl_conf_rng(config, pki_random, NULL);
    mbedtls_ssl_conf_ca_chain(config, &c->ca, NULL);
    mbedtls_ssl_conf_authmode(config,
                              ask_clients ? MBEDTLS_SSL_VERIFY_OPTIONAL : MBEDTLS_SSL_VERIFY_NONE);
    mbedtls_ssl_conf_ciphersuites(config, ciphersuites);
    mbedtls_ssl_conf_curves(config, curves);
    /* Records are read in bulk after the handshake, so none may be of another size. */
    mbedtls_ssl_conf_renegotiation(config, MBEDTLS_SSL_RENEGOTIATION_DISABLED);
    /* 1.2 exactly: 2.28 has nothing newer, and 3.x would need its PSA layer for 1.3. */
    mbedtls_ssl_conf_min_version(config, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
    mbedtls_ssl_conf_max_version(config, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
    return OK;
}

/* ---- public ---- */

static bool from_files(const struct tls_options *opt) {
    return (opt->cert_file && *opt->cert_file) || (opt->key_file && *opt->key_file);
}

enum errc tls_credentials_load(const struct tls_options *opt, struct tls_credentials **ret_c,
                               struct error *err) {
    struct tls_credentials *c = mem_alloc(sizeof(*c));
    c->refs = 1;
    mbedtls_ssl_config_init(&c->config);
    mbedtls_x509_crt_init(&c->ca);
    mbedtls_x509_crt_init(&c->certificate);
    mbedtls_pk_init(&c->key);
    enum errc rc = from_files(opt) ? load_files(c, opt, err) : load_pki(c, opt->auth, err);
    if (!rc && opt->ask_clients) {
        int bad = parse_certificate(&c->ca, auth_pki(opt->auth)->ca_cert);
        if (bad)
            rc = bad_file(err, "TLS", "the certificate of our CA", bad);
    }
    rc = rc ? rc : configure(c, opt->ask_clients, err);
    if (rc) {
        tls_credentials_unref(c);
        return rc;
    }
    *ret_c = c;
    return OK;
}

struct tls_credentials *tls_credentials_ref(struct tls_credentials *c) {
    c->refs++;
    return c;
}

void tls_credentials_unref(struct tls_credentials *c) {
    if (!c || --c->refs)
        return;
    mbedtls_ssl_config_free(&c->config);
    mbedtls_pk_free(&c->key);
    mbedtls_x509_crt_free(&c->certificate);
    mbedtls_x509_crt_free(&c->ca);
    free(c);
}

mbedtls_ssl_config *tls_credentials_config(struct tls_credentials *c) {
    return &c->config;
}

bool tls_credentials_stale(const struct tls_credentials *c, const struct tls_options *opt) {
    if (!from_files(opt))
        return false;
    struct file_mark cert = mark_of(opt->cert_file), key = mark_of(opt->key_file);
    return !same_mark(&cert, &c->cert_mark) || !same_mark(&key, &c->key_mark);
}

bool tls_credentials_expired(const struct tls_credentials *c,
                             char ret_not_after[TLS_CREDENTIALS_DATE_BYTES]) {
    const mbedtls_x509_time *t = &c->certificate.valid_to;
    snprintf(ret_not_after, TLS_CREDENTIALS_DATE_BYTES, "%04d-%02d-%02dT%02d:%02d:%02dZ", t->year,
             t->mon, t->day, t->hour, t->min, t->sec);
    return mbedtls_x509_time_is_past(t);
}
