#include "core/control/fixture_test.h"
#include "core/control/pod.h"

static const char POD[] =
    "{\"metadata\":{\"name\":\"p\"},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":"
    "\"inferd/engine\",\"args\":[\"--model\",\"embedded://demo-chat\"]}]},\"status\":{\"phase\":"
    "\"Pending\"}}";

static json_t *pod(struct fixture *f) {
    return fixture_get(f, KIND_POD, "p");
}

static void crashes_back_off_as_kubernetes_does(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_POD, POD);
    static const int64_t waits[] = {0, 10000, 20000, 40000, 80000, 160000, 300000, 300000};
    for (size_t i = 0; i < ARRAY_LEN(waits); i++) {
        fixture_exit(f, fixture_only_process(f), 3, 0, "out of luck");
        fixture_settle(f);
        assert_field(pod(f), "status.phase", "Running");
        if (waits[i]) {
            assert_int_equal(fixture_num_processes(f), 0);
            assert_field(pod(f), "status.containerStatuses.0.state.waiting.reason",
                         "CrashLoopBackOff");
            assert_int_field(pod(f), "status.containerStatuses.0.restartCount", (int64_t)i);
            assert_condition(pod(f), "Ready", "False", "ContainersNotReady", "[c]");
            fixture_advance(f, waits[i] - 1);
            assert_int_equal(fixture_num_processes(f), 0);
            fixture_advance(f, 1);
        }
        assert_int_equal(fixture_only_process(f)->restart, i + 1);
        assert_int_field(pod(f), "status.containerStatuses.0.lastState.terminated.exitCode", 3);
        assert_field(pod(f), "status.containerStatuses.0.lastState.terminated.message",
                     "out of luck");
    }
    /* Ten minutes of running are forgiveness. */
    fixture_advance(f, 600 * 1000);
    fixture_exit(f, fixture_only_process(f), 3, 0, "");
    fixture_settle(f);
    assert_int_equal(fixture_num_processes(f), 1);
    assert_true(fixture_events(f, "BackOff", "container c in pod p_default") >= 7);
}

static void signals_are_told_with_their_exit_code(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_POD, POD);
    fixture_exit(f, fixture_only_process(f), 137, 9, "last words \xFF\xFE");
    fixture_settle(f);
    assert_field(pod(f), "status.containerStatuses.0.lastState.terminated.message",
                 "last words \xEF\xBF\xBD\xEF\xBF\xBD");
    assert_int_field(pod(f), "status.containerStatuses.0.lastState.terminated.exitCode", 137);
    assert_int_field(pod(f), "status.containerStatuses.0.lastState.terminated.signal", 9);
    assert_field(pod(f), "status.containerStatuses.0.lastState.terminated.reason", "Error");
    assert_int_equal(fixture_events(f, "Failed", "signal 9"), 1);
}

static void restart_policy_never_ends_the_pod(void **state) {
    struct fixture *f = *state;
    json_t *o = fixture_json(POD);
    object_set(o, "spec.restartPolicy", json_string("Never"));
    AUTO_FREE char *text = json_dumps(o, 0);
    json_decref(o);
    fixture_create(f, KIND_POD, text);
    fixture_exit(f, fixture_only_process(f), 0, 0, "");
    fixture_pass(f);
    assert_field(pod(f), "status.phase", "Succeeded");
    assert_field(pod(f), "status.containerStatuses.0.state.terminated.reason", "Completed");
    assert_int_equal(fixture_num_processes(f), 0);
    fixture_delete(f, KIND_POD, "p", "Background", 30);
    fixture_pass(f);
    assert_null(pod(f));
}

