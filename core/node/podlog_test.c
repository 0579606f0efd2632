/* Pod logs: lines, pieces, rotation, tail, since, limit, following. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/node/podlog.h"

enum { PATIENCE_MS = 20000 };

static const struct podlog_source SRC = {.ns = "ns", .pod = "p", .uid = "u", .container = "c"};

struct fixture {
    char root[64];
    struct podlog *podlog;
    int pipe[2]; /* the container's stdout */
    int more;    /* eventfd of a follower */
};

static void on_more(void *user) {
    uint64_t one = 1;
    ssize_t n = write(*(int *)user, &one, sizeof(one));
    assert_int_equal(n, sizeof(one));
}

static int setup(void **state) {
    struct fixture *f = mem_alloc(sizeof(*f));
    strcpy(f->root, "/tmp/inferd-log-XXXXXX");
    assert_non_null(mkdtemp(f->root));
    struct podlog_options opt = {.dir = f->root, .file_bytes_max = 4096, .num_files_max = 3};
    struct error err = ERROR_INIT;
    assert_int_equal(podlog_create(&opt, &f->podlog, &err), OK);
    assert_int_equal(pipe2(f->pipe, 0), 0);
    assert_int_equal(podlog_attach(f->podlog, &SRC, f->pipe[0], -1, &err), OK);
    f->more = eventfd(0, 0);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    if (f->pipe[1] >= 0)
        close(f->pipe[1]);
    podlog_destroy(f->podlog);
    close(f->more);
    AUTO_FREE char *command = mem_printf("rm -rf '%s'", f->root);
    int rc = system(command);
    free(f);
    return rc;
}

static void say(struct fixture *f, const char *text) {
    assert_int_equal(write(f->pipe[1], text, strlen(text)), strlen(text));
}

static struct podlog_reader *open_reader(struct fixture *f, struct podlog_read_options opt) {
    struct podlog_reader *r;
    struct error err = ERROR_INIT;
    if (podlog_reader_open(f->podlog, &SRC, &opt, &r, &err))
        fail_msg("%s", err.text);
    podlog_reader_on_more(r, on_more, &f->more);
    return r;
}

/* Follows until the source ends. */
static void read_all(struct fixture *f, struct podlog_reader *r, struct buf *out) {
    size_t before;
    for (;;) {
        before = out->len;
        if (!podlog_reader_next(r, 4096, out))
            return;
        if (out->len != before)
            continue;
        struct pollfd p = {.fd = f->more, .events = POLLIN};
        assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
        uint64_t count;
        assert_int_equal(read(f->more, &count, sizeof(count)), sizeof(count));
    }
}

static void end_source(struct fixture *f) {
    close(f->pipe[1]);
    f->pipe[1] = -1;
}

static void following_sees_every_line_and_the_end(void **state) {
    struct fixture *f = *state;
    say(f, "one\ntw");
    struct podlog_reader *r = open_reader(
        f, (struct podlog_read_options){.tail_lines = -1, .limit_bytes = -1, .follow = true});
    say(f, "o\nlast without newline");
    end_source(f);
    AUTO_BUF text = BUF_INIT;
    read_all(f, r, &text);
    assert_string_equal(text.data, "one\ntwo\nlast without newline\n");
    podlog_reader_close(r);
}

static void write_and_settle(struct fixture *f, int num_lines) {
    struct podlog_reader *r = open_reader(
        f, (struct podlog_read_options){.tail_lines = -1, .limit_bytes = -1, .follow = true});
    for (int i = 0; i < num_lines; i++) {
        char line[64];
        snprintf(line, sizeof(line), "line %d\n", i);
        say(f, line);
    }
    end_source(f);
    AUTO_BUF text = BUF_INIT;
    read_all(f, r, &text);
    podlog_reader_close(r);
}

static void read_now(struct fixture *f, struct podlog_read_options opt, struct buf *out) {
    struct podlog_reader *r = open_reader(f, opt);
    while (podlog_reader_next(r, 4096, out))
        ;
    podlog_reader_close(r);
}

static void tail_limit_and_timestamps_cut_as_asked(void **state) {
    struct fixture *f = *state;
    write_and_settle(f, 10);
    AUTO_BUF tail = BUF_INIT;
    read_now(f, (struct podlog_read_options){.tail_lines = 2, .limit_bytes = -1}, &tail);
    assert_string_equal(tail.data, "line 8\nline 9\n");
    AUTO_BUF none = BUF_INIT;
    read_now(f, (struct podlog_read_options){.tail_lines = 0, .limit_bytes = -1}, &none);
    assert_int_equal(none.len, 0);
    AUTO_BUF limited = BUF_INIT;
    read_now(f, (struct podlog_read_options){.tail_lines = -1, .limit_bytes = 9}, &limited);
    assert_string_equal(limited.data, "line 0\nli");
    AUTO_BUF stamped = BUF_INIT;
    read_now(f,
             (struct podlog_read_options){.tail_lines = 1, .limit_bytes = -1, .timestamps = true},
             &stamped);
    assert_non_null(strstr(stamped.data, "Z line 9\n"));
    AUTO_BUF later = BUF_INIT;
    read_now(f,
             (struct podlog_read_options){
                 .tail_lines = -1, .limit_bytes = -1, .since_wall_ms = clock_wall_ms() + 60000},
             &later);
    assert_int_equal(later.len, 0);
}

