/* Certificates at first start, without asking anybody.
 *
 * mbedTLS 2.28 writes certificates but knows neither subjectAltName nor extKeyUsage, so those two
 * extensions are laid out here, backwards as its ASN.1 writer wants it:
 *
 *   subjectAltName  SEQUENCE OF { [2] IA5String dNSName | [7] OCTET STRING iPAddress }   RFC
 * 5280 4.2.1.6 extKeyUsage     SEQUENCE OF OBJECT
 * IDENTIFIER                                        4.2.1.12
 *
 * Whether a server certificate still fits is decided by looking for those very bytes in it. Files
 * are written beside their name and renamed, key first: a start that is cut short leaves a pair
 * that does not match, which the next start makes anew. */
#include "core/pki.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <mbedtls/asn1write.h>
#include <mbedtls/ecp.h>
#include <mbedtls/error.h>
#include <mbedtls/oid.h>
#include <mbedtls/pk.h>
#include <mbedtls/platform_util.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/base/buf.h"

enum {
    PEM_BYTES_MAX = 8 << 10,
    SAN_BYTES_MAX = 8 << 10,
    SERIAL_BYTES = 16,
    NAME_BYTES_MAX = 64, /* ub-common-name, ub-organization-name */
    SECONDS_PER_DAY = 86400,
};

#define CA_NAME     "CN=inferd-ca"
#define SERVER_NAME "CN=inferd,O=inferd"

int pki_random(void *unused, unsigned char *buf, size_t len) {
    while (len) {
        ssize_t n = getrandom(buf, len, 0);
        if (n < 0) {
            ASSERT(errno == EINTR);
            continue;
        }
        buf += n;
        len -= (size_t)n;
    }
    return 0;
}

static enum errc fail(struct error *err, const char *what, int rc) {
    char text[128];
    mbedtls_strerror(rc, text, sizeof(text));
    return err_set(err, ERR_INTERNAL, "%s: %s", what, text);
}

/* ---- files ---- */

enum errc pki_read_file(const char *path, char **ret_text, struct error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return OK;
    if (fd < 0)
        return err_errno(err, "open %s", path);
    char *text = mem_alloc(PKI_FILE_BYTES_MAX + 1);
    ssize_t n = read(fd, text, PKI_FILE_BYTES_MAX);
    close(fd);
    if (n < 0) {
        free(text);
        return err_errno(err, "read %s", path);
    }
    *ret_text = mem_realloc(text, (size_t)n + 1);
    return OK;
}

enum errc pki_write_file(const char *path, const char *text, struct error *err) {
    AUTO_FREE char *fresh = mem_printf("%s.new", path);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    size_t len = strlen(text);
    bool ok =
        fd >= 0 && fchmod(fd, 0600) == 0 && write(fd, text, len) == (ssize_t)len && fsync(fd) == 0;
    if (fd >= 0)
        ok = close(fd) == 0 && ok;
    if (!ok || rename(fresh, path) < 0)
        return err_errno(err, "write %s", path);
    return OK;
}

/* ---- names ---- */

/* DER GeneralNames, built backwards from the end of the buffer. */
struct san_list {
    unsigned char data[SAN_BYTES_MAX];
    unsigned char *start;
    int num_names;
};

static enum errc san_add(struct san_list *list, unsigned char tag, const void *name, size_t len,
                         struct error *err) {
    if (list->num_names == PKI_SANS_MAX || len > 255)
        return err_set(err, ERR_INVALID, "server certificate: more than %d names, or one too long",
                       PKI_SANS_MAX);
    /* The same name twice is no error, and no use. */
    unsigned char entry[2 + 2 + 255];
    unsigned char *p = entry + sizeof(entry);
    int n = mbedtls_asn1_write_raw_buffer(&p, entry, name, len);
    n += mbedtls_asn1_write_len(&p, entry, len);
    n += mbedtls_asn1_write_tag(&p, entry, MBEDTLS_ASN1_CONTEXT_SPECIFIC | tag);
    size_t used = (size_t)(list->data + sizeof(list->data) - list->start);
    if (used && memmem(list->start, used, p, (size_t)n))
        return OK;
    int rc = mbedtls_asn1_write_raw_buffer(&list->start, list->data, p, (size_t)n);
    if (rc < 0)
        return fail(err, "server certificate: names", rc);
    list->num_names++;
    return OK;
}

