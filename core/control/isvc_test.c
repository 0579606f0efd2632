#include <signal.h>

#include "core/control/fixture_test.h"
#include "core/control/isvc_predictor.h"

static const char DEMO[] =
    "{\"metadata\":{\"name\":\"demo\"},\"spec\":{\"predictor\":{\"model\":{\"modelFormat\":{"
    "\"name\":\"huggingface\"},\"storageUri\":\"embedded://demo-chat\"}}}}";

static json_t *isvc(struct fixture *f) {
    return fixture_get(f, KIND_INFERENCE_SERVICE, "demo");
}

static void an_inference_service_becomes_a_ready_process(void **state) {
    struct fixture *f = *state;
    f->ready_at_once = false;
    fixture_create(f, KIND_INFERENCE_SERVICE, DEMO);
    assert_int_equal(fixture_count(f, KIND_DEPLOYMENT), 1);
    assert_int_equal(fixture_count(f, KIND_REPLICA_SET), 1);
    assert_int_equal(fixture_count(f, KIND_POD), 1);
    struct fake_process *p = fixture_only_process(f);
    assert_non_null(strstr(p->argv, "inferd engine"));
    assert_non_null(strstr(p->argv, "--model_name=demo"));
    assert_non_null(strstr(p->argv, "--model embedded://demo-chat"));
    assert_condition(isvc(f), "Ready", "False", "MinimumReplicasUnavailable", NULL);
    assert_field(isvc(f), "status.modelStatus.states.targetModelState", "Loading");
    assert_int_equal(fixture_ready_replicas(f, "demo"), 0);

    fixture_set_phase(f, p, REPLICA_READY);
    fixture_settle(f);
    assert_condition(isvc(f), "Ready", "True", NULL, NULL);
    assert_condition(isvc(f), "PredictorReady", "True", NULL, NULL);
    assert_condition(isvc(f), "IngressReady", "True", NULL, NULL);
    assert_field(isvc(f), "status.url", "http://demo.default.example.com");
    assert_field(isvc(f), "status.address.url", "http://127.0.0.1:8080/serving/default/demo");
    assert_field(isvc(f), "status.modelStatus.transitionStatus", "UpToDate");
    assert_field(isvc(f), "status.modelStatus.states.activeModelState", "Loaded");
    assert_int_field(isvc(f), "status.modelStatus.copies.totalCopies", 1);
    assert_field(isvc(f), "status.components.predictor.latestReadyRevision",
                 "demo-predictor-00001");
    assert_int_field(isvc(f), "status.components.predictor.traffic.0.percent", 100);
    assert_int_field(isvc(f), "status.observedGeneration", 1);
    assert_field(isvc(f), "status.clusterServingRuntimeName", "inferd-engine");
    assert_field(fixture_nth(f, KIND_POD, 0), "spec.containers.0.name", "kserve-container");
    assert_field(fixture_nth(f, KIND_POD, 0), "metadata.labels.app", "isvc.demo-predictor");
    assert_field(fixture_nth(f, KIND_POD, 0), "status.phase", "Running");
    assert_int_equal(fixture_ready_replicas(f, "demo"), 1);
    static const char *const steps[] = {"ScalingReplicaSet",    "SuccessfulCreate", "Scheduled",
                                        "ModelFound",           "Created",          "Started",
                                        "InferenceServiceReady"};
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        if (fixture_events(f, steps[i], "") != 1)
            fail_msg("event %s: %lld", steps[i], (long long)fixture_events(f, steps[i], ""));
    }
    AUTO(traffic_table) t = traffic_current(f->traffic);
    assert_string_equal(t->services[0].models[0], "demo");
    assert_string_equal(t->services[0].hosts[0], "demo.default.example.com");
}

static void a_quiet_daemon_writes_nothing(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_INFERENCE_SERVICE, DEMO);
    fixture_advance(f, 10000);
    int64_t before = store_revision(f->store);
    fixture_advance(f, 240 * 1000);
    assert_int_equal(store_revision(f->store), before);
    fixture_advance(f, 300 * 1000);
    assert_int_equal(store_revision(f->store), before + 2); /* a heartbeat: Node, Lease */
}

