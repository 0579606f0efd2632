/* What the Node says of GPUs: resources, labels, the condition, and what others wrote; and what
 * pods get of them. */
#include "core/control/fixture_test.h"

#include "core/control/node_devices.h"
#include "core/node/device_reader.h"

static void describe(struct fixture *f, const char *text) {
    AUTO_FREE char *fresh = mem_printf("%s/devices.new", f->dir);
    AUTO_FREE char *path = mem_printf("%s/devices.yaml", f->dir);
    FILE *file = fopen(fresh, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(rename(fresh, path), 0);
}

/* Starts the daemon anew, on a machine with these devices; NULL: without any, SILENT: NVML does not
 * answer. */
static const char SILENT[] = "";

static void restart_with(struct fixture *f, const char *text) {
    struct error err = ERROR_INIT;
    fixture_end_daemon(f);
    device_reader_close(steal(f->device_reader));
    if (text == SILENT) {
        const struct device_reader_options opt = {
            .fake_file = "", .sharing_file = "", .library = "libno-such-library.so.7"};
        if (device_reader_open(&opt, &f->device_reader, &err))
            fail_msg("%s", err.text);
    } else if (text) {
        describe(f, text);
        AUTO_FREE char *path = mem_printf("%s/devices.yaml", f->dir);
        const struct device_reader_options opt = {.fake_file = path, .sharing_file = ""};
        if (device_reader_open(&opt, &f->device_reader, &err))
            fail_msg("%s", err.text);
    }
    fixture_start_daemon(f);
}

static int teardown(void **state) {
    struct fixture *f = *state;
    struct device_reader *r = f->device_reader;
    int rc = fixture_teardown(state);
    device_reader_close(r);
    return rc;
}

static void assert_words(struct fixture *f, const char *map, const char *const words[][2],
                         size_t num) {
    json_t *node = fixture_get(f, KIND_NODE, "gpu1");
    for (size_t i = 0; i < num; i++) {
        const char *has = json_string_value(json_object_get(object_at(node, map), words[i][0]));
        if ((has != NULL) != (words[i][1] != NULL) || (has && strcmp(has, words[i][1]) != 0))
            fail_msg("%s %s is %s, not %s", map, words[i][0], has ? has : "absent",
                     words[i][1] ? words[i][1] : "absent");
    }
    json_decref(node);
}
#define ASSERT_WORDS(f, map, ...)                                                                  \
    do {                                                                                           \
        static const char *const words[][2] = {__VA_ARGS__};                                       \
        assert_words(f, map, words, ARRAY_LEN(words));                                             \
    } while (0)

static const char H200[] = "machine: { cores: 192, memory: 2Ti }\n"
                           "driver: { version: 550.54.15, cuda: \"12.4\" }\n"
                           "gpus: [{ product: NVIDIA H200, memory: 141Gi, count: 8,\n"
                           "         computeCapability: \"9.0\" }]\n";

static void resources_and_labels_are_nvidias(void **state) {
    struct fixture *f = *state;
    restart_with(f, H200);
    ASSERT_WORDS(f, "status.capacity", {"nvidia.com/gpu", "8"}, {"cpu", "192"},
                 {"memory", "2147483648Ki"}, {"inferd.dev/gpu-memory", "1211180777472"});
    ASSERT_WORDS(f, "status.allocatable", {"nvidia.com/gpu", "8"});
    ASSERT_WORDS(f, "metadata.labels", {"nvidia.com/gpu.product", "NVIDIA-H200"},
                 {"nvidia.com/gpu.count", "8"}, {"nvidia.com/gpu.memory", "144384"},
                 {"nvidia.com/gpu.replicas", "1"}, {"nvidia.com/gpu.family", "hopper"},
                 {"nvidia.com/gpu.compute.major", "9"}, {"nvidia.com/gpu.sharing-strategy", "none"},
                 {"nvidia.com/mig.capable", "true"}, {"nvidia.com/mig.strategy", NULL},
                 {"nvidia.com/cuda.driver-version.full", "550.54.15"},
                 {"nvidia.com/cuda.runtime.major", "12"}, {"inferd.io/fake-devices", "true"},
                 {"kubernetes.io/hostname", "gpu1"});
}

static void slices_and_shares_have_their_own_names(void **state) {
    struct fixture *f = *state;
    restart_with(f, "gpus:\n"
                    "- { product: NVIDIA H200, memory: 141Gi, count: 2 }\n"
                    "- product: NVIDIA H200\n"
                    "  memory: 141Gi\n"
                    "  mig: [{ profile: 1g.18gb, count: 4 }, { profile: 3g.69gb }]\n"
                    "sharing:\n"
                    "  timeSlicing:\n"
                    "    renameByDefault: true\n"
                    "    resources: [{ name: nvidia.com/gpu, replicas: 4 }]\n");
    ASSERT_WORDS(f, "status.capacity", {"nvidia.com/gpu", "0"}, {"nvidia.com/gpu.shared", "8"},
                 {"nvidia.com/mig-1g.18gb", "4"}, {"nvidia.com/mig-3g.69gb", "1"},
                 {"inferd.dev/gpu-memory", "302795194368"});
    ASSERT_WORDS(f, "metadata.labels", {"nvidia.com/gpu.product", "NVIDIA-H200"},
                 {"nvidia.com/gpu.replicas", "4"},
                 {"nvidia.com/gpu.sharing-strategy", "time-slicing"},
                 {"nvidia.com/mig.strategy", "mixed"}, {"nvidia.com/mig-1g.18gb.count", "4"},
                 {"nvidia.com/mig-1g.18gb.product", "NVIDIA-H200-MIG-1g.18gb"},
                 {"nvidia.com/mig-3g.69gb.slices.gi", "3"});
    restart_with(
        f, "gpus: [{ product: Tesla T4, memory: 16Gi }]\n"
           "sharing: { timeSlicing: { resources: [{ name: nvidia.com/gpu, replicas: 4 }] } }");
    ASSERT_WORDS(f, "status.capacity", {"nvidia.com/gpu", "4"}, {"nvidia.com/gpu.shared", NULL},
                 {"nvidia.com/mig-1g.18gb", NULL});
    ASSERT_WORDS(f, "metadata.labels", {"nvidia.com/gpu.product", "Tesla-T4-SHARED"},
                 {"nvidia.com/mig-1g.18gb.count", NULL}, {"nvidia.com/gpu.count", "1"});
}

static void what_others_wrote_stays_when_the_gpus_go(void **state) {
    struct fixture *f = *state;
    restart_with(f, H200);
    json_t *node = fixture_get(f, KIND_NODE, "gpu1");
    json_t *capacity = json_incref(object_at(node, "status.capacity"));
    json_object_set_new(capacity, "example.com/dongle", json_string("2"));
    AUTO_FREE char *text = json_dumps(capacity, 0);
    json_decref(capacity);
    json_decref(node);
    fixture_patch(f, KIND_NODE, "gpu1", "status.capacity", text);
    restart_with(f, NULL);
    ASSERT_WORDS(f, "status.capacity", {"nvidia.com/gpu", NULL}, {"inferd.dev/gpu-memory", NULL},
                 {"example.com/dongle", "2"});
    ASSERT_WORDS(f, "metadata.labels", {"nvidia.com/gpu.product", NULL},
                 {"inferd.io/fake-devices", NULL}, {"kubernetes.io/hostname", "gpu1"});
    ASSERT_WORDS(f, "metadata.annotations", {NODE_DEVICES_LABELS_ANNOTATION, NULL},
                 {NODE_DEVICES_RESOURCES_ANNOTATION, NULL});
    node = fixture_get(f, KIND_NODE, "gpu1");
    assert_null(object_find_condition(node, NODE_DEVICES_CONDITION));
    json_decref(node);
}

static void a_fault_is_told_and_taken_back(void **state) {
    struct fixture *f = *state;
    restart_with(f, "gpus: [{ product: A, memory: 80Gi, count: 2 }]");
    assert_condition(fixture_get(f, KIND_NODE, "gpu1"), NODE_DEVICES_CONDITION, "False",
                     "GPUsAreHealthy", NULL);
    assert_int_equal(fixture_events(f, "GPUReadmitted", ""), 0);
    describe(f, "gpus: [{ product: A, memory: 80Gi },\n"
                "       { product: A, memory: 80Gi, uncorrectedErrors: 1 }]");
    fixture_advance(f, DEVICE_READER_FILE_MS);
    ASSERT_WORDS(f, "status.capacity", {"nvidia.com/gpu", "2"});
    ASSERT_WORDS(f, "status.allocatable", {"nvidia.com/gpu", "1"},
                 {"inferd.dev/gpu-memory", "85899345920"});
    assert_condition(fixture_get(f, KIND_NODE, "gpu1"), NODE_DEVICES_CONDITION, "True",
                     "GPUQuarantined", "1 uncorrectable memory error");
    assert_int_equal(fixture_events(f, "GPUQuarantined", "GPU-fa4ed000-0001"), 1);
    describe(f, "gpus: [{ product: A, memory: 80Gi, count: 2 }]");
    fixture_advance(f, DEVICE_READER_FILE_MS);
    ASSERT_WORDS(f, "status.allocatable", {"nvidia.com/gpu", "2"});
    assert_int_equal(fixture_events(f, "GPUReadmitted", ""), 1);
}

/* Pods. */

static void create_pod(struct fixture *f, const char *name, const char *limits, int priority,
                       const char *env) {
    AUTO_FREE char *text = mem_printf(
        "{\"metadata\":{\"name\":\"%s\"},\"spec\":{\"priority\":%d,\"containers\":[{\"name\":\"%"
        "s\","
        "\"image\":\"host\",\"command\":[\"run\"],\"env\":[%s],\"resources\":{\"limits\":{%s}}}]}}",
        name, priority, name, env, limits);
    fixture_create(f, KIND_POD, text);
}

static void assert_env(struct fixture *f, const char *container, const char *variable) {
    struct fake_process *p = fixture_container(f, container);
    AUTO_FREE char *line = mem_printf("%s\n", variable);
    if (!p || !strstr(p->env, line))
        fail_msg("%s: no %s in %s", container, variable, p ? p->env : "(no process)");
}

static void two_pods_get_two_gpus_and_the_third_waits(void **state) {
    struct fixture *f = *state;
    restart_with(f, "gpus: [{ product: A, memory: 80Gi, count: 2 }]");
    create_pod(f, "a", "\"nvidia.com/gpu\":\"1\"", 0,
               "{\"name\":\"CUDA_VISIBLE_DEVICES\",\"value\":\"1\"}");
    create_pod(f, "b", "\"nvidia.com/gpu\":\"1\"", 0, "");
    create_pod(f, "c", "\"nvidia.com/gpu\":\"1\"", 0, "");
    create_pod(f, "none", "\"cpu\":\"1m\"", 0, "");
    assert_env(f, "a", "CUDA_VISIBLE_DEVICES=GPU-fa4ed000-0000-4000-8000-000000000000");
    assert_env(f, "b", "NVIDIA_VISIBLE_DEVICES=GPU-fa4ed000-0001-4000-8000-000000000000");
    assert_env(f, "none", "CUDA_VISIBLE_DEVICES=");
    assert_null(strstr(fixture_container(f, "a")->env, "CUDA_VISIBLE_DEVICES=1"));
    assert_int_equal(fixture_events(f, "DevicesAssigned", "nvidia.com/gpu GPU-fa4ed000-0001"), 1);
    assert_int_equal(fixture_events(f, "FakeDevices", "runs on the CPU"), 2);
    assert_condition(fixture_get(f, KIND_POD, "c"), "PodScheduled", "False", "Unschedulable",
                     "1 Insufficient nvidia.com/gpu. preemption: 0/1 nodes are available: 1 No "
                     "preemption victims found for incoming pod.");
    fixture_delete(f, KIND_POD, "b", "Background", 0);
    fixture_pass(f);
    assert_env(f, "c", "CUDA_VISIBLE_DEVICES=GPU-fa4ed000-0001-4000-8000-000000000000");
}

static void a_more_important_pod_takes_the_place_of_another(void **state) {
    struct fixture *f = *state;
    restart_with(f, "gpus: [{ product: A, memory: 80Gi }]");
    create_pod(f, "low", "\"nvidia.com/gpu\":\"1\"", 0, "");
    f->stops_at_once = false;
    create_pod(f, "high", "\"nvidia.com/gpu\":\"1\"", 10, "");
    fixture_pass(f);
    assert_int_equal(fixture_events(f, "Preempted", "Preempted by pod "), 1);
    assert_condition(fixture_get(f, KIND_POD, "low"), "DisruptionTarget", "True",
                     "PreemptionByScheduler", NULL);
    assert_field(fixture_get(f, KIND_POD, "high"), "status.nominatedNodeName", "gpu1");
    create_pod(f, "late", "\"nvidia.com/gpu\":\"1\"", 5, ""); /* does not get in between */
    fixture_exit(f, fixture_container(f, "low"), 0, 0, "");
    fixture_pass(f);
    assert_field(fixture_get(f, KIND_POD, "high"), "spec.nodeName", "gpu1");
    assert_field(fixture_get(f, KIND_POD, "high"), "status.nominatedNodeName", NULL);
    assert_field(fixture_get(f, KIND_POD, "late"), "spec.nodeName", NULL);
    assert_null(fixture_get(f, KIND_POD, "low"));
}

static void replicas_leave_a_gpu_that_fails_and_it_is_used_again(void **state) {
    struct fixture *f = *state;
    restart_with(f, "gpus: [{ product: A, memory: 80Gi, count: 2 }]");
    fixture_create(f, KIND_REPLICA_SET,
                   "{\"metadata\":{\"name\":\"r\"},\"spec\":{\"replicas\":1,\"selector\":{"
                   "\"matchLabels\":{\"a\":\"b\"}},\"template\":{\"metadata\":{\"labels\":{\"a\":"
                   "\"b\"}},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"host\","
                   "\"command\":[\"run\"],\"resources\":{\"limits\":{\"nvidia.com/gpu\":1}}}]}}}}");
    fixture_pass(f);
    assert_env(f, "c", "CUDA_VISIBLE_DEVICES=GPU-fa4ed000-0000-4000-8000-000000000000");
    describe(f, "gpus: [{ product: A, memory: 80Gi, uncorrectedErrors: 1 },\n"
                "       { product: A, memory: 80Gi }]");
    fixture_advance(f, DEVICE_READER_FILE_MS);
    fixture_pass(f);
    assert_int_equal(fixture_events(f, "DeviceFailed", "1 uncorrectable memory error"), 1);
    assert_int_equal(fixture_num_processes(f), 1);
    assert_env(f, "c", "CUDA_VISIBLE_DEVICES=GPU-fa4ed000-0001-4000-8000-000000000000");
    describe(f, "gpus: [{ product: A, memory: 80Gi }, { product: A, memory: 80Gi }]");
    fixture_advance(f, DEVICE_READER_FILE_MS);
    create_pod(f, "next", "\"nvidia.com/gpu\":\"1\"", 0, "");
    assert_env(f, "next", "CUDA_VISIBLE_DEVICES=GPU-fa4ed000-0000-4000-8000-000000000000");
}

static void pods_keep_their_gpus_while_nvml_does_not_answer(void **state) {
    static const char real[] = "gpus: [{ product: A, memory: 80Gi, uuid: GPU-1234 },\n"
                               "       { product: A, memory: 80Gi }]\n";
    struct fixture *f = *state;
    restart_with(f, real);
    create_pod(f, "real", "\"nvidia.com/gpu\":\"1\"", 0, "");
    create_pod(f, "faked", "\"nvidia.com/gpu\":\"1\"", 0, "");
    assert_env(f, "real", "CUDA_VISIBLE_DEVICES=GPU-1234");
    restart_with(f, SILENT);
    fixture_pass(f);
    assert_env(f, "real", "CUDA_VISIBLE_DEVICES=GPU-1234");
    assert_null(fixture_container(f, "faked")); /* no machine has that one */
    assert_int_equal(fixture_events(f, "DeviceFailed", "it is not there any more"), 1);
    assert_condition(fixture_get(f, KIND_NODE, "gpu1"), NODE_DEVICES_CONDITION, "Unknown",
                     "NVMLSilent", "nothing is placed");
    create_pod(f, "next", "\"nvidia.com/gpu\":\"1\"", 0, "");
    assert_null(fixture_container(f, "next"));
    restart_with(f, real); /* it answers: the pod still holds what it held */
    fixture_pass(f);
    assert_env(f, "real", "CUDA_VISIBLE_DEVICES=GPU-1234");
    assert_env(f, "next", "CUDA_VISIBLE_DEVICES=GPU-fa4ed000-0001-4000-8000-000000000000");
    restart_with(f, "gpus: [{ product: A, memory: 80Gi }]"); /* and now that one is gone */
    fixture_pass(f);
    assert_null(fixture_container(f, "real"));
}

static void containers_of_a_pod_have_devices_of_their_own(void **state) {
    struct fixture *f = *state;
    restart_with(f, "gpus: [{ product: A, memory: 80Gi, count: 3 }]");
    fixture_create(f, KIND_POD,
                   "{\"metadata\":{\"name\":\"p\"},\"spec\":{\"containers\":["
                   "{\"name\":\"one\",\"image\":\"host\",\"command\":[\"x\"],\"resources\":{"
                   "\"limits\":{\"nvidia.com/gpu\":1}}},"
                   "{\"name\":\"two\",\"image\":\"host\",\"command\":[\"x\"],\"resources\":{"
                   "\"limits\":{\"nvidia.com/gpu\":2}}},"
                   "{\"name\":\"zero\",\"image\":\"host\",\"command\":[\"x\"]}]}}");
    assert_env(f, "one", "CUDA_VISIBLE_DEVICES=GPU-fa4ed000-0000-4000-8000-000000000000");
    assert_env(f, "two",
               "CUDA_VISIBLE_DEVICES=GPU-fa4ed000-0001-4000-8000-000000000000,"
               "GPU-fa4ed000-0002-4000-8000-000000000000");
    assert_env(f, "zero", "NVIDIA_VISIBLE_DEVICES=void");
}

#define DEVICES_TEST(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        DEVICES_TEST(resources_and_labels_are_nvidias),
        DEVICES_TEST(slices_and_shares_have_their_own_names),
        DEVICES_TEST(what_others_wrote_stays_when_the_gpus_go),
        DEVICES_TEST(a_fault_is_told_and_taken_back),
        DEVICES_TEST(two_pods_get_two_gpus_and_the_third_waits),
        DEVICES_TEST(a_more_important_pod_takes_the_place_of_another),
        DEVICES_TEST(replicas_leave_a_gpu_that_fails_and_it_is_used_again),
        DEVICES_TEST(pods_keep_their_gpus_while_nvml_does_not_answer),
        DEVICES_TEST(containers_of_a_pod_have_devices_of_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
