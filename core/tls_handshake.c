/* Handshakes of TLS 1.2 by mbedTLS.
 *
 * The library derives the keys and keeps them to itself, but tells a callback what they come from:
 * the master secret and both sides' random bytes. The key block is made of these once more, with
 * the library's own function (RFC 5246, section 6.3):
 *
 *     PRF(master secret, "key expansion", server random + client random)
 *         = client's key │ server's key │ client's salt │ server's salt
 *
 * Without renegotiation, which is off, there is one handshake and one such block a connection. */
#include "core/tls_handshake.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

#include <mbedtls/net_sockets.h>
#include <mbedtls/oid.h>
#include <mbedtls/platform_util.h>
#include <mbedtls/ssl.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>

#include "core/tls_credentials.h"

enum {
    MASTER_SECRET_BYTES = 48,
    RANDOM_BYTES = 32,
    KEY_BLOCK_BYTES_MAX = 2 * (TLS_RECORD_KEY_BYTES_MAX + TLS_RECORD_SALT_BYTES),
    ORGANIZATIONS_MAX = AUTH_GROUPS_MAX,
};

struct tls_handshake {
    struct tls_handshakes *shared;
    struct tls_credentials *credentials; /* a reference: ssl points into it */
    int socket_fd;
    mbedtls_ssl_context ssl;
    /* What the keys come from; the callback fills it in. */
    bool secrets_known;
    uint8_t master[MASTER_SECRET_BYTES];
    uint8_t randoms[2 * RANDOM_BYTES]; /* server's, client's */
    mbedtls_tls_prf_types prf;
};

struct tls_handshakes {
    struct tls_options opt;              /* its texts are our own */
    struct tls_credentials *credentials; /* a reference, as each handshake has one */
    struct tls_handshake *current; /* the one whose step runs: the callback knows no other way */
};

/* ---- what all share ---- */

static void take_secrets(struct tls_handshake *h, const uint8_t *master,
                         const uint8_t client_random[RANDOM_BYTES],
                         const uint8_t server_random[RANDOM_BYTES], mbedtls_tls_prf_types prf) {
    memcpy(h->master, master, MASTER_SECRET_BYTES);
    memcpy(h->randoms, server_random, RANDOM_BYTES);
    memcpy(h->randoms + RANDOM_BYTES, client_random, RANDOM_BYTES);
    h->prf = prf;
    h->secrets_known = true;
}

#if MBEDTLS_VERSION_MAJOR >= 3
static void on_secrets(void *user, mbedtls_ssl_key_export_type type, const unsigned char *secret,
                       size_t secret_len, const unsigned char client_random[RANDOM_BYTES],
                       const unsigned char server_random[RANDOM_BYTES], mbedtls_tls_prf_types prf) {
    struct tls_handshakes *hs = user;
    if (type == MBEDTLS_SSL_KEY_EXPORT_TLS12_MASTER_SECRET && secret_len == MASTER_SECRET_BYTES)
        take_secrets(hs->current, secret, client_random, server_random, prf);
}
#else
static int on_secrets(void *user, const unsigned char *master, const unsigned char *key_block,
                      size_t mac_len, size_t key_len, size_t iv_len,
                      const unsigned char client_random[RANDOM_BYTES],
                      const unsigned char server_random[RANDOM_BYTES], mbedtls_tls_prf_types prf) {
    struct tls_handshakes *hs = user;
    take_secrets(hs->current, master, client_random, server_random, prf);
    return 0;
}
#endif

/* On the library's side the callback belongs to a configuration, or (3.x) to a handshake. */
static void listen_for_secrets(struct tls_handshakes *hs) {
#if MBEDTLS_VERSION_MAJOR < 3
    mbedtls_ssl_conf_export_keys_ext_cb(tls_credentials_config(hs->credentials), on_secrets, hs);
#endif
}

/* Gives a copy; NULL stays NULL. */
static struct tls_options copy_options(const struct tls_options *opt) {
    struct tls_options copy = *opt;
    copy.cert_file = mem_strdup(opt->cert_file);
    copy.key_file = mem_strdup(opt->key_file);
    copy.cert_option = mem_strdup(opt->cert_option ? opt->cert_option : "certificate");
    copy.key_option = mem_strdup(opt->key_option ? opt->key_option : "key");
    return copy;
}

enum errc tls_handshakes_create(const struct tls_options *opt, struct tls_handshakes **ret_hs,
                                struct error *err) {
    struct tls_handshakes *hs = mem_alloc(sizeof(*hs));
    hs->opt = copy_options(opt);
    enum errc rc = tls_credentials_load(&hs->opt, &hs->credentials, err);
    if (rc) {
        tls_handshakes_destroy(hs);
        return rc;
    }
    listen_for_secrets(hs);
    *ret_hs = hs;
    return OK;
}

void tls_handshakes_destroy(struct tls_handshakes *hs) {
    if (!hs)
        return;
    tls_credentials_unref(hs->credentials);
    free((char *)hs->opt.cert_file);
    free((char *)hs->opt.key_file);
    free((char *)hs->opt.cert_option);
    free((char *)hs->opt.key_option);
    free(hs);
}

enum errc tls_handshakes_refresh(struct tls_handshakes *hs, bool *ret_changed, struct error *err) {
    *ret_changed = false;
    if (!tls_credentials_stale(hs->credentials, &hs->opt))
        return OK;
    struct tls_credentials *fresh = NULL;
    enum errc rc = tls_credentials_load(&hs->opt, &fresh, err);
    if (rc)
        return rc;
    tls_credentials_unref(hs->credentials);
    hs->credentials = fresh;
    listen_for_secrets(hs);
    *ret_changed = true;
    return OK;
}

