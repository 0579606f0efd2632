/* Kubernetes' own test vectors, read from the shared data. */
#include "core/scale/hpa.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "core/base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { PODS_MAX = 16, NOW_SECONDS = 100000 };

static void json_auto(json_t **o) {
    json_decref(*o);
}
#define AUTO_JSON __attribute__((cleanup(json_auto))) json_t *

/* Skips the test, by name, when the data is not there. */
static json_t *vectors(const char *name) {
    const char *dir = getenv("INFERD_SHARED");
    AUTO_FREE char *path =
        mem_printf("%s/data/autoscaling/%s", dir && *dir ? dir : "../shared", name);
    json_error_t error;
    if (access(path, R_OK)) {
        printf("skipped: %s is not there\n", path);
        skip();
    }
    json_t *all = json_load_file(path, 0, &error);
    assert_non_null(all);
    assert_true(json_array_size(all) > 0);
    return all;
}

static int64_t integer(const json_t *o, const char *name, int64_t otherwise) {
    const json_t *v = json_object_get(o, name);
    return json_is_integer(v) ? json_integer_value(v) : otherwise;
}

static const char *name_of(const json_t *v) {
    return json_string_value(json_object_get(v, "name"));
}

/* "6666m", "1.0" */
static int64_t milli(const json_t *text) {
    char *end;
    double value = strtod(json_string_value(text), &end);
    return (int64_t)llround(*end == 'm' ? value : value * 1000);
}

static int64_t ago_ms(const json_t *record) {
    return (NOW_SECONDS - integer(record, "secondsAgo", 0)) * 1000;
}

static bool is_text(const json_t *array, size_t i, const char *text) {
    const char *has = json_string_value(json_array_get(array, i));
    return has && !strcmp(has, text);
}

/* readiness, phase, deletion and requests name the pods one by one. */
static uint32_t read_pods(const json_t *v, uint32_t num, const char *readiness, const char *phase,
                          const char *deletion, struct hpa_pod *pods) {
    const json_t *ready = json_object_get(v, readiness), *phases = json_object_get(v, phase);
    const json_t *gone = json_object_get(v, deletion);
    num = json_array_size(phases) > num ? (uint32_t)json_array_size(phases) : num;
    assert_true(num <= PODS_MAX);
    for (uint32_t i = 0; i < num; i++) {
        pods[i].gone = is_text(phases, i, "Failed") || json_is_true(json_array_get(gone, i));
        pods[i].unready = is_text(phases, i, "Pending") || is_text(ready, i, "False");
    }
    return num;
}

static uint32_t count_ready(const struct hpa_pod *pods, uint32_t num) {
    uint32_t ready = 0;
    for (uint32_t i = 0; i < num; i++)
        ready += !pods[i].gone && !pods[i].unready;
    return ready;
}

/* ---- the replica calculator ---- */

static enum errc by_resource(const json_t *v, struct hpa_pod *pods, uint32_t num, int32_t current,
                             struct hpa_proposal *p, struct error *err) {
    const json_t *resource = json_object_get(v, "resource");
    const json_t *requests = json_object_get(resource, "requests");
    const json_t *levels = json_object_get(resource, "levels");
    const json_t *per_pod =
        json_is_object(levels) ? json_object_get(levels, "per_container_milli") : levels;
    bool one_container = json_object_get(v, "container") != NULL;
    bool strangers = json_object_get(resource, "podNames") != NULL;
    int64_t times = one_container ? 1 : 2; /* each pod has two containers */
    for (uint32_t i = 0; i < num; i++) {
        const json_t *request = json_array_get(requests, i), *level = json_array_get(per_pod, i);
        pods[i].has_request = request != NULL;
        pods[i].request_milli = request ? milli(request) * times : 0;
        pods[i].has_value = level && !strangers;
        pods[i].value_milli = json_is_array(level) ? json_integer_value(json_array_get(level, 1))
                                                   : json_integer_value(level) * times;
    }
    return hpa_by_utilization(pods, num, integer(resource, "targetUtilization", 0), current, p,
                              err);
}

