#include "core/control/fixture_test.h"
#include "core/control/pod_probes.h"
#include "core/control/pod_serve.h"

static bool is_taken(const void *user, uint16_t port) {
    const uint16_t *taken = user;
    for (; *taken; taken++) {
        if (*taken == port)
            return true;
    }
    return false;
}

static void a_port_is_picked_that_nobody_has_until_none_is_left(void **state) {
    uint16_t taken[5] = {0}, port;
    struct error err = ERROR_INIT;
    const struct pod_port_range range = {20000, 20003, is_taken, taken};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pod_serve_pick_port("some-uid", 0, &range, &port, &err), OK);
        assert_in_range(port, 20000, 20003);
        assert_false(is_taken(taken, port));
        taken[i] = port;
    }
    assert_int_equal(pod_serve_pick_port("some-uid", 0, &range, &port, &err), ERR_EXHAUSTED);
    assert_non_null(strstr(err.text, "20000..20003"));
}

static void another_run_begins_at_another_port(void **state) {
    uint16_t taken[1] = {0}, first, second;
    struct error err = ERROR_INIT;
    const struct pod_port_range range = {20000, 29999, is_taken, taken};
    assert_int_equal(pod_serve_pick_port("some-uid", 0, &range, &first, &err), OK);
    assert_int_equal(pod_serve_pick_port("some-uid", 1, &range, &second, &err), OK);
    assert_int_not_equal(first, second);
}

static struct probes adapted(const char *container) {
    static const struct pod_serving serving = {.port = 20017};
    struct probes p = {0};
    struct error err = ERROR_INIT;
    bool any;
    json_t *c = fixture_json(container);
    assert_int_equal(pod_probes_read(c, "c", "10.0.0.5", &p, &any, &err), OK);
    pod_serve_adapt_probes(c, &serving, 70001, &p);
    json_decref(c);
    return p;
}

static void without_probes_it_has_started_when_it_listens(void **state) {
    struct probes p = adapted("{\"ports\":[{\"containerPort\":8080}]}");
    const struct question *q = &p.questions[HEALTH_STARTUP];
    assert_true(p.rules[HEALTH_STARTUP].asked && !p.rules[HEALTH_READINESS].asked);
    assert_true(q->way == QUESTION_TCP && q->port == 20017 && q->listener_user == 70001);
    assert_true(q->quiet);
    probes_deinit(&p);
}

static void probes_of_the_declared_port_are_asked_at_the_given_one(void **state) {
    struct probes p =
        adapted("{\"ports\":[{\"name\":\"web\",\"containerPort\":8080}],"
                "\"readinessProbe\":{\"httpGet\":{\"port\":\"web\",\"path\":\"/r\"}},"
                "\"livenessProbe\":{\"tcpSocket\":{\"port\":9000}},"
                "\"lifecycle\":{\"preStop\":{\"httpGet\":{\"port\":8080,\"path\":\"/bye\"}}}}");
    const struct question *ready = &p.questions[HEALTH_READINESS];
    const struct question *live = &p.questions[HEALTH_LIVENESS];
    assert_true(ready->port == 20017 && ready->listener_user == 70001 && !ready->quiet);
    assert_string_equal(ready->host, "127.0.0.1");
    assert_true(live->port == 9000 && !live->listener_user); /* another one of its ports */
    assert_string_equal(live->host, "10.0.0.5");
    assert_int_equal(p.hooks[HOOK_PRE_STOP].port, 20017);
    assert_false(p.rules[HEALTH_STARTUP].asked); /* it has probes that say more */
    probes_deinit(&p);
}

static void with_a_liveness_probe_alone_readiness_is_whether_it_listens(void **state) {
    struct probes p = adapted("{\"ports\":[{\"containerPort\":8080}],"
                              "\"livenessProbe\":{\"httpGet\":{\"port\":8080}}}");
    assert_true(p.rules[HEALTH_READINESS].asked && !p.rules[HEALTH_STARTUP].asked);
    assert_int_equal(p.questions[HEALTH_READINESS].way, QUESTION_TCP);
    assert_int_equal(p.questions[HEALTH_READINESS].port, 20017);
    probes_deinit(&p);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_port_is_picked_that_nobody_has_until_none_is_left),
        cmocka_unit_test(another_run_begins_at_another_port),
        cmocka_unit_test(without_probes_it_has_started_when_it_listens),
        cmocka_unit_test(probes_of_the_declared_port_are_asked_at_the_given_one),
        cmocka_unit_test(with_a_liveness_probe_alone_readiness_is_whether_it_listens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