static void a_deleted_pod_drains_before_it_is_stopped(void **state) {
    struct fixture *f = *state;
    f->stops_at_once = false;
    fixture_create(f, KIND_POD, POD);
    struct fake_process *p = fixture_only_process(f);
    assert_condition(pod(f), "Ready", "True", NULL, NULL);
    fixture_delete(f, KIND_POD, "p", "Background", 17);
    assert_condition(pod(f), "Ready", "False", NULL, NULL);
    assert_int_equal(p->grace_ms, -1); /* not asked to stop yet */
    fixture_advance(f, POD_DRAIN_DELAY_MS);
    assert_int_equal(p->grace_ms, 17000);
    assert_condition(pod(f), "Ready", "False", NULL, NULL); /* still there */
    assert_int_equal(fixture_events(f, "Killing", "Stopping container c"), 1);
    fixture_exit(f, p, 0, 0, "");
    fixture_settle(f);
    assert_null(pod(f));
    assert_int_equal(fixture_num_processes(f), 0);
}

static void a_pod_that_vanished_leaves_no_process(void **state) {
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    f->stops_at_once = false;
    fixture_create(f, KIND_POD, POD);
    struct fake_process *p = fixture_only_process(f);
    assert_int_equal(store_delete(f->store, "core/pods/default/p", STORE_EXPECT_ANY, NULL, &err),
                     OK);
    /* And another of the same name comes at once. */
    fixture_create(f, KIND_POD, POD);
    assert_int_equal(p->grace_ms, 0);
    assert_int_equal(fixture_num_processes(f), 2);
    fixture_exit(f, p, 137, 9, "");
    fixture_settle(f);
    assert_int_equal(fixture_num_processes(f), 1);
    assert_condition(pod(f), "Ready", "True", NULL, NULL);
}

static void health_lost_and_found_moves_readiness(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_POD, POD);
    struct fake_process *p = fixture_only_process(f);
    fixture_set_phase(f, p, REPLICA_UNREADY);
    fixture_settle(f);
    assert_condition(pod(f), "Ready", "False", "ContainersNotReady", NULL);
    assert_int_equal(fixture_events(f, "Unhealthy", ""), 1);
    fixture_set_phase(f, p, REPLICA_READY);
    fixture_settle(f);
    assert_condition(pod(f), "Ready", "True", NULL, NULL);
    assert_int_field(pod(f), "status.containerStatuses.0.restartCount", 0);
}

static void what_the_prober_tells_becomes_an_event(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_POD, POD);
    struct fake_process *p = fixture_only_process(f);
    p->note = (struct replica_note){.warning = true, .reason = "Unhealthy", .text = "no, \xFF"};
    controllers_replica_changed(f->controllers, p->uid);
    fixture_settle(f);
    assert_int_equal(fixture_events(f, "Unhealthy", "no, "), 1);
    assert_int_equal(fixture_events(f, "Killing", ""), 0);
    p->note = (struct replica_note){.reason = "Killing", .text = "will be restarted"};
    fixture_exit(f, p, 143, 15, ""); /* told even when the end has come */
    fixture_settle(f);
    assert_int_equal(fixture_events(f, "Killing", "will be restarted"), 1);
}

static void a_start_that_fails_is_tried_again(void **state) {
    struct fixture *f = *state;
    f->start_fails = true;
    fixture_create(f, KIND_POD, POD);
    assert_field(pod(f), "status.containerStatuses.0.state.waiting.reason", "RunContainerError");
    assert_field(pod(f), "status.containerStatuses.0.state.waiting.message",
                 "fork: Resource temporarily unavailable");
    f->start_fails = false;
    fixture_advance(f, 1000);
    assert_condition(pod(f), "Ready", "True", NULL, NULL);
    assert_int_field(pod(f), "status.containerStatuses.0.restartCount", 0);
}

