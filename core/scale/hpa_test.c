/* What Kubernetes' vectors (hpa_data_test.c) do not ask. */
#include "core/scale/hpa.h"

#include "core/base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void a_missing_metric_never_scales_down(void **state) {
    int32_t proposals[] = {2, 7}, wanted = -1;
    assert_true(hpa_combine(proposals, 2, 0, 9, &wanted));
    assert_int_equal(wanted, 7);
    assert_false(hpa_combine(proposals, 2, 1, 9, &wanted));
    assert_true(hpa_combine(proposals, 2, 1, 5, &wanted));
    assert_int_equal(wanted, 7);
    assert_false(hpa_combine(proposals, 0, 0, 5, &wanted));
}

static void a_starting_pods_cpu_is_not_believed(void **state) {
    struct hpa_pod_times t = {.ready = true, .started_ms = -1};
    assert_true(hpa_pod_unready(&t, 0)); /* not started */
    t = (struct hpa_pod_times){.ready = true,
                               .started_ms = 0,
                               .changed_ms = 10000,
                               .measured_ms = 50000,
                               .window_ms = 30000};
    assert_false(hpa_pod_unready(&t, 60000));
    t.measured_ms = 39999; /* the window reaches back to before it was ready */
    assert_true(hpa_pod_unready(&t, 60000));
    assert_false(hpa_pod_unready(&t, 300000)); /* past its initialization */
    t.ready = false;                           /* it has been ready once: its CPU counts */
    t.changed_ms = 200000;
    assert_false(hpa_pod_unready(&t, 400000));
    t.changed_ms = 10000; /* never ready since it started */
    assert_true(hpa_pod_unready(&t, 400000));
}

static void records_beyond_the_bound_push_out_the_oldest(void **state) {
    struct hpa_history *h = mem_alloc(sizeof(*h));
    for (int i = 0; i < HPA_RECORDS_MAX + 10; i++) {
        hpa_history_recommended(h, i, i);
        hpa_history_changed(h, i, i, i + 1);
        hpa_history_changed(h, i, i + 1, i);
    }
    assert_int_equal(h->num_recommendations, HPA_RECORDS_MAX);
    assert_int_equal(h->recommendations[0].replicas, 10);
    assert_int_equal(h->recommendations[HPA_RECORDS_MAX - 1].replicas, HPA_RECORDS_MAX + 9);
    assert_int_equal(h->num_ups, HPA_RECORDS_MAX);
    assert_int_equal(h->num_downs, HPA_RECORDS_MAX);
    free(h);
}

static void select_policy_min_and_disabled_hold(void **state) {
    struct hpa_history *h = mem_alloc(sizeof(*h));
    struct hpa_spec spec = {.min_replicas = 1,
                            .max_replicas = 100,
                            .up = hpa_rules_up_default(),
                            .down = hpa_rules_down_default()};
    const char *reason;
    assert_int_equal(hpa_limit(h, &spec, 1000000, 10, 50, &reason), 20);
    spec.up.select = HPA_SELECT_MIN;
    assert_int_equal(hpa_limit(h, &spec, 1000000, 10, 50, &reason), 14);
    spec.up.select = HPA_SELECT_DISABLED;
    assert_int_equal(hpa_limit(h, &spec, 1000000, 10, 50, &reason), 10);
    assert_string_equal(reason, "ScaleUpLimit");
    spec.down.select = HPA_SELECT_DISABLED;
    assert_int_equal(hpa_limit(h, &spec, 1000000, 10, 2, &reason), 10);
    assert_string_equal(reason, "ScaleDownLimit");
    free(h);
}

static void outside_the_bounds_comes_back_at_once(void **state) {
    struct hpa_history *h = mem_alloc(sizeof(*h));
    struct hpa_spec spec = {.min_replicas = 2,
                            .max_replicas = 5,
                            .up = hpa_rules_up_default(),
                            .down = hpa_rules_down_default()};
    struct hpa_decision d;
    hpa_decide(h, &spec, 0, 9, 9, &d);
    assert_int_equal(d.replicas, 5);
    assert_string_equal(d.limit_reason, "TooManyReplicas");
    hpa_decide(h, &spec, 1000000, 1, 1, &d);
    assert_int_equal(d.replicas, 2);
    assert_string_equal(d.limit_reason, "TooFewReplicas");
    free(h);
}

static void zero_requests_are_an_error_not_a_division(void **state) {
    struct hpa_pod pod = {.has_value = true, .has_request = true, .value_milli = 5};
    struct hpa_proposal p;
    struct error err = ERROR_INIT;
    assert_int_equal(hpa_by_utilization(&pod, 1, 50, 1, &p, &err), ERR_INVALID);
    pod.has_value = false;
    assert_int_equal(hpa_by_pod_average(&pod, 1, 50, 1, &p, &err), ERR_UNAVAILABLE);
    assert_int_equal(hpa_by_pod_average(NULL, 0, 50, 1, &p, &err), ERR_UNAVAILABLE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_missing_metric_never_scales_down),
        cmocka_unit_test(a_starting_pods_cpu_is_not_believed),
        cmocka_unit_test(records_beyond_the_bound_push_out_the_oldest),
        cmocka_unit_test(select_policy_min_and_disabled_hold),
        cmocka_unit_test(outside_the_bounds_comes_back_at_once),
        cmocka_unit_test(zero_requests_are_an_error_not_a_division),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
