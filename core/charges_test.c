/* A charge and what it is for are one commit. */
#include "core/charges.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>
#include <cmocka.h>

static struct store *store;
static char dir[64];

static json_t *object(int n) {
    return json_pack("{s:{s:s}, s:i}", "metadata", "name", "x", "n", n);
}

static int open_store(void **state) {
    struct error err = ERROR_INIT;
    char path[96];
    snprintf(dir, sizeof(dir), "/tmp/inferd-charges-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/state.db", dir);
    struct store_options opt = {.path = path};
    return store_open(&opt, &store, &err);
}

static int close_store(void **state) {
    char command[96];
    store_close(store);
    snprintf(command, sizeof(command), "rm -rf '%s'", dir);
    return system(command);
}

static struct store_object *get(const char *key) {
    struct error err = ERROR_INIT;
    struct store_object *o = NULL;
    return store_get(store, key, &o, &err) ? NULL : o;
}

static void both_are_written_or_none(void **state) {
    struct error err = ERROR_INIT;
    assert_int_equal(store_put(store, "q/q/d/a", object(1), STORE_EXPECT_ABSENT, NULL, &err), OK);
    AUTO(store_object) quota = get("q/q/d/a");
    AUTO_CHARGES c = {0};
    struct store_write create = {.key = "p/p/d/one", .object = object(7)};
    AUTO(store_object) made = NULL;
    assert_int_equal(charges_add(&c, quota, object(2), &err), OK);
    assert_int_equal(charges_commit(&c, store, &create, &made, &err), OK);
    assert_string_equal(made->key, "p/p/d/one");
    AUTO(store_object) charged = get("q/q/d/a");
    assert_int_equal(json_integer_value(json_object_get(charged->json, "n")), 2);

    /* The same old quota again: somebody was faster. */
    struct store_write second = {.key = "p/p/d/two", .object = object(8)};
    assert_int_equal(charges_add(&c, quota, object(2), &err), OK);
    assert_int_equal(charges_commit(&c, store, &second, NULL, &err), ERR_CONFLICT);
    assert_null(get("p/p/d/two"));

    /* A quota that went meanwhile. */
    assert_int_equal(store_delete(store, "q/q/d/a", STORE_EXPECT_ANY, NULL, &err), OK);
    struct store_write third = {.key = "p/p/d/two", .object = object(8)};
    assert_int_equal(charges_add(&c, charged, object(3), &err), OK);
    assert_int_equal(charges_commit(&c, store, &third, NULL, &err), ERR_CONFLICT);
    assert_null(get("p/p/d/two"));
}

static void there_is_a_bound(void **state) {
    struct error err = ERROR_INIT;
    assert_int_equal(store_put(store, "q/q/d/b", object(1), STORE_EXPECT_ABSENT, NULL, &err), OK);
    AUTO(store_object) quota = get("q/q/d/b");
    AUTO_CHARGES c = {0};
    for (int i = 0; i < CHARGES_MAX; i++)
        assert_int_equal(charges_add(&c, quota, object(i), &err), OK);
    assert_int_equal(charges_add(&c, quota, object(0), &err), ERR_EXHAUSTED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_are_written_or_none),
        cmocka_unit_test(there_is_a_bound),
    };
    return cmocka_run_group_tests(tests, open_store, close_store);
}
