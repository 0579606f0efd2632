/* API keys of a service: from Secrets and manifests to the traffic table, and when they change. */
#include "core/control/traffic_keys.h"

#include "core/control/fixture_test.h"

#define SERVICE(annotation, args)                                                                  \
    "{\"metadata\":{\"name\":\"demo\",\"namespace\":\"default\",\"annotations\":{" annotation      \
    "}},"                                                                                          \
    "\"spec\":{\"predictor\":{\"model\":{\"modelFormat\":{\"name\":\"gguf\"},"                     \
    "\"storageUri\":\"embedded://demo-chat\",\"args\":[" args "]}}}}"
#define SECRET(data)                                                                               \
    "{\"metadata\":{\"name\":\"keys\",\"namespace\":\"default\"},\"data\":{" data "}}"

/* The service as the gateway sees it; the table's reference is the caller's. */
static const struct traffic_service *service(struct fixture *f, struct traffic_table **ret_table) {
    fixture_pass(f);
    *ret_table = traffic_current(f->traffic);
    const struct traffic_service *s = traffic_find(*ret_table, "default", "demo");
    assert_non_null(s);
    return s;
}

static bool accepts(struct fixture *f, const char *authorization) {
    AUTO(traffic_table) table = NULL;
    const struct traffic_service *s = service(f, &table);
    return !s->keys || auth_keys_accept(s->keys, authorization);
}

static void keys_are_those_of_the_secret_and_change_with_it(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_INFERENCE_SERVICE, SERVICE("\"inferd.io/api-key-secret\":\"keys\"", ""));
    assert_false(accepts(f, "Bearer one")); /* there is no Secret: nobody may */
    AUTO(traffic_table) none = NULL;
    assert_non_null(strstr(service(f, &none)->keys_fault, "Secret default/keys"));
    fixture_create(f, KIND_SECRET, SECRET("\"a\":\"b25l\",\"b\":\"dHdvCg==\"")); /* one, two\n */
    assert_true(accepts(f, "Bearer one"));
    assert_true(accepts(f, "Bearer two"));
    assert_false(accepts(f, "Bearer three"));
    assert_false(accepts(f, NULL));
    fixture_patch(f, KIND_SECRET, "keys", "data", "{\"a\":\"dGhyZWU=\"}"); /* three */
    assert_true(accepts(f, "Bearer three"));
    assert_false(accepts(f, "Bearer one"));
    fixture_patch(f, KIND_SECRET, "keys", "data", "{}");
    assert_false(accepts(f, "Bearer three"));
    fixture_patch(f, KIND_SECRET, "keys", "data",
                  "{\"a\":\"b25l\",\"bad\":\"AAA=\"}"); /* two NULs */
    assert_false(accepts(f, "Bearer one"));
    AUTO(traffic_table) bad = NULL;
    assert_non_null(strstr(service(f, &bad)->keys_fault, "data.bad"));
}

static void the_configured_secret_is_for_those_that_name_none(void **state) {
    struct fixture *f = *state;
    free(f->config.gateway_api_key_secret);
    f->config.gateway_api_key_secret = mem_strdup("default/keys");
    fixture_create(f, KIND_SECRET, SECRET("\"a\":\"b25l\""));
    fixture_create(f, KIND_INFERENCE_SERVICE, SERVICE("", ""));
    assert_true(accepts(f, "Bearer one"));
    assert_false(accepts(f, "Bearer x"));
    fixture_patch(f, KIND_INFERENCE_SERVICE, "demo", "metadata.annotations",
                  "{\"inferd.io/api-key-secret\":\"others\"}");
    assert_false(accepts(f, "Bearer one"));
}

static void the_manifest_s_own_key_is_one_too_and_the_replica_s(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_INFERENCE_SERVICE,
                   SERVICE("", "\"--api-key\",\"sk-args\",\"--max-model-len\",\"64\""));
    assert_true(accepts(f, "Bearer sk-args"));
    assert_false(accepts(f, "Bearer other"));
    fixture_create(f, KIND_SECRET, SECRET("\"a\":\"b25l\""));
    fixture_patch(f, KIND_INFERENCE_SERVICE, "demo", "metadata.annotations",
                  "{\"inferd.io/api-key-secret\":\"keys\"}");
    assert_true(accepts(f, "Bearer sk-args"));
    assert_true(accepts(f, "Bearer one"));
    AUTO(traffic_table) table = NULL;
    assert_string_equal(service(f, &table)->replica_key, "sk-args");
}

static void a_reference_in_the_manifest_is_the_replica_s_business(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_INFERENCE_SERVICE, SERVICE("", "\"--api-key=$(KEY)\""));
    AUTO(traffic_table) table = NULL;
    assert_null(service(f, &table)->keys);
    assert_null(service(f, &table)->replica_key);
    traffic_table_unref(table);
}

int main(void) {
    log_set_level(LOG_LEVEL_ERROR);
#define keys_test(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        keys_test(keys_are_those_of_the_secret_and_change_with_it),
        keys_test(the_configured_secret_is_for_those_that_name_none),
        keys_test(the_manifest_s_own_key_is_one_too_and_the_replica_s),
        keys_test(a_reference_in_the_manifest_is_the_replica_s_business),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
