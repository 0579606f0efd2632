/* Tables: ages as kubectl writes them, cells, rows; and the forms that an Accept header asks for.
 */
#include "kube-compat/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "core/base/clock.h"
#include "core/object.h"
#include "kube-compat/accept.h"
#include "kube-compat/json_path.h"
#include "kube-compat/status.h"

static struct kinds *kinds;

static int load(void **state) {
    struct error err = ERROR_INIT;
    if (kinds_create(&kinds, &err))
        fail_msg("%s", err.text);
    return 0;
}

static int unload(void **state) {
    kinds_unref(kinds);
    return 0;
}

static json_t *parse(const char *text) {
    json_t *v = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(v);
    return v;
}

static void ages(void **state) {
    static const struct {
        int64_t seconds;
        const char *want;
    } cases[] = {
        {0, "0s"},         {119, "119s"},      {120, "2m"},      {125, "2m5s"},
        {600, "10m"},      {10799, "179m"},    {10800, "3h"},    {10860, "3h1m"},
        {28800, "8h"},     {172799, "47h"},    {172800, "2d"},   {180000, "2d2h"},
        {691200, "8d"},    {63071999, "729d"}, {63072000, "2y"}, {63158400, "2y1d"},
        {252288000, "8y"},
    };
    int64_t now_ms = 1900000000000;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char then[CLOCK_RFC3339_BYTES], got[32];
        clock_rfc3339(now_ms - cases[i].seconds * 1000, then);
        table_age(then, now_ms, got);
        assert_string_equal(got, cases[i].want);
    }
    char got[32];
    table_age("nonsense", now_ms, got);
    assert_string_equal(got, "<unknown>");
    table_age(NULL, now_ms, got);
    assert_string_equal(got, "<unknown>");
}

static void expect_cell(const char *cell, const char *object, const char *want) {
    json_t *o = parse(object), *got = table_cell(cell, o, 1900000000000);
    char *text =
        json_is_string(got) ? mem_strdup(json_string_value(got)) : json_dumps(got, JSON_ENCODE_ANY);
    assert_string_equal(text, want);
    free(text);
    json_decref(got);
    json_decref(o);
}

static void pod_cells(void **state) {
    expect_cell("pod-status", "{\"status\":{\"phase\":\"Running\"}}", "Running");
    expect_cell("pod-status", "{\"metadata\":{\"deletionTimestamp\":\"x\"},\"status\":{}}",
                "Terminating");
    expect_cell("pod-status",
                "{\"status\":{\"phase\":\"Running\",\"containerStatuses\":[{\"state\":{\"waiting\":"
                "{\"reason\":\"CrashLoopBackOff\"}}}]}}",
                "CrashLoopBackOff");
    expect_cell("pod-status",
                "{\"status\":{\"phase\":\"Failed\",\"containerStatuses\":[{\"state\":"
                "{\"terminated\":{\"exitCode\":3}}}]}}",
                "ExitCode:3");
    expect_cell("pod-status",
                "{\"status\":{\"phase\":\"Failed\",\"containerStatuses\":[{\"state\":"
                "{\"terminated\":{\"exitCode\":137,\"signal\":9}}}]}}",
                "Signal:9");
    expect_cell("pod-ready",
                "{\"spec\":{\"containers\":[{},{}]},\"status\":{\"containerStatuses\":"
                "[{\"ready\":true},{\"ready\":false}]}}",
                "1/2");
    expect_cell("pod-restarts", "{\"status\":{\"containerStatuses\":[{\"restartCount\":0}]}}", "0");
    expect_cell("pod-restarts",
                "{\"status\":{\"containerStatuses\":[{\"restartCount\":2,\"lastState\":"
                "{\"terminated\":{\"finishedAt\":\"2030-03-17T17:41:40Z\"}}}]}}",
                "2 (5m ago)");
}

static void other_cells(void **state) {
    expect_cell("service-ports",
                "{\"spec\":{\"ports\":[{\"port\":80,\"protocol\":\"TCP\",\"nodePort\":30080},"
                "{\"port\":53,\"protocol\":\"UDP\"}]}}",
                "80:30080/TCP,53/UDP");
    expect_cell("service-external-ip", "{\"spec\":{\"type\":\"LoadBalancer\"}}", "<pending>");
    expect_cell("node-status",
                "{\"spec\":{\"unschedulable\":true},\"status\":{\"conditions\":"
                "[{\"type\":\"Ready\",\"status\":\"True\"}]}}",
                "Ready,SchedulingDisabled");
    expect_cell("node-roles",
                "{\"metadata\":{\"labels\":{\"node-role.kubernetes.io/control-plane\":\"\"}}}",
                "control-plane");
    expect_cell("label-selector",
                "{\"spec\":{\"selector\":{\"matchLabels\":{\"a\":\"b\"},\"matchExpressions\":"
                "[{\"key\":\"c\",\"operator\":\"In\",\"values\":[\"d\",\"e\"]}]}}}",
                "a=b,c in (d,e)");
    expect_cell("event-object", "{\"regarding\":{\"kind\":\"Pod\",\"name\":\"p\"}}", "pod/p");
    expect_cell("data-count", "{\"data\":{\"a\":\"\",\"b\":\"\"},\"binaryData\":{\"c\":\"\"}}",
                "3");
    expect_cell("no-such-cell", "{}", "null");
}

