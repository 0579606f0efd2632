#include "core/control/placement.h"

#include <stddef.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static json_t *parse(const char *text) {
    json_error_t why;
    json_t *o = json_loads(text, 0, &why);
    if (!o)
        fail_msg("%s: %s", text, why.text);
    return o;
}

static const char NODE[] =
    "{\"metadata\":{\"name\":\"n\",\"labels\":{\"disk\":\"ssd\",\"gpus\":\"4\"}},\"spec\":{%s},"
    "\"status\":{\"allocatable\":{\"cpu\":\"4\",\"memory\":\"8Gi\",\"pods\":\"3\"%s}}}";

/* Decides for a pod with this spec on a node with these taints or flags and further resources. */
static struct placement decide(const char *pod_spec, const char *node_spec, const char *more,
                               const char *const *others, size_t num_others, bool fallback) {
    char text[1024];
    const json_t *pods[8];
    snprintf(text, sizeof(text), NODE, node_spec, more);
    json_t *node = parse(text);
    AUTO_FREE char *pod_text = mem_printf("{\"spec\":%s}", pod_spec);
    json_t *pod = parse(pod_text);
    for (size_t i = 0; i < num_others; i++)
        pods[i] = parse(others[i]);
    struct placement_options opt = {
        .node = node, .pods = pods, .num_pods = num_others, .cpu_fallback = fallback};
    struct placement p;
    placement_decide(pod, &opt, &p);
    for (size_t i = 0; i < num_others; i++)
        json_decref((json_t *)pods[i]);
    json_decref(pod);
    json_decref(node);
    return p;
}

static void the_schedulers_words_come_out(void **state) {
    static const struct {
        const char *pod, *node, *more, *message; /* NULL: it fits */
    } rows[] = {
        {"{}", "", "", NULL},
        {"{\"containers\":[{\"resources\":{\"limits\":{\"nvidia.com/gpu\":\"1\"}}}]}", "", "",
         "1 Insufficient nvidia.com/gpu."},
        {"{\"containers\":[{\"resources\":{\"limits\":{\"nvidia.com/gpu\":1}}}]}", "",
         ",\"nvidia.com/gpu\":\"1\"", NULL},
        {"{\"containers\":[{\"resources\":{\"requests\":{\"cpu\":\"4001m\",\"memory\":\"9Gi\"}}}]}",
         "", "", "1 Insufficient cpu, 1 Insufficient memory."},
        {"{\"containers\":[{\"resources\":{\"requests\":{\"cpu\":\"4\"}}}]}", "", "", NULL},
        {"{\"initContainers\":[{\"resources\":{\"requests\":{\"cpu\":5}}}]}", "", "",
         "1 Insufficient cpu."},
        {"{\"nodeSelector\":{\"disk\":\"hdd\"}}", "", "",
         "1 node(s) didn't match Pod's node affinity/selector."},
        {"{\"nodeSelector\":{\"disk\":\"ssd\"}}", "", "", NULL},
        {"{}", "\"unschedulable\":true", "", "1 node(s) were unschedulable."},
        {"{\"tolerations\":[{\"operator\":\"Exists\"}]}", "\"unschedulable\":true", "", NULL},
        {"{}", "\"taints\":[{\"key\":\"k\",\"value\":\"v\",\"effect\":\"NoSchedule\"}]", "",
         "1 node(s) had untolerated taint {k: v}."},
        {"{}", "\"taints\":[{\"key\":\"k\",\"effect\":\"PreferNoSchedule\"}]", "", NULL},
        {"{\"tolerations\":[{\"key\":\"k\",\"operator\":\"Equal\",\"value\":\"v\"}]}",
         "\"taints\":[{\"key\":\"k\",\"value\":\"v\",\"effect\":\"NoExecute\"}]", "", NULL},
        {"{\"tolerations\":[{\"key\":\"k\",\"value\":\"w\"}]}",
         "\"taints\":[{\"key\":\"k\",\"value\":\"v\",\"effect\":\"NoExecute\"}]", "",
         "1 node(s) had untolerated taint {k: v}."},
        {"{\"affinity\":{\"nodeAffinity\":{\"requiredDuringSchedulingIgnoredDuringExecution\":{"
         "\"nodeSelectorTerms\":[{\"matchExpressions\":[{\"key\":\"gpus\",\"operator\":\"Gt\","
         "\"values\":[\"4\"]}]}]}}}}",
         "", "", "1 node(s) didn't match Pod's node affinity/selector."},
        {"{\"affinity\":{\"nodeAffinity\":{\"requiredDuringSchedulingIgnoredDuringExecution\":{"
         "\"nodeSelectorTerms\":[{\"matchExpressions\":[{\"key\":\"no\",\"operator\":\"Exists\"}]},"
         "{\"matchFields\":[{\"key\":\"metadata.name\",\"operator\":\"In\",\"values\":[\"n\"]}]}]}}"
         "}}",
         "", "", NULL},
        {"{\"nodeSelector\":{\"a\":\"b\"},\"containers\":[{\"resources\":{\"limits\":{\"cpu\":9}}}]"
         "}",
         "\"unschedulable\":true", "",
         "1 node(s) were unschedulable, 1 node(s) didn't match Pod's node affinity/selector, 1 "
         "Insufficient cpu."},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct placement p = decide(rows[i].pod, rows[i].node, rows[i].more, NULL, 0, false);
        AUTO_FREE char *want =
            mem_printf("0/1 nodes are available: %s", rows[i].message ? rows[i].message : "");
        if (p.fits != !rows[i].message || (rows[i].message && strcmp(p.message, want) != 0))
            fail_msg("%s: \"%s\", not \"%s\"", rows[i].pod, p.message, want);
    }
}

