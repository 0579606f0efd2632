#include "core/control/fixture_test.h"

static const char WEB[] =
    "{\"metadata\":{\"name\":\"web\",\"annotations\":{\"kubernetes.io/change-cause\":\"one\"}},"
    "\"spec\":{\"replicas\":3,\"selector\":{\"matchLabels\":{\"app\":\"web\"}},\"template\":{"
    "\"metadata\":{\"labels\":{\"app\":\"web\"}},\"spec\":{\"containers\":[{\"name\":\"c\","
    "\"image\":\"inferd/engine\",\"args\":[\"--model\",\"embedded://demo-chat\"]}]}}}}";

static json_t *web(struct fixture *f) {
    return fixture_get(f, KIND_DEPLOYMENT, "web");
}

static void set_seed(struct fixture *f, int seed) {
    AUTO_FREE char *args =
        mem_printf("[\"--model\",\"embedded://demo-chat\",\"--seed\",\"%d\"]", seed);
    fixture_patch(f, KIND_DEPLOYMENT, "web", "spec.template.spec.containers.0.args", args);
}

static int num_with(struct fixture *f, const char *part) {
    int num = 0;
    for (int i = 0; i < FIXTURE_PROCESSES_MAX; i++)
        num += f->processes[i].used && strstr(f->processes[i].argv, part);
    return num;
}

/* The ReplicaSet with this revision. */
static json_t *revision(struct fixture *f, const char *number) {
    json_t *rs;
    for (size_t i = 0; (rs = fixture_nth(f, KIND_REPLICA_SET, i)); i++) {
        const char *has = object_annotation(rs, "deployment.kubernetes.io/revision");
        if (has && !strcmp(has, number))
            return rs;
        json_decref(rs);
    }
    return NULL;
}

static void it_runs_its_replicas_and_says_so(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_DEPLOYMENT, WEB);
    assert_int_equal(fixture_num_processes(f), 3);
    assert_int_field(web(f), "status.readyReplicas", 3);
    assert_int_field(web(f), "status.updatedReplicas", 3);
    assert_int_field(web(f), "status.unavailableReplicas", 0);
    assert_int_field(web(f), "status.observedGeneration", 1);
    assert_condition(web(f), "Available", "True", "MinimumReplicasAvailable", NULL);
    assert_condition(web(f), "Progressing", "True", "NewReplicaSetAvailable",
                     "has successfully progressed.");
    json_t *rs = revision(f, "1");
    assert_string_equal(object_annotation(rs, "kubernetes.io/change-cause"), "one");
    assert_non_null(object_label(rs, "pod-template-hash"));
    json_decref(rs);
    fixture_patch(f, KIND_DEPLOYMENT, "web", "spec.replicas", "1");
    fixture_pass(f);
    assert_int_equal(fixture_num_processes(f), 1);
    assert_int_equal(fixture_events(f, "ScalingReplicaSet", "from 3 to 1"), 1);
}

static void an_update_keeps_its_bounds_and_can_be_undone(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_DEPLOYMENT, WEB);
    f->ready_at_once = false;
    set_seed(f, 2);
    fixture_pass(f);
    /* 25% of 3: one more, none fewer. */
    assert_int_equal(num_with(f, "--seed 2"), 1);
    assert_int_equal(fixture_num_processes(f), 4);
    assert_int_field(web(f), "status.updatedReplicas", 1);
    assert_condition(web(f), "Progressing", "True", "ReplicaSetUpdated", "is progressing");
    f->ready_at_once = true;
    for (int i = 0; i < FIXTURE_PROCESSES_MAX; i++) {
        if (f->processes[i].used && f->processes[i].state.phase == REPLICA_STARTING)
            fixture_set_phase(f, &f->processes[i], REPLICA_READY);
    }
    fixture_pass(f);
    assert_int_equal(num_with(f, "--seed 2"), 3);
    assert_int_equal(fixture_num_processes(f), 3);
    /* kubectl rollout undo: the old template comes back, as a patch. */
    fixture_patch(f, KIND_DEPLOYMENT, "web", "spec.template.spec.containers.0.args",
                  "[\"--model\",\"embedded://demo-chat\"]");
    fixture_pass(f);
    assert_int_equal(num_with(f, "--seed"), 0);
    assert_int_equal(fixture_count(f, KIND_REPLICA_SET), 2);
    json_t *rs = revision(f, "3");
    assert_non_null(rs);
    assert_string_equal(object_annotation(rs, "deployment.kubernetes.io/revision-history"), "1");
    json_decref(rs);
    json_t *d = web(f);
    assert_string_equal(object_annotation(d, "deployment.kubernetes.io/revision"), "3");
    json_decref(d);
}

