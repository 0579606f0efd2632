#include "core/seal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY_A "a AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
#define KEY_B "b BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA=\n"

static char dir[] = "/tmp/inferd-seal-XXXXXX";
static char path[64];

static int setup(void **state) {
    strcpy(dir, "/tmp/inferd-seal-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/keys", dir);
    return 0;
}

static int teardown(void **state) {
    unlink(path);
    return rmdir(dir);
}

static void write_keys(const char *text, mode_t mode) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_int_equal(chmod(path, mode), 0);
}

static enum errc open_keys(const char *resources, struct seal **ret_seal, struct error *err) {
    struct seal_options opt = {.key_path = path, .resources = resources};
    return seal_open(&opt, ret_seal, err);
}

static struct seal *seal_of(const char *text) {
    struct seal *s = NULL;
    struct error err = ERROR_INIT;
    write_keys(text, 0600);
    if (open_keys("secrets", &s, &err))
        fail_msg("%s", err.text);
    return s;
}

static void what_was_sealed_opens_and_does_not_show(void **state) {
    AUTO(seal) s = seal_of(KEY_A);
    AUTO_BUF sealed = BUF_INIT, again = BUF_INIT, text = BUF_INIT;
    struct error err = ERROR_INIT;
    seal_text(s, "core/secrets/default/x", 7, "hunter2", 7, &sealed);
    seal_text(s, "core/secrets/default/x", 7, "hunter2", 7, &again);
    assert_null(memmem(sealed.data, sealed.len, "hunter2", 7));
    assert_memory_not_equal(sealed.data, again.data, sealed.len); /* a fresh nonce each time */
    assert_int_equal(
        seal_unseal(s, "core/secrets/default/x", 7, sealed.data, sealed.len, &text, &err), OK);
    assert_string_equal(text.data, "hunter2");
}

static void another_place_or_a_changed_bit_does_not_open(void **state) {
    AUTO(seal) s = seal_of(KEY_A);
    AUTO_BUF sealed = BUF_INIT, text = BUF_INIT;
    struct error err = ERROR_INIT;
    seal_text(s, "core/secrets/default/x", 7, "hunter2", 7, &sealed);
    assert_int_equal(
        seal_unseal(s, "core/secrets/default/y", 7, sealed.data, sealed.len, &text, &err),
        ERR_INVALID);
    assert_int_equal(
        seal_unseal(s, "core/secrets/default/x", 6, sealed.data, sealed.len, &text, &err),
        ERR_INVALID);
    for (size_t i = 0; i < sealed.len; i++) {
        sealed.data[i] ^= 1;
        assert_int_equal(
            seal_unseal(s, "core/secrets/default/x", 7, sealed.data, sealed.len, &text, &err),
            ERR_INVALID);
        assert_int_equal(seal_unseal(s, "core/secrets/default/x", 7, sealed.data, i, &text, &err),
                         ERR_INVALID);
        sealed.data[i] ^= 1;
    }
    assert_int_equal(text.len, 0);
}

static void the_first_key_seals_and_all_open(void **state) {
    AUTO_BUF sealed = BUF_INIT, text = BUF_INIT;
    struct error err = ERROR_INIT;
    AUTO(seal) before = seal_of(KEY_A);
    seal_text(before, "k", 1, "v", 1, &sealed);
    AUTO(seal) after = seal_of(KEY_B KEY_A);
    assert_true(seal_is_current(before, sealed.data, sealed.len));
    assert_false(seal_is_current(after, sealed.data, sealed.len));
    assert_int_equal(seal_unseal(after, "k", 1, sealed.data, sealed.len, &text, &err), OK);
    assert_int_not_equal(seal_fingerprint(before), seal_fingerprint(after));
    AUTO(seal) without = seal_of(KEY_B);
    assert_int_equal(seal_unseal(without, "k", 1, sealed.data, sealed.len, &text, &err),
                     ERR_INVALID);
    assert_non_null(strstr(err.text, path));
    assert_non_null(strstr(err.text, "\"a\""));
}

static void a_made_key_is_private_and_read_again(void **state) {
    AUTO(seal) made = NULL;
    AUTO(seal) read = NULL;
    struct error err = ERROR_INIT;
    struct stat st;
    assert_int_equal(open_keys("secrets", &made, &err), OK);
    assert_false(seal_has_keys(made));
    assert_int_equal(seal_make_key(made, &err), OK);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(open_keys("secrets", &read, &err), OK);
    assert_int_equal(seal_fingerprint(read), seal_fingerprint(made));
}

static void bad_key_files_are_refused_by_line(void **state) {
    static const struct {
        const char *text, *says;
        mode_t mode;
    } files[] = {
        {"", "holds no key", 0600},
        {"# nothing\n", "holds no key", 0600},
        {KEY_A "b short\n", ":2:", 0600},
        {KEY_A KEY_A, "stands twice", 0600},
        {"a\n", ":1:", 0600},
        {KEY_A, "mode 0644", 0644},
    };
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        struct seal *s = NULL;
        struct error err = ERROR_INIT;
        write_keys(files[i].text, files[i].mode);
        assert_int_equal(open_keys("secrets", &s, &err), ERR_INVALID);
        assert_non_null(strstr(err.text, files[i].says));
        assert_null(strstr(err.text, "AAAA"));
    }
    AUTO_BUF many = BUF_INIT;
    for (int i = 0; i <= SEAL_KEYS_MAX; i++)
        buf_printf(&many, "k%d%s", i, KEY_A + 1);
    struct seal *s = NULL;
    struct error err = ERROR_INIT;
    write_keys(many.data, 0600);
    assert_int_equal(open_keys("secrets", &s, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "more than 16 keys"));
}

static void resources_are_named_as_kubernetes_does(void **state) {
    AUTO(seal) s = NULL;
    struct seal *bad = NULL;
    struct error err = ERROR_INIT;
    write_keys(KEY_A, 0600);
    assert_int_equal(open_keys("secrets, leases.coordination.k8s.io", &s, &err), OK);
    assert_true(seal_covers(s, "core/secrets/default/x"));
    assert_true(seal_covers(s, "coordination.k8s.io/leases/kube-system/x"));
    assert_false(seal_covers(s, "core/secretsx/default/x"));
    assert_false(seal_covers(s, "core/configmaps/default/x"));
    assert_int_equal(open_keys("Secrets", &bad, &err), ERR_INVALID);
    assert_int_equal(open_keys("a/b", &bad, &err), ERR_INVALID);
    assert_int_equal(open_keys(".apps", &bad, &err), ERR_INVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_sealed_opens_and_does_not_show, setup, teardown),
        cmocka_unit_test_setup_teardown(another_place_or_a_changed_bit_does_not_open, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_first_key_seals_and_all_open, setup, teardown),
        cmocka_unit_test_setup_teardown(a_made_key_is_private_and_read_again, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_key_files_are_refused_by_line, setup, teardown),
        cmocka_unit_test_setup_teardown(resources_are_named_as_kubernetes_does, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