static void environment_comes_from_secrets_and_config_maps(void **state) {
    struct fixture *f = *state;
    json_t *o = fixture_json(POD);
    object_set(o, "spec.containers.0.args",
               json_pack("[s, s, s, s, s, s]", "--model", "embedded://$(WHICH)",
                         "--served-model-name", "$(PRE_a)", "--seed", "$(SEED)"));
    object_set(o, "spec.containers.0.env",
               fixture_json("[{\"name\":\"WHICH\",\"valueFrom\":{\"secretKeyRef\":{\"name\":\"s\","
                            "\"key\":\"k\"}}},{\"name\":\"SEED\",\"value\":\"7\"}]"));
    object_set(o, "spec.containers.0.envFrom",
               fixture_json("[{\"prefix\":\"PRE_\",\"configMapRef\":{\"name\":\"m\"}}]"));
    AUTO_FREE char *text = json_dumps(o, 0);
    json_decref(o);
    fixture_create(f, KIND_CONFIG_MAP, "{\"metadata\":{\"name\":\"m\"},\"data\":{\"a\":\"mine\"}}");
    fixture_create(f, KIND_POD, text);
    assert_field(pod(f), "status.containerStatuses.0.state.waiting.reason",
                 "CreateContainerConfigError");
    assert_field(pod(f), "status.containerStatuses.0.state.waiting.message",
                 "secret \"s\" not found");
    fixture_create(f, KIND_SECRET,
                   "{\"metadata\":{\"name\":\"s\"},\"data\":{\"k\":\"ZGVtby1jaGF0\"}}");
    fixture_advance(f, 10000);
    const char *argv = fixture_only_process(f)->argv;
    assert_non_null(strstr(argv, "embedded://demo-chat"));
    assert_non_null(strstr(argv, "--served-model-name mine --seed 7"));
}

static void a_daemon_killed_in_back_off_goes_on_with_the_next_number(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_POD, POD);
    fixture_exit(f, fixture_only_process(f), 1, 0, "");
    fixture_settle(f);
    fixture_exit(f, fixture_only_process(f), 1, 0, "");
    fixture_settle(f);
    assert_field(pod(f), "status.containerStatuses.0.state.waiting.reason", "CrashLoopBackOff");
    fixture_end_daemon(f);
    fixture_start_daemon(f);
    assert_int_equal(fixture_only_process(f)->restart, 2);
    assert_int_field(pod(f), "status.containerStatuses.0.restartCount", 2);
}

static void pods_wait_for_room_and_get_it(void **state) {
    struct fixture *f = *state;
    json_t *node = fixture_get(f, KIND_NODE, "gpu1");
    const char *cpu = object_str(node, "status.allocatable.cpu");
    json_t *o = fixture_json(POD);
    object_set(o, "spec.containers.0.resources.requests.cpu", json_string(cpu));
    AUTO_FREE char *first = json_dumps(o, 0);
    object_set(o, "metadata.name", json_string("q"));
    AUTO_FREE char *second = json_dumps(o, 0);
    json_decref(o);
    json_decref(node);
    fixture_create(f, KIND_POD, first);
    fixture_create(f, KIND_POD, second);
    assert_condition(fixture_get(f, KIND_POD, "q"), "PodScheduled", "False", "Unschedulable",
                     "1 Insufficient cpu.");
    fixture_delete(f, KIND_POD, "p", "Background", 30);
    fixture_pass(f);
    assert_condition(fixture_get(f, KIND_POD, "q"), "Ready", "True", NULL, NULL);
    fixture_patch(f, KIND_NODE, "gpu1", "spec.unschedulable", "true");
    fixture_create(f, KIND_POD, POD);
    assert_condition(pod(f), "PodScheduled", "False", "Unschedulable",
                     "node(s) were unschedulable");
    fixture_delete(f, KIND_POD, "q", "Background", 30);
    fixture_patch(f, KIND_NODE, "gpu1", "spec.unschedulable", "false");
    fixture_pass(f);
    assert_condition(pod(f), "Ready", "True", NULL, NULL);
}