const struct tls_credentials *tls_handshakes_credentials(const struct tls_handshakes *hs) {
    return hs->credentials;
}

/* ---- one handshake ---- */

static int socket_send(void *user, const unsigned char *data, size_t len) {
    const struct tls_handshake *h = user;
    ssize_t n = send(h->socket_fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0)
        return (int)n;
    return errno == EAGAIN || errno == EINTR ? MBEDTLS_ERR_SSL_WANT_WRITE
                                             : MBEDTLS_ERR_NET_CONN_RESET;
}

static int socket_receive(void *user, unsigned char *data, size_t len) {
    const struct tls_handshake *h = user;
    ssize_t n = recv(h->socket_fd, data, len, MSG_DONTWAIT);
    if (n >= 0)
        return (int)n;
    return errno == EAGAIN || errno == EINTR ? MBEDTLS_ERR_SSL_WANT_READ
                                             : MBEDTLS_ERR_NET_CONN_RESET;
}

struct tls_handshake *tls_handshake_create(struct tls_handshakes *hs, int socket_fd) {
    struct tls_handshake *h = mem_alloc(sizeof(*h));
    h->shared = hs;
    h->credentials = tls_credentials_ref(hs->credentials);
    h->socket_fd = socket_fd;
    mbedtls_ssl_init(&h->ssl);
    if (mbedtls_ssl_setup(&h->ssl, tls_credentials_config(h->credentials))) {
        tls_handshake_destroy(h);
        return NULL;
    }
#if MBEDTLS_VERSION_MAJOR >= 3
    mbedtls_ssl_set_export_keys_cb(&h->ssl, on_secrets, hs);
#endif
    mbedtls_ssl_set_bio(&h->ssl, h, socket_send, socket_receive, NULL);
    return h;
}

void tls_handshake_destroy(struct tls_handshake *h) {
    if (!h)
        return;
    mbedtls_ssl_free(&h->ssl);
    tls_credentials_unref(h->credentials);
    mbedtls_platform_zeroize(h->master, sizeof(h->master));
    free(h);
}

enum tls_handshake_state tls_handshake_step(struct tls_handshake *h) {
    h->shared->current = h;
    int rc = mbedtls_ssl_handshake(&h->ssl);
    h->shared->current = NULL;
    if (rc == MBEDTLS_ERR_SSL_WANT_READ || rc == MBEDTLS_ERR_SSL_WANT_WRITE)
        return TLS_HANDSHAKE_WAITS;
    return rc || !h->secrets_known ? TLS_HANDSHAKE_FAILED : TLS_HANDSHAKE_DONE;
}

void tls_handshake_keys(struct tls_handshake *h, struct tls_record_key *ret_from_client,
                        struct tls_record_key *ret_to_client) {
    int suite = mbedtls_ssl_get_ciphersuite_id(mbedtls_ssl_get_ciphersuite(&h->ssl));
    bool aes256 = suite == MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 ||
                  suite == MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384;
    size_t key_len = aes256 ? 32 : 16;
    uint8_t block[KEY_BLOCK_BYTES_MAX];
    int rc = mbedtls_ssl_tls_prf(h->prf, h->master, sizeof(h->master), "key expansion", h->randoms,
                                 sizeof(h->randoms), block, 2 * (key_len + TLS_RECORD_SALT_BYTES));
    ASSERT(!rc); /* the handshake used the same function with the same arguments */
    const uint8_t *salts = block + 2 * key_len;
    tls_record_key_init(ret_from_client, block, key_len, salts, 1);
    tls_record_key_init(ret_to_client, block + key_len, key_len, salts + TLS_RECORD_SALT_BYTES, 1);
    mbedtls_platform_zeroize(block, sizeof(block));
}

/* ---- the client's name ---- */

/* Copies a name's text; false when it does not fit or holds a NUL (two readers would differ). */
static bool name_text(const mbedtls_x509_name *n, char out[AUTH_NAME_BYTES_MAX]) {
    if (!n->val.len || n->val.len >= AUTH_NAME_BYTES_MAX || memchr(n->val.p, '\0', n->val.len))
        return false;
    memcpy(out, n->val.p, n->val.len);
    out[n->val.len] = '\0';
    return true;
}

bool tls_handshake_identity(const struct tls_handshake *h, struct auth_identity *ret_identity) {
    const mbedtls_x509_crt *cert = mbedtls_ssl_get_peer_cert(&h->ssl);
    if (!cert || mbedtls_ssl_get_verify_result(&h->ssl))
        return false;
    char common_name[AUTH_NAME_BYTES_MAX] = "";
    char texts[ORGANIZATIONS_MAX][AUTH_NAME_BYTES_MAX];
    const char *organizations[ORGANIZATIONS_MAX];
    size_t num_organizations = 0;
    for (const mbedtls_x509_name *n = &cert->subject; n; n = n->next) {
        if (!MBEDTLS_OID_CMP(MBEDTLS_OID_AT_CN, &n->oid)) {
            if (!name_text(n, common_name))
                return false;
        } else if (!MBEDTLS_OID_CMP(MBEDTLS_OID_AT_ORGANIZATION, &n->oid) &&
                   num_organizations < ORGANIZATIONS_MAX) {
            if (!name_text(n, texts[num_organizations]))
                return false;
            organizations[num_organizations] = texts[num_organizations];
            num_organizations++;
        }
    }
    auth_certificate_identity(organizations, num_organizations, common_name, ret_identity);
    return !ret_identity->anonymous;
}
