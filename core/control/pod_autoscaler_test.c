/* HorizontalPodAutoscalers on a real store and a clock of the test's: figures in, replicas,
 * conditions and Events out. */
#include "core/control/pod_autoscaler.h"

#include "core/control/fixture_test.h"
#include "core/control/pod_autoscaler_spec.h"
#include "core/decision_log.h"

static const char WEB[] =
    "{\"metadata\":{\"name\":\"web\"},\"spec\":{\"replicas\":2,\"selector\":{\"matchLabels\":{"
    "\"app\":\"web\"}},\"template\":{\"metadata\":{\"labels\":{\"app\":\"web\"}},\"spec\":{"
    "\"containers\":[{\"name\":\"c\",\"image\":\"host\",\"command\":[\"sleep\"],\"resources\":{"
    "\"requests\":{\"cpu\":\"100m\",\"memory\":\"64Mi\"}}}]}}}}";

#define HPA(fields)                                                                                \
    "{\"metadata\":{\"name\":\"web\"},\"spec\":{\"scaleTargetRef\":{\"apiVersion\":\"apps/v1\","   \
    "\"kind\":\"Deployment\",\"name\":\"web\"},\"minReplicas\":1,\"maxReplicas\":10," fields       \
    "},\"status\":{\"currentReplicas\":0,\"desiredReplicas\":0}}"
#define CPU                                                                                        \
    "{\"type\":\"Resource\",\"resource\":{\"name\":\"cpu\",\"target\":{\"type\":\"Utilization\","  \
    "\"averageUtilization\":50}}}"
#define MEMORY                                                                                     \
    "{\"type\":\"Resource\",\"resource\":{\"name\":\"memory\",\"target\":{\"type\":"               \
    "\"AverageValue\",\"averageValue\":\"32Mi\"}}}"
static const char BY_CPU[] = HPA("\"metrics\":[" CPU "]");

/* ---- what containers use, as the test says ---- */

static int setup(void **state) {
    int rc = fixture_setup(state);
    struct fixture *f = *state;
    fixture_end_daemon(f);
    f->usage = usage_create();
    f->series = series_create(NULL);
    f->decisions = decision_log_create();
    fixture_start_daemon(f);
    return rc;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    struct usage *usage = f->usage;
    struct series *series = f->series;
    struct decision_log *decisions = f->decisions;
    int rc = fixture_teardown(state);
    usage_destroy(usage);
    series_destroy(series);
    decision_log_destroy(decisions);
    return rc;
}

/* Every container that runs, but for the first `num_missing`, uses so much over the last 10 s. */
static void publish(struct fixture *f, int64_t cpu_milli, int64_t memory_bytes, int num_missing) {
    struct usage_snapshot *s = mem_alloc(sizeof(*s));
    s->refs = 1;
    s->wall_ms = f->wall_ms;
    s->containers = mem_array(FIXTURE_PROCESSES_MAX, sizeof(s->containers[0]));
    for (int i = 0; i < FIXTURE_PROCESSES_MAX; i++) {
        if (!f->processes[i].used || num_missing-- > 0)
            continue;
        s->containers[s->num_containers++] =
            (struct usage_container){mem_strdup(f->processes[i].uid),
                                     mem_strdup(f->processes[i].container),
                                     {10000, cpu_milli * 1000000, memory_bytes}};
    }
    usage_publish(f->usage, s);
}

static void run_with(struct fixture *f, int64_t cpu_milli, int64_t seconds) {
    for (int64_t i = 0; i < seconds; i += 15) {
        publish(f, cpu_milli, 16 << 20, 0);
        fixture_advance(f, 15000);
    }
}

static void start_web(struct fixture *f) {
    fixture_create(f, KIND_DEPLOYMENT, WEB);
    fixture_pass(f);
    assert_int_equal(fixture_num_processes(f), 2);
    fixture_advance(f, 60000); /* longer than a measurement's window */
}

