#include "core/control/events.h"
#include "core/control/fixture_test.h"

static const char DEMO[] =
    "{\"metadata\":{\"name\":\"demo\"},\"spec\":{\"predictor\":{\"minReplicas\":2,\"model\":{"
    "\"modelFormat\":{\"name\":\"huggingface\"},\"storageUri\":\"embedded://demo-chat\"}}}}";

static void foreground_deletion_waits_for_processes(void **state) {
    struct fixture *f = *state;
    f->stops_at_once = false;
    fixture_create(f, KIND_INFERENCE_SERVICE, DEMO);
    fixture_delete(f, KIND_INFERENCE_SERVICE, "demo", "Foreground", 0);
    fixture_pass(f);
    assert_int_equal(fixture_count(f, KIND_INFERENCE_SERVICE), 1);
    assert_int_equal(fixture_count(f, KIND_DEPLOYMENT), 1);
    assert_int_equal(fixture_count(f, KIND_POD), 2);
    for (int i = 0; i < FIXTURE_PROCESSES_MAX; i++) {
        if (f->processes[i].used)
            fixture_exit(f, &f->processes[i], 0, 0, "");
    }
    fixture_pass(f);
    assert_int_equal(fixture_count(f, KIND_POD), 0);
    assert_int_equal(fixture_count(f, KIND_DEPLOYMENT), 0);
    assert_int_equal(fixture_count(f, KIND_INFERENCE_SERVICE), 0);
    assert_int_equal(f->num_starts, 2); /* nothing was made anew on the way */
}

static void an_object_with_a_living_owner_stays(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_CONFIG_MAP, "{\"metadata\":{\"name\":\"owner\"}}");
    json_t *owner = fixture_get(f, KIND_CONFIG_MAP, "owner");
    AUTO_FREE char *text = mem_printf(
        "{\"metadata\":{\"name\":\"%s\",\"ownerReferences\":[{\"apiVersion\":\"v1\",\"kind\":"
        "\"ConfigMap\",\"name\":\"owner\",\"uid\":\"%s\"},{\"apiVersion\":\"v1\",\"kind\":"
        "\"Secret\","
        "\"name\":\"x\",\"uid\":\"not-there\"}]}}",
        "child", object_uid(owner));
    json_decref(owner);
    fixture_create(f, KIND_SECRET, text);
    fixture_create(f, KIND_SECRET,
                   "{\"metadata\":{\"name\":\"lost\",\"ownerReferences\":[{\"apiVersion\":\"v1\","
                   "\"kind\":\"Secret\",\"name\":\"x\",\"uid\":\"not-there\"}]}}");
    fixture_pass(f);
    json_t *child = fixture_get(f, KIND_SECRET, "child");
    assert_int_equal(json_array_size(object_at(child, "metadata.ownerReferences")), 1);
    json_decref(child);
    assert_null(fixture_get(f, KIND_SECRET, "lost"));
    fixture_delete(f, KIND_CONFIG_MAP, "owner", "Background", 0);
    fixture_pass(f);
    assert_null(fixture_get(f, KIND_SECRET, "child"));
}

static void a_foreign_finalizer_holds_an_object(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_CONFIG_MAP,
                   "{\"metadata\":{\"name\":\"held\",\"finalizers\":[\"example.com/x\"],"
                   "\"ownerReferences\":[{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"name\":\"x\","
                   "\"uid\":\"not-there\"}]}}");
    fixture_pass(f);
    json_t *held = fixture_get(f, KIND_CONFIG_MAP, "held");
    assert_true(object_deleting(held));
    json_decref(held);
    fixture_patch(f, KIND_CONFIG_MAP, "held", "metadata.finalizers", "[]");
    fixture_pass(f);
    assert_null(fixture_get(f, KIND_CONFIG_MAP, "held"));
}

static void an_owner_in_another_namespace_is_none(void **state) {
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    AUTO(store_object) owner = NULL;
    assert_int_equal(
        store_get(f->store, "core/configmaps/kube-system/kube-root-ca.crt", &owner, &err), OK);
    AUTO_FREE char *text = mem_printf(
        "{\"metadata\":{\"name\":\"child\",\"ownerReferences\":[{\"apiVersion\":\"v1\",\"kind\":"
        "\"ConfigMap\",\"name\":\"kube-root-ca.crt\",\"uid\":\"%s\"}]}}",
        object_uid(owner->json));
    fixture_create(f, KIND_SECRET, text);
    fixture_pass(f);
    assert_null(fixture_get(f, KIND_SECRET, "child"));
    assert_int_equal(
        fixture_events(f, "OwnerRefInvalidNamespace", "does not exist in namespace \"default\""),
        1);
}

