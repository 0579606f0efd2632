#include "core/control/rollout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static uint32_t seed;

static int64_t random_below(int64_t n) {
    seed = seed * 1664525u + 1013904223u;
    return (int64_t)((seed >> 8) % (uint32_t)n);
}

static int64_t total_replicas(const struct rollout *r) {
    int64_t sum = r->new_set ? r->new_set->replicas : 0;
    for (size_t i = 0; i < r->num_old_sets; i++)
        sum += r->old_sets[i].replicas;
    return sum;
}

static int64_t total_available(const struct rollout *r) {
    int64_t sum = r->new_set ? r->new_set->available : 0;
    for (size_t i = 0; i < r->num_old_sets; i++)
        sum += r->old_sets[i].available;
    return sum;
}

/* Pods follow their sets: surplus ones vanish, some of the missing ones become available. Surplus
 * pods that are not available go first, as the ReplicaSet controller takes them. */
static void world_moves(struct rollout_set *s) {
    if (s->available > s->replicas)
        s->available = s->replicas;
    if (s->available < s->replicas && random_below(2))
        s->available += 1 + random_below(s->replicas - s->available);
    s->num_pods = s->replicas;
}

static void bounds_hold_and_every_rollout_ends(void **state) {
    for (seed = 1; seed < 4000; seed += 1) {
        uint32_t keep = seed;
        struct rollout_set fresh = {0}, old[3] = {{0}};
        struct rollout r = {
            .desired = 1 + random_below(12),
            .max_surge = random_below(4),
            .max_unavailable = random_below(4),
            .new_set = &fresh,
            .old_sets = old,
            .num_old_sets = 1 + (size_t)random_below(3),
        };
        if (!r.max_surge && !r.max_unavailable)
            r.max_unavailable = 1;
        old[0].replicas = old[0].available = old[0].num_pods = r.desired;
        int rounds = 0;
        for (; rounds < 1000; rounds++) {
            int64_t available_before = total_available(&r);
            bool changed = rollout_step(&r);
            assert_true(total_replicas(&r) <= r.desired + r.max_surge);
            /* What the step takes away never passes below the floor by its own doing. */
            for (size_t i = 0; i < r.num_old_sets; i++) {
                if (old[i].available > old[i].replicas)
                    old[i].available = old[i].replicas;
            }
            int64_t floor = r.desired - r.max_unavailable;
            assert_true(total_available(&r) >=
                        (available_before < floor ? available_before : floor));
            world_moves(&fresh);
            for (size_t i = 0; i < r.num_old_sets; i++)
                world_moves(&old[i]);
            if (!changed && fresh.available == r.desired && total_replicas(&r) == r.desired)
                break;
        }
        if (rounds == 1000)
            fail_msg("the rollout of seed %u does not end", keep);
        assert_int_equal(fresh.replicas, r.desired);
        seed = keep;
    }
}

static void a_broken_new_version_never_takes_the_old_one_down(void **state) {
    struct rollout_set fresh = {0}, old = {.replicas = 4, .available = 4, .num_pods = 4};
    struct rollout r = {.desired = 4,
                        .max_surge = 1,
                        .max_unavailable = 1,
                        .new_set = &fresh,
                        .old_sets = &old,
                        .num_old_sets = 1};
    for (int i = 0; i < 50; i++) {
        rollout_step(&r);
        fresh.available = 0; /* it never becomes ready */
        old.available = old.replicas;
    }
    assert_int_equal(old.replicas, 3);
    assert_int_equal(fresh.replicas, 2);
}

static void one_replica_is_replaced_without_a_gap(void **state) {
    struct rollout_set fresh = {0}, old = {.replicas = 1, .available = 1, .num_pods = 1};
    struct rollout r = {.desired = 1,
                        .max_surge = 1,
                        .max_unavailable = 0,
                        .new_set = &fresh,
                        .old_sets = &old,
                        .num_old_sets = 1};
    assert_true(rollout_step(&r));
    assert_int_equal(fresh.replicas, 1);
    assert_false(rollout_step(&r)); /* waits for the new one */
    assert_int_equal(old.replicas, 1);
    fresh.available = 1;
    assert_true(rollout_step(&r));
    assert_int_equal(old.replicas, 0);
}

