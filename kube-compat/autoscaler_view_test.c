/* Both versions of an autoscaler say the same, and going there and back loses nothing. */
#include "kube-compat/autoscaler_view.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/base/mem.h"
#include "core/object.h"

static json_t *parse(const char *text) {
    json_error_t why;
    json_t *v = json_loads(text, 0, &why);
    if (!v)
        fail_msg("%s: %s", why.text, text);
    return v;
}

static void expect_same(json_t *got, json_t *want) {
    if (!json_equal(got, want))
        fail_msg("got %s\nwant %s", json_dumps(got, JSON_SORT_KEYS),
                 json_dumps(want, JSON_SORT_KEYS));
    json_decref(got);
    json_decref(want);
}

static void the_cpu_share_is_a_field_of_version_1(void **state) {
    json_t *v2 =
        parse("{\"apiVersion\": \"autoscaling/v2\", \"kind\": \"HorizontalPodAutoscaler\","
              " \"metadata\": {\"name\": \"a\"}, \"spec\": {\"maxReplicas\": 3, \"metrics\":"
              " [{\"type\": \"Resource\", \"resource\": {\"name\": \"cpu\", \"target\":"
              " {\"type\": \"Utilization\", \"averageUtilization\": 50}}}]}}");
    json_t *v1 = autoscaler_to_v1(v2);
    expect_same(json_incref(v1),
                parse("{\"apiVersion\": \"autoscaling/v1\", \"kind\": \"HorizontalPodAutoscaler\","
                      " \"metadata\": {\"name\": \"a\"}, \"spec\": {\"maxReplicas\": 3,"
                      " \"targetCPUUtilizationPercentage\": 50}}"));
    expect_same(autoscaler_to_v2(v1), v2);
    json_decref(v1);
}

static void what_version_1_lacks_travels_in_annotations(void **state) {
    json_t *v2 = parse(
        "{\"apiVersion\": \"autoscaling/v2\", \"kind\": \"HorizontalPodAutoscaler\","
        " \"metadata\": {\"name\": \"a\", \"annotations\": {\"x\": \"y\"}}, \"spec\":"
        " {\"metrics\": ["
        "  {\"type\": \"Resource\", \"resource\": {\"name\": \"memory\", \"target\":"
        "   {\"type\": \"AverageValue\", \"averageValue\": \"1Gi\"}}},"
        "  {\"type\": \"ContainerResource\", \"containerResource\": {\"name\": \"cpu\","
        "   \"container\": \"c\", \"target\": {\"type\": \"Utilization\","
        "   \"averageUtilization\": 7}}},"
        "  {\"type\": \"Pods\", \"pods\": {\"metric\": {\"name\": \"q\", \"selector\":"
        "   {\"matchLabels\": {\"a\": \"b\"}}}, \"target\": {\"type\": \"AverageValue\","
        "   \"averageValue\": \"5\"}}},"
        "  {\"type\": \"Object\", \"object\": {\"describedObject\": {\"kind\": \"S\","
        "   \"name\": \"s\"}, \"metric\": {\"name\": \"r\"}, \"target\": {\"type\": \"Value\","
        "   \"value\": \"9\"}}},"
        "  {\"type\": \"External\", \"external\": {\"metric\": {\"name\": \"e\"}, \"target\":"
        "   {\"type\": \"Value\", \"value\": \"2\"}}}],"
        " \"behavior\": {\"scaleDown\": {\"selectPolicy\": \"Min\"}}},"
        " \"status\": {\"currentMetrics\": [{\"type\": \"Resource\", \"resource\":"
        "  {\"name\": \"cpu\", \"current\": {\"averageUtilization\": 12}}}],"
        "  \"conditions\": [{\"type\": \"AbleToScale\", \"status\": \"True\"}]}}");
    json_t *v1 = autoscaler_to_v1(v2);
    assert_null(object_at(v1, "spec.metrics"));
    assert_null(object_at(v1, "spec.behavior"));
    assert_null(object_at(v1, "status.conditions"));
    assert_int_equal(object_int(v1, "status.currentCPUUtilizationPercentage", 0), 12);
    json_t *metrics = parse(object_annotation(v1, "autoscaling.alpha.kubernetes.io/metrics"));
    assert_int_equal(json_array_size(metrics), 5);
    assert_string_equal(object_str(metrics, "2.pods.metricName"), "q");
    assert_string_equal(object_str(metrics, "3.object.targetValue"), "9");
    json_decref(metrics);
    json_t *back = autoscaler_to_v2(v1);
    expect_same(back, v2);
    json_decref(v1);
}

static void annotations_that_do_not_parse_are_dropped(void **state) {
    json_t *v1 = parse("{\"metadata\": {\"annotations\": {"
                       "\"autoscaling.alpha.kubernetes.io/metrics\": \"[{\","
                       "\"autoscaling.alpha.kubernetes.io/behavior\": \"[]\","
                       "\"autoscaling.alpha.kubernetes.io/conditions\": \"7\"}},"
                       " \"spec\": {\"maxReplicas\": 1}}");
    expect_same(autoscaler_to_v2(v1), parse("{\"apiVersion\": \"autoscaling/v2\", \"metadata\": {},"
                                            " \"spec\": {\"maxReplicas\": 1}}"));
    json_decref(v1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cpu_share_is_a_field_of_version_1),
        cmocka_unit_test(what_version_1_lacks_travels_in_annotations),
        cmocka_unit_test(annotations_that_do_not_parse_are_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
