/* spec.canary: predictors side by side, by name: who runs, who gets requests, what is told, and how
 * a name is promoted or taken back. */
#include "core/control/canary.h"
#include "core/control/control.h"
#include "core/control/fixture_test.h"

#define V1 "demo-predictor-00001"
#define V2 "demo-v2-predictor-00001"

static const char SPEC[] =
    "{\"predictor\":{\"minReplicas\":%d,\"model\":{\"modelFormat\":{\"name\":\"huggingface\"},"
    "\"storageUri\":\"embedded://demo-chat\",\"args\":[\"--seed=1\"]}},\"canary\":[%s]}";
static const char ENTRY[] =
    "{\"trafficPercent\":%d,\"predictor\":{\"name\":\"%s\",\"model\":{\"modelFormat\":{\"name\":"
    "\"huggingface\"},\"args\":[\"--seed=%d\"]}}}";

static void apply_spec(struct fixture *f, const char *spec) {
    json_t *has = fixture_get(f, KIND_INFERENCE_SERVICE, "demo");
    if (has) {
        fixture_patch(f, KIND_INFERENCE_SERVICE, "demo", "spec", spec);
    } else {
        AUTO_FREE char *text = mem_printf("{\"metadata\":{\"name\":\"demo\"},\"spec\":%s}", spec);
        fixture_create(f, KIND_INFERENCE_SERVICE, text);
    }
    json_decref(has);
    fixture_pass(f);
}

static void apply(struct fixture *f, int replicas, const char *canaries) {
    AUTO_FREE char *spec = mem_printf(SPEC, replicas, canaries);
    apply_spec(f, spec);
}

static void apply_one(struct fixture *f, int replicas, int percent) {
    AUTO_FREE char *entry = mem_printf(ENTRY, percent, "v2", 2);
    apply(f, replicas, entry);
}

/* The predictor has the canary's name and model, and its entry is gone. */
static void promote(struct fixture *f, int replicas) {
    AUTO_FREE char *spec = mem_printf(
        "{\"predictor\":{\"name\":\"v2\",\"minReplicas\":%d,\"model\":{\"modelFormat\":{\"name\":"
        "\"huggingface\"},\"storageUri\":\"embedded://demo-chat\",\"args\":[\"--seed=2\"]}}}",
        replicas);
    apply_spec(f, spec);
}

static int num_running(struct fixture *f, int seed) {
    AUTO_FREE char *arg = mem_printf("--seed=%d ", seed);
    int num = 0;
    for (int i = 0; i < FIXTURE_PROCESSES_MAX; i++)
        num += f->processes[i].used && strstr(f->processes[i].argv, arg);
    return num;
}

static void ready_all(struct fixture *f, int seed) {
    AUTO_FREE char *arg = mem_printf("--seed=%d ", seed);
    for (int i = 0; i < FIXTURE_PROCESSES_MAX; i++) {
        struct fake_process *p = &f->processes[i];
        if (p->used && strstr(p->argv, arg) && p->state.phase == REPLICA_STARTING)
            fixture_set_phase(f, p, REPLICA_READY);
    }
    fixture_pass(f);
}

/* How many of a hundred requests the Deployment's pods get. */
static int share(struct fixture *f, const char *deployment) {
    AUTO(traffic_table) t = traffic_current(f->traffic);
    const struct traffic_service *s = traffic_find(t, "default", "demo");
    AUTO_FREE char *prefix = mem_printf("%s-", deployment);
    struct traffic_credits credits = {0};
    int num = 0;
    assert_non_null(s);
    for (uint64_t ticket = 0; ticket < 100; ticket++) {
        const struct traffic_replica *r = traffic_pick(s, &credits, ticket, NULL, NULL);
        num += r && !strncmp(r->pod, prefix, strlen(prefix));
    }
    traffic_credits_deinit(&credits);
    return num;
}

static json_t *demo(struct fixture *f) {
    return fixture_get(f, KIND_INFERENCE_SERVICE, "demo");
}

static json_t *status(struct fixture *f) {
    json_t *isvc = demo(f), *s = json_incref(json_object_get(isvc, "status"));
    json_decref(isvc);
    return s;
}

