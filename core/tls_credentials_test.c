/* Certificates and keys from files: what is read, what is refused and how it is named, and when
 * files count as changed. */
#include "core/tls_credentials.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <mbedtls/pk.h>
#include <mbedtls/rsa.h>
#include <mbedtls/x509_crt.h>

#include "core/pki.h"

static struct {
    char dir[64];
    struct pki *one, *two; /* installations with a server certificate each */
    char *cert, *key;      /* paths */
} env;

static struct tls_options options(void) {
    return (struct tls_options){.cert_file = env.cert,
                                .key_file = env.key,
                                .cert_option = "certOption",
                                .key_option = "keyOption"};
}

static void write_text(const char *path, const char *text) {
    struct error err = ERROR_INIT;
    if (pki_write_file(path, text, &err))
        fail_msg("%s", err.text);
}

static int set_up(void **state) {
    strcpy(env.dir, "/tmp/inferd-credentials-test-XXXXXX");
    assert_non_null(mkdtemp(env.dir));
    AUTO_FREE char *one = mem_printf("%s/one", env.dir);
    AUTO_FREE char *two = mem_printf("%s/two", env.dir);
    struct error err = ERROR_INIT;
    assert_int_equal(pki_open(one, NULL, &env.one, &err), OK);
    assert_int_equal(pki_open(two, NULL, &env.two, &err), OK);
    env.cert = mem_printf("%s/tls.crt", env.dir);
    env.key = mem_printf("%s/tls.key", env.dir);
    write_text(env.cert, env.one->server_cert);
    write_text(env.key, env.one->server_key);
    return 0;
}

static int tear_down(void **state) {
    pki_close(env.one);
    pki_close(env.two);
    free(env.cert);
    free(env.key);
    AUTO_FREE char *remove = mem_printf("rm -r %s", env.dir);
    return system(remove);
}

/* The error of loading must name all of these. */
static void assert_refused(const struct tls_options *opt, const char *const *parts) {
    struct tls_credentials *c = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(tls_credentials_load(opt, &c, &err), ERR_INVALID);
    for (; *parts; parts++)
        if (!strstr(err.text, *parts))
            fail_msg("no \"%s\" in: %s", *parts, err.text);
}

static void a_pair_of_files_is_read(void **state) {
    struct tls_options opt = options();
    struct tls_credentials *c = NULL;
    struct error err = ERROR_INIT;
    if (tls_credentials_load(&opt, &c, &err))
        fail_msg("%s", err.text);
    char not_after[TLS_CREDENTIALS_DATE_BYTES];
    assert_false(tls_credentials_expired(c, not_after));
    assert_int_equal(strlen(not_after), strlen("2027-11-24T16:00:00Z"));
    assert_false(tls_credentials_stale(c, &opt));
    tls_credentials_unref(c);
}

static void bad_files_are_refused_by_option_and_path(void **state) {
    struct tls_options opt = options();
    AUTO_FREE char *absent = mem_printf("%s/absent.pem", env.dir);
    opt.cert_file = absent;
    assert_refused(&opt, (const char *[]){"certOption", absent, "no such file", NULL});
    opt.cert_file = env.cert;
    opt.key_file = absent;
    assert_refused(&opt, (const char *[]){"keyOption", absent, "no such file", NULL});
    opt.key_file = "";
    assert_refused(&opt, (const char *[]){"keyOption: missing beside certOption", env.cert, NULL});
    opt = options();
    opt.cert_file = NULL;
    assert_refused(&opt, (const char *[]){"certOption: missing beside keyOption", env.key, NULL});

    opt = options();
    write_text(env.cert, "no certificate");
    assert_refused(&opt, (const char *[]){"certOption: ", env.cert, NULL});
    AUTO_FREE char *half = mem_strndup(env.one->server_cert, strlen(env.one->server_cert) / 2);
    write_text(env.cert, half);
    assert_refused(&opt, (const char *[]){"certOption: ", env.cert, NULL});
    write_text(env.cert, "");
    assert_refused(&opt, (const char *[]){"certOption: ", env.cert, NULL});
    write_text(env.cert, env.one->server_cert);
    write_text(env.key, env.one->server_cert);
    assert_refused(&opt, (const char *[]){"keyOption: ", env.key, NULL});
    write_text(env.key, env.two->server_key);
    assert_refused(&opt, (const char *[]){"keyOption: ", env.key,
                                          "is not the key of the certificate", env.cert, NULL});
}

