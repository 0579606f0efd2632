/* InferenceServices whose runtime, or container, is a process of this machine. */
#include "core/control/fixture_test.h"

static const char RUNTIME[] =
    "{\"metadata\":{\"name\":\"py\"},\"spec\":{\"supportedModelFormats\":[{\"name\":\"gguf\","
    "\"autoSelect\":true,\"priority\":5}],\"protocolVersions\":[\"v2\"],\"containers\":[{"
    "\"name\":\"kserve-container\",\"image\":\"host\",\"command\":[\"/bin/serve\"],\"args\":["
    "\"--port=$(PORT)\",\"--alias\",\"{{.Name}}-model\",\"--model=$(MODEL_PATH)\","
    "\"--team={{.Annotations.team}}\"],\"env\":[{\"name\":\"NS\",\"value\":\"{{.Namespace}}\"},{"
    "\"name\":\"AT\",\"value\":\"127.0.0.1:$(PORT)\"}]}]}}";

/* A model's file in the models folder. */
static void put_model(struct fixture *f) {
    char path[160];
    snprintf(path, sizeof(path), "%s/m.gguf", f->models_dir);
    FILE *file = fopen(path, "w");
    fputs("GGUF", file);
    fclose(file);
}

static void create_service(struct fixture *f, const char *model_fields) {
    AUTO_FREE char *text = mem_printf(
        "{\"metadata\":{\"name\":\"demo\",\"annotations\":{\"team\":\"blue\"}},\"spec\":{"
        "\"predictor\":{\"model\":{\"modelFormat\":{\"name\":\"gguf\"},\"storageUri\":"
        "\"file://%s/m.gguf\"%s}}}}",
        f->models_dir, model_fields);
    fixture_create(f, KIND_INFERENCE_SERVICE, text);
}

static json_t *isvc(struct fixture *f) {
    return fixture_get(f, KIND_INFERENCE_SERVICE, "demo");
}

static const char *env_line(const struct fake_process *p, const char *name) {
    AUTO_FREE char *start = mem_printf("\n%s=", name);
    const char *at = strstr(p->env, start);
    return at ? at + strlen(start) : "";
}

static void a_runtime_of_the_machine_serves_at_its_own_port(void **state) {
    struct fixture *f = *state;
    put_model(f);
    fixture_create(f, KIND_CLUSTER_SERVING_RUNTIME, RUNTIME);
    create_service(f, "");
    struct fake_process *p = fixture_only_process(f);
    int port = atoi(env_line(p, "PORT"));
    assert_in_range(port, f->config.serve_port_first, f->config.serve_port_last);
    AUTO_FREE char *argv = mem_printf("/bin/serve --port=%d --alias demo-model "
                                      "--model=%s/m.gguf --team=blue ",
                                      port, f->models_dir);
    assert_string_equal(p->argv, argv);
    AUTO_FREE char *at = mem_printf("127.0.0.1:%d\n", port);
    assert_memory_equal(env_line(p, "AT"), at, strlen(at));
    assert_memory_equal(env_line(p, "NS"), "default\n", 8);
    assert_int_not_equal(p->user, 0);
    assert_field(isvc(f), "status.clusterServingRuntimeName", "py");
    assert_condition(isvc(f), "Ready", "True", NULL, NULL);
    assert_int_equal(fixture_events(f, "ModelFound", "/m.gguf"), 1);
    AUTO(traffic_table) t = traffic_current(f->traffic);
    at[strlen(at) - 1] = '\0';
    assert_string_equal(t->services[0].revisions[0].replicas[0]->address, at);
    assert_string_equal(t->services[0].models[1], "demo-model");
}

static void a_run_after_a_fall_is_another_replica_at_another_port(void **state) {
    struct fixture *f = *state;
    put_model(f);
    fixture_create(f, KIND_CLUSTER_SERVING_RUNTIME, RUNTIME);
    create_service(f, "");
    AUTO(traffic_table) before = traffic_current(f->traffic);
    struct fake_process *p = fixture_only_process(f);
    fixture_exit(f, p, 1, 0, "fell");
    fixture_advance(f, 15 * 1000);
    AUTO(traffic_table) after = traffic_current(f->traffic);
    assert_int_equal(fixture_ready_replicas(f, "demo"), 1);
    assert_int_equal(fixture_only_process(f)->restart, 1);
    assert_ptr_not_equal(before->services[0].revisions[0].replicas[0],
                         after->services[0].revisions[0].replicas[0]);
    assert_string_not_equal(before->services[0].revisions[0].replicas[0]->address,
                            after->services[0].revisions[0].replicas[0]->address);
}