static void no_execute_taints_send_pods_away(void **state) {
    struct fixture *f = *state;
    json_t *o = fixture_json(POD);
    fixture_create(f, KIND_POD, POD);
    object_set(o, "metadata.name", json_string("q"));
    object_set(o, "spec.tolerations",
               fixture_json("[{\"key\":\"k\",\"operator\":\"Exists\",\"tolerationSeconds\":60}]"));
    AUTO_FREE char *patient = json_dumps(o, 0);
    object_set(o, "metadata.name", json_string("r"));
    object_set(o, "spec.tolerations", fixture_json("[{\"operator\":\"Exists\"}]"));
    AUTO_FREE char *immune = json_dumps(o, 0);
    json_decref(o);
    fixture_create(f, KIND_POD, patient);
    fixture_create(f, KIND_POD, immune);
    assert_int_equal(fixture_num_processes(f), 3);
    fixture_patch(f, KIND_NODE, "gpu1", "spec.taints",
                  "[{\"key\":\"k\",\"value\":\"v\",\"effect\":\"NoExecute\"}]");
    fixture_pass(f);
    assert_null(pod(f));
    assert_int_equal(fixture_events(f, "TaintManagerEviction", "default/p"), 1);
    assert_int_equal(fixture_num_processes(f), 2);
    fixture_advance(f, 57 * 1000);
    assert_int_equal(fixture_num_processes(f), 2);
    fixture_advance(f, 5 * 1000);
    assert_string_equal(fixture_only_process(f)->pod, "r");
}

static void host_pods_have_users_of_their_own(void **state) {
    struct fixture *f = *state;
    json_t *o = fixture_json("{\"metadata\":{\"name\":\"p\"},\"spec\":{\"containers\":[{\"name\":"
                             "\"c\",\"image\":\"host\",\"command\":[\"sleep\",\"9\"]}]}}");
    AUTO_FREE char *first = json_dumps(o, 0);
    object_set(o, "metadata.name", json_string("q"));
    AUTO_FREE char *second = json_dumps(o, 0);
    object_set(o, "metadata.name", json_string("r"));
    AUTO_FREE char *third = json_dumps(o, 0);
    json_decref(o);
    f->config.host_user_first = 7000;
    f->config.host_user_last = 7001;
    fixture_create(f, KIND_POD, first);
    fixture_create(f, KIND_POD, second);
    assert_int_equal(f->processes[0].user + f->processes[1].user, 7000 + 7001);
    fixture_create(f, KIND_POD, third);
    assert_int_equal(fixture_num_processes(f), 2);
    assert_field(fixture_get(f, KIND_POD, "r"), "status.containerStatuses.0.state.waiting.message",
                 "all users 7000..7001 of host pods are taken");
    fixture_delete(f, KIND_POD, "q", "Background", 30);
    fixture_advance(f, POD_MODEL_RETRY_MS_MAX);
    assert_condition(fixture_get(f, KIND_POD, "r"), "Ready", "True", NULL, NULL);

    fixture_delete(f, KIND_POD, "p", "Background", 30);
    fixture_pass(f);
    f->config.host_processes = false;
    fixture_create(f, KIND_POD, first);
    assert_field(pod(f), "status.containerStatuses.0.state.waiting.message",
                 "the image \"host\" is turned off on this machine (hostProcesses)");
}

/* Pods of several containers. */

/* NAME may be followed by what else is in the container. */
#define HOST(name) "{\"name\":\"" name "\",\"image\":\"host\",\"command\":[\"" name "\"]"
#define SIDECAR    ",\"restartPolicy\":\"Always\""

static void create_host_pod(struct fixture *f, const char *policy, const char *init,
                            const char *main_containers) {
    AUTO_FREE char *text = mem_printf("{\"metadata\":{\"name\":\"p\"},\"spec\":{\"restartPolicy\":"
                                      "\"%s\",\"initContainers\":[%s],\"containers\":[%s]}}",
                                      policy, init, main_containers);
    fixture_create(f, KIND_POD, text);
}

static void end(struct fixture *f, const char *container, int code) {
    struct fake_process *p = fixture_container(f, container);
    assert_non_null(p);
    fixture_exit(f, p, code, 0, "");
    fixture_settle(f);
}

