/* The walk of a canary through all controllers: who runs, who gets requests, what the status says.
 */
#include "core/control/fixture_test.h"

static const char DEMO[] =
    "{\"metadata\":{\"name\":\"demo\"},\"spec\":{\"predictor\":{\"model\":{\"modelFormat\":{"
    "\"name\":\"huggingface\"},\"storageUri\":\"embedded://demo-chat\",\"args\":[\"--seed=1\"]}}}}";

static json_t *predictor(struct fixture *f) {
    json_t *isvc = fixture_get(f, KIND_INFERENCE_SERVICE, "demo");
    json_t *status = json_incref(object_at(isvc, "status.components.predictor"));
    json_decref(isvc);
    return status;
}

/* As `kubectl apply` of one manifest: args and percent in one write; percent below 0: no field. */
static void apply(struct fixture *f, int seed, int percent) {
    json_t *isvc = fixture_get(f, KIND_INFERENCE_SERVICE, "demo");
    json_t *spec = object_at(isvc, "spec.predictor");
    json_object_del(spec, "canaryTrafficPercent");
    if (percent >= 0)
        json_object_set_new(spec, "canaryTrafficPercent", json_integer(percent));
    AUTO_FREE char *arg = mem_printf("--seed=%d", seed);
    object_set(spec, "model.args", json_pack("[s]", arg));
    AUTO_FREE char *text = json_dumps(spec, 0);
    json_decref(isvc);
    fixture_patch(f, KIND_INFERENCE_SERVICE, "demo", "spec.predictor", text);
    fixture_pass(f);
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

/* How many of a hundred requests go to processes with this seed. */
static int share(struct fixture *f, int seed) {
    AUTO(traffic_table) t = traffic_current(f->traffic);
    const struct traffic_service *s = traffic_find(t, "default", "demo");
    AUTO_FREE char *arg = mem_printf("--seed=%d ", seed);
    struct traffic_credits credits = {0};
    int num = 0;
    assert_non_null(s);
    for (uint64_t ticket = 0; ticket < 100; ticket++) {
        const struct traffic_replica *r = traffic_pick(s, &credits, ticket, NULL, NULL);
        for (int i = 0; r && i < FIXTURE_PROCESSES_MAX; i++) {
            const struct fake_process *p = &f->processes[i];
            const char *pod = strchr(p->pod, '/');
            num += p->used && strstr(p->argv, arg) && !strcmp(pod ? pod + 1 : p->pod, r->pod);
        }
    }
    traffic_credits_deinit(&credits);
    return num;
}

static void assert_revisions(struct fixture *f, const char *created, const char *ready,
                             const char *rolled_out, const char *previous) {
    assert_field(predictor(f), "latestCreatedRevision", created);
    assert_field(predictor(f), "latestReadyRevision", ready);
    assert_field(predictor(f), "latestRolledoutRevision", rolled_out);
    assert_field(predictor(f), "previousRolledoutRevision", previous);
}

#define V1 "demo-predictor-00001"
#define V2 "demo-predictor-00002"
#define V3 "demo-predictor-00003"

static void a_canary_gets_its_share_and_is_promoted_without_a_restart(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_INFERENCE_SERVICE, DEMO);
    fixture_pass(f);
    assert_revisions(f, V1, V1, V1, NULL);
    assert_int_equal(share(f, 1), 100);

    f->ready_at_once = false;
    apply(f, 2, 20);
    assert_int_equal(num_running(f, 1), 1);
    assert_int_equal(num_running(f, 2), 1);
    assert_int_equal(share(f, 1), 100); /* it starts */
    assert_revisions(f, V2, V1, V1, NULL);
    ready_all(f, 2);
    assert_int_equal(share(f, 1), 80);
    assert_int_equal(share(f, 2), 20);
    assert_revisions(f, V2, V2, V1, NULL);
    assert_field(predictor(f), "traffic.0.revisionName", V2);
    assert_int_field(predictor(f), "traffic.0.percent", 20);
    assert_field(predictor(f), "traffic.1.revisionName", V1);
    assert_field(predictor(f), "traffic.1.tag", "prev");
    assert_int_field(predictor(f), "traffic.1.percent", 80);
    json_t *deployment = fixture_get(f, KIND_DEPLOYMENT, "demo-predictor");
    assert_condition(deployment, "Progressing", "True", "CanaryAvailable", NULL);
    assert_condition(fixture_get(f, KIND_INFERENCE_SERVICE, "demo"), "Ready", "True", NULL, NULL);
    assert_field(fixture_get(f, KIND_INFERENCE_SERVICE, "demo"),
                 "status.modelStatus.transitionStatus", "UpToDate");

    int num_starts = f->num_starts;
    fixture_advance(f, 3600 * 1000); /* no deadline for one that stands */
    assert_condition(fixture_get(f, KIND_DEPLOYMENT, "demo-predictor"), "Progressing", "True",
                     "CanaryAvailable", NULL);
    apply(f, 2, 60);
    assert_int_equal(share(f, 2), 60);
    apply(f, 2, 0);
    assert_int_equal(share(f, 2), 0); /* dark: it runs, and nobody is sent there */
    assert_int_equal(num_running(f, 2), 1);
    assert_int_field(predictor(f), "traffic.0.percent", 0);
    apply(f, 2, 1);
    assert_int_equal(share(f, 2), 1);
    apply(f, 2, -1);
    assert_int_equal(share(f, 2), 100);
    assert_int_equal(num_running(f, 1), 0);
    assert_int_equal(f->num_starts, num_starts);
    assert_revisions(f, V2, V2, V2, V1);
    assert_field(predictor(f), "traffic.1.revisionName", NULL);
    assert_condition(fixture_get(f, KIND_DEPLOYMENT, "demo-predictor"), "Progressing", "True",
                     "NewReplicaSetAvailable", NULL);
}