static void a_version_that_never_gets_ready_exceeds_its_deadline(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_DEPLOYMENT, WEB);
    fixture_patch(f, KIND_DEPLOYMENT, "web", "spec.progressDeadlineSeconds", "60");
    f->ready_at_once = false;
    set_seed(f, 2);
    fixture_advance(f, 59 * 1000);
    assert_condition(web(f), "Progressing", "True", "ReplicaSetUpdated", NULL);
    fixture_advance(f, 2000);
    assert_condition(web(f), "Progressing", "False", "ProgressDeadlineExceeded",
                     "has timed out progressing.");
    assert_condition(web(f), "Available", "True", NULL, NULL); /* the old ones serve on */
    assert_int_field(web(f), "status.availableReplicas", 3);
}

static void a_paused_deployment_does_not_roll(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_DEPLOYMENT, WEB);
    fixture_patch(f, KIND_DEPLOYMENT, "web", "spec.paused", "true");
    set_seed(f, 2);
    fixture_pass(f);
    assert_int_equal(num_with(f, "--seed 2"), 0);
    assert_condition(web(f), "Progressing", "Unknown", "DeploymentPaused", NULL);
    fixture_patch(f, KIND_DEPLOYMENT, "web", "spec.replicas", "4"); /* scaling still works */
    fixture_pass(f);
    assert_int_equal(fixture_num_processes(f), 4);
    fixture_patch(f, KIND_DEPLOYMENT, "web", "spec.paused", "false");
    fixture_pass(f);
    assert_int_equal(num_with(f, "--seed 2"), 4);
    assert_condition(web(f), "Progressing", "True", "NewReplicaSetAvailable", NULL);
}

static void recreate_stops_everything_first(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_DEPLOYMENT, WEB);
    fixture_patch(f, KIND_DEPLOYMENT, "web", "spec.strategy", "{\"type\":\"Recreate\"}");
    f->stops_at_once = false;
    set_seed(f, 2);
    fixture_pass(f);
    assert_int_equal(num_with(f, "--seed 2"), 0);
    assert_int_equal(fixture_num_processes(f), 3); /* stopping */
    for (int i = 0; i < FIXTURE_PROCESSES_MAX; i++) {
        if (f->processes[i].used)
            fixture_exit(f, &f->processes[i], 0, 0, "");
    }
    fixture_pass(f);
    assert_int_equal(num_with(f, "--seed 2"), 3);
}

static void history_is_kept_to_its_limit(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_DEPLOYMENT, WEB);
    fixture_patch(f, KIND_DEPLOYMENT, "web", "spec.revisionHistoryLimit", "2");
    for (int seed = 2; seed < 7; seed++) {
        set_seed(f, seed);
        fixture_pass(f);
    }
    assert_int_equal(fixture_count(f, KIND_REPLICA_SET), 3);
    json_t *gone = revision(f, "1"), *kept = revision(f, "4");
    assert_null(gone);
    assert_non_null(kept);
    json_decref(kept);
}

static void not_ready_and_younger_pods_go_first(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_DEPLOYMENT, WEB);
    fixture_advance(f, 5000);
    struct fake_process *p = f->processes; /* make the first one unready */
    while (!p->used)
        p++;
    char unready[128], younger[128] = "";
    snprintf(unready, sizeof(unready), "%s", p->pod);
    fixture_patch(f, KIND_DEPLOYMENT, "web", "spec.replicas", "4");
    fixture_pass(f);
    for (int i = 0; i < FIXTURE_PROCESSES_MAX; i++) {
        if (f->processes[i].used && f->processes[i].state.started_ms > p->state.started_ms)
            snprintf(younger, sizeof(younger), "%s", f->processes[i].pod);
    }
    fixture_set_phase(f, p, REPLICA_UNREADY);
    fixture_settle(f);
    fixture_patch(f, KIND_DEPLOYMENT, "web", "spec.replicas", "3");
    fixture_pass(f);
    assert_null(fixture_get(f, KIND_POD, unready));
    fixture_patch(f, KIND_DEPLOYMENT, "web", "spec.replicas", "2");
    fixture_pass(f);
    assert_null(fixture_get(f, KIND_POD, younger));
}

static void min_ready_seconds_delay_availability(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_DEPLOYMENT, WEB);
    fixture_patch(f, KIND_DEPLOYMENT, "web", "spec.minReadySeconds", "30");
    set_seed(f, 2);
    fixture_advance(f, 29000);
    assert_int_equal(num_with(f, "--seed 2"), 1);
    fixture_advance(f, 90000);
    assert_int_equal(num_with(f, "--seed 2"), 3);
    assert_condition(web(f), "Progressing", "True", "NewReplicaSetAvailable", NULL);
}

static void a_pod_deleted_by_hand_is_replaced(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_DEPLOYMENT, WEB);
    json_t *pod = fixture_nth(f, KIND_POD, 0);
    AUTO_FREE char *name = mem_strdup(object_name(pod));
    json_decref(pod);
    fixture_delete(f, KIND_POD, name, "Background", 30);
    fixture_pass(f);
    assert_int_equal(fixture_num_processes(f), 3);
    assert_null(fixture_get(f, KIND_POD, name));
}