static void a_service_scaled_to_zero_runs_nothing(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_INFERENCE_SERVICE, DEMO);
    fixture_patch(f, KIND_INFERENCE_SERVICE, "demo", "spec.predictor.minReplicas", "0");
    fixture_advance(f, f->config.scale_to_zero_idle_seconds * 1000 + 5000);
    assert_int_equal(fixture_count(f, KIND_POD), 0);
    assert_int_equal(fixture_num_processes(f), 0);
    assert_field(isvc(f), "status.modelStatus.states.activeModelState", "Standby");
    assert_condition(isvc(f), "Ready", "True", NULL, NULL);
    fixture_patch(f, KIND_INFERENCE_SERVICE, "demo", "spec.predictor.minReplicas", "3");
    fixture_pass(f);
    assert_int_equal(fixture_num_processes(f), 3);
    assert_int_equal(fixture_ready_replicas(f, "demo"), 3);
}

static void kubectl_scale_holds_until_the_service_changes(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_INFERENCE_SERVICE, DEMO);
    fixture_patch(f, KIND_DEPLOYMENT, "demo-predictor", "spec.replicas", "2");
    fixture_pass(f);
    assert_int_equal(fixture_num_processes(f), 2);
    fixture_patch(f, KIND_INFERENCE_SERVICE, "demo", "spec.predictor.maxReplicas", "1");
    fixture_pass(f);
    assert_int_equal(fixture_num_processes(f), 1);
}

/* The guide's manifest. */
static const char GUIDE[] =
    "{\"metadata\":{\"name\":\"demo\"},\"spec\":{\"predictor\":{\"containers\":[{\"image\":"
    "\"vllm/vllm-openai:latest\",\"args\":[\"--model\",\"meta-llama/Llama-3.1-8B-Instruct\"],"
    "\"resources\":{\"limits\":{\"nvidia.com/gpu\":\"1\"}}}]}}}";

static void without_a_gpu_the_guides_manifest_is_pending_in_the_schedulers_words(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_INFERENCE_SERVICE, GUIDE);
    assert_field(fixture_nth(f, KIND_POD, 0), "status.phase", "Pending");
    assert_condition(
        fixture_nth(f, KIND_POD, 0), "PodScheduled", "False", "Unschedulable",
        "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: 0/1 nodes are "
        "available: 1 No preemption victims found for incoming pod.");
    assert_int_equal(fixture_events(f, "FailedScheduling",
                                    "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."),
                     1);
    assert_condition(isvc(f), "Ready", "False", "Unschedulable", "Insufficient nvidia.com/gpu");
    assert_field(isvc(f), "status.modelStatus.transitionStatus", "InProgress");
    assert_int_equal(fixture_num_processes(f), 0);
}

static void the_guides_manifest_says_what_is_missing_and_runs_once_it_is_there(void **state) {
    struct fixture *f = *state;
    f->config.cpu_fallback = true;
    fixture_create(f, KIND_INFERENCE_SERVICE, GUIDE);
    assert_field(fixture_nth(f, KIND_POD, 0), "status.containerStatuses.0.state.waiting.reason",
                 "ModelNotFound");
    assert_condition(isvc(f), "Ready", "False", "ModelNotFound",
                     "meta-llama/Llama-3.1-8B-Instruct");
    assert_int_equal(fixture_events(f, "ModelNotFound", "models/meta-llama"), 2); /* pod, isvc */
    assert_field(isvc(f), "status.modelStatus.transitionStatus", "BlockedByFailedLoad");
    assert_field(isvc(f), "status.modelStatus.lastFailureInfo.reason", "ModelLoadFailed");
    fixture_advance(f, 60000);
    assert_int_equal(fixture_events(f, "ModelNotFound", "models/meta-llama"), 2);

    char path[256];
    snprintf(path, sizeof(path), "%s/meta-llama", f->models_dir);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof(path), "%s/meta-llama/Llama-3.1-8B-Instruct", f->models_dir);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof(path), "%s/meta-llama/Llama-3.1-8B-Instruct/config.json", f->models_dir);
    FILE *config = fopen(path, "w");
    fputs("{}", config);
    fclose(config);
    fixture_advance(f, 11000);
    assert_condition(isvc(f), "Ready", "True", NULL, NULL);
    assert_condition(isvc(f), "CPUFallback", "True", "NoGPU", "nvidia.com/gpu");
    assert_int_equal(fixture_events(f, "CPUFallback", "nvidia.com/gpu"), 1);
    AUTO(traffic_table) t = traffic_current(f->traffic);
    assert_string_equal(t->services[0].models[1], "meta-llama/Llama-3.1-8B-Instruct");
    assert_field(isvc(f), "status.modelStatus.lastFailureInfo.reason", NULL);
}

