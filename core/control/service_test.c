/* Addresses that are nobody else's, endpoints that follow the pods. */
#include "core/control/service.h"

#include "core/control/fixture_test.h"

static json_t *service(const char *name, const char *spec) {
    AUTO_FREE char *text = mem_printf(
        "{\"metadata\": {\"name\": \"%s\", \"namespace\": \"default\"}, \"spec\": %s}", name, spec);
    return fixture_json(text);
}

static void addresses_are_unique_and_stay(void **state) {
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    json_t *a = service("a", "{}"), *again = service("a", "{}");
    assert_int_equal(service_assign(f->store, a, NULL, &err), OK);
    assert_int_equal(service_assign(f->store, again, NULL, &err), OK);
    const char *address = object_str(a, "spec.clusterIP");
    assert_memory_equal(address, SERVICE_RANGE, sizeof(SERVICE_RANGE) - 1);
    assert_string_equal(address, object_str(again, "spec.clusterIP"));
    assert_string_equal(object_str(a, "spec.clusterIPs.0"), address);
    assert_string_equal(object_str(a, "spec.ipFamilies.0"), "IPv4");

    AUTO_FREE char *asks = mem_printf("{\"clusterIP\": \"%s\"}", address);
    fixture_create(f, KIND_SERVICE, "{\"metadata\": {\"name\": \"a\"}, \"spec\": {}}");
    json_t *stored = fixture_get(f, KIND_SERVICE, "a");
    object_set(stored, "spec.clusterIP", json_string(address));
    struct object_key key;
    assert_int_equal(store_put(f->store, fixture_key(&key, KIND_SERVICE, "a"), stored,
                               STORE_EXPECT_ANY, NULL, &err),
                     OK);
    json_t *b = service("b", asks);
    assert_int_equal(service_assign(f->store, b, NULL, &err), ERR_INVALID);
    assert_string_equal(err.field, "spec.clusterIPs");
    json_decref(b);
    /* Nobody gets it by chance, either: the place of the name is taken. */
    object_set(again, "metadata.name", json_string("a"));
    object_set(again, "metadata.namespace", json_string("default"));
    json_t *update = service("a", asks);
    assert_int_equal(service_assign(f->store, update, a, &err), OK);
    assert_string_equal(object_str(update, "spec.clusterIPs.0"), address);
    json_decref(update);
    json_decref(again);
    json_decref(a);
}

static void some_services_have_no_address(void **state) {
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    json_t *external = service("e", "{\"type\": \"ExternalName\", \"externalName\": \"x\"}");
    json_t *headless = service("h", "{\"clusterIP\": \"None\"}");
    assert_int_equal(service_assign(f->store, external, NULL, &err), OK);
    assert_null(object_at(external, "spec.clusterIP"));
    assert_int_equal(service_assign(f->store, headless, NULL, &err), OK);
    assert_field(headless, "spec.clusterIPs.0", "None");
    json_decref(external);
}

static void warnings_by_table(void **state) {
    static const struct {
        const char *spec;
        size_t num;
    } cases[] = {
        {"{\"type\": \"ClusterIP\"}", 1},
        {"{\"clusterIP\": \"None\"}", 0},
        {"{\"type\": \"ExternalName\"}", 0},
        {"{\"type\": \"NodePort\"}", 1},
        {"{\"type\": \"LoadBalancer\", \"loadBalancerIP\": \"1.2.3.4\"}", 2},
        {"{\"clusterIP\": \"None\", \"sessionAffinity\": \"ClientIP\", \"externalIPs\": []}", 2},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        json_t *s = service("a", cases[i].spec), *warnings = json_array();
        service_warn(s, warnings);
        if (json_array_size(warnings) != cases[i].num)
            fail_msg("%s: %zu warnings", cases[i].spec, json_array_size(warnings));
        json_decref(warnings);
        json_decref(s);
    }
}

static void endpoints_by_pod(void **state) {
    static const char *const texts[] = {
        "{\"metadata\": {\"name\": \"ready\", \"namespace\": \"d\", \"labels\": {\"a\": \"b\"}},"
        " \"spec\": {\"nodeName\": \"n\", \"containers\": [{\"ports\": [{\"name\": \"web\","
        " \"containerPort\": 8080}]}]}, \"status\": {\"podIP\": \"10.0.0.1\", \"conditions\":"
        " [{\"type\": \"Ready\", \"status\": \"True\"}]}}",
        "{\"metadata\": {\"name\": \"unready\", \"namespace\": \"d\", \"labels\": {\"a\": \"b\"}},"
        " \"spec\": {}, \"status\": {\"podIP\": \"10.0.0.1\"}}",
        "{\"metadata\": {\"name\": \"ended\", \"namespace\": \"d\", \"labels\": {\"a\": \"b\"}},"
        " \"spec\": {}, \"status\": {\"podIP\": \"10.0.0.1\", \"phase\": \"Failed\"}}",
        "{\"metadata\": {\"name\": \"other\", \"namespace\": \"d\", \"labels\": {\"a\": \"c\"}},"
        " \"spec\": {}, \"status\": {\"podIP\": \"10.0.0.1\"}}",
        "{\"metadata\": {\"name\": \"unplaced\", \"namespace\": \"d\", \"labels\": {\"a\": \"b\"}},"
        " \"spec\": {}, \"status\": {}}",
        "{\"metadata\": {\"name\": \"ending\", \"namespace\": \"d\", \"labels\": {\"a\": \"b\"},"
        " \"deletionTimestamp\": \"2026-01-01T00:00:00Z\"}, \"spec\": {}, \"status\": {\"podIP\":"
        " \"10.0.0.1\", \"conditions\": [{\"type\": \"Ready\", \"status\": \"True\"}]}}",
    };
    const json_t *pods[ARRAY_LEN(texts)];
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        pods[i] = fixture_json(texts[i]);
    json_t *s =
        service("s", "{\"selector\": {\"a\": \"b\"}, \"ports\": [{\"name\": \"x\", \"port\":"
                     " 80, \"targetPort\": \"web\"}, {\"name\": \"y\", \"port\": 81},"
                     " {\"name\": \"z\", \"port\": 82, \"targetPort\": \"absent\"}]}");
    json_t *view = service_endpoints(s, pods, ARRAY_LEN(texts));
    assert_int_equal(json_array_size(object_at(view, "endpoints")), 3);
    assert_int_equal(json_array_size(object_at(view, "ports")), 2);
    assert_int_equal(object_int(view, "ports.0.port", 0), 8080);
    assert_int_equal(object_int(view, "ports.1.port", 0), 81);
    assert_true(object_bool(view, "endpoints.0.conditions.ready", false));
    assert_false(object_bool(view, "endpoints.1.conditions.ready", true));
    assert_false(object_bool(view, "endpoints.2.conditions.ready", true));
    assert_true(object_bool(view, "endpoints.2.conditions.serving", false));
    assert_true(object_bool(view, "endpoints.2.conditions.terminating", false));
    assert_field(view, "endpoints.0.targetRef.name", "ready");
    object_set(s, "spec.publishNotReadyAddresses", json_true());
    view = service_endpoints(s, pods, ARRAY_LEN(texts));
    assert_true(object_bool(view, "endpoints.1.conditions.ready", false));
    json_decref(view);
    json_decref(s);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        json_decref((json_t *)(uintptr_t)pods[i]);
}