static enum errc by_metric(const json_t *v, struct hpa_pod *pods, uint32_t num, int32_t current,
                           struct hpa_proposal *p, struct error *err) {
    const json_t *metric = json_object_get(v, "metric"),
                 *levels = json_object_get(metric, "levels");
    const char *type = json_string_value(json_object_get(metric, "metricType"));
    int64_t target = integer(metric, "targetUtilization", 0);
    int64_t per_pod = integer(metric, "perPodTargetUtilization", 0);
    int64_t first = json_integer_value(json_array_get(levels, 0));
    if (type && !strcmp(type, "podMetric")) {
        for (uint32_t i = 0; i < num; i++) {
            pods[i].has_value = i < json_array_size(levels);
            pods[i].value_milli = json_integer_value(json_array_get(levels, i));
        }
        return hpa_by_pod_average(pods, num, target, current, p, err);
    }
    if (type)
        hpa_by_average_value(first, per_pod, current, p);
    else
        hpa_by_value(first, target, (int32_t)count_ready(pods, num), current, p);
    return OK;
}

static void calculator_gives_what_kubernetes_gives(void **state) {
    AUTO_JSON all = vectors("hpa-replica-calculator.json");
    json_t *v;
    size_t i;
    json_array_foreach (all, i, v) {
        print_message("  %s\n", name_of(v));
        struct hpa_pod pods[PODS_MAX] = {0};
        struct hpa_proposal p = {0};
        struct error err = ERROR_INIT;
        int32_t current = (int32_t)integer(v, "currentReplicas", 0);
        uint32_t num = read_pods(v, (uint32_t)current, "podReadiness", "podPhase",
                                 "podDeletionTimestamp", pods);
        const json_t *resource = json_object_get(v, "resource");
        enum errc rc = resource ? by_resource(v, pods, num, current, &p, &err)
                                : by_metric(v, pods, num, current, &p, &err);
        const char *expected_error = json_string_value(json_object_get(v, "expectedError"));
        if (expected_error) {
            assert_int_not_equal(rc, OK);
            assert_non_null(strstr(err.text, expected_error));
            continue;
        }
        assert_int_equal(rc, OK);
        assert_int_equal(p.replicas, integer(v, "expectedReplicas", -1));
        if (resource) {
            int64_t times = json_object_get(v, "container") ? 1 : 2;
            int64_t counted = integer(resource, "expectedValue", -1) / times;
            assert_int_equal(p.utilization, integer(resource, "expectedUtilization", -1));
            assert_int_equal(p.average_milli / times, counted);
        } else {
            assert_int_equal(p.average_milli,
                             integer(json_object_get(v, "metric"), "expectedUtilization", -1));
        }
    }
}

/* ---- rules ---- */

static struct hpa_rules read_rules(const json_t *rules, struct hpa_rules otherwise) {
    struct hpa_rules r = {0};
    const json_t *policies = json_object_get(rules, "policies"), *p;
    size_t i;
    if (!json_is_object(rules))
        return otherwise;
    r.stabilization_seconds = (int32_t)integer(rules, "stabilizationWindowSeconds", 0);
    json_array_foreach (policies, i, p) {
        r.policies[r.num_policies++] = (struct hpa_policy){
            .percent = !strcmp(json_string_value(json_object_get(p, "type")), "Percent"),
            .value = (int32_t)integer(p, "value", 0),
            .period_seconds = (int32_t)integer(p, "periodSeconds", 0)};
    }
    return r;
}

static void read_changes(const json_t *events, int32_t sign, struct hpa_history *h) {
    const json_t *e;
    size_t i;
    json_array_foreach (events, i, e)
        hpa_history_changed(h, ago_ms(e), 1000,
                            1000 + sign * (int32_t)integer(e, "replicaChange", 0));
}

