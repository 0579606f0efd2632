#include "core/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/clock.h"

/* Every test has a directory of its own. */
static char dir[] = "/tmp/inferd-store-XXXXXX";
static char path[128];

static int setup(void **state) {
    snprintf(dir, sizeof(dir), "/tmp/inferd-store-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/state.db", dir);
    return 0;
}

static int teardown(void **state) {
    static const char *const names[] = {"state.db", "state.db-wal", "state.db-shm",
                                        "state.db.lock"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char file[160];
        snprintf(file, sizeof(file), "%s/%s", dir, names[i]);
        unlink(file);
    }
    return rmdir(dir);
}

static struct store *open_with(uint32_t history, uint32_t seconds) {
    struct store *st = NULL;
    struct error err = ERROR_INIT;
    struct store_options opt = {
        .path = path, .history_events_max = history, .compact_interval_seconds = seconds};
    if (store_open(&opt, &st, &err))
        fail_msg("%s", err.text);
    return st;
}

static struct store *open_store(void) {
    return open_with(0, 0);
}

static json_t *object(const char *name, int value) {
    return json_pack("{s:{s:s}, s:{s:i}}", "metadata", "name", name, "spec", "value", value);
}

static int64_t put(struct store *st, const char *key, int value) {
    struct error err = ERROR_INIT;
    AUTO(store_object) o = NULL;
    if (store_put(st, key, object(key, value), STORE_EXPECT_ANY, &o, &err))
        fail_msg("%s", err.text);
    return o->revision;
}

static int value_of(const struct store_object *o) {
    return (int)json_integer_value(json_object_get(json_object_get(o->json, "spec"), "value"));
}

static int get(struct store *st, const char *key) {
    struct error err = ERROR_INIT;
    AUTO(store_object) o = NULL;
    return store_get(st, key, &o, &err) ? -1 : value_of(o);
}

static void what_was_put_is_got_with_its_revision(void **state) {
    AUTO(store) st = open_store();
    struct error err = ERROR_INIT;
    assert_int_equal(store_revision(st), 1); /* never 0: that means "any" on the wire */
    int64_t first = put(st, "core/pods/default/a", 1);
    assert_int_equal(first, 2);
    int64_t second = put(st, "core/pods/default/a", 2);
    AUTO(store_object) o = NULL;
    assert_int_equal(store_get(st, "core/pods/default/a", &o, &err), OK);
    assert_int_equal(o->revision, second);
    assert_int_equal(o->create_revision, first);
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(o->json, "metadata"), "resourceVersion")),
        "3");
    assert_int_equal(store_get(st, "core/pods/default/b", &o, &err), ERR_NOT_FOUND);
}

static void expectations_decide_who_wins(void **state) {
    AUTO(store) st = open_store();
    struct error err = ERROR_INIT;
    const char *key = "k";
    assert_int_equal(store_put(st, key, object(key, 1), 7, NULL, &err), ERR_NOT_FOUND);
    assert_int_equal(store_put(st, key, object(key, 1), STORE_EXPECT_ABSENT, NULL, &err), OK);
    assert_int_equal(store_put(st, key, object(key, 2), STORE_EXPECT_ABSENT, NULL, &err),
                     ERR_EXISTS);
    assert_int_equal(store_put(st, key, object(key, 2), 2, NULL, &err), OK);
    assert_int_equal(store_put(st, key, object(key, 3), 2, NULL, &err), ERR_CONFLICT);
    assert_int_equal(store_delete(st, key, 2, NULL, &err), ERR_CONFLICT);
    AUTO(store_object) gone = NULL;
    assert_int_equal(store_delete(st, key, 3, &gone, &err), OK);
    assert_int_equal(gone->revision, 4);
    assert_int_equal(value_of(gone), 2);
    assert_int_equal(store_delete(st, key, STORE_EXPECT_ANY, NULL, &err), ERR_NOT_FOUND);
    assert_int_equal(store_revision(st), 4);
}

static void a_write_that_changes_nothing_makes_no_revision(void **state) {
    AUTO(store) st = open_store();
    int64_t first = put(st, "k", 1);
    assert_int_equal(put(st, "k", 1), first);
    assert_int_equal(store_revision(st), first);
    assert_int_equal(put(st, "k", 2), first + 1);
}

