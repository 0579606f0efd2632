#include "core/scale/keda.h"

#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct scale_decision decide(struct keda_state *state, const struct keda_spec *spec,
                                    const struct keda_trigger *triggers, uint32_t num,
                                    int64_t seconds, int32_t current) {
    struct scale_decision d;
    keda_decide(state, spec, triggers, num, seconds * 1000, current, &d);
    return d;
}

static void greatest_trigger_wins_within_the_bounds(void **state) {
    struct keda_spec spec = keda_spec_default();
    struct keda_state s = {.active_ms = -1};
    struct keda_trigger t[] = {{.threshold = 10, .value = 25}, {.threshold = 1, .value = 7}};
    assert_int_equal(decide(&s, &spec, t, 2, 0, 1).replicas, 7);
    t[1].value = 0;
    assert_int_equal(decide(&s, &spec, t, 2, 0, 1).replicas, 3);
    spec.max_replicas = 2;
    assert_int_equal(decide(&s, &spec, t, 2, 0, 1).replicas, 2);
    spec.min_replicas = spec.max_replicas = 5;
    assert_int_equal(decide(&s, &spec, t, 2, 0, 1).replicas, 5);
}

static void a_value_is_a_ratio_and_an_average_is_shared(void **state) {
    struct keda_spec spec = keda_spec_default();
    struct keda_state s = {.active_ms = -1};
    struct keda_trigger value = {.threshold = 100, .value = 150, .is_value = true};
    struct keda_trigger average = {.threshold = 100, .value = 150};
    assert_int_equal(decide(&s, &spec, &value, 1, 0, 4).replicas, 6);
    assert_int_equal(decide(&s, &spec, &average, 1, 0, 4).replicas, 2);
    value.value = 109; /* within the tolerance */
    assert_int_equal(decide(&s, &spec, &value, 1, 0, 4).replicas, 4);
}

static void nobody_asking_goes_to_zero_after_the_cooldown(void **state) {
    struct keda_spec spec = keda_spec_default();
    struct keda_state s = {.active_ms = -1};
    struct keda_trigger t = {.threshold = 10, .value = 35, .activation_threshold = 5};
    assert_int_equal(decide(&s, &spec, &t, 1, 0, 0).replicas, 4);
    t.value = 5; /* not above the activation threshold */
    struct scale_decision d = decide(&s, &spec, &t, 1, 100, 4);
    assert_string_equal(d.reason, "Cooldown");
    assert_int_equal(d.replicas, 1); /* the lower part of the load's own rule goes on */
    assert_int_equal(decide(&s, &spec, &t, 1, 299, 1).replicas, 1);
    d = decide(&s, &spec, &t, 1, 300, 1);
    assert_int_equal(d.replicas, 0);
    assert_string_equal(d.reason, "CooldownPassed");
    assert_int_equal(decide(&s, &spec, &t, 1, 301, 0).replicas, 0);
    t.value = 6;
    assert_int_equal(decide(&s, &spec, &t, 1, 302, 0).replicas, 1);
}

static void idle_count_stands_in_for_zero(void **state) {
    struct keda_spec spec = keda_spec_default();
    struct keda_state s = {.active_ms = 0};
    struct keda_trigger t = {.threshold = 10};
    spec.min_replicas = 3;
    spec.idle_replicas = 1;
    assert_int_equal(decide(&s, &spec, &t, 1, 299, 3).replicas, 3);
    assert_int_equal(decide(&s, &spec, &t, 1, 300, 3).replicas, 1);
    t.value = 1;
    assert_int_equal(decide(&s, &spec, &t, 1, 301, 1).replicas, 3); /* never between idle and min */
    spec.initial_cooldown_ms = 1000000;
    t.value = 0;
    s = (struct keda_state){.created_ms = 0, .active_ms = 0};
    assert_int_equal(decide(&s, &spec, &t, 1, 999, 3).replicas, 3);
    assert_int_equal(decide(&s, &spec, &t, 1, 1000, 3).replicas, 1);
}

static void a_failing_trigger_never_scales_down_nor_wakes(void **state) {
    struct keda_spec spec = keda_spec_default();
    struct keda_state s = {.active_ms = 0};
    struct keda_trigger t[] = {{.threshold = 10, .fails = true, .num_failures = 99},
                               {.threshold = 10, .value = 0}};
    struct scale_decision d = decide(&s, &spec, t, 2, 100000, 4);
    assert_int_equal(d.replicas, 4);
    assert_string_equal(d.reason, "TriggersFail");
    assert_int_equal(decide(&s, &spec, t, 1, 100000, 4).replicas, 4);
    assert_int_equal(decide(&s, &spec, t, 2, 100000, 0).replicas, 0);
    t[1].value = 70; /* the one that works may scale up */
    assert_int_equal(decide(&s, &spec, t, 2, 100000, 4).replicas, 7);
}

