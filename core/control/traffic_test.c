/* The pick is pure: weights, load and room, without a clock or a socket. */
#include "core/control/traffic.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>

#include <cmocka.h>

enum { REVISIONS_MAX = 4, REPLICAS_MAX = 4 };

/* A service of one table: percents and numbers of replicas, -1 ends. */
struct world {
    struct traffic_table *table;
    struct traffic_service *service;
    struct traffic_credits credits;
};

static struct world make(const int *percents, const int *num_replicas, uint32_t concurrency) {
    struct world w = {.table = traffic_table_create()};
    w.table->num_services = 1;
    w.table->services = w.service = arena_alloc(w.table->arena, sizeof(*w.service));
    *w.service = (struct traffic_service){
        .ns = "default", .name = "demo", .container_concurrency = concurrency};
    w.service->revisions =
        arena_alloc(w.table->arena, REVISIONS_MAX * sizeof(*w.service->revisions));
    for (int i = 0; percents[i] >= 0; i++) {
        struct traffic_revision *rev = &w.service->revisions[w.service->num_revisions++];
        rev->name = arena_printf(w.table->arena, "demo-predictor-%05d", i + 1);
        rev->percent = (uint32_t)percents[i];
        rev->replicas = arena_alloc(w.table->arena, REPLICAS_MAX * sizeof(*rev->replicas));
        for (int k = 0; k < num_replicas[i]; k++)
            rev->replicas[rev->num_replicas++] = traffic_replica_create("pod", "/run/pod.sock");
    }
    return w;
}

static void free_world(struct world *w) {
    traffic_table_unref(w->table);
    traffic_credits_deinit(&w->credits);
}

static uint32_t index_of(const struct world *w, const struct traffic_revision *rev) {
    return (uint32_t)(rev - w->service->revisions);
}

static void any_hundred_requests_split_exactly(void **state) {
    static const int splits[][4] = {
        {100, -1}, {90, 10, -1}, {1, 99, -1}, {33, 33, 34, -1}, {50, 0, 50, -1}};
    static const int one_each[] = {1, 1, 1, 1};
    for (size_t i = 0; i < ARRAY_LEN(splits); i++) {
        struct world w = make(splits[i], one_each, 0);
        for (uint64_t start = 0; start < 250; start += 7) {
            uint32_t count[REVISIONS_MAX] = {0};
            for (uint64_t ticket = start; ticket < start + 100; ticket++) {
                const struct traffic_revision *rev = NULL;
                assert_non_null(traffic_pick(w.service, &w.credits, ticket, NULL, &rev));
                count[index_of(&w, rev)]++;
            }
            for (int k = 0; splits[i][k] >= 0; k++)
                assert_int_equal(count[k], splits[i][k]);
        }
        free_world(&w);
    }
}

static void a_small_share_is_spread_out(void **state) {
    static const int percents[] = {90, 10, -1}, one_each[] = {1, 1};
    struct world w = make(percents, one_each, 0);
    int run = 0;
    for (uint64_t ticket = 0; ticket < 300; ticket++) {
        const struct traffic_revision *rev;
        traffic_pick(w.service, &w.credits, ticket, NULL, &rev);
        run = index_of(&w, rev) == 1 ? run + 1 : 0;
        assert_true(run <= 1); /* never two in a row */
    }
    free_world(&w);
}

static void the_least_loaded_replica_is_picked(void **state) {
    static const int percents[] = {100, -1}, three[] = {3};
    struct world w = make(percents, three, 0);
    struct traffic_replica **r = w.service->revisions[0].replicas;
    r[0]->in_flight = 5;
    r[1]->in_flight = 2;
    r[2]->in_flight = 4;
    for (uint64_t ticket = 0; ticket < 50; ticket++)
        assert_ptr_equal(traffic_pick(w.service, &w.credits, ticket, NULL, NULL), r[1]);
    assert_ptr_equal(traffic_pick(w.service, &w.credits, 0, r[1], NULL), r[2]);
    free_world(&w);
}

static void ties_go_round(void **state) {
    static const int percents[] = {50, 50, -1}, two_each[] = {2, 2};
    struct world w = make(percents, two_each, 0);
    uint32_t count[2][2] = {{0}};
    for (uint64_t ticket = 0; ticket < 1000; ticket++) {
        const struct traffic_revision *rev;
        struct traffic_replica *r = traffic_pick(w.service, &w.credits, ticket, NULL, &rev);
        count[index_of(&w, rev)][r == rev->replicas[1]]++;
    }
    for (int i = 0; i < 4; i++)
        assert_in_range(count[i / 2][i % 2], 150, 350);
    free_world(&w);
}

