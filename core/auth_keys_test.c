/* API keys: what is one, and what bears one. */
#include "core/auth_keys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void a_header_that_bears_one_of_the_keys_is_accepted(void **state) {
    struct auth_keys k = {0};
    struct error err = ERROR_INIT;
    assert_false(auth_keys_accept(&k, "Bearer sk-one")); /* none is right */
    assert_int_equal(auth_keys_add(&k, "sk-one", &err), OK);
    assert_int_equal(auth_keys_add(&k, "\n sk-two\r\n", &err), OK); /* as in files */
    assert_int_equal(auth_keys_add(&k, "sk-one", &err), OK);
    assert_int_equal(k.num, 2);
    static const char *const good[] = {"Bearer sk-one", "bearer sk-two", "BEARER \t sk-two "};
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        if (!auth_keys_accept(&k, good[i]))
            fail_msg("refused: %s", good[i]);
    static const char *const bad[] = {NULL,
                                      "",
                                      "Bearer",
                                      "Bearer ",
                                      "sk-one",
                                      "Bearer sk-on",
                                      "Bearersk-one",
                                      "Basic sk-one",
                                      "Bearer sk-onee",
                                      "Bearer sk-one sk-two"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (auth_keys_accept(&k, bad[i]))
            fail_msg("accepted: %s", bad[i]);
}

static void bad_keys_are_refused_without_being_quoted(void **state) {
    struct auth_keys k = {0};
    static const char *const bad[] = {"", " \n", "se cret", "se\ncret", "se\001cret"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct error err = ERROR_INIT;
        assert_int_equal(auth_keys_add(&k, bad[i], &err), ERR_INVALID);
        assert_null(strstr(err.text, "cret"));
    }
    char longest[AUTH_KEY_BYTES_MAX + 2];
    memset(longest, 'k', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    struct error err = ERROR_INIT;
    assert_int_equal(auth_keys_add(&k, longest, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "513 bytes, at most 512"));
    assert_int_equal(auth_keys_add(&k, longest + 1, &err), OK);
}

static void there_is_a_bound(void **state) {
    struct auth_keys k = {0};
    struct error err = ERROR_INIT;
    char key[32];
    for (int i = 0; i < AUTH_KEYS_MAX; i++) {
        snprintf(key, sizeof(key), "key-%d", i);
        assert_int_equal(auth_keys_add(&k, key, &err), OK);
    }
    assert_int_equal(auth_keys_add(&k, "one more", &err), ERR_INVALID);
    assert_int_equal(auth_keys_add(&k, "one-more", &err), ERR_EXHAUSTED);
    assert_true(auth_keys_accept(&k, "Bearer key-63"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_header_that_bears_one_of_the_keys_is_accepted),
        cmocka_unit_test(bad_keys_are_refused_without_being_quoted),
        cmocka_unit_test(there_is_a_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
