/* metrics.k8s.io objects from a snapshot of figures, and their tables. */
#include "kube-compat/resource_metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "core/base/clock.h"
#include "core/node/usage.h"
#include "core/object.h"
#include "kube-compat/table.h"

static struct usage_container containers[] = {
    {.uid = (char *)"u1", .container = (char *)"a", .figures = {1500, 250000001, 3 << 20}},
    {.uid = (char *)"u1", .container = (char *)"b", .figures = {15003, 1750000000, 1025}},
    {.uid = (char *)"u2", .container = (char *)"a", .figures = {15003, 0, 0}},
};
static const struct usage_snapshot snapshot = {
    .refs = 1,
    .wall_ms = 1577836800000,
    .node = {15000, 3000000000, (int64_t)5 << 30},
    .containers = containers,
    .num_containers = ARRAY_LEN(containers),
};

static void expect_json(json_t *have, const char *want) {
    json_t *w = json_loads(want, 0, NULL);
    assert_non_null(w);
    if (!json_equal(have, w)) {
        char *text = json_dumps(have, 0);
        fail_msg("have %s\nwant %s", text, want);
    }
    json_decref(w);
    json_decref(have);
}

static json_t *object(const char *ns, const char *name, const char *uid) {
    return json_pack("{s:{s:s, s:s*, s:s, s:{s:s}}}", "metadata", "name", name, "namespace", ns,
                     "uid", uid, "labels", "app", "x");
}

static void a_pod_has_the_figures_of_its_containers(void **state) {
    json_t *pod = object("n", "p", "u1");
    expect_json(resource_metrics_of_pod(pod, &snapshot),
                "{\"metadata\": {\"name\": \"p\", \"namespace\": \"n\", \"labels\": {\"app\": "
                "\"x\"}, \"creationTimestamp\": \"2020-01-01T00:00:00Z\"},"
                "\"timestamp\": \"2020-01-01T00:00:00Z\", \"window\": \"15.003s\", \"containers\":"
                "[{\"name\": \"a\", \"usage\": {\"cpu\": \"250000001n\", \"memory\": \"3072Ki\"}},"
                "{\"name\": \"b\", \"usage\": {\"cpu\": \"1750000000n\", \"memory\": \"1Ki\"}}]}");
    json_decref(pod);
}

static void what_was_not_measured_is_not_there(void **state) {
    json_t *pod = object("n", "p", "u3");
    assert_null(resource_metrics_of_pod(pod, &snapshot));
    json_decref(pod);
}

static void a_node_has_the_machines(void **state) {
    json_t *node = object(NULL, "here", "u9");
    expect_json(resource_metrics_of_node(node, &snapshot),
                "{\"metadata\": {\"name\": \"here\", \"labels\": {\"app\": \"x\"}, "
                "\"creationTimestamp\": \"2020-01-01T00:00:00Z\"},"
                "\"timestamp\": \"2020-01-01T00:00:00Z\", \"window\": \"15.000s\","
                "\"usage\": {\"cpu\": \"3000000000n\", \"memory\": \"5242880Ki\"}}");
    json_decref(node);
}

static void a_table_adds_containers_up(void **state) {
    json_t *pod = object("n", "p", "u1");
    json_t *metrics = resource_metrics_of_pod(pod, &snapshot);
    json_t *cpu = table_cell("usage-cpu", metrics, 0);
    json_t *memory = table_cell("usage-memory", metrics, 0);
    assert_string_equal(json_string_value(cpu), "2000000001n");
    assert_string_equal(json_string_value(memory), "3073Ki");
    json_decref(cpu);
    json_decref(memory);
    json_decref(metrics);
    json_decref(pod);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pod_has_the_figures_of_its_containers),
        cmocka_unit_test(what_was_not_measured_is_not_there),
        cmocka_unit_test(a_node_has_the_machines),
        cmocka_unit_test(a_table_adds_containers_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
