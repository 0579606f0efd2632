/* Pods that do not say how much memory they take: worked out, kept, handed on, and measured. */
#include "core/control/fixture_test.h"

#include "core/base/engine_args.h"
#include "core/control/pod_memory.h"

enum { GIB = 1 << 30 };

/* A model of 2 GiB, with a cache of up to 16 GiB within half of what is free, at least one. */
static enum errc need_of_model(void *self, const char *path, const struct engine_args *args,
                               uint64_t free_bytes, struct memory_need *ret_need,
                               struct error *err) {
    uint64_t half = free_bytes / 2, gib = GIB;
    uint64_t cache = args->kv_cache_bytes ? args->kv_cache_bytes
                     : half < 16 * gib    ? half
                                          : 16 * gib;
    ++*(int *)self;
    assert_string_equal(path, "embedded://demo-chat");
    if (!args->kv_cache_bytes && half < gib)
        return err_set(err, ERR_EXHAUSTED, "no room for one context");
    *ret_need = (struct memory_need){
        .weights_bytes = 2 * gib, .kv_cache_bytes = cache, .gpu_bytes = 5 * gib};
    return OK;
}

static int num_asked;

static int setup(void **state) {
    int rc = fixture_setup(state);
    struct fixture *f = *state;
    fixture_end_daemon(f);
    f->memory_need = need_of_model;
    f->memory_gauge = &num_asked;
    fixture_start_daemon(f);
    fixture_patch(f, KIND_NODE, "gpu1", "status.allocatable.memory", "\"20Gi\"");
    return rc;
}

static void create(struct fixture *f, const char *name, const char *args, const char *resources) {
    AUTO_FREE char *text =
        mem_printf("{\"metadata\":{\"name\":\"%s\",\"annotations\":{\"inferd.io/memory\":\"{}\"}},"
                   "\"spec\":{\"containers\":[{\"name\":\"%s\",\"image\":\"vllm/vllm-openai\","
                   "\"args\":[\"--model\",\"embedded://demo-chat\"%s],\"resources\":{%s}}]}}",
                   name, name, args, resources);
    fixture_create(f, KIND_POD, text);
}

/* One number of what is written in the pod; -1: it is not there. */
static int64_t noted(struct fixture *f, const char *pod, const char *part) {
    json_t *o = fixture_get(f, KIND_POD, pod);
    const char *text = object_annotation(o, PLACEMENT_MEMORY_ANNOTATION);
    json_t *need = text ? json_loads(text, 0, NULL) : NULL;
    int64_t bytes = object_int(need, part, -1);
    json_decref(need);
    json_decref(o);
    return bytes;
}

static void models_share_the_machine_and_the_last_one_waits(void **state) {
    struct fixture *f = *state;
    int64_t gib = GIB;
    create(f, "one", "", "");
    assert_int_equal(noted(f, "one", "kvCache"), 10 * gib); /* half of all */
    assert_int_equal(noted(f, "one", "bytes"), 12 * gib);
    assert_non_null(
        strstr(fixture_container(f, "one")->argv, "--kv-cache-memory-bytes 10737418240 "));
    create(f, "two", "", "");
    assert_int_equal(noted(f, "two", "bytes"), 6 * gib); /* half of the 8 that are left */
    create(f, "three", "", "");
    assert_condition(fixture_get(f, KIND_POD, "three"), "PodScheduled", "False", "Unschedulable",
                     "1 Insufficient memory.");
    assert_null(fixture_container(f, "three"));
    int asked = num_asked;
    fixture_pass(f); /* nothing changes, so nobody asks again */
    assert_int_equal(num_asked, asked);
    fixture_delete(f, KIND_POD, "one", "Background", 1);
    fixture_pass(f);
    assert_int_equal(noted(f, "three", "bytes"), 9 * gib);
    assert_non_null(fixture_container(f, "three"));
}

static void who_says_what_it_takes_keeps_that(void **state) {
    struct fixture *f = *state;
    create(f, "asks", "", "\"requests\":{\"memory\":\"1Gi\"}");
    assert_int_equal(noted(f, "asks", "bytes"), -1);
    assert_null(strstr(fixture_container(f, "asks")->argv, "--kv-cache-memory-bytes"));
    create(f, "rest", "", ""); /* 19 GiB are left to it */
    assert_int_equal(noted(f, "rest", "kvCache"), (19LL << 30) / 2);
    create(f, "own", ",\"--kv-cache-memory-bytes\",\"1073741824\"", "");
    assert_int_equal(noted(f, "own", "bytes"), 3LL << 30);
    const char *argv = fixture_container(f, "own")->argv;
    assert_null(strstr(strstr(argv, "--kv-cache-memory-bytes") + 1, "--kv-cache-memory-bytes"));
}

static void what_the_process_measured_counts_from_then_on(void **state) {
    struct fixture *f = *state;
    create(f, "one", ",\"--kv-cache-memory-bytes\",\"1073741824\"", "");
    struct fake_process *p = fixture_container(f, "one");
    p->state.memory_bytes = 17LL << 30;
    controllers_replica_changed(f->controllers, p->uid);
    fixture_settle(f);
    assert_int_equal(noted(f, "one", "measured"), 17LL << 30);
    assert_int_equal(noted(f, "one", "bytes"), 3LL << 30);
    create(f, "two", ",\"--kv-cache-memory-bytes\",\"2147483648\"", "");
    assert_condition(fixture_get(f, KIND_POD, "two"), "PodScheduled", "False", "Unschedulable",
                     "1 Insufficient memory.");
}

static void a_restart_finds_the_same(void **state) {
    struct fixture *f = *state;
    create(f, "one", "", "");
    fixture_end_daemon(f);
    fixture_start_daemon(f);
    assert_int_equal(noted(f, "one", "kvCache"), 10LL << 30);
    assert_non_null(
        strstr(fixture_container(f, "one")->argv, "--kv-cache-memory-bytes 10737418240 "));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(models_share_the_machine_and_the_last_one_waits, setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(who_says_what_it_takes_keeps_that, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(what_the_process_measured_counts_from_then_on, setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(a_restart_finds_the_same, setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
