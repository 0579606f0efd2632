/* Everything at once: services come, change and go while processes die, pods are deleted, the disk
 * refuses writes and the daemon is killed, in random order. Once the world is quiet again, what
 * runs must be exactly what was asked for. INFERD_CHAOS_SEEDS=N tries more seeds, two or
 * three a second; the one that fails was printed last. */
#include "core/control/fixture_test.h"
#include "core/control/isvc_predictor.h"
#include "core/fault_disk_test.h"

enum { SERVICES = 4, STEPS = 120, SEEDS = 5, HEAL_SECONDS = 1200 };

static uint32_t seed;

static int random_below(int n) {
    seed = seed * 1664525u + 1013904223u;
    return (int)((seed >> 8) % (uint32_t)n);
}

static void service_name(char out[8]) {
    snprintf(out, 8, "s%d", random_below(SERVICES));
}

static bool exists(struct fixture *f, enum kind kind, const char *name) {
    json_t *o = fixture_get(f, kind, name);
    bool there = o && !object_deleting(o);
    json_decref(o);
    return there;
}

static void change_service(struct fixture *f) {
    char name[8];
    service_name(name);
    if (!exists(f, KIND_INFERENCE_SERVICE, name)) {
        json_t *o = fixture_get(f, KIND_INFERENCE_SERVICE, name);
        json_decref(o);
        if (o)
            return; /* still being deleted */
        AUTO_FREE char *text = mem_printf(
            "{\"metadata\":{\"name\":\"%s\"},\"spec\":{\"predictor\":{\"minReplicas\":%d,\"model\":"
            "{"
            "\"modelFormat\":{\"name\":\"gguf\"},\"storageUri\":\"embedded://demo-chat\"}}}}",
            name, random_below(3));
        fixture_create(f, KIND_INFERENCE_SERVICE, text);
        return;
    }
    AUTO_FREE char *number = mem_printf("%d", random_below(4));
    AUTO_FREE char *args = mem_printf("[\"--seed=%d\"]", random_below(5));
    switch (random_below(4)) {
    case 0:
        fixture_patch(f, KIND_INFERENCE_SERVICE, name, "spec.predictor.minReplicas", number);
        break;
    case 1:
    case 2:
        fixture_patch(f, KIND_INFERENCE_SERVICE, name, "spec.predictor.model.args", args);
        break;
    default:
        fixture_delete(f, KIND_INFERENCE_SERVICE, name,
                       random_below(2) ? "Foreground" : "Background", 0);
        break;
    }
}

static void disturb_process(struct fixture *f) {
    struct fake_process *p = &f->processes[random_below(FIXTURE_PROCESSES_MAX)];
    for (int i = 0; i < FIXTURE_PROCESSES_MAX && !p->used; i++)
        p = &f->processes[random_below(FIXTURE_PROCESSES_MAX)];
    if (!p->used || p->state.phase == REPLICA_EXITED)
        return;
    bool stopping = p->state.phase == REPLICA_STOPPING;
    if (stopping || !random_below(2))
        fixture_exit(f, p, random_below(3), 0, "by chance");
    else
        fixture_set_phase(f, p, random_below(2) ? REPLICA_READY : REPLICA_UNREADY);
}

static void delete_something(struct fixture *f) {
    static const enum kind kinds[] = {KIND_POD, KIND_POD, KIND_POD, KIND_REPLICA_SET,
                                      KIND_DEPLOYMENT};
    enum kind kind = kinds[random_below(ARRAY_LEN(kinds))];
    size_t num = fixture_count(f, kind);
    json_t *o = num ? fixture_nth(f, kind, (size_t)random_below((int)num)) : NULL;
    if (o && !object_deleting(o)) {
        struct error err = ERROR_INIT;
        struct object_key key;
        if (kind == KIND_POD && !random_below(3)) /* with a grace period of 0 */
            assert_int_equal(store_delete(f->store, fixture_key(&key, kind, object_name(o)),
                                          STORE_EXPECT_ANY, NULL, &err),
                             OK);
        else
            fixture_delete(f, kind, object_name(o), "Background", 30);
    }
    json_decref(o);
}

