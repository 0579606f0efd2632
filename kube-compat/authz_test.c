/* The authorizer over a real store: what it answers after a write, in which words it refuses, and
 * what a restart heals. */
#include "kube-compat/authz.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/base/yaml.h"
#include "core/object.h"
#include "kube-compat/kinds.h"
#include "kube-compat/rbac_defaults.h"

#define ROLES    RBAC_GROUP "/clusterroles/-/"
#define BINDINGS RBAC_GROUP "/clusterrolebindings/-/"

static struct {
    char dir[64];
    struct store *store;
    struct authz *authz;
} env;

static int start(void **state) {
    char db[96];
    struct error err = ERROR_INIT;
    snprintf(env.dir, sizeof(env.dir), "/tmp/authz-test-XXXXXX");
    assert_non_null(mkdtemp(env.dir));
    snprintf(db, sizeof(db), "%s/state.db", env.dir);
    const struct store_options options = {.path = db};
    assert_int_equal(store_open(&options, &env.store, &err), OK);
    assert_int_equal(rbac_defaults_reconcile(env.store, &err), OK);
    assert_int_equal(authz_create(env.store, &env.authz, &err), OK);
    return 0;
}

static int stop(void **state) {
    authz_destroy(env.authz);
    store_close(env.store);
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", env.dir);
    return system(command);
}

static void put(const char *key, const char *yaml) {
    struct error err = ERROR_INIT;
    json_t *o;
    if (yaml_parse(yaml, strlen(yaml), &o, &err) ||
        store_put(env.store, key, o, STORE_EXPECT_ANY, NULL, &err))
        fail_msg("%s: %s", key, err.text);
}

static void drop(const char *key) {
    struct error err = ERROR_INIT;
    assert_int_equal(store_delete(env.store, key, STORE_EXPECT_ANY, NULL, &err), OK);
}

static struct store_object *get(const char *key) {
    struct error err = ERROR_INIT;
    struct store_object *o;
    assert_int_equal(store_get(env.store, key, &o, &err), OK);
    return o;
}

static const struct authz_attributes list_pods = {
    .verb = "list", .group = "", .resource = "pods", .ns = "default"};

static void bind_viewer(const char *user) {
    AUTO_FREE char *text =
        mem_printf("{kind: ClusterRoleBinding, metadata: {name: viewer}, subjects: [{kind: User, "
                   "name: %s}], roleRef: {kind: ClusterRole, name: viewer}}",
                   user);
    put(BINDINGS "viewer", text);
}

static void a_change_holds_for_the_next_question(void **state) {
    const struct auth_identity bob = {.name = "bob"};
    assert_false(authz_may(env.authz, &bob, &list_pods));
    put(ROLES "viewer", "{kind: ClusterRole, metadata: {name: viewer}, rules: [{apiGroups: [''], "
                        "resources: [pods], verbs: [list]}]}");
    for (int i = 0; i < 50; i++) {
        bind_viewer("bob");
        assert_true(authz_may(env.authz, &bob, &list_pods));
        drop(BINDINGS "viewer");
        assert_false(authz_may(env.authz, &bob, &list_pods));
    }
    bind_viewer("bob");
    put(ROLES "viewer", "{kind: ClusterRole, metadata: {name: viewer}, rules: []}");
    assert_false(authz_may(env.authz, &bob, &list_pods));
    drop(ROLES "viewer");
    drop(BINDINGS "viewer");
}

/* Others ask without pause while a binding comes and goes; each asker only has to be right about
 * what nobody changes, the changer about his own changes. */
static _Atomic bool asking;

static void *ask_on(void *user) {
    const struct auth_identity *ann = user;
    const struct authz_attributes discover = {.verb = "get", .path = "/api"};
    size_t wrong = 0;
    while (asking) {
        wrong += !authz_may(env.authz, ann, &discover);
        wrong += authz_may(env.authz, ann, &list_pods);
    }
    return (void *)wrong;
}

static void changes_do_not_disturb_those_who_ask(void **state) {
    struct auth_identity ann = {.name = "ann", .groups = {"system:authenticated"}, .num_groups = 1};
    const struct auth_identity bob = {.name = "bob"};
    pthread_t threads[4];
    asking = true;
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask_on, &ann), 0);
    put(ROLES "viewer", "{kind: ClusterRole, metadata: {name: viewer}, rules: [{apiGroups: [''], "
                        "resources: [pods], verbs: [list]}]}");
    size_t wrong = 0;
    for (int i = 0; i < 50; i++) {
        bind_viewer("bob");
        wrong += !authz_may(env.authz, &bob, &list_pods);
        drop(BINDINGS "viewer");
        wrong += authz_may(env.authz, &bob, &list_pods);
    }
    asking = false;
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        void *theirs;
        pthread_join(threads[i], &theirs);
        wrong += (size_t)theirs;
    }
    drop(ROLES "viewer");
    assert_int_equal(wrong, 0);
}