static void rates_limit_as_in_kubernetes(void **state) {
    AUTO_JSON all = vectors("hpa-scaling-rules.json");
    json_t *v;
    size_t i;
    json_array_foreach (all, i, v) {
        print_message("  %s\n", name_of(v));
        struct hpa_history *h = mem_alloc(sizeof(*h));
        struct hpa_spec spec = {
            .min_replicas = (int32_t)integer(v, "specMinReplicas", 1),
            .max_replicas = (int32_t)integer(v, "specMaxReplicas", 0),
            .up = read_rules(json_object_get(v, "scaleUpRules"), hpa_rules_up_default()),
            .down = read_rules(json_object_get(v, "scaleDownRules"), hpa_rules_down_default())};
        const char *reason;
        read_changes(json_object_get(v, "scaleUpEvents"), 1, h);
        read_changes(json_object_get(v, "scaleDownEvents"), -1, h);
        int32_t replicas = hpa_limit(
            h, &spec, (int64_t)NOW_SECONDS * 1000, (int32_t)integer(v, "currentReplicas", 0),
            (int32_t)integer(v, "prenormalizedDesiredReplicas", 0), &reason);
        assert_int_equal(replicas, integer(v, "expectedReplicas", -1));
        assert_string_equal(reason, json_string_value(json_object_get(v, "expectedCondition")));
        free(h);
    }
}

static void read_recommendations(const json_t *v, struct hpa_history *h) {
    const json_t *r;
    size_t i;
    json_array_foreach (json_object_get(v, "recommendations"), i, r)
        hpa_history_recommended(h, ago_ms(r), (int32_t)integer(r, "recommendation", 0));
}

static void check_stabilization(const char *file) {
    AUTO_JSON all = vectors(file);
    json_t *v;
    size_t i;
    json_array_foreach (all, i, v) {
        print_message("  %s\n", name_of(v));
        struct hpa_history *h = mem_alloc(sizeof(*h));
        struct hpa_spec spec = {0};
        const char *reason;
        spec.up.stabilization_seconds = (int32_t)integer(v, "scaleUpStabilizationWindowSeconds", 0);
        spec.down.stabilization_seconds =
            (int32_t)integer(v, "scaleDownStabilizationWindowSeconds",
                             integer(v, "downscaleStabilisationWindowSeconds", 0));
        read_recommendations(v, h);
        int32_t wanted = (int32_t)integer(v, "prenormalizedDesiredReplicas", 0);
        /* The older form does not look at what is there: the most of the window is the answer. */
        int32_t current = (int32_t)integer(v, "currentReplicas", INT32_MAX);
        assert_int_equal(
            hpa_stabilize(h, &spec, (int64_t)NOW_SECONDS * 1000, current, wanted, &reason),
            integer(v, "expectedStabilizedReplicas", -1));
        free(h);
    }
}

static void recommendations_are_stabilized_as_in_kubernetes(void **state) {
    check_stabilization("hpa-stabilization.json");
}

static void default_window_stabilizes_as_in_kubernetes(void **state) {
    check_stabilization("hpa-stabilization-default-window.json");
}

/* ---- one round of the whole loop ---- */

struct round {
    const json_t *v;
    struct hpa_pod pods[PODS_MAX];
    uint32_t num_pods;
    int32_t current, status;
    int32_t proposals[4];
    uint32_t num_proposals, num_missing;
};

static void propose(struct round *r, enum errc rc, int32_t replicas) {
    if (rc)
        r->num_missing++;
    else
        r->proposals[r->num_proposals++] = replicas;
}

static void add_cpu(struct round *r) {
    struct hpa_proposal p = {0};
    struct error err = ERROR_INIT;
    int64_t target = integer(r->v, "CPUTarget", 0);
    if (!target)
        return;
    enum errc rc = hpa_by_utilization(r->pods, r->num_pods, target, r->current, &p, &err);
    propose(r, rc, p.replicas);
    if (json_object_get(r->v, "CPUCurrent"))
        assert_int_equal(p.utilization, integer(r->v, "CPUCurrent", -1));
}

