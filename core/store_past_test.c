#include "core/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "core/base/buf.h"

static char dir[64], path[96];

static int setup(void **state) {
    snprintf(dir, sizeof(dir), "/tmp/inferd-past-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/state.db", dir);
    return 0;
}

static int teardown(void **state) {
    static const char *const ends[] = {"", "-wal", "-shm", ".lock"};
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        char file[160];
        snprintf(file, sizeof(file), "%s%s", path, ends[i]);
        unlink(file);
    }
    return rmdir(dir);
}

static struct store *open_store(uint32_t history_events_max) {
    struct store *st = NULL;
    struct error err = ERROR_INIT;
    const struct store_options opt = {.path = path, .history_events_max = history_events_max};
    if (store_open(&opt, &st, &err))
        fail_msg("%s", err.text);
    return st;
}

static int64_t put(struct store *st, const char *key, int value) {
    struct error err = ERROR_INIT;
    AUTO(store_object) o = NULL;
    json_t *json = json_pack("{s:{}, s:i}", "metadata", "value", value);
    if (store_put(st, key, json, STORE_EXPECT_ANY, &o, &err))
        fail_msg("%s", err.text);
    return o->revision;
}

/* Writes the key `times` times, a hundred to a disk sync; gives the last revision. */
static int64_t put_often(struct store *st, const char *key, int times) {
    enum { AT_ONCE = 100 };
    int64_t last = 0;
    for (int done = 0; done < times; done += AT_ONCE) {
        struct store_write writes[AT_ONCE];
        struct error err = ERROR_INIT;
        AUTO(store_object) o = NULL;
        for (int i = 0; i < AT_ONCE; i++)
            writes[i] = (struct store_write){
                .key = key,
                .object = json_pack("{s:{}, s:i}", "metadata", "value", done + i),
                .expect_revision = STORE_EXPECT_ANY,
            };
        if (store_commit(st, writes, AT_ONCE, &o, &err))
            fail_msg("%s", err.text);
        last = o->revision;
    }
    return last;
}

static int64_t drop(struct store *st, const char *key) {
    struct error err = ERROR_INIT;
    AUTO(store_object) o = NULL;
    if (store_delete(st, key, STORE_EXPECT_ANY, &o, &err))
        fail_msg("%s", err.text);
    return o->revision;
}

/* "a=1 c=3", of the objects below p/. */
static void expect_list(struct store *st, int64_t revision, const char *want) {
    struct error err = ERROR_INIT;
    AUTO_STORE_LIST list = {0};
    if (store_list_at(st, "p/", revision, &list, &err))
        fail_msg("%s", err.text);
    assert_int_equal(list.revision, revision);
    AUTO_BUF got = BUF_INIT;
    for (size_t i = 0; i < list.num_items; i++) {
        const json_t *value = json_object_get(list.items[i]->json, "value");
        assert_true(list.items[i]->revision <= revision);
        buf_printf(&got, "%s%s=%d", i ? " " : "", list.items[i]->key + 2,
                   (int)json_integer_value(value));
    }
    assert_string_equal(got.data ? got.data : "", want);
}

static void every_revision_can_be_listed_as_it_was(void **state) {
    AUTO(store) st = open_store(0);
    int64_t r[8];
    r[0] = store_revision(st);
    r[1] = put(st, "p/b", 1);
    r[2] = put(st, "p/a", 1);
    r[3] = put(st, "other/a", 7);
    r[4] = put(st, "p/b", 2);
    r[5] = drop(st, "p/a");
    r[6] = put(st, "p/a", 3);
    r[7] = put(st, "p/c", 4);
    static const char *const then[] = {"",        "b=1", "a=1 b=1", "a=1 b=1",
                                       "a=1 b=2", "b=2", "a=3 b=2", "a=3 b=2 c=4"};
    for (size_t i = 0; i < ARRAY_LEN(r); i++)
        expect_list(st, r[i], then[i]);
    struct error err = ERROR_INIT;
    AUTO_STORE_LIST list = {0};
    assert_int_equal(store_list_at(st, "p/", r[7] + 1, &list, &err), ERR_TIMEOUT);
}

static void the_past_is_read_from_disk_once_it_left_memory(void **state) {
    struct store *st = open_store(0);
    put(st, "p/a", 1);
    int64_t then = put(st, "p/b", 1);
    drop(st, "p/b");
    put_often(st, "p/a", 800); /* together more than the events kept in memory */
    put_often(st, "p/c", 800);
    expect_list(st, then, "a=1 b=1");
    store_close(st);
    st = open_store(0);
    expect_list(st, then, "a=1 b=1");
    store_close(st);
}

static void what_was_compacted_is_gone(void **state) {
    AUTO(store) st = open_store(10);
    int64_t then = put(st, "p/a", 1);
    struct error err = ERROR_INIT;
    AUTO_STORE_LIST list = {0};
    /* Compaction follows the commit that makes it due, before the next one is taken. */
    int64_t last = put_often(st, "p/a", 3000);
    assert_int_equal(store_list_at(st, "p/", then, &list, &err), ERR_GONE);
    expect_list(st, last - 1, "a=2998");
}

/* Two keys are always written in one commit: no list of any revision shows them apart. */
static struct store *shared;
static atomic_bool stop;

static void *write_pairs(void *user) {
    for (int i = 1; !atomic_load(&stop); i++) {
        struct error err = ERROR_INIT;
        struct store_write both[2];
        for (size_t k = 0; k < 2; k++)
            both[k] = (struct store_write){
                .key = k ? "p/b" : "p/a",
                .object = json_pack("{s:{}, s:i}", "metadata", "value", i),
                .expect_revision = STORE_EXPECT_ANY,
            };
        assert_int_equal(store_commit(shared, both, 2, NULL, &err), OK);
    }
    return NULL;
}

static void lists_of_the_past_hold_while_others_write(void **state) {
    AUTO(store) st = shared = open_store(0);
    put(st, "p/a", 0);
    int64_t base = put(st, "p/b", 0); /* commits follow at base + 1, base + 3, ... */
    pthread_t writer;
    assert_int_equal(pthread_create(&writer, NULL, write_pairs, NULL), 0);
    for (int i = 0; i < 200; i++) {
        struct error err = ERROR_INIT;
        AUTO_STORE_LIST list = {0};
        int64_t now = store_revision(st);
        int64_t revision = now - (now - base) % 2 - (now - base > 40 ? 2 * (i % 20) : 0);
        if (store_list_at(st, "p/", revision, &list, &err))
            fail_msg("%s", err.text);
        assert_int_equal(list.num_items, 2);
        int64_t a = json_integer_value(json_object_get(list.items[0]->json, "value"));
        int64_t b = json_integer_value(json_object_get(list.items[1]->json, "value"));
        assert_int_equal(a, b);
        assert_int_equal(a, (revision - base) / 2);
    }
    atomic_store(&stop, true);
    pthread_join(writer, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_revision_can_be_listed_as_it_was, setup, teardown),
        cmocka_unit_test_setup_teardown(the_past_is_read_from_disk_once_it_left_memory, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_was_compacted_is_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(lists_of_the_past_hold_while_others_write, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
