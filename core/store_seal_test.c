/* The store with a seal: what the bytes on disk show, and what becomes of databases of before. */
#include "core/store_seal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/store.h"

#define KEY_A "a AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
#define KEY_B "b BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA=\n"
/* What kubectl sends is base64; either spelling would be a leak. */
#define VALUE    "correct-horse-battery-staple"
#define PUBLIC   "core/configmaps/default/c"
#define SECRET   "core/secrets/default/s"
#define SECRET_2 "core/secrets/default/t"

static char dir[] = "/tmp/inferd-store-seal-XXXXXX";
static char db[96], keys[96];
static const char *const files[] = {"state.db", "state.db-wal", "state.db-shm", "state.db.lock",
                                    "keys"};

static int setup(void **state) {
    strcpy(dir, "/tmp/inferd-store-seal-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(db, sizeof(db), "%s/state.db", dir);
    snprintf(keys, sizeof(keys), "%s/keys", dir);
    return 0;
}

static int teardown(void **state) {
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        AUTO_FREE char *file = mem_printf("%s/%s", dir, files[i]);
        unlink(file);
    }
    return rmdir(dir);
}

static void write_keys(const char *text) {
    FILE *f = fopen(keys, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_int_equal(chmod(keys, 0600), 0);
}

static enum errc try_open(const char *resources, struct seal **ret_seal, struct store **ret_st,
                          struct error *err) {
    struct seal_options seal = {.key_path = keys, .resources = resources};
    if (seal_open(&seal, ret_seal, err))
        return err->code;
    struct store_options opt = {
        .path = db, .seal = *ret_seal, .history_events_max = 4, .compact_interval_seconds = 3600};
    return store_open(&opt, ret_st, err);
}

static struct store *open_sealed(const char *resources, struct seal **ret_seal) {
    struct store *st = NULL;
    struct error err = ERROR_INIT;
    if (try_open(resources, ret_seal, &st, &err))
        fail_msg("%s", err.text);
    return st;
}

static struct store *open_plain(void) {
    struct store *st = NULL;
    struct error err = ERROR_INIT;
    struct store_options opt = {.path = db};
    if (store_open(&opt, &st, &err))
        fail_msg("%s", err.text);
    return st;
}

static void put(struct store *st, const char *key, const char *value) {
    struct error err = ERROR_INIT;
    json_t *o = json_pack("{s:{s:s}, s:{s:s}}", "metadata", "name", "x", "data", "value", value);
    assert_int_equal(store_put(st, key, o, STORE_EXPECT_ANY, NULL, &err), OK);
}

static void assert_value(struct store *st, const char *key, const char *value) {
    AUTO(store_object) o = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(store_get(st, key, &o, &err), OK);
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(o->json, "data"), "value")), value);
}

/* Does any file of the database hold these bytes? */
static bool on_disk(const char *bytes) {
    bool found = false;
    for (size_t i = 0; i < 3; i++) {
        AUTO_FREE char *file = mem_printf("%s/%s", dir, files[i]);
        AUTO_BUF all = BUF_INIT;
        char chunk[4096];
        size_t n;
        FILE *f = fopen(file, "r");
        if (!f)
            continue;
        while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0)
            buf_append(&all, chunk, n);
        fclose(f);
        found = found || (all.len && memmem(all.data, all.len, bytes, strlen(bytes)));
    }
    return found;
}

static void secrets_do_not_show_in_the_files(void **state) {
    AUTO(seal) seal = NULL;
    struct store *st = open_sealed("secrets", &seal);
    put(st, PUBLIC, "public-value");
    put(st, SECRET, VALUE);
    put(st, SECRET, VALUE " changed");
    struct error err = ERROR_INIT;
    assert_int_equal(store_delete(st, SECRET, STORE_EXPECT_ANY, NULL, &err), OK);
    put(st, SECRET_2, VALUE);
    assert_true(on_disk("public-value"));
    assert_false(on_disk(VALUE)); /* the WAL, while open */
    store_close(st);
    assert_false(on_disk(VALUE));
    AUTO(seal) again = NULL;
    st = open_sealed("secrets", &again);
    assert_value(st, SECRET_2, VALUE);
    store_close(st);
}

