#include "core/auth_jwt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/buf.h"
#include "core/pki.h"

static char dir[] = "/tmp/inferd-jwt-XXXXXX";
static char path[64], other_path[64];

static int setup(void **state) {
    strcpy(dir, "/tmp/inferd-jwt-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/sa.key", dir);
    snprintf(other_path, sizeof(other_path), "%s/other.key", dir);
    return 0;
}

static int teardown(void **state) {
    unlink(path);
    unlink(other_path);
    return rmdir(dir);
}

static struct auth_jwt *open_keys(const char *file) {
    struct auth_jwt *j = NULL;
    struct error err = ERROR_INIT;
    if (auth_jwt_open(file, false, &j, &err))
        fail_msg("%s", err.text);
    return j;
}

static char *sign(const struct auth_jwt *j) {
    struct error err = ERROR_INIT;
    char *token = NULL;
    json_t *claims = json_pack("{s:s, s:i}", "sub", "system:serviceaccount:a:b", "exp", 12345);
    assert_int_equal(auth_jwt_sign(j, claims, &token, &err), OK);
    json_decref(claims);
    return token;
}

static enum errc verify(const struct auth_jwt *j, const char *token) {
    struct error err = ERROR_INIT;
    json_t *claims = NULL;
    enum errc rc = auth_jwt_verify(j, token, &claims, &err);
    if (!rc)
        assert_int_equal(json_integer_value(json_object_get(claims, "exp")), 12345);
    json_decref(claims);
    return rc;
}

static void a_signed_token_is_read_again(void **state) {
    AUTO(auth_jwt) j = open_keys(path);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    for (int i = 0; i < 20; i++) { /* signatures differ: their numbers may begin with zeros */
        AUTO_FREE char *token = sign(j);
        assert_int_equal(verify(j, token), OK);
    }
    AUTO_FREE char *token = sign(j);
    AUTO(auth_jwt) again = open_keys(path);
    assert_int_equal(verify(again, token), OK);
}

static void no_changed_character_is_accepted(void **state) {
    AUTO(auth_jwt) j = open_keys(path);
    AUTO_FREE char *token = sign(j);
    size_t len = strlen(token);
    for (size_t i = 0; i + 1 < len; i += 3) { /* the last has bits that stand for nothing */
        char was = token[i];
        token[i] = was == 'A' ? 'B' : 'A';
        assert_int_not_equal(verify(j, token), OK);
        token[i] = was;
    }
    for (size_t cut = 0; cut < len; cut += 7) {
        AUTO_FREE char *part = mem_strndup(token, cut);
        assert_int_not_equal(verify(j, part), OK);
    }
}

static void what_is_no_token_is_malformed(void **state) {
    AUTO(auth_jwt) j = open_keys(path);
    static const char *const bad[] = {
        "", ".", "..", "...", "a.b.c", "secret-token", "e30.e30", "e30.e30.e30.e30", "W10.W10.W10"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(verify(j, bad[i]), ERR_MALFORMED);
    AUTO_BUF huge = BUF_INIT;
    for (int i = 0; i < AUTH_JWT_BYTES_MAX; i++)
        buf_putc(&huge, 'e');
    buf_puts(&huge, ".e30.e30");
    assert_int_equal(verify(j, huge.data), ERR_MALFORMED);
}

static void other_algorithms_are_refused(void **state) {
    AUTO(auth_jwt) j = open_keys(path);
    /* {"alg":"none"} and {"alg":"HS256"} with {} */
    assert_int_equal(verify(j, "eyJhbGciOiJub25lIn0.e30."), ERR_UNAUTHENTICATED);
    assert_int_equal(verify(j, "eyJhbGciOiJIUzI1NiJ9.e30.AAAA"), ERR_UNAUTHENTICATED);
    assert_int_equal(verify(j, "e30.e30.AAAA"), ERR_UNAUTHENTICATED);
}

static void keys_are_changed_by_putting_one_before(void **state) {
    struct error err = ERROR_INIT;
    AUTO(auth_jwt) first = open_keys(path);
    AUTO(auth_jwt) second = open_keys(other_path);
    AUTO_FREE char *old_token = sign(first);
    assert_int_equal(verify(second, old_token), ERR_UNAUTHENTICATED);
    AUTO_FREE char *old_pem = NULL;
    AUTO_FREE char *new_pem = NULL;
    assert_int_equal(pki_read_file(path, &old_pem, &err), OK);
    assert_int_equal(pki_read_file(other_path, &new_pem, &err), OK);
    AUTO_FREE char *both = mem_printf("%s%s", new_pem, old_pem);
    assert_int_equal(pki_write_file(path, both, &err), OK);
    AUTO(auth_jwt) changed = open_keys(path);
    assert_int_equal(verify(changed, old_token), OK);
    AUTO_FREE char *new_token = sign(changed);
    assert_int_equal(verify(second, new_token), OK);
    assert_int_equal(verify(first, new_token), ERR_UNAUTHENTICATED);
    json_t *jwks = auth_jwt_jwks(changed);
    assert_int_equal(json_array_size(json_object_get(jwks, "keys")), 2);
    json_t *key = json_array_get(json_object_get(jwks, "keys"), 0);
    assert_int_equal(json_string_length(json_object_get(key, "x")), 43);
    assert_int_equal(json_string_length(json_object_get(key, "y")), 43);
    json_decref(jwks);
}

static void bad_key_files_are_refused_by_name(void **state) {
    struct error err = ERROR_INIT;
    struct auth_jwt *none = NULL;
    assert_int_equal(auth_jwt_open(path, true, &none, &err), ERR_NOT_FOUND);
    assert_non_null(strstr(err.text, path));
    static const char *const bad[] = {"", "nonsense", "-----BEGIN EC PRIVATE KEY-----\nAAAA\n"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(pki_write_file(path, bad[i], &err), OK);
        assert_int_equal(auth_jwt_open(path, false, &none, &err), ERR_INVALID);
        assert_non_null(strstr(err.text, path));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_signed_token_is_read_again, setup, teardown),
        cmocka_unit_test_setup_teardown(no_changed_character_is_accepted, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_token_is_malformed, setup, teardown),
        cmocka_unit_test_setup_teardown(other_algorithms_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(keys_are_changed_by_putting_one_before, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_key_files_are_refused_by_name, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