static enum errc san_add_text(struct san_list *list, const char *name, struct error *err) {
    unsigned char address[16];
    if (inet_pton(AF_INET, name, address) == 1)
        return san_add(list, 7, address, 4, err);
    if (inet_pton(AF_INET6, name, address) == 1)
        return san_add(list, 7, address, 16, err);
    for (const char *p = name; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr(".-_*", *p))
            return err_set(err, ERR_INVALID,
                           "server certificate: \"%s\" is no host name or address", name);
    return *name ? san_add(list, 2, name, strlen(name), err) : OK;
}

static enum errc san_add_interfaces(struct san_list *list, struct error *err) {
    struct ifaddrs *all = NULL;
    if (getifaddrs(&all) < 0)
        return OK; /* a host without a list of addresses still has its names */
    enum errc rc = OK;
    for (const struct ifaddrs *i = all; i && !rc; i = i->ifa_next) {
        if (!i->ifa_addr || !(i->ifa_flags & IFF_UP))
            continue;
        if (i->ifa_addr->sa_family == AF_INET) {
            rc = san_add(list, 7, &((struct sockaddr_in *)(void *)i->ifa_addr)->sin_addr, 4, err);
        } else if (i->ifa_addr->sa_family == AF_INET6) {
            const struct in6_addr *a = &((struct sockaddr_in6 *)(void *)i->ifa_addr)->sin6_addr;
            if (!IN6_IS_ADDR_LINKLOCAL(a)) /* useless without a scope, which no certificate has */
                rc = san_add(list, 7, a, 16, err);
        }
    }
    freeifaddrs(all);
    return rc;
}

static enum errc san_make(const char *const *extra, struct san_list *list, struct error *err) {
    static const char *const always[] = {
        "localhost",  "127.0.0.1",          "::1",
        "kubernetes", "kubernetes.default", "kubernetes.default.svc"};
    list->start = list->data + sizeof(list->data);
    list->num_names = 0;
    enum errc rc = OK;
    for (size_t i = 0; i < ARRAY_LEN(always) && !rc; i++)
        rc = san_add_text(list, always[i], err);
    char host[256] = "";
    if (!rc && !gethostname(host, sizeof(host) - 1)) {
        struct error ignored = ERROR_INIT; /* a host name that is no DNS name is left out */
        if (san_add_text(list, host, &ignored))
            host[0] = '\0';
    }
    if (!rc)
        rc = san_add_interfaces(list, err);
    for (; extra && *extra && !rc; extra++)
        rc = san_add_text(list, *extra, err);
    if (rc)
        return rc;
    int n = (int)(list->data + sizeof(list->data) - list->start);
    mbedtls_asn1_write_len(&list->start, list->data, (size_t)n);
    mbedtls_asn1_write_tag(&list->start, list->data,
                           MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE);
    return OK;
}

/* ---- reading ---- */

static int parse_key(mbedtls_pk_context *key, const char *pem) {
    size_t len = strlen(pem) + 1; /* mbedTLS counts the NUL of a PEM text */
#if MBEDTLS_VERSION_MAJOR >= 3
    return mbedtls_pk_parse_key(key, (const unsigned char *)pem, len, NULL, 0, pki_random, NULL);
#else
    return mbedtls_pk_parse_key(key, (const unsigned char *)pem, len, NULL, 0);
#endif
}

static bool key_fits(const mbedtls_x509_crt *cert, const mbedtls_pk_context *key) {
#if MBEDTLS_VERSION_MAJOR >= 3
    return !mbedtls_pk_check_pair(&cert->pk, key, pki_random, NULL);
#else
    return !mbedtls_pk_check_pair(&cert->pk, key);
#endif
}

static bool ends_within(const mbedtls_x509_crt *cert, int days) {
    time_t at = time(NULL) + (time_t)days * SECONDS_PER_DAY;
    struct tm tm;
    gmtime_r(&at, &tm);
    const mbedtls_x509_time *to = &cert->valid_to;
    int have[] = {to->year, to->mon, to->day, to->hour, to->min, to->sec};
    int need[] = {tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec};
    for (size_t i = 0; i < ARRAY_LEN(have); i++)
        if (have[i] != need[i])
            return have[i] < need[i];
    return false;
}

/* Is the pair whole, of this CA, long enough valid, and for these names? */
static bool leaf_usable(mbedtls_x509_crt *ca, const char *cert_pem, const char *key_pem,
                        const unsigned char *san, size_t san_len) {
    if (!cert_pem || !key_pem)
        return false;
    mbedtls_x509_crt cert;
    mbedtls_pk_context key;
    mbedtls_x509_crt_init(&cert);
    mbedtls_pk_init(&key);
    uint32_t flags;
    bool usable =
        !mbedtls_x509_crt_parse(&cert, (const unsigned char *)cert_pem, strlen(cert_pem) + 1) &&
        !parse_key(&key, key_pem) && key_fits(&cert, &key) &&
        !mbedtls_x509_crt_verify(&cert, ca, NULL, NULL, &flags, NULL, NULL) &&
        !ends_within(&cert, PKI_RENEW_DAYS) &&
        (!san_len || memmem(cert.raw.p, cert.raw.len, san, san_len));
    mbedtls_pk_free(&key);
    mbedtls_x509_crt_free(&cert);
    return usable;
}

