#include "kube-compat/flow.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>

static const struct flow_limits limits = {.cost_max = 8,
                                          .identity_cost_max = 4,
                                          .waiting_max = 100,
                                          .identity_waiting_max = 50,
                                          .identity_watches_max = 3};

static enum flow_verdict arrive(struct flow *f, const char *who, uint32_t cost,
                                struct flow_request *r) {
    return flow_arrive(f, who, cost, r);
}

static void what_fits_runs_at_once(void **state) {
    AUTO(flow) f = flow_create(&limits);
    struct flow_request r[5];
    for (int i = 0; i < 4; i++)
        assert_int_equal(arrive(f, "ann", 1, &r[i]), FLOW_RUN);
    assert_int_equal(arrive(f, "ann", 1, &r[4]), FLOW_WAIT);
    assert_null(flow_next(f));
    flow_done(f, &r[0]);
    assert_ptr_equal(flow_next(f), &r[4]);
    assert_int_equal(flow_count(f).running, 4);
}

static void a_flood_leaves_room_for_others(void **state) {
    AUTO(flow) f = flow_create(&limits);
    struct flow_request flood[40], small;
    for (int i = 0; i < 40; i++)
        assert_int_equal(arrive(f, "flood", 1, &flood[i]), i < 4 ? FLOW_RUN : FLOW_WAIT);
    assert_int_equal(arrive(f, "ann", 1, &small), FLOW_RUN);
}

/* Two floods hold all there is; the third identity's first request is next, before hundreds. */
static void who_has_had_least_is_next(void **state) {
    AUTO(flow) f = flow_create(&limits);
    struct flow_request one[40], two[40], small;
    for (int i = 0; i < 40; i++) {
        assert_int_equal(arrive(f, "one", 1, &one[i]), i < 4 ? FLOW_RUN : FLOW_WAIT);
        assert_int_equal(arrive(f, "two", 1, &two[i]), i < 4 ? FLOW_RUN : FLOW_WAIT);
    }
    assert_int_equal(arrive(f, "ann", 1, &small), FLOW_WAIT);
    flow_done(f, &one[0]);
    assert_ptr_equal(flow_next(f), &small);
}

static void work_is_shared_by_cost_not_by_number(void **state) {
    static const struct flow_limits narrow = {.cost_max = 4,
                                              .identity_cost_max = 4,
                                              .waiting_max = 1000,
                                              .identity_waiting_max = 1000,
                                              .identity_watches_max = 1};
    AUTO(flow) f = flow_create(&narrow);
    static struct flow_request dear[200], cheap[800], busy;
    assert_int_equal(arrive(f, "busy", 4, &busy), FLOW_RUN);
    for (int i = 0; i < 200; i++)
        assert_int_equal(arrive(f, "dear", 4, &dear[i]), FLOW_WAIT);
    for (int i = 0; i < 800; i++)
        assert_int_equal(arrive(f, "cheap", 1, &cheap[i]), FLOW_WAIT);
    flow_done(f, &busy);
    /* One at a time, as they come: after any prefix the two have had the same work, give or take
     * the dearest request. */
    int work_dear = 0, work_cheap = 0;
    for (int n = 0; n < 400; n++) {
        struct flow_request *r = flow_next(f);
        assert_non_null(r);
        *(r->cost == 4 ? &work_dear : &work_cheap) += (int)r->cost;
        assert_in_range(work_dear - work_cheap + 8, 0, 16);
        flow_done(f, r);
    }
    assert_true(work_dear > 300 && work_cheap > 300);
    while (flow_take(f)) {}
    assert_int_equal(flow_count(f).identities, 0);
}

static void a_dear_request_is_not_passed_for_ever(void **state) {
    AUTO(flow) f = flow_create(&limits);
    struct flow_request a[4], b[4], dear, late;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(arrive(f, "a", 1, &a[i]), FLOW_RUN);
        assert_int_equal(arrive(f, "b", 1, &b[i]), FLOW_RUN);
    }
    assert_int_equal(arrive(f, "dear", 4, &dear), FLOW_WAIT); /* 6 + 4 > 8 */
    assert_null(flow_next(f));
    assert_int_equal(arrive(f, "late", 1, &late), FLOW_WAIT); /* though it would fit */
    flow_done(f, &a[0]);
    assert_null(flow_next(f));
    flow_done(f, &b[0]);
    assert_ptr_equal(flow_next(f), &dear);
    flow_done(f, &a[1]);
    assert_ptr_equal(flow_next(f), &late);
}