static void a_broken_model_tells_its_tensor_in_every_status(void **state) {
    struct fixture *f = *state;
    f->ready_at_once = false;
    fixture_create(f, KIND_INFERENCE_SERVICE, DEMO);
    const char *message =
        "load model x.gguf: tensor blk.0.attn_q.weight: offset 99 beyond file size";
    fixture_exit(f, fixture_only_process(f), 1, 0, message);
    fixture_settle(f); /* the first restart is at once */
    fixture_exit(f, fixture_only_process(f), 1, 0, message);
    fixture_settle(f);
    assert_field(fixture_nth(f, KIND_POD, 0), "status.containerStatuses.0.state.waiting.reason",
                 "CrashLoopBackOff");
    assert_field(fixture_nth(f, KIND_POD, 0),
                 "status.containerStatuses.0.lastState.terminated.message", message);
    assert_condition(isvc(f), "Ready", "False", "CrashLoopBackOff", "blk.0.attn_q.weight");
    assert_field(isvc(f), "status.modelStatus.transitionStatus", "BlockedByFailedLoad");
    assert_int_field(isvc(f), "status.modelStatus.lastFailureInfo.exitCode", 1);
    assert_field(isvc(f), "status.modelStatus.lastFailureInfo.message", message);
    assert_int_field(isvc(f), "status.modelStatus.copies.failedCopies", 1);
    AUTO(traffic_table) t = traffic_current(f->traffic);
    assert_false(t->services[0].waiting_may_help);
    assert_non_null(strstr(t->services[0].not_ready_reason, "attn_q"));
}

/* A crash that is no failed load: requests are held until the back-off is over. */
static void a_replica_that_served_and_crashed_is_waited_for(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_INFERENCE_SERVICE, DEMO);
    fixture_exit(f, fixture_only_process(f), 0, SIGKILL, "");
    fixture_settle(f); /* the first restart is at once */
    fixture_exit(f, fixture_only_process(f), 0, SIGKILL, "");
    fixture_pass(f);
    assert_field(fixture_nth(f, KIND_POD, 0), "status.containerStatuses.0.state.waiting.reason",
                 "CrashLoopBackOff");
    AUTO(traffic_table) t = traffic_current(f->traffic);
    assert_int_equal(traffic_num_ready(&t->services[0]), 0);
    assert_true(t->services[0].waiting_may_help);
}

static void a_drained_node_is_waited_for(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_INFERENCE_SERVICE, DEMO);
    fixture_patch(f, KIND_NODE, "gpu1", "spec.unschedulable", "true");
    json_t *pod = fixture_nth(f, KIND_POD, 0);
    fixture_delete(f, KIND_POD, object_name(pod), "Background", 30);
    json_decref(pod);
    fixture_pass(f);
    assert_condition(fixture_nth(f, KIND_POD, 0), "PodScheduled", "False", "Unschedulable",
                     "unschedulable");
    AUTO(traffic_table) t = traffic_current(f->traffic);
    assert_true(t->services[0].waiting_may_help);
    fixture_patch(f, KIND_NODE, "gpu1", "spec.unschedulable", "false");
    fixture_pass(f);
    assert_int_equal(fixture_ready_replicas(f, "demo"), 1);
}

static void an_update_rolls_without_a_gap(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_INFERENCE_SERVICE, DEMO);
    f->ready_at_once = false;
    fixture_patch(f, KIND_INFERENCE_SERVICE, "demo", "spec.predictor.model.args",
                  "[\"--max-model-len=256\"]");
    fixture_pass(f);
    assert_int_equal(fixture_num_processes(f), 2);
    assert_int_equal(fixture_ready_replicas(f, "demo"), 1);
    assert_condition(isvc(f), "Ready", "True", NULL, NULL);
    assert_field(isvc(f), "status.modelStatus.transitionStatus", "InProgress");
    for (int i = 0; i < FIXTURE_PROCESSES_MAX; i++) {
        if (f->processes[i].used && f->processes[i].state.phase == REPLICA_STARTING)
            fixture_set_phase(f, &f->processes[i], REPLICA_READY);
    }
    fixture_pass(f);
    assert_non_null(strstr(fixture_only_process(f)->argv, "--max-model-len=256"));
    assert_int_equal(fixture_ready_replicas(f, "demo"), 1);
    assert_field(isvc(f), "status.components.predictor.latestRolledoutRevision",
                 "demo-predictor-00002");
    assert_field(isvc(f), "status.components.predictor.previousRolledoutRevision",
                 "demo-predictor-00001");
}