static void recreate_waits_until_old_pods_are_gone(void **state) {
    struct rollout_set fresh = {0}, old = {.replicas = 2, .available = 2, .num_pods = 2};
    struct rollout r = {
        .desired = 2, .recreate = true, .new_set = &fresh, .old_sets = &old, .num_old_sets = 1};
    assert_true(rollout_step(&r));
    assert_int_equal(old.replicas, 0);
    assert_false(rollout_step(&r));
    assert_int_equal(fresh.replicas, 0);
    old.num_pods = 0;
    assert_true(rollout_step(&r));
    assert_int_equal(fresh.replicas, 2);
}

static void scaling_in_mid_rollout_is_proportional(void **state) {
    struct rollout_set fresh = {.replicas = 2, .max_replicas = 10};
    struct rollout_set old = {.replicas = 8, .available = 8, .max_replicas = 10};
    struct rollout r = {.desired = 20,
                        .max_surge = 0,
                        .max_unavailable = 2,
                        .new_set = &fresh,
                        .old_sets = &old,
                        .num_old_sets = 1};
    assert_true(rollout_scale(&r));
    assert_int_equal(old.replicas, 16);
    assert_int_equal(fresh.replicas, 4);
    fresh.max_replicas = old.max_replicas = 20;
    r.desired = 5;
    assert_true(rollout_scale(&r));
    assert_int_equal(old.replicas + fresh.replicas, 5);
    assert_int_equal(old.replicas, 4);
    struct rollout_set only = {.replicas = 3, .available = 3};
    struct rollout single = {.desired = 7, .new_set = &only};
    assert_true(rollout_scale(&single));
    assert_int_equal(only.replicas, 7);
    r.desired = 0;
    assert_true(rollout_scale(&r));
    assert_int_equal(old.replicas + fresh.replicas, 0);
}

/* Sizes before and after, new set first (-1: there is none), then old ones from old to young. */
static void scaling_by_the_reference_servers_table(void **state) {
    static const struct {
        const char *name;
        int64_t desired, max_surge, max_before;
        int64_t fresh, old[2]; /* 0: no such set */
        int64_t want_fresh, want_old[2];
    } cases[] = {
        {"10 to 12", 12, 0, 10, 10, {0}, 12, {0}},
        {"10 to 5", 5, 0, 10, 10, {0}, 5, {0}},
        {"5 to 10", 10, 0, 5, 2, {3}, 4, {6}},
        {"5 to 3", 3, 0, 5, 2, {3}, 1, {2}},
        {"9 to 4", 4, 0, 9, 8, {1}, 4, {0}},
        {"7 to 10", 10, 0, 7, 2, {2, 3}, 3, {3, 4}},
        {"13 to 8", 8, 0, 13, 2, {3, 8}, 1, {2, 5}},
        {"3 to 4, what is left over goes to the newest", 4, 0, 3, 1, {1, 1}, 2, {1, 1}},
        {"3 to 2, what is left over is taken from the oldest", 2, 0, 3, 1, {1, 1}, 1, {0, 1}},
        {"4 to 5 without a new set", 5, 0, 4, -1, {2, 2}, -1, {2, 3}},
        {"6 to 0", 0, 0, 6, 3, {1, 2}, 0, {0, 0}},
        {"0 to 6", 6, 0, 6, 0, {0, 0}, 6, {0, 0}},
        {"with surge", 20, 2, 12, 6, {6}, 11, {11}},
        {"size and surge", 50, 6, 13, 5, {8}, 22, {34}},
        {"size and template", 14, 0, 10, -1, {3, 7}, -1, {4, 10}},
        {"whole and broken", 2, 1, 3, 2, {1}, 2, {1}},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct rollout_set fresh = {
            .replicas = cases[i].fresh, .max_replicas = cases[i].max_before, .created = 3};
        struct rollout_set old[2] = {{0}};
        for (size_t k = 0; k < 2; k++)
            old[k] = (struct rollout_set){.replicas = cases[i].old[k],
                                          .max_replicas = cases[i].max_before,
                                          .created = (int64_t)k};
        struct rollout r = {.desired = cases[i].desired,
                            .max_surge = cases[i].max_surge,
                            .new_set = cases[i].fresh < 0 ? NULL : &fresh,
                            .old_sets = old,
                            .num_old_sets = 2};
        rollout_scale(&r);
        if (fresh.replicas != cases[i].want_fresh || old[0].replicas != cases[i].want_old[0] ||
            old[1].replicas != cases[i].want_old[1])
            fail_msg("%s: new %lld, old %lld and %lld", cases[i].name, (long long)fresh.replicas,
                     (long long)old[0].replicas, (long long)old[1].replicas);
    }
}