static void assert_running(struct fixture *f, const char *names) {
    char have[256] = "";
    for (int i = 0; i < FIXTURE_PROCESSES_MAX; i++) {
        if (f->processes[i].used)
            snprintf(have + strlen(have), sizeof(have) - strlen(have), "%s%s", *have ? " " : "",
                     f->processes[i].container);
    }
    assert_string_equal(have, names);
}

static void init_containers_run_one_after_the_other(void **state) {
    struct fixture *f = *state;
    create_host_pod(f, "Always", HOST("a") "}," HOST("b") "}", HOST("c") "}," HOST("d") "}");
    assert_running(f, "a");
    assert_field(pod(f), "status.phase", "Pending");
    assert_condition(pod(f), "Initialized", "False", "ContainersNotInitialized", "[a b]");
    assert_field(pod(f), "status.containerStatuses.0.state.waiting.reason", "PodInitializing");
    end(f, "a", 1); /* again, and once more after a while */
    assert_running(f, "a");
    end(f, "a", 1);
    assert_running(f, "");
    assert_field(pod(f), "status.initContainerStatuses.0.state.waiting.reason", "CrashLoopBackOff");
    fixture_advance(f, 10000);
    assert_int_field(pod(f), "status.initContainerStatuses.0.restartCount", 2);
    end(f, "a", 0);
    assert_running(f, "b");
    assert_field(pod(f), "status.initContainerStatuses.0.state.terminated.reason", "Completed");
    assert_condition(pod(f), "Initialized", "False", NULL, "[b]");
    end(f, "b", 0);
    assert_running(f, "c d");
    assert_condition(pod(f), "Initialized", "True", NULL, NULL);
    assert_condition(pod(f), "Ready", "True", NULL, NULL);
    assert_field(pod(f), "status.phase", "Running");
    /* Each has its own restarts. */
    end(f, "d", 3);
    assert_running(f, "c d");
    assert_int_field(pod(f), "status.containerStatuses.0.restartCount", 0);
    assert_int_field(pod(f), "status.containerStatuses.1.restartCount", 1);
    fixture_set_phase(f, fixture_container(f, "d"), REPLICA_UNREADY);
    fixture_settle(f);
    assert_condition(pod(f), "Ready", "False", "ContainersNotReady", "status: [d]");
}

static void a_failed_init_container_fails_a_pod_that_is_never_restarted(void **state) {
    struct fixture *f = *state;
    create_host_pod(f, "Never", HOST("s") SIDECAR "}," HOST("a") "}", HOST("c") "}");
    assert_running(f, "s a");
    end(f, "a", 9);
    assert_running(f, ""); /* the sidecar was stopped */
    assert_field(pod(f), "status.phase", "Failed");
    assert_condition(pod(f), "Ready", "False", "PodFailed", NULL);
    assert_field(pod(f), "status.containerStatuses.0.state.waiting.reason", "PodInitializing");
}

static void sidecars_accompany_and_end_last(void **state) {
    struct fixture *f = *state;
    f->ready_at_once = false;
    create_host_pod(f, "OnFailure", HOST("s") SIDECAR "}", HOST("c") "}," HOST("d") "}");
    assert_running(f, "s");
    fixture_set_phase(f, fixture_container(f, "s"), REPLICA_READY);
    fixture_settle(f);
    assert_running(f, "s c d");
    f->ready_at_once = true;
    end(f, "s", 0); /* comes back whatever its exit code */
    assert_running(f, "s c d");
    end(f, "c", 0);
    assert_running(f, "s d");
    f->stops_at_once = false;
    end(f, "d", 0);
    assert_field(pod(f), "status.phase", "Running");
    assert_int_equal(fixture_container(f, "s")->grace_ms, 30000);
    end(f, "s", 143);
    assert_field(pod(f), "status.phase", "Succeeded");
    assert_running(f, "");
}