static int64_t replicas(struct fixture *f) {
    json_t *d = fixture_get(f, KIND_DEPLOYMENT, "web");
    int64_t n = object_int(d, "spec.replicas", -1);
    json_decref(d);
    return n;
}

static void assert_told(struct fixture *f, const char *type, const char *status, const char *reason,
                        const char *message) {
    json_t *hpa = fixture_get(f, KIND_HORIZONTAL_POD_AUTOSCALER, "web");
    const json_t *c = object_find_condition(hpa, type);
    assert_non_null(c);
    print_message("  %s=%s %s: %s\n", type, object_str(c, "status"), object_str(c, "reason"),
                  object_str(c, "message"));
    assert_string_equal(object_str(c, "status"), status);
    assert_string_equal(object_str(c, "reason"), reason);
    assert_non_null(strstr(object_str(c, "message"), message));
    json_decref(hpa);
}

/* ---- acting ---- */

static void load_scales_up_and_its_end_down_again(void **state) {
    struct fixture *f = *state;
    start_web(f);
    publish(f, 90, 16 << 20, 0);
    fixture_create(f, KIND_HORIZONTAL_POD_AUTOSCALER, BY_CPU);
    assert_int_equal(replicas(f), 4); /* 90 of 100m each, 50 are wanted: 2 * 90 / 50 */
    assert_int_equal(
        fixture_events(f, "SuccessfulRescale",
                       "New size: 4; reason: cpu resource utilization (percentage of request) "
                       "above target"),
        1);
    assert_told(f, "AbleToScale", "True", "SucceededRescale",
                "the HPA controller was able to update the target scale to 4");
    assert_told(f, "ScalingActive", "True", "ValidMetricFound",
                "the HPA was able to successfully calculate a replica count from cpu resource "
                "utilization (percentage of request)");
    assert_told(f, "ScalingLimited", "False", "DesiredWithinRange",
                "the desired count is within the acceptable range");
    json_t *hpa = fixture_get(f, KIND_HORIZONTAL_POD_AUTOSCALER, "web");
    assert_int_equal(object_int(hpa, "status.currentReplicas", -1), 2);
    assert_int_equal(object_int(hpa, "status.desiredReplicas", -1), 4);
    assert_int_equal(
        object_int(hpa, "status.currentMetrics.0.resource.current.averageUtilization", -1), 90);
    assert_string_equal(object_str(hpa, "status.currentMetrics.0.resource.current.averageValue"),
                        "90m");
    assert_non_null(object_str(hpa, "status.lastScaleTime"));
    json_decref(hpa);
    run_with(f, 45, 60); /* at the target, within the tolerance */
    assert_int_equal(replicas(f), 4);
    assert_told(f, "AbleToScale", "True", "ReadyForNewScale", "matches current size");
    run_with(f, 5, 120); /* the window for going down has five minutes */
    assert_int_equal(replicas(f), 4);
    assert_told(f, "AbleToScale", "True", "ScaleDownStabilized",
                "recent recommendations were higher than current one");
    run_with(f, 5, 300);
    assert_int_equal(replicas(f), 1);
    assert_true(fixture_events(f, "SuccessfulRescale",
                               "New size: 1; reason: All metrics below target") == 1);
}

static void decisions_are_kept_with_what_they_were_made_from(void **state) {
    struct fixture *f = *state;
    AUTO_BUF out = BUF_INIT;
    start_web(f);
    publish(f, 90, 16 << 20, 0);
    fixture_create(f, KIND_HORIZONTAL_POD_AUTOSCALER, BY_CPU);
    run_with(f, 50, 150); /* the same all along: one line more */
    decision_log_write(f->decisions, &out);
    print_message("%s", out.data);
    assert_non_null(strstr(out.data,
                           "namespace=default autoscaler=web rule=horizontalpodautoscaler from=2 "
                           "to=4 reason=\"cpu resource utilization (percentage of request) above "
                           "target\" able=SucceededRescale active=ValidMetricFound "
                           "limited=DesiredWithinRange inputs=\"cpu=90%/50% wants 4\"\n"));
    int lines = 0;
    for (const char *p = out.data; *p; p++)
        lines += *p == '\n';
    assert_int_equal(lines, 2);
}

