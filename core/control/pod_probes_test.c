/* Probes from specs, and those that are refused. */
#include "core/control/pod_probes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "core/object.h"

static enum errc read_probes(const char *text, struct probes *p, bool *any, struct error *err) {
    json_t *container = json_loads(text, 0, NULL);
    assert_non_null(container);
    enum errc rc = pod_probes_read(container, "c", "10.0.0.5", p, any, err);
    json_decref(container);
    return rc;
}

static void probes_are_read_with_their_defaults(void **state) {
    struct error err = ERROR_INIT;
    struct probes p;
    bool any;
    assert_int_equal(
        read_probes("{\"ports\":[{\"name\":\"web\",\"containerPort\":8081}],"
                    "\"startupProbe\":{\"exec\":{\"command\":[\"cat\",\"/x\"]}},"
                    "\"livenessProbe\":{\"tcpSocket\":{\"port\":\"web\"},\"initialDelaySeconds\":3,"
                    "\"periodSeconds\":4,\"timeoutSeconds\":5,\"failureThreshold\":6,"
                    "\"terminationGracePeriodSeconds\":7},"
                    "\"readinessProbe\":{\"httpGet\":{\"port\":80,\"host\":\"localhost\",\"path\":"
                    "\"/a b\",\"httpHeaders\":[{\"name\":\"A\",\"value\":\"b\\r\\nc\"}]},"
                    "\"successThreshold\":2}}",
                    &p, &any, &err),
        OK);
    assert_true(any);
    const struct health_rule *startup = &p.rules[HEALTH_STARTUP], *live = &p.rules[HEALTH_LIVENESS];
    assert_int_equal(p.questions[HEALTH_STARTUP].way, QUESTION_EXEC);
    assert_string_equal(p.questions[HEALTH_STARTUP].argv[1], "/x");
    assert_null(p.questions[HEALTH_STARTUP].argv[2]);
    assert_int_equal(startup->initial_delay_ms, 0);
    assert_int_equal(startup->period_ms, 10000);
    assert_int_equal(startup->timeout_ms, 1000);
    assert_int_equal(startup->success_threshold, 1);
    assert_int_equal(startup->failure_threshold, 3);
    assert_int_equal(startup->grace_ms, -1);
    assert_int_equal(p.questions[HEALTH_LIVENESS].way, QUESTION_TCP);
    assert_int_equal(p.questions[HEALTH_LIVENESS].port, 8081);
    assert_string_equal(p.questions[HEALTH_LIVENESS].host, "10.0.0.5");
    assert_int_equal(live->initial_delay_ms, 3000);
    assert_int_equal(live->period_ms, 4000);
    assert_int_equal(live->timeout_ms, 5000);
    assert_int_equal(live->failure_threshold, 6);
    assert_int_equal(live->grace_ms, 7000);
    assert_int_equal(p.questions[HEALTH_READINESS].way, QUESTION_HTTP);
    assert_string_equal(p.questions[HEALTH_READINESS].host, "127.0.0.1");
    assert_string_equal(p.questions[HEALTH_READINESS].path, "/a");
    assert_string_equal(p.questions[HEALTH_READINESS].headers[0], "A: b");
    assert_int_equal(p.rules[HEALTH_READINESS].success_threshold, 2);
    probes_deinit(&p);
    assert_int_equal(read_probes("{}", &p, &any, &err), OK);
    assert_false(any);
}

static void hooks_are_read(void **state) {
    struct error err = ERROR_INIT;
    struct probes p;
    bool any;
    assert_int_equal(read_probes("{\"lifecycle\":{\"postStart\":{\"httpGet\":{\"port\":8}},"
                                 "\"preStop\":{\"sleep\":{\"seconds\":5}}}}",
                                 &p, &any, &err),
                     OK);
    assert_true(any);
    assert_int_equal(p.hooks[HOOK_POST_START].way, QUESTION_HTTP);
    assert_int_equal(p.hooks[HOOK_PRE_STOP].way, QUESTION_SLEEP);
    assert_int_equal(p.hooks[HOOK_PRE_STOP].sleep_ms, 5000);
    assert_false(p.rules[HEALTH_READINESS].asked);
    probes_deinit(&p);
}

static void what_is_not_asked_is_refused_by_name(void **state) {
    static const struct {
        const char *container, *why;
    } cases[] = {
        {"{\"livenessProbe\":{\"grpc\":{\"port\":1}}}", "c.livenessProbe.grpc: not asked here"},
        {"{\"readinessProbe\":{\"httpGet\":{\"port\":1,\"scheme\":\"HTTPS\"}}}",
         "c.readinessProbe.httpGet.scheme: HTTPS is not asked here"},
        {"{\"startupProbe\":{\"tcpSocket\":{\"port\":1,\"host\":\"example.com\"}}}",
         "c.startupProbe.host: \"example.com\" is not an IP address"},
        {"{\"livenessProbe\":{\"tcpSocket\":{\"port\":\"web\"}}}",
         "c.livenessProbe.port: no port of the container"},
        {"{\"livenessProbe\":{\"tcpSocket\":{\"port\":70000}}}",
         "c.livenessProbe.port: no port of the container"},
        {"{\"livenessProbe\":{}}", "c.livenessProbe: Required value"},
        {"{\"lifecycle\":{\"preStop\":{\"tcpSocket\":{\"port\":1}}}}",
         "c.lifecycle.preStop.tcpSocket: a hook cannot be a connection"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = ERROR_INIT;
        struct probes p;
        bool any;
        assert_int_equal(read_probes(cases[i].container, &p, &any, &err), ERR_INVALID);
        if (strncmp(err.text, cases[i].why, strlen(cases[i].why)) != 0)
            fail_msg("\"%s\", wanted \"%s\"", err.text, cases[i].why);
        json_t *container = json_loads(cases[i].container, 0, NULL), *warnings = json_array();
        pod_probes_warn(container, "c", warnings);
        assert_int_equal(json_array_size(warnings), 1);
        json_decref(warnings);
        json_decref(container);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(probes_are_read_with_their_defaults),
        cmocka_unit_test(hooks_are_read),
        cmocka_unit_test(what_is_not_asked_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