/* A self-signed certificate and its key, as openssl would make them. */
static void make_self_signed(mbedtls_pk_type_t type, char cert_pem[8192], char key_pem[8192]) {
    mbedtls_pk_context key;
    mbedtls_x509write_cert w;
    mbedtls_mpi serial;
    mbedtls_pk_init(&key);
    mbedtls_x509write_crt_init(&w);
    mbedtls_mpi_init(&serial);
    assert_int_equal(mbedtls_pk_setup(&key, mbedtls_pk_info_from_type(type)), 0);
    if (type == MBEDTLS_PK_RSA)
        assert_int_equal(mbedtls_rsa_gen_key(mbedtls_pk_rsa(key), pki_random, NULL, 1024, 65537),
                         0);
    else
        assert_int_equal(
            mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP521R1, mbedtls_pk_ec(key), pki_random, NULL), 0);
    assert_int_equal(mbedtls_mpi_lset(&serial, 7), 0);
    mbedtls_x509write_crt_set_md_alg(&w, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(&w, &key);
    mbedtls_x509write_crt_set_issuer_key(&w, &key);
    assert_int_equal(mbedtls_x509write_crt_set_subject_name(&w, "CN=old"), 0);
    assert_int_equal(mbedtls_x509write_crt_set_issuer_name(&w, "CN=old"), 0);
    assert_int_equal(mbedtls_x509write_crt_set_serial(&w, &serial), 0);
    assert_int_equal(mbedtls_x509write_crt_set_validity(&w, "20200101000000", "20210203040506"), 0);
    assert_int_equal(
        mbedtls_x509write_crt_pem(&w, (unsigned char *)cert_pem, 8192, pki_random, NULL), 0);
    assert_int_equal(mbedtls_pk_write_key_pem(&key, (unsigned char *)key_pem, 8192), 0);
    mbedtls_x509write_crt_free(&w);
    mbedtls_pk_free(&key);
    mbedtls_mpi_free(&serial);
}

static void rsa_is_served_p521_is_not_and_an_old_one_is_told(void **state) {
    static char cert[8192], key[8192];
    struct tls_options opt = options();
    struct tls_credentials *c = NULL;
    struct error err = ERROR_INIT;
    make_self_signed(MBEDTLS_PK_RSA, cert, key);
    write_text(env.cert, cert);
    write_text(env.key, key);
    if (tls_credentials_load(&opt, &c, &err))
        fail_msg("%s", err.text);
    char not_after[TLS_CREDENTIALS_DATE_BYTES];
    assert_true(tls_credentials_expired(c, not_after));
    assert_string_equal(not_after, "2021-02-03T04:05:06Z");
    tls_credentials_unref(c);
    make_self_signed(MBEDTLS_PK_ECKEY, cert, key);
    write_text(env.cert, cert);
    write_text(env.key, key);
    assert_refused(&opt, (const char *[]){"keyOption: ", env.key, "P-256 or P-384", NULL});
}

static void files_that_were_written_replaced_or_removed_are_stale(void **state) {
    struct tls_options opt = options();
    struct tls_credentials *c = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(tls_credentials_load(&opt, &c, &err), OK);
    write_text(env.key, env.one->server_key); /* the same bytes in a new file */
    assert_true(tls_credentials_stale(c, &opt));
    tls_credentials_unref(steal(c));
    assert_int_equal(tls_credentials_load(&opt, &c, &err), OK);
    assert_false(tls_credentials_stale(c, &opt));
    unlink(env.cert);
    assert_true(tls_credentials_stale(c, &opt));
    tls_credentials_unref(c);
}

int main(void) {
#define credentials_test(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        credentials_test(a_pair_of_files_is_read),
        credentials_test(bad_files_are_refused_by_option_and_path),
        credentials_test(rsa_is_served_p521_is_not_and_an_old_one_is_told),
        credentials_test(files_that_were_written_replaced_or_removed_are_stale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