static void behavior_and_bounds_are_kept_to(void **state) {
    struct fixture *f = *state;
    start_web(f);
    publish(f, 400, 16 << 20, 0);
    fixture_create(f, KIND_HORIZONTAL_POD_AUTOSCALER,
                   HPA("\"metrics\":[" CPU "],\"behavior\":{\"scaleUp\":{\"policies\":[{\"type\":"
                       "\"Pods\",\"value\":1,\"periodSeconds\":60}]},\"scaleDown\":{"
                       "\"stabilizationWindowSeconds\":0,\"selectPolicy\":\"Disabled\"}}"));
    assert_int_equal(replicas(f), 3);
    assert_told(f, "ScalingLimited", "True", "ScaleUpLimit",
                "the desired replica count is increasing faster than the maximum scale rate");
    run_with(f, 400, 45);
    assert_int_equal(replicas(f), 3);
    run_with(f, 400, 30);
    assert_int_equal(replicas(f), 4);
    run_with(f, 1, 600);
    assert_int_equal(replicas(f), 4);
    fixture_patch(f, KIND_HORIZONTAL_POD_AUTOSCALER, "web", "spec.maxReplicas", "3");
    assert_int_equal(replicas(f), 3); /* at once, and whatever the policies say */
    assert_int_equal(fixture_events(f, "SuccessfulRescale",
                                    "New size: 3; reason: Current number of replicas above "
                                    "Spec.MaxReplicas"),
                     1);
    fixture_patch(f, KIND_HORIZONTAL_POD_AUTOSCALER, "web", "spec.maxReplicas", "9");
    fixture_patch(f, KIND_HORIZONTAL_POD_AUTOSCALER, "web", "spec.minReplicas", "5");
    assert_int_equal(replicas(f), 5);
}

static void the_greatest_of_several_metrics_counts(void **state) {
    struct fixture *f = *state;
    start_web(f);
    publish(f, 10, 96 << 20, 0);
    fixture_create(f, KIND_HORIZONTAL_POD_AUTOSCALER, HPA("\"metrics\":[" CPU "," MEMORY "]"));
    assert_int_equal(replicas(f), 6); /* three times 32Mi each */
    assert_told(f, "ScalingActive", "True", "ValidMetricFound",
                "a replica count from memory resource");
    json_t *hpa = fixture_get(f, KIND_HORIZONTAL_POD_AUTOSCALER, "web");
    assert_int_equal(json_array_size(object_at(hpa, "status.currentMetrics")), 2);
    assert_string_equal(object_str(hpa, "status.currentMetrics.1.resource.current.averageValue"),
                        "100663296");
    json_decref(hpa);
}

/* ---- metrics that are no container's ---- */

static void put(struct series_source *source, struct fixture *f, const char *name, const char *ns,
                const char *label, const char *value, double number) {
    struct error err = ERROR_INIT;
    const struct label labels[] = {{LABEL_NAME, name}, {"namespace", ns}, {label, value}};
    assert_int_equal(series_put(source, labels, ARRAY_LEN(labels), f->wall_ms, number, &err), OK);
}

/* The pods of the Deployment, by name. */
static uint32_t pod_names(struct fixture *f, char names[4][64]) {
    AUTO_STORE_LIST pods = {0};
    uint32_t num = 0;
    store_list(f->store, "core/pods/default/", &pods);
    for (size_t i = 0; i < pods.num_items && num < 4; i++)
        snprintf(names[num++], sizeof(names[0]), "%s", object_name(pods.items[i]->json));
    return num;
}

