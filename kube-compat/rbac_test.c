/* The decider against cases: what a set of roles and bindings allows, and whether some rules cover
 * others. */
#include "kube-compat/rbac.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <cmocka.h>

#include "core/base/yaml.h"

static json_t *parse(const char *text) {
    json_t *docs;
    struct error err = ERROR_INIT;
    if (yaml_parse_all(text, strlen(text), &docs, &err))
        fail_msg("%s", err.text);
    return docs;
}

static struct rbac *index_of(const char *text) {
    json_t *docs = parse(text);
    const json_t **objects = mem_array(json_array_size(docs) + 1, sizeof(*objects));
    for (size_t i = 0; i < json_array_size(docs); i++)
        objects[i] = json_array_get(docs, i);
    struct rbac *r = rbac_create(objects, json_array_size(docs));
    free((void *)objects);
    json_decref(docs);
    return r;
}

static const char SITE[] =
    "{kind: ClusterRole, metadata: {name: all}, rules: [{apiGroups: ['*'], resources: ['*'], "
    "verbs: ['*']}, {nonResourceURLs: ['*'], verbs: ['*']}]}\n---\n"
    "{kind: ClusterRole, metadata: {name: view}, rules: [{apiGroups: [''], resources: [pods, "
    "pods/log], verbs: [get, list]}, {apiGroups: [apps], resources: ['*/scale'], verbs: [get]}, "
    "{nonResourceURLs: [/metrics, '/logs/*'], verbs: [get]}]}\n---\n"
    "{kind: Role, metadata: {name: keys, namespace: a}, rules: [{apiGroups: [''], resources: "
    "[secrets], resourceNames: [tls, web], verbs: [get, frob]}]}\n---\n"
    "{kind: ClusterRoleBinding, metadata: {name: roots}, subjects: [{kind: Group, name: ops}], "
    "roleRef: {kind: ClusterRole, name: all}}\n---\n"
    "{kind: RoleBinding, metadata: {name: eyes, namespace: a}, subjects: [{kind: User, name: bob}, "
    "{kind: ServiceAccount, name: robot}, {kind: ServiceAccount, name: far, namespace: b}], "
    "roleRef: {kind: ClusterRole, name: view}}\n---\n"
    "{kind: RoleBinding, metadata: {name: locks, namespace: a}, subjects: [{kind: User, name: "
    "bob}], roleRef: {kind: Role, name: keys}}\n---\n"
    "{kind: ClusterRoleBinding, metadata: {name: web}, subjects: [{kind: User, name: ann}, {kind: "
    "ServiceAccount, name: nowhere}], roleRef: {kind: ClusterRole, name: view}}\n---\n"
    "{kind: ClusterRoleBinding, metadata: {name: lost}, subjects: [{kind: User, name: eve}], "
    "roleRef: {kind: ClusterRole, name: gone}}\n---\n"
    "{kind: RoleBinding, metadata: {name: lost, namespace: a}, subjects: [{kind: User, name: "
    "eve}], roleRef: {kind: Role, name: gone}}\n";

struct question {
    const char *user, *groups; /* comma-separated */
    struct authz_attributes a;
    bool allowed;
};

static bool ask(const struct rbac *r, const struct question *q, struct buf *reason) {
    AUTO_FREE char *text = mem_strdup(q->groups ? q->groups : "");
    const char *groups[8];
    struct rbac_subject who = {.user = q->user, .groups = groups};
    for (char *rest = text, *word; (word = strsep(&rest, ","));) {
        if (*word)
            groups[who.num_groups++] = word;
    }
    return rbac_allows(r, &who, &q->a, reason);
}

#define ON(v, g, r, ...)                                                                           \
    { .verb = v, .group = g, .resource = r, __VA_ARGS__ }
#define AT(v, p)                                                                                   \
    { .verb = v, .path = p }