static void an_update_with_the_only_gpu_gives_it_over(void **state) {
    struct fixture *f = *state;
    json_t *node = fixture_get(f, KIND_NODE, "gpu1");
    json_t *with_gpu = object_at(node, "status.allocatable");
    json_object_set_new(with_gpu, "nvidia.com/gpu", json_string("1"));
    AUTO_FREE char *allocatable = json_dumps(with_gpu, 0);
    json_decref(node);
    fixture_patch(f, KIND_NODE, "gpu1", "status.allocatable", allocatable);
    fixture_advance(f, 301 * 1000); /* a heartbeat, which leaves it in place */
    fixture_create(f, KIND_INFERENCE_SERVICE, DEMO);
    fixture_patch(f, KIND_INFERENCE_SERVICE, "demo", "spec.predictor.model.resources",
                  "{\"limits\":{\"nvidia.com/gpu\":\"1\"}}");
    fixture_pass(f);
    assert_condition(isvc(f), "Ready", "True", NULL, NULL);
    f->stops_at_once = false;
    fixture_patch(f, KIND_INFERENCE_SERVICE, "demo", "spec.predictor.model.args",
                  "[\"--max-model-len=256\"]");
    fixture_pass(f);
    assert_int_equal(fixture_ready_replicas(f, "demo"), 0);
    AUTO(traffic_table) t = traffic_current(f->traffic);
    assert_true(t->services[0].waiting_may_help); /* requests are held meanwhile */
    fixture_exit(f, fixture_only_process(f), 0, 0, "");
    fixture_pass(f);
    assert_non_null(strstr(fixture_only_process(f)->argv, "--max-model-len=256"));
    assert_condition(isvc(f), "Ready", "True", NULL, NULL);
    assert_field(isvc(f), "status.modelStatus.transitionStatus", "UpToDate");
}

static void deleting_the_service_deletes_everything(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_INFERENCE_SERVICE, DEMO);
    fixture_delete(f, KIND_INFERENCE_SERVICE, "demo", "Background", 0);
    fixture_pass(f);
    assert_int_equal(fixture_count(f, KIND_DEPLOYMENT), 0);
    assert_int_equal(fixture_count(f, KIND_REPLICA_SET), 0);
    assert_int_equal(fixture_count(f, KIND_POD), 0);
    assert_int_equal(fixture_num_processes(f), 0);
    assert_int_equal(fixture_ready_replicas(f, "demo"), -1);
    assert_int_equal(fixture_count(f, KIND_SERVICE), 1); /* kubernetes */
}

static void a_daemon_that_was_killed_comes_back_with_its_services(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_INFERENCE_SERVICE, DEMO);
    json_t *pod = fixture_nth(f, KIND_POD, 0);
    AUTO_FREE char *name = mem_strdup(object_name(pod));
    json_decref(pod);
    fixture_end_daemon(f);
    fixture_start_daemon(f);
    fixture_pass(f);
    assert_string_equal(fixture_only_process(f)->pod, name);
    assert_int_field(fixture_nth(f, KIND_POD, 0), "status.containerStatuses.0.restartCount", 0);
    assert_condition(isvc(f), "Ready", "True", NULL, NULL);
    assert_int_equal(fixture_ready_replicas(f, "demo"), 1);
    assert_int_equal(fixture_count(f, KIND_POD), 1);
}