static void a_namespace_tells_what_it_waits_for(void **state) {
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    fixture_create(f, KIND_NAMESPACE, "{\"metadata\":{\"name\":\"team\"}}");
    json_t *held = fixture_json("{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\":"
                                " {\"name\": \"held\", \"namespace\": \"team\", \"finalizers\":"
                                " [\"example.com/hold\"]}}");
    assert_int_equal(
        store_put(f->store, "core/configmaps/team/held", held, STORE_EXPECT_ABSENT, NULL, &err),
        OK);
    fixture_delete(f, KIND_NAMESPACE, "team", "Background", 0);
    fixture_pass(f);
    json_t *ns = fixture_get(f, KIND_NAMESPACE, "team");
    assert_condition(json_incref(ns), "NamespaceContentRemaining", "True", "SomeResourcesRemain",
                     "Some resources are remaining: configmaps. has 1 resource instances");
    assert_condition(json_incref(ns), "NamespaceFinalizersRemaining", "True",
                     "SomeFinalizersRemain", "example.com/hold in 1 resource instances");
    assert_condition(ns, "NamespaceDeletionContentFailure", "False", "ContentDeleted", NULL);
    int64_t before = store_revision(f->store);
    fixture_advance(f, 5000); /* waiting writes nothing */
    assert_int_equal(store_revision(f->store), before);
    assert_int_equal(
        store_delete(f->store, "core/configmaps/team/held", STORE_EXPECT_ANY, NULL, &err), OK);
    fixture_pass(f);
    assert_null(fixture_get(f, KIND_NAMESPACE, "team"));
}

static void every_namespace_is_furnished_and_stays_so(void **state) {
    struct fixture *f = *state;
    static const char *const names[] = {"default", "kube-system", "kube-public", "kube-node-lease"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        assert_field(fixture_get(f, KIND_NAMESPACE, names[i]), "status.phase", "Active");
    assert_int_equal(fixture_count(f, KIND_SERVICE_ACCOUNT), 4);
    json_t *ca = fixture_get(f, KIND_CONFIG_MAP, "kube-root-ca.crt");
    assert_string_equal(json_string_value(json_object_get(json_object_get(ca, "data"), "ca.crt")),
                        "CERTIFICATE");
    json_decref(ca);
    fixture_delete(f, KIND_SERVICE_ACCOUNT, "default", "Background", 0);
    fixture_pass(f);
    assert_int_equal(fixture_count(f, KIND_SERVICE_ACCOUNT), 4);
}

static void a_terminating_namespace_is_emptied_and_goes(void **state) {
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    f->stops_at_once = false;
    fixture_create(f, KIND_NAMESPACE, "{\"metadata\":{\"name\":\"team\"}}");
    json_t *o = fixture_json(DEMO);
    object_set(o, "apiVersion", json_string("serving.kserve.io/v1beta1"));
    object_set(o, "kind", json_string("InferenceService"));
    object_set(o, "metadata.namespace", json_string("team"));
    object_stamp_new(o, true, f->wall_ms);
    assert_int_equal(store_put(f->store, "serving.kserve.io/inferenceservices/team/demo", o,
                               STORE_EXPECT_ABSENT, NULL, &err),
                     OK);
    fixture_settle(f);
    assert_int_equal(fixture_num_processes(f), 2);
    fixture_delete(f, KIND_NAMESPACE, "team", "Background", 0);
    fixture_pass(f);
    assert_field(fixture_get(f, KIND_NAMESPACE, "team"), "status.phase", "Terminating");
    assert_int_equal(fixture_count(f, KIND_INFERENCE_SERVICE), 0);
    for (int i = 0; i < FIXTURE_PROCESSES_MAX; i++) {
        if (f->processes[i].used)
            fixture_exit(f, &f->processes[i], 0, 0, "");
    }
    fixture_pass(f);
    assert_null(fixture_get(f, KIND_NAMESPACE, "team"));
    AUTO_STORE_LIST all = {0};
    store_list(f->store, "", &all);
    for (size_t i = 0; i < all.num_items; i++) {
        const char *ns = object_namespace(all.items[i]->json);
        if (ns && !strcmp(ns, "team"))
            fail_msg("%s is left", all.items[i]->key);
    }
    assert_int_equal(f->num_starts, 2);
}

/* By whichever time an event has; more of them than go in one commit. */
static void old_events_go(void **state) {
    static const char *const times[][2] = {
        {"\"lastTimestamp\"", "2025-01-01T00:00:00Z"},
        {"\"eventTime\"", "2025-01-01T00:00:00.000000Z"},
        {"\"firstTimestamp\"", "2025-01-01T00:00:00Z"}, /* made now: that counts */
        {"\"lastTimestamp\"", "soon"},
    };
    struct fixture *f = *state;
    size_t before = fixture_count(f, KIND_EVENT);
    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        AUTO_FREE char *text = mem_printf("{\"metadata\": {\"name\": \"e%zu\"}, %s: \"%s\"}", i,
                                          times[i][0], times[i][1]);
        fixture_create(f, KIND_EVENT, text);
    }
    for (int i = 0; i < EVENTS_EXPIRED_MAX + 5; i++) {
        AUTO_FREE char *text =
            mem_printf("{\"metadata\": {\"name\": \"many%d\"}, \"series\": {\"lastObservedTime\":"
                       " \"2025-01-01T00:00:00.000000Z\"}}",
                       i);
        fixture_create(f, KIND_EVENT, text);
    }
    fixture_advance(f, CONTROLLERS_EVENT_SWEEP_MS + 2 * CONTROLLERS_GC_DELAY_MS);
    assert_int_equal(fixture_count(f, KIND_EVENT), before + 2);
    json_t *kept = fixture_get(f, KIND_EVENT, "e2"), *odd = fixture_get(f, KIND_EVENT, "e3");
    assert_non_null(kept);
    assert_non_null(odd);
    json_decref(kept);
    json_decref(odd);
}

