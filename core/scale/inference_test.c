#include "core/scale/inference.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

struct service {
    struct inference *rule;
    int64_t now_ms;
    struct inference_sample sample;
    struct scale_decision last;
};

static struct inference_spec spec_for(double concurrency, double readiness) {
    struct inference_spec spec = inference_spec_default();
    spec.concurrency = concurrency;
    spec.readiness = readiness;
    spec.max_replicas = 16;
    return spec;
}

static struct service service_with(struct inference *rule) {
    return (struct service){.rule = rule,
                            .sample = {.kv_usage = -1,
                                       .ttft_p95_seconds = -1,
                                       .itl_p95_seconds = -1,
                                       .start_ms = 10000,
                                       .ready = 1,
                                       .current = 1}};
}

static void live(struct service *s, double in_flight, int64_t seconds) {
    s->sample.in_flight = in_flight;
    for (int64_t i = 0; i < seconds; i++, s->now_ms += 1000) {
        inference_decide(s->rule, s->now_ms, &s->sample, &s->last);
        s->sample.ready = s->sample.current = s->last.replicas;
    }
}

static void load_is_followed_both_ways(void **state) {
    struct inference_spec spec = spec_for(10, 0);
    AUTO(inference) rule = inference_create(&spec);
    struct service s = service_with(rule);
    live(&s, 45, 6);
    assert_int_equal(s.last.replicas, 5);
    live(&s, 15, 30);
    assert_int_equal(s.last.replicas, 2);
}

static void what_is_wanted_is_held_for_as_long_as_a_start_takes(void **state) {
    struct inference_spec spec = spec_for(10, 0);
    AUTO(inference) rule = inference_create(&spec);
    struct service s = service_with(rule);
    s.sample.start_ms = 60000;
    live(&s, 95, 10);
    assert_int_equal(s.last.replicas, 10);
    live(&s, 5, 50);
    assert_int_equal(s.last.replicas, 10);
    assert_string_equal(s.last.reason, "Held");
    live(&s, 5, 30);
    assert_int_equal(s.last.replicas, 1);
}

/* One second in ten the load is eight times what it is else. */
static int32_t replicas_between_bursts(double readiness) {
    struct inference_spec spec = spec_for(10, readiness);
    AUTO(inference) rule = inference_create(&spec);
    struct service s = service_with(rule);
    s.sample.start_ms = 1000;
    for (int i = 0; i < 60; i++) {
        live(&s, 80, 1);
        live(&s, 10, 9);
    }
    return s.last.replicas;
}

static void the_reserve_is_what_the_bursts_need_often_enough(void **state) {
    assert_int_equal(replicas_between_bursts(0.5), 2); /* one, and a step of the histogram */
    assert_int_equal(replicas_between_bursts(0.95), 9);
}

static void nobody_asking_gives_up_the_reserve_and_then_the_last(void **state) {
    for (int32_t min = 0; min <= 1; min++) {
        struct inference_spec spec = spec_for(10, 0.95);
        spec.min_replicas = min;
        spec.idle_ms = 60000;
        AUTO(inference) rule = inference_create(&spec);
        struct service s = service_with(rule);
        live(&s, 45, 60);
        live(&s, 0, 58);
        assert_int_equal(s.last.replicas, 5);
        assert_string_equal(s.last.reason, "Reserve");
        live(&s, 0, 20);
        assert_int_equal(s.last.replicas, min);
        live(&s, 1, 1); /* back: with what it knows of this load */
        assert_int_equal(s.last.replicas, 5);
    }
}

static void missing_metrics_never_scale_to_zero(void **state) {
    struct inference_spec spec = spec_for(10, 0.9);
    spec.min_replicas = 0;
    spec.idle_ms = 1000;
    AUTO(inference) rule = inference_create(&spec);
    struct service s = service_with(rule);
    live(&s, 25, 10);
    int32_t was = s.last.replicas;
    live(&s, -1, 3600);
    assert_int_equal(s.last.replicas, was);
    assert_string_equal(s.last.reason, "MissingMetrics");
}

static void full_kv_caches_and_queued_prompts_are_load(void **state) {
    struct inference_spec spec = spec_for(100, 0);
    spec.queued_tokens = 1000;
    AUTO(inference) rule = inference_create(&spec);
    struct service s = service_with(rule);
    s.sample.kv_usage = 1;
    live(&s, 5, 6);
    assert_true(s.last.replicas >= 2);
    s.sample.kv_usage = 0.5;
    s.sample.queued_tokens = 6500;
    live(&s, 5, 6);
    assert_int_equal(s.last.replicas, 7);
}

static void late_and_full_makes_the_load_count_for_more(void **state) {
    struct inference_spec spec = spec_for(10, 0);
    spec.ttft_goal_seconds = 1;
    AUTO(inference) rule = inference_create(&spec);
    struct service s = service_with(rule);
    live(&s, 9.9, 10);
    assert_int_equal(s.last.replicas, 1);
    s.sample.ttft_p95_seconds = 3;
    live(&s, 9.9, 60); /* one replica was said to take ten, and is late with fewer than that */
    assert_int_equal(s.last.replicas, 1); /* not full: more of them would not help */
    live(&s, 10, 60);
    assert_true(s.last.replicas >= 2);
    s.sample.ttft_p95_seconds = 0.1;
    live(&s, 10, 600);
    assert_int_equal(s.last.replicas, 1);
}

static void bounds_hold(void **state) {
    struct inference_spec spec = spec_for(1, 0.9);
    spec.min_replicas = 2;
    spec.max_replicas = 4;
    AUTO(inference) rule = inference_create(&spec);
    struct service s = service_with(rule);
    live(&s, 1e9, 10);
    assert_int_equal(s.last.replicas, 4);
    assert_string_equal(s.last.reason, "AtMaxReplicas");
    live(&s, 0, 1000);
    assert_int_equal(s.last.replicas, 2);
    assert_string_equal(s.last.reason, "AtMinReplicas");
}

static void old_load_fades(void **state) {
    struct inference_spec spec = spec_for(1, 0.9);
    spec.memory_ms = 60000;
    AUTO(inference) rule = inference_create(&spec);
    struct service s = service_with(rule);
    s.sample.start_ms = 1000;
    live(&s, 12, 600);
    assert_true(s.last.replicas >= 12);
    live(&s, 1, 600); /* ten times its half-life */
    assert_true(s.last.replicas <= 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(load_is_followed_both_ways),
        cmocka_unit_test(what_is_wanted_is_held_for_as_long_as_a_start_takes),
        cmocka_unit_test(the_reserve_is_what_the_bursts_need_often_enough),
        cmocka_unit_test(nobody_asking_gives_up_the_reserve_and_then_the_last),
        cmocka_unit_test(missing_metrics_never_scale_to_zero),
        cmocka_unit_test(full_kv_caches_and_queued_prompts_are_load),
        cmocka_unit_test(late_and_full_makes_the_load_count_for_more),
        cmocka_unit_test(bounds_hold),
        cmocka_unit_test(old_load_fades),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