static void pods_on_the_node_count_until_they_end(void **state) {
    static const char *const others[] = {
        "{\"spec\":{\"nodeName\":\"n\",\"containers\":[{\"resources\":{\"requests\":{\"cpu\":3}}}]}"
        "}",
        "{\"spec\":{\"nodeName\":\"n\",\"containers\":[{\"resources\":{\"requests\":{\"cpu\":3}}}]}"
        ","
        "\"status\":{\"phase\":\"Succeeded\"}}",
        "{\"spec\":{\"containers\":[{\"resources\":{\"requests\":{\"cpu\":3}}}]}}",
        "{\"spec\":{\"nodeName\":\"n\"}}", "{\"spec\":{\"nodeName\":\"n\"}}"};
    const char *pod = "{\"containers\":[{\"resources\":{\"requests\":{\"cpu\":\"1\"}}}]}";
    const char *more = "{\"containers\":[{\"resources\":{\"requests\":{\"cpu\":\"1001m\"}}}]}";
    assert_true(decide(pod, "", "", others, 3, false).fits);
    assert_false(decide(more, "", "", others, 3, false).fits);
    assert_string_equal(decide(pod, "", "", others, 5, false).message,
                        "0/1 nodes are available: 1 Too many pods.");
}

static void a_missing_gpu_can_be_done_without(void **state) {
    const char *pod = "{\"containers\":[{\"resources\":{\"limits\":{\"nvidia.com/gpu\":\"2\"}}}]}";
    struct placement p = decide(pod, "", "", NULL, 0, true);
    assert_true(p.fits);
    assert_string_equal(p.fallback, "nvidia.com/gpu");
    /* Not when the node has some: then too few is too few. */
    p = decide(pod, "", ",\"nvidia.com/gpu\":\"1\"", NULL, 0, true);
    assert_false(p.fits);
    assert_string_equal(p.fallback, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_schedulers_words_come_out),
        cmocka_unit_test(pods_on_the_node_count_until_they_end),
        cmocka_unit_test(a_missing_gpu_can_be_done_without),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