static void add_metric(struct round *r, const json_t *metric) {
    const json_t *source = json_object_get(metric, "External");
    struct hpa_proposal p = {0};
    int64_t value = json_integer_value(json_array_get(json_object_get(r->v, "reportedLevels"), 0));
    if (!source)
        source = json_object_get(metric, "Object");
    const json_t *target = json_object_get(source, "Target");
    const json_t *whole = json_object_get(target, "Value");
    const json_t *average = json_object_get(target, "AverageValue");
    if (whole)
        hpa_by_value(value, milli(whole), (int32_t)count_ready(r->pods, r->num_pods), r->current,
                     &p);
    else if (average)
        hpa_by_average_value(value, milli(average), r->status, &p);
    propose(r, whole || average ? OK : ERR_INVALID, p.replicas); /* else: a type that is unknown */
}

static void read_round(const json_t *v, struct round *r) {
    const json_t *requests = json_object_get(v, "reportedCPURequests"), *metric;
    const json_t *levels = json_object_get(v, "reportedLevels");
    size_t i;
    *r = (struct round){.v = v,
                        .current = (int32_t)integer(v, "specReplicas", 0),
                        .status = (int32_t)integer(v, "statusReplicas", 0)};
    uint32_t num = requests ? (uint32_t)json_array_size(requests) : (uint32_t)r->status;
    r->num_pods = read_pods(v, num, "reportedPodReadiness", "reportedPodPhase", "none", r->pods);
    for (i = 0; i < r->num_pods; i++) {
        r->pods[i].has_request = i < json_array_size(requests);
        if (r->pods[i].has_request)
            r->pods[i].request_milli = milli(json_array_get(requests, i));
        r->pods[i].has_value = i < json_array_size(levels);
        r->pods[i].value_milli = json_integer_value(json_array_get(levels, i));
    }
    add_cpu(r);
    json_array_foreach (json_object_get(v, "metricsTarget"), i, metric)
        add_metric(r, metric);
}

/* Kubernetes 1.20, where the vectors are from, left out a metric that could not be computed; later
 * versions, and hpa_combine(), take it as a reason not to go down. */
static bool combine_as_then(const struct round *r, int32_t *ret_wanted) {
    return hpa_combine(r->proposals, r->num_proposals, 0, r->current, ret_wanted);
}

static void one_round_gives_what_kubernetes_gives(void **state) {
    AUTO_JSON all = vectors("hpa-controller.json");
    json_t *v;
    size_t i;
    json_array_foreach (all, i, v) {
        print_message("  %s\n", name_of(v));
        struct round r;
        struct hpa_history *h = mem_alloc(sizeof(*h));
        struct hpa_spec spec = {
            .min_replicas = (int32_t)integer(v, "minReplicas", 1),
            .max_replicas = (int32_t)integer(v, "maxReplicas", 0),
            .up = read_rules(json_object_get(v, "scaleUpRules"), hpa_rules_up_default()),
            .down = hpa_rules_down_default()};
        struct hpa_decision d = {0};
        read_round(v, &r);
        /* An empty list of recommendations means that none is made from what is there. */
        if (json_object_get(v, "recommendations"))
            read_recommendations(v, h);
        if (json_is_array(json_object_get(v, "recommendations")) && !h->num_recommendations)
            hpa_history_recommended(h, 0, r.current); /* too old to matter */
        int32_t wanted;
        /* In these the scale or its pods cannot be read: no metric is. */
        bool readable = strcmp(name_of(v), "ConditionInvalidSelectorUnparsable") != 0 &&
                        strcmp(name_of(v), "ConditionFailedGetScale") != 0;
        if (!readable || !combine_as_then(&r, &wanted))
            wanted = r.current;
        hpa_decide(h, &spec, (int64_t)NOW_SECONDS * 1000, r.current, wanted, &d);
        assert_int_equal(d.replicas, integer(v, "expectedDesiredReplicas", -1));
        free(h);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calculator_gives_what_kubernetes_gives),
        cmocka_unit_test(rates_limit_as_in_kubernetes),
        cmocka_unit_test(recommendations_are_stabilized_as_in_kubernetes),
        cmocka_unit_test(default_window_stabilizes_as_in_kubernetes),
        cmocka_unit_test(one_round_gives_what_kubernetes_gives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