/* ---- issuing ---- */

struct certificate_order {
    const char *subject; /* "CN=admin,O=system:masters" */
    int days;
    bool is_ca;
    const char *ext_key_usage; /* OID bytes; NULL for the CA */
    const unsigned char *san;
    size_t san_len;
    const char *issuer_key; /* PEM; NULL: self-signed */
};

static int set_serial(mbedtls_x509write_cert *w) {
    unsigned char serial[SERIAL_BYTES];
    pki_random(NULL, serial, sizeof(serial));
    serial[0] = (serial[0] & 0x7f) | 0x01; /* positive, and of full length */
    mbedtls_mpi number;
    mbedtls_mpi_init(&number);
    int rc = mbedtls_mpi_read_binary(&number, serial, sizeof(serial));
    if (!rc)
        rc = mbedtls_x509write_crt_set_serial(w, &number);
    mbedtls_mpi_free(&number);
    return rc;
}

static int set_validity(mbedtls_x509write_cert *w, int days) {
    time_t now = time(NULL);
    time_t from = now - 3600; /* clients whose clocks are a little behind */
    time_t to = now + (time_t)days * SECONDS_PER_DAY;
    struct tm tm;
    char from_text[16], to_text[16];
    strftime(from_text, sizeof(from_text), "%Y%m%d%H%M%S", gmtime_r(&from, &tm));
    strftime(to_text, sizeof(to_text), "%Y%m%d%H%M%S", gmtime_r(&to, &tm));
    return mbedtls_x509write_crt_set_validity(w, from_text, to_text);
}

static int set_ext_key_usage(mbedtls_x509write_cert *w, const char *oid) {
    unsigned char der[32];
    unsigned char *p = der + sizeof(der);
    int n = mbedtls_asn1_write_oid(&p, der, oid, strlen(oid));
    n += mbedtls_asn1_write_len(&p, der, (size_t)n);
    n += mbedtls_asn1_write_tag(&p, der, MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE);
    return mbedtls_x509write_crt_set_extension(w, MBEDTLS_OID_EXTENDED_KEY_USAGE,
                                               MBEDTLS_OID_SIZE(MBEDTLS_OID_EXTENDED_KEY_USAGE), 0,
                                               p, (size_t)n);
}

static int fill_certificate(mbedtls_x509write_cert *w, const struct certificate_order *order,
                            mbedtls_pk_context *key, mbedtls_pk_context *issuer_key) {
    mbedtls_x509write_crt_set_version(w, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(w, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(w, key);
    mbedtls_x509write_crt_set_issuer_key(w, issuer_key);
    unsigned usage = order->is_ca ? MBEDTLS_X509_KU_KEY_CERT_SIGN | MBEDTLS_X509_KU_CRL_SIGN
                                  : MBEDTLS_X509_KU_DIGITAL_SIGNATURE;
    int rc = mbedtls_x509write_crt_set_subject_name(w, order->subject);
    rc = rc ? rc : mbedtls_x509write_crt_set_issuer_name(w, CA_NAME);
    rc = rc ? rc : set_serial(w);
    rc = rc ? rc : set_validity(w, order->days);
    rc = rc ? rc : mbedtls_x509write_crt_set_basic_constraints(w, order->is_ca, -1);
    rc = rc ? rc : mbedtls_x509write_crt_set_key_usage(w, usage);
    rc = rc ? rc : mbedtls_x509write_crt_set_subject_key_identifier(w);
    rc = rc ? rc : mbedtls_x509write_crt_set_authority_key_identifier(w);
    if (!rc && order->ext_key_usage)
        rc = set_ext_key_usage(w, order->ext_key_usage);
    if (!rc && order->san_len)
        rc = mbedtls_x509write_crt_set_extension(w, MBEDTLS_OID_SUBJECT_ALT_NAME,
                                                 MBEDTLS_OID_SIZE(MBEDTLS_OID_SUBJECT_ALT_NAME), 0,
                                                 order->san, order->san_len);
    return rc;
}

/* Makes a key and a certificate for it. */
static enum errc issue(const struct certificate_order *order, char **ret_cert, char **ret_key,
                       struct error *err) {
    mbedtls_pk_context key, issuer_key;
    mbedtls_x509write_cert w;
    mbedtls_pk_init(&key);
    mbedtls_pk_init(&issuer_key);
    mbedtls_x509write_crt_init(&w);
    unsigned char key_pem[PEM_BYTES_MAX], cert_pem[PEM_BYTES_MAX];

    int rc = mbedtls_pk_setup(&key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));
    rc = rc ? rc
            : mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(key), pki_random, NULL);
    if (!rc && order->issuer_key)
        rc = parse_key(&issuer_key, order->issuer_key);
    rc = rc ? rc : fill_certificate(&w, order, &key, order->issuer_key ? &issuer_key : &key);
    rc = rc ? rc : mbedtls_pk_write_key_pem(&key, key_pem, sizeof(key_pem));
    rc = rc ? rc : mbedtls_x509write_crt_pem(&w, cert_pem, sizeof(cert_pem), pki_random, NULL);
    if (!rc) {
        *ret_key = mem_strdup((char *)key_pem);
        *ret_cert = mem_strdup((char *)cert_pem);
    }
    mbedtls_platform_zeroize(key_pem, sizeof(key_pem));
    mbedtls_x509write_crt_free(&w);
    mbedtls_pk_free(&issuer_key);
    mbedtls_pk_free(&key);
    return rc ? fail(err, order->subject, rc) : OK;
}

