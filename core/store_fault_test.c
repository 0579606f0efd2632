/* The store when the ground gives way: disks that refuse every N-th write, a process killed in the
 * middle of commits, files that are not ours. */
#include "core/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/fault_disk_test.h"

static char dir[] = "/tmp/inferd-fault-XXXXXX";
static char path[128];

/* A directory for each test. */

static int setup(void **state) {
    snprintf(dir, sizeof(dir), "/tmp/inferd-fault-XXXXXX");
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

static enum errc try_open(struct store **ret_st, struct error *err) {
    struct store_options opt = {.path = path};
    return store_open(&opt, ret_st, err);
}

static struct store *open_store(void) {
    struct store *st = NULL;
    struct error err = ERROR_INIT;
    if (try_open(&st, &err))
        fail_msg("%s", err.text);
    return st;
}

static enum errc put(struct store *st, const char *key, int value, struct error *err) {
    json_t *o = json_pack("{s:{s:s}, s:i}", "metadata", "name", key, "value", value);
    return store_put(st, key, o, STORE_EXPECT_ANY, NULL, err);
}

static int get(struct store *st, const char *key) {
    struct error err = ERROR_INIT;
    AUTO(store_object) o = NULL;
    if (store_get(st, key, &o, &err))
        return -1;
    return (int)json_integer_value(json_object_get(o->json, "value"));
}

enum { KEYS = 5 };

static void assert_equals_model(struct store *st, const int model[KEYS]) {
    for (int k = 0; k < KEYS; k++) {
        char key[8];
        snprintf(key, sizeof(key), "k%d", k);
        assert_int_equal(get(st, key), model[k]);
    }
}

static void a_refused_write_changes_nothing(int every) {
    int model[KEYS], acknowledged = 0, refused = 0;
    for (int k = 0; k < KEYS; k++)
        model[k] = -1;
    struct store *st = open_store();
    fault_count = 0;
    fault_every = every;
    for (int i = 0; i < 40; i++) {
        struct error err = ERROR_INIT;
        int k = i % KEYS;
        char key[8];
        snprintf(key, sizeof(key), "k%d", k);
        int64_t before = store_revision(st);
        if (put(st, key, i, &err) == OK) {
            model[k] = i;
            acknowledged++;
            assert_int_equal(store_revision(st), before + 1);
        } else {
            refused++;
            assert_int_equal(err.code, ERR_IO);
            assert_non_null(strstr(err.text, "state.db"));
            assert_int_equal(store_revision(st), before);
        }
        assert_equals_model(st, model);
    }
    fault_every = 0;
    assert_true(refused > 0);
    int64_t revision = store_revision(st);
    assert_int_equal(revision, 1 + acknowledged);
    /* Memory equals disk, and the disk works again. */
    store_close(st);
    st = open_store();
    assert_equals_model(st, model);
    assert_int_equal(store_revision(st), revision);
    struct error err = ERROR_INIT;
    assert_int_equal(put(st, "k0", 1000, &err), OK);
    assert_int_equal(store_revision(st), revision + 1);
    store_close(st);
}

static void every_nth_write_fails(void **state) {
    static const int every[] = {1, 2, 3, 4, 5, 7, 11};
    log_set_level(LOG_LEVEL_ERROR + 1);
    for (size_t i = 0; i < ARRAY_LEN(every); i++) {
        if (i) {
            assert_int_equal(teardown(state), 0);
            setup(state);
        }
        a_refused_write_changes_nothing(every[i]);
    }
    log_set_level(LOG_LEVEL_INFO);
}

static void a_disk_that_refuses_everything_fails_the_start(void **state) {
    struct store *st = NULL;
    struct error err = ERROR_INIT;
    fault_count = 0;
    fault_every = 1;
    assert_int_equal(try_open(&st, &err), ERR_IO);
    fault_every = 0;
    assert_null(st);
    assert_non_null(strstr(err.text, path));
    store_close(open_store());
}

/* Killed in the middle. */

struct acknowledged {
    int thread, value;
};

struct writer {
    struct store *st;
    int id, first, pipe;
    pthread_t thread;
};

static void *write_until_killed(void *user) {
    struct writer *w = user;
    char key[8];
    snprintf(key, sizeof(key), "k%d", w->id);
    for (int i = w->first;; i++) {
        struct error err = ERROR_INIT;
        struct acknowledged a = {w->id, i};
        if (put(w->st, key, i, &err) || write(w->pipe, &a, sizeof(a)) != sizeof(a))
            _exit(1);
    }
}

static _Noreturn void child(int pipe, const int *first) {
    struct store *st = NULL;
    struct error err = ERROR_INIT;
    struct writer writers[KEYS];
    if (try_open(&st, &err))
        _exit(2);
    for (int i = 0; i < KEYS; i++) {
        writers[i] = (struct writer){.st = st, .id = i, .first = first[i], .pipe = pipe};
        pthread_create(&writers[i].thread, NULL, write_until_killed, &writers[i]);
    }
    pause();
    _exit(3);
}

static void what_was_acknowledged_survives_kill_9(void **state) {
    int last[KEYS] = {0}, first[KEYS];
    int64_t revision = 1;
    for (int round = 0; round < 5; round++) {
        int fds[2];
        assert_int_equal(pipe(fds), 0);
        for (int k = 0; k < KEYS; k++)
            first[k] = last[k] + 1;
        pid_t pid = fork();
        if (!pid)
            child(fds[1], first);
        close(fds[1]);
        struct acknowledged a;
        int num = 0;
        while (read(fds[0], &a, sizeof(a)) == sizeof(a)) {
            last[a.thread] = a.value;
            if (++num == 60 + 13 * round)
                kill(pid, SIGKILL); /* and read what was acknowledged until then */
        }
        close(fds[0]);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        AUTO(store) st = open_store();
        for (int k = 0; k < KEYS; k++) {
            char key[8];
            snprintf(key, sizeof(key), "k%d", k);
            int value = get(st, key);
            /* One more may have reached the disk without its acknowledgement reaching us. */
            assert_true(value == last[k] || value == last[k] + 1);
            last[k] = value;
        }
        assert_true(store_revision(st) >= revision + num);
        revision = store_revision(st);
    }
}

/* Files that are not ours, or not whole. */

static void a_second_daemon_is_refused(void **state) {
    AUTO(store) st = open_store();
    struct store *second = NULL;
    struct error err = ERROR_INIT;
    char pid[64];
    snprintf(pid, sizeof(pid), "in use by another inferd (process %ld)", (long)getpid());
    assert_int_equal(try_open(&second, &err), ERR_UNAVAILABLE);
    assert_non_null(strstr(err.text, pid));
    assert_null(second);
}

static void overwrite(off_t at, const void *data, size_t len) {
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(pwrite(fd, data, len, at), (ssize_t)len);
    close(fd);
}

static void assert_refused(const char *why) {
    struct store *st = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(try_open(&st, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, path));
    if (!strstr(err.text, why))
        fail_msg("\"%s\" does not say \"%s\"", err.text, why);
}

static void run_sql(const char *sql) {
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void files_that_are_not_ours_are_refused(void **state) {
    char text[4096];
    memset(text, 'x', sizeof(text));
    overwrite(0, text, sizeof(text));
    assert_refused("not a database");
    unlink(path);
    run_sql("CREATE TABLE theirs(x); PRAGMA application_id=305419896;");
    assert_refused("another program (application id 0x12345678");
    unlink(path);
    run_sql("CREATE TABLE theirs(x);");
    assert_refused("another program");
    unlink(path);
    store_close(open_store());
    run_sql("PRAGMA user_version=9");
    assert_refused("newer inferd (schema 9");
}

static void a_damaged_file_is_named(void **state) {
    struct error err = ERROR_INIT;
    struct store *st = open_store();
    for (int i = 0; i < 200; i++) {
        char key[16];
        snprintf(key, sizeof(key), "key/%d", i);
        assert_int_equal(put(st, key, i, &err), OK);
    }
    store_close(st);
    char noise[4096];
    for (size_t i = 0; i < sizeof(noise); i++)
        noise[i] = (char)(i * 7 + 1);
    overwrite(4096, noise, sizeof(noise));
    overwrite(8192, noise, sizeof(noise));
    assert_refused("restore a backup");
}

static void a_damaged_value_is_named_with_its_key(void **state) {
    struct error err = ERROR_INIT;
    struct store *st = open_store();
    assert_int_equal(put(st, "core/pods/default/a", 1, &err), OK);
    store_close(st);
    run_sql("UPDATE log SET value='{\"metadata\":' WHERE id=2");
    assert_refused("revision 2 (core/pods/default/a) is damaged");
}

int main(void) {
#define FAULT_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        FAULT_TEST(every_nth_write_fails),
        FAULT_TEST(a_disk_that_refuses_everything_fails_the_start),
        FAULT_TEST(what_was_acknowledged_survives_kill_9),
        FAULT_TEST(a_second_daemon_is_refused),
        FAULT_TEST(files_that_are_not_ours_are_refused),
        FAULT_TEST(a_damaged_file_is_named),
        FAULT_TEST(a_damaged_value_is_named_with_its_key),
    };
    return cmocka_run_group_tests(tests, fault_disk_install, NULL);
}