/* Writes args and percent as apply() does, but turns the controllers round by round; every table on
 * the way, not only the last, has to give the canary (seed 2) one of two shares. */
static void apply_round_by_round(struct fixture *f, int seed, int percent, int before, int after) {
    struct error err = ERROR_INIT;
    struct object_key key;
    json_t *isvc = fixture_get(f, KIND_INFERENCE_SERVICE, "demo");
    json_object_del(object_at(isvc, "spec.predictor"), "canaryTrafficPercent");
    if (percent >= 0)
        object_set(isvc, "spec.predictor.canaryTrafficPercent", json_integer(percent));
    AUTO_FREE char *arg = mem_printf("--seed=%d", seed);
    object_set(isvc, "spec.predictor.model.args", json_pack("[s]", arg));
    object_set(isvc, "metadata.generation",
               json_integer(object_int(isvc, "metadata.generation", 0) + 1));
    fixture_key(&key, KIND_INFERENCE_SERVICE, "demo");
    assert_int_equal(store_put(f->store, key.text, isvc, STORE_EXPECT_ANY, NULL, &err), OK);
    for (int round = 0; round < FIXTURE_ROUNDS_MAX; round++) {
        controllers_run(f->controllers, f->wall_ms, f->mono_ms);
        int canary = share(f, 2);
        assert_true(canary == before || canary == after);
        assert_int_equal(share(f, 1), 100 - canary);
        f->wall_ms++;
        f->mono_ms++;
    }
    assert_int_equal(share(f, 2), after);
}

static void no_round_gives_a_canary_more_than_its_share(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_INFERENCE_SERVICE, DEMO);
    fixture_patch(f, KIND_INFERENCE_SERVICE, "demo", "spec.predictor.minReplicas", "2");
    fixture_pass(f);
    apply_round_by_round(f, 2, 20, 0, 20);
    apply_round_by_round(f, 2, 70, 20, 70);
    apply_round_by_round(f, 1, 70, 70, 0);
    apply_round_by_round(f, 2, 1, 0, 1);
    apply_round_by_round(f, 1, -1, 1, 0);
    apply_round_by_round(f, 2, 5, 0, 5);
    apply_round_by_round(f, 2, -1, 5, 100);
}

/* The table gives every revision that the status names what the status says. */
static bool table_holds(const struct traffic_table *t, const json_t *status) {
    const struct traffic_service *s = traffic_find(t, "default", "demo");
    const char *rolled_out = object_str(status, "latestRolledoutRevision");
    size_t i;
    json_t *target;
    json_array_foreach (object_at(status, "traffic"), i, target) {
        const struct traffic_revision *r =
            s ? traffic_find_revision(s, object_str(target, "revisionName")) : NULL;
        if (!r || r->percent != (uint32_t)object_int(target, "percent", 0))
            return false;
    }
    bool split = json_array_size(object_at(status, "traffic")) > 1;
    return split || (s && rolled_out && traffic_find_revision(s, rolled_out));
}

