#include "kube-compat/audit_policy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "core/base/buf.h"
#include "core/base/yaml.h"

#define HEAD "apiVersion: audit.k8s.io/v1\nkind: Policy\n"

static enum errc read_policy(const char *text, struct audit_policy **ret_p, struct error *err) {
    json_t *document = NULL;
    assert_int_equal(yaml_parse(text, strlen(text), &document, err), OK);
    enum errc rc = audit_policy_create(document, ret_p, err);
    json_decref(document);
    return rc;
}

static struct audit_policy *policy(const char *text) {
    struct audit_policy *p = NULL;
    struct error err = ERROR_INIT;
    if (read_policy(text, &p, &err))
        fail_msg("%s", err.text);
    return p;
}

static const struct auth_identity ann = {
    .name = "ann", .groups = {"dev", "system:authenticated"}, .num_groups = 2};

/* A request of ann's; path is for what is not about a resource. */
static struct audit_attributes request(const char *verb, const char *group, const char *resource,
                                       const char *subresource, const char *ns, const char *name) {
    return (struct audit_attributes){.who = &ann,
                                     .verb = verb,
                                     .group = group,
                                     .resource = resource,
                                     .subresource = subresource,
                                     .ns = ns,
                                     .name = name,
                                     .path = "/"};
}

static enum audit_level level(const struct audit_policy *p, struct audit_attributes a) {
    return audit_policy_decide(p, &a).level;
}

static void the_first_rule_that_fits_decides(void **state) {
    AUTO(audit_policy)
    p = policy(HEAD "omitStages: [RequestReceived]\n"
                    "rules:\n"
                    "- {level: None, users: [bob]}\n"
                    "- {level: Request, verbs: [create], userGroups: [dev]}\n"
                    "- {level: Metadata, omitStages: [ResponseStarted]}\n");
    struct audit_attributes a = request("create", "", "pods", NULL, "default", "p");
    assert_int_equal(level(p, a), AUDIT_REQUEST);
    assert_int_equal(audit_policy_decide(p, &a).omit_stages, AUDIT_REQUEST_RECEIVED);
    a.verb = "get";
    assert_int_equal(level(p, a), AUDIT_METADATA);
    assert_int_equal(audit_policy_decide(p, &a).omit_stages,
                     AUDIT_REQUEST_RECEIVED | AUDIT_RESPONSE_STARTED);
    struct auth_identity bob = {.name = "bob"};
    a.who = &bob;
    assert_int_equal(level(p, a), AUDIT_NONE);
    a.who = NULL;
    assert_int_equal(level(p, a), AUDIT_METADATA);
}

static void without_a_rule_nothing_is_written(void **state) {
    AUTO(audit_policy) p = policy(HEAD "rules: [{level: Metadata, verbs: [delete]}]\n");
    assert_int_equal(level(p, request("get", "", "pods", NULL, NULL, NULL)), AUDIT_NONE);
}

