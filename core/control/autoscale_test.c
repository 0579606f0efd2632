/* The autoscaler on a real store and a clock of the test's: load in, replicas out. */
#include "core/control/autoscale.h"

#include "core/control/autoscale_plan.h"
#include "core/control/fixture_test.h"
#include "core/control/replica_figures.h"
#include "core/control/isvc_autoscaler.h"
#include "core/decision_log.h"
#include "core/control/events.h"

static struct autoscale_plan plan_of(const char *text) {
    struct autoscale_plan plan;
    json_t *isvc = fixture_json(text);
    autoscale_plan(isvc, NULL, &plan);
    json_decref(isvc);
    return plan;
}

#define PREDICTOR(fields) "{\"spec\":{\"predictor\":{" fields "}}}"
#define ANNOTATED(annotations, fields)                                                             \
    "{\"metadata\":{\"annotations\":{" annotations "}},\"spec\":{\"predictor\":{" fields "}}}"

static void fields_say_whether_and_how_a_service_scales(void **state) {
    static const struct {
        const char *isvc;
        enum autoscale_rule rule;
        int32_t min, max, initial;
    } rows[] = {
        {PREDICTOR(""), AUTOSCALE_NONE, 1, 1, 1},
        {PREDICTOR("\"minReplicas\":3"), AUTOSCALE_NONE, 3, 3, 3},
        {PREDICTOR("\"minReplicas\":2,\"maxReplicas\":2"), AUTOSCALE_NONE, 2, 2, 2},
        {PREDICTOR("\"minReplicas\":0"), AUTOSCALE_INFERENCE, 0, 1, 1},
        {PREDICTOR("\"maxReplicas\":4"), AUTOSCALE_INFERENCE, 1, 4, 1},
        {PREDICTOR("\"maxReplicas\":4,\"scaleMetric\":\"rps\""), AUTOSCALE_KNATIVE, 1, 4, 1},
        {ANNOTATED("\"autoscaling.knative.dev/target\":\"5\"", "\"maxReplicas\":4"),
         AUTOSCALE_KNATIVE, 1, 4, 1},
        {ANNOTATED("\"autoscaling.knative.dev/min-scale\":\"2\","
                   "\"autoscaling.knative.dev/max-scale\":\"9\","
                   "\"autoscaling.knative.dev/initial-scale\":\"4\"",
                   ""),
         AUTOSCALE_INFERENCE, 2, 9, 4},
        {PREDICTOR("\"maxReplicas\":4,\"scaleMetric\":\"cpu\""), AUTOSCALE_OBJECT, 1, 4, 1},
        {PREDICTOR("\"minReplicas\":0,\"maxReplicas\":4,\"scaleMetric\":\"memory\""),
         AUTOSCALE_OBJECT, 1, 4, 1},
        {PREDICTOR("\"maxReplicas\":4,\"autoScaling\":{\"metrics\":[{\"type\":\"Resource\"}]}"),
         AUTOSCALE_OBJECT, 1, 4, 1},
        {PREDICTOR("\"maxReplicas\":4,\"autoScaling\":{\"metrics\":[{\"type\":\"External\"}]}"),
         AUTOSCALE_INFERENCE, 1, 4, 1},
        {PREDICTOR("\"maxReplicas\":1,\"scaleMetric\":\"cpu\""), AUTOSCALE_NONE, 1, 1, 1},
        {ANNOTATED("\"serving.kserve.io/autoscalerClass\":\"hpa\"", "\"maxReplicas\":4"),
         AUTOSCALE_OBJECT, 1, 4, 1},
        {ANNOTATED("\"autoscaling.knative.dev/class\":\"hpa.autoscaling.knative.dev\","
                   "\"autoscaling.knative.dev/maxScale\":\"3\"",
                   ""),
         AUTOSCALE_OBJECT, 1, 3, 1},
        {ANNOTATED("\"autoscaling.knative.dev/minScale\":\"2\","
                   "\"autoscaling.knative.dev/targetUtilizationPercentage\":\"50\"",
                   "\"maxReplicas\":4"),
         AUTOSCALE_KNATIVE, 2, 4, 2},
        {ANNOTATED("\"serving.kserve.io/autoscalerClass\":\"external\"", "\"maxReplicas\":4"),
         AUTOSCALE_NONE, 1, 4, 1},
        {ANNOTATED("\"serving.kserve.io/stop\":\"true\"", "\"minReplicas\":0"), AUTOSCALE_NONE, 0,
         1, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct autoscale_plan plan = plan_of(rows[i].isvc);
        print_message("  %s\n", rows[i].isvc);
        assert_int_equal(plan.rule, rows[i].rule);
        assert_int_equal(plan.min, rows[i].min);
        assert_int_equal(plan.max, rows[i].max);
        assert_int_equal(plan.initial, rows[i].initial);
    }
}

static void knatives_annotations_are_read(void **state) {
    struct autoscale_plan plan = plan_of(ANNOTATED(
        "\"autoscaling.knative.dev/metric\":\"rps\",\"autoscaling.knative.dev/target\":\"12.5\","
        "\"autoscaling.knative.dev/target-utilization-percentage\":\"80\","
        "\"autoscaling.knative.dev/window\":\"1m30s\","
        "\"autoscaling.knative.dev/panic-window-percentage\":\"20\","
        "\"autoscaling.knative.dev/panic-threshold-percentage\":\"150\","
        "\"autoscaling.knative.dev/scale-down-delay\":\"500ms\","
        "\"autoscaling.knative.dev/activation-scale\":\"3\","
        "\"autoscaling.knative.dev/scale-to-zero-pod-retention-period\":\"2h\"",
        "\"minReplicas\":0,\"maxReplicas\":8,\"containerConcurrency\":4"));
    assert_int_equal(plan.rule, AUTOSCALE_KNATIVE);
    assert_int_equal(plan.kpa.metric, KPA_RPS);
    assert_float_equal(plan.kpa.target, 12.5, 1e-9);
    assert_float_equal(plan.kpa.target_utilization, 0.8, 1e-9);
    assert_int_equal(plan.kpa.window_ms, 90000);
    assert_float_equal(plan.kpa.panic_window_percentage, 20, 1e-9);
    assert_float_equal(plan.kpa.panic_threshold, 150, 1e-9);
    assert_int_equal(plan.kpa.scale_down_delay_ms, 500);
    assert_int_equal(plan.kpa.activation_scale, 3);
    assert_int_equal(plan.kpa.pod_retention_ms, 7200 * 1000);
    assert_int_equal(plan.kpa.container_concurrency, 4);
}

static void values_that_knative_refuses_are_refused(void **state) {
    static const char *const bad[][2] = {
        {"target", "0"},
        {"target", "many"},
        {"target", "1e10"},
        {"window", "5s"},
        {"window", "61m"},
        {"window", "60"},
        {"window", ""},
        {"window", "1x"},
        {"window", "-6s"},
        {"initial-scale", "1.5"},
        {"activation-scale", "0"},
        {"min-scale", "-1"},
        {"metric", "latency"},
        {"max-scale", "1 000"},
        {"panic-threshold-percentage", "100"},
        {"target", "nan"},
        {"scale-down-delay", "2h"},
        {"target-utilization-percentage", "0"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct error err = ERROR_INIT;
        AUTO_FREE char *key = mem_printf("autoscaling.knative.dev/%s", bad[i][0]);
        json_t *isvc = json_pack("{s:{s:{s:s}}}", "metadata", "annotations", key, bad[i][1]);
        print_message("  %s: %s\n", key, bad[i][1]);
        assert_int_equal(autoscale_check(isvc, &err), ERR_INVALID);
        assert_non_null(strstr(err.text, key));
        json_decref(isvc);
    }
}

static void the_knobs_of_the_own_rule_are_read_and_bounded(void **state) {
    struct autoscale_plan plan = plan_of(
        ANNOTATED("\"inferd.dev/scale-window\":\"5m\",\"inferd.dev/scale-readiness\":\"0.5\"",
                  "\"maxReplicas\":8"));
    assert_int_equal(plan.rule, AUTOSCALE_INFERENCE); /* they do not ask for Knative's */
    assert_int_equal(plan.inference.window_ms, 300 * 1000);
    assert_float_equal(plan.inference.readiness, 0.5, 1e-9);
    static const char *const bad[][2] = {{"inferd.dev/scale-window", "2h"},
                                         {"inferd.dev/scale-window", "30"},
                                         {"inferd.dev/scale-readiness", "1"},
                                         {"inferd.dev/scale-readiness", "-0.1"}};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct error err = ERROR_INIT;
        json_t *isvc = json_pack("{s:{s:{s:s}}}", "metadata", "annotations", bad[i][0], bad[i][1]);
        assert_int_equal(autoscale_check(isvc, &err), ERR_INVALID);
        assert_non_null(strstr(err.text, bad[i][0]));
        assert_non_null(strstr(err.text, bad[i][1]));
        json_decref(isvc);
    }
}

/* ---- objects of the service's own ---- */

static const char BY_CPU[] = "{\"metadata\":{\"name\":\"demo\"},\"spec\":{\"predictor\":{"
                             "\"maxReplicas\":4,\"scaleMetric\":\"cpu\",\"scaleTarget\":60,"
                             "\"model\":{\"modelFormat\":{\"name\":\"gguf\"},\"storageUri\":"
                             "\"embedded://demo-chat\"}}}}";

static void a_metric_of_pods_makes_an_object(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_INFERENCE_SERVICE, BY_CPU);
    fixture_pass(f);
    json_t *hpa = fixture_get(f, KIND_HORIZONTAL_POD_AUTOSCALER, "demo-predictor");
    json_t *isvc = fixture_get(f, KIND_INFERENCE_SERVICE, "demo");
    assert_non_null(hpa);
    assert_true(object_controlled_by(hpa, isvc));
    assert_string_equal(object_str(hpa, "spec.scaleTargetRef.name"), "demo-predictor");
    assert_int_equal(object_int(hpa, "spec.minReplicas", -1), 1);
    assert_int_equal(object_int(hpa, "spec.maxReplicas", -1), 4);
    assert_string_equal(object_str(hpa, "spec.metrics.0.resource.name"), "cpu");
    assert_int_equal(object_int(hpa, "spec.metrics.0.resource.target.averageUtilization", -1), 60);
    /* It is the one that scales: its own service does not stand in its way. */
    const json_t *active = object_find_condition(hpa, "ScalingActive");
    assert_string_equal(object_str(active, "reason"), "FailedGetResourceMetric");
    json_decref(hpa);
    json_decref(isvc);
    fixture_patch(
        f, KIND_INFERENCE_SERVICE, "demo", "spec.predictor.autoScaling",
        "{\"metrics\":[{\"type\":\"Resource\",\"resource\":{\"name\":\"memory\",\"target\":{"
        "\"type\":\"AverageValue\",\"averageValue\":\"1Gi\"}}}],\"behavior\":{\"scaleDown\":{"
        "\"stabilizationWindowSeconds\":7}}}");
    fixture_pass(f);
    hpa = fixture_get(f, KIND_HORIZONTAL_POD_AUTOSCALER, "demo-predictor");
    assert_string_equal(object_str(hpa, "spec.metrics.0.resource.target.averageValue"), "1Gi");
    assert_int_equal(object_int(hpa, "spec.behavior.scaleDown.stabilizationWindowSeconds", -1), 7);
    json_decref(hpa);
    fixture_delete(f, KIND_HORIZONTAL_POD_AUTOSCALER, "demo-predictor", "Background", 0);
    fixture_pass(f);
    hpa = fixture_get(f, KIND_HORIZONTAL_POD_AUTOSCALER, "demo-predictor");
    assert_non_null(hpa); /* it is made anew */
    json_decref(hpa);
    fixture_patch(f, KIND_INFERENCE_SERVICE, "demo", "spec.predictor.autoScaling", "{}");
    fixture_patch(f, KIND_INFERENCE_SERVICE, "demo", "spec.predictor.scaleMetric", "\"rps\"");
    fixture_pass(f);
    assert_null(fixture_get(f, KIND_HORIZONTAL_POD_AUTOSCALER, "demo-predictor"));
}