static void one_request_may_be_dearer_than_the_bound(void **state) {
    AUTO(flow) f = flow_create(&limits);
    struct flow_request huge, next;
    assert_int_equal(arrive(f, "ann", 100, &huge), FLOW_RUN);
    assert_int_equal(arrive(f, "ann", 1, &next), FLOW_WAIT);
    flow_done(f, &huge);
    assert_ptr_equal(flow_next(f), &next);
}

static void queues_are_bounded(void **state) {
    AUTO(flow) f = flow_create(&limits);
    static struct flow_request r[200];
    int n = 0;
    while (n < 4)
        assert_int_equal(arrive(f, "one", 1, &r[n++]), FLOW_RUN);
    for (int i = 0; i < 50; i++)
        assert_int_equal(arrive(f, "one", 1, &r[n++]), FLOW_WAIT);
    assert_int_equal(arrive(f, "one", 1, &r[n]), FLOW_REFUSE);
    assert_int_equal(arrive(f, "two", 1, &r[n++]), FLOW_RUN); /* his queue, not hers */
    while (flow_count(f).waiting < limits.waiting_max) {
        char name[16];
        snprintf(name, sizeof(name), "x%d", n / 4);
        enum flow_verdict v = arrive(f, name, 4, &r[n++]);
        assert_true(v != FLOW_REFUSE && n < 200);
    }
    assert_int_equal(arrive(f, "last", 4, &r[n]), FLOW_REFUSE);
    assert_int_equal(flow_count(f).waiting, limits.waiting_max);
}

static void watches_are_bounded_for_each_identity(void **state) {
    AUTO(flow) f = flow_create(&limits);
    struct flow_identity *id = NULL, *other = NULL;
    for (int i = 0; i < 3; i++)
        assert_true(flow_watch_open(f, "ann", &id));
    assert_false(flow_watch_open(f, "ann", &id));
    assert_true(flow_watch_open(f, "bob", &other));
    flow_watch_close(f, id);
    assert_true(flow_watch_open(f, "ann", &id));
    assert_int_equal(flow_count(f).watches, 4);
    for (int i = 0; i < 3; i++)
        flow_watch_close(f, id);
    flow_watch_close(f, other);
    assert_int_equal(flow_count(f).identities, 0);
}

/* Any order of arrivals and ends keeps the bounds and the counts, and starves nobody. */
static void a_long_random_run_keeps_the_bounds(void **state) {
    AUTO(flow) f = flow_create(&limits);
    enum { N = 64, STEPS = 200000 };
    static struct flow_request r[N];
    static bool used[N], running[N];
    static int waited[N];
    uint64_t seed = 7;
    for (int step = 0; step < STEPS; step++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        int i = (int)(seed >> 33) % N;
        char name[8];
        snprintf(name, sizeof(name), "id%d", (int)(seed >> 45) % 5);
        if (!used[i]) {
            enum flow_verdict v = arrive(f, name, 1 + (uint32_t)(seed >> 50) % 4, &r[i]);
            used[i] = v != FLOW_REFUSE;
            running[i] = v == FLOW_RUN;
            waited[i] = 0;
        } else if (running[i]) {
            flow_done(f, &r[i]);
            used[i] = running[i] = false;
            for (struct flow_request *next; (next = flow_next(f));)
                running[next - r] = true;
        }
        struct flow_counts c = flow_count(f);
        assert_true(c.cost <= limits.cost_max && c.waiting <= limits.waiting_max);
        for (int k = 0; k < N; k++) {
            waited[k] += used[k] && !running[k];
            assert_true(waited[k] < 20000);
        }
    }
    for (int i = 0; i < N; i++) {
        if (running[i])
            flow_done(f, &r[i]);
    }
    while (flow_take(f)) {}
    assert_int_equal(flow_count(f).identities, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_fits_runs_at_once),
        cmocka_unit_test(a_flood_leaves_room_for_others),
        cmocka_unit_test(who_has_had_least_is_next),
        cmocka_unit_test(work_is_shared_by_cost_not_by_number),
        cmocka_unit_test(a_dear_request_is_not_passed_for_ever),
        cmocka_unit_test(one_request_may_be_dearer_than_the_bound),
        cmocka_unit_test(queues_are_bounded),
        cmocka_unit_test(watches_are_bounded_for_each_identity),
        cmocka_unit_test(a_long_random_run_keeps_the_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