static void what_cannot_run_says_why_in_kserves_words(void **state) {
    struct fixture *f = *state;
    static const struct {
        const char *predictor, *reason, *part;
    } rows[] = {
        {"{\"sklearn\":{\"storageUri\":\"gs://x/y\"}}", "NoSupportingRuntime", "sklearn"},
        {"{\"model\":{\"modelFormat\":{\"name\":\"onnx\"},\"storageUri\":\"file:///x\"}}",
         "NoSupportingRuntime", "onnx"},
        {"{\"model\":{\"modelFormat\":{\"name\":\"gguf\"},\"runtime\":\"none\"}}",
         "RuntimeNotRecognized", "\"none\""},
        {"{\"model\":{\"modelFormat\":{\"name\":\"gguf\"},\"storageUri\":\"s3://b/m\"}}",
         "ModelLoadFailed", "s3://b/m"},
        {"{\"containers\":[{\"name\":\"kserve-container\",\"image\":\"nginx:1\"}]}",
         "NoSupportingRuntime", "nginx:1"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO_FREE char *text = mem_printf(
            "{\"metadata\":{\"name\":\"demo\"},\"spec\":{\"predictor\":%s}}", rows[i].predictor);
        fixture_create(f, KIND_INFERENCE_SERVICE, text);
        assert_condition(isvc(f), "PredictorReady", "False", rows[i].reason, rows[i].part);
        assert_field(isvc(f), "status.modelStatus.transitionStatus", "InvalidSpec");
        assert_field(isvc(f), "status.modelStatus.lastFailureInfo.reason", rows[i].reason);
        assert_true(fixture_events(f, rows[i].reason, rows[i].part) > 0);
        assert_int_equal(fixture_count(f, KIND_DEPLOYMENT), 0);
        fixture_delete(f, KIND_INFERENCE_SERVICE, "demo", "Background", 0);
    }
}

static void a_runtime_that_appears_is_used(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_INFERENCE_SERVICE,
                   "{\"metadata\":{\"name\":\"demo\"},\"spec\":{\"predictor\":{\"model\":{"
                   "\"modelFormat\":{\"name\":\"mine\"},\"args\":[\"--seed=3\"],\"storageUri\":"
                   "\"embedded://demo-chat\"}}}}");
    assert_condition(isvc(f), "PredictorReady", "False", "NoSupportingRuntime", NULL);
    fixture_create(
        f, KIND_SERVING_RUNTIME,
        "{\"metadata\":{\"name\":\"rt\"},\"spec\":{\"supportedModelFormats\":[{\"name\":"
        "\"mine\",\"autoSelect\":true}],\"containers\":[{\"name\":\"kserve-container\","
        "\"image\":\"vllm/vllm-openai\",\"args\":[\"--served-model-name={{.Name}}\"]}]}}");
    fixture_settle(f);
    assert_condition(isvc(f), "Ready", "True", NULL, NULL);
    assert_field(isvc(f), "status.servingRuntimeName", "rt");
    assert_non_null(strstr(fixture_only_process(f)->argv, "--served-model-name=demo --seed=3"));
}

static void services_are_found_whatever_their_namespaces_are_called(void **state) {
    struct fixture *f = *state;
    static const char *const names[] = {"team", "team-a", "team-a-b", "te", "team.b"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct error err = ERROR_INIT;
        struct object_key key;
        json_t *isvc = fixture_json(DEMO);
        object_set(isvc, "apiVersion", json_string("serving.kserve.io/v1beta1"));
        object_set(isvc, "kind", json_string("InferenceService"));
        object_set(isvc, "metadata.namespace", json_string(names[i]));
        object_stamp_new(isvc, true, f->wall_ms);
        object_key(&key, "serving.kserve.io", "inferenceservices", names[i], object_name(isvc));
        assert_int_equal(store_put(f->store, key.text, isvc, STORE_EXPECT_ABSENT, NULL, &err), OK);
    }
    fixture_settle(f);
    AUTO(traffic_table) t = traffic_current(f->traffic);
    assert_int_equal(t->num_services, ARRAY_LEN(names));
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        assert_non_null(traffic_find(t, names[i], t->services[0].name));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(services_are_found_whatever_their_namespaces_are_called),
        FIXTURE_TEST(an_inference_service_becomes_a_ready_process),
        FIXTURE_TEST(a_quiet_daemon_writes_nothing),
        FIXTURE_TEST(a_service_scaled_to_zero_runs_nothing),
        FIXTURE_TEST(kubectl_scale_holds_until_the_service_changes),
        FIXTURE_TEST(without_a_gpu_the_guides_manifest_is_pending_in_the_schedulers_words),
        FIXTURE_TEST(the_guides_manifest_says_what_is_missing_and_runs_once_it_is_there),
        FIXTURE_TEST(a_broken_model_tells_its_tensor_in_every_status),
        FIXTURE_TEST(a_replica_that_served_and_crashed_is_waited_for),
        FIXTURE_TEST(a_drained_node_is_waited_for),
        FIXTURE_TEST(an_update_rolls_without_a_gap),
        FIXTURE_TEST(an_update_with_the_only_gpu_gives_it_over),
        FIXTURE_TEST(deleting_the_service_deletes_everything),
        FIXTURE_TEST(a_daemon_that_was_killed_comes_back_with_its_services),
        FIXTURE_TEST(what_cannot_run_says_why_in_kserves_words),
        FIXTURE_TEST(a_runtime_that_appears_is_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