static void series_are_found_added_up_and_kept_apart(void **state) {
    struct fixture *f = *state;
    static const struct {
        const char *metric, *name, *current, *value;
        int64_t replicas; /* from two */
    } rows[] = {
        {"{\"type\":\"External\",\"external\":{\"metric\":{\"name\":\"waiting\"},\"target\":{"
         "\"type\":\"AverageValue\",\"averageValue\":\"4\"}}}",
         "external metric waiting(nil)", "external.current.averageValue", "6750m", 4},
        {"{\"type\":\"External\",\"external\":{\"metric\":{\"name\":\"waiting\",\"selector\":{"
         "\"matchLabels\":{\"queue\":\"a\"}}},\"target\":{\"type\":\"Value\",\"value\":\"2\"}}}",
         "external metric waiting(&LabelSelector{MatchLabels:map[string]string{queue: a,},"
         "MatchExpressions:[]LabelSelectorRequirement{},})",
         "external.current.value", "3", 3},
        {"{\"type\":\"External\",\"external\":{\"metric\":{\"name\":\"waiting\",\"selector\":{"
         "\"matchExpressions\":[{\"key\":\"queue\",\"operator\":\"In\",\"values\":[\"b.c\",\"z\"]},"
         "{\"key\":\"gone\",\"operator\":\"DoesNotExist\"}]}},\"target\":{\"type\":\"Value\","
         "\"value\":\"2\"}}}",
         "external metric waiting(", "external.current.value", "10500m", 6},
        {"{\"type\":\"Object\",\"object\":{\"metric\":{\"name\":\"asked\"},\"describedObject\":{"
         "\"kind\":\"InferenceService\",\"name\":\"demo\"},\"target\":{\"type\":\"Value\","
         "\"value\":\"4\"}}}",
         "InferenceService metric asked", "object.current.value", "6", 3},
        {"{\"type\":\"Pods\",\"pods\":{\"metric\":{\"name\":\"running\"},\"target\":{\"type\":"
         "\"AverageValue\",\"averageValue\":\"2\"}}}",
         "pods metric running", "pods.current.averageValue", "4", 4},
    };
    char names[4][64];
    struct series_source *source = series_source_open(f->series);
    start_web(f);
    assert_int_equal(pod_names(f, names), 2);
    put(source, f, "waiting", "default", "queue", "a", 3);
    put(source, f, "waiting", "default", "queue", "b.c", 10.5);
    put(source, f, "waiting", "other", "queue", "a", 1000); /* another namespace's */
    put(source, f, "asked", "default", "inferenceservice", "demo", 6);
    put(source, f, "asked", "default", "inferenceservice", "demo2", 600);
    put(source, f, "running", "default", "pod", names[0], 5);
    put(source, f, "running", "default", "pod", names[1], 3);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO_FREE char *hpa = mem_printf(HPA("\"metrics\":[%s]"), rows[i].metric);
        print_message("  %s\n", rows[i].metric);
        fixture_create(f, KIND_HORIZONTAL_POD_AUTOSCALER, hpa);
        assert_int_equal(replicas(f), rows[i].replicas);
        assert_told(f, "ScalingActive", "True", "ValidMetricFound", rows[i].name);
        json_t *seen = fixture_get(f, KIND_HORIZONTAL_POD_AUTOSCALER, "web");
        assert_string_equal(object_str(object_at(seen, "status.currentMetrics.0"), rows[i].current),
                            rows[i].value);
        json_decref(seen);
        fixture_delete(f, KIND_HORIZONTAL_POD_AUTOSCALER, "web", "Background", 0);
        fixture_patch(f, KIND_DEPLOYMENT, "web", "spec.replicas", "2");
        fixture_pass(f);
    }
    series_source_close(source, f->wall_ms);
}

