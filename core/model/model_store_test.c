#include "core/model/model_store.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/model/model_import.h"

struct fixture {
    char dir[64];
    struct model_store *store;
};

static int setup(void **state) {
    struct fixture *f = mem_alloc(sizeof(*f));
    struct error err = ERROR_INIT;
    snprintf(f->dir, sizeof(f->dir), "/tmp/inferd-models-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    AUTO_FREE char *dir = mem_printf("%s/a/b/store", f->dir);
    if (model_store_open(dir, &f->store, &err))
        fail_msg("%s", err.text);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    char command[128];
    model_store_close(f->store);
    snprintf(command, sizeof(command), "rm -rf '%s'", f->dir);
    int rc = system(command);
    free(f);
    return rc;
}

#define STORE_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

/* Writes DIR/name, making folders. */
static void put(const struct fixture *f, const char *name, const char *text) {
    AUTO_FREE char *path = mem_printf("%s/%s", f->dir, name);
    for (char *p = path + strlen(f->dir) + 1; (p = strchr(p, '/')); p++) {
        *p = '\0';
        mkdir(path, 0755);
        *p = '/';
    }
    FILE *out = fopen(path, "we");
    assert_non_null(out);
    fputs(text, out);
    fclose(out);
}

static void assert_file(const char *dir, const char *name, const char *text) {
    AUTO_FREE char *path = mem_printf("%s/%s", dir, name);
    char has[256] = "";
    FILE *in = fopen(path, "re");
    assert_non_null(in);
    size_t n = fread(has, 1, sizeof(has) - 1, in);
    fclose(in);
    has[n] = '\0';
    assert_string_equal(has, text);
}

static struct model_manifest *import(const struct fixture *f, const char *reference,
                                     const char *name) {
    AUTO_FREE char *path = mem_printf("%s/%s", f->dir, name);
    struct model_manifest *m = NULL;
    struct error err = ERROR_INIT;
    if (model_import(f->store, reference, path, 0, &m, &err))
        fail_msg("%s", err.text);
    return m;
}

static void forget_import(const struct fixture *f, const char *reference, const char *name) {
    model_manifest_destroy(import(f, reference, name));
}

static size_t count(const struct fixture *f, const char *what) {
    AUTO_FREE char *command = mem_printf("find %s/a/b/store/%s -mindepth 1 | wc -l", f->dir, what);
    size_t num = 99;
    FILE *p = popen(command, "re");
    assert_int_equal(fscanf(p, "%zu", &num), 1);
    pclose(p);
    return num;
}

static void a_folder_is_copied_and_found(void **state) {
    struct fixture *f = *state;
    put(f, "m/config.json", "{}");
    put(f, "m/sub/w.safetensors", "weights");
    put(f, "m/.git/config", "no");
    AUTO(model_manifest) m = import(f, "hf://org/name", "m");
    assert_int_equal(m->num_files, 2);
    assert_string_equal(m->files[0].path, "config.json");
    assert_string_equal(m->files[1].path, "sub/w.safetensors");
    assert_int_equal(m->bytes, 9);
    assert_file(m->dir, "config.json", "{}");
    assert_file(m->dir, "sub/w.safetensors", "weights");
    assert_int_equal(count(f, "incoming"), 0);
    struct model_list l;
    struct error err = ERROR_INIT;
    assert_int_equal(model_store_list(f->store, &l, &err), OK);
    assert_int_equal(l.num_items, 1);
    assert_string_equal(l.items[0]->reference, "hf://org/name");
    model_list_deinit(&l);
    AUTO(model_manifest) other = NULL;
    assert_int_equal(model_store_find(f->store, "hf://org/other", &other, &err), ERR_NOT_FOUND);
}

static void equal_files_are_kept_once(void **state) {
    struct fixture *f = *state;
    put(f, "one/a", "same");
    put(f, "two/b", "same");
    put(f, "two/c", "other");
    forget_import(f, "hf://o/one", "one");
    forget_import(f, "hf://o/two", "two");
    assert_int_equal(count(f, "blobs"), 2);
    struct error err = ERROR_INIT;
    assert_int_equal(model_store_remove(f->store, "hf://o/two", &err), OK);
    assert_int_equal(count(f, "blobs"), 1);
    AUTO(model_manifest) m = NULL;
    assert_int_equal(model_store_find(f->store, "hf://o/one", &m, &err), OK);
    assert_file(m->dir, "a", "same");
    assert_int_equal(model_store_remove(f->store, "hf://o/one", &err), OK);
    assert_int_equal(count(f, "blobs"), 0);
    assert_int_equal(count(f, "views"), 0);
    assert_int_equal(model_store_remove(f->store, "hf://o/one", &err), ERR_NOT_FOUND);
}

static void what_is_held_stays(void **state) {
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    AUTO(model_manifest) m = NULL;
    struct model_hold *hold;
    put(f, "m/a", "one");
    forget_import(f, "hf://o/m", "m");
    assert_int_equal(model_store_hold(f->store, "hf://o/m", &hold, &m, &err), OK);
    assert_true(model_store_in_use(f->store, "hf://o/m"));
    assert_int_equal(model_store_remove(f->store, "hf://o/m", &err), ERR_CONFLICT);
    assert_non_null(strstr(err.text, "in use"));
    /* Nor can it become something else. */
    AUTO_FREE char *path = mem_printf("%s/m", f->dir);
    AUTO(model_manifest) other = NULL;
    put(f, "m/a", "two");
    assert_int_equal(model_import(f->store, "hf://o/m", path, 0, &other, &err), ERR_CONFLICT);
    assert_file(m->dir, "a", "one");
    model_hold_close(hold);
    assert_int_equal(model_import(f->store, "hf://o/m", path, 0, &other, &err), OK);
    assert_file(other->dir, "a", "two");
    assert_int_equal(count(f, "blobs"), 1);
    assert_int_equal(model_store_hold(f->store, "hf://o/none", &hold, &m, &err), ERR_NOT_FOUND);
}

static void hold_of_a_process_that_dies_is_gone(void **state) {
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    int held[2];
    put(f, "m/a", "one");
    forget_import(f, "hf://o/m", "m");
    assert_int_equal(pipe(held), 0);
    pid_t pid = fork();
    if (!pid) {
        struct model_hold *hold;
        struct model_manifest *m;
        bool ok = !model_store_hold(f->store, "hf://o/m", &hold, &m, &err);
        if (write(held[1], &ok, 1) == 1)
            pause();
        _exit(1);
    }
    bool ok = false;
    assert_int_equal(read(held[0], &ok, 1), 1);
    assert_true(ok);
    assert_int_equal(model_store_remove(f->store, "hf://o/m", &err), ERR_CONFLICT);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(held[0]);
    close(held[1]);
    assert_int_equal(model_store_remove(f->store, "hf://o/m", &err), OK);
}

static void age(const struct fixture *f, const char *reference, int64_t seconds) {
    char hex[DIGEST_HEX_BYTES];
    digest_text(reference, hex);
    AUTO_FREE char *path = mem_printf("%s/a/b/store/manifests/%.32s.json", f->dir, hex);
    struct timespec times[2] = {{.tv_sec = seconds}, {.tv_sec = seconds}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static bool has(const struct fixture *f, const char *reference) {
    struct error err = ERROR_INIT;
    AUTO(model_manifest) m = NULL;
    return !model_store_find(f->store, reference, &m, &err);
}

static void room_is_made_of_what_was_unused_longest(void **state) {
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    AUTO(model_manifest) m = NULL;
    struct model_hold *hold;
    char big[8193];
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    static const char *const names[] = {"hf://o/a", "hf://o/b", "hf://o/c"};
    for (size_t i = 0; i < 3; i++) {
        big[0] = (char)('a' + i);
        put(f, "m/w", big);
        forget_import(f, names[i], "m");
    }
    assert_int_equal(model_store_hold(f->store, "hf://o/a", &hold, &m, &err), OK);
    age(f, "hf://o/a", 1000);
    age(f, "hf://o/b", 3000);
    age(f, "hf://o/c", 2000);
    assert_int_equal(model_store_bytes(f->store), 3 * 8192);
    struct model_room room = {.bytes = 8192, .bytes_max = 4 * 8192};
    assert_int_equal(model_store_make_room(f->store, &room, &err), OK);
    room.bytes_max = 3 * 8192;
    assert_int_equal(model_store_make_room(f->store, &room, &err), ERR_EXHAUSTED);
    assert_non_null(strstr(err.text, "budget (modelStoreBytesMax) 24576"));
    room.may_evict = true;
    assert_int_equal(model_store_make_room(f->store, &room, &err), OK);
    assert_true(has(f, "hf://o/a"));
    assert_true(has(f, "hf://o/b"));
    assert_false(has(f, "hf://o/c"));
    /* More than all that is not in use: nothing goes. */
    room.bytes = 3 * 8192;
    assert_int_equal(model_store_make_room(f->store, &room, &err), ERR_EXHAUSTED);
    assert_true(has(f, "hf://o/b"));
    room = (struct model_room){.bytes = UINT64_MAX / 4, .may_evict = true};
    assert_int_equal(model_store_make_room(f->store, &room, &err), ERR_EXHAUSTED);
    assert_true(has(f, "hf://o/b"));
    model_hold_close(hold);
}

static void tell(void *user, const struct model_file *file, const char *what) {
    snprintf(user, 128, "%s %s", file->path, what);
}

static void damage_is_told(void **state) {
    struct fixture *f = *state;
    char said[128] = "";
    const struct model_verify v = {tell, said};
    put(f, "m/a", "content");
    AUTO(model_manifest) m = import(f, "hf://o/m", "m");
    assert_int_equal(model_store_verify(f->store, m, &v), 0);
    AUTO_FREE char *path = mem_printf("%s/a", m->dir);
    chmod(path, 0644);
    FILE *out = fopen(path, "r+e");
    fputs("K", out);
    fclose(out);
    assert_int_equal(model_store_verify(f->store, m, &v), 1);
    assert_string_equal(said, "a wrong digest");
    assert_int_equal(truncate(path, 2), 0);
    assert_int_equal(model_store_verify(f->store, m, &v), 1);
    assert_string_equal(said, "a too short");
    unlink(path);
    assert_int_equal(model_store_verify(f->store, m, &v), 1);
    assert_string_equal(said, "a missing");
}

/* A manifest that somebody wrote by hand cannot point elsewhere. */
static void manifests_that_lead_out_are_not_read(void **state) {
    struct fixture *f = *state;
    put(f, "m/a", "content");
    forget_import(f, "hf://o/m", "m");
    AUTO_FREE char *command = mem_printf("sed -i 's|\"path\": *\"a\"|\"path\": \"../../a\"|' "
                                         "%s/a/b/store/manifests/*.json",
                                         f->dir);
    assert_int_equal(system(command), 0);
    assert_false(has(f, "hf://o/m"));
}

static void files_that_cannot_be_are_refused(void **state) {
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    AUTO(model_manifest) m = NULL;
    AUTO_FREE char *none = mem_printf("%s/none", f->dir);
    AUTO_FREE char *empty = mem_printf("%s/empty", f->dir);
    AUTO_FREE char *odd = mem_printf("%s/odd", f->dir);
    mkdir(empty, 0755);
    put(f, "odd/new\nline", "x");
    assert_int_equal(model_import(f->store, "hf://o/m", none, 0, &m, &err), ERR_NOT_FOUND);
    assert_int_equal(model_import(f->store, "hf://o/m", empty, 0, &m, &err), ERR_INVALID);
    assert_int_equal(model_import(f->store, "hf://o/m", odd, 0, &m, &err), ERR_INVALID);
    assert_int_equal(model_import(f->store, "hf://o/m", "/dev/null", 0, &m, &err), ERR_INVALID);
    put(f, "m/a", "content");
    AUTO_FREE char *path = mem_printf("%s/m", f->dir);
    assert_int_equal(model_import(f->store, "hf://o/m", path, 1, &m, &err), ERR_EXHAUSTED);
    assert_int_equal(count(f, "manifests"), 0);
    assert_int_equal(count(f, "blobs"), 0);
}

/* A process is killed after each number of system calls in turn, as far as the store is concerned:
 * by time. Whatever is left, the next one gets the model whole, and nothing else stays. */
static void killed_at_any_moment_the_next_one_succeeds(void **state) {
    struct fixture *f = *state;
    AUTO_FREE char *path = mem_printf("%s/m", f->dir);
    char name[32], text[64];
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof(name), "m/d%d/f%d", i % 3, i);
        snprintf(text, sizeof(text), "content %d", i);
        put(f, name, text);
    }
    for (int delay_us = 0; delay_us < 30000; delay_us += 1500) {
        struct error err = ERROR_INIT;
        pid_t pid = fork();
        if (!pid) {
            struct model_manifest *m;
            _exit(model_import(f->store, "hf://o/m", path, 0, &m, &err) ? 1 : 0);
        }
        usleep((useconds_t)delay_us);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        AUTO(model_manifest) m = NULL;
        const struct model_verify v = {tell, text};
        if (!model_store_find(f->store, "hf://o/m", &m, &err))
            assert_int_equal(model_store_verify(f->store, m, &v), 0);
        forget_import(f, "hf://o/m", "m");
        assert_int_equal(count(f, "blobs"), 20);
        assert_int_equal(count(f, "incoming"), 0);
        assert_int_equal(model_store_remove(f->store, "hf://o/m", &err), OK);
        assert_int_equal(count(f, "blobs"), 0);
        assert_int_equal(count(f, "views"), 0);
    }
}

static void one_at_a_time_adds_a_model(void **state) {
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    AUTO(model_incoming) first = NULL;
    AUTO(model_incoming) second = NULL;
    assert_int_equal(model_incoming_open(f->store, "hf://o/m", &first, &err), OK);
    assert_int_equal(model_incoming_open(f->store, "hf://o/m", &second, &err), ERR_UNAVAILABLE);
    assert_int_equal(model_incoming_open(f->store, "hf://o/n", &second, &err), OK);
}

/* What was finished before a kill is found; a part is kept; another expectation sees neither. */
static void files_on_their_way_are_gone_on_with(void **state) {
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    AUTO(model_incoming) in = NULL;
    char key[MODEL_ID_BYTES], other[MODEL_ID_BYTES], sha256[DIGEST_HEX_BYTES],
        has_sha[DIGEST_HEX_BYTES];
    uint64_t bytes = 0;
    int fd = -1;
    digest_text("text", sha256);
    model_incoming_key("a", "4 etag", key);
    model_incoming_key("a", "5 etag", other);
    assert_string_not_equal(key, other);
    assert_int_equal(model_incoming_open(f->store, "hf://o/m", &in, &err), OK);
    assert_int_equal(model_incoming_open_file(in, key, "part", &fd, &err), OK);
    assert_int_equal(write(fd, "text", 4), 4);
    close(fd);
    assert_false(model_incoming_find(in, key, has_sha, &bytes));
    assert_int_equal(model_incoming_finish(in, key, sha256, &err), OK);
    model_incoming_close(steal(in));
    model_store_close(steal(f->store)); /* sweeps when it opens */
    AUTO_FREE char *dir = mem_printf("%s/a/b/store", f->dir);
    assert_int_equal(model_store_open(dir, &f->store, &err), OK);
    assert_int_equal(model_incoming_open(f->store, "hf://o/m", &in, &err), OK);
    assert_true(model_incoming_find(in, key, has_sha, &bytes));
    assert_string_equal(has_sha, sha256);
    assert_int_equal(bytes, 4);
    assert_false(model_incoming_find(in, other, has_sha, &bytes));
    /* Two files of one name are no model, and leave none. */
    struct model_file files[2] = {{.path = (char[]){"a"}, .bytes = 4},
                                  {.path = (char[]){"a/b"}, .bytes = 4}};
    memcpy(files[0].sha256, sha256, sizeof(sha256));
    memcpy(files[1].sha256, sha256, sizeof(sha256));
    struct model_manifest m = {
        .reference = (char[]){"hf://o/m"}, .files = files, .num_files = 2, .bytes = 8};
    assert_int_equal(model_incoming_commit(in, &m, &err), ERR_INVALID);
    files[1].path = (char[]){"../b"};
    assert_int_equal(model_incoming_commit(in, &m, &err), ERR_INVALID);
    assert_int_equal(count(f, "views"), 0);
    m.num_files = 1;
    assert_int_equal(model_incoming_commit(in, &m, &err), OK);
    assert_true(has(f, "hf://o/m"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        STORE_TEST(a_folder_is_copied_and_found),
        STORE_TEST(equal_files_are_kept_once),
        STORE_TEST(what_is_held_stays),
        STORE_TEST(hold_of_a_process_that_dies_is_gone),
        STORE_TEST(room_is_made_of_what_was_unused_longest),
        STORE_TEST(damage_is_told),
        STORE_TEST(manifests_that_lead_out_are_not_read),
        STORE_TEST(files_that_cannot_be_are_refused),
        STORE_TEST(killed_at_any_moment_the_next_one_succeeds),
        STORE_TEST(one_at_a_time_adds_a_model),
        STORE_TEST(files_on_their_way_are_gone_on_with),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
