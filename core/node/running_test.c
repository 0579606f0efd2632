/* The table of running containers: copies that outlive their entry. */
#include "core/node/running.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

static const char *const ENV[] = {"A=1", "B=2", NULL};

static struct replica_spec spec_of(const char *uid, const char *container) {
    return (struct replica_spec){.ns = "default",
                                 .pod = "p",
                                 .uid = uid,
                                 .container = container,
                                 .env = ENV,
                                 .user = 70001,
                                 .home_dir = "/home",
                                 .uds_path = "/run/x.sock"};
}

static void a_copy_outlives_its_entry(void **state) {
    AUTO(running_table) t = running_table_create();
    int ends[2];
    assert_int_equal(pipe(ends), 0); /* stands for a pidfd: readable when the other end goes */
    struct replica_spec spec = spec_of("u1", "main");
    running_table_put(t, &spec, ends[0]);
    struct running r;
    assert_true(running_table_find(t, "u1", "main", &r));
    running_table_remove(t, "u1", "main");
    close(ends[0]);
    assert_string_equal(r.env[1], "B=2");
    assert_null(r.env[2]);
    assert_string_equal(r.home_dir, "/home");
    assert_null(r.work_dir);
    assert_int_equal(r.user, 70001);
    struct pollfd p = {.fd = r.pidfd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 0), 0);
    close(ends[1]);
    assert_int_equal(poll(&p, 1, 0), 1);
    running_deinit(&r);
    struct running again;
    assert_false(running_table_find(t, "u1", "main", &again));
}

static void containers_are_told_apart(void **state) {
    AUTO(running_table) t = running_table_create();
    static const char *const keys[][2] = {{"u1", "main"}, {"u1", "side"}, {"u2", "main"}};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        struct replica_spec spec = spec_of(keys[i][0], keys[i][1]);
        running_table_put(t, &spec, 0);
    }
    running_table_remove(t, "u1", "main");
    running_table_remove(t, "u3", "main");
    struct running r;
    assert_false(running_table_find(t, "u1", "main", &r));
    for (size_t i = 1; i < ARRAY_LEN(keys); i++) {
        assert_true(running_table_find(t, keys[i][0], keys[i][1], &r));
        assert_string_equal(r.container, keys[i][1]);
        running_deinit(&r);
    }
    assert_false(running_table_find(NULL, "u2", "main", &r));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_copy_outlives_its_entry),
        cmocka_unit_test(containers_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