static void a_series_that_ended_scales_nothing(void **state) {
    struct fixture *f = *state;
    struct series_source *source = series_source_open(f->series);
    start_web(f);
    put(source, f, "waiting", "default", "queue", "a", 6);
    fixture_create(f, KIND_HORIZONTAL_POD_AUTOSCALER,
                   HPA("\"metrics\":[{\"type\":\"External\",\"external\":{\"metric\":{\"name\":"
                       "\"waiting\"},\"target\":{\"type\":\"AverageValue\",\"averageValue\":"
                       "\"2\"}}}],\"behavior\":{\"scaleDown\":{\"stabilizationWindowSeconds\":"
                       "0}}"));
    assert_int_equal(replicas(f), 3);
    series_source_close(source, f->wall_ms + 1);
    fixture_advance(f, 120 * 1000);
    assert_int_equal(replicas(f), 3);
    assert_told(f, "ScalingActive", "False", "FailedGetExternalMetric",
                "unable to get external metric default/waiting/nil: no metrics returned from "
                "external metrics API");
}

/* ---- not acting ---- */

static void lost_metrics_scale_nothing(void **state) {
    struct fixture *f = *state;
    start_web(f);
    fixture_create(f, KIND_HORIZONTAL_POD_AUTOSCALER, BY_CPU); /* nothing was measured yet */
    assert_int_equal(replicas(f), 2);
    assert_told(f, "ScalingActive", "False", "FailedGetResourceMetric",
                "the HPA was unable to compute the replica count: failed to get cpu "
                "utilization: unable to get metrics for resource cpu: no metrics returned "
                "from resource metrics API");
    assert_int_equal(fixture_events(f, "FailedGetResourceMetric", "failed to get cpu utilization"),
                     1);
    assert_int_equal(
        fixture_events(f, "FailedComputeMetricsReplicas",
                       "invalid metrics (1 invalid out of 1), first error is: failed to get cpu "
                       "resource metric value: failed to get cpu utilization"),
        1);
    run_with(f, 90, 15);
    assert_int_equal(replicas(f), 4);
    publish(f, 0, 0, FIXTURE_PROCESSES_MAX); /* all figures are gone: not a load of zero */
    fixture_advance(f, 3600 * 1000);
    assert_int_equal(replicas(f), 4);
    json_t *hpa = fixture_get(f, KIND_HORIZONTAL_POD_AUTOSCALER, "web");
    assert_null(object_at(hpa, "status.currentMetrics"));
    assert_int_equal(object_int(hpa, "status.desiredReplicas", -1), 4);
    json_decref(hpa);
    for (int i = 0; i < 60; i++) { /* of most pods: they are taken to use what they asked for */
        publish(f, 1, 1, 3);
        fixture_advance(f, 15000);
    }
    assert_int_equal(replicas(f), 4);
}

static void a_metric_that_fails_keeps_the_others_from_going_down(void **state) {
    struct fixture *f = *state;
    static const char other[] =
        "{\"type\":\"External\",\"external\":{\"metric\":{\"name\":\"nobody_knows\"},\"target\":{"
        "\"type\":\"Value\",\"value\":\"1\"}}}";
    AUTO_FREE char *both = mem_printf(HPA("\"metrics\":[" CPU ",%s]"), other);
    start_web(f);
    publish(f, 1, 1, 0);
    fixture_create(f, KIND_HORIZONTAL_POD_AUTOSCALER, both);
    run_with(f, 1, 600);
    assert_int_equal(replicas(f), 2);
    assert_told(f, "ScalingActive", "False", "FailedGetExternalMetric", "nobody_knows");
    run_with(f, 90, 15); /* up is fine */
    assert_int_equal(replicas(f), 4);
    assert_told(f, "ScalingActive", "True", "ValidMetricFound", "cpu resource utilization");
}

