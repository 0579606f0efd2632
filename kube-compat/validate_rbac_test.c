#include "kube-compat/validate_rbac.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "core/base/yaml.h"
#include "core/object.h"
#include "kube-compat/rbac_rules.h"
#include "kube-compat/validate.h"

static struct kinds *kinds;

static int start(void **state) {
    struct error err = ERROR_INIT;
    return kinds_create(&kinds, &err);
}

static int stop(void **state) {
    kinds_unref(kinds);
    return 0;
}

static json_t *parse(const char *text) {
    json_t *o;
    struct error err = ERROR_INIT;
    if (yaml_parse(text, strlen(text), &o, &err))
        fail_msg("%s: %s", text, err.text);
    return o;
}

/* What schema and rules find, as the pipeline asks them; "" is nothing. */
static void expect(const char *plural, const char *text, const char *old, const char *found) {
    const struct kind *kind = kinds_find(kinds, RBAC_GROUP, "v1", plural);
    assert_non_null(kind);
    json_t *o = parse(text), *was = old ? parse(old) : NULL, *causes = json_array(), *cause;
    struct schema_findings findings = {.causes = causes};
    defaults_rbac(o);
    schema_check(kind->schema, o, &findings);
    validate_object(kind, o, causes);
    if (was) {
        defaults_rbac(was);
        validate_update(kind, o, was, causes);
    }
    AUTO_BUF all = BUF_INIT;
    buf_puts(&all, "");
    size_t i;
    json_array_foreach (causes, i, cause) {
        buf_printf(&all, "%s%s: %s", i ? "\n" : "", object_str(cause, "field"),
                   object_str(cause, "message"));
    }
    assert_string_equal(all.data, found);
    json_decref(o);
    json_decref(was);
    json_decref(causes);
}

static void rules_say_what_and_where(void **state) {
    expect("roles", "{rules: [{apiGroups: [''], resources: [pods], verbs: [get]}]}", NULL, "");
    expect("roles", "{}", NULL, "");
    expect("roles", "{rules: [{apiGroups: [''], resources: [pods]}]}", NULL,
           "rules[0].verbs: Required value: verbs must contain at least one value");
    expect("clusterroles", "{rules: [{verbs: []}]}", NULL,
           "rules[0].verbs: Required value: verbs must contain at least one value\n"
           "rules[0].apiGroups: Required value: resource rules must supply at least one api group\n"
           "rules[0].resources: Required value: resource rules must supply at least one resource");
    expect("clusterroles", "{rules: [{nonResourceURLs: [/a, /b], verbs: [get]}]}", NULL, "");
    expect("roles", "{rules: [{nonResourceURLs: [/a, /b], verbs: [get]}]}", NULL,
           "rules[0].nonResourceURLs: Invalid value: []string{\"/a\", \"/b\"}: namespaced rules "
           "cannot apply to non-resource URLs");
    expect("clusterroles", "{rules: [{nonResourceURLs: [/a], resourceNames: [x], verbs: [get]}]}",
           NULL,
           "rules[0].nonResourceURLs: Invalid value: []string{\"/a\"}: rules cannot apply to both "
           "regular resources and non-resource URLs");
}

static void aggregation_selects_something(void **state) {
#define AGGREGATION "aggregationRule.clusterRoleSelectors"
    expect("clusterroles", "{aggregationRule: {clusterRoleSelectors: [{matchLabels: {a: b}}]}}",
           NULL, "");
    expect("clusterroles", "{aggregationRule: {}}", NULL,
           AGGREGATION ": Required value: at least one clusterRoleSelector required if "
                       "aggregationRule is non-nil");
    expect("clusterroles",
           "{aggregationRule: {clusterRoleSelectors: [{matchExpressions: [{key: a, operator: In}, "
           "{key: a, operator: Exists, values: [b]}, {key: a, operator: Like}]}]}}",
           NULL,
           AGGREGATION "[0].matchExpressions[0].values: Required value: must be specified when "
                       "`operator` is 'In' or 'NotIn'\n" AGGREGATION
                       "[0].matchExpressions[1].values: Forbidden: may not be specified when "
                       "`operator` is 'Exists' or 'DoesNotExist'\n" AGGREGATION
                       "[0].matchExpressions[2].operator: Invalid value: \"Like\": not a valid "
                       "selector operator");
}