static void fallback_votes_after_enough_failures(void **state) {
    struct keda_spec spec = keda_spec_default();
    struct keda_state s = {.active_ms = 0};
    struct keda_trigger t = {.threshold = 10, .fails = true, .num_failures = 2};
    spec.fallback = KEDA_FALLBACK_STATIC;
    spec.fallback_replicas = 6;
    assert_int_equal(decide(&s, &spec, &t, 1, 0, 2).replicas, 2);
    t.num_failures = 3;
    struct scale_decision d = decide(&s, &spec, &t, 1, 0, 2);
    assert_int_equal(d.replicas, 6);
    assert_string_equal(d.reason, "Fallback");
    assert_int_equal(decide(&s, &spec, &t, 1, 0, 9).replicas, 6);
    assert_int_equal(decide(&s, &spec, &t, 1, 0, 0).replicas, 6);
    const struct {
        enum keda_fallback behavior;
        int32_t current, expected;
    } rows[] = {
        {KEDA_FALLBACK_CURRENT, 2, 2},           {KEDA_FALLBACK_CURRENT, 9, 9},
        {KEDA_FALLBACK_CURRENT_IF_HIGHER, 2, 6}, {KEDA_FALLBACK_CURRENT_IF_HIGHER, 9, 9},
        {KEDA_FALLBACK_CURRENT_IF_LOWER, 2, 2},  {KEDA_FALLBACK_CURRENT_IF_LOWER, 9, 6},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        spec.fallback = rows[i].behavior;
        assert_int_equal(decide(&s, &spec, &t, 1, 0, rows[i].current).replicas, rows[i].expected);
    }
}

static void paused_annotations_come_first(void **state) {
    struct keda_spec spec = keda_spec_default();
    struct keda_state s = {.active_ms = -1};
    struct keda_trigger t = {.threshold = 1, .value = 50};
    spec.paused = true;
    assert_int_equal(decide(&s, &spec, &t, 1, 0, 3).replicas, 3);
    spec.paused_replicas = 0;
    struct scale_decision d = decide(&s, &spec, &t, 1, 0, 3);
    assert_int_equal(d.replicas, 0);
    assert_string_equal(d.reason, "PausedReplicas");
}

static void inputs_of_many_triggers_are_cut_not_overrun(void **state) {
    struct keda_spec spec = keda_spec_default();
    struct keda_state s = {.active_ms = -1};
    struct keda_trigger t[KEDA_TRIGGERS_MAX];
    for (int i = 0; i < KEDA_TRIGGERS_MAX; i++)
        t[i] = (struct keda_trigger){.threshold = 1e300, .value = 1e300};
    struct scale_decision d = decide(&s, &spec, t, KEDA_TRIGGERS_MAX, 0, 1);
    assert_true(strlen(d.inputs) < SCALE_INPUTS_BYTES_MAX);
    assert_int_equal(d.replicas, 1);
}

static void the_minimum_is_kept_whatever_the_triggers_say(void **state) {
    struct keda_spec spec = keda_spec_default();
    struct keda_state s = {.active_ms = -1};
    struct keda_trigger t = {.threshold = 10, .value = 0};
    spec.min_replicas = 2;
    struct scale_decision d = decide(&s, &spec, &t, 1, 0, 0);
    assert_int_equal(d.replicas, 2);
    assert_string_equal(d.reason, "BelowMinimum");
    t.fails = true;
    d = decide(&s, &spec, &t, 1, 1, 1);
    assert_int_equal(d.replicas, 2);
}

static void resources_vote_and_start_nothing(void **state) {
    struct keda_spec spec = keda_spec_default();
    struct keda_state s = {.active_ms = -1};
    struct keda_trigger t[] = {{.threshold = 10, .value = 0},
                               {.threshold = 1, .is_resource = true, .replicas = 7}};
    assert_int_equal(decide(&s, &spec, t, 2, 0, 0).replicas, 0);
    t[0].value = 1; /* the other one is active: both count */
    struct scale_decision d = decide(&s, &spec, t, 2, 0, 2);
    assert_int_equal(d.replicas, 7);
    assert_string_equal(d.inputs, "trigger0=1.000/10.000 trigger1=7");
    spec.min_replicas = 1; /* alone they are always active */
    assert_int_equal(decide(&s, &spec, &t[1], 1, 0, 3).replicas, 7);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greatest_trigger_wins_within_the_bounds),
        cmocka_unit_test(a_value_is_a_ratio_and_an_average_is_shared),
        cmocka_unit_test(nobody_asking_goes_to_zero_after_the_cooldown),
        cmocka_unit_test(idle_count_stands_in_for_zero),
        cmocka_unit_test(a_failing_trigger_never_scales_down_nor_wakes),
        cmocka_unit_test(fallback_votes_after_enough_failures),
        cmocka_unit_test(paused_annotations_come_first),
        cmocka_unit_test(inputs_of_many_triggers_are_cut_not_overrun),
        cmocka_unit_test(the_minimum_is_kept_whatever_the_triggers_say),
        cmocka_unit_test(resources_vote_and_start_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