static void several_writes_happen_together_or_not_at_all(void **state) {
    AUTO(store) st = open_store();
    struct error err = ERROR_INIT;
    put(st, "b", 1);
    struct store_write bad[] = {{"a", object("a", 1), STORE_EXPECT_ABSENT},
                                {"b", object("b", 2), STORE_EXPECT_ABSENT}};
    assert_int_equal(store_commit(st, bad, 2, NULL, &err), ERR_EXISTS);
    assert_int_equal(get(st, "a"), -1);
    assert_int_equal(store_revision(st), 2);
    /* Later writes of a commit see the earlier ones. */
    struct store_write good[] = {
        {"a", object("a", 1), STORE_EXPECT_ABSENT}, {"a", object("a", 5), 3}, {"b", NULL, 2}};
    AUTO(store_object) last = NULL;
    assert_int_equal(store_commit(st, good, 3, &last, &err), OK);
    assert_int_equal(get(st, "a"), 5);
    assert_int_equal(get(st, "b"), -1);
    assert_string_equal(last->key, "b");
    assert_int_equal(store_revision(st), 5);
}

static void lists_are_ordered_and_by_prefix(void **state) {
    AUTO(store) st = open_store();
    const char *keys[] = {"p/b/2", "p/b/1", "p/a/9", "q/a/1", "o/z/1"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        put(st, keys[i], (int)i);
    AUTO_STORE_LIST all = {0};
    store_list(st, "p/", &all);
    assert_int_equal(all.num_items, 3);
    assert_int_equal(all.revision, 6);
    assert_string_equal(all.items[0]->key, "p/a/9");
    assert_string_equal(all.items[1]->key, "p/b/1");
    assert_string_equal(all.items[2]->key, "p/b/2");
    AUTO_STORE_LIST none = {0};
    store_list(st, "p/c/", &none);
    assert_int_equal(none.num_items, 0);
}

static void what_cannot_be_stored_is_refused_with_the_bound(void **state) {
    AUTO(store) st = open_store();
    struct error err = ERROR_INIT;
    json_t *large = object("k", 1);
    char *text = mem_alloc(STORE_OBJECT_BYTES_MAX + 1);
    memset(text, 'x', STORE_OBJECT_BYTES_MAX);
    json_object_set_new(large, "data", json_string(text));
    free(text);
    assert_int_equal(store_put(st, "k", large, STORE_EXPECT_ANY, NULL, &err), ERR_TOO_LARGE);
    json_t *deep = json_array();
    for (int i = 0; i < STORE_OBJECT_DEPTH_MAX; i++)
        deep = json_pack("[o]", deep);
    json_t *o = object("k", 1);
    json_object_set_new(o, "deep", deep);
    assert_int_equal(store_put(st, "k", o, STORE_EXPECT_ANY, NULL, &err), ERR_INVALID);
    assert_int_equal(store_put(st, "k", json_pack("{}"), STORE_EXPECT_ANY, NULL, &err),
                     ERR_INVALID);
    char key[STORE_KEY_BYTES_MAX + 1];
    memset(key, 'k', sizeof(key) - 1);
    key[sizeof(key) - 1] = '\0';
    assert_int_equal(store_put(st, key, object("k", 1), STORE_EXPECT_ANY, NULL, &err), ERR_INVALID);
    assert_int_equal(store_revision(st), 1);
}

static void everything_is_there_after_reopening(void **state) {
    struct error err = ERROR_INIT;
    struct store *st = open_store();
    put(st, "a", 1);
    put(st, "a", 2);
    put(st, "b", 3);
    assert_int_equal(store_delete(st, "b", STORE_EXPECT_ANY, NULL, &err), OK);
    put(st, "c", 4);
    json_t *nul = object("z", 1);
    json_object_set_new(nul, "text", json_stringn("a\0b", 3));
    assert_int_equal(store_put(st, "z", nul, STORE_EXPECT_ANY, NULL, &err), OK);
    store_close(st);
    st = open_store();
    assert_int_equal(get(st, "a"), 2);
    assert_int_equal(get(st, "b"), -1);
    assert_int_equal(get(st, "c"), 4);
    assert_int_equal(get(st, "z"), 1);
    assert_int_equal(store_revision(st), 7);
    AUTO(store_object) o = NULL;
    assert_int_equal(store_get(st, "a", &o, &err), OK);
    assert_int_equal(o->revision, 3);
    assert_int_equal(o->create_revision, 2);
    /* A deletion that is the newest revision is not given out again. */
    assert_int_equal(store_delete(st, "c", STORE_EXPECT_ANY, NULL, &err), OK);
    store_close(st);
    st = open_store();
    assert_int_equal(put(st, "d", 1), 9);
    store_close(st);
}

static void watch_gives_every_event_in_order(void **state) {
    AUTO(store) st = open_store();
    struct error err = ERROR_INIT;
    int64_t progress;
    enum errc rc;
    struct store_event e;
    put(st, "p/a", 1);
    struct store_watch *w = NULL;
    assert_int_equal(store_watch_open(st, "p/", 1, NULL, NULL, &w, &err), OK);
    put(st, "q/a", 1);
    put(st, "p/a", 2);
    assert_int_equal(store_delete(st, "p/a", STORE_EXPECT_ANY, NULL, &err), OK);
    put(st, "q/a", 2);
    assert_true(store_watch_next(w, &e, &progress, &rc));
    assert_int_equal(e.type, STORE_ADDED);
    assert_int_equal(e.revision, 2);
    assert_null(e.previous);
    assert_true(store_watch_next(w, &e, &progress, &rc));
    assert_int_equal(e.type, STORE_MODIFIED);
    assert_int_equal(value_of(e.object), 2);
    assert_int_equal(value_of(e.previous), 1);
    assert_true(store_watch_next(w, &e, &progress, &rc));
    assert_int_equal(e.type, STORE_DELETED);
    assert_int_equal(e.revision, 5);
    assert_int_equal(e.object->revision, 5);
    assert_int_equal(value_of(e.object), 2);
    assert_false(store_watch_next(w, &e, &progress, &rc));
    assert_int_equal(rc, OK);
    assert_int_equal(progress, 6);
    store_watch_close(w);
}

/* Opens a watch at `from` and checks that it gives exactly the events after it, in order. */
static void assert_watch_complete(struct store *st, int64_t from, int64_t upto) {
    struct error err = ERROR_INIT;
    struct store_watch *w = NULL;
    struct store_event e;
    int64_t progress;
    enum errc rc;
    if (store_watch_open(st, "", from, NULL, NULL, &w, &err))
        fail_msg("%s", err.text);
    for (int64_t r = from + 1; r <= upto; r++) {
        assert_true(store_watch_next(w, &e, &progress, &rc));
        assert_int_equal(e.revision, r);
        assert_int_equal(e.object->revision, r);
        assert_true((e.type == STORE_ADDED) == !e.previous);
        if (e.previous)
            assert_true(e.previous->revision < r);
    }
    assert_false(store_watch_next(w, &e, &progress, &rc));
    assert_int_equal(rc, OK);
    assert_int_equal(progress, upto);
    store_watch_close(w);
}

/* 50 keys written and deleted by turns, several writes a commit to be quick. */
static int64_t write_many(struct store *st, int num_events) {
    struct error err = ERROR_INIT;
    for (int i = 0; i < num_events;) {
        struct store_write writes[50];
        char names[50][16];
        for (int k = 0; k < 50; k++, i++) {
            snprintf(names[k], sizeof(names[k]), "k%d", k);
            bool there = get(st, names[k]) >= 0;
            bool delete = there && i % 7 == 0;
            writes[k] = (struct store_write){
                .key = names[k],
                .object = delete ? NULL : object(names[k], i),
                .expect_revision = STORE_EXPECT_ANY,
            };
        }
        if (store_commit(st, writes, 50, NULL, &err))
            fail_msg("%s", err.text);
    }
    return store_revision(st);
}

static void watch_reads_from_disk_what_memory_no_longer_has(void **state) {
    struct store *st = open_store();
    int64_t newest = write_many(st, 3000);
    assert_watch_complete(st, 1, newest);
    assert_watch_complete(st, newest - 1500, newest);
    store_close(st);
    st = open_store(); /* and across a restart */
    assert_watch_complete(st, 1, newest);
    assert_watch_complete(st, newest - 10, newest);
    assert_watch_complete(st, newest, newest);
    store_close(st);
}

static void compaction_keeps_history_and_current_objects(void **state) {
    struct error err = ERROR_INIT;
    struct store *st = open_with(500, 0);
    int64_t newest = write_many(st, 3000);
    put(st, "again", 1); /* each batch gives the store thread a look at the size */
    newest = store_revision(st);
    struct store_watch *w = NULL;
    for (int i = 0; i < 200 && store_watch_open(st, "", 1, NULL, NULL, &w, &err) != ERR_GONE; i++) {
        store_watch_close(steal(w));
        usleep(10000); /* compaction runs beside us, in steps */
    }
    assert_int_equal(err.code, ERR_GONE);
    assert_watch_complete(st, newest - 500, newest);
    AUTO_STORE_LIST before = {0}, after = {0};
    store_list(st, "", &before);
    store_close(st);
    st = open_with(500, 0);
    store_list(st, "", &after);
    assert_int_equal(after.num_items, before.num_items);
    for (size_t i = 0; i < after.num_items; i++) {
        assert_int_equal(after.items[i]->revision, before.items[i]->revision);
        assert_true(json_equal(after.items[i]->json, before.items[i]->json));
    }
    assert_watch_complete(st, newest - 500, newest);
    store_close(st);
}

static void notify_write(void *user) {
    uint64_t one = 1;
    ssize_t n = write(*(int *)user, &one, sizeof(one));
    assert_int_equal(n, sizeof(one));
}

static void notify_is_called_for_the_prefix_only(void **state) {
    AUTO(store) st = open_store();
    struct error err = ERROR_INIT;
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct store_watch *w = NULL;
    assert_int_equal(store_watch_open(st, "p/", 1, notify_write, &fd, &w, &err), OK);
    uint64_t count;
    put(st, "q/a", 1);
    assert_int_equal(read(fd, &count, sizeof(count)), -1);
    put(st, "p/a", 1);
    assert_int_equal(read(fd, &count, sizeof(count)), 8); /* before put returned */
    store_watch_close(w);
    put(st, "p/a", 2);
    assert_int_equal(read(fd, &count, sizeof(count)), -1);
    close(fd);
}

struct writer {
    struct store *st;
    int id, num_writes;
    pthread_t thread;
};

static void *write_own_counter(void *user) {
    struct writer *w = user;
    char key[32];
    snprintf(key, sizeof(key), "w/%d", w->id);
    for (int i = 1; i <= w->num_writes; i++) {
        put(w->st, key, i);
        if (get(w->st, key) != i) /* own writes are read */
            abort();
    }
    return NULL;
}

static void *watch_until(void *user) {
    struct writer *w = user;
    struct error err = ERROR_INIT;
    int fd = eventfd(0, EFD_CLOEXEC);
    struct store_watch *watch = NULL;
    if (store_watch_open(w->st, "w/", 1, notify_write, &fd, &watch, &err))
        abort();
    int64_t last = 1, progress;
    for (int seen = 0; seen < w->num_writes;) {
        struct store_event e;
        enum errc rc;
        while (store_watch_next(watch, &e, &progress, &rc)) {
            if (e.revision <= last)
                abort();
            last = e.revision;
            seen++;
        }
        if (rc)
            abort();
        uint64_t count;
        if (seen < w->num_writes && read(fd, &count, sizeof(count)) != 8)
            abort();
    }
    store_watch_close(watch);
    close(fd);
    return NULL;
}

static void many_threads_write_and_watch_without_gaps(void **state) {
    enum { THREADS = 8, WRITES = 50 };
    AUTO(store) st = open_store();
    struct writer writers[THREADS], watchers[2];
    for (int i = 0; i < 2; i++) {
        watchers[i] = (struct writer){.st = st, .num_writes = THREADS * WRITES};
        pthread_create(&watchers[i].thread, NULL, watch_until, &watchers[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        writers[i] = (struct writer){.st = st, .id = i, .num_writes = WRITES};
        pthread_create(&writers[i].thread, NULL, write_own_counter, &writers[i]);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(writers[i].thread, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(watchers[i].thread, NULL);
    assert_int_equal(store_revision(st), 1 + THREADS * WRITES);
}

int main(void) {
#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        STORE_TEST(what_was_put_is_got_with_its_revision),
        STORE_TEST(expectations_decide_who_wins),
        STORE_TEST(a_write_that_changes_nothing_makes_no_revision),
        STORE_TEST(several_writes_happen_together_or_not_at_all),
        STORE_TEST(lists_are_ordered_and_by_prefix),
        STORE_TEST(what_cannot_be_stored_is_refused_with_the_bound),
        STORE_TEST(everything_is_there_after_reopening),
        STORE_TEST(watch_gives_every_event_in_order),
        STORE_TEST(watch_reads_from_disk_what_memory_no_longer_has),
        STORE_TEST(compaction_keeps_history_and_current_objects),
        STORE_TEST(notify_is_called_for_the_prefix_only),
        STORE_TEST(many_threads_write_and_watch_without_gaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
