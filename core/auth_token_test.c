/* Tokens against a real store: made, accepted, and no longer accepted. */
#include "core/auth_token.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <unistd.h>

#include "core/base/base64.h"

#define ISSUER "https://issuer.example"

enum { HOUR_MS = 3600 * 1000 };
static const int64_t NOW_MS = 1700000000000;

static struct {
    char dir[64], key[96];
    struct store *store;
    struct auth_token *tokens;
} env;

static void put(const char *key, const char *json) {
    struct error err = ERROR_INIT;
    json_t *o = json_loads(json, 0, NULL);
    assert_non_null(o);
    assert_int_equal(store_put(env.store, key, o, STORE_EXPECT_ANY, NULL, &err), OK);
}

static void drop(const char *key) {
    struct error err = ERROR_INIT;
    assert_int_equal(store_delete(env.store, key, STORE_EXPECT_ANY, NULL, &err), OK);
}

static int setup(void **state) {
    struct error err = ERROR_INIT;
    snprintf(env.dir, sizeof(env.dir), "/tmp/inferd-token-XXXXXX");
    assert_non_null(mkdtemp(env.dir));
    snprintf(env.key, sizeof(env.key), "%s/sa.key", env.dir);
    AUTO_FREE char *db = mem_printf("%s/state.db", env.dir);
    struct store_options store = {.path = db};
    assert_int_equal(store_open(&store, &env.store, &err), OK);
    struct auth_token_options opt = {.key_path = env.key, .store = env.store, .issuer = ISSUER};
    assert_int_equal(auth_token_open(&opt, &env.tokens, &err), OK);
    put("core/serviceaccounts/ns/robot", "{\"metadata\": {\"name\": \"robot\", \"uid\": \"u1\"}}");
    return 0;
}

static int teardown(void **state) {
    static const char *const files[] = {"sa.key", "state.db", "state.db-wal", "state.db-shm",
                                        "state.db.lock"};
    auth_token_close(env.tokens);
    store_close(env.store);
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        AUTO_FREE char *file = mem_printf("%s/%s", env.dir, files[i]);
        unlink(file);
    }
    return rmdir(env.dir);
}

static struct auth_token_order order(void) {
    return (struct auth_token_order){.ns = "ns", .account = "robot", .uid = "u1", .seconds = 3600};
}

static char *issue(const struct auth_token_order *o) {
    struct error err = ERROR_INIT;
    char *token = NULL;
    if (auth_token_issue(env.tokens, o, NOW_MS, &token, &err))
        fail_msg("%s", err.text);
    return token;
}

static enum errc identify(const char *token, int64_t now_ms, struct auth_identity *id,
                          struct error *err) {
    return auth_token_identify(env.tokens, token, NULL, now_ms, id, NULL, err);
}

static void assert_refused(const char *token, int64_t now_ms, const char *why) {
    struct error err = ERROR_INIT;
    struct auth_identity id;
    assert_int_equal(identify(token, now_ms, &id, &err), ERR_UNAUTHENTICATED);
    if (!strstr(err.text, why))
        fail_msg("%s does not say %s", err.text, why);
}

static void assert_accepted(const char *token, int64_t now_ms) {
    struct error err = ERROR_INIT;
    struct auth_identity id;
    if (identify(token, now_ms, &id, &err))
        fail_msg("%s", err.text);
}

static void a_token_names_its_account_and_groups(void **state) {
    struct auth_token_order o = order();
    AUTO_FREE char *token = issue(&o);
    struct error err = ERROR_INIT;
    struct auth_identity id;
    assert_int_equal(identify(token, NOW_MS, &id, &err), OK);
    assert_string_equal(id.name, "system:serviceaccount:ns:robot");
    assert_string_equal(id.uid, "u1");
    assert_int_equal(id.num_groups, 3);
    assert_string_equal(id.groups[0], "system:serviceaccounts");
    assert_string_equal(id.groups[1], "system:serviceaccounts:ns");
    assert_string_equal(id.groups[2], "system:authenticated");
    assert_false(id.admin || id.anonymous);
    assert_int_equal(id.num_extra, 1);
    assert_string_equal(id.extra[0].key, "authentication.kubernetes.io/credential-id");
    assert_int_equal(strlen(id.extra[0].value), strlen("JTI=") + 36);
}

static void a_token_is_good_for_its_time_only(void **state) {
    struct auth_token_order o = order();
    AUTO_FREE char *token = issue(&o);
    assert_refused(token, NOW_MS - 1000, "not valid yet");
    assert_accepted(token, NOW_MS);
    assert_accepted(token, NOW_MS + HOUR_MS - 1000);
    assert_refused(token, NOW_MS + HOUR_MS, "expired");
}

static void a_token_is_good_for_its_audience_only(void **state) {
    json_t *vault = json_pack("[s]", "vault"), *asked = json_pack("[s, s]", "other", "vault");
    struct auth_token_order o = order();
    o.audiences = vault;
    AUTO_FREE char *token = issue(&o);
    struct error err = ERROR_INIT;
    struct auth_identity id;
    json_t *both = NULL;
    assert_refused(token, NOW_MS, "audiences");
    assert_int_equal(auth_token_identify(env.tokens, token, asked, NOW_MS, &id, &both, &err), OK);
    assert_int_equal(json_array_size(both), 1);
    assert_string_equal(json_string_value(json_array_get(both, 0)), "vault");
    json_decref(both);
    json_decref(vault);
    json_decref(asked);
}

