/* Pods that wait for models, with a driver that does what the test says. */
#include "core/control/pod_model.h"

#include "core/control/fixture_test.h"
#include "core/control/control.h"

struct fake_models {
    struct models_state state; /* what the next want() is told */
    bool changed;
    int num_wants;
    char reference[256];
    json_t *env;         /* of the last want */
    char users[16][128]; /* "user reference" that want or keep */
    struct fixture *fixture;
};

static char *find_user(struct fake_models *m, const char *name) {
    size_t len = strlen(name);
    for (size_t i = 0; i < ARRAY_LEN(m->users); i++) {
        if (!strncmp(m->users[i], name, len) && m->users[i][len] == ' ')
            return m->users[i];
    }
    return NULL;
}

static void fake_keep(void *self, const char *user, const char *reference) {
    struct fake_models *m = self;
    AUTO_FREE char *name = mem_printf("%s", user);
    for (char *p = name; (p = strchr(p, ' '));)
        *p = ':';
    char *at = find_user(m, name);
    for (size_t i = 0; i < ARRAY_LEN(m->users) && !at; i++) {
        if (!*m->users[i])
            at = m->users[i];
    }
    snprintf(at, sizeof(m->users[0]), "%s %s", name, reference);
}

static void fake_want(void *self, const char *user, const char *reference, const json_t *env,
                      int64_t mono_ms, struct models_state *ret) {
    struct fake_models *m = self;
    fake_keep(self, user, reference);
    snprintf(m->reference, sizeof(m->reference), "%s", reference);
    json_decref(m->env);
    m->env = json_deep_copy(env);
    m->num_wants++;
    *ret = m->state;
}

static void fake_release(void *self, const char *user) {
    AUTO_FREE char *name = mem_printf("%s", user);
    for (char *p = name; (p = strchr(p, ' '));)
        *p = ':';
    char *at = find_user(self, name);
    if (at)
        *at = '\0';
}

static bool fake_take_changed(void *self) {
    struct fake_models *m = self;
    bool was = m->changed;
    m->changed = false;
    return was;
}

static struct fake_models *start(struct fixture *f) {
    struct fake_models *m = mem_alloc(sizeof(*m));
    m->state.phase = MODELS_LOADING;
    fixture_end_daemon(f);
    f->models = (struct model_driver){m, fake_want, fake_keep, fake_release, fake_take_changed};
    fixture_start_daemon(f);
    return m;
}

static void stop(struct fixture *f, struct fake_models *m) {
    fixture_end_daemon(f);
    f->models = (struct model_driver){0};
    fixture_start_daemon(f);
    json_decref(m->env);
    free(m);
}

static void change(struct fixture *f, struct fake_models *m) {
    m->changed = true;
    fixture_settle(f);
}

static const char MODEL[] =
    "{\"metadata\":{\"name\":\"demo\"},\"spec\":{\"predictor\":{\"model\":{\"modelFormat\":{"
    "\"name\":\"gguf\"},\"storageUri\":\"hf://org/name\"}}}}";

static json_t *isvc(struct fixture *f) {
    return fixture_nth(f, KIND_INFERENCE_SERVICE, 0);
}

/* A model in the store, of one file. */
static void put_model(struct fixture *f, struct fake_models *m) {
    AUTO_FREE char *dir = mem_printf("%s/view", f->dir);
    AUTO_FREE char *path = mem_printf("%s/x.gguf", dir);
    mkdir(dir, 0700);
    FILE *out = fopen(path, "we");
    assert_non_null(out);
    fputs("GGUF", out);
    fclose(out);
    m->state = (struct models_state){.phase = MODELS_READY, .loading_ms = 12000};
    snprintf(m->state.dir, sizeof(m->state.dir), "%s", dir);
}

static void a_pod_waits_for_its_model_and_tells_how_far_it_is(void **state) {
    struct fixture *f = *state;
    struct fake_models *m = start(f);
    fixture_create(f, KIND_INFERENCE_SERVICE, MODEL);
    assert_string_equal(m->reference, "hf://org/name");
    assert_field(fixture_nth(f, KIND_POD, 0), "status.containerStatuses.0.state.waiting.reason",
                 "ContainerCreating");
    assert_field(fixture_nth(f, KIND_POD, 0), "status.containerStatuses.0.state.waiting.message",
                 "pulling model \"hf://org/name\"");
    assert_int_equal(fixture_events(f, "Pulling", "hf://org/name"), 1);
    m->state.bytes_total = 4ull << 30;
    m->state.bytes_done = 1ull << 30;
    change(f, m);
    assert_condition(isvc(f), "PredictorReady", "False", "ContainerCreating",
                     "1.0 GiB of 4.0 GiB (25%)");
    assert_field(isvc(f), "status.modelStatus.states.targetModelState", "Loading");
    assert_field(isvc(f), "status.modelStatus.transitionStatus", "InProgress");
    assert_int_equal(fixture_num_processes(f), 0);
    put_model(f, m);
    change(f, m);
    assert_condition(isvc(f), "Ready", "True", NULL, NULL);
    assert_non_null(strstr(fixture_only_process(f)->argv, "/view/x.gguf"));
    assert_int_equal(fixture_events(f, "Pulled", "in 12.0s"), 1);
    assert_int_equal(fixture_events(f, "Pulling", "hf://org/name"), 1);
    stop(f, m);
}

