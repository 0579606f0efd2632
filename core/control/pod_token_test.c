/* Tokens of host pods: who gets one, what is in it, when it is renewed. */
#include "core/control/fixture_test.h"
#include "core/control/pod_token.h"
#include "core/auth_token.h"

static const char POD[] =
    "{\"metadata\":{\"name\":\"p\"},\"spec\":{\"serviceAccountName\":\"robot\",\"containers\":[{"
    "\"name\":\"c\",\"image\":\"host\",\"command\":[\"sleep\",\"9\"]}]}}";

/* Only root may give files to any group, so others give to theirs. */
static struct auth *start_with_keys(struct fixture *f) {
    free(f->config.host_pods_dir);
    f->config.host_pods_dir = mem_printf("%s/pods", f->dir);
    f->config.host_user_first = f->config.host_user_last = getuid() ? getgid() : 70001;
    return fixture_start_with_keys(f);
}

/* Gives a file of the pod's; NULL: it is not there. */
static char *read_file(struct fixture *f, const char *name) {
    json_t *pod = fixture_get(f, KIND_POD, "p");
    AUTO_FREE char *path =
        mem_printf("%s/pods/%s/serviceaccount/%s", f->dir, object_uid(pod), name);
    json_decref(pod);
    char text[16384] = "";
    FILE *file = fopen(path, "re");
    if (!file)
        return NULL;
    size_t n = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    return mem_strndup(text, n);
}

/* The daemon itself accepts it. */
static void assert_token(struct fixture *f, const struct auth *auth, const char *token) {
    struct error err = ERROR_INIT;
    struct auth_token *t = NULL;
    struct auth_identity who;
    AUTO_FREE char *key = mem_printf("%s/pki/keys/sa.key", f->dir);
    const struct auth_token_options opt = {.key_path = key,
                                           .existing_only = true,
                                           .store = f->store,
                                           .issuer =
                                               auth_token_issuer(auth_service_accounts(auth))};
    assert_non_null(token);
    if (auth_token_open(&opt, &t, &err) ||
        auth_token_identify(t, token, NULL, f->wall_ms, &who, NULL, &err))
        fail_msg("%s", err.text);
    assert_string_equal(who.name, "system:serviceaccount:default:robot");
    auth_token_close(t);
}

static void a_pod_gets_the_token_of_its_account_and_a_new_one_in_time(void **state) {
    struct fixture *f = *state;
    struct auth *auth = start_with_keys(f);
    fixture_create(f, KIND_POD, POD);
    assert_field(fixture_get(f, KIND_POD, "p"), "status.containerStatuses.0.state.waiting.message",
                 "failed to fetch token: serviceaccounts \"robot\" not found");
    fixture_create(f, KIND_SERVICE_ACCOUNT, "{\"metadata\":{\"name\":\"robot\"}}");
    fixture_advance(f, 10000);
    assert_int_equal(fixture_num_processes(f), 1);
    AUTO_FREE char *token = read_file(f, "token");
    AUTO_FREE char *ns = read_file(f, "namespace");
    AUTO_FREE char *ca = read_file(f, "ca.crt");
    AUTO_FREE char *kubeconfig = read_file(f, "kubeconfig");
    assert_token(f, auth, token);
    assert_string_equal(ns, "default");
    assert_string_equal(ca, "CERTIFICATE");
    assert_non_null(strstr(kubeconfig, "server: \"https://127.0.0.1:6443\""));
    assert_non_null(strstr(kubeconfig, token));
    const char *env = fixture_only_process(f)->env;
    assert_non_null(strstr(env, "KUBERNETES_SERVICE_HOST=127.0.0.1\n"));
    assert_non_null(strstr(env, "KUBERNETES_SERVICE_PORT=6443\n"));
    assert_non_null(strstr(env, "/serviceaccount/kubeconfig\n"));
    fixture_advance(f, 2860 * 1000); /* four fifths of an hour and 7 s are 2,885 s */
    AUTO_FREE char *same = read_file(f, "token");
    assert_string_equal(same, token);
    fixture_advance(f, 30 * 1000);
    AUTO_FREE char *renewed = read_file(f, "token");
    assert_string_not_equal(renewed, token);
    assert_token(f, auth, renewed);
    fixture_stop_with_keys(f, auth);
}

static void a_pod_or_its_account_may_do_without(void **state) {
    struct fixture *f = *state;
    struct auth *auth = start_with_keys(f);
    fixture_create(f, KIND_SERVICE_ACCOUNT,
                   "{\"metadata\":{\"name\":\"robot\"},\"automountServiceAccountToken\":false}");
    fixture_create(f, KIND_POD, POD);
    assert_null(read_file(f, "token"));
    assert_null(strstr(fixture_only_process(f)->env, "KUBECONFIG"));
    assert_non_null(strstr(fixture_only_process(f)->env, "KUBERNETES_SERVICE_HOST"));
    fixture_delete(f, KIND_POD, "p", "Background", 0);
    fixture_pass(f);
    json_t *o = fixture_json(POD);
    object_set(o, "spec.automountServiceAccountToken", json_true());
    AUTO_FREE char *text = json_dumps(o, 0);
    json_decref(o);
    fixture_create(f, KIND_POD, text);
    AUTO_FREE char *token = read_file(f, "token");
    assert_token(f, auth, token);
    fixture_stop_with_keys(f, auth);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(a_pod_gets_the_token_of_its_account_and_a_new_one_in_time),
        FIXTURE_TEST(a_pod_or_its_account_may_do_without),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