static void a_token_ends_with_its_account(void **state) {
    struct auth_token_order o = order();
    AUTO_FREE char *token = issue(&o);
    assert_accepted(token, NOW_MS);
    drop("core/serviceaccounts/ns/robot");
    assert_refused(token, NOW_MS, "gone");
    put("core/serviceaccounts/ns/robot", "{\"metadata\": {\"name\": \"robot\", \"uid\": \"u2\"}}");
    assert_refused(token, NOW_MS, "made again");
}

static void a_bound_token_ends_with_its_pod(void **state) {
    put("core/pods/ns/p", "{\"metadata\": {\"name\": \"p\", \"uid\": \"pu\"}}");
    struct auth_token_order o = order();
    o.pod = (struct auth_token_bond){"p", "pu"};
    o.node = (struct auth_token_bond){"n", "nu"};
    AUTO_FREE char *token = issue(&o);
    struct error err = ERROR_INIT;
    struct auth_identity id;
    assert_int_equal(identify(token, NOW_MS, &id, &err), OK); /* the node only tells */
    assert_int_equal(id.num_extra, 5);
    assert_string_equal(id.extra[1].key, "authentication.kubernetes.io/pod-name");
    assert_string_equal(id.extra[1].value, "p");
    assert_string_equal(id.extra[4].key, "authentication.kubernetes.io/node-uid");
    put("core/pods/ns/p", "{\"metadata\": {\"name\": \"p\", \"uid\": \"pu\","
                          " \"deletionTimestamp\": \"2023-11-14T22:00:00Z\"}}");
    assert_refused(token, NOW_MS, "being deleted");
    drop("core/pods/ns/p");
    assert_refused(token, NOW_MS, "pods \"p\"");
}

static void a_secrets_token_is_good_while_it_stands_there(void **state) {
    struct auth_token_order o = order();
    o.seconds = 0;
    o.secret.name = "s";
    AUTO_FREE char *token = issue(&o);
    AUTO_BUF encoded = BUF_INIT;
    base64_append(&encoded, token, strlen(token));
    assert_refused(token, NOW_MS, "secrets \"s\"");
    AUTO_FREE char *secret = mem_printf(
        "{\"metadata\": {\"name\": \"s\", \"uid\": \"su\"}, \"data\": {\"token\": \"%s\"}}",
        encoded.data);
    put("core/secrets/ns/s", secret);
    assert_accepted(token, NOW_MS);
    assert_accepted(token, NOW_MS + 1000LL * 365 * 24 * HOUR_MS);
    put("core/secrets/ns/s", "{\"metadata\": {\"name\": \"s\", \"uid\": \"su\"},"
                             " \"data\": {\"token\": \"b3RoZXI=\"}}");
    assert_refused(token, NOW_MS, "not that of secret");
}

static void another_issuers_token_is_refused(void **state) {
    struct error err = ERROR_INIT;
    struct auth_token *other = NULL;
    struct auth_token_options opt = {
        .key_path = env.key, .store = env.store, .issuer = "https://elsewhere"};
    assert_int_equal(auth_token_open(&opt, &other, &err), OK);
    struct auth_token_order o = order();
    AUTO_FREE char *token = NULL;
    assert_int_equal(auth_token_issue(other, &o, NOW_MS, &token, &err), OK);
    auth_token_close(other);
    assert_refused(token, NOW_MS, "issuer");
    struct auth_identity id;
    assert_int_equal(identify("no-token-at-all", NOW_MS, &id, &err), ERR_MALFORMED);
}

static void a_name_too_long_for_an_identity_gets_no_token(void **state) {
    char account[254];
    memset(account, 'a', sizeof(account) - 1);
    account[sizeof(account) - 1] = '\0';
    struct auth_token_order o = order();
    struct error err = ERROR_INIT;
    char *token = NULL;
    o.account = account;
    assert_int_equal(auth_token_issue(env.tokens, &o, NOW_MS, &token, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "above 255"));
}

static void more_tokens_than_places_stay_good(void **state) {
    char *tokens[AUTH_TOKEN_VERIFIED_MAX / 4];
    struct auth_token_order o = order();
    for (size_t i = 0; i < ARRAY_LEN(tokens); i++)
        tokens[i] = issue(&o);
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < ARRAY_LEN(tokens); i++)
            assert_accepted(tokens[i], NOW_MS);
    for (size_t i = 0; i < ARRAY_LEN(tokens); i++)
        free(tokens[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_token_names_its_account_and_groups, setup, teardown),
        cmocka_unit_test_setup_teardown(a_token_is_good_for_its_time_only, setup, teardown),
        cmocka_unit_test_setup_teardown(a_token_is_good_for_its_audience_only, setup, teardown),
        cmocka_unit_test_setup_teardown(a_token_ends_with_its_account, setup, teardown),
        cmocka_unit_test_setup_teardown(a_bound_token_ends_with_its_pod, setup, teardown),
        cmocka_unit_test_setup_teardown(a_secrets_token_is_good_while_it_stands_there, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(another_issuers_token_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_name_too_long_for_an_identity_gets_no_token, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(more_tokens_than_places_stay_good, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