struct truth {
    struct fixture *f;
    struct traffic_table *before; /* the one that a publish replaces; a reference */
    int num_tables;
};

/* In the moment of a publish: what is in the store already was true of the table before. */
static void check_truth(void *user) {
    struct truth *truth = user;
    struct traffic_table *now = traffic_current(truth->f->traffic);
    json_t *status = predictor(truth->f);
    if (truth->before && json_array_size(object_at(status, "traffic")) &&
        table_holds(now, status) && !table_holds(truth->before, status)) {
        AUTO_FREE char *text = json_dumps(status, JSON_INDENT(1));
        fail_msg("the status told what no request found yet: %s", text);
    }
    truth->num_tables++;
    json_decref(status);
    traffic_table_unref(truth->before);
    truth->before = now;
}

static void the_status_tells_only_what_requests_find(void **state) {
    struct fixture *f = *state;
    struct truth truth = {.f = f};
    fixture_create(f, KIND_INFERENCE_SERVICE, DEMO);
    traffic_on_change(f->traffic, check_truth, &truth);
    fixture_pass(f);
    static const struct {
        int seed, percent;
    } steps[] = {{2, 20}, {2, 50}, {1, 50}, {2, 0}, {2, 99}, {2, -1}, {3, -1}, {4, 10}, {3, -1}};
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        apply(f, steps[i].seed, steps[i].percent);
        json_t *status = predictor(f);
        assert_true(table_holds(truth.before, status));
        json_decref(status);
    }
    traffic_off_change(f->traffic, &truth);
    traffic_table_unref(truth.before);
    assert_true(truth.num_tables >= (int)ARRAY_LEN(steps)); /* it looked at each */
}

static void the_way_back_after_a_promotion_is_a_split_with_the_one_before(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_INFERENCE_SERVICE, DEMO);
    fixture_pass(f);
    apply(f, 2, 20);
    apply(f, 2, -1);
    assert_int_equal(num_running(f, 1), 0);
    assert_revisions(f, V2, V2, V2, V1);
    f->ready_at_once = false;
    apply(f, 2, 0); /* pins the one before, which has to start first */
    assert_int_equal(num_running(f, 1), 1);
    assert_int_equal(share(f, 2), 100);
    assert_revisions(f, V2, V2, V2, V1);
    ready_all(f, 1);
    assert_int_equal(share(f, 1), 100);
    assert_int_equal(num_running(f, 2), 1);
    assert_revisions(f, V2, V2, V1, V1);
    assert_int_field(predictor(f), "traffic.0.percent", 0);
    assert_field(predictor(f), "traffic.1.revisionName", V1);
    int num_starts = f->num_starts;
    apply(f, 2, 30);
    assert_int_equal(share(f, 2), 30);
    apply(f, 2, -1); /* promoted again */
    assert_int_equal(share(f, 2), 100);
    assert_int_equal(f->num_starts, num_starts);
    assert_revisions(f, V2, V2, V2, V1);
    f->ready_at_once = true;
    apply(f, 3, 40); /* a new template: the split is with what was rolled out, not the one before */
    assert_int_equal(share(f, 2), 60);
    assert_int_equal(share(f, 3), 40);
    assert_int_equal(num_running(f, 1), 0);
    assert_revisions(f, V3, V3, V2, V1);
}

static void a_way_back_that_never_gets_ready_changes_nothing(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_INFERENCE_SERVICE, DEMO);
    fixture_pass(f);
    apply(f, 2, -1);
    f->ready_at_once = false;
    apply(f, 2, 0);
    for (int crash = 0; crash < 2; crash++) {
        for (int i = 0; i < FIXTURE_PROCESSES_MAX; i++) {
            struct fake_process *p = &f->processes[i];
            if (p->used && strstr(p->argv, "--seed=1 "))
                fixture_exit(f, p, 1, 0, "load model: broken");
        }
        fixture_pass(f);
        assert_int_equal(share(f, 2), 100);
    }
    assert_revisions(f, V2, V2, V2, V1);
}

