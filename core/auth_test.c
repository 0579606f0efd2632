/* Who is calling: tokens.csv, and the order of what a client shows. */
#include "core/auth.h"

#include <setjmp.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "core/base/buf.h"
#include "core/pki.h"

static char dir[64];

static int make_folder(void **state) {
    strcpy(dir, "/tmp/inferd-auth-test-XXXXXX");
    assert_non_null(mkdtemp(dir));
    AUTO_FREE char *pki = mem_printf("%s/pki", dir);
    return mkdir(pki, 0700);
}

static int remove_folder(void **state) {
    AUTO_FREE char *command = mem_printf("rm -r %s", dir);
    return system(command);
}

static enum errc open_with(const char *tokens, struct auth **ret_auth, struct error *err) {
    AUTO_FREE char *path = mem_printf("%s/pki/tokens.csv", dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(tokens, f);
    fclose(f);
    struct auth_options opt = {.data_dir = dir};
    return auth_open(&opt, ret_auth, err);
}

static void tokens_name_user_and_groups(void **state) {
    struct error err = ERROR_INIT;
    AUTO(auth) a = NULL;
    assert_int_equal(open_with("# a comment\n\n"
                               "secret-one,ann,1,\"team-a,team-b\"\n"
                               "secret-two,\"bob \"\"the\"\" builder\",2\r\n"
                               "secret-three,root,3,system:masters\n",
                               &a, &err),
                     OK);
    struct auth_identity id;
    assert_int_equal(auth_identify(a, "Bearer secret-one", NULL, &id, &err), OK);
    assert_string_equal(id.name, "ann");
    assert_string_equal(id.uid, "1");
    assert_int_equal(id.num_groups, 3);
    assert_string_equal(id.groups[0], "team-a");
    assert_string_equal(id.groups[1], "team-b");
    assert_string_equal(id.groups[2], "system:authenticated");
    assert_false(id.admin || id.anonymous);
    assert_int_equal(auth_identify(a, "bearer  secret-two", NULL, &id, &err), OK);
    assert_string_equal(id.name, "bob \"the\" builder");
    assert_int_equal(auth_identify(a, "Bearer secret-three", NULL, &id, &err), OK);
    assert_true(id.admin);
}

static void unknown_tokens_are_refused_even_beside_a_certificate(void **state) {
    struct error err = ERROR_INIT;
    AUTO(auth) a = NULL;
    assert_int_equal(open_with("secret-one,ann,1\n", &a, &err), OK);
    struct auth_identity id, peer = {.name = "carol"};
    static const char *const bad[] = {"Bearer secret-on",  "Bearer secret-one2", "Bearer ",
                                      "Bearer SECRET-ONE", "Basic c2VjcmV0",     "secret-one"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(auth_identify(a, bad[i], &peer, &id, &err), ERR_UNAUTHENTICATED);
    assert_int_equal(auth_identify(a, NULL, &peer, &id, &err), OK);
    assert_string_equal(id.name, "carol");
    assert_int_equal(auth_identify(a, NULL, NULL, &id, &err), OK);
    assert_string_equal(id.name, "system:anonymous");
    assert_true(id.anonymous);
}

static void bad_token_files_name_their_line(void **state) {
    static const char *const bad[] = {"secret-one,ann,1\nshort,bob,2\n",
                                      "secret-one,ann,1\nsecret-two,bob\n",
                                      "secret-one,ann,1\nsecret-two,,2\n",
                                      "secret-one,ann,1\nsecret-two,bob,2,\"a\n",
                                      "secret-one,ann,1\nsecret-two,bob,2,a,b\n",
                                      "secret-one,ann,1\nsecret-two,b\"ob,2\n",
                                      "secret-one,ann,1\nsecret-two,bob,2,\"a\"b\n"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct error err = ERROR_INIT;
        struct auth *a = NULL;
        if (open_with(bad[i], &a, &err) != ERR_MALFORMED)
            fail_msg("accepted: %s", bad[i]);
        assert_non_null(strstr(err.text, "tokens.csv:2:"));
    }
    struct error err = ERROR_INIT;
    struct auth *a = NULL;
    AUTO_BUF groups = BUF_INIT;
    buf_puts(&groups, "secret-one,ann,1,\"");
    for (int i = 0; i < AUTH_GROUPS_MAX; i++)
        buf_printf(&groups, "g%d,", i);
    buf_puts(&groups, "last\"\n");
    assert_int_equal(open_with(groups.data, &a, &err), ERR_MALFORMED);
}

static void too_many_tokens_are_refused(void **state) {
    struct error err = ERROR_INIT;
    struct auth *a = NULL;
    AUTO_BUF b = BUF_INIT;
    for (int i = 0; i < 1001; i++)
        buf_printf(&b, "secret-%05d,user%d,%d\n", i, i, i);
    assert_int_equal(open_with(b.data, &a, &err), ERR_TOO_LARGE);
    assert_non_null(strstr(err.text, ":1001:"));
}

static void kubeconfig_carries_what_kubectl_needs(void **state) {
    struct error err = ERROR_INIT;
    AUTO(auth) a = NULL;
    assert_int_equal(open_with("", &a, &err), OK);
    AUTO_FREE char *admin = NULL;
    AUTO_FREE char *ann = NULL;
    assert_int_equal(auth_kubeconfig(a, "https://127.0.0.1:6443", "admin", NULL, &admin, &err), OK);
    assert_int_equal(auth_kubeconfig(a, "https://127.0.0.1:6443", "ann", NULL, &ann, &err), OK);
    static const char *const parts[] = {"server: https://127.0.0.1:6443\n",
                                        "certificate-authority-data: LS0tLS1CRUdJTi",
                                        "client-certificate-data: LS0tLS1CRUdJTi",
                                        "client-key-data: LS0tLS1CRUdJTi", "current-context: "};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        assert_non_null(strstr(admin, parts[i]));
        assert_non_null(strstr(ann, parts[i]));
    }
    assert_string_not_equal(strstr(admin, "client-key-data"), strstr(ann, "client-key-data"));
    char *none = NULL;
    assert_int_equal(auth_kubeconfig(a, "https://h", "a b", NULL, &none, &err), ERR_INVALID);
    assert_null(none);
}

static void a_command_beside_the_daemon_writes_nothing(void **state) {
    struct error err = ERROR_INIT;
    struct auth_options look = {.data_dir = dir, .existing_only = true};
    struct auth *none = NULL;
    assert_int_equal(auth_open(&look, &none, &err), ERR_NOT_FOUND);
    assert_non_null(strstr(err.text, "ca.crt is not there"));
    static const char *const sans[] = {"only.the.daemon.knows.example.com", NULL};
    struct auth_options daemon = {.data_dir = dir, .extra_sans = sans};
    AUTO(auth) a = NULL;
    AUTO(auth) b = NULL;
    AUTO(auth) again = NULL;
    assert_int_equal(auth_open(&daemon, &a, &err), OK);
    assert_int_equal(auth_open(&look, &b, &err), OK);
    assert_int_equal(auth_open(&daemon, &again, &err), OK);
    assert_string_equal(auth_pki(a)->server_cert, auth_pki(b)->server_cert);
    assert_string_equal(auth_pki(a)->server_cert, auth_pki(again)->server_cert);
}

static void a_websockets_token_comes_among_its_subprotocols(void **state) {
#define TOKEN_PREFIX "base64url.bearer.authorization.k8s.io."
    static const struct {
        const char *offered, *authorization, *others;
    } good[] = {
        {"v5.channel.k8s.io", NULL, "v5.channel.k8s.io"},
        {"", NULL, ""},
        {TOKEN_PREFIX "c2VjcmV0LW9uZQ, v5.channel.k8s.io,v4.channel.k8s.io", "Bearer secret-one",
         "v5.channel.k8s.io, v4.channel.k8s.io"},
        {"base64.binary.k8s.io," TOKEN_PREFIX "c2VjcmV0LW9uZQ", "Bearer secret-one",
         "base64.binary.k8s.io"},
    };
    static const char *const bad[] = {TOKEN_PREFIX "c2VjcmV0LW9uZQ", TOKEN_PREFIX ", a",
                                      TOKEN_PREFIX "c2Vj=, a", TOKEN_PREFIX "AAAA, a",
                                      TOKEN_PREFIX "c2Vj, " TOKEN_PREFIX "c2Vj, a"};
    AUTO(arena) arena = arena_create();
    struct error err = ERROR_INIT;
    const char *authorization, *others;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(
            auth_read_subprotocols(arena, good[i].offered, &authorization, &others, &err), OK);
        assert_string_equal(others, good[i].others);
        if (good[i].authorization)
            assert_string_equal(authorization, good[i].authorization);
        else
            assert_null(authorization);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(auth_read_subprotocols(arena, bad[i], &authorization, &others, &err),
                         ERR_UNAUTHENTICATED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(tokens_name_user_and_groups, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(unknown_tokens_are_refused_even_beside_a_certificate,
                                        make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(bad_token_files_name_their_line, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(too_many_tokens_are_refused, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_command_beside_the_daemon_writes_nothing, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(kubeconfig_carries_what_kubectl_needs, make_folder,
                                        remove_folder),
        cmocka_unit_test(a_websockets_token_comes_among_its_subprotocols),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
