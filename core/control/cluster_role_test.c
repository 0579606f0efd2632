#include "core/control/cluster_role.h"

#include "core/control/fixture_test.h"

#define ROLE(name, labels, rest)                                                                   \
    "{\"metadata\":{\"name\":\"" name "\",\"labels\":{" labels "}}," rest "}"
#define RULE(resource) "{\"apiGroups\":[\"\"],\"resources\":[\"" resource "\"],\"verbs\":[\"get\"]}"
#define SELECT(label)                                                                              \
    "\"aggregationRule\":{\"clusterRoleSelectors\":[{\"matchLabels\":{\"" label "\":\"true\"}}]}"

/* The resources of a role's rules, in order. */
static void expect_rules(struct fixture *f, const char *name, const char *resources) {
    json_t *role = fixture_get(f, KIND_CLUSTER_ROLE, name), *rule;
    AUTO_BUF text = BUF_INIT;
    size_t i;
    buf_puts(&text, "");
    json_array_foreach (json_object_get(role, "rules"), i, rule) {
        buf_printf(&text, "%s%s", i ? " " : "", object_str(rule, "resources.0"));
    }
    assert_string_equal(text.data, resources);
    json_decref(role);
}

static void rules_are_collected_through_chains(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_CLUSTER_ROLE, ROLE("all", "", SELECT("to-all")));
    expect_rules(f, "all", "");
    fixture_create(f, KIND_CLUSTER_ROLE, ROLE("some", "\"to-all\":\"true\"", SELECT("to-some")));
    fixture_create(f, KIND_CLUSTER_ROLE,
                   ROLE("z", "\"to-some\":\"true\"", "\"rules\":[" RULE("z") "," RULE("y") "]"));
    fixture_create(f, KIND_CLUSTER_ROLE,
                   ROLE("b", "\"to-some\":\"true\",\"to-all\":\"true\"",
                        "\"rules\":[" RULE("y") "," RULE("x") "]"));
    fixture_create(f, KIND_CLUSTER_ROLE, ROLE("none", "", "\"rules\":[" RULE("w") "]"));
    expect_rules(f, "some", "y x z");
    expect_rules(f, "all", "y x z");
    fixture_delete(f, KIND_CLUSTER_ROLE, "z", "Background", 0);
    expect_rules(f, "all", "y x");
    fixture_patch(f, KIND_CLUSTER_ROLE, "b", "metadata.labels", "{\"to-all\":\"true\"}");
    expect_rules(f, "some", "");
    expect_rules(f, "all", "y x");
}

/* What somebody writes into an aggregated role does not last; a plain role is left alone. */
static void strange_rules_go(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_CLUSTER_ROLE,
                   ROLE("all", "", SELECT("to-all") ",\"rules\":[" RULE("mine") "]"));
    expect_rules(f, "all", "");
    fixture_create(f, KIND_CLUSTER_ROLE, ROLE("own", "", "\"rules\":[" RULE("mine") "]"));
    expect_rules(f, "own", "mine");
}

static void two_that_select_each_other_settle(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_CLUSTER_ROLE, ROLE("a", "\"to-b\":\"true\"", SELECT("to-a")));
    fixture_create(f, KIND_CLUSTER_ROLE, ROLE("b", "\"to-a\":\"true\"", SELECT("to-b")));
    fixture_create(f, KIND_CLUSTER_ROLE,
                   ROLE("c", "\"to-a\":\"true\"", "\"rules\":[" RULE("x") "]"));
    expect_rules(f, "a", "x");
    expect_rules(f, "b", "x");
}

static void expressions_select_and_an_empty_selector_takes_all(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_CLUSTER_ROLE,
                   ROLE("tier", "",
                        "\"aggregationRule\":{\"clusterRoleSelectors\":[{\"matchExpressions\":[{"
                        "\"key\":\"tier\",\"operator\":\"In\",\"values\":[\"1\",\"2\"]}]}]}"));
    fixture_create(f, KIND_CLUSTER_ROLE,
                   ROLE("one", "\"tier\":\"1\"", "\"rules\":[" RULE("x") "]"));
    fixture_create(f, KIND_CLUSTER_ROLE,
                   ROLE("three", "\"tier\":\"3\"", "\"rules\":[" RULE("y") "]"));
    fixture_create(f, KIND_CLUSTER_ROLE,
                   ROLE("every", "", "\"aggregationRule\":{\"clusterRoleSelectors\":[{}]}"));
    expect_rules(f, "tier", "x");
    expect_rules(f, "every", "x y");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rules_are_collected_through_chains, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(strange_rules_go, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(two_that_select_each_other_settle, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(expressions_select_and_an_empty_selector_takes_all,
                                        fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