static void a_client_header_of_a_service_reaches_the_table(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_INFERENCE_SERVICE, DEMO);
    fixture_pass(f);
    int num_starts = f->num_starts;
    static const struct {
        const char *annotation, *header;
    } rows[] = {{"\"api-key\"", "Authorization"}, {"\"header:X-User\"", "X-User"}, {"null", NULL}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO_FREE char *text = mem_printf("{\"inferd.io/sticky-by\":%s}", rows[i].annotation);
        fixture_patch(f, KIND_INFERENCE_SERVICE, "demo", "metadata.annotations", text);
        fixture_pass(f);
        AUTO(traffic_table) t = traffic_current(f->traffic);
        const char *header = traffic_find(t, "default", "demo")->sticky_header;
        assert_true(rows[i].header ? header && !strcmp(header, rows[i].header) : !header);
    }
    assert_int_equal(f->num_starts, num_starts);
}

static void the_latest_has_a_tag_where_that_is_asked_for(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_INFERENCE_SERVICE, DEMO);
    fixture_pass(f);
    assert_field(predictor(f), "traffic.0.tag", NULL);
    int num_starts = f->num_starts;
    fixture_patch(f, KIND_INFERENCE_SERVICE, "demo", "metadata.annotations",
                  "{\"serving.kserve.io/enable-tag-routing\":\"true\"}");
    fixture_pass(f);
    assert_field(predictor(f), "traffic.0.tag", "latest");
    assert_field(predictor(f), "traffic.0.url", "http://latest-demo-predictor.default.example.com");
    assert_int_equal(f->num_starts, num_starts); /* it says nothing to a pod */
    apply(f, 2, 20);
    AUTO(traffic_table) t = traffic_current(f->traffic);
    const struct traffic_service *s = traffic_find(t, "default", "demo");
    assert_string_equal(traffic_find_tag(s, "latest")->revision, V2);
    assert_string_equal(traffic_find_tag(s, "prev")->revision, V1);
    assert_field(predictor(f), "traffic.1.url", "http://prev-demo-predictor.default.example.com");
}

static void a_hundred_promotes_as_well(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_INFERENCE_SERVICE, DEMO);
    fixture_pass(f);
    apply(f, 2, 50);
    assert_int_equal(share(f, 2), 50);
    apply(f, 2, 100);
    assert_int_equal(share(f, 2), 100);
    assert_int_equal(num_running(f, 1), 0);
    assert_revisions(f, V2, V2, V2, V1);
}

static void the_old_template_takes_all_at_once_and_is_not_restarted(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_INFERENCE_SERVICE, DEMO);
    fixture_pass(f);
    apply(f, 2, 20);
    assert_int_equal(share(f, 2), 20);
    int num_starts = f->num_starts;
    apply(f, 1, 20); /* the field may stay */
    assert_int_equal(share(f, 1), 100);
    assert_int_equal(num_running(f, 2), 0);
    assert_int_equal(f->num_starts, num_starts);
    assert_revisions(f, V3, V3, V3, V1); /* the same ReplicaSet, numbered anew */
    fixture_advance(f, 60 * 1000);
    assert_revisions(f, V3, V3, V3, V1);

    apply(f, 2, -1);
    apply(f, 3, 20);
    num_starts = f->num_starts;
    apply(f, 2, -1); /* or goes with the template */
    assert_int_equal(share(f, 2), 100);
    assert_int_equal(num_running(f, 3), 0);
    assert_int_equal(f->num_starts, num_starts);
}

static void a_canary_that_never_gets_ready_never_gets_a_request(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_INFERENCE_SERVICE, DEMO);
    fixture_patch(f, KIND_INFERENCE_SERVICE, "demo", "spec.predictor.minReplicas", "2");
    fixture_pass(f);
    assert_int_equal(num_running(f, 1), 2);
    f->ready_at_once = false;
    apply(f, 2, 90);
    for (int crash = 0; crash < 2; crash++) {
        for (int i = 0; i < FIXTURE_PROCESSES_MAX; i++) {
            struct fake_process *p = &f->processes[i];
            if (p->used && strstr(p->argv, "--seed=2 "))
                fixture_exit(f, p, 1, 0, "load model: broken");
        }
        fixture_pass(f);
        assert_int_equal(share(f, 1), 100);
    }
    fixture_advance(f, 700 * 1000);
    assert_int_equal(num_running(f, 1), 2);
    assert_int_equal(share(f, 1), 100);
    assert_revisions(f, V2, V1, V1, NULL);
    assert_condition(fixture_get(f, KIND_DEPLOYMENT, "demo-predictor"), "Progressing", "False",
                     "ProgressDeadlineExceeded", NULL);
    assert_condition(fixture_get(f, KIND_INFERENCE_SERVICE, "demo"), "Ready", "True", NULL, NULL);
    assert_field(fixture_get(f, KIND_INFERENCE_SERVICE, "demo"),
                 "status.modelStatus.transitionStatus", "BlockedByFailedLoad");
    assert_field(fixture_get(f, KIND_INFERENCE_SERVICE, "demo"),
                 "status.modelStatus.lastFailureInfo.modelRevisionName", V2);
}