static void slices_follow_the_pods(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_SERVICE,
                   "{\"metadata\": {\"name\": \"s\"}, \"spec\": {\"selector\": {\"a\": \"b\"},"
                   " \"ports\": [{\"port\": 80, \"targetPort\": 8080}]}}");
    fixture_create(f, KIND_SERVICE,
                   "{\"metadata\": {\"name\": \"bare\"}, \"spec\": {\"ports\":"
                   " [{\"port\": 80}]}}");
    size_t slices = fixture_count(f, KIND_ENDPOINT_SLICE);
    json_t *ep = fixture_get(f, KIND_ENDPOINTS, "s");
    assert_int_equal(json_array_size(object_at(ep, "subsets")), 0);
    json_decref(ep);
    assert_null(fixture_get(f, KIND_ENDPOINTS, "bare"));
    fixture_create(f, KIND_POD,
                   "{\"metadata\": {\"name\": \"p\", \"labels\": {\"a\": \"b\"}}, \"spec\":"
                   " {\"containers\": [{\"name\": \"c\", \"image\": \"inferd/engine\", \"args\":"
                   " [\"--model\", \"embedded://demo-chat\"]}]}}");
    fixture_pass(f);
    assert_field(fixture_get(f, KIND_ENDPOINTS, "s"), "subsets.0.addresses.0.targetRef.name", "p");
    fixture_set_phase(f, fixture_only_process(f), REPLICA_UNREADY);
    fixture_pass(f);
    assert_field(fixture_get(f, KIND_ENDPOINTS, "s"), "subsets.0.notReadyAddresses.0.ip",
                 "10.0.0.5");
    /* A pod that changes its labels leaves; the slice of a service goes with it. */
    fixture_patch(f, KIND_POD, "p", "metadata.labels", "{}");
    fixture_pass(f);
    ep = fixture_get(f, KIND_ENDPOINTS, "s");
    assert_int_equal(json_array_size(object_at(ep, "subsets")), 0);
    json_decref(ep);
    assert_int_equal(fixture_count(f, KIND_ENDPOINT_SLICE), slices);
    fixture_delete(f, KIND_SERVICE, "s", "Background", 0);
    fixture_pass(f);
    assert_null(fixture_get(f, KIND_ENDPOINTS, "s"));
    assert_int_equal(fixture_count(f, KIND_ENDPOINT_SLICE), slices - 1);
}

static void the_api_server_is_found_and_comes_back(void **state) {
    struct fixture *f = *state;
    fixture_pass(f);
    assert_field(fixture_get(f, KIND_SERVICE, "kubernetes"), "spec.clusterIP", SERVICE_API_ADDRESS);
    assert_field(fixture_get(f, KIND_ENDPOINTS, "kubernetes"), "subsets.0.addresses.0.ip",
                 "127.0.0.1");
    assert_int_field(fixture_get(f, KIND_ENDPOINTS, "kubernetes"), "subsets.0.ports.0.port", 6443);
    fixture_delete(f, KIND_ENDPOINTS, "kubernetes", "Background", 0);
    fixture_pass(f);
    assert_field(fixture_get(f, KIND_ENDPOINTS, "kubernetes"), "subsets.0.ports.0.name", "https");
    fixture_delete(f, KIND_SERVICE, "kubernetes", "Background", 0);
    fixture_pass(f);
    assert_int_field(fixture_get(f, KIND_SERVICE, "kubernetes"), "spec.ports.0.targetPort", 6443);
    assert_field(fixture_get(f, KIND_ENDPOINTS, "kubernetes"), "subsets.0.ports.0.name", "https");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(addresses_are_unique_and_stay),
        FIXTURE_TEST(some_services_have_no_address),
        cmocka_unit_test(warnings_by_table),
        cmocka_unit_test(endpoints_by_pod),
        FIXTURE_TEST(slices_follow_the_pods),
        FIXTURE_TEST(the_api_server_is_found_and_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