static void history_is_sealed_and_watches_read_it(void **state) {
    AUTO(seal) seal = NULL;
    struct store *st = open_sealed("secrets", &seal);
    put(st, SECRET, VALUE "1");
    int64_t from = store_revision(st);
    put(st, SECRET, VALUE "2");
    put(st, SECRET, VALUE "3");
    store_close(st);
    AUTO(seal) again = NULL;
    st = open_sealed("secrets", &again);
    AUTO(store_watch) w = NULL;
    struct error err = ERROR_INIT;
    struct store_event e;
    int64_t progress;
    enum errc rc;
    assert_int_equal(store_watch_open(st, "core/secrets/", from, NULL, NULL, &w, &err), OK);
    assert_true(store_watch_next(w, &e, &progress, &rc)); /* from disk: memory begins behind it */
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(e.object->json, "data"), "value")),
        VALUE "2");
    assert_non_null(e.previous);
    store_watch_close(steal(w));
    store_close(st);
}

static void a_database_of_before_is_sealed_at_open(void **state) {
    struct store *st = open_plain();
    put(st, SECRET, VALUE);
    put(st, SECRET, VALUE " changed");
    for (int i = 0; i < 600; i++) { /* more than a batch */
        AUTO_FREE char *key = mem_printf("core/secrets/default/n%03d", i);
        put(st, key, VALUE);
    }
    store_close(st);
    assert_true(on_disk(VALUE));
    AUTO(seal) seal = NULL;
    st = open_sealed("secrets", &seal);
    assert_false(on_disk(VALUE));
    assert_value(st, SECRET, VALUE " changed");
    assert_value(st, "core/secrets/default/n599", VALUE);
    store_close(st);
    assert_false(on_disk(VALUE));
}

static void a_resource_that_is_added_is_sealed_at_open(void **state) {
    AUTO(seal) seal = NULL;
    struct store *st = open_sealed("secrets", &seal);
    put(st, PUBLIC, "public-value");
    store_close(st);
    AUTO(seal) more = NULL;
    st = open_sealed("secrets,configmaps", &more);
    assert_false(on_disk("public-value"));
    assert_value(st, PUBLIC, "public-value");
    store_close(st);
}

static void an_old_key_may_go_after_one_start_with_the_new(void **state) {
    write_keys(KEY_A);
    AUTO(seal) a = NULL;
    struct store *st = open_sealed("secrets", &a);
    put(st, SECRET, VALUE "1");
    put(st, SECRET, VALUE "2"); /* history under the old key, too */
    store_close(st);
    write_keys(KEY_B KEY_A);
    AUTO(seal) both = NULL;
    st = open_sealed("secrets", &both);
    assert_value(st, SECRET, VALUE "2");
    store_close(st);
    write_keys(KEY_B);
    AUTO(seal) b = NULL;
    st = open_sealed("secrets", &b);
    assert_value(st, SECRET, VALUE "2");
    store_close(st);
}

static void a_missing_or_wrong_key_refuses_to_start_and_loses_nothing(void **state) {
    write_keys(KEY_A);
    AUTO(seal) seal = NULL;
    struct store *st = open_sealed("secrets", &seal);
    put(st, SECRET, VALUE);
    store_close(st);
    static const char *const wrong[] = {NULL, KEY_B,
                                        "a BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA=\n"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        unlink(keys);
        if (wrong[i])
            write_keys(wrong[i]);
        struct store *none = NULL;
        AUTO(seal) bad = NULL;
        struct error err = ERROR_INIT;
        assert_int_equal(try_open("secrets", &bad, &none, &err), ERR_INVALID);
        assert_non_null(strstr(err.text, keys));
        assert_non_null(strstr(err.text, "\"a\""));
        assert_non_null(strstr(err.text, SECRET));
        assert_null(none);
        assert_int_equal(access(keys, F_OK), wrong[i] ? 0 : -1); /* no new key in its place */
    }
    write_keys(KEY_A);
    AUTO(seal) good = NULL;
    st = open_sealed("secrets", &good);
    assert_value(st, SECRET, VALUE);
    store_close(st);
}

static void compaction_forgets_sealed_rows_too(void **state) {
    AUTO(seal) seal = NULL;
    struct store *st = open_sealed("secrets", &seal);
    for (int i = 0; i < 40; i++) {
        AUTO_FREE char *value = mem_printf(VALUE "%d", i);
        put(st, SECRET, value);
    }
    store_close(st);
    AUTO(seal) again = NULL;
    st = open_sealed("secrets", &again);
    assert_value(st, SECRET, VALUE "39");
    store_close(st);
    assert_false(on_disk(VALUE));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(secrets_do_not_show_in_the_files, setup, teardown),
        cmocka_unit_test_setup_teardown(history_is_sealed_and_watches_read_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_database_of_before_is_sealed_at_open, setup, teardown),
        cmocka_unit_test_setup_teardown(a_resource_that_is_added_is_sealed_at_open, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(an_old_key_may_go_after_one_start_with_the_new, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_missing_or_wrong_key_refuses_to_start_and_loses_nothing,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(compaction_forgets_sealed_rows_too, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
