/* A new revision on a machine that has no room for two. */
#include "core/control/fixture_test.h"

static const char DEMO[] =
    "{\"metadata\":{\"name\":\"demo\"},\"spec\":{\"predictor\":{\"model\":{\"modelFormat\":{"
    "\"name\":\"huggingface\"},\"storageUri\":\"embedded://demo-chat\","
    "\"resources\":{\"limits\":{\"nvidia.com/gpu\":\"1\"}}}}}}";

static const char OTHER[] =
    "{\"metadata\":{\"name\":\"other\"},\"spec\":{\"containers\":[{\"name\":\"main\","
    "\"image\":\"vllm/vllm-openai\",\"args\":[\"--model\",\"embedded://demo-chat\"],"
    "\"resources\":{\"limits\":{\"nvidia.com/gpu\":\"1\"}}}]}}";

/* Two GPUs, of which somebody else has one, and a service that is ready on the other. */
static void fill_the_machine(struct fixture *f) {
    fixture_patch(f, KIND_NODE, "gpu1", "status.capacity", "{\"nvidia.com/gpu\":\"2\"}");
    fixture_patch(f, KIND_NODE, "gpu1", "status.allocatable",
                  "{\"cpu\":\"4\",\"memory\":\"8Gi\",\"pods\":\"10\",\"nvidia.com/gpu\":\"2\"}");
    fixture_advance(f, 301 * 1000); /* a heartbeat, which leaves it in place */
    fixture_create(f, KIND_POD, OTHER);
    fixture_create(f, KIND_INFERENCE_SERVICE, DEMO);
    fixture_pass(f);
    assert_int_equal(fixture_ready_replicas(f, "demo"), 1);
    assert_int_equal(fixture_num_processes(f), 2);
}

static struct fake_process *process_with(struct fixture *f, const char *arg) {
    for (int i = 0; i < FIXTURE_PROCESSES_MAX; i++) {
        struct fake_process *p = &f->processes[i];
        if (p->used && strstr(p->pod, "demo") && strstr(p->argv, arg))
            return p;
    }
    return NULL;
}

static void change(struct fixture *f, const char *resources) {
    if (resources)
        fixture_patch(f, KIND_INFERENCE_SERVICE, "demo", "spec.predictor.model.resources",
                      resources);
    fixture_patch(f, KIND_INFERENCE_SERVICE, "demo", "spec.predictor.model.args",
                  "[\"--max-model-len=256\"]");
    fixture_pass(f);
}

static void the_new_revision_takes_the_place_of_the_old_one(void **state) {
    struct fixture *f = *state;
    fill_the_machine(f);
    f->stops_at_once = false;
    change(f, NULL);
    assert_int_equal(fixture_ready_replicas(f, "demo"), 0);
    AUTO(traffic_table) t = traffic_current(f->traffic);
    assert_true(t->services[0].waiting_may_help); /* requests are held */
    assert_int_equal(fixture_events(f, "SwappingInPlace", "Insufficient nvidia.com/gpu"), 1);

    struct fake_process *old = process_with(f, "--model embedded://demo-chat");
    assert_non_null(old);
    assert_int_equal(old->state.phase, REPLICA_STOPPING);
    fixture_exit(f, old, 0, 0, "");
    fixture_pass(f);
    assert_non_null(process_with(f, "--max-model-len=256"));
    assert_int_equal(fixture_ready_replicas(f, "demo"), 1);
    json_t *deployment = fixture_get(f, KIND_DEPLOYMENT, "demo-predictor");
    assert_null(object_annotation(deployment, "inferd.io/no-room-for-surge"));
    assert_field(deployment, "spec.strategy.rollingUpdate.maxSurge", "25%");
    assert_int_equal(fixture_events(f, "SwappingInPlace", ""), 1);
}

static void one_that_fits_nowhere_leaves_the_old_one_alone(void **state) {
    struct fixture *f = *state;
    fill_the_machine(f);
    change(f, "{\"limits\":{\"nvidia.com/gpu\":\"2\"}}"); /* the other's is needed as well */
    assert_int_equal(fixture_ready_replicas(f, "demo"), 1);
    assert_int_equal(fixture_num_processes(f), 2);
    assert_int_equal(fixture_events(f, "SwappingInPlace", ""), 0);
}

static void who_says_how_to_roll_out_is_obeyed(void **state) {
    struct fixture *f = *state;
    fill_the_machine(f);
    fixture_patch(f, KIND_INFERENCE_SERVICE, "demo", "spec.predictor.deploymentStrategy",
                  "{\"rollingUpdate\":{\"maxSurge\":1,\"maxUnavailable\":0}}");
    change(f, NULL);
    assert_int_equal(fixture_ready_replicas(f, "demo"), 1);
    assert_int_equal(fixture_events(f, "SwappingInPlace", ""), 0);
}

static void a_canary_does_not_take_the_place_of_what_it_stands_beside(void **state) {
    struct fixture *f = *state;
    fill_the_machine(f);
    fixture_patch(f, KIND_INFERENCE_SERVICE, "demo", "spec.predictor.canaryTrafficPercent", "20");
    change(f, NULL);
    assert_int_equal(fixture_ready_replicas(f, "demo"), 1);
    assert_int_equal(fixture_events(f, "SwappingInPlace", ""), 0);
}

static void without_surge_the_swap_is_told(void **state) {
    struct fixture *f = *state;
    fill_the_machine(f);
    fixture_patch(f, KIND_INFERENCE_SERVICE, "demo", "spec.predictor.deploymentStrategy",
                  "{\"rollingUpdate\":{\"maxSurge\":0,\"maxUnavailable\":1}}");
    fixture_pass(f);
    assert_int_equal(fixture_events(f, "SwappingInPlace", ""), 0); /* nothing is rolled out */
    f->stops_at_once = false;
    change(f, NULL);
    assert_int_equal(fixture_ready_replicas(f, "demo"), 0);
    AUTO(traffic_table) t = traffic_current(f->traffic);
    assert_true(t->services[0].waiting_may_help);
    assert_int_equal(fixture_events(f, "SwappingInPlace", "because maxSurge is 0"), 1);
    fixture_exit(f, process_with(f, "--model embedded://demo-chat"), 0, 0, "");
    fixture_pass(f);
    assert_non_null(process_with(f, "--max-model-len=256"));
    assert_int_equal(fixture_ready_replicas(f, "demo"), 1);
    assert_int_equal(fixture_events(f, "SwappingInPlace", ""), 1);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        T(the_new_revision_takes_the_place_of_the_old_one),
        T(one_that_fits_nowhere_leaves_the_old_one_alone),
        T(who_says_how_to_roll_out_is_obeyed),
        T(a_canary_does_not_take_the_place_of_what_it_stands_beside),
        T(without_surge_the_swap_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
