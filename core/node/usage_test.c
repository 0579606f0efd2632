/* What containers use: whose process is whose, and the figures of real processes. */
#include "core/node/usage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/node/process.h"

static void a_line_of_proc_is_read_behind_the_name(void **state) {
    struct process_stat s;
    assert_true(process_stat_parse("77 (a) b) (c) S 5 70 9 0 -1 4194560 1 2 3 4 100 20 3 4 20 0 1 "
                                   "0 123456 1000 250 18446744073709551615 1\n",
                                   &s));
    assert_int_equal(s.pid, 77);
    assert_int_equal(s.parent, 5);
    assert_int_equal(s.group, 70);
    assert_int_equal(s.cpu_ticks, 127);
    assert_int_equal(s.start_ticks, 123456);
    assert_int_equal(s.resident_pages, 250);
    static const char *const wrong[] = {"",
                                        "77 (sh) S",
                                        "77 sh S 5 70",
                                        "(sh) S 5 70 9 0 -1",
                                        "77 (sh",
                                        "77 (sh)",
                                        "77 (sh) S 5 70 9 x",
                                        "0 (sh) S 5 70 9 0 -1 4 1 2 3 4 1 2 3 4 2 0 1 0 1 1 1"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        assert_false(process_stat_parse(wrong[i], &s));
}

static void a_process_belongs_to_the_container_it_comes_from(void **state) {
    const struct usage_source sources[] = {
        {.pid = 20, .user = 70001}, {.pid = 30, .user = 70001}, {.pid = 40}};
    static const struct {
        struct process_stat stat;
        uint32_t user;
        int32_t want;
    } cases[] = {
        {{.pid = 1, .parent = 0, .group = 1}, 0, -1},
        {{.pid = 5, .parent = 50, .group = 5}, 0, 2},    /* its parent has a higher number */
        {{.pid = 7, .parent = 1, .group = 20}, 0, 0},    /* an orphan that stayed in the group */
        {{.pid = 8, .parent = 1, .group = 8}, 70001, 0}, /* one that left it: by its user */
        {{.pid = 9, .parent = 1, .group = 9}, 1000, -1}, /* somebody else's */
        {{.pid = 10, .parent = 1, .group = 10}, 0, -1},  /* an unknown user is nobody's */
        {{.pid = 20, .parent = 1, .group = 20}, 70001, 0},
        {{.pid = 30, .parent = 1, .group = 30}, 70001, 1},
        {{.pid = 31, .parent = 30, .group = 31}, 70001, 1}, /* the tree before the user */
        {{.pid = 32, .parent = 31, .group = 32}, 70001, 1},
        {{.pid = 40, .parent = 1, .group = 40}, 0, 2},
        {{.pid = 50, .parent = 40, .group = 50}, 0, 2},
        {{.pid = 60, .parent = 61, .group = 60}, 0, -1}, /* a parent that is gone */
    };
    struct process_stat all[ARRAY_LEN(cases)];
    uint32_t users[ARRAY_LEN(cases)];
    int32_t owners[ARRAY_LEN(cases)];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        all[i] = cases[i].stat;
        users[i] = cases[i].user;
    }
    usage_attribute(all, users, ARRAY_LEN(cases), sources, ARRAY_LEN(sources), owners);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(owners[i], cases[i].want);
}

enum { HELD_BYTES = 64 << 20 };

static int64_t cpu_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* A process in a group of its own that has a child with memory, has used CPU, and says so. */
static pid_t start_burner(int64_t burn_ms) {
    int ready[2];
    char c;
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (!pid) {
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        pid_t child = fork();
        if (!child) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            char *held =
                mmap(NULL, HELD_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            memset(held, 1, HELD_BYTES);
        }
        while (cpu_ms() < burn_ms)
            ;
        ssize_t n = write(ready[1], "r", 1);
        raise(n == 1 ? SIGSTOP : SIGKILL); /* it rests until it is killed */
        _exit(1);
    }
    for (int i = 0; i < 2; i++) /* both processes */
        assert_int_equal(read(ready[0], &c, 1), 1);
    close(ready[0]);
    close(ready[1]);
    return pid;
}

static void real_processes_are_measured(void **state) {
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* orphans become ours, to be waited for */
    AUTO(usage) u = usage_create();
    struct usage_source source = {.uid = "u", .container = "c", .started_ms = 1000};
    usage_sample(u, NULL, 0, 500, 1);
    assert_null(usage_latest(u)); /* nothing to compare with */
    source.pid = start_burner(300);
    usage_sample(u, &source, 1, 3000, 77000);
    AUTO(usage_snapshot) first = usage_latest(u);
    assert_non_null(first);
    assert_int_equal(first->wall_ms, 77000);
    assert_int_equal(first->num_containers, 1);
    assert_string_equal(first->containers[0].uid, "u");
    assert_string_equal(first->containers[0].container, "c");
    const struct usage_figures *f = &first->containers[0].figures;
    assert_int_equal(f->window_ms, 2000); /* since its start */
    /* Two times 300 ms within 2 s, by a clock of 10 ms. */
    assert_in_range(f->cpu_nano, 270000000, 1500000000);
    assert_in_range(f->memory_bytes, HELD_BYTES, HELD_BYTES * 32LL); /* sanitizers take much */
    assert_int_equal(first->node.window_ms, 2500);
    assert_true(first->node.memory_bytes > HELD_BYTES);
    assert_true(first->node.cpu_nano > 0);
    /* It rests: the window begins at the last sample, and the old snapshot stays as it was. */
    usage_sample(u, &source, 1, 18000, 92000);
    AUTO(usage_snapshot) second = usage_latest(u);
    assert_int_equal(second->containers[0].figures.window_ms, 15000);
    assert_in_range(second->containers[0].figures.cpu_nano, 0, 20000000);
    assert_int_equal(first->containers[0].figures.window_ms, 2000);
    /* Another run of the container begins at its own start. */
    source.restart = 1;
    source.started_ms = 19000;
    usage_sample(u, &source, 1, 20000, 94000);
    AUTO(usage_snapshot) third = usage_latest(u);
    assert_int_equal(third->containers[0].figures.window_ms, 1000);
    int64_t resident;
    usage_resident(&source, 1, &resident);
    assert_in_range(resident, HELD_BYTES, HELD_BYTES * 32LL);
    kill(-source.pid, SIGKILL);
    while (waitpid(-1, NULL, 0) > 0) {} /* its child, too */
    usage_sample(u, &source, 1, 21000, 95000);
    AUTO(usage_snapshot) gone = usage_latest(u);
    assert_int_equal(gone->containers[0].figures.cpu_nano, 0); /* less than before: not negative */
    assert_int_equal(gone->containers[0].figures.memory_bytes, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_of_proc_is_read_behind_the_name),
        cmocka_unit_test(a_process_belongs_to_the_container_it_comes_from),
        cmocka_unit_test(real_processes_are_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