static void events_repeat_as_a_count_and_expire(void **state) {
    struct fixture *f = *state;
    size_t before = fixture_count(f, KIND_EVENT);
    fixture_create(f, KIND_INFERENCE_SERVICE, DEMO);
    size_t num = fixture_count(f, KIND_EVENT);
    assert_true(num > before);
    struct fake_process *p = f->processes;
    while (!p->used)
        p++;
    for (int i = 0; i < 3; i++) {
        fixture_set_phase(f, p, REPLICA_UNREADY);
        fixture_settle(f);
        fixture_set_phase(f, p, REPLICA_READY);
        fixture_settle(f);
    }
    assert_int_equal(fixture_events(f, "Unhealthy", ""), 3);
    fixture_advance(f, f->config.event_ttl_seconds * 1000 + 2 * CONTROLLERS_EVENT_SWEEP_MS);
    assert_int_equal(fixture_count(f, KIND_EVENT), 0);
}

static void the_node_tells_what_clients_require(void **state) {
    struct fixture *f = *state;
    static const char *const required[] = {"nodeInfo.architecture",
                                           "nodeInfo.bootID",
                                           "nodeInfo.containerRuntimeVersion",
                                           "nodeInfo.kernelVersion",
                                           "nodeInfo.kubeProxyVersion",
                                           "nodeInfo.kubeletVersion",
                                           "nodeInfo.machineID",
                                           "nodeInfo.operatingSystem",
                                           "nodeInfo.osImage",
                                           "nodeInfo.systemUUID",
                                           "capacity.cpu",
                                           "capacity.memory",
                                           "allocatable.pods",
                                           "addresses.0.address"};
    json_t *node = fixture_get(f, KIND_NODE, "gpu1");
    for (size_t i = 0; i < ARRAY_LEN(required); i++) {
        AUTO_FREE char *path = mem_printf("status.%s", required[i]);
        if (!object_str(node, path))
            fail_msg("%s is absent", path);
    }
    assert_string_equal(object_label(node, "kubernetes.io/hostname"), "gpu1");
    assert_string_equal(object_condition(node, "Ready"), "True");
    json_decref(node);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(foreground_deletion_waits_for_processes),
        FIXTURE_TEST(an_object_with_a_living_owner_stays),
        FIXTURE_TEST(a_foreign_finalizer_holds_an_object),
        FIXTURE_TEST(an_owner_in_another_namespace_is_none),
        FIXTURE_TEST(a_namespace_tells_what_it_waits_for),
        FIXTURE_TEST(every_namespace_is_furnished_and_stays_so),
        FIXTURE_TEST(a_terminating_namespace_is_emptied_and_goes),
        FIXTURE_TEST(old_events_go),
        FIXTURE_TEST(events_repeat_as_a_count_and_expire),
        FIXTURE_TEST(the_node_tells_what_clients_require),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
