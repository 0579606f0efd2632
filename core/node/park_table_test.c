/* What is kept, for whom, and what goes first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/node/park_table.h"

static const struct park_key keys[] = {{{1, 1}}, {{1, 2}}, {{1, 3}}, {{1, 4}}};

static bool is_open(int fd) {
    return fcntl(fd, F_GETFD) >= 0;
}

static enum park_answer ask(struct park_table *t, uint64_t user, int model) {
    int fd = -1;
    return park_table_ask(t, user, &keys[model], "a model", &fd);
}

/* A replica starts, makes its weights and ends. Gives the descriptor that was put. */
static int run_once(struct park_table *t, uint64_t user, int model, uint64_t bytes, int64_t now) {
    int fd = eventfd(0, 0);
    assert_int_equal(ask(t, user, model), PARK_ANSWER_MAKE);
    assert_true(park_table_put(t, user, fd, bytes, now));
    park_table_leave(t, user, now);
    return fd;
}

static struct park_figures figures(const struct park_table *t) {
    struct park_figures f;
    park_table_figures(t, &f);
    return f;
}

static void the_next_replica_has_what_the_last_one_made(void **state) {
    AUTO(park_table) t = park_table_create(100);
    int fd = run_once(t, 1, 0, 100, 10), got = -1;
    assert_int_equal(park_table_ask(t, 2, &keys[0], "a model", &got), PARK_ANSWER_HAVE);
    assert_int_equal(got, fd);
    assert_int_equal(figures(t).num_in_use, 1);
    assert_int_equal(figures(t).num_parked, 0);
    assert_int_equal(ask(t, 3, 1), PARK_ANSWER_MAKE); /* another model */
}

static void the_least_recently_used_goes_first_and_only_beyond_the_budget(void **state) {
    AUTO(park_table) t = park_table_create(100);
    int a = run_once(t, 1, 0, 40, 10), b = run_once(t, 2, 1, 40, 20);
    assert_int_equal(ask(t, 3, 0), PARK_ANSWER_HAVE); /* a is younger than b now */
    park_table_leave(t, 3, 30);
    assert_int_equal(figures(t).parked_bytes, 80);
    int c = run_once(t, 4, 2, 40, 40);
    assert_false(is_open(b));
    assert_true(is_open(a) && is_open(c));
    assert_int_equal(figures(t).parked_bytes, 80);
    assert_int_equal(figures(t).dropped_total, 1);
    int huge = run_once(t, 5, 3, 101, 50); /* does not fit, and pushes out nobody */
    assert_false(is_open(huge));
    assert_int_equal(figures(t).parked_bytes, 80);
}

static void what_is_in_use_is_shared_whatever_the_budget(void **state) {
    AUTO(park_table) t = park_table_create(0);
    int fd = eventfd(0, 0);
    assert_int_equal(ask(t, 1, 0), PARK_ANSWER_MAKE);
    assert_true(park_table_put(t, 1, fd, 1000, 1));
    assert_int_equal(ask(t, 2, 0), PARK_ANSWER_HAVE);
    park_table_leave(t, 1, 2);
    assert_true(is_open(fd));
    assert_int_equal(park_table_make_room(t, 1), 0); /* nothing is parked */
    park_table_leave(t, 2, 3);
    assert_false(is_open(fd));
    assert_int_equal(figures(t).num_in_use + figures(t).num_parked, 0);
}

static void one_makes_them_and_the_others_wait(void **state) {
    AUTO(park_table) t = park_table_create(0);
    uint64_t user;
    enum park_answer answer;
    int got = -1, fd = eventfd(0, 0);
    assert_int_equal(ask(t, 1, 0), PARK_ANSWER_MAKE);
    assert_int_equal(ask(t, 2, 0), PARK_ANSWER_WAIT);
    assert_int_equal(ask(t, 3, 0), PARK_ANSWER_WAIT);
    assert_false(park_table_next_answer(t, &user, &answer, &got));
    park_table_leave(t, 1, 5); /* it died: the first of those who wait makes them */
    assert_true(park_table_next_answer(t, &user, &answer, &got));
    assert_int_equal(user, 2);
    assert_int_equal(answer, PARK_ANSWER_MAKE);
    assert_false(park_table_next_answer(t, &user, &answer, &got));
    assert_true(park_table_put(t, 2, fd, 10, 6));
    assert_true(park_table_next_answer(t, &user, &answer, &got));
    assert_int_equal(user, 3);
    assert_int_equal(answer, PARK_ANSWER_HAVE);
    assert_int_equal(got, fd);
    assert_false(park_table_next_answer(t, &user, &answer, &got));
}