static void metrics_of_a_service_are_checked_by_its_own_field_names(void **state) {
    static const struct {
        const char *isvc, *text;
    } rows[] = {
        {PREDICTOR(
             "\"autoScaling\":{\"metrics\":[{\"type\":\"Resource\",\"resource\":{\"name\":\"cpu\","
             "\"target\":{\"type\":\"Utilization\",\"averageUtilization\":0}}}]}"),
         "spec.predictor.autoScaling.metrics[0].resource.target.averageUtilization: Invalid value: "
         "0"},
        {PREDICTOR("\"autoScaling\":{\"behavior\":{\"scaleUp\":{\"stabilizationWindowSeconds\":"
                   "4000}}}"),
         "spec.predictor.autoScaling.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: "
         "4000"},
        {ANNOTATED("\"serving.kserve.io/targetUtilizationPercentage\":\"much\"", ""),
         "metadata.annotations[serving.kserve.io/targetUtilizationPercentage]: Invalid value: "
         "\"much\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        json_t *isvc = fixture_json(rows[i].isvc);
        assert_int_equal(isvc_autoscaler_check(isvc, &err), ERR_INVALID);
        print_message("  %s\n", err.text);
        assert_non_null(strstr(err.text, rows[i].text));
        json_decref(isvc);
    }
}

/* ---- the loop ---- */

static const char ASLEEP[] = "{\"metadata\":{\"name\":\"demo\"},\"spec\":{\"predictor\":{"
                             "\"minReplicas\":0,\"maxReplicas\":4,"
                             "\"scaleTarget\":2,\"model\":{\"modelFormat\":{\"name\":\"gguf\"},"
                             "\"storageUri\":\"embedded://demo-chat\"}}}}";

static struct traffic_turn *turn_of(struct fixture *f) {
    AUTO(traffic_table) table = traffic_current(f->traffic);
    const struct traffic_service *s = traffic_find(table, "default", "demo");
    assert_non_null(s);
    return s->turn; /* lives as long as the service is in the table */
}

/* num more requests, or fewer, at the clock's time. */
static void change_load(struct fixture *f, int num) {
    for (int i = 0; i < (num < 0 ? -num : num); i++)
        traffic_load_change(&turn_of(f)->load, num < 0 ? -1 : 1, f->mono_ms * 1000000);
}

static int64_t replicas(struct fixture *f) {
    json_t *d = fixture_get(f, KIND_DEPLOYMENT, "demo-predictor");
    int64_t n = object_int(d, "spec.replicas", -1);
    json_decref(d);
    return n;
}

static void idle_goes_to_zero_and_a_request_brings_it_back(void **state) {
    struct fixture *f = *state;
    f->ready_at_once = f->stops_at_once = true;
    fixture_create(f, KIND_INFERENCE_SERVICE, ASLEEP);
    fixture_pass(f);
    assert_int_equal(replicas(f), 1); /* it shows that it can run */
    fixture_advance(f, f->config.scale_to_zero_idle_seconds * 1000 + 5000);
    assert_int_equal(replicas(f), 0);
    assert_int_equal(fixture_num_processes(f), 0);
    assert_true(fixture_events(f, "SuccessfulRescale", "New size: 0 (was 1); reason: Idle") == 1);
    AUTO(traffic_table) table = traffic_current(f->traffic);
    const struct traffic_service *s = traffic_find(table, "default", "demo");
    assert_true(s->waiting_may_help);
    assert_string_equal(s->not_ready_reason, "it is scaled to zero");
    change_load(f, 1);
    traffic_ask(f->traffic, s->turn);
    fixture_settle(f); /* at once, not at the next tick */
    assert_int_equal(replicas(f), 1);
    assert_int_equal(fixture_num_processes(f), 1);
    change_load(f, -1);
}

/* What went wrong with a replica that is not there any more does not keep the next one away. */
static void a_failure_before_zero_does_not_keep_a_request_from_waking_it(void **state) {
    struct fixture *f = *state;
    f->ready_at_once = false;
    f->stops_at_once = true;
    fixture_create(f, KIND_INFERENCE_SERVICE, ASLEEP);
    for (int i = 0; i < 2; i++) {
        fixture_exit(f, fixture_only_process(f), 1, 0, "killed while it started");
        fixture_settle(f);
    }
    json_t *failed = fixture_get(f, KIND_INFERENCE_SERVICE, "demo");
    assert_field(failed, "status.modelStatus.transitionStatus", "BlockedByFailedLoad");
    fixture_advance(f, f->config.scale_to_zero_idle_seconds * 1000 + 5000);
    assert_int_equal(fixture_count(f, KIND_POD), 0);
    AUTO(traffic_table) table = traffic_current(f->traffic);
    assert_true(traffic_find(table, "default", "demo")->waiting_may_help);
}

static void load_is_followed_within_the_bounds(void **state) {
    struct fixture *f = *state;
    f->ready_at_once = f->stops_at_once = true;
    fixture_create(f, KIND_INFERENCE_SERVICE, ASLEEP);
    fixture_pass(f);
    fixture_patch(
        f, KIND_DEPLOYMENT, "demo-predictor", "metadata.managedFields",
        "\"[{\\\"manager\\\":\\\"user\\\",\\\"operation\\\":\\\"Apply\\\",\\\"fieldsV1\\\":"
        "{\\\"f:spec\\\":{\\\"f:replicas\\\":{}}}}]\"");
    change_load(f, 5);
    fixture_advance(f, 10000);
    assert_int_equal(replicas(f), 3); /* two each */
    json_t *scaled = fixture_get(f, KIND_DEPLOYMENT, "demo-predictor");
    const char *owners = object_str(scaled, "metadata.managedFields");
    assert_non_null(strstr(owners, "kube-controller-manager"));
    assert_null(strstr(owners, "user")); /* whose field it was */
    json_decref(scaled);
    change_load(f, 100);
    fixture_advance(f, 10000);
    assert_int_equal(replicas(f), 4);
    fixture_patch(f, KIND_INFERENCE_SERVICE, "demo", "spec.predictor.maxReplicas", "2");
    fixture_pass(f);
    assert_int_equal(replicas(f), 2);
    change_load(f, -105);
    fixture_advance(f, 3600 * 1000);
    assert_int_equal(replicas(f), 0);
    fixture_patch(f, KIND_INFERENCE_SERVICE, "demo", "spec.predictor.minReplicas", "1");
    fixture_pass(f);
    assert_int_equal(replicas(f), 1);
}

static void scaled_to_zero_by_hand_switches_it_off(void **state) {
    struct fixture *f = *state;
    f->ready_at_once = f->stops_at_once = true;
    fixture_create(f, KIND_INFERENCE_SERVICE, ASLEEP);
    fixture_patch(f, KIND_INFERENCE_SERVICE, "demo", "spec.predictor.minReplicas", "1");
    fixture_pass(f);
    fixture_patch(f, KIND_DEPLOYMENT, "demo-predictor", "spec.replicas", "0");
    change_load(f, 10);
    fixture_advance(f, 60000);
    assert_int_equal(replicas(f), 0);
    change_load(f, -10);
}

static void a_service_that_cannot_start_is_not_started_over_and_over(void **state) {
    struct fixture *f = *state;
    f->stops_at_once = true;
    fixture_create(f, KIND_INFERENCE_SERVICE, ASLEEP);
    fixture_pass(f);
    int64_t rescales = fixture_events(f, "SuccessfulRescale", "");
    change_load(f, 1);
    fixture_advance(f, 120 * 1000);
    assert_int_equal(replicas(f), 1);
    assert_int_equal(fixture_events(f, "SuccessfulRescale", ""), rescales);
    assert_int_equal(f->num_starts, 1);
    change_load(f, -1);
}

static void reading_a_load_gives_its_integral(void **state) {
    struct traffic_load l = {0};
    struct traffic_load_view v;
    int64_t second_ns = 1000000000;
    traffic_load_change(&l, 1, 10 * second_ns);
    traffic_load_change(&l, 1, 12 * second_ns);
    traffic_load_change(&l, -1, 13 * second_ns);
    traffic_load_read(&l, 20 * second_ns, &v);
    assert_int_equal(v.open, 1);
    assert_int_equal(v.arrivals, 2);
    assert_float_equal(v.request_seconds, 2 + 2 + 7, 1e-6);
    traffic_load_read(&l, 5 * second_ns, &v); /* a clock that is behind adds nothing */
    assert_float_equal(v.request_seconds, 4, 1e-6);
    assert_int_equal(traffic_load_expected_ms(&l, 0), -1);
    l.start_ms = 1500;
    assert_int_equal(traffic_load_expected_ms(&l, 5000), 1500);
    l.starting_since_ms = 4000;
    assert_int_equal(traffic_load_expected_ms(&l, 5000), 500);
    assert_int_equal(traffic_load_expected_ms(&l, 9000), 1);
}

/* ---- what replicas say ---- */

static int setup_with_figures(void **state) {
    int rc = fixture_setup(state);
    struct fixture *f = *state;
    fixture_end_daemon(f);
    f->series = series_create(NULL);
    f->figures = figure_reader_create(f->series);
    f->decisions = decision_log_create();
    fixture_start_daemon(f);
    return rc;
}

static int teardown_with_figures(void **state) {
    struct fixture *f = *state;
    struct series *series = f->series;
    struct figure_reader *figures = f->figures;
    struct decision_log *decisions = f->decisions;
    int rc = fixture_teardown(state);
    figure_reader_destroy(figures);
    series_destroy(series);
    decision_log_destroy(decisions);
    return rc;
}

static void say_figure(struct series_source *source, struct fixture *f, const char *name,
                       double value) {
    struct error err = ERROR_INIT;
    const struct label labels[] = {
        {LABEL_NAME, name}, {"namespace", "default"}, {"inferenceservice", "demo"}, {"pod", "p"}};
    assert_int_equal(series_put(source, labels, ARRAY_LEN(labels), f->wall_ms, value, &err), OK);
}

/* For so long, every 5 seconds: a look at the replica, and what it says; below 0: nothing. */
static void look_for(struct series_source *source, struct fixture *f, int seconds, double up,
                     double kv) {
    for (int i = 0; i < seconds; i += 5) {
        say_figure(source, f, "up", up);
        if (kv >= 0)
            say_figure(source, f, "vllm:kv_cache_usage_perc", kv);
        series_source_end(source, f->wall_ms);
        figure_reader_update(f->figures, f->wall_ms);
        fixture_advance(f, 5000);
    }
}

static void full_caches_ask_for_more_and_their_silence_takes_nothing_away(void **state) {
    struct fixture *f = *state;
    struct series_source *source = series_source_open(f->series);
    AUTO_BUF lines = BUF_INIT;
    fixture_create(f, KIND_INFERENCE_SERVICE, ASLEEP);
    fixture_patch(f, KIND_INFERENCE_SERVICE, "demo", "spec.predictor.minReplicas", "1");
    fixture_pass(f);
    change_load(f, 1); /* half of what a replica serves, but for its cache */
    look_for(source, f, 20, 1, 0.5);
    assert_int_equal(replicas(f), 1);
    look_for(source, f, 20, 1, 0.99);
    int64_t grown = replicas(f);
    assert_true(grown > 1);
    decision_log_write(f->decisions, &lines);
    assert_non_null(strstr(lines.data, " kv_usage=0.99"));
    look_for(source, f, 3600, 0, -1); /* no replica can be asked any more */
    change_load(f, -1);
    look_for(source, f, 3600, 0, -1);
    assert_true(replicas(f) >= grown);
    look_for(source, f, 7200, 1, 0);
    assert_int_equal(replicas(f), 1);
    series_source_close(source, f->wall_ms + 1);
}

static void goals_of_latency_are_read_and_checked(void **state) {
    struct error err = ERROR_INIT;
    struct autoscale_plan plan = plan_of(
        ANNOTATED("\"inferd.dev/ttft-p95-goal\":\"750ms\",\"inferd.dev/itl-p95-goal\":\"50ms\","
                  "\"inferd.dev/queued-tokens-per-replica\":\"4096\"",
                  "\"maxReplicas\":4"));
    assert_int_equal(plan.rule, AUTOSCALE_INFERENCE);
    assert_float_equal(plan.inference.ttft_goal_seconds, 0.75, 1e-9);
    assert_float_equal(plan.inference.itl_goal_seconds, 0.05, 1e-9);
    assert_float_equal(plan.inference.queued_tokens, 4096, 1e-9);
    json_t *bad = fixture_json(ANNOTATED("\"inferd.dev/ttft-p95-goal\":\"2h\"", ""));
    assert_int_equal(autoscale_check(bad, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "metadata.annotations[inferd.dev/ttft-p95-goal]: Invalid "
                                     "value: \"2h\": must be a duration such as 60s within "
                                     "0.001s..3600s"));
    json_decref(bad);
}

/* ---- many ---- */

enum { MANY = 1000 };

/* Gives the ms that one look at all services takes. */
static double time_tick(struct world *w) {
    int64_t began_ns = clock_mono_ns();
    assert_int_equal(autoscale_tick(w), MANY);
    return (double)(clock_mono_ns() - began_ns) / 1e6;
}

/* Prints the bar's figure (a decision for 1,000 services in less than 5 ms, optimised); what it
 * asserts does not depend on the time. */
static void a_thousand_services_are_looked_at_at_once(void **state) {
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    struct store_write writes[2];
    char name[32], child[48];
    AUTO(metrics) metrics = metrics_create();
    struct world w = {.store = f->store,
                      .config = &f->config,
                      .traffic = f->traffic,
                      .metrics = metrics,
                      .decisions = decision_log_create(),
                      .autoscale = autoscale_table_create(),
                      .events = events_create(),
                      .node_name = "gpu1"};
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof(name), "demo-%04d", i);
        snprintf(child, sizeof(child), "%s-predictor", name);
        json_t *isvc = fixture_json(PREDICTOR("\"maxReplicas\":4,\"scaleTarget\":2"));
        json_t *deployment = fixture_json("{\"spec\":{\"replicas\":2}}");
        object_set(isvc, "apiVersion", json_string("serving.kserve.io/v1beta1"));
        object_set(isvc, "kind", json_string("InferenceService"));
        object_set(isvc, "metadata",
                   json_pack("{s:s, s:s, s:s}", "name", name, "namespace", "many", "uid", name));
        object_set(deployment, "metadata",
                   json_pack("{s:s, s:s, s:[o]}", "name", child, "namespace", "many",
                             "ownerReferences", object_owner_ref(isvc)));
        AUTO_FREE char *isvc_key = mem_printf("serving.kserve.io/inferenceservices/many/%s", name);
        AUTO_FREE char *key = mem_printf("apps/deployments/many/%s", child);
        writes[0] = (struct store_write){isvc_key, isvc, STORE_EXPECT_ABSENT};
        writes[1] = (struct store_write){key, deployment, STORE_EXPECT_ABSENT};
        assert_int_equal(store_commit(f->store, writes, 2, NULL, &err), OK);
    }
    double ms[9];
    for (size_t i = 0; i < ARRAY_LEN(ms); i++) {
        w.mono_ms = 1000 + (int64_t)i * AUTOSCALE_TICK_MS;
        w.wall_ms = f->wall_ms + (int64_t)i * AUTOSCALE_TICK_MS;
        ms[i] = time_tick(&w);
    }
    double best = ms[1];
    for (size_t i = 2; i < ARRAY_LEN(ms); i++)
        best = ms[i] < best ? ms[i] : best;
    print_message("  %d services: %.2f ms, the first time %.2f ms\n", MANY, best, ms[0]);
    AUTO_BUF lines = BUF_INIT;
    decision_log_write(w.decisions, &lines);
    assert_non_null(strstr(lines.data, "inferenceservice=demo-0999 rule=inference from=2 to=2 "
                                       "reason=MissingMetrics"));
    autoscale_table_destroy(w.autoscale);
    events_destroy(w.events);
    decision_log_destroy(w.decisions);
}

#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_say_whether_and_how_a_service_scales),
        cmocka_unit_test(knatives_annotations_are_read),
        cmocka_unit_test(values_that_knative_refuses_are_refused),
        cmocka_unit_test(the_knobs_of_the_own_rule_are_read_and_bounded),
        cmocka_unit_test(reading_a_load_gives_its_integral),
        cmocka_unit_test(metrics_of_a_service_are_checked_by_its_own_field_names),
        WITH_FIXTURE(a_metric_of_pods_makes_an_object),
        WITH_FIXTURE(idle_goes_to_zero_and_a_request_brings_it_back),
        WITH_FIXTURE(a_failure_before_zero_does_not_keep_a_request_from_waking_it),
        WITH_FIXTURE(load_is_followed_within_the_bounds),
        WITH_FIXTURE(a_thousand_services_are_looked_at_at_once),
        cmocka_unit_test(goals_of_latency_are_read_and_checked),
        cmocka_unit_test_setup_teardown(
            full_caches_ask_for_more_and_their_silence_takes_nothing_away, setup_with_figures,
            teardown_with_figures),
        WITH_FIXTURE(scaled_to_zero_by_hand_switches_it_off),
        WITH_FIXTURE(a_service_that_cannot_start_is_not_started_over_and_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
