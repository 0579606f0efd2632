/* What a dry run tells, beside pods that are there; and while others write and devices change. That
 * it comes true is tests/it_dry_run.py's. */
#include "core/control/fixture_test.h"

#include <pthread.h>

#include "core/control/preview.h"

enum { MIB = 1 << 20 };

static enum errc need_of_model(void *self, const char *path, const struct engine_args *args,
                               uint64_t free_bytes, struct memory_need *ret_need,
                               struct error *err) {
    *ret_need = (struct memory_need){.weights_bytes = 1536 * (uint64_t)MIB,
                                     .kv_cache_bytes = 512 * (uint64_t)MIB};
    return OK;
}

static int setup(void **state) {
    int rc = fixture_setup(state);
    struct fixture *f = *state;
    fixture_end_daemon(f);
    f->memory_need = need_of_model;
    f->preview = preview_create();
    fixture_start_daemon(f);
    fixture_patch(f, KIND_NODE, "gpu1", "status.allocatable.memory", "\"5Gi\"");
    return rc;
}

static int teardown(void **state) {
    struct preview *p = ((struct fixture *)*state)->preview;
    int rc = fixture_teardown(state);
    preview_destroy(p);
    return rc;
}

/* Gives what is told, a line each. */
static char *told(struct fixture *f, const char *group, const char *resource, const char *object,
                  const char *old) {
    json_t *now = fixture_json(object), *was = old ? fixture_json(old) : NULL;
    json_t *warnings = json_array(), *line;
    struct buf out = BUF_INIT;
    size_t i;
    object_set(now, "metadata.namespace", json_string("default"));
    preview_tell(f->preview, group, resource, now, was, warnings);
    buf_puts(&out, "");
    json_array_foreach (warnings, i, line)
        buf_printf(&out, "%s\n", json_string_value(line));
    json_decref(warnings);
    json_decref(was);
    json_decref(now);
    return buf_steal(&out);
}

#define TEMPLATE(image)                                                                            \
    "\"template\":{\"metadata\":{\"labels\":{\"a\":\"b\"}},\"spec\":{\"containers\":[{\"name\":"   \
    "\"c\",\"image\":\"" image "\",\"args\":[\"--model\",\"embedded://demo-chat\"]}]}}"
#define DEPLOYMENT(replicas, image)                                                                \
    "{\"metadata\":{\"name\":\"d\"},\"spec\":{\"replicas\":" replicas                              \
    ",\"selector\":{\"matchLabels\":{\"a\":\"b\"}}," TEMPLATE(image) "}}"
#define TAKES "; it takes 2.0 GiB of memory (weights 1.5 GiB, KV cache 512.0 MiB)\n"
#define WAITS                                                                                      \
    " would be Pending: 0/1 nodes are available: 1 Insufficient memory. preemption: 0/1 nodes "    \
    "are available: 1 No preemption victims found for incoming pod." TAKES

static void each_replica_has_its_line(void **state) {
    struct fixture *f = *state;
    AUTO_FREE char *new = told(f, "apps", "deployments", DEPLOYMENT("3", "vllm/vllm-openai"), NULL);
    assert_string_equal(new, "replica 1 of 3 would go to node gpu1" TAKES
                             "replica 2 of 3 would go to node gpu1" TAKES "replica 3 of 3" WAITS);
    AUTO_FREE char *none =
        told(f, "apps", "deployments", DEPLOYMENT("0", "vllm/vllm-openai"), NULL);
    assert_string_equal(none, "");
    AUTO_FREE char *other = told(f, "core", "configmaps", "{\"metadata\":{\"name\":\"x\"}}", NULL);
    assert_string_equal(other, "");
    AUTO_FREE char *more = told(f, "apps", "replicasets", DEPLOYMENT("18", "host"), NULL);
    assert_non_null(strstr(more, "replica 16 of 18 would go to node gpu1\n2 more replicas were not "
                                 "looked at\n"));
    assert_int_equal(fixture_count(f, KIND_POD), 0);
}

static void a_change_tells_what_is_added_or_a_whole_new_revision(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_DEPLOYMENT, DEPLOYMENT("2", "vllm/vllm-openai"));
    fixture_pass(f);
    assert_int_equal(fixture_num_processes(f), 2);
    const char *is = DEPLOYMENT("2", "vllm/vllm-openai");
    AUTO_FREE char *same = told(f, "apps", "deployments", is, is);
    assert_string_equal(same, "");
    AUTO_FREE char *more = told(f, "apps", "deployments", DEPLOYMENT("3", "vllm/vllm-openai"), is);
    assert_string_equal(more, "replica 1 of 1" WAITS);
    AUTO_FREE char *fewer = told(f, "apps", "deployments", DEPLOYMENT("1", "vllm/vllm-openai"), is);
    assert_string_equal(fewer, "");
    AUTO_FREE char *fresh = told(f, "apps", "deployments", DEPLOYMENT("1", "inferd/engine"), is);
    assert_string_equal(fresh, "replica 1 of 1 would go to node gpu1, when a replica of the "
                               "present revision has left" TAKES);
}

static void before_the_controllers_are_there_nothing_is_told(void **state) {
    AUTO(preview) p = preview_create();
    json_t *o = fixture_json(DEPLOYMENT("3", "host")), *warnings = json_array();
    preview_tell(p, "apps", "deployments", o, NULL, warnings);
    assert_int_equal(json_array_size(warnings), 0);
    json_decref(warnings);
    json_decref(o);
}

enum { ROUNDS = 40, THREADS = 3 };

static void *tell_often(void *user) {
    for (int i = 0; i < ROUNDS; i++)
        free(told(user, "apps", "deployments", DEPLOYMENT("3", "vllm/vllm-openai"), NULL));
    return NULL;
}

static void many_ask_while_devices_and_pods_change(void **state) {
    struct fixture *f = *state;
    pthread_t threads[THREADS];
    struct devices *d = mem_alloc(sizeof(*d));
    d->num_gpus = 1;
    snprintf(d->gpus[0].uuid, sizeof(d->gpus[0].uuid), "GPU-0");
    devices_settle(d);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, tell_often, f), 0);
    fixture_create(f, KIND_DEPLOYMENT, DEPLOYMENT("2", "vllm/vllm-openai"));
    for (int i = 0; i < ROUNDS; i++)
        preview_set_devices(f->preview, i % 2 ? d : NULL);
    fixture_pass(f);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    devices_destroy(d);
    assert_int_equal(fixture_count(f, KIND_POD), 2);
}

#define PREVIEW_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        PREVIEW_TEST(each_replica_has_its_line),
        PREVIEW_TEST(a_change_tells_what_is_added_or_a_whole_new_revision),
        PREVIEW_TEST(before_the_controllers_are_there_nothing_is_told),
        PREVIEW_TEST(many_ask_while_devices_and_pods_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
