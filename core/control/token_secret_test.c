#include "core/control/token_secret.h"

#include "core/control/fixture_test.h"

static const char ACCOUNT[] = "{\"metadata\":{\"name\":\"robot\"}}";
static const char SECRET[] =
    "{\"metadata\":{\"name\":\"s\",\"annotations\":{\"kubernetes.io/service-account.name\":"
    "\"robot\"}},\"type\":\"kubernetes.io/service-account-token\"}";

static char *data_of(struct fixture *f, const char *key) {
    json_t *secret = fixture_get(f, KIND_SECRET, "s");
    const json_t *data = json_object_get(secret, "data");
    char *value = mem_strdup(json_string_value(json_object_get(data, key)));
    json_decref(secret);
    return value;
}

static void a_secret_of_the_type_is_filled_once(void **state) {
    struct fixture *f = *state;
    struct auth *auth = fixture_start_with_keys(f);
    fixture_create(f, KIND_SERVICE_ACCOUNT, ACCOUNT);
    fixture_create(f, KIND_SECRET, SECRET);
    fixture_pass(f);
    AUTO_FREE char *token = data_of(f, "token");
    AUTO_FREE char *ns = data_of(f, "namespace");
    AUTO_FREE char *ca = data_of(f, "ca.crt");
    assert_non_null(token);
    assert_string_equal(ns, "ZGVmYXVsdA==");
    assert_string_equal(ca, "Q0VSVElGSUNBVEU=");
    json_t *secret = fixture_get(f, KIND_SECRET, "s");
    json_t *account = fixture_get(f, KIND_SERVICE_ACCOUNT, "robot");
    assert_string_equal(object_annotation(secret, "kubernetes.io/service-account.uid"),
                        object_uid(account));
    json_decref(secret);
    json_decref(account);
    fixture_pass(f);
    AUTO_FREE char *later = data_of(f, "token");
    assert_string_equal(token, later); /* a token is not made anew */
    fixture_stop_with_keys(f, auth);
}

static void a_secret_goes_with_its_account(void **state) {
    struct fixture *f = *state;
    struct auth *auth = fixture_start_with_keys(f);
    fixture_create(f, KIND_SERVICE_ACCOUNT, ACCOUNT);
    fixture_create(f, KIND_SECRET, SECRET);
    fixture_create(f, KIND_SECRET,
                   "{\"metadata\":{\"name\":\"other\",\"annotations\":{"
                   "\"kubernetes.io/service-account.name\":\"robot\"}},\"type\":\"Opaque\"}");
    fixture_pass(f);
    fixture_delete(f, KIND_SERVICE_ACCOUNT, "robot", "Background", 0);
    fixture_pass(f);
    assert_null(fixture_get(f, KIND_SECRET, "s"));
    json_t *other = fixture_get(f, KIND_SECRET, "other");
    assert_non_null(other); /* another type is nobody's business */
    assert_null(json_object_get(other, "data"));
    json_decref(other);
    fixture_stop_with_keys(f, auth);
}

static void an_account_of_the_same_name_is_another_one(void **state) {
    struct fixture *f = *state;
    struct auth *auth = fixture_start_with_keys(f);
    fixture_create(f, KIND_SERVICE_ACCOUNT, ACCOUNT);
    fixture_create(f, KIND_SECRET,
                   "{\"metadata\":{\"name\":\"s\",\"annotations\":{"
                   "\"kubernetes.io/service-account.name\":\"robot\","
                   "\"kubernetes.io/service-account.uid\":\"of-an-earlier-one\"}},"
                   "\"type\":\"kubernetes.io/service-account-token\"}");
    fixture_pass(f);
    assert_null(fixture_get(f, KIND_SECRET, "s"));
    fixture_stop_with_keys(f, auth);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(a_secret_of_the_type_is_filled_once),
        FIXTURE_TEST(a_secret_goes_with_its_account),
        FIXTURE_TEST(an_account_of_the_same_name_is_another_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
