/* Probes as the kubelet has them: tables of rules and answers over time. */
#include "core/node/health.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>

#define RULE(delay, period, successes, failures)                                                   \
    {                                                                                              \
        .asked = true, .initial_delay_ms = delay, .period_ms = period,                             \
        .success_threshold = successes, .failure_threshold = failures, .grace_ms = -1              \
    }

struct step {
    int64_t at_ms;
    const char *asked; /* the probes that are due, by their first letters */
    const char *says;  /* their answers: y, n, or u for unknown */
    const char *then;  /* S started, R ready, and s l for the probe that was fatal */
};

static void play(const struct health_rule *rules, const struct step *steps, size_t num) {
    struct health h;
    health_init(&h, rules, 0);
    for (size_t i = 0; i < num; i++) {
        char asked[8] = "", then[8] = "";
        enum health_probe probes[HEALTH_PROBES], probe;
        int64_t wait_ms;
        size_t n = 0;
        while ((probe = health_next(&h, steps[i].at_ms, &wait_ms)) < HEALTH_PROBES) {
            asked[n] = (char)(health_probe_name(probe)[0] | 0x20);
            probes[n++] = probe;
        }
        for (size_t a = 0; a < n; a++) {
            char c = steps[i].says[a];
            health_observe(&h, probes[a],
                           c == 'y'   ? HEALTH_YES
                           : c == 'n' ? HEALTH_NO
                                      : HEALTH_UNKNOWN,
                           steps[i].at_ms);
        }
        snprintf(then, sizeof(then), "%s%s%s%s", h.started ? "S" : "", h.ready ? "R" : "",
                 h.fatal == HEALTH_STARTUP ? "s" : "", h.fatal == HEALTH_LIVENESS ? "l" : "");
        if (strcmp(asked, steps[i].asked) != 0 || strcmp(then, steps[i].then) != 0)
            fail_msg("at %lld: asked \"%s\" then \"%s\", wanted \"%s\" and \"%s\"",
                     (long long)steps[i].at_ms, asked, then, steps[i].asked, steps[i].then);
    }
}
#define PLAY(rules, steps) play(rules, steps, ARRAY_LEN(steps))

static void nothing_asked_is_ready(void **state) {
    static const struct health_rule rules[HEALTH_PROBES] = {0};
    static const struct step steps[] = {{0, "", "", "SR"}, {100000, "", "", "SR"}};
    PLAY(rules, steps);
}

static void readiness_comes_and_goes_by_its_thresholds(void **state) {
    static const struct health_rule rules[HEALTH_PROBES] = {[HEALTH_READINESS] =
                                                                RULE(500, 1000, 2, 3)};
    static const struct step steps[] = {
        {499, "", "", "S"},      {500, "r", "y", "S"},   {1499, "", "", "S"},
        {1500, "r", "y", "SR"},  {2500, "r", "n", "SR"}, {3500, "r", "n", "SR"},
        {4500, "r", "y", "SR"}, /* the row begins anew */
        {5500, "r", "n", "SR"},  {6500, "r", "n", "SR"}, {7500, "r", "n", "S"},
        {8500, "r", "n", "S"},   {9500, "r", "y", "S"},  {10500, "r", "u", "S"},
        {11500, "r", "y", "SR"}, /* what could not be asked interrupts nothing */
    };
    PLAY(rules, steps);
}

static void liveness_dooms_once(void **state) {
    static const struct health_rule rules[HEALTH_PROBES] = {[HEALTH_LIVENESS] =
                                                                RULE(0, 1000, 1, 2)};
    static const struct step steps[] = {
        {0, "l", "n", "SR"},     {1000, "l", "y", "SR"}, {2000, "l", "n", "SR"},
        {3000, "l", "n", "SRl"}, {9000, "", "", "SRl"},
    };
    PLAY(rules, steps);
}

static void the_startup_probe_holds_the_others_back(void **state) {
    static const struct health_rule rules[HEALTH_PROBES] = {
        [HEALTH_STARTUP] = RULE(0, 1000, 1, 3),
        [HEALTH_LIVENESS] = RULE(0, 10000, 1, 1),
        [HEALTH_READINESS] = RULE(5000, 10000, 1, 1)};
    static const struct step steps[] = {
        {0, "s", "n", ""},          {1000, "s", "n", ""},
        {2000, "s", "y", "S"},      {2000, "lr", "yy", "SR"}, /* at once, whatever its delay */
        {12000, "lr", "nn", "SRl"}, {22000, "", "", "SRl"},   /* fatal: no more is heard */
    };
    static const struct step fails[] = {
        {0, "s", "n", ""}, {1000, "s", "n", ""}, {2000, "s", "n", "s"}, {3000, "", "", "s"}};
    PLAY(rules, steps);
    PLAY(rules, fails);
}

static void a_slow_answer_is_waited_for(void **state) {
    static const struct health_rule rules[HEALTH_PROBES] = {[HEALTH_LIVENESS] =
                                                                RULE(0, 1000, 1, 1)};
    struct health h;
    int64_t wait_ms;
    health_init(&h, rules, 0);
    assert_int_equal(health_next(&h, 0, &wait_ms), HEALTH_LIVENESS);
    assert_int_equal(health_next(&h, 5000, &wait_ms), HEALTH_PROBES);
    assert_int_equal(wait_ms, -1);
    health_observe(&h, HEALTH_LIVENESS, HEALTH_YES, 5000);
    assert_int_equal(health_next(&h, 5000, &wait_ms), HEALTH_LIVENESS);
    health_observe(&h, HEALTH_LIVENESS, HEALTH_YES, 5200);
    assert_int_equal(health_next(&h, 5200, &wait_ms), HEALTH_PROBES);
    assert_int_equal(wait_ms, 800);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_asked_is_ready),
        cmocka_unit_test(readiness_comes_and_goes_by_its_thresholds),
        cmocka_unit_test(liveness_dooms_once),
        cmocka_unit_test(the_startup_probe_holds_the_others_back),
        cmocka_unit_test(a_slow_answer_is_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