static void a_canary_stands_beside_and_gets_its_share_when_it_is_ready(void **state) {
    struct fixture *f = *state;
    apply(f, 4, "");
    assert_int_equal(num_running(f, 1), 4);
    f->ready_at_once = false;
    apply_one(f, 4, 25);
    assert_int_equal(num_running(f, 1), 4); /* nobody goes before the other has come */
    assert_int_equal(num_running(f, 2), 1);
    assert_int_equal(share(f, "demo-predictor"), 100);
    assert_condition(demo(f), "CanaryPredictorReady", "False", "CanariesNotReady", NULL);
    assert_condition(demo(f), "Ready", "True", NULL, NULL);
    assert_int_field(status(f), "canaryStatuses.0.trafficPercent", 0);
    ready_all(f, 2);
    assert_int_equal(share(f, "demo-predictor"), 75);
    assert_int_equal(share(f, "demo-v2-predictor"), 25);
    assert_int_equal(num_running(f, 1), 3); /* it took one over */
    assert_condition(demo(f), "CanaryPredictorReady", "True", "AllCanariesReady", NULL);
    assert_field(status(f), "canaryStatuses.0.name", "v2");
    assert_int_field(status(f), "canaryStatuses.0.trafficPercent", 25);
    assert_field(status(f), "canaryStatuses.0.modelStatus.transitionStatus", "UpToDate");
    assert_field(status(f), "components.predictor.latestRolledoutRevision", V1);
    assert_field(status(f), "components.predictor.traffic.0.revisionName", V1);
    assert_int_field(status(f), "components.predictor.traffic.0.percent", 75);
    assert_field(status(f), "components.predictor.traffic.1.revisionName", V2);
    assert_int_field(status(f), "components.predictor.traffic.1.percent", 25);
    assert_field(status(f), "components.predictor.traffic.1.tag", "v2");
    assert_field(status(f), "components.predictor.traffic.1.url",
                 "http://v2-demo-predictor.default.example.com");
    json_t *service = fixture_get(f, KIND_SERVICE, "demo-v2-predictor");
    assert_field(service, "spec.selector.app", "isvc.demo-v2-predictor");

    int num_starts = f->num_starts;
    apply_one(f, 4, 20); /* still one replica of four */
    assert_int_equal(share(f, "demo-v2-predictor"), 20);
    assert_int_equal(f->num_starts, num_starts);
}

static void a_promoted_canary_is_not_restarted(void **state) {
    struct fixture *f = *state;
    apply(f, 1, "");
    apply_one(f, 1, 30);
    assert_int_equal(share(f, "demo-v2-predictor"), 30);
    int num_starts = f->num_starts;
    promote(f, 1);
    assert_int_equal(share(f, "demo-v2-predictor"), 100);
    assert_int_equal(f->num_starts, num_starts);
    assert_int_equal(num_running(f, 1), 0);
    assert_null(fixture_get(f, KIND_DEPLOYMENT, "demo-predictor"));
    assert_null(fixture_get(f, KIND_SERVICE, "demo-predictor"));
    assert_field(status(f), "components.predictor.latestRolledoutRevision", V2);
    assert_field(status(f), "components.predictor.previousRolledoutRevision", V1);
    assert_field(status(f), "components.predictor.traffic.1.revisionName", NULL);
    assert_field(status(f), "canaryStatuses.0.name", NULL);
    json_t *isvc = demo(f);
    assert_null(object_find_condition(isvc, "CanaryPredictorReady"));
    json_decref(isvc);
}

static void the_old_predictor_serves_until_the_promoted_one_is_whole(void **state) {
    struct fixture *f = *state;
    apply(f, 4, "");
    apply_one(f, 4, 25);
    f->ready_at_once = false;
    promote(f, 4);
    assert_int_equal(num_running(f, 1), 3);
    assert_int_equal(num_running(f, 2), 4);
    assert_int_equal(share(f, "demo-v2-predictor"), 25); /* by size: one of four that are ready */
    ready_all(f, 2);
    assert_int_equal(share(f, "demo-v2-predictor"), 100);
    assert_int_equal(num_running(f, 1), 0);
}

static void an_entry_that_goes_takes_its_replicas_with_it(void **state) {
    struct fixture *f = *state;
    apply(f, 1, "");
    AUTO_FREE char *v2 = mem_printf(ENTRY, 20, "v2", 2), *v3 = mem_printf(ENTRY, 30, "v3", 3);
    AUTO_FREE char *both = mem_printf("%s,%s", v2, v3);
    apply(f, 1, both);
    assert_int_equal(share(f, "demo-predictor"), 50);
    assert_int_equal(share(f, "demo-v2-predictor"), 20);
    assert_int_equal(share(f, "demo-v3-predictor"), 30);
    apply(f, 1, v3);
    assert_int_equal(share(f, "demo-v3-predictor"), 30);
    assert_int_equal(share(f, "demo-predictor"), 70);
    assert_int_equal(num_running(f, 2), 0);
    int num_starts = f->num_starts;
    apply(f, 1, "");
    assert_int_equal(share(f, "demo-predictor"), 100);
    assert_int_equal(num_running(f, 3), 0);
    assert_int_equal(f->num_starts, num_starts);
    assert_field(status(f), "components.predictor.latestRolledoutRevision", V1);
    assert_null(fixture_get(f, KIND_DEPLOYMENT, "demo-v3-predictor"));
}

