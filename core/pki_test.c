/* Certificates: made once, kept, renewed when they do not fit any more. */
#include "core/pki.h"

#include <setjmp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <mbedtls/x509_crt.h>

#include "core/base/clock.h"

struct folder {
    char path[64];
};

static int make_folder(void **state) {
    struct folder *f = mem_alloc(sizeof(*f));
    strcpy(f->path, "/tmp/inferd-pki-test-XXXXXX");
    assert_non_null(mkdtemp(f->path));
    *state = f;
    return 0;
}

static int remove_folder(void **state) {
    struct folder *f = *state;
    AUTO_FREE char *command = mem_printf("rm -r %s", f->path);
    int rc = system(command);
    free(f);
    return rc;
}

static struct pki *open_ok(const char *dir, const char *const *sans) {
    struct pki *p = NULL;
    struct error err = ERROR_INIT;
    if (pki_open(dir, sans, &p, &err))
        fail_msg("%s", err.text);
    return p;
}

static void overwrite(const char *dir, const char *name, const char *text) {
    AUTO_FREE char *path = mem_printf("%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* The names in a certificate, as mbedTLS prints them. */
static char *describe(const char *pem) {
    mbedtls_x509_crt cert;
    mbedtls_x509_crt_init(&cert);
    assert_int_equal(mbedtls_x509_crt_parse(&cert, (const void *)pem, strlen(pem) + 1), 0);
    char *text = mem_alloc(8192);
    assert_true(mbedtls_x509_crt_info(text, 8192, "", &cert) > 0);
    mbedtls_x509_crt_free(&cert);
    return text;
}

static void files_are_private_and_kept(void **state) {
    struct folder *f = *state;
    AUTO(pki) first = open_ok(f->path, NULL);
    static const char *const names[] = {"ca.crt",     "ca.key",    "server.crt",
                                        "server.key", "admin.crt", "admin.key"};
    struct stat st;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        AUTO_FREE char *path = mem_printf("%s/%s", f->path, names[i]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
    }
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    AUTO(pki) second = open_ok(f->path, NULL);
    assert_string_equal(first->ca_cert, second->ca_cert);
    assert_string_equal(first->server_cert, second->server_cert);
    assert_string_equal(first->admin_key, second->admin_key);
}

static void first_start_is_quick(void **state) {
    struct folder *f = *state;
    int64_t start_ns = clock_mono_ns();
    AUTO(pki) p = open_ok(f->path, NULL);
    double ms = (double)(clock_mono_ns() - start_ns) / 1e6;
    print_message("three keys and certificates in %.1f ms\n", ms);
    assert_true(ms < 3000); /* sanitizers are slow; without them it is a few ms */
}

static void server_certificate_names_what_clients_call_it(void **state) {
    struct folder *f = *state;
    static const char *const extra[] = {"inferd.example.com", "192.0.2.7", "2001:db8::7", NULL};
    AUTO(pki) p = open_ok(f->path, extra);
    AUTO_FREE char *text = describe(p->server_cert);
    static const char *const names[] = {"localhost", "kubernetes.default.svc", "inferd.example.com",
                                        "TLS Web Server Authentication"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (!strstr(text, names[i]))
            fail_msg("%s is missing in:\n%s", names[i], text);
    AUTO_FREE char *admin = describe(p->admin_cert);
    assert_non_null(strstr(admin, "O=system:masters"));
    assert_non_null(strstr(admin, "TLS Web Client Authentication"));
    AUTO_FREE char *ca = describe(p->ca_cert);
    assert_non_null(strstr(ca, "CA=true"));
}

static void new_names_renew_the_server_certificate_only(void **state) {
    struct folder *f = *state;
    AUTO(pki) before = open_ok(f->path, NULL);
    static const char *const extra[] = {"new.example.com", NULL};
    AUTO(pki) after = open_ok(f->path, extra);
    assert_string_equal(before->ca_cert, after->ca_cert);
    assert_string_equal(before->admin_cert, after->admin_cert);
    assert_string_not_equal(before->server_cert, after->server_cert);
    AUTO(pki) again = open_ok(f->path, extra);
    assert_string_equal(after->server_cert, again->server_cert);
}

static void damaged_leaves_are_made_anew(void **state) {
    struct folder *f = *state;
    AUTO(pki) before = open_ok(f->path, NULL);
    overwrite(f->path, "server.crt", "garbage");
    overwrite(f->path, "admin.key", before->server_key); /* a key, but of another certificate */
    AUTO(pki) after = open_ok(f->path, NULL);
    assert_string_equal(before->ca_cert, after->ca_cert);
    assert_string_not_equal(before->server_cert, after->server_cert);
    assert_string_not_equal(before->admin_cert, after->admin_cert);
}

static void damaged_ca_is_never_replaced(void **state) {
    struct folder *f = *state;
    AUTO(pki) before = open_ok(f->path, NULL);
    struct error err = ERROR_INIT;
    struct pki *p = NULL;
    overwrite(f->path, "ca.key", before->admin_key);
    assert_int_equal(pki_open(f->path, NULL, &p, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "ca.key is damaged"));
    overwrite(f->path, "ca.key", before->ca_key);
    overwrite(f->path, "ca.crt", "garbage");
    assert_int_equal(pki_open(f->path, NULL, &p, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "ca.crt is damaged"));
    AUTO_FREE char *path = mem_printf("%s/ca.crt", f->path);
    unlink(path);
    assert_int_equal(pki_open(f->path, NULL, &p, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "ca.crt is missing"));
}

static void bad_names_are_refused(void **state) {
    struct folder *f = *state;
    struct error err = ERROR_INIT;
    struct pki *none = NULL;
    static const char *const bad_san[] = {"not a name", NULL};
    assert_int_equal(pki_open(f->path, bad_san, &none, &err), ERR_INVALID);
    char *many[PKI_SANS_MAX + 2] = {0};
    for (int i = 0; i <= PKI_SANS_MAX; i++)
        many[i] = mem_printf("h%d.example.com", i);
    assert_int_equal(pki_open(f->path, (const char *const *)many, &none, &err), ERR_INVALID);
    for (int i = 0; i <= PKI_SANS_MAX; i++)
        free(many[i]);
    AUTO(pki) p = open_ok(f->path, NULL);
    char long_name[100];
    memset(long_name, 'a', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    const char *bad[] = {"", "a,O=system:masters", "a b", "a\\", long_name};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char *cert = NULL, *key = NULL;
        assert_int_equal(pki_issue_client(p, bad[i], NULL, &cert, &key, &err), ERR_INVALID);
        assert_null(cert);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(files_are_private_and_kept, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(first_start_is_quick, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(server_certificate_names_what_clients_call_it, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(new_names_renew_the_server_certificate_only, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(damaged_leaves_are_made_anew, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(damaged_ca_is_never_replaced, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(bad_names_are_refused, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
