/* What a scaleTargetRef leads to, and what is written there. */
#include "core/control/scale_target.h"

#include "core/control/fixture_test.h"
#include "core/control/labels.h"

static const char WEB[] =
    "{\"metadata\":{\"name\":\"web\"},\"spec\":{\"replicas\":2,\"selector\":{\"matchLabels\":{"
    "\"app\":\"web\"}},\"template\":{\"metadata\":{\"labels\":{\"app\":\"web\"}},\"spec\":{"
    "\"containers\":[{\"name\":\"c\",\"image\":\"host\",\"command\":[\"sleep\"]}]}}}}";

static const char DEFINITION[] =
    "{\"apiVersion\":\"apiextensions.k8s.io/v1\",\"kind\":\"CustomResourceDefinition\","
    "\"metadata\":{\"name\":\"gangs.example.com\"},\"spec\":{\"group\":\"example.com\",\"scope\":"
    "\"Namespaced\",\"names\":{\"plural\":\"gangs\",\"kind\":\"Gang\"},\"versions\":[{\"name\":"
    "\"v1\",\"subresources\":{\"scale\":{\"specReplicasPath\":\".spec.size\","
    "\"statusReplicasPath\":\".status.size\",\"labelSelectorPath\":\".status.labels\"}}}]}}";

static const char GANG[] =
    "{\"apiVersion\":\"example.com/v1\",\"kind\":\"Gang\",\"metadata\":{\"name\":\"g\","
    "\"namespace\":\"default\",\"generation\":4},\"spec\":{\"size\":3},\"status\":{\"size\":1,"
    "\"labels\":\"app=gang\"}}";

static struct world world_of(struct fixture *f) {
    return (struct world){.store = f->store, .config = &f->config, .wall_ms = f->wall_ms};
}

static enum errc open_ref(struct fixture *f, const char *ref, struct scale_target *t,
                          struct error *err) {
    struct world w = world_of(f);
    json_t *json = fixture_json(ref);
    enum errc rc = scale_target_open(&w, "default", json, t, err);
    json_decref(json);
    return rc;
}

static void put(struct fixture *f, const char *key, const char *text) {
    struct error err = ERROR_INIT;
    assert_int_equal(store_put(f->store, key, fixture_json(text), STORE_EXPECT_ABSENT, NULL, &err),
                     OK);
}

static void a_deployment_is_scaled_and_its_field_owned(void **state) {
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    AUTO_SCALE_TARGET t = {0};
    struct world w = world_of(f);
    fixture_create(f, KIND_DEPLOYMENT, WEB);
    fixture_pass(f);
    fixture_patch(
        f, KIND_DEPLOYMENT, "web", "metadata.managedFields",
        "\"[{\\\"manager\\\":\\\"user\\\",\\\"operation\\\":\\\"Apply\\\",\\\"fieldsV1\\\":"
        "{\\\"f:spec\\\":{\\\"f:replicas\\\":{}}}}]\"");
    assert_int_equal(
        open_ref(f, "{\"apiVersion\":\"apps/v1\",\"kind\":\"Deployment\",\"name\":\"web\"}", &t,
                 &err),
        OK);
    assert_int_equal(t.replicas, 2);
    assert_int_equal(t.status_replicas, 2);
    assert_string_equal(t.resource, "deployments.apps");
    assert_int_equal(scale_target_set(&w, &t, 3, &err), OK);
    json_t *web = fixture_get(f, KIND_DEPLOYMENT, "web");
    assert_int_equal(object_int(web, "spec.replicas", 0), 3);
    assert_non_null(strstr(object_str(web, "metadata.managedFields"), "kube-controller-manager"));
    assert_null(strstr(object_str(web, "metadata.managedFields"), "user"));
    json_decref(web);
    assert_int_equal(scale_target_set(&w, &t, 4, &err), ERR_CONFLICT); /* read before that */
}