static void a_deleted_pod_stops_its_sidecars_last(void **state) {
    struct fixture *f = *state;
    f->stops_at_once = false;
    create_host_pod(f, "Always", HOST("s") SIDECAR "}", HOST("c") "}");
    fixture_delete(f, KIND_POD, "p", "Background", 20);
    fixture_advance(f, POD_DRAIN_DELAY_MS);
    assert_int_equal(fixture_container(f, "c")->grace_ms, 20000);
    assert_int_equal(fixture_container(f, "s")->grace_ms, -1);
    assert_int_equal(fixture_events(f, "Killing", "Stopping container "), 2);
    fixture_advance(f, 5000);
    end(f, "c", 0);
    assert_int_equal(fixture_container(f, "s")->grace_ms, 15000);
    end(f, "s", 0);
    assert_null(pod(f));
}

static void a_daemon_that_starts_anew_begins_with_the_init_containers(void **state) {
    struct fixture *f = *state;
    create_host_pod(f, "OnFailure", HOST("a") "}", HOST("c") "}," HOST("d") "}");
    end(f, "a", 0);
    end(f, "c", 0);
    fixture_end_daemon(f);
    fixture_start_daemon(f);
    assert_running(f, "a");
    end(f, "a", 0);
    assert_running(f, "d"); /* c had done its work */
    end(f, "d", 0);
    assert_field(pod(f), "status.phase", "Succeeded");
}

static void a_host_pod_has_host_containers_only(void **state) {
    struct fixture *f = *state;
    create_host_pod(f, "Always", "", HOST("c") "},{\"name\":\"e\",\"image\":\"inferd/engine\"}");
    assert_running(f, "c");
    assert_field(pod(f), "status.containerStatuses.1.state.waiting.message",
                 "spec.containers[1].image: \"inferd/engine\" cannot be run beside containers with "
                 "the image \"host\"");
    assert_condition(pod(f), "Ready", "False", NULL, "[e]");
}

static void a_pod_that_serves_a_model_runs_nothing_else(void **state) {
    struct fixture *f = *state;
    json_t *o = fixture_json(POD);
    json_array_append_new(object_at(o, "spec.containers"), fixture_json(HOST("evil") "}"));
    object_set(o, "spec.initContainers", fixture_json("[" HOST("worse") "}]"));
    AUTO_FREE char *text = json_dumps(o, 0);
    json_decref(o);
    fixture_create(f, KIND_POD, text);
    assert_running(f, "c");
    assert_condition(pod(f), "Ready", "True", NULL, NULL);
    assert_field(pod(f), "status.containerStatuses.1.state.waiting.reason", "NotSupported");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(crashes_back_off_as_kubernetes_does),
        FIXTURE_TEST(signals_are_told_with_their_exit_code),
        FIXTURE_TEST(restart_policy_never_ends_the_pod),
        FIXTURE_TEST(a_deleted_pod_drains_before_it_is_stopped),
        FIXTURE_TEST(a_pod_that_vanished_leaves_no_process),
        FIXTURE_TEST(health_lost_and_found_moves_readiness),
        FIXTURE_TEST(what_the_prober_tells_becomes_an_event),
        FIXTURE_TEST(a_start_that_fails_is_tried_again),
        FIXTURE_TEST(environment_comes_from_secrets_and_config_maps),
        FIXTURE_TEST(a_daemon_killed_in_back_off_goes_on_with_the_next_number),
        FIXTURE_TEST(pods_wait_for_room_and_get_it),
        FIXTURE_TEST(no_execute_taints_send_pods_away),
        FIXTURE_TEST(host_pods_have_users_of_their_own),
        FIXTURE_TEST(init_containers_run_one_after_the_other),
        FIXTURE_TEST(a_failed_init_container_fails_a_pod_that_is_never_restarted),
        FIXTURE_TEST(sidecars_accompany_and_end_last),
        FIXTURE_TEST(a_deleted_pod_stops_its_sidecars_last),
        FIXTURE_TEST(a_daemon_that_starts_anew_begins_with_the_init_containers),
        FIXTURE_TEST(a_host_pod_has_host_containers_only),
        FIXTURE_TEST(a_pod_that_serves_a_model_runs_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
