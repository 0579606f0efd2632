#include "engine/free_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "core/base/mem.h"

/* A made-up /proc and cgroup tree in a fresh directory; left behind in TMPDIR only on failure. */
static char root[] = "/tmp/free_memory_test.XXXXXX";

static void write_file(const char *name, const char *text) {
    AUTO_FREE char *path = mem_printf("%s/%s", root, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void make_dir(const char *name) {
    AUTO_FREE char *path = mem_printf("%s/%s", root, name);
    assert_int_equal(mkdir(path, 0755), 0);
}

static uint64_t measured(void) {
    AUTO_FREE char *proc = mem_printf("%s/proc", root);
    AUTO_FREE char *cgroup_fs = mem_printf("%s/cgroup", root);
    return free_memory_bytes_under(proc, cgroup_fs);
}

static void the_least_bound_on_the_way_to_the_root_counts(void **state) {
    assert_non_null(mkdtemp(root));
    make_dir("proc");
    assert_true(measured() == UINT64_MAX);

    make_dir("proc/self");
    make_dir("cgroup");
    make_dir("cgroup/a");
    make_dir("cgroup/a/b");
    write_file("proc/meminfo", "MemTotal:  99 kB\nMemFree:   1 kB\nMemAvailable:   1000 kB\n");
    assert_true(measured() == 1000 * 1024);

    write_file("proc/self/cgroup", "0::/a/b\n");
    write_file("cgroup/a/b/memory.max", "max\n");
    write_file("cgroup/a/b/memory.current", "500\n");
    assert_true(measured() == 1000 * 1024);
    write_file("cgroup/a/memory.max", "5000\n");
    write_file("cgroup/a/memory.current", "1000\n");
    assert_true(measured() == 4000);
    write_file("cgroup/a/b/memory.max", "600\n");
    assert_true(measured() == 100);
    write_file("cgroup/a/b/memory.current", "700\n"); /* above its bound: nothing is left */
    assert_true(measured() == 0);

    AUTO_FREE char *clean = mem_printf("rm -r %s", root);
    assert_int_equal(system(clean), 0);
}

static void this_machine_has_some(void **state) {
    assert_true(free_memory_bytes() > 1 << 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_least_bound_on_the_way_to_the_root_counts),
        cmocka_unit_test(this_machine_has_some),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