static void the_table_is_right(void **state) {
    static const struct question all[] = {
        {"bob", NULL, ON("get", "", "pods", .ns = "a"), true},
        {"bob", NULL, ON("get", "", "pods", .ns = "a", .name = "p"), true},
        {"bob", NULL, ON("get", "", "pods", .ns = "b"), false},
        {"bob", NULL, ON("get", "", "pods"), false}, /* all namespaces */
        {"bob", NULL, ON("watch", "", "pods", .ns = "a"), false},
        {"bob", NULL, ON("get", "apps", "pods", .ns = "a"), false},
        {"bob", NULL, ON("get", "", "pods", .ns = "a", .subresource = "log"), true},
        {"bob", NULL, ON("get", "", "pods", .ns = "a", .subresource = "logs"), false},
        {"bob", NULL, ON("get", "", "pods", .ns = "a", .subresource = "exec"), false},
        {"bob", NULL, ON("get", "", "pod", .ns = "a"), false},
        {"bob", NULL, ON("get", "apps", "deployments", .ns = "a", .subresource = "scale"), true},
        {"bob", NULL, ON("get", "apps", "deployments", .ns = "a"), false},
        {"bob", NULL, ON("get", "apps", "deployments", .ns = "a", .subresource = "status"), false},
        {"bob", NULL, AT("get", "/metrics"), false}, /* a RoleBinding gives no paths */
        {"bob", NULL, ON("get", "", "secrets", .ns = "a", .name = "tls"), true},
        {"bob", NULL, ON("frob", "", "secrets", .ns = "a", .name = "web"), true},
        {"bob", NULL, ON("frob", "", "pods", .ns = "a"), false},
        {"bob", NULL, ON("get", "", "secrets", .ns = "a", .name = "other"), false},
        {"bob", NULL, ON("get", "", "secrets", .ns = "a"), false},
        {"BOB", NULL, ON("get", "", "pods", .ns = "a"), false},
        {"bo", NULL, ON("get", "", "pods", .ns = "a"), false},
        {"", NULL, ON("get", "", "pods", .ns = "a"), false},
        {NULL, "bob", ON("get", "", "pods", .ns = "a"), false}, /* a group is no user */
        {"ops", NULL, ON("get", "", "pods", .ns = "a"), false}, /* nor the other way round */
        {"zed", "x,ops", ON("delete", "any.group", "things", .ns = "b"), true},
        {"zed", "x,ops", ON("frob", "any.group", "things", .subresource = "s"), true},
        {"zed", "ops", AT("post", "/whatever"), true},
        {"zed", "x", AT("get", "/whatever"), false},
        {"ann", NULL, AT("get", "/metrics"), true},
        {"ann", NULL, AT("get", "/metrics/x"), false},
        {"ann", NULL, AT("get", "/logs/"), true},
        {"ann", NULL, AT("get", "/logs/a/b"), true},
        {"ann", NULL, AT("get", "/logs"), false},
        {"ann", NULL, AT("post", "/metrics"), false},
        {"ann", NULL, ON("list", "", "pods"), true},
        {"ann", NULL, ON("list", "", "pods", .ns = "anywhere"), true},
        {"system:serviceaccount:a:robot", NULL, ON("get", "", "pods", .ns = "a"), true},
        {"system:serviceaccount:b:robot", NULL, ON("get", "", "pods", .ns = "a"), false},
        {"system:serviceaccount:b:far", NULL, ON("get", "", "pods", .ns = "a"), true},
        {"system:serviceaccount::nowhere", NULL, ON("get", "", "pods", .ns = "a"), false},
        {"eve", NULL, ON("get", "", "pods", .ns = "a"), false},
        /* As access reviews may ask. */
        {"zed", "ops", ON("*", "*", "*"), true},
        {"zed", "ops", AT("*", "*"), true},
        {"bob", NULL, ON("*", "*", "*", .ns = "a"), false},
        {"bob", NULL, ON("get", "", "*", .ns = "a"), false},
        {"bob", NULL, ON("get", "apps", "*", .subresource = "scale", .ns = "a"), true},
        {"bob", NULL, ON("get", "", "pods/log", .ns = "a"), true},
        {"bob", NULL, ON("", "", "", .ns = "a"), false},
    };
    AUTO(rbac) r = index_of(SITE);
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        if (ask(r, &all[i], NULL) != all[i].allowed)
            fail_msg("case %zu: %s %s %s", i, all[i].user, all[i].a.verb,
                     all[i].a.resource ? all[i].a.resource : all[i].a.path);
    }
}