static void half_a_canary_gets_nothing_and_a_wounded_one_keeps_its_share(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_INFERENCE_SERVICE, DEMO);
    fixture_patch(f, KIND_INFERENCE_SERVICE, "demo", "spec.predictor.minReplicas", "2");
    fixture_pass(f);
    f->ready_at_once = false;
    apply(f, 2, 40);
    struct fake_process *first = NULL;
    for (int i = 0; i < FIXTURE_PROCESSES_MAX && !first; i++) {
        if (f->processes[i].used && strstr(f->processes[i].argv, "--seed=2 "))
            first = &f->processes[i];
    }
    assert_non_null(first);
    fixture_set_phase(f, first, REPLICA_READY);
    fixture_pass(f);
    assert_int_equal(share(f, 2), 0);
    ready_all(f, 2);
    assert_int_equal(share(f, 2), 40);
    fixture_exit(f, first, 9, 0, "");
    fixture_pass(f);
    assert_int_equal(share(f, 2), 40);
    assert_revisions(f, V2, V2, V1, NULL);
}

static void the_next_canary_replaces_the_one_before(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_INFERENCE_SERVICE, DEMO);
    fixture_pass(f);
    apply(f, 2, 30);
    apply(f, 3, 30);
    assert_int_equal(share(f, 1), 70);
    assert_int_equal(share(f, 3), 30);
    assert_int_equal(num_running(f, 2), 0);
    assert_revisions(f, V3, V3, V1, NULL);
    fixture_patch(f, KIND_INFERENCE_SERVICE, "demo", "spec.predictor.minReplicas", "3");
    fixture_pass(f);
    assert_int_equal(num_running(f, 1), 3);
    assert_int_equal(num_running(f, 3), 3);
    assert_int_equal(share(f, 3), 30);
}

static void without_a_version_rolled_out_the_field_changes_nothing(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_INFERENCE_SERVICE, DEMO);
    fixture_patch(f, KIND_INFERENCE_SERVICE, "demo", "spec.predictor.canaryTrafficPercent", "10");
    fixture_pass(f);
    assert_int_equal(share(f, 1), 100);
    assert_int_field(predictor(f), "traffic.0.percent", 100);
    assert_int_equal(fixture_num_processes(f), 1);
}

static void a_killed_daemon_comes_back_with_its_canary(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_INFERENCE_SERVICE, DEMO);
    fixture_pass(f);
    apply(f, 2, 20);
    fixture_end_daemon(f);
    fixture_start_daemon(f);
    fixture_pass(f);
    assert_int_equal(share(f, 1), 80);
    assert_int_equal(share(f, 2), 20);
    assert_revisions(f, V2, V2, V1, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(a_canary_gets_its_share_and_is_promoted_without_a_restart),
        FIXTURE_TEST(no_round_gives_a_canary_more_than_its_share),
        FIXTURE_TEST(the_status_tells_only_what_requests_find),
        FIXTURE_TEST(the_way_back_after_a_promotion_is_a_split_with_the_one_before),
        FIXTURE_TEST(a_way_back_that_never_gets_ready_changes_nothing),
        FIXTURE_TEST(a_client_header_of_a_service_reaches_the_table),
        FIXTURE_TEST(the_latest_has_a_tag_where_that_is_asked_for),
        FIXTURE_TEST(a_hundred_promotes_as_well),
        FIXTURE_TEST(the_old_template_takes_all_at_once_and_is_not_restarted),
        FIXTURE_TEST(a_canary_that_never_gets_ready_never_gets_a_request),
        FIXTURE_TEST(half_a_canary_gets_nothing_and_a_wounded_one_keeps_its_share),
        FIXTURE_TEST(the_next_canary_replaces_the_one_before),
        FIXTURE_TEST(without_a_version_rolled_out_the_field_changes_nothing),
        FIXTURE_TEST(a_killed_daemon_comes_back_with_its_canary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