/* A set that was sized for another number than the others keeps its own share. */
static void a_set_that_was_not_updated_keeps_its_share(void **state) {
    struct rollout_set fresh = {.replicas = 2, .max_replicas = 5, .created = 3};
    struct rollout_set old[2] = {{.replicas = 1, .max_replicas = 5, .created = 1},
                                 {.replicas = 1, .max_replicas = 3, .created = 2}};
    struct rollout r = {.desired = 5, .new_set = &fresh, .old_sets = old, .num_old_sets = 2};
    assert_true(rollout_scale(&r));
    assert_int_equal(fresh.replicas, 2);
    assert_int_equal(old[0].replicas, 1);
    assert_int_equal(old[1].replicas, 2);
}

static void a_split_keeps_both_whole_and_drops_others_once_the_stable_one_is(void **state) {
    struct rollout_set fresh = {0};
    struct rollout_set old[] = {{.replicas = 1, .available = 1}, {.replicas = 3, .available = 3}};
    struct rollout r = {.desired = 3,
                        .max_unavailable = 1,
                        .recreate = true,
                        .new_set = &fresh,
                        .old_sets = old,
                        .num_old_sets = 2};
    assert_true(rollout_split(&r, &old[0])); /* a rollout away from it had begun */
    assert_int_equal(old[0].replicas, 3);
    assert_int_equal(old[1].replicas, 3);
    assert_int_equal(fresh.replicas, 3);
    assert_false(rollout_split(&r, &old[0]));
    old[0].available = 3;
    assert_true(rollout_split(&r, &old[0]));
    assert_int_equal(old[1].replicas, 0);
    assert_false(rollout_split(&r, &old[0]));
    r.new_set = NULL;
    r.desired = 0;
    assert_true(rollout_split(&r, &old[0]));
    assert_int_equal(old[0].replicas, 0);
}

static void percentages_round_as_kubernetes_rounds(void **state) {
    json_t *quarter = json_string("25%"), *two = json_integer(2), *bad = json_string("x%");
    json_t *none = json_string("25"), *minus = json_integer(-1);
    int64_t n;
    assert_true(rollout_resolve(quarter, 1, true, &n));
    assert_int_equal(n, 1);
    assert_true(rollout_resolve(quarter, 1, false, &n));
    assert_int_equal(n, 0);
    assert_true(rollout_resolve(quarter, 10, true, &n));
    assert_int_equal(n, 3);
    assert_true(rollout_resolve(two, 10, true, &n));
    assert_int_equal(n, 2);
    assert_false(rollout_resolve(bad, 10, true, &n));
    assert_false(rollout_resolve(none, 10, true, &n));
    assert_false(rollout_resolve(minus, 10, true, &n));
    assert_false(rollout_resolve(NULL, 10, true, &n));
    json_decref(quarter);
    json_decref(two);
    json_decref(bad);
    json_decref(none);
    json_decref(minus);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounds_hold_and_every_rollout_ends),
        cmocka_unit_test(a_broken_new_version_never_takes_the_old_one_down),
        cmocka_unit_test(one_replica_is_replaced_without_a_gap),
        cmocka_unit_test(recreate_waits_until_old_pods_are_gone),
        cmocka_unit_test(scaling_in_mid_rollout_is_proportional),
        cmocka_unit_test(scaling_by_the_reference_servers_table),
        cmocka_unit_test(a_set_that_was_not_updated_keeps_its_share),
        cmocka_unit_test(a_split_keeps_both_whole_and_drops_others_once_the_stable_one_is),
        cmocka_unit_test(percentages_round_as_kubernetes_rounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