static void the_reason_names_the_binding(void **state) {
    static const struct {
        struct question q;
        const char *reason;
    } all[] = {
        {{"ann", NULL, ON("list", "", "pods"), true},
         "RBAC: allowed by ClusterRoleBinding \"web\" of ClusterRole \"view\" to User \"ann\""},
        {{"zed", "ops", ON("list", "", "pods"), true},
         "RBAC: allowed by ClusterRoleBinding \"roots\" of ClusterRole \"all\" to Group \"ops\""},
        {{"bob", NULL, ON("list", "", "pods", .ns = "a"), true},
         "RBAC: allowed by RoleBinding \"eyes/a\" of ClusterRole \"view\" to User \"bob\""},
        {{"system:serviceaccount:a:robot", NULL, ON("list", "", "pods", .ns = "a"), true},
         "RBAC: allowed by RoleBinding \"eyes/a\" of ClusterRole \"view\" to ServiceAccount "
         "\"robot/a\""},
        {{"bob", NULL, ON("list", "", "nodes"), false}, NULL},
        {{"eve", NULL, ON("list", "", "nodes"), false},
         "RBAC: clusterrole.rbac.authorization.k8s.io \"gone\" not found"},
        {{"eve", NULL, ON("list", "", "pods", .ns = "a"), false},
         "RBAC: [clusterrole.rbac.authorization.k8s.io \"gone\" not found, "
         "role.rbac.authorization.k8s.io \"gone\" not found]"},
    };
    AUTO(rbac) r = index_of(SITE);
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        AUTO_BUF reason = BUF_INIT;
        assert_int_equal(ask(r, &all[i].q, &reason), all[i].q.allowed);
        if (all[i].reason)
            assert_string_equal(reason.data, all[i].reason);
        else
            assert_int_equal(reason.len, 0);
    }
}

/* The store holds no such objects; if it did, they would be nobody's, not everybody's. */
static void without_a_namespace_nothing_is_given(void **state) {
    AUTO(rbac)
    r = index_of(
        "{kind: Role, metadata: {name: r}, rules: [{apiGroups: ['*'], resources: ['*'], verbs: "
        "['*']}]}\n---\n"
        "{kind: ClusterRole, metadata: {name: c}, rules: [{apiGroups: ['*'], resources: ['*'], "
        "verbs: ['*']}]}\n---\n"
        "{kind: RoleBinding, metadata: {name: a}, subjects: [{kind: User, name: bob}], roleRef: "
        "{kind: ClusterRole, name: c}}\n---\n"
        "{kind: ClusterRoleBinding, metadata: {name: b}, subjects: [{kind: User, name: bob}], "
        "roleRef: {kind: ClusterRole, name: r}}");
    const struct question all[] = {{"bob", NULL, ON("get", "", "pods"), false},
                                   {"bob", NULL, ON("get", "", "pods", .ns = ""), false},
                                   {"bob", NULL, ON("get", "", "pods", .ns = "a"), false}};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        assert_false(ask(r, &all[i], NULL));
}

/* What is missing, described; "" when everything is covered. */
static void expect_missing(const char *held, const char *wanted, const char *missing) {
    AUTO(arena) arena = arena_create();
    json_t *have = parse(held), *want = parse(wanted);
    struct rbac_rules h, w, m;
    rbac_rules_read(arena, json_array_get(have, 0), &h);
    rbac_rules_read(arena, json_array_get(want, 0), &w);
    rbac_rules_missing(arena, &h, &w, &m);
    AUTO_BUF text = BUF_INIT;
    buf_puts(&text, "");
    for (size_t i = 0; i < m.num; i++)
        rbac_rule_describe(&m.items[i], &text);
    assert_string_equal(text.data, missing);
    json_decref(have);
    json_decref(want);
}