static void rotation_keeps_the_newest_files_in_order(void **state) {
    struct fixture *f = *state;
    write_and_settle(f, 1000); /* about 50 bytes a record: 12 files of 4 KiB, 3 are kept */
    AUTO_BUF text = BUF_INIT;
    read_now(f, (struct podlog_read_options){.tail_lines = -1, .limit_bytes = -1}, &text);
    int first = -1, n = 0;
    for (char *p = text.data; *p; p = strchr(p, '\n') + 1, n++) {
        int value;
        assert_int_equal(sscanf(p, "line %d\n", &value), 1);
        if (first < 0)
            first = value;
        assert_int_equal(value, first + n);
    }
    assert_int_equal(first + n, 1000);
    assert_true(n >= 2 * 4096 / 60 && n < 3 * 4200 / 40);
}

static void a_line_longer_than_the_bound_comes_back_whole(void **state) {
    struct fixture *f = *state;
    struct podlog_reader *r = open_reader(
        f, (struct podlog_read_options){.tail_lines = 1, .limit_bytes = -1, .follow = true});
    AUTO_FREE char *text = mem_alloc(PODLOG_LINE_BYTES_MAX * 2 + 100);
    memset(text, 'x', PODLOG_LINE_BYTES_MAX * 2 + 50);
    say(f, text);
    end_source(f);
    AUTO_BUF out = BUF_INIT;
    read_all(f, r, &out);
    assert_int_equal(out.len, strlen(text) + 1);
    podlog_reader_close(r);
}

static void a_run_without_a_log_is_not_found(void **state) {
    struct fixture *f = *state;
    struct podlog_source other = SRC;
    other.restart = 3;
    struct podlog_read_options opt = {.tail_lines = -1, .limit_bytes = -1};
    struct podlog_reader *r;
    struct error err = ERROR_INIT;
    assert_int_equal(podlog_reader_open(f->podlog, &other, &opt, &r, &err), ERR_NOT_FOUND);
    podlog_remove(f->podlog, "ns", "p", "u");
    assert_int_equal(podlog_reader_open(f->podlog, &SRC, &opt, &r, &err), ERR_NOT_FOUND);
}

/* The thread ends a source while its only reader sees the end and closes: either may be the one
 * that frees it. Many rounds, because the window is a few instructions wide. */
static void closing_at_the_end_races_the_thread_safely(void **state) {
    struct fixture *f = *state;
    for (uint32_t restart = 1; restart <= 2000; restart++) {
        struct podlog_source src = SRC;
        src.restart = restart;
        int ends[2];
        assert_int_equal(pipe2(ends, 0), 0);
        struct error err = ERROR_INIT;
        assert_int_equal(podlog_attach(f->podlog, &src, ends[0], -1, &err), OK);
        struct podlog_read_options opt = {.tail_lines = -1, .limit_bytes = -1, .follow = true};
        struct podlog_reader *r;
        assert_int_equal(podlog_reader_open(f->podlog, &src, &opt, &r, &err), OK);
        assert_int_equal(write(ends[1], "x\n", 2), 2);
        close(ends[1]);
        AUTO_BUF text = BUF_INIT;
        while (podlog_reader_next(r, 4096, &text))
            ;
        podlog_reader_close(r);
        assert_string_equal(text.data, "x\n");
    }
}

static bool is_mine(void *user, const char *ns, const char *pod, const char *uid) {
    ++*(int *)user;
    return !strcmp(ns, "ns") && !strcmp(pod, "p") && !strcmp(uid, "u");
}

static void run(const struct fixture *f, const char *script) {
    AUTO_FREE char *command = mem_printf("cd '%s' && %s", f->root, script);
    assert_int_equal(system(command), 0);
}

static void logs_of_pods_that_are_gone_are_swept(void **state) {
    struct fixture *f = *state;
    int num_asked = 0;
    run(f, "mkdir -p ns_p_v/c x_p_u mine a_b_c_d && : > ns_p_v/c/0.log");
    podlog_sweep(f->podlog, is_mine, &num_asked);
    assert_int_equal(num_asked, 3);
    run(f, "test -e ns_p_u/c/0.log && test ! -e ns_p_v && test ! -e x_p_u && test -e mine && "
           "test -e a_b_c_d");
}

static void a_container_keeps_its_last_two_runs(void **state) {
    struct fixture *f = *state;
    struct podlog_source source = SRC;
    struct error err = ERROR_INIT;
    run(f, "touch ns_p_u/c/8.log.1 ns_p_u/c/9.log ns_p_u/c/10.log ns_p_u/c/10.log.2 ns_p_u/c/x");
    source.restart = 11;
    assert_int_equal(podlog_attach(f->podlog, &source, -1, -1, &err), OK);
    run(f, "test $(echo $(ls ns_p_u/c | sort) | tr ' ' ,) = 10.log,10.log.2,11.log,x");
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(following_sees_every_line_and_the_end),
        T(tail_limit_and_timestamps_cut_as_asked),
        T(rotation_keeps_the_newest_files_in_order),
        T(a_line_longer_than_the_bound_comes_back_whole),
        T(a_run_without_a_log_is_not_found),
        T(closing_at_the_end_races_the_thread_safely),
        T(logs_of_pods_that_are_gone_are_swept),
        T(a_container_keeps_its_last_two_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