static void custom_columns_come_from_paths(void **state) {
    const struct kind *k = kinds_find(kinds, "serving.kserve.io", "v1beta1", "inferenceservices");
    json_t *o = parse(
        "{\"kind\":\"InferenceService\",\"apiVersion\":\"serving.kserve.io/v1beta1\",\"metadata\":"
        "{\"name\":\"a\",\"resourceVersion\":\"7\"},\"status\":{\"url\":\"http://a\","
        "\"modelStatus\":{\"states\":{\"targetModelState\":\"Loading\"}},"
        "\"conditions\":[{\"type\":\"X\",\"status\":\"False\"},{\"type\":\"Ready\",\"status\":"
        "\"True\"},{\"type\":\"PredictorReady\",\"status\":\"False\",\"message\":\"42 "
        "%\"}],\"components\":{\"predictor\":{\"traffic\":[{\"tag\":\"prev\",\"percent\":10},"
        "{\"latestRevision\":true,\"percent\":90,\"revisionName\":\"r2\"}]}}}}");
    json_t *t = table_of_reply(k, o, TABLE_INCLUDE_METADATA, 0);
    char *cells = json_dumps(object_at(t, "rows.0.cells"), JSON_COMPACT);
    assert_string_equal(
        cells, "[\"a\",\"http://a\",\"True\",10,90,null,\"r2\",null,\"Loading\",\"42 %\"]");
    free(cells);
    assert_string_equal(object_str(t, "rows.0.object.kind"), "PartialObjectMetadata");
    assert_string_equal(object_str(t, "metadata.resourceVersion"), "7");
    assert_string_equal(object_str(t, "columnDefinitions.0.format"), "name");
    json_decref(t);
    json_t *e = table_of_event(k, o, TABLE_INCLUDE_NONE, false, 0);
    assert_true(json_is_null(json_object_get(e, "columnDefinitions")));
    assert_null(object_at(e, "rows.0.object"));
    json_decref(e);
    json_decref(o);
}

