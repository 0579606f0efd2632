#include "core/scale/kpa.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* A service whose load is `value` from one time to another, looked at every two seconds. */
struct service {
    struct kpa *kpa;
    int64_t now_ms;
    int32_t current; /* and ready: replicas start at once here */
    struct scale_decision last;
};

static void live(struct service *s, double value, int64_t seconds) {
    for (int64_t end = s->now_ms + seconds * 1000; s->now_ms < end; s->now_ms += 1000) {
        kpa_record(s->kpa, s->now_ms, value);
        if (s->now_ms / 1000 % 2)
            continue;
        kpa_decide(s->kpa, s->now_ms, s->current, s->current, &s->last);
        s->current = s->last.replicas;
    }
}

static struct kpa_spec spec_for(double target) {
    struct kpa_spec spec = kpa_spec_default();
    spec.target = target;
    spec.target_utilization = 1;
    return spec;
}

static void steady_load_gets_its_share_of_replicas(void **state) {
    struct kpa_spec spec = spec_for(10);
    AUTO(kpa) k = kpa_create(&spec);
    struct service s = {.kpa = k, .current = 1};
    live(&s, 45, 120);
    assert_int_equal(s.current, 5);
    live(&s, 15, 200);
    assert_int_equal(s.current, 2);
    assert_string_equal(s.last.reason, "StableWindow");
}

static void utilization_and_concurrency_bound_the_target(void **state) {
    struct kpa_spec spec = kpa_spec_default();
    assert_float_equal(kpa_target(&spec), 70, 1e-9);
    spec.container_concurrency = 10;
    assert_float_equal(kpa_target(&spec), 7, 1e-9);
    spec.target = 50; /* more than a container takes */
    assert_float_equal(kpa_target(&spec), 7, 1e-9);
    spec = (struct kpa_spec){.metric = KPA_RPS, .target_utilization = 0.7};
    assert_float_equal(kpa_target(&spec), 140, 1e-9);
    spec.target = 1e-9;
    assert_float_equal(kpa_target(&spec), 0.01, 1e-9);
}

static void a_burst_panics_and_nothing_goes_down_until_it_is_over(void **state) {
    struct kpa_spec spec = spec_for(10);
    AUTO(kpa) k = kpa_create(&spec);
    struct service s = {.kpa = k, .current = 1};
    live(&s, 10, 60);
    assert_int_equal(s.current, 1);
    live(&s, 100, 8);
    assert_string_equal(s.last.reason, "PanicWindow");
    assert_true(s.current >= 9);
    int32_t peak = s.current;
    live(&s, 10, 50); /* quiet, and still within the stable window after the burst */
    assert_int_equal(s.current, peak);
    live(&s, 10, 80);
    assert_int_equal(s.current, 1);
}

static void rates_bound_each_step(void **state) {
    struct kpa_spec spec = spec_for(1);
    spec.max_scale_up_rate = 2;
    AUTO(kpa) k = kpa_create(&spec);
    struct scale_decision d;
    for (int i = 0; i < 10; i++)
        kpa_record(k, i * 1000, 100);
    kpa_decide(k, 9000, 3, 3, &d);
    assert_int_equal(d.replicas, 6);
    AUTO(kpa) down = kpa_create(&spec);
    kpa_record(down, 0, 1);
    kpa_decide(down, 0, 10, 10, &d);
    assert_int_equal(d.replicas, 5); /* max_scale_down_rate 2 */
}

static void scale_down_waits_for_the_delay(void **state) {
    struct kpa_spec spec = spec_for(10);
    spec.window_ms = 6000;
    spec.scale_down_delay_ms = 60000;
    AUTO(kpa) k = kpa_create(&spec);
    struct service s = {.kpa = k, .current = 1};
    live(&s, 50, 20);
    assert_int_equal(s.current, 5);
    live(&s, 10, 50);
    assert_int_equal(s.current, 5);
    assert_string_equal(s.last.reason, "ScaleDownDelay");
    live(&s, 10, 30);
    assert_int_equal(s.current, 2); /* as far as one step may go: half of what was ready */
    live(&s, 10, 70);
    assert_int_equal(s.current, 1);
}

static void last_replica_stays_for_the_grace_or_the_retention(void **state) {
    for (int retention = 0; retention <= 90; retention += 90) {
        struct kpa_spec spec = spec_for(10);
        spec.window_ms = 6000;
        spec.pod_retention_ms = retention * 1000;
        AUTO(kpa) k = kpa_create(&spec);
        struct service s = {.kpa = k, .current = 1};
        live(&s, 5, 10);
        live(&s, 0, 20);
        assert_int_equal(s.current, 1);
        assert_string_equal(s.last.reason, "LastReplicaStays");
        assert_true(s.last.again_ms > 0);
        live(&s, 0, 20);
        assert_int_equal(s.current, retention ? 1 : 0);
        live(&s, 0, 90);
        assert_int_equal(s.current, 0);
        assert_string_equal(s.last.reason, "Idle");
    }
}

static void missing_metrics_change_nothing(void **state) {
    struct kpa_spec spec = spec_for(10);
    AUTO(kpa) k = kpa_create(&spec);
    struct scale_decision d;
    kpa_decide(k, 0, 7, 7, &d);
    assert_int_equal(d.replicas, 7);
    kpa_record(k, 0, 0);
    kpa_decide(k, 100000, 7, 7, &d); /* the last measurement has left the window */
    assert_int_equal(d.replicas, 7);
    assert_string_equal(d.reason, "MissingMetrics");
}

static void bounds_and_first_scales_hold(void **state) {
    struct kpa_spec spec = spec_for(10);
    struct scale_decision d;
    spec.initial_scale = 3;
    spec.max_scale = 6;
    AUTO(kpa) k = kpa_create(&spec);
    kpa_record(k, 0, 1);
    kpa_decide(k, 0, 1, 3, &d);
    assert_int_equal(d.replicas, 3);
    assert_string_equal(d.reason, "InitialScale");
    kpa_decide(k, 1000, 3, 3, &d); /* reached once: from now on the load counts */
    assert_int_equal(d.replicas, 1);
    for (int i = 1; i < 60; i++)
        kpa_record(k, i * 1000, 1000);
    kpa_decide(k, 60000, 3, 3, &d);
    assert_int_equal(d.replicas, 6);
    assert_string_equal(d.reason, "AtMaxScale");
    spec = spec_for(10);
    spec.activation_scale = 4;
    AUTO(kpa) wakes = kpa_create(&spec);
    kpa_record(wakes, 0, 1);
    kpa_decide(wakes, 0, 0, 0, &d);
    assert_int_equal(d.replicas, 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steady_load_gets_its_share_of_replicas),
        cmocka_unit_test(utilization_and_concurrency_bound_the_target),
        cmocka_unit_test(a_burst_panics_and_nothing_goes_down_until_it_is_over),
        cmocka_unit_test(rates_bound_each_step),
        cmocka_unit_test(scale_down_waits_for_the_delay),
        cmocka_unit_test(last_replica_stays_for_the_grace_or_the_retention),
        cmocka_unit_test(missing_metrics_change_nothing),
        cmocka_unit_test(bounds_and_first_scales_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