/* ---- the three pairs ---- */

struct pair {
    char *cert_path, *key_path;
    char *cert, *key; /* PEM; NULL: no such file */
};

static void pair_deinit(struct pair *p) {
    free(p->cert_path);
    free(p->key_path);
    free(p->cert);
    free(p->key);
}

static enum errc pair_read(struct pair *p, const char *dir, const char *name, struct error *err) {
    *p = (struct pair){.cert_path = mem_printf("%s/%s.crt", dir, name),
                       .key_path = mem_printf("%s/%s.key", dir, name)};
    enum errc rc = pki_read_file(p->cert_path, &p->cert, err);
    return rc ? rc : pki_read_file(p->key_path, &p->key, err);
}

static enum errc pair_make(struct pair *p, const struct certificate_order *order,
                           struct error *err) {
    free(steal(p->cert));
    free(steal(p->key));
    enum errc rc = issue(order, &p->cert, &p->key, err);
    if (rc)
        return rc;
    ASSERT(p->cert && p->key);
    rc = pki_write_file(p->key_path, p->key, err);
    return rc ? rc : pki_write_file(p->cert_path, p->cert, err);
}

static enum errc open_ca(struct pair *p, mbedtls_x509_crt *ca, struct error *err) {
    static const struct certificate_order order = {
        .subject = CA_NAME, .days = PKI_CA_DAYS, .is_ca = true};
    if (!p->cert && !p->key) {
        enum errc rc = pair_make(p, &order, err);
        if (rc)
            return rc;
    }
    const char *cure = "put it back, or remove the pki folder to start over with a new CA "
                       "(every kubeconfig must then be made anew)";
    if (!p->cert || !p->key)
        return err_set(err, ERR_INVALID, "%s is missing: %s", p->cert ? p->key_path : p->cert_path,
                       cure);
    mbedtls_pk_context key;
    mbedtls_pk_init(&key);
    bool cert_ok = !mbedtls_x509_crt_parse(ca, (const unsigned char *)p->cert, strlen(p->cert) + 1);
    bool key_ok = cert_ok && !parse_key(&key, p->key) && key_fits(ca, &key);
    mbedtls_pk_free(&key);
    if (!cert_ok || !key_ok)
        return err_set(err, ERR_INVALID, "%s is damaged%s: %s",
                       cert_ok ? p->key_path : p->cert_path,
                       cert_ok ? " or of another certificate" : "", cure);
    if (ends_within(ca, 0))
        return err_set(err, ERR_INVALID, "%s has expired: %s", p->cert_path, cure);
    return OK;
}

static enum errc make_dir(const char *dir, struct error *err) {
    if (mkdir(dir, 0700) < 0 && errno != EEXIST)
        return err_errno(err, "make folder %s", dir);
    if (chmod(dir, 0700) < 0)
        return err_errno(err, "make folder %s private", dir);
    return OK;
}