static void no_round_sends_a_request_to_an_entry_that_has_gone(void **state) {
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    struct object_key key;
    apply(f, 1, "");
    apply_one(f, 1, 40);
    json_t *isvc = demo(f);
    object_set(isvc, "spec.canary", json_array());
    object_set(isvc, "metadata.generation",
               json_integer(object_int(isvc, "metadata.generation", 0) + 1));
    fixture_key(&key, KIND_INFERENCE_SERVICE, "demo");
    assert_int_equal(store_put(f->store, key.text, isvc, STORE_EXPECT_ANY, NULL, &err), OK);
    for (int round = 0; round < FIXTURE_ROUNDS_MAX; round++) {
        controllers_run(f->controllers, f->wall_ms++, f->mono_ms++);
        assert_int_equal(share(f, "demo-v2-predictor"), 0);
        assert_int_equal(share(f, "demo-predictor"), 100);
    }
}

static void a_dark_canary_runs_and_is_reached_by_its_tag_alone(void **state) {
    struct fixture *f = *state;
    apply(f, 1, "");
    apply_one(f, 1, 0);
    assert_int_equal(num_running(f, 2), 1);
    assert_int_equal(share(f, "demo-predictor"), 100);
    AUTO(traffic_table) t = traffic_current(f->traffic);
    const struct traffic_service *s = traffic_find(t, "default", "demo");
    const struct traffic_tag *tag = traffic_find_tag(s, "v2");
    assert_non_null(tag);
    assert_string_equal(tag->revision, V2);
    const struct traffic_revision *r = traffic_find_revision(s, tag->revision);
    assert_non_null(r);
    assert_int_equal(r->percent, 0);
    assert_condition(demo(f), "CanaryPredictorReady", "True", "AllCanariesReady", NULL);
}

static void a_broken_canary_gets_nothing_and_says_why(void **state) {
    struct fixture *f = *state;
    apply(f, 1, "");
    f->ready_at_once = false;
    apply_one(f, 1, 90);
    for (int i = 0; i < FIXTURE_PROCESSES_MAX; i++) {
        struct fake_process *p = &f->processes[i];
        if (p->used && strstr(p->argv, "--seed=2 "))
            fixture_exit(f, p, 1, 0, "load model: broken");
    }
    fixture_pass(f);
    assert_int_equal(share(f, "demo-predictor"), 100);
    assert_condition(demo(f), "Ready", "True", NULL, NULL);
    assert_field(status(f), "modelStatus.transitionStatus", "UpToDate");
    assert_field(status(f), "canaryStatuses.0.modelStatus.transitionStatus", "BlockedByFailedLoad");
    assert_field(status(f), "canaryStatuses.0.modelStatus.lastFailureInfo.message",
                 "load model: broken");
    assert_int_field(status(f), "canaryStatuses.0.trafficPercent", 0);
}

static void a_stopped_service_stops_its_canaries(void **state) {
    struct fixture *f = *state;
    apply(f, 1, "");
    apply_one(f, 1, 20);
    fixture_patch(f, KIND_INFERENCE_SERVICE, "demo", "metadata.annotations",
                  "{\"serving.kserve.io/stop\":\"true\"}");
    fixture_pass(f);
    assert_int_equal(fixture_num_processes(f), 0);
    assert_condition(demo(f), "CanaryPredictorReady", "False", "Stopped", NULL);
}

static void a_killed_daemon_comes_back_with_its_canaries(void **state) {
    struct fixture *f = *state;
    apply(f, 1, "");
    apply_one(f, 1, 20);
    fixture_end_daemon(f);
    fixture_start_daemon(f);
    fixture_pass(f);
    assert_int_equal(share(f, "demo-v2-predictor"), 20);
    assert_int_equal(share(f, "demo-predictor"), 80);
}