#define REF "roleRef: {kind: ClusterRole, name: x}"

static void bindings_name_a_role_and_somebody(void **state) {
    expect("rolebindings",
           "{" REF ", subjects: [{kind: User, name: a}, {kind: Group, name: b}, {kind: "
           "ServiceAccount, name: c}]}",
           NULL, "");
    expect("clusterrolebindings", "{" REF "}", NULL, "");
    expect("clusterrolebindings", "{roleRef: {kind: Role, name: ''}}", NULL,
           "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\"\n"
           "roleRef.name: Required value");
    expect("rolebindings", "{roleRef: {kind: Foo, name: a/b, apiGroup: x}}", NULL,
           "roleRef.apiGroup: Unsupported value: \"x\": supported values: "
           "\"rbac.authorization.k8s.io\"\n"
           "roleRef.kind: Unsupported value: \"Foo\": supported values: \"Role\", \"ClusterRole\"\n"
           "roleRef.name: Invalid value: \"a/b\": may not be '.' or '..', and may not contain '/' "
           "or '%'");
    expect("rolebindings", "{subjects: []}", NULL, "roleRef: Required value");
    expect("clusterrolebindings",
           "{" REF ", subjects: [{kind: ServiceAccount, name: c}, {kind: ServiceAccount, name: "
           "d_, namespace: ns, apiGroup: z}, {kind: User, name: '', apiGroup: z}, {kind: Robot, "
           "name: r}]}",
           NULL,
           "subjects[0].namespace: Required value\n"
           "subjects[1].name: Invalid value: \"d_\": a lowercase RFC 1123 subdomain must consist "
           "of lower case alphanumeric characters, '-' or '.', and must start and end with an "
           "alphanumeric character (e.g. 'example.com', regex used for validation is "
           "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')\n"
           "subjects[1].apiGroup: Unsupported value: \"z\": supported values: \"\"\n"
           "subjects[2].name: Required value\n"
           "subjects[2].apiGroup: Unsupported value: \"z\": supported values: "
           "\"rbac.authorization.k8s.io\"\n"
           "subjects[3].kind: Unsupported value: \"Robot\": supported values: \"ServiceAccount\", "
           "\"User\", \"Group\"");
}

static void a_binding_keeps_its_role(void **state) {
    expect("rolebindings", "{" REF ", subjects: []}", "{" REF "}", "");
    expect("rolebindings", "{roleRef: {kind: Role, name: x}}", "{" REF "}",
           "roleRef: Invalid value: rbac.RoleRef{APIGroup:\"rbac.authorization.k8s.io\", "
           "Kind:\"Role\", Name:\"x\"}: cannot change roleRef");
}

/* The pipeline stops at wrong types, unless so much else is wrong that they were not noted. */
static void wrong_types_do_no_harm(void **state) {
    static const char *const all[] = {
        "{rules: 5, aggregationRule: [], roleRef: [], subjects: 7}",
        "{rules: [1, [], {verbs: x, nonResourceURLs: {}}], aggregationRule: {clusterRoleSelectors: "
        "[1, {matchExpressions: [2]}]}}",
        "{roleRef: {kind: 1, name: {}, apiGroup: []}, subjects: [1, {kind: [], name: 3}, {kind: "
        "User, name: {}, apiGroup: 4}]}",
    };
    static const char *const plurals[] = {"roles", "clusterroles", "rolebindings",
                                          "clusterrolebindings"};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        for (size_t j = 0; j < ARRAY_LEN(plurals); j++) {
            const struct kind *kind = kinds_find(kinds, RBAC_GROUP, "v1", plurals[j]);
            json_t *o = parse(all[i]), *causes = json_array();
            defaults_rbac(o);
            validate_rbac(kind, o, causes);
            validate_rbac_update(kind, o, o, causes);
            json_decref(o);
            json_decref(causes);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_say_what_and_where),
        cmocka_unit_test(aggregation_selects_something),
        cmocka_unit_test(bindings_name_a_role_and_somebody),
        cmocka_unit_test(a_binding_keeps_its_role),
        cmocka_unit_test(wrong_types_do_no_harm),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