static void orphans_that_match_are_adopted(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_DEPLOYMENT, WEB);
    fixture_delete(f, KIND_DEPLOYMENT, "web", "Orphan", 0);
    fixture_pass(f);
    assert_null(web(f));
    assert_int_equal(fixture_count(f, KIND_REPLICA_SET), 1);
    assert_int_equal(fixture_num_processes(f), 3);
    json_t *rs = fixture_nth(f, KIND_REPLICA_SET, 0);
    assert_null(object_controller_of(rs));
    json_decref(rs);
    fixture_create(f, KIND_DEPLOYMENT, WEB);
    fixture_pass(f);
    assert_int_equal(fixture_count(f, KIND_REPLICA_SET), 1);
    assert_int_equal(f->num_starts, 3); /* nothing was restarted */
    json_t *d = web(f);
    rs = fixture_nth(f, KIND_REPLICA_SET, 0);
    assert_true(object_controlled_by(rs, d));
    json_decref(rs);
    json_decref(d);
}

static void what_is_not_the_template_follows_without_a_new_set(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_DEPLOYMENT, WEB);
    set_seed(f, 2);
    fixture_pass(f);
    fixture_patch(f, KIND_DEPLOYMENT, "web", "metadata.annotations",
                  "{\"kubernetes.io/change-cause\": \"two\","
                  " \"deployment.kubernetes.io/revision\": \"2\"}");
    fixture_patch(f, KIND_DEPLOYMENT, "web", "spec.minReadySeconds", "7");
    fixture_pass(f);
    assert_int_equal(fixture_count(f, KIND_REPLICA_SET), 2);
    json_t *first = revision(f, "1"), *second = revision(f, "2");
    assert_string_equal(object_annotation(first, "kubernetes.io/change-cause"), "one");
    assert_string_equal(object_annotation(second, "kubernetes.io/change-cause"), "two");
    assert_int_equal(object_int(second, "spec.minReadySeconds", 0), 7);
    json_decref(first);
    json_decref(second);
}

static void a_set_that_does_not_match_any_more_is_released(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_DEPLOYMENT, WEB);
    json_t *was = fixture_nth(f, KIND_REPLICA_SET, 0);
    AUTO_FREE char *name = mem_strdup(object_name(was));
    json_decref(was);
    fixture_patch(f, KIND_REPLICA_SET, name, "metadata.labels", "{\"app\": \"other\"}");
    fixture_pass(f);
    json_t *released = fixture_get(f, KIND_REPLICA_SET, name);
    assert_null(object_controller_of(released));
    json_decref(released);
    /* The name is taken: the next set's is hashed anew. */
    assert_int_equal(fixture_count(f, KIND_REPLICA_SET), 2);
    assert_int_field(web(f), "status.collisionCount", 1);
    assert_int_field(web(f), "status.availableReplicas", 3);
}

static void pods_that_cannot_be_made_are_told_by_set_and_deployment(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_RESOURCE_QUOTA,
                   "{\"metadata\": {\"name\": \"q\"}, \"spec\": {\"hard\": {\"pods\": \"1\"}}}");
    fixture_create(f, KIND_DEPLOYMENT, WEB);
    fixture_pass(f);
    assert_condition(fixture_nth(f, KIND_REPLICA_SET, 0), "ReplicaFailure", "True", "FailedCreate",
                     "exceeded quota: q");
    assert_condition(web(f), "ReplicaFailure", "True", "FailedCreate", "exceeded quota: q");
    fixture_patch(f, KIND_RESOURCE_QUOTA, "q", "spec.hard.pods", "\"5\"");
    fixture_advance(f, 600 * 1000);
    json_t *d = web(f);
    assert_null(object_find_condition(d, "ReplicaFailure"));
    assert_int_field(d, "status.availableReplicas", 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(it_runs_its_replicas_and_says_so),
        FIXTURE_TEST(an_update_keeps_its_bounds_and_can_be_undone),
        FIXTURE_TEST(a_version_that_never_gets_ready_exceeds_its_deadline),
        FIXTURE_TEST(a_paused_deployment_does_not_roll),
        FIXTURE_TEST(recreate_stops_everything_first),
        FIXTURE_TEST(history_is_kept_to_its_limit),
        FIXTURE_TEST(not_ready_and_younger_pods_go_first),
        FIXTURE_TEST(min_ready_seconds_delay_availability),
        FIXTURE_TEST(a_pod_deleted_by_hand_is_replaced),
        FIXTURE_TEST(orphans_that_match_are_adopted),
        FIXTURE_TEST(what_is_not_the_template_follows_without_a_new_set),
        FIXTURE_TEST(a_set_that_does_not_match_any_more_is_released),
        FIXTURE_TEST(pods_that_cannot_be_made_are_told_by_set_and_deployment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