static void step(struct fixture *f) {
    switch (random_below(10)) {
    case 0:
    case 1:
    case 2:
        change_service(f);
        break;
    case 3:
    case 4:
        disturb_process(f);
        break;
    case 5:
        delete_something(f);
        break;
    case 6:
        f->ready_at_once = random_below(2);
        f->stops_at_once = random_below(2);
        f->start_fails = !random_below(4);
        break;
    case 7:
        fixture_patch(f, KIND_NODE, "gpu1", "spec.unschedulable",
                      random_below(3) ? "false" : "true");
        break;
    case 8:
        fault_every = 1 + random_below(5); /* the disk is bad while they work */
        fixture_advance(f, random_below(3000));
        fault_every = 0;
        break;
    default:
        if (!random_below(4)) {
            fixture_end_daemon(f);
            fixture_start_daemon(f);
        } else {
            fixture_advance(f, random_below(15000));
        }
        break;
    }
}

/* Processes do what they are asked, and there is time. */
static void heal(struct fixture *f) {
    f->ready_at_once = f->stops_at_once = true;
    f->start_fails = false;
    fixture_patch(f, KIND_NODE, "gpu1", "spec.unschedulable", "false");
    for (int i = 0; i < FIXTURE_PROCESSES_MAX; i++) {
        struct fake_process *p = &f->processes[i];
        if (p->used && p->state.phase == REPLICA_STOPPING)
            fixture_exit(f, p, 0, 0, "");
        else if (p->used && p->state.phase != REPLICA_EXITED)
            fixture_set_phase(f, p, REPLICA_READY);
    }
    fixture_advance(f, HEAL_SECONDS * 1000);
}

static void assert_service_as_asked(struct fixture *f, const json_t *isvc) {
    AUTO_STORE_LIST pods = {0};
    int num = 0;
    store_list(f->store, "core/pods/default/", &pods);
    json_t *model = isvc_predictor_model(isvc);
    const char *arg = object_str(model, "args.0");
    for (size_t i = 0; i < pods.num_items; i++) {
        const json_t *pod = pods.items[i]->json;
        const char *of = object_label(pod, ISVC_LABEL);
        if (!of || strcmp(of, object_name(isvc)) != 0)
            continue;
        const struct fake_process *p = fixture_process(
            f, &(struct replica_key){object_uid(pod), object_str(pod, "spec.containers.0.name")});
        num++;
        assert_non_null(p);
        assert_string_equal(object_condition(pod, "Ready"), "True");
        assert_true(!arg || strstr(p->argv, arg)); /* the newest version */
    }
    json_decref(model);
    assert_int_equal(num, object_int(isvc, "spec.predictor.minReplicas", 1));
    assert_int_equal(fixture_ready_replicas(f, object_name(isvc)), num);
    assert_string_equal(object_condition(isvc, "Ready"), "True");
    assert_string_equal(object_str(isvc, "status.modelStatus.transitionStatus"), "UpToDate");
}

static void assert_as_asked(struct fixture *f) {
    AUTO_STORE_LIST services = {0}, all = {0};
    store_list(f->store, "serving.kserve.io/inferenceservices/", &services);
    for (size_t i = 0; i < services.num_items; i++)
        assert_service_as_asked(f, services.items[i]->json);
    assert_int_equal(fixture_count(f, KIND_DEPLOYMENT), services.num_items);
    assert_int_equal(fixture_num_processes(f), fixture_count(f, KIND_POD));
    store_list(f->store, "", &all);
    for (size_t i = 0; i < all.num_items; i++) {
        if (object_deleting(all.items[i]->json))
            fail_msg("%s is still being deleted", all.items[i]->key);
    }
}

static void what_runs_is_what_was_asked_for_after_any_trouble(void **state) {
    struct fixture *f = *state;
    const char *more = getenv("INFERD_CHAOS_SEEDS");
    uint32_t num_seeds = more ? (uint32_t)atoi(more) : SEEDS;
    for (uint32_t first = 1; first <= num_seeds; first++) {
        print_message("seed %u\n", first);
        seed = first * 2654435761u;
        for (int i = 0; i < STEPS; i++)
            step(f);
        heal(f);
        assert_as_asked(f);
    }
    assert_true(f->num_starts > (int)num_seeds * STEPS / 10); /* these were no quiet days */
}

static int setup(void **state) {
    int rc = fixture_setup(state);
    log_set_level(LOG_LEVEL_ERROR + 1); /* refused commits are expected */
    return rc;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_runs_is_what_was_asked_for_after_any_trouble, setup,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests(tests, fault_disk_install, NULL);
}