static void only_who_was_told_to_make_them_may_put_them(void **state) {
    AUTO(park_table) t = park_table_create(100);
    int a = eventfd(0, 0), b = eventfd(0, 0), c = eventfd(0, 0), d = eventfd(0, 0);
    assert_false(park_table_put(t, 1, a, 10, 1)); /* nobody */
    assert_int_equal(ask(t, 1, 0), PARK_ANSWER_MAKE);
    assert_int_equal(ask(t, 2, 0), PARK_ANSWER_WAIT);
    assert_false(park_table_put(t, 2, b, 10, 1));
    assert_true(park_table_put(t, 1, c, 10, 1));
    assert_false(park_table_put(t, 1, d, 10, 1)); /* twice */
    assert_true(is_open(c));
    assert_false(is_open(a) || is_open(b) || is_open(d));
}

static void a_maker_that_goes_alone_leaves_nothing(void **state) {
    AUTO(park_table) t = park_table_create(100);
    assert_int_equal(ask(t, 1, 0), PARK_ANSWER_MAKE);
    park_table_leave(t, 1, 1);
    park_table_leave(t, 1, 1);
    assert_int_equal(ask(t, 2, 0), PARK_ANSWER_MAKE);
}

static void memory_that_is_wanted_is_given_back(void **state) {
    AUTO(park_table) t = park_table_create(1000);
    int a = run_once(t, 1, 0, 100, 10), b = run_once(t, 2, 1, 100, 20);
    assert_int_equal(park_table_make_room(t, 50), 100);
    assert_false(is_open(a));
    assert_true(is_open(b));
    assert_int_equal(park_table_make_room(t, 500), 100);
    assert_int_equal(figures(t).num_parked, 0);
}

static void beyond_the_bound_a_model_is_not_shared(void **state) {
    AUTO(park_table) t = park_table_create(UINT64_MAX);
    int fd;
    for (uint64_t i = 0; i < PARK_MODELS_MAX; i++) {
        struct park_key key = {{9, i}};
        assert_int_equal(park_table_ask(t, 1 + i, &key, "m", &fd), PARK_ANSWER_MAKE);
        assert_true(park_table_put(t, 1 + i, eventfd(0, 0), 1, 1));
    }
    assert_int_equal(ask(t, 9999, 0), PARK_ANSWER_MAKE);
    int own = eventfd(0, 0);
    assert_false(park_table_put(t, 9999, own, 1, 2));
    assert_false(is_open(own));
    park_table_leave(t, 1, 3); /* parked: the next one takes its place */
    assert_int_equal(ask(t, 10000, 1), PARK_ANSWER_MAKE);
    assert_true(park_table_put(t, 10000, eventfd(0, 0), 1, 4));
    assert_int_equal(figures(t).num_in_use, PARK_MODELS_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_next_replica_has_what_the_last_one_made),
        cmocka_unit_test(the_least_recently_used_goes_first_and_only_beyond_the_budget),
        cmocka_unit_test(what_is_in_use_is_shared_whatever_the_budget),
        cmocka_unit_test(one_makes_them_and_the_others_wait),
        cmocka_unit_test(only_who_was_told_to_make_them_may_put_them),
        cmocka_unit_test(a_maker_that_goes_alone_leaves_nothing),
        cmocka_unit_test(memory_that_is_wanted_is_given_back),
        cmocka_unit_test(beyond_the_bound_a_model_is_not_shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