static enum errc open_pairs(const char *dir, const struct san_list *san, struct pair *ca,
                            struct pair *server, struct pair *admin, struct error *err) {
    enum errc rc = pair_read(ca, dir, "ca", err);
    rc = rc ? rc : pair_read(server, dir, "server", err);
    rc = rc ? rc : pair_read(admin, dir, "admin", err);
    if (rc)
        return rc;
    mbedtls_x509_crt ca_cert;
    mbedtls_x509_crt_init(&ca_cert);
    rc = open_ca(ca, &ca_cert, err);
    size_t san_len = (size_t)(san->data + sizeof(san->data) - san->start);
    if (!rc && !leaf_usable(&ca_cert, server->cert, server->key, san->start, san_len)) {
        struct certificate_order order = {.subject = SERVER_NAME,
                                          .days = PKI_LEAF_DAYS,
                                          .ext_key_usage = MBEDTLS_OID_SERVER_AUTH,
                                          .san = san->start,
                                          .san_len = san_len,
                                          .issuer_key = ca->key};
        rc = pair_make(server, &order, err);
    }
    if (!rc && !leaf_usable(&ca_cert, admin->cert, admin->key, NULL, 0)) {
        struct certificate_order order = {.subject = "CN=admin,O=system:masters",
                                          .days = PKI_LEAF_DAYS,
                                          .ext_key_usage = MBEDTLS_OID_CLIENT_AUTH,
                                          .issuer_key = ca->key};
        rc = pair_make(admin, &order, err);
    }
    mbedtls_x509_crt_free(&ca_cert);
    return rc;
}

/* Moves the texts out of the pairs. */
static struct pki *make_pki(struct pair *ca, struct pair *server, struct pair *admin) {
    struct pki *p = mem_alloc(sizeof(*p));
    *p = (struct pki){.ca_cert = steal(ca->cert),
                      .ca_key = steal(ca->key),
                      .server_cert = steal(server->cert),
                      .server_key = steal(server->key),
                      .admin_cert = steal(admin->cert),
                      .admin_key = steal(admin->key)};
    return p;
}

enum errc pki_open(const char *dir, const char *const *extra_sans, struct pki **ret_pki,
                   struct error *err) {
    struct san_list san;
    struct pair ca = {0}, server = {0}, admin = {0};
    enum errc rc = make_dir(dir, err);
    rc = rc ? rc : san_make(extra_sans, &san, err);
    rc = rc ? rc : open_pairs(dir, &san, &ca, &server, &admin, err);
    if (!rc)
        *ret_pki = make_pki(&ca, &server, &admin);
    pair_deinit(&ca);
    pair_deinit(&server);
    pair_deinit(&admin);
    return rc;
}

enum errc pki_load(const char *dir, struct pki **ret_pki, struct error *err) {
    static const char *const names[] = {"ca", "server", "admin"};
    struct pair pairs[ARRAY_LEN(names)] = {0};
    enum errc rc = OK;
    for (size_t i = 0; i < ARRAY_LEN(names) && !rc; i++) {
        struct pair *p = &pairs[i];
        rc = pair_read(p, dir, names[i], err);
        if (!rc && (!p->cert || !p->key))
            rc = err_set(err, ERR_NOT_FOUND, "%s is not there; `inferd serve` makes it at start",
                         p->cert ? p->key_path : p->cert_path);
    }
    if (!rc)
        *ret_pki = make_pki(&pairs[0], &pairs[1], &pairs[2]);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        pair_deinit(&pairs[i]);
    return rc;
}

void pki_close(struct pki *p) {
    if (!p)
        return;
    free(p->ca_cert);
    free(p->ca_key);
    free(p->server_cert);
    free(p->server_key);
    free(p->admin_cert);
    free(p->admin_key);
    free(p);
}

static enum errc check_name(const char *name, struct error *err) {
    size_t len = strlen(name);
    bool ok = len && len <= NAME_BYTES_MAX;
    for (const char *p = name; *p; p++)
        ok = ok && (isalnum((unsigned char)*p) || strchr(":@._-", *p));
    if (!ok)
        return err_set(err, ERR_INVALID,
                       "user \"%s\": a name has 1 to %d letters, digits and the characters :@._-",
                       name, NAME_BYTES_MAX);
    return OK;
}

enum errc pki_issue_client(const struct pki *p, const char *common_name, const char *organization,
                           char **ret_cert, char **ret_key, struct error *err) {
    enum errc rc = check_name(common_name, err);
    if (!rc && organization)
        rc = check_name(organization, err);
    if (rc)
        return rc;
    AUTO_FREE char *subject = organization ? mem_printf("CN=%s,O=%s", common_name, organization)
                                           : mem_printf("CN=%s", common_name);
    struct certificate_order order = {.subject = subject,
                                      .days = PKI_LEAF_DAYS,
                                      .ext_key_usage = MBEDTLS_OID_CLIENT_AUTH,
                                      .issuer_key = p->ca_key};
    return issue(&order, ret_cert, ret_key, err);
}