static void refusals_are_in_kubernetes_words(void **state) {
    static const struct {
        struct authz_attributes a;
        const char *text;
    } all[] = {
        {{.verb = "list", .group = "", .resource = "pods", .ns = "default"},
         "pods is forbidden: User \"bo<b\" cannot list resource \"pods\" in API group \"\" in the "
         "namespace \"default\""},
        {{.verb = "patch",
          .group = "apps",
          .resource = "deployments",
          .subresource = "scale",
          .name = "web"},
         "deployments.apps \"web\" is forbidden: User \"bo<b\" cannot patch resource "
         "\"deployments/scale\" in API group \"apps\" at the cluster scope"},
        {{.verb = "get", .path = "/metrics"},
         "forbidden: User \"bo<b\" cannot get path \"/metrics\""},
    };
    const struct auth_identity bob = {.name = "bo<b"}, admin = {.name = "a", .admin = true};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        struct error err = ERROR_INIT;
        AUTO_BUF expected = BUF_INIT;
        for (const char *p = all[i].text; *p; p++) {
            if (*p == '<')
                buf_puts(&expected, "&lt;");
            else
                buf_putc(&expected, *p);
        }
        assert_int_equal(authz_check(env.authz, &bob, &all[i].a, &err), ERR_FORBIDDEN);
        assert_string_equal(err.text, expected.data);
        assert_int_equal(authz_check(env.authz, &admin, &all[i].a, &err), OK);
        assert_int_equal(authz_check(env.authz, NULL, &all[i].a, &err), OK);
    }
    put(BINDINGS "lost", "{kind: ClusterRoleBinding, metadata: {name: lost}, subjects: [{kind: "
                         "User, name: eve}], roleRef: {kind: ClusterRole, name: gone}}");
    const struct auth_identity eve = {.name = "eve"};
    struct error err = ERROR_INIT;
    assert_int_equal(authz_check(env.authz, &eve, &list_pods, &err), ERR_FORBIDDEN);
    assert_string_equal(err.text,
                        "pods is forbidden: User \"eve\" cannot list resource \"pods\" in API "
                        "group \"\" in the namespace \"default\": RBAC: "
                        "clusterrole.rbac.authorization.k8s.io \"gone\" not found");
    drop(BINDINGS "lost");
}

static void everybody_may_what_the_defaults_say(void **state) {
    const struct auth_identity known = {
        .name = "k", .groups = {"system:authenticated"}, .num_groups = 1};
    const struct auth_identity nobody = {.name = "system:anonymous",
                                         .anonymous = true,
                                         .groups = {"system:unauthenticated"},
                                         .num_groups = 1};
    const struct authz_attributes discover = {.verb = "get", .path = "/apis/apps/v1"},
                                  version = {.verb = "get", .path = "/version"},
                                  root = {.verb = "get", .path = "/"},
                                  review = {.verb = "create",
                                            .group = "authorization.k8s.io",
                                            .resource = "selfsubjectaccessreviews"};
    assert_true(authz_may(env.authz, &known, &discover));
    assert_true(authz_may(env.authz, &known, &version));
    assert_true(authz_may(env.authz, &known, &review));
    assert_false(authz_may(env.authz, &known, &root));
    assert_false(authz_may(env.authz, &nobody, &discover));
    assert_true(authz_may(env.authz, &nobody, &version));
    assert_false(authz_may(env.authz, &nobody, &review));
    assert_true(authz_is_public("/readyz"));
    assert_false(authz_is_public("/api"));
}

static void host_processes_are_for_admins(void **state) {
    const struct auth_identity bob = {.name = "bob"}, admin = {.name = "a", .admin = true};
    assert_true(authz_may_use_host_processes(env.authz, &admin, "default"));
    assert_false(authz_may_use_host_processes(env.authz, &bob, "default"));
    put(RBAC_GROUP "/rolebindings/default/roots",
        "{kind: RoleBinding, metadata: {name: roots, namespace: default}, subjects: [{kind: User, "
        "name: bob}], roleRef: {kind: ClusterRole, name: cluster-admin}}");
    assert_true(authz_may_use_host_processes(env.authz, &bob, "default"));
    assert_false(authz_may_use_host_processes(env.authz, &bob, "other"));
    drop(RBAC_GROUP "/rolebindings/default/roots");
}

/* A new kind must not be forgotten in rbac_defaults.yaml: who has the role admin in a namespace
 * sees whatever is in it. */