static void full_and_missing_replicas_leave_their_share_to_others(void **state) {
    static const int percents[] = {60, 40, 0, -1}, replicas[] = {1, 0, 1};
    struct world w = make(percents, replicas, 2);
    struct traffic_replica *only = w.service->revisions[0].replicas[0];
    for (uint64_t ticket = 0; ticket < 100; ticket++)
        assert_ptr_equal(traffic_pick(w.service, &w.credits, ticket, NULL, NULL), only);
    only->in_flight = 2; /* at its containerConcurrency; the third has no weight */
    assert_null(traffic_pick(w.service, &w.credits, 0, NULL, NULL));
    only->in_flight = 1;
    assert_non_null(traffic_pick(w.service, &w.credits, 0, NULL, NULL));
    assert_null(traffic_pick(w.service, &w.credits, 0, only, NULL));
    free_world(&w);
}

static void no_weight_is_no_pick(void **state) {
    static const int percents[] = {0, -1}, one[] = {1}, none[] = {-1};
    struct world w = make(percents, one, 0);
    assert_null(traffic_pick(w.service, &w.credits, 3, NULL, NULL));
    free_world(&w);
    struct world empty = make(none, none, 0);
    assert_null(traffic_pick(empty.service, &empty.credits, 3, NULL, NULL));
    free_world(&empty);
}

static void services_are_found_by_name(void **state) {
    AUTO(traffic_table) table = traffic_table_create();
    enum { N = 37 };
    table->services = arena_alloc(table->arena, N * sizeof(*table->services));
    table->num_services = N;
    for (int i = 0; i < N; i++) {
        table->services[i].ns = i < 20 ? "a" : "b";
        table->services[i].name = arena_printf(table->arena, "s%02d", i);
    }
    for (int i = 0; i < N; i++)
        assert_ptr_equal(traffic_find(table, i < 20 ? "a" : "b", table->services[i].name),
                         &table->services[i]);
    assert_null(traffic_find(table, "b", "s00"));
    assert_null(traffic_find(table, "c", "s00"));
}

/* ---- snapshots ---- */

static void count_change(void *user) {
    ++*(int *)user;
}

static void publish_wakes_listeners_until_they_leave(void **state) {
    AUTO(traffic) t = traffic_create();
    int changes = 0;
    traffic_on_change(t, count_change, &changes);
    traffic_publish(t, traffic_table_create());
    assert_int_equal(changes, 1);
    AUTO(traffic_table) table = traffic_current(t);
    assert_int_equal(table->version, 1);
    traffic_off_change(t, &changes);
    traffic_publish(t, traffic_table_create());
    assert_int_equal(changes, 1);
    assert_int_equal(table->version, 1); /* a snapshot stays as it is */
}

static void *read_tables(void *user) {
    struct traffic *t = user;
    struct traffic_credits credits = {0};
    uint64_t last = 0;
    for (int i = 0; i < 5000; i++) {
        AUTO(traffic_table) table = traffic_current(t);
        assert_true(table->version >= last);
        last = table->version;
        for (uint32_t k = 0; k < table->num_services; k++)
            assert_non_null(traffic_pick(&table->services[k], &credits, (uint64_t)i, NULL, NULL));
    }
    traffic_credits_deinit(&credits);
    return NULL;
}

static void readers_and_publisher_run_together(void **state) {
    static const int percents[] = {100, -1}, two[] = {2};
    AUTO(traffic) t = traffic_create();
    pthread_t readers[4];
    for (size_t i = 0; i < ARRAY_LEN(readers); i++)
        pthread_create(&readers[i], NULL, read_tables, t);
    for (int i = 0; i < 500; i++)
        traffic_publish(t, make(percents, two, 0).table);
    for (size_t i = 0; i < ARRAY_LEN(readers); i++)
        pthread_join(readers[i], NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_hundred_requests_split_exactly),
        cmocka_unit_test(a_small_share_is_spread_out),
        cmocka_unit_test(the_least_loaded_replica_is_picked),
        cmocka_unit_test(ties_go_round),
        cmocka_unit_test(full_and_missing_replicas_leave_their_share_to_others),
        cmocka_unit_test(no_weight_is_no_pick),
        cmocka_unit_test(services_are_found_by_name),
        cmocka_unit_test(publish_wakes_listeners_until_they_leave),
        cmocka_unit_test(readers_and_publisher_run_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