static void a_defined_kind_says_where_its_numbers_are(void **state) {
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    AUTO_SCALE_TARGET t = {0};
    AUTO(store_object) gang = NULL;
    struct world w = world_of(f);
    put(f, "apiextensions.k8s.io/customresourcedefinitions/-/gangs.example.com", DEFINITION);
    put(f, "example.com/gangs/default/g", GANG);
    assert_int_equal(
        open_ref(f, "{\"apiVersion\":\"example.com/v1\",\"kind\":\"Gang\",\"name\":\"g\"}", &t,
                 &err),
        OK);
    assert_int_equal(t.replicas, 3);
    assert_int_equal(t.status_replicas, 1);
    json_t *labels = fixture_json("{\"app\":\"gang\"}");
    assert_true(labels_selector_match(t.selector, labels));
    json_decref(labels);
    assert_int_equal(scale_target_set(&w, &t, 5, &err), OK);
    assert_int_equal(store_get(f->store, "example.com/gangs/default/g", &gang, &err), OK);
    assert_int_equal(object_int(gang->json, "spec.size", 0), 5);
    assert_int_equal(object_int(gang->json, "metadata.generation", 0), 5);
}

static void what_cannot_be_scaled_is_named(void **state) {
    static const struct {
        const char *ref;
        enum errc code;
        const char *text;
    } rows[] = {
        {"{\"apiVersion\":\"apps/v1\",\"kind\":\"Deployment\",\"name\":\"none\"}", ERR_NOT_FOUND,
         "deployments.apps \"none\" not found"},
        {"{\"apiVersion\":\"serving.kserve.io/v1beta1\",\"kind\":\"InferenceService\",\"name\":"
         "\"none\"}",
         ERR_NOT_FOUND, "inferenceservices.serving.kserve.io \"none\" not found"},
        {"{\"apiVersion\":\"example.com/v1\",\"kind\":\"Thing\",\"name\":\"x\"}", ERR_INVALID,
         "no matches for kind \"Thing\" in group \"example.com\""},
        {"{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"name\":\"x\"}", ERR_INVALID,
         "no matches for kind \"Pod\" in group \"\""},
        {"{\"apiVersion\":\"apps/v1\"}", ERR_INVALID, "kind and name are required"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        struct scale_target t = {0};
        assert_int_equal(open_ref(*state, rows[i].ref, &t, &err), rows[i].code);
        assert_non_null(strstr(err.text, rows[i].text));
        assert_null(t.object);
    }
}

static void selectors_have_a_text(void **state) {
    static const struct {
        const char *text, *labels;
        bool matches;
    } rows[] = {
        {"app=web", "{\"app\":\"web\"}", true},
        {"app == web , tier!=old", "{\"app\":\"web\",\"tier\":\"new\"}", true},
        {"app=web,tier!=old", "{\"app\":\"web\",\"tier\":\"old\"}", false},
        {"tier in (a, b)", "{\"tier\":\"b\"}", true},
        {"tier notin (a,b)", "{\"tier\":\"b\"}", false},
        {"app,!gone", "{\"app\":\"x\"}", true},
        {"app,!gone", "{\"app\":\"x\",\"gone\":\"\"}", false},
        {"example.com/app=web", "{\"example.com/app\":\"web\"}", true},
    };
    static const char *const bad[] = {"", "=a", "a in", "a in (b", "a like (b)", "a=b,,c", "!"};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        json_t *selector = scale_target_parse_selector(rows[i].text);
        json_t *labels = fixture_json(rows[i].labels);
        print_message("  %s\n", rows[i].text);
        assert_non_null(selector);
        assert_int_equal(labels_selector_match(selector, labels), rows[i].matches);
        json_decref(selector);
        json_decref(labels);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        print_message("  %s\n", bad[i]);
        assert_null(scale_target_parse_selector(bad[i]));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(a_deployment_is_scaled_and_its_field_owned),
        FIXTURE_TEST(a_defined_kind_says_where_its_numbers_are),
        FIXTURE_TEST(what_cannot_be_scaled_is_named),
        cmocka_unit_test(selectors_have_a_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