static void resources_are_matched_as_the_reference_does(void **state) {
    static const struct {
        const char *pattern, *resource, *subresource;
        bool fits;
    } cases[] = {
        {"pods", "pods", NULL, true},        {"pods", "pods", "log", false},
        {"pods/log", "pods", "log", true},   {"pods/log", "pods", NULL, false},
        {"pods/*", "pods", "log", true},     {"pods/*", "pods", NULL, true},
        {"pods/*", "services", NULL, false}, {"*/status", "pods", "status", true},
        {"*/status", "pods", NULL, false},   {"*/status", "pods", "log", false},
        {"*", "pods", "log", true},          {"pod", "pods", NULL, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_FREE char *text = mem_printf(
            HEAD "rules: [{level: Metadata, resources: [{group: '', resources: ['%s']}]}]\n",
            cases[i].pattern);
        AUTO(audit_policy) p = policy(text);
        struct audit_attributes a =
            request("get", "", cases[i].resource, cases[i].subresource, "default", "p");
        assert_int_equal(level(p, a), cases[i].fits ? AUDIT_METADATA : AUDIT_NONE);
        a.group = "apps";
        assert_int_equal(level(p, a), AUDIT_NONE);
    }
}

static void names_and_namespaces_narrow(void **state) {
    AUTO(audit_policy)
    p = policy(HEAD "rules:\n"
                    "- level: Metadata\n"
                    "  namespaces: [kube-system, '']\n"
                    "  resources: [{group: '', resources: [configmaps], resourceNames: [a]},"
                    " {group: apps}]\n");
    assert_int_equal(level(p, request("get", "", "configmaps", NULL, "kube-system", "a")),
                     AUDIT_METADATA);
    assert_int_equal(level(p, request("get", "", "configmaps", NULL, "kube-system", "b")),
                     AUDIT_NONE);
    assert_int_equal(level(p, request("list", "", "configmaps", NULL, "kube-system", NULL)),
                     AUDIT_NONE);
    assert_int_equal(level(p, request("get", "", "configmaps", NULL, "default", "a")), AUDIT_NONE);
    assert_int_equal(level(p, request("get", "apps", "deployments", NULL, NULL, NULL)),
                     AUDIT_METADATA);
}

static void paths_are_matched_with_a_star_at_the_end(void **state) {
    AUTO(audit_policy)
    p = policy(HEAD "rules: [{level: Metadata, nonResourceURLs: ['/healthz*', '/version']}]\n");
    static const struct {
        const char *path;
        bool fits;
    } cases[] = {{"/healthz", true},
                 {"/healthz/x", true},
                 {"/version", true},
                 {"/version/", false},
                 {"/", false}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct audit_attributes a = request("get", NULL, NULL, NULL, NULL, NULL);
        a.path = cases[i].path;
        assert_int_equal(level(p, a), cases[i].fits ? AUDIT_METADATA : AUDIT_NONE);
    }
    assert_int_equal(level(p, request("get", "", "pods", NULL, NULL, NULL)), AUDIT_NONE);
}

static void what_would_not_be_done_is_refused(void **state) {
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"kind: Policy\n", "apiVersion"},
        {HEAD, "rules"},
        {HEAD "rules: []\n", "rules"},
        {HEAD "rules: [{level: RequestResponse}]\n", "rules[0].level"},
        {HEAD "rules: [{level: Everything}]\n", "levels are"},
        {HEAD "rules: [{level: None, user: [a]}]\n", "rules[0].user"},
        {HEAD "rules: [{level: None}, {level: None, verbs: get}]\n", "rules[1].verbs"},
        {HEAD "rules: [{level: None, omitStages: [Later]}]\n", "omitStages"},
        {HEAD "rules: [{level: None, resources: [{resource: [a]}]}]\n", "rules[0].resources[0]"},
        {HEAD "rules: [{level: None, nonResourceURLs: [/a], namespaces: [b]}]\n",
         "not together with"},
        {HEAD "backend: x\nrules: [{level: None}]\n", "backend"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct audit_policy *p = NULL;
        struct error err = ERROR_INIT;
        assert_int_equal(read_policy(cases[i].text, &p, &err), ERR_INVALID);
        if (!strstr(err.text, cases[i].says))
            fail_msg("%s does not say %s", err.text, cases[i].says);
    }
    AUTO_BUF many = BUF_INIT;
    buf_puts(&many, HEAD "rules:\n");
    for (int i = 0; i <= AUDIT_RULES_MAX; i++)
        buf_puts(&many, "- {level: None}\n");
    struct audit_policy *p = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(read_policy(many.data, &p, &err), ERR_INVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_rule_that_fits_decides),
        cmocka_unit_test(without_a_rule_nothing_is_written),
        cmocka_unit_test(resources_are_matched_as_the_reference_does),
        cmocka_unit_test(names_and_namespaces_narrow),
        cmocka_unit_test(paths_are_matched_with_a_star_at_the_end),
        cmocka_unit_test(what_would_not_be_done_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