static void who_chooses_a_runtime_does_not_change_its_command(void **state) {
    static const char *const fields[] = {
        ",\"args\":[\"--evil\"]",
        ",\"command\":[\"sh\"]",
        ",\"env\":[{\"name\":\"LD_PRELOAD\",\"value\":\"/tmp/x\"}]",
        ",\"envFrom\":[{\"secretRef\":{\"name\":\"s\"}}]",
        ",\"livenessProbe\":{\"exec\":{\"command\":[\"sh\"]}}",
        ",\"lifecycle\":{\"postStart\":{\"exec\":{\"command\":[\"sh\"]}}}"};
    struct fixture *f = *state;
    put_model(f);
    fixture_create(f, KIND_CLUSTER_SERVING_RUNTIME, RUNTIME);
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        create_service(f, fields[i]);
        assert_int_equal(fixture_num_processes(f), 0);
        assert_condition(isvc(f), "Ready", "False", "InvalidPredictorSpec", "hostprocesses");
        fixture_delete(f, KIND_INFERENCE_SERVICE, "demo", "Background", -1);
        fixture_pass(f);
    }
    create_service(f, ",\"args\":[],\"resources\":{\"limits\":{\"memory\":\"1Gi\"}}");
    assert_null(strstr(fixture_only_process(f)->argv, "evil"));
}

static void who_says_host_himself_changes_what_he_wants(void **state) {
    struct fixture *f = *state;
    put_model(f);
    fixture_create(f, KIND_CLUSTER_SERVING_RUNTIME, RUNTIME);
    create_service(f, ",\"image\":\"host\",\"args\":[\"--more\"],\"env\":[{\"name\":\"NS\","
                      "\"value\":\"mine\"}]");
    struct fake_process *p = fixture_only_process(f);
    assert_non_null(strstr(p->argv, "--team=blue --more "));
    assert_memory_equal(env_line(p, "NS"), "mine\n", 5);
}

static void an_annotation_makes_no_image_the_host(void **state) {
    struct fixture *f = *state;
    fixture_create(
        f, KIND_INFERENCE_SERVICE,
        "{\"metadata\":{\"name\":\"demo\",\"annotations\":{\"what\":\"host\"}},\"spec\":{"
        "\"predictor\":{\"containers\":[{\"name\":\"kserve-container\",\"image\":"
        "\"{{.Annotations.what}}\",\"command\":[\"id\"]}]}}}");
    assert_int_equal(fixture_num_processes(f), 0);
    assert_condition(isvc(f), "Ready", "False", "NoSupportingRuntime", "{{.Annotations.what}}");
}

static void a_named_runtime_must_speak_the_protocol(void **state) {
    struct fixture *f = *state;
    put_model(f);
    fixture_create(f, KIND_CLUSTER_SERVING_RUNTIME, RUNTIME);
    create_service(f, ",\"runtime\":\"py\",\"protocolVersion\":\"v1\"");
    assert_condition(isvc(f), "Ready", "False", "NoSupportingRuntime",
                     "specified protocol version");
    fixture_patch(f, KIND_INFERENCE_SERVICE, "demo", "spec.predictor.model.protocolVersion",
                  "\"v2\"");
    assert_condition(isvc(f), "Ready", "True", NULL, NULL);
}

static void a_predictor_of_its_own_containers_serves_with_the_first(void **state) {
    struct fixture *f = *state;
    fixture_create(
        f, KIND_INFERENCE_SERVICE,
        "{\"metadata\":{\"name\":\"demo\"},\"spec\":{\"predictor\":{\"initContainers\":[{"
        "\"name\":\"first\",\"image\":\"host\",\"command\":[\"/bin/first\"]}],"
        "\"containers\":[{\"name\":\"beside\",\"image\":\"host\",\"command\":[\"/b\"]},{"
        "\"name\":\"kserve-container\",\"image\":\"host\",\"command\":[\"/bin/serve\","
        "\"$(PORT)\"]}]}}}");
    struct fake_process *first = fixture_only_process(f);
    assert_string_equal(first->argv, "/bin/first ");
    assert_string_equal(env_line(first, "PORT"), "");
    fixture_exit(f, first, 0, 0, "");
    fixture_pass(f);
    assert_string_equal(env_line(fixture_container(f, "beside"), "PORT"), "");
    assert_string_not_equal(env_line(fixture_container(f, "kserve-container"), "PORT"), "");
    assert_int_equal(fixture_ready_replicas(f, "demo"), 1);
}