static void a_failure_is_told_once_and_tried_again(void **state) {
    struct fixture *f = *state;
    struct fake_models *m = start(f);
    m->state = (struct models_state){
        .phase = MODELS_FAILED, .num_failures = 1, .retry_at_ms = f->mono_ms + 10000};
    err_set(&m->state.why, ERR_UNAUTHENTICATED, "401: set HF_TOKEN");
    fixture_create(f, KIND_INFERENCE_SERVICE, MODEL);
    assert_field(fixture_nth(f, KIND_POD, 0), "status.containerStatuses.0.state.waiting.reason",
                 "ModelPullBackOff");
    assert_condition(isvc(f), "Ready", "False", "ModelPullBackOff",
                     "Back-off pulling model \"hf://org/name\": 401: set HF_TOKEN");
    assert_field(isvc(f), "status.modelStatus.transitionStatus", "BlockedByFailedLoad");
    assert_field(isvc(f), "status.modelStatus.states.targetModelState", "FailedToLoad");
    assert_int_equal(fixture_events(f, "Failed", "Failed to pull model"), 1);
    int wants = m->num_wants;
    fixture_advance(f, MODELS_LOOK_MS - 1000);
    assert_int_equal(m->num_wants, wants);
    fixture_advance(f, 1000); /* it may have been added by hand */
    assert_int_equal(m->num_wants, wants + 1);
    fixture_advance(f, 60000); /* a back-off that is over does not make it ask all the time */
    assert_in_range(m->num_wants, wants + 2, wants + 61);
    assert_int_equal(fixture_events(f, "Failed", "Failed to pull model"), 1);
    put_model(f, m);
    change(f, m);
    assert_condition(isvc(f), "Ready", "True", NULL, NULL);
    stop(f, m);
}

static size_t num_users(const struct fake_models *m) {
    size_t num = 0;
    for (size_t i = 0; i < ARRAY_LEN(m->users); i++)
        num += *m->users[i] != '\0';
    return num;
}

static void what_is_deleted_lets_go_of_its_model(void **state) {
    struct fixture *f = *state;
    struct fake_models *m = start(f);
    fixture_create(f, KIND_INFERENCE_SERVICE, MODEL);
    assert_int_equal(num_users(m), 2);
    assert_non_null(find_user(m, "isvc:default/demo"));
    fixture_delete(f, KIND_INFERENCE_SERVICE, "demo", "Background", 0);
    fixture_pass(f);
    assert_int_equal(num_users(m), 0);
    stop(f, m);
}

/* A service at zero replicas keeps its model, without downloading it. */
static void a_service_at_zero_keeps_its_model(void **state) {
    struct fixture *f = *state;
    struct fake_models *m = start(f);
    fixture_create(f, KIND_INFERENCE_SERVICE,
                   "{\"metadata\":{\"name\":\"demo\",\"annotations\":{\"serving.kserve.io/"
                   "stop\":\"true\"}},\"spec\":{\"predictor\":{\"model\":{\"modelFormat\":{"
                   "\"name\":\"gguf\"},\"storageUri\":\"s3://bucket/model\"}}}}");
    assert_int_equal(m->num_wants, 0);
    assert_string_equal(find_user(m, "isvc:default/demo"), "isvc:default/demo s3://bucket/model");
    stop(f, m);
}

static const char *env(const struct fake_models *m, const char *name) {
    const char *value = json_string_value(json_object_get(m->env, name));
    return value ? value : "none";
}