static void what_stands_in_the_way_is_told(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_HORIZONTAL_POD_AUTOSCALER, BY_CPU);
    assert_told(f, "AbleToScale", "False", "FailedGetScale",
                "the HPA controller was unable to get the target's current scale: "
                "deployments.apps \"web\" not found");
    start_web(f);
    fixture_patch(f, KIND_DEPLOYMENT, "web", "spec.replicas", "0");
    run_with(f, 90, 30);
    assert_int_equal(replicas(f), 0);
    assert_told(f, "AbleToScale", "True", "SucceededGetScale", "");
    assert_told(f, "ScalingActive", "False", "ScalingDisabled",
                "scaling is disabled since the replica count of the target is zero");
    fixture_patch(f, KIND_DEPLOYMENT, "web", "spec.replicas", "2");
    fixture_pass(f);
    const char *rest = strstr(BY_CPU, "web") + strlen("web"); /* another with the same target */
    AUTO_FREE char *twin = mem_printf("{\"metadata\":{\"name\":\"two%s", rest);
    fixture_create(f, KIND_HORIZONTAL_POD_AUTOSCALER, twin);
    run_with(f, 90, 30);
    assert_int_equal(replicas(f), 2);
    assert_told(f, "ScalingActive", "False", "AmbiguousSelector",
                "are controlled by multiple HPAs: [default/two default/web]");
    fixture_delete(f, KIND_HORIZONTAL_POD_AUTOSCALER, "two", "Background", 0);
    run_with(f, 90, 30);
    assert_true(replicas(f) > 2);
}

static void requests_are_needed_for_a_share_of_them(void **state) {
    struct fixture *f = *state;
    start_web(f);
    publish(f, 90, 1, 0);
    fixture_create(f, KIND_HORIZONTAL_POD_AUTOSCALER,
                   HPA("\"metrics\":[{\"type\":\"ContainerResource\",\"containerResource\":{"
                       "\"name\":\"cpu\",\"container\":\"c\",\"target\":{\"type\":\"Utilization\","
                       "\"averageUtilization\":60}}}]"));
    assert_int_equal(replicas(f), 3);
    fixture_patch(f, KIND_HORIZONTAL_POD_AUTOSCALER, "web",
                  "spec.metrics.0.containerResource.container", "\"other\"");
    assert_int_equal(replicas(f), 3);
    assert_told(f, "ScalingActive", "False", "FailedGetContainerResourceMetric",
                "container other not found in Pod web-");
}

static void pods_that_have_just_started_do_not_count_by_their_start(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_DEPLOYMENT, WEB);
    fixture_pass(f);
    publish(f, 400, 1, 0); /* over 10 s, of which they were ready for less than two */
    fixture_create(f, KIND_HORIZONTAL_POD_AUTOSCALER, BY_CPU);
    assert_int_equal(replicas(f), 2);
    assert_told(f, "ScalingActive", "False", "FailedGetResourceMetric",
                "did not receive metrics for targeted pods (pods might be unready)");
    run_with(f, 400, 30);
    assert_true(replicas(f) > 2);
}

static void a_restart_makes_no_sudden_step_down(void **state) {
    struct fixture *f = *state;
    start_web(f);
    publish(f, 90, 1, 0);
    fixture_create(f, KIND_HORIZONTAL_POD_AUTOSCALER, BY_CPU);
    assert_int_equal(replicas(f), 4);
    fixture_end_daemon(f);
    fixture_start_daemon(f);
    fixture_pass(f);
    fixture_advance(f, 60000);
    run_with(f, 1, 60);
    assert_int_equal(replicas(f), 4);
    run_with(f, 1, 360);
    assert_int_equal(replicas(f), 1);
}

/* ---- reading ---- */