static void rules_cover_rules(void **state) {
    static const char pods[] = "[{apiGroups: [''], resources: [pods], verbs: [get, list]}]";
    expect_missing("[]", "[]", "");
    expect_missing(pods, pods, "");
    expect_missing("[]", pods,
                   "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"get\" \"list\"]}");
    expect_missing(pods, "[{apiGroups: ['', apps], resources: [pods], verbs: [list, watch]}]",
                   "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"watch\"]}"
                   "{APIGroups:[\"apps\"], Resources:[\"pods\"], Verbs:[\"list\" \"watch\"]}");
    /* Two rules cover a third together. */
    expect_missing("[{apiGroups: [''], resources: [pods], verbs: [get]}, {apiGroups: [''], "
                   "resources: [pods], verbs: [list]}]",
                   pods, "");
    expect_missing("[{apiGroups: ['*'], resources: ['*'], verbs: ['*']}]", pods, "");
    /* A star is more than all that can be named. */
    expect_missing(pods, "[{apiGroups: [''], resources: [pods], verbs: ['*']}]",
                   "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"*\"]}");
    /* Names. */
    expect_missing(pods, "[{apiGroups: [''], resources: [pods], resourceNames: [a], verbs: [get]}]",
                   "");
    expect_missing("[{apiGroups: [''], resources: [pods], resourceNames: [a], verbs: [get]}]",
                   "[{apiGroups: [''], resources: [pods], resourceNames: [a, b], verbs: [get]}]",
                   "{APIGroups:[\"\"], Resources:[\"pods\"], ResourceNames:[\"b\"], "
                   "Verbs:[\"get\"]}");
    expect_missing("[{apiGroups: [''], resources: [pods], resourceNames: [a], verbs: [get]}]",
                   "[{apiGroups: [''], resources: [pods], verbs: [get]}]",
                   "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"get\"]}");
    /* Subresources. */
    expect_missing(pods, "[{apiGroups: [''], resources: [pods/log], verbs: [get]}]",
                   "{APIGroups:[\"\"], Resources:[\"pods/log\"], Verbs:[\"get\"]}");
    expect_missing("[{apiGroups: [''], resources: ['*/log'], verbs: [get]}]",
                   "[{apiGroups: [''], resources: [pods/log], verbs: [get]}]", "");
    /* Paths. */
    expect_missing("[{nonResourceURLs: ['/a/*'], verbs: [get]}]",
                   "[{nonResourceURLs: [/a/b, '/a/b/*', /c], verbs: [get]}]",
                   "{NonResourceURLs:[\"/c\"], Verbs:[\"get\"]}");
    expect_missing("[{nonResourceURLs: [/a], verbs: [get]}]",
                   "[{nonResourceURLs: ['*'], verbs: [get]}]",
                   "{NonResourceURLs:[\"*\"], Verbs:[\"get\"]}");
}

/* A short body can stand for a billion rights: they are not gone through. */
static void a_huge_rule_is_missing_whole(void **state) {
    AUTO_BUF words = BUF_INIT;
    for (int i = 0; i < 1000; i++)
        buf_printf(&words, "%sw%d", i ? ", " : "", i);
    AUTO_FREE char *rules = mem_printf("[{apiGroups: [%s], resources: [%s], verbs: [%s]}]",
                                       words.data, words.data, words.data);
    AUTO(arena) arena = arena_create();
    json_t *want = parse(rules);
    struct rbac_rules none = {0}, all, wanted, missing;
    rbac_rules_read(arena, json_array_get(want, 0), &wanted);
    rbac_rules_everything(arena, &all);
    rbac_rules_missing(arena, &none, &wanted, &missing);
    assert_int_equal(missing.num, 1);
    assert_int_equal(missing.items[0].verbs.num, 1000);
    assert_string_equal(missing.items[0].groups.items[999], "w999");
    rbac_rules_missing(arena, &all, &wanted, &missing);
    assert_int_equal(missing.num, 0);
    json_decref(want);
}

static void missing_rules_are_bounded(void **state) {
    AUTO_BUF words = BUF_INIT;
    for (int i = 0; i < 2000; i++)
        buf_printf(&words, "%sw%d", i ? ", " : "", i);
    AUTO_FREE char *rules =
        mem_printf("[{apiGroups: [''], resources: [%s], verbs: [get]}]", words.data);
    AUTO(arena) arena = arena_create();
    json_t *want = parse(rules);
    struct rbac_rules none = {0}, wanted, missing;
    rbac_rules_read(arena, json_array_get(want, 0), &wanted);
    rbac_rules_missing(arena, &none, &wanted, &missing);
    assert_int_equal(missing.num, RBAC_MISSING_MAX);
    json_decref(want);
    AUTO_FREE char *verbs =
        mem_printf("[{apiGroups: [''], resources: [pods], verbs: [%s]}]", words.data);
    want = parse(verbs);
    rbac_rules_read(arena, json_array_get(want, 0), &wanted);
    rbac_rules_missing(arena, &none, &wanted, &missing);
    assert_int_equal(missing.num, 1);
    assert_int_equal(missing.items[0].verbs.num, 2000);
    assert_string_equal(missing.items[0].verbs.items[1999], "w1999");
    json_decref(want);
}