static void credentials_come_from_secrets(void **state) {
    struct fixture *f = *state;
    struct fake_models *m = start(f);
    fixture_create(f, KIND_SECRET,
                   "{\"metadata\":{\"name\":\"store\",\"annotations\":{\"serving.kserve.io/"
                   "s3-endpoint\":\"minio:9000\",\"serving.kserve.io/s3-usehttps\":\"0\","
                   "\"serving.kserve.io/s3-region\":\"eu\"}},\"data\":{\"AWS_ACCESS_KEY_ID\":"
                   "\"QUtJQQ==\",\"AWS_SECRET_ACCESS_KEY\":\"czNjcmV0\"}}");
    fixture_create(f, KIND_SECRET,
                   "{\"metadata\":{\"name\":\"hub\"},\"data\":{\"token\":\"aGZfeA==\"}}");
    fixture_create(
        f, KIND_SECRET,
        "{\"metadata\":{\"name\":\"registry\"},\"data\":{\".dockerconfigjson\":"
        "\"eyJhdXRocyI6eyJodHRwczovL3JlZzo1MDAwL3YyLyI6eyJhdXRoIjoiZFhObGNncz0ifX19\"}}");
    fixture_create(f, KIND_SERVICE_ACCOUNT,
                   "{\"metadata\":{\"name\":\"puller\"},\"secrets\":[{\"name\":\"store\"},{"
                   "\"name\":\"gone\"}]}");
    fixture_create(f, KIND_INFERENCE_SERVICE,
                   "{\"metadata\":{\"name\":\"demo\"},\"spec\":{\"predictor\":{"
                   "\"serviceAccountName\":\"puller\",\"imagePullSecrets\":[{\"name\":\"registry\"}"
                   "],\"model\":{\"modelFormat\":{\"name\":\"gguf\"},\"storageUri\":\"oci://"
                   "reg:5000/a/b\",\"env\":[{\"name\":\"HF_TOKEN\",\"valueFrom\":{\"secretKeyRef\":"
                   "{\"name\":\"hub\",\"key\":\"token\"}}}]}}}}");
    assert_string_equal(env(m, "AWS_ACCESS_KEY_ID"), "AKIA");
    assert_string_equal(env(m, "AWS_SECRET_ACCESS_KEY"), "s3cret");
    assert_string_equal(env(m, "AWS_ENDPOINT_URL"), "http://minio:9000");
    assert_string_equal(env(m, "AWS_REGION"), "eu");
    assert_string_equal(env(m, "HF_TOKEN"), "hf_x");
    assert_string_equal(env(m, "REGISTRY_AUTH"), "dXNlcgs=");
    stop(f, m);
}

static void the_daemons_own_credentials_go_to_nobody(void **state) {
    struct fixture *f = *state;
    setenv("HF_TOKEN", "of-the-daemon", 1);
    setenv("HF_ENDPOINT", "http://mirror", 1);
    struct fake_models *m = start(f);
    fixture_create(f, KIND_INFERENCE_SERVICE, MODEL);
    assert_string_equal(env(m, "HF_TOKEN"), "none");
    assert_string_equal(env(m, "HF_ENDPOINT"), "http://mirror");
    unsetenv("HF_TOKEN");
    unsetenv("HF_ENDPOINT");
    stop(f, m);
}

static void names_of_vllm_are_the_hubs(void **state) {
    struct fixture *f = *state;
    struct fake_models *m = start(f);
    f->config.cpu_fallback = true;
    fixture_create(
        f, KIND_INFERENCE_SERVICE,
        "{\"metadata\":{\"name\":\"demo\"},\"spec\":{\"predictor\":{\"containers\":[{"
        "\"image\":\"vllm/vllm-openai:latest\",\"args\":[\"--model\",\"org/name\"]}]}}}");
    assert_string_equal(m->reference, "hf://org/name");
    put_model(f, m);
    change(f, m);
    assert_non_null(strstr(fixture_only_process(f)->argv, "--served-model-name org/name"));
    stop(f, m);
}

static void a_reference_that_cannot_be_is_refused_at_once(void **state) {
    struct fixture *f = *state;
    struct fake_models *m = start(f);
    struct error err = ERROR_INIT;
    json_t *warnings = json_array();
    json_t *o =
        fixture_json("{\"metadata\":{\"name\":\"demo\"},\"spec\":{\"predictor\":{\"model\":{"
                     "\"modelFormat\":{\"name\":\"gguf\"},\"storageUri\":\"hf://name\"}}}}");
    assert_int_equal(
        control_admit("serving.kserve.io", "inferenceservices", o, NULL, warnings, &err),
        ERR_INVALID);
    assert_string_equal(err.field, "spec.predictor.model.storageUri");
    assert_non_null(strstr(err.text, "Invalid value: \"hf://name\""));
    assert_non_null(strstr(err.text, "expected hf://ORG/NAME"));
    json_decref(o);
    json_decref(warnings);
    fixture_create(f, KIND_INFERENCE_SERVICE,
                   "{\"metadata\":{\"name\":\"demo\"},\"spec\":{\"predictor\":{\"model\":{"
                   "\"modelFormat\":{\"name\":\"gguf\"},\"storageUri\":\"hdfs://name/x\"}}}}");
    assert_condition(isvc(f), "Ready", "False", "ModelLoadFailed", "expected one of hf://");
    stop(f, m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(a_pod_waits_for_its_model_and_tells_how_far_it_is),
        FIXTURE_TEST(a_failure_is_told_once_and_tried_again),
        FIXTURE_TEST(what_is_deleted_lets_go_of_its_model),
        FIXTURE_TEST(a_service_at_zero_keeps_its_model),
        FIXTURE_TEST(credentials_come_from_secrets),
        FIXTURE_TEST(the_daemons_own_credentials_go_to_nobody),
        FIXTURE_TEST(names_of_vllm_are_the_hubs),
        FIXTURE_TEST(a_reference_that_cannot_be_is_refused_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