static void values_that_nobody_could_keep_to_are_refused(void **state) {
    static const struct {
        const char *hpa, *text;
    } rows[] = {
        {HPA("\"metrics\":[{\"type\":\"Resource\",\"resource\":{\"name\":\"cpu\",\"target\":{"
             "\"type\":\"Utilization\",\"averageUtilization\":0}}}]"),
         "spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater "
         "than or equal to 1"},
        {HPA("\"metrics\":[{\"type\":\"Resource\",\"resource\":{\"name\":\"cpu\",\"target\":{"
             "\"type\":\"Utilization\"}}}]"),
         "spec.metrics[0].resource.target: Required value: must set either a target raw value or "
         "a target utilization"},
        {HPA("\"metrics\":[{\"type\":\"Pods\",\"pods\":{\"metric\":{\"name\":\"q\"},\"target\":{"
             "\"type\":\"Value\",\"value\":\"1\"}}}]"),
         "spec.metrics[0].pods.target: Required value: must specify a positive target "
         "averageValue"},
        {HPA("\"metrics\":[" CPU ",{\"type\":\"External\",\"external\":{\"metric\":{\"name\":"
             "\"q\"},\"target\":{\"type\":\"Value\",\"value\":\"-1\"}}}]"),
         "spec.metrics[1].external.target.value: Invalid value: \"-1\": must be a positive "
         "quantity"},
        {HPA("\"metrics\":[{\"type\":\"Object\",\"object\":{\"metric\":{\"name\":\"q\"},"
             "\"target\":{\"type\":\"Value\",\"value\":\"1\"}}}]"),
         "spec.metrics[0].object.describedObject: Required value"},
        {HPA("\"behavior\":{\"scaleDown\":{\"stabilizationWindowSeconds\":3601}}"),
         "spec.behavior.scaleDown.stabilizationWindowSeconds: Invalid value: 3601: must be less "
         "than or equal to 3600"},
        {HPA("\"behavior\":{\"scaleUp\":{\"policies\":[{\"type\":\"Pods\",\"value\":0,"
             "\"periodSeconds\":15}]}}"),
         "spec.behavior.scaleUp.policies[0].value: Invalid value: 0"},
        {HPA("\"behavior\":{\"scaleUp\":{\"policies\":[{\"type\":\"Pods\",\"value\":1,"
             "\"periodSeconds\":1801}]}}"),
         "spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 1801"},
        {HPA("\"behavior\":{\"scaleUp\":{\"selectPolicy\":\"Most\"}}"),
         "spec.behavior.scaleUp.selectPolicy: Unsupported value: \"Most\": supported values: "
         "\"Max\", \"Min\", \"Disabled\""},
        {"{\"spec\":{\"scaleTargetRef\":{\"kind\":\"Deployment\"},\"maxReplicas\":2}}",
         "spec.scaleTargetRef.name: Required value"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        json_t *hpa = fixture_json(rows[i].hpa);
        assert_int_equal(pod_autoscaler_check(hpa, &err), ERR_INVALID);
        print_message("  %s\n", err.text);
        assert_non_null(strstr(err.text, rows[i].text));
        json_decref(hpa);
    }
    struct error err = ERROR_INIT;
    json_t *fine = fixture_json(HPA("\"metrics\":[" CPU "," MEMORY "]"));
    assert_int_equal(pod_autoscaler_check(fine, &err), OK);
    json_t *metrics = object_at(fine, "spec.metrics");
    while (json_array_size(metrics) <= POD_AUTOSCALER_METRICS_MAX)
        json_array_append(metrics, json_array_get(metrics, 0));
    assert_int_equal(pod_autoscaler_check(fine, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "spec.metrics: Too many: 33: must have at most 32 items"));
    json_decref(fine);
}

#define WITH_USAGE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_that_nobody_could_keep_to_are_refused),
        WITH_USAGE(load_scales_up_and_its_end_down_again),
        WITH_USAGE(decisions_are_kept_with_what_they_were_made_from),
        WITH_USAGE(behavior_and_bounds_are_kept_to),
        WITH_USAGE(the_greatest_of_several_metrics_counts),
        WITH_USAGE(series_are_found_added_up_and_kept_apart),
        WITH_USAGE(a_series_that_ended_scales_nothing),
        WITH_USAGE(lost_metrics_scale_nothing),
        WITH_USAGE(a_metric_that_fails_keeps_the_others_from_going_down),
        WITH_USAGE(what_stands_in_the_way_is_told),
        WITH_USAGE(requests_are_needed_for_a_share_of_them),
        WITH_USAGE(pods_that_have_just_started_do_not_count_by_their_start),
        WITH_USAGE(a_restart_makes_no_sudden_step_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