static void admins_see_every_namespaced_kind(void **state) {
    static const char *const roles[] = {"view", "edit", "admin"};
    struct error err = ERROR_INIT;
    AUTO(kinds) kinds = NULL;
    assert_int_equal(kinds_create(&kinds, &err), OK);
    for (size_t i = 0; i < ARRAY_LEN(roles); i++) {
        AUTO_FREE char *key = mem_printf(RBAC_GROUP "/rolebindings/default/to-%s", roles[i]);
        AUTO_FREE char *text = mem_printf(
            "{kind: RoleBinding, metadata: {name: to-%s, namespace: default}, subjects: [{kind: "
            "User, name: sam}], roleRef: {kind: ClusterRole, name: 'system:aggregate-to-%s'}}",
            roles[i], roles[i]);
        put(key, text);
    }
    const struct auth_identity sam = {.name = "sam"};
    for (size_t i = 0; i < kinds_count(kinds); i++) {
        const struct kind *kind = kinds_at(kinds, i);
        const struct authz_attributes a = {
            .verb = "list", .group = kind->group, .resource = kind->plural, .ns = "default"};
        if (kind->namespaced && authz_check(env.authz, &sam, &a, &err))
            fail_msg("%s", err.text);
    }
    for (size_t i = 0; i < ARRAY_LEN(roles); i++) {
        AUTO_FREE char *key = mem_printf(RBAC_GROUP "/rolebindings/default/to-%s", roles[i]);
        drop(key);
    }
}

static void heal(void) {
    struct error err = ERROR_INIT;
    if (rbac_defaults_reconcile(env.store, &err))
        fail_msg("%s", err.text);
}

static void defaults_are_healed_and_additions_stay(void **state) {
    int64_t before = store_revision(env.store);
    heal();
    assert_int_equal(store_revision(env.store), before); /* nothing to do, nothing written */
    drop(ROLES "view");
    put(ROLES "system:basic-user",
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: "
        "'system:basic-user', labels: {mine: here}}, rules: [{apiGroups: [x], resources: [y], "
        "verbs: [z]}, {apiGroups: [authorization.k8s.io], resources: "
        "[selfsubjectrulesreviews], verbs: [create]}]}");
    put(BINDINGS "system:discovery",
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: "
        "'system:discovery'}, subjects: [{kind: User, name: ann, apiGroup: "
        "rbac.authorization.k8s.io}], roleRef: {kind: ClusterRole, name: 'system:discovery', "
        "apiGroup: rbac.authorization.k8s.io}}");
    put(BINDINGS "cluster-admin",
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: "
        "cluster-admin}, subjects: [], roleRef: {kind: ClusterRole, name: view, apiGroup: "
        "rbac.authorization.k8s.io}}");
    put(ROLES "edit", "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: "
                      "{name: edit, annotations: {rbac.authorization.kubernetes.io/autoupdate: "
                      "'false'}}, rules: []}");
    heal();
    AUTO(store_object) view = get(ROLES "view");
    assert_non_null(object_at(view->json, "aggregationRule.clusterRoleSelectors.0.matchLabels"));
    assert_non_null(object_uid(view->json));
    AUTO(store_object) basic = get(ROLES "system:basic-user");
    const json_t *rules = json_object_get(basic->json, "rules");
    assert_int_equal(json_array_size(rules), 4);
    assert_string_equal(object_str(rules, "0.apiGroups.0"), "x");
    assert_string_equal(object_str(rules, "2.resources.0"), "selfsubjectaccessreviews");
    assert_string_equal(object_label(basic->json, "mine"), "here");
    assert_string_equal(object_label(basic->json, "kubernetes.io/bootstrapping"), "rbac-defaults");
    AUTO(store_object) discovery = get(BINDINGS "system:discovery");
    assert_int_equal(json_array_size(json_object_get(discovery->json, "subjects")), 2);
    AUTO(store_object) admin = get(BINDINGS "cluster-admin");
    assert_string_equal(object_str(admin->json, "roleRef.name"), "cluster-admin");
    AUTO(store_object) edit = get(ROLES "edit");
    assert_null(object_at(edit->json, "aggregationRule"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_change_holds_for_the_next_question),
        cmocka_unit_test(changes_do_not_disturb_those_who_ask),
        cmocka_unit_test(refusals_are_in_kubernetes_words),
        cmocka_unit_test(everybody_may_what_the_defaults_say),
        cmocka_unit_test(host_processes_are_for_admins),
        cmocka_unit_test(admins_see_every_namespaced_kind),
        cmocka_unit_test(defaults_are_healed_and_additions_stay),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