static void accept_walks_clauses(void **state) {
    const unsigned all = ACCEPT_JSON | ACCEPT_TABLE | ACCEPT_METADATA | ACCEPT_YAML;
    static const struct {
        const char *header;
        enum accept_form want;
    } cases[] = {
        {NULL, ACCEPT_JSON},
        {"", ACCEPT_JSON},
        {"application/json, */*", ACCEPT_JSON},
        {"application/json;as=Table;v=v1;g=meta.k8s.io,application/json", ACCEPT_TABLE},
        {"application/json; g=meta.k8s.io; v=v1beta1; as=Table", ACCEPT_TABLE},
        {"application/json;as=Table;v=v2;g=meta.k8s.io,application/json", ACCEPT_JSON},
        {"application/json;as=Table;v=v2;g=meta.k8s.io", ACCEPT_NONE},
        {"application/vnd.kubernetes.protobuf,application/json", ACCEPT_JSON},
        {"application/vnd.kubernetes.protobuf", ACCEPT_NONE},
        {"application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", ACCEPT_METADATA},
        {"text/html, */*;q=0.8", ACCEPT_JSON},
        {"application/yaml;q=0, application/json", ACCEPT_JSON},
        {"application/json;as=APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io", ACCEPT_NONE},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(accept_choose(cases[i].header, all), cases[i].want);
}

static void paths(void **state) {
    json_t *o = parse("{\"a\":{\"b/c.d\":[{\"n\":1,\"ok\":true},{\"n\":2}]}}");
    static const struct {
        const char *path, *want;
    } cases[] = {
        {".a['b/c.d'][*].n", "[1,2]"}, {".a.b/c\\.d[1].n", "[2]"},
        {".a.*[?(@.n==2)].n", "[2]"},  {".a['b/c.d'][?(@.ok==true)].n", "[1]"},
        {".a['b/c.d'][-1].n", "[2]"},  {".x.y", "[]"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        json_t *found = json_array();
        assert_true(json_path_find(o, cases[i].path, found));
        char *text = json_dumps(found, JSON_COMPACT);
        assert_string_equal(text, cases[i].want);
        free(text);
        json_decref(found);
    }
    json_t *found = json_array();
    assert_false(json_path_find(o, ".a[", found));
    assert_false(json_path_find(o, "a", found));
    json_decref(found);
    json_decref(o);
}

static void statuses(void **state) {
    struct error err = ERROR_INIT;
    err_set(&err, ERR_INVALID, "x");
    json_t *causes = json_array();
    cause_add(causes, CAUSE_REQUIRED, "spec.a", "Required value");
    const struct status_subject about = {"apps", "deployments", "Deployment", "d"};
    json_t *s = status_failure(&err, &about, causes);
    assert_int_equal(status_code(s), 422);
    assert_string_equal(object_str(s, "message"),
                        "Deployment.apps \"d\" is invalid: spec.a: Required value");
    assert_string_equal(object_str(s, "details.kind"), "Deployment");
    json_decref(s);
    cause_add(causes, CAUSE_INVALID, "spec.b", "Invalid value: %d: no", 1);
    s = status_failure(&err, &about, causes);
    assert_string_equal(object_str(s, "message"),
                        "Deployment.apps \"d\" is invalid: [spec.a: Required value, spec.b: "
                        "Invalid value: 1: no]");
    json_decref(s);
    json_decref(causes);
    err_set(&err, ERR_NOT_FOUND, "deployments.apps \"d\" not found");
    s = status_failure(&err, &about, NULL);
    assert_string_equal(object_str(s, "reason"), "NotFound");
    assert_string_equal(object_str(s, "details.kind"), "deployments");
    json_decref(s);
}

static void policy_cells(void **state) {
    expect_cell(
        "quota-requests",
        "{\"status\":{\"hard\":{\"pods\":\"4\",\"limits.cpu\":\"2\",\"cpu\":\"1\"},\"used\":"
        "{\"pods\":\"1\",\"limits.cpu\":\"500m\"}}}",
        "cpu: 0/1, pods: 1/4");
    expect_cell("quota-limits",
                "{\"status\":{\"hard\":{\"limits.cpu\":\"2\"},\"used\":{\"limits.cpu\":\"500m\"}}}",
                "limits.cpu: 500m/2");
    expect_cell("class-global-default", "{\"globalDefault\":true}", "true");
    expect_cell("endpoints", "{}", "<none>");
    expect_cell(
        "endpoints",
        "{\"subsets\":[{\"addresses\":[{\"ip\":\"a\"},{\"ip\":\"b\"}],\"ports\":[{\"port\":1},"
        "{\"port\":2}]}]}",
        "a:1,a:2,b:1 + 1 more...");
    expect_cell("slice-ports", "{\"ports\":[{\"port\":80},{\"port\":81}]}", "80,81");
    expect_cell("slice-endpoints", "{\"endpoints\":[]}", "<unset>");
    expect_cell("slice-endpoints",
                "{\"endpoints\":[{\"addresses\":[\"a\"]},{\"addresses\":[\"b\"]}]}", "a,b");
    expect_cell("hpa-reference",
                "{\"spec\":{\"scaleTargetRef\":{\"kind\":\"Deployment\",\"name\":\"w\"}}}",
                "Deployment/w");
    expect_cell("hpa-targets", "{\"spec\":{}}", "<none>");
    expect_cell("hpa-targets",
                "{\"spec\":{\"targetCPUUtilizationPercentage\":50},\"status\":"
                "{\"currentCPUUtilizationPercentage\":7}}",
                "cpu: 7%/50%");
    expect_cell(
        "hpa-targets",
        "{\"spec\":{\"metrics\":[{\"type\":\"Resource\",\"resource\":{\"name\":\"memory\","
        "\"target\":{\"averageValue\":\"1Gi\"}}},{\"type\":\"Pods\",\"pods\":{\"target\":"
        "{\"averageValue\":\"5\"}}},{\"type\":\"External\",\"external\":{\"target\":"
        "{\"averageValue\":\"2\"}}},{\"type\":\"Object\",\"object\":{}}]},\"status\":"
        "{\"currentMetrics\":[{},{\"type\":\"Pods\",\"pods\":{\"current\":{\"averageValue\":"
        "\"3\"}}}]}}",
        "memory: <unknown>/1Gi, 3/5, <unknown>/2 (avg) + 1 more...");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ages),
        cmocka_unit_test(pod_cells),
        cmocka_unit_test(other_cells),
        cmocka_unit_test(policy_cells),
        cmocka_unit_test(custom_columns_come_from_paths),
        cmocka_unit_test(accept_walks_clauses),
        cmocka_unit_test(paths),
        cmocka_unit_test(statuses),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