static void rules_survive_being_read(void **state) {
    json_t *rules = parse("[{apiGroups: [a], resources: [b], resourceNames: [c], verbs: [d]}, "
                          "{nonResourceURLs: [/e], verbs: [get]}]");
    AUTO(arena) arena = arena_create();
    struct rbac_rules read;
    rbac_rules_read(arena, json_array_get(rules, 0), &read);
    assert_int_equal(read.num, 2);
    for (size_t i = 0; i < read.num; i++) {
        json_t *again = rbac_rule_json(&read.items[i]);
        assert_true(json_equal(again, json_array_get(json_array_get(rules, 0), i)));
        json_decref(again);
    }
    json_decref(rules);
}

/* Of this thread: other programs do not count. */
static int64_t cpu_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

struct site {
    size_t num_users, num_roles;
    const char *what;
};

/* Gives an index of num bindings, and what making it took. */
static struct rbac *big_site(size_t num, const struct site *site, int64_t *ret_ns) {
    static const char rules[] =
        "[{apiGroups: [''], resources: [pods, pods/log, services, configmaps], verbs: [get, list, "
        "watch]}, {apiGroups: [apps], resources: [deployments, replicasets], verbs: [get, list, "
        "watch]}, {apiGroups: [serving.kserve.io], resources: [inferenceservices], verbs: ['*']}]";
    json_t *parsed = parse(rules);
    const json_t **objects = mem_array(2 * num, sizeof(*objects));
    size_t num_objects = 0;
    for (size_t i = 0; i < site->num_roles; i++)
        objects[num_objects++] =
            json_pack("{s:s, s:{s:o}, s:O}", "kind", "ClusterRole", "metadata", "name",
                      json_sprintf("r%zu", i), "rules", json_array_get(parsed, 0));
    for (size_t i = 0; i < num; i++)
        objects[num_objects++] =
            json_pack("{s:s, s:{s:o}, s:[{s:s, s:o}], s:{s:s, s:o}}", "kind", "ClusterRoleBinding",
                      "metadata", "name", json_sprintf("b%zu", i), "subjects", "kind", "User",
                      "name", json_sprintf("u%zu", i % site->num_users), "roleRef", "kind",
                      "ClusterRole", "name", json_sprintf("r%zu", i % site->num_roles));
    int64_t start = cpu_ns();
    struct rbac *r = rbac_create(objects, num_objects);
    *ret_ns = cpu_ns() - start;
    for (size_t i = 0; i < num_objects; i++)
        json_decref((json_t *)(uintptr_t)objects[i]);
    free((void *)objects);
    json_decref(parsed);
    return r;
}

/* Prints the costs; the bound is generous, for sanitized programs. */
static void decisions_are_cheap(void **state) {
    enum { BINDINGS = 1000, ROUNDS = 2000, NS_MAX = 2000000 };
    static const struct site sites[] = {{1000, 1, "1000 users, one role"},
                                        {1000, 1000, "1000 users, 1000 roles"},
                                        {1, 1, "one user, one role"},
                                        {1, 1000, "one user, 1000 roles"}};
    const char *groups[] = {"system:authenticated", "x", "y", "z"};
    const struct rbac_subject who = {.user = "u0", .groups = groups, .num_groups = 4};
    const struct authz_attributes no = ON("delete", "apps", "deployments", .ns = "default");
    for (size_t s = 0; s < ARRAY_LEN(sites); s++) {
        int64_t made;
        AUTO(rbac) r = big_site(BINDINGS, &sites[s], &made);
        int64_t start = cpu_ns();
        for (int i = 0; i < ROUNDS; i++)
            assert_false(rbac_allows(r, &who, &no, NULL));
        int64_t each = (cpu_ns() - start) / ROUNDS;
        print_message("%d bindings (%s): index made in %lld us, a refusal takes %lld ns\n",
                      BINDINGS, sites[s].what, (long long)(made / 1000), (long long)each);
        assert_true(each < NS_MAX);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_is_right),
        cmocka_unit_test(the_reason_names_the_binding),
        cmocka_unit_test(without_a_namespace_nothing_is_given),
        cmocka_unit_test(rules_cover_rules),
        cmocka_unit_test(a_huge_rule_is_missing_whole),
        cmocka_unit_test(missing_rules_are_bounded),
        cmocka_unit_test(rules_survive_being_read),
        cmocka_unit_test(decisions_are_cheap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