static void a_process_of_the_machine_and_an_image_are_not_mixed(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_INFERENCE_SERVICE,
                   "{\"metadata\":{\"name\":\"demo\"},\"spec\":{\"predictor\":{\"containers\":[{"
                   "\"name\":\"kserve-container\",\"image\":\"host\",\"command\":[\"/b\"]},{"
                   "\"name\":\"log\",\"image\":\"fluent/fluent-bit\"}]}}}");
    assert_int_equal(fixture_num_processes(f), 0);
    assert_condition(isvc(f), "Ready", "False", "InvalidPredictorSpec", "fluent/fluent-bit");
}

static void a_runtime_that_answers_is_not_stopped_before_its_grace_is_over(void **state) {
    struct fixture *f = *state;
    put_model(f);
    f->stops_at_once = false;
    fixture_create(f, KIND_CLUSTER_SERVING_RUNTIME, RUNTIME);
    create_service(f, "");
    AUTO(traffic_table) t = traffic_current(f->traffic);
    struct traffic_replica *replica = t->services[0].revisions[0].replicas[0];
    json_t *pod = fixture_nth(f, KIND_POD, 0);
    AUTO_FREE char *name = mem_strdup(object_name(pod));
    json_decref(pod);
    f->ready_at_once = false; /* the one that takes its place */
    struct fake_process *p = fixture_only_process(f);
    replica->in_flight = 1;
    fixture_delete(f, KIND_POD, name, "Background", 10);
    fixture_advance(f, 5000);
    assert_int_equal(p->state.phase, REPLICA_READY);
    assert_int_equal(fixture_ready_replicas(f, "demo"), 0);
    replica->in_flight = 0;
    fixture_advance(f, 100);
    assert_int_equal(p->state.phase, REPLICA_STOPPING);
    assert_in_range(p->grace_ms, 4900, 5100); /* what is left */
}

static void an_answer_that_takes_longer_than_the_grace_is_cut(void **state) {
    struct fixture *f = *state;
    put_model(f);
    f->stops_at_once = false;
    fixture_create(f, KIND_CLUSTER_SERVING_RUNTIME, RUNTIME);
    create_service(f, "");
    AUTO(traffic_table) t = traffic_current(f->traffic);
    t->services[0].revisions[0].replicas[0]->in_flight = 1;
    json_t *pod = fixture_nth(f, KIND_POD, 0);
    struct fake_process *p = fixture_only_process(f);
    f->ready_at_once = false;
    fixture_delete(f, KIND_POD, object_name(pod), "Background", 3);
    json_decref(pod);
    fixture_advance(f, 3200);
    assert_int_equal(p->state.phase, REPLICA_STOPPING);
    assert_int_equal(p->grace_ms, 2000);
    t->services[0].revisions[0].replicas[0]->in_flight = 0;
}

static void a_grace_of_a_second_is_one(void **state) {
    struct fixture *f = *state;
    f->stops_at_once = false;
    put_model(f);
    fixture_create(f, KIND_CLUSTER_SERVING_RUNTIME, RUNTIME);
    create_service(f, "");
    json_t *pod = fixture_nth(f, KIND_POD, 0);
    struct fake_process *p = fixture_only_process(f);
    f->ready_at_once = false;
    fixture_delete(f, KIND_POD, object_name(pod), "Background", 1);
    json_decref(pod);
    fixture_advance(f, 200);
    assert_int_equal(p->grace_ms, 1000);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        FIXTURE_TEST(a_runtime_of_the_machine_serves_at_its_own_port),
        FIXTURE_TEST(a_run_after_a_fall_is_another_replica_at_another_port),
        FIXTURE_TEST(who_chooses_a_runtime_does_not_change_its_command),
        FIXTURE_TEST(who_says_host_himself_changes_what_he_wants),
        FIXTURE_TEST(an_annotation_makes_no_image_the_host),
        FIXTURE_TEST(a_named_runtime_must_speak_the_protocol),
        FIXTURE_TEST(a_predictor_of_its_own_containers_serves_with_the_first),
        FIXTURE_TEST(a_process_of_the_machine_and_an_image_are_not_mixed),
        FIXTURE_TEST(a_runtime_that_answers_is_not_stopped_before_its_grace_is_over),
        FIXTURE_TEST(a_grace_of_a_second_is_one),
        FIXTURE_TEST(an_answer_that_takes_longer_than_the_grace_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