static void what_a_canary_may_not_say_is_refused(void **state) {
    static const struct {
        const char *canaries, *part;
    } rows[] = {
        {"{\"trafficPercent\":20,\"predictor\":{\"model\":{}}}",
         "spec.canary[0].predictor.name: Required value"},
        {"{\"trafficPercent\":20,\"predictor\":{\"name\":\"V2\"}}", "\"V2\": must consist"},
        {"{\"trafficPercent\":101,\"predictor\":{\"name\":\"v2\"}}", "101: must be within 0..100"},
        {"{\"trafficPercent\":-1,\"predictor\":{\"name\":\"v2\"}}", "-1: must be within 0..100"},
        {"{\"predictor\":{\"name\":\"v2\"}}", "spec.canary[0].trafficPercent: Required value"},
        {"{\"trafficPercent\":20,\"predictor\":{\"name\":\"v2\",\"maxReplicas\":3}}",
         "spec.canary[0].predictor.maxReplicas: Forbidden"},
        {"{\"trafficPercent\":20,\"predictor\":{\"name\":\"v2\",\"minReplicas\":3}}",
         "3: must not be above minReplicas of the stable predictor (2)"},
        {"{\"trafficPercent\":20,\"predictor\":{\"name\":\"main\"}}", "the name of the stable"},
        {"{\"trafficPercent\":20,\"predictor\":{\"name\":\"v2\"}}",
         "spec.canary[0].predictor: Required value: model"},
        {"{\"trafficPercent\":60,\"predictor\":{\"name\":\"a\"}},"
         "{\"trafficPercent\":50,\"predictor\":{\"name\":\"b\"}}",
         "the sum of trafficPercent is 110, at most 100"},
        {"{\"trafficPercent\":1,\"predictor\":{\"name\":\"a\"}},"
         "{\"trafficPercent\":1,\"predictor\":{\"name\":\"a\"}}",
         "spec.canary[1].predictor.name: Duplicate value: \"a\""},
        {"{\"trafficPercent\":1,\"predictor\":{\"name\":"
         "\"a23456789012345678901234567890123456789012345\"}}",
         "at most 63"},
        {"0,1,2,3,4,5,6,7,8", "spec.canary: Too many: 9: must have at most 8 items"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        AUTO_FREE char *text = mem_printf(
            "{\"metadata\":{\"name\":\"demo\"},\"spec\":{\"predictor\":{\"name\":\"main\","
            "\"minReplicas\":2,\"model\":{\"modelFormat\":{\"name\":\"gguf\"}}},\"canary\":[%s]}}",
            rows[i].canaries);
        json_t *isvc = fixture_json(text), *warnings = json_array();
        assert_int_equal(
            control_admit("serving.kserve.io", "inferenceservices", isvc, NULL, warnings, &err),
            ERR_INVALID);
        if (!strstr(err.text, rows[i].part))
            fail_msg("\"%s\" has no \"%s\"", err.text, rows[i].part);
        json_decref(isvc);
        json_decref(warnings);
    }
}

static void clients_are_told_apart_by_a_key_or_a_header(void **state) {
    static const struct {
        const char *by;
        enum errc rc;
    } rows[] = {{"api-key", OK},           {"header:X-User", OK},
                {"header:", ERR_INVALID},  {"header:a b", ERR_INVALID},
                {"cookie:x", ERR_INVALID}, {"", ERR_INVALID}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        json_t *isvc = json_pack("{s:{s:s, s:{s:s}}}", "metadata", "name", "demo", "annotations",
                                 "inferd.io/sticky-by", rows[i].by);
        assert_int_equal(canary_check(isvc, &err), rows[i].rc);
        assert_true(!rows[i].rc || strstr(err.text, "must be api-key or header:NAME"));
        json_decref(isvc);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(a_canary_stands_beside_and_gets_its_share_when_it_is_ready),
        FIXTURE_TEST(a_promoted_canary_is_not_restarted),
        FIXTURE_TEST(the_old_predictor_serves_until_the_promoted_one_is_whole),
        FIXTURE_TEST(an_entry_that_goes_takes_its_replicas_with_it),
        FIXTURE_TEST(no_round_sends_a_request_to_an_entry_that_has_gone),
        FIXTURE_TEST(a_dark_canary_runs_and_is_reached_by_its_tag_alone),
        FIXTURE_TEST(a_broken_canary_gets_nothing_and_says_why),
        FIXTURE_TEST(a_stopped_service_stops_its_canaries),
        FIXTURE_TEST(a_killed_daemon_comes_back_with_its_canaries),
        cmocka_unit_test(what_a_canary_may_not_say_is_refused),
        cmocka_unit_test(clients_are_told_apart_by_a_key_or_a_header),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
