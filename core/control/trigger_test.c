/* Triggers: what is refused and how, what answers come to, when a cron window is open. */
#include "core/control/trigger.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <cmocka.h>

#include "core/base/clock.h"
#include "core/object.h"

static json_t *json(const char *text) {
    json_error_t why;
    json_t *o = json_loads(text, 0, &why);
    if (!o)
        fail_msg("%s: %s", why.text, text);
    return o;
}

#define ITEM(type, metadata) "{\"type\":\"" type "\",\"metadata\":{" metadata "}}"
#define CRON_FIELDS(start, end)                                                                    \
    "\"timezone\":\"UTC\",\"start\":\"" start "\",\"end\":\"" end "\",\"desiredReplicas\":\"3\""

static void what_is_wrong_is_named(void **state) {
    static const char *const rows[][2] = {
        {ITEM("kafka", ""), "no scaler found for type: kafka (inferd has prometheus, metrics-api, "
                            "cron, cpu and memory)"},
        {ITEM("prometheus", "\"threshold\":\"1\""), "metadata.query: is required"},
        {ITEM("prometheus", "\"query\":\"up\""), "metadata.threshold: \"\" is not a number"},
        {ITEM("prometheus", "\"query\":\"up\",\"threshold\":\"0\""),
         "metadata.threshold: must be above 0"},
        {ITEM("prometheus", "\"query\":\"up\",\"threshold\":\"1\",\"activationThreshold\":\"x\""),
         "metadata.activationThreshold: \"x\" is not a number"},
        {ITEM("prometheus", "\"query\":\"stddev(up)\",\"threshold\":\"1\""),
         "metadata.query: position 1: function \"stddev\" is not supported"},
        {ITEM("prometheus", "\"query\":\"up[5m]\",\"threshold\":\"1\""),
         "metadata.query: is a range vector"},
        {"{\"type\":\"prometheus\",\"metricType\":\"Utilization\",\"metadata\":{\"query\":\"up\","
         "\"threshold\":\"1\"}}",
         "metricType Utilization is not possible for a trigger of type prometheus"},
        {ITEM("metrics-api", "\"targetValue\":\"1\",\"valueLocation\":\"a\""),
         "metadata.url: is required"},
        {ITEM("metrics-api", "\"targetValue\":\"1\",\"url\":\"http://x\""),
         "metadata.valueLocation: is required"},
        {ITEM("metrics-api", "\"targetValue\":\"1\",\"url\":\"http://x\",\"valueLocation\":\"a\","
                             "\"format\":\"xml\""),
         "metadata.format: only json is supported"},
        {ITEM("metrics-api", "\"targetValue\":\"1\",\"url\":\"http://x\",\"valueLocation\":\"a\","
                             "\"aggregateFromKubeServiceEndpoints\":\"true\""),
         "metadata.aggregateFromKubeServiceEndpoints: is not supported"},
        {ITEM("cron", "\"timezone\":\"UTC\",\"start\":\"0 6 * * *\",\"end\":\"0 8 * * *\""),
         "metadata.desiredReplicas: is required"},
        {ITEM("cron", CRON_FIELDS("0 25 * * *", "0 8 * * *")), "its hour is missing or not within"},
        {ITEM("cron", CRON_FIELDS("0 8 * * *", "0 8 * * *")), "metadata.end: is the same as start"},
        {ITEM("cpu", "\"value\":\"50\""), "metricType has to be Utilization or AverageValue"},
        {ITEM("memory", "\"type\":\"AverageValue\",\"value\":\"lots\""),
         "metadata.value: is not a quantity"},
        {ITEM("cpu", "\"type\":\"Utilization\",\"value\":\"0\""),
         "metadata.value: must be above 0"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct trigger t;
        struct error err = ERROR_INIT;
        json_t *item = json(rows[i][0]);
        assert_int_equal(trigger_parse(item, 0, NULL, &t, &err), ERR_INVALID);
        if (!strstr(err.text, rows[i][1]))
            fail_msg("%s: %s", rows[i][0], err.text);
        json_decref(item);
    }
}

static struct trigger parse(json_t *item) {
    struct trigger t;
    struct error err = ERROR_INIT;
    if (trigger_parse(item, 2, "http://127.0.0.1:8080", &t, &err))
        fail_msg("%s", err.text);
    return t;
}

static void names_and_places_are_kedas(void **state) {
    static const struct {
        const char *item, *name;
        bool remote;
    } rows[] = {
        {ITEM("prometheus", "\"query\":\"up\",\"threshold\":\"1\""), "s2-prometheus", false},
        {ITEM("prometheus", "\"query\":\"up\",\"threshold\":\"1\","
                            "\"serverAddress\":\"http://127.0.0.1:8080/\""),
         "s2-prometheus", false},
        {ITEM("prometheus", "\"query\":\"anything(at all)\",\"threshold\":\"1\","
                            "\"serverAddress\":\"http://prometheus:9090\""),
         "s2-prometheus", true},
        {ITEM("metrics-api", "\"targetValue\":\"1\",\"url\":\"http://x\","
                             "\"valueLocation\":\"a.b.c\""),
         "s2-metric-api-a-b-c", true},
        {ITEM("cron", "\"timezone\":\"UTC\",\"start\":\"0 6 * * *\",\"end\":\"0 20 * * *\","
                      "\"desiredReplicas\":\"1\""),
         "s2-cron-UTC-06xxx-020xxx", false},
        {ITEM("cpu", "\"type\":\"Utilization\",\"value\":\"50\""), "cpu", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        json_t *item = json(rows[i].item);
        struct trigger t = parse(item);
        assert_string_equal(t.metric_name, rows[i].name);
        assert_int_equal(trigger_is_remote(&t), rows[i].remote);
        trigger_deinit(&t);
        json_decref(item);
    }
}

static void a_cron_window_is_open_between_its_times(void **state) {
    static const struct {
        const char *start, *end, *now;
        double expect;
    } rows[] = {
        {"0 6 * * *", "0 20 * * *", "2026-11-24T05:59:59Z", 0},
        {"0 6 * * *", "0 20 * * *", "2026-11-24T06:00:00Z", 3},
        {"0 6 * * *", "0 20 * * *", "2026-11-24T19:59:59Z", 3},
        {"0 6 * * *", "0 20 * * *", "2026-11-24T20:00:00Z", 0},
        {"0 20 * * *", "0 6 * * *", "2026-11-24T23:00:00Z", 3}, /* over midnight */
        {"0 20 * * *", "0 6 * * *", "2026-11-24T12:00:00Z", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        json_t *item =
            json_pack("{s:s,s:{s:s,s:s,s:s,s:s}}", "type", "cron", "metadata", "timezone", "UTC",
                      "start", rows[i].start, "end", rows[i].end, "desiredReplicas", "3");
        struct trigger t = parse(item);
        struct error err = ERROR_INIT;
        double value = -1;
        assert_int_equal(
            trigger_read(&t, NULL, "default", clock_parse_rfc3339(rows[i].now), &value, &err), OK);
        assert_float_equal(value, rows[i].expect, 0);
        trigger_deinit(&t);
        json_decref(item);
    }
}

static void answers_become_numbers(void **state) {
#define REMOTE "\"query\":\"q\",\"threshold\":\"1\",\"serverAddress\":\"http://prometheus:9090\""
#define API    "\"targetValue\":\"1\",\"url\":\"http://x\",\"valueLocation\":\"a.items.1.n\""
    static const struct {
        const char *item;
        int status;
        const char *body;
        double expect;
        const char *error; /* NULL: none */
    } rows[] = {
        {ITEM("prometheus", REMOTE), 200,
         "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[{\"metric\":{},"
         "\"value\":[1.5,\"7.25\"]}]}}",
         7.25, NULL},
        {ITEM("prometheus", REMOTE), 200,
         "{\"status\":\"success\",\"data\":{\"resultType\":\"scalar\",\"result\":[1.5,\"7\"]}}", 7,
         NULL},
        {ITEM("prometheus", REMOTE), 200,
         "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[]}}", 0, NULL},
        {ITEM("prometheus", REMOTE ",\"ignoreNullValues\":\"false\""), 200,
         "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[]}}", 0,
         "prometheus metrics target may be lost, the result is empty"},
        {ITEM("prometheus", REMOTE ",\"ignoreNullValues\":\"false\""), 200,
         "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[{\"value\":[1,"
         "\"+Inf\"]}]}}",
         0, "the value is not a number"},
        {ITEM("prometheus", REMOTE), 200,
         "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[{\"value\":[1,"
         "\"1\"]},{\"value\":[1,\"2\"]}]}}",
         0, "prometheus query q returned multiple elements"},
        {ITEM("prometheus", REMOTE), 200, "{\"status\":\"error\"}", 0,
         "the answer is not one of Prometheus"},
        {ITEM("prometheus", REMOTE), 200, "<html>", 0, "prometheus: the answer is not JSON"},
        {ITEM("prometheus", REMOTE), 401, "", 0, "prometheus: the answer has status 401"},
        {ITEM("metrics-api", API), 200, "{\"a\":{\"items\":[{},{\"n\":12.5}]}}", 12.5, NULL},
        {ITEM("metrics-api", API), 200, "{\"a\":{\"items\":[{},{\"n\":\"3\"}]}}", 3, NULL},
        {ITEM("metrics-api", API), 200, "{\"a\":{\"items\":[{},{\"n\":\"2Ki\"}]}}", 2048, NULL},
        {ITEM("metrics-api", API), 200, "{\"a\":{\"items\":[{},{\"n\":true}]}}", 0,
         "valueLocation \"a.items.1.n\" of the answer is no number"},
        {ITEM("metrics-api", API), 200, "{\"a\":{\"items\":[]}}", 0, "is no number"},
        {ITEM("metrics-api", API), 500, "", 0, "metrics-api: the answer has status 500"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        json_t *item = json(rows[i].item);
        struct trigger t = parse(item);
        struct error err = ERROR_INIT;
        const struct http_got got = {
            .status = rows[i].status, .body = rows[i].body, .body_len = strlen(rows[i].body)};
        double value = -1;
        enum errc rc = trigger_answer(&t, &got, &value, &err);
        if ((rc == OK) != !rows[i].error || (rc && !strstr(err.text, rows[i].error)))
            fail_msg("%s: %s", rows[i].body, rc ? err.text : "is no error");
        if (!rc)
            assert_float_equal(value, rows[i].expect, 0);
        trigger_deinit(&t);
        json_decref(item);
    }
    json_t *item = json(ITEM("metrics-api", API));
    struct trigger t = parse(item);
    struct error err = ERROR_INIT;
    double value;
    const struct http_got none = {.body = "", .error = "Timeout was reached"};
    assert_int_equal(trigger_answer(&t, &none, &value, &err), ERR_UNAVAILABLE);
    assert_string_equal(err.text, "Timeout was reached");
    trigger_deinit(&t);
    json_decref(item);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(names_and_places_are_kedas),
        cmocka_unit_test(a_cron_window_is_open_between_its_times),
        cmocka_unit_test(answers_become_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
