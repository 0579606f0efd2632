/* Budgets: the arithmetic by table, the bookkeeping with pods that come and go. */
#include "core/control/disruption.h"

#include "core/control/fixture_test.h"

static void budgets_by_table(void **state) {
    static const struct {
        const char *spec;
        int64_t expected, healthy, desired, allowed;
    } cases[] = {
        {"{}", 3, 3, 1, 2},
        {"{\"minAvailable\": 2}", 3, 3, 2, 1},
        {"{\"minAvailable\": 5}", 3, 3, 5, 0},
        {"{\"minAvailable\": 0}", 3, 2, 0, 2},
        {"{\"minAvailable\": \"50%\"}", 3, 3, 2, 1}, /* rounded up */
        {"{\"minAvailable\": \"100%\"}", 4, 4, 4, 0},
        {"{\"maxUnavailable\": 1}", 3, 3, 2, 1},
        {"{\"maxUnavailable\": 1}", 3, 2, 2, 0},
        {"{\"maxUnavailable\": 9}", 3, 3, 0, 3},
        {"{\"maxUnavailable\": \"30%\"}", 3, 3, 2, 1}, /* rounded up, too */
        {"{\"maxUnavailable\": \"0%\"}", 3, 3, 3, 0},
        {"{\"maxUnavailable\": 1}", 0, 1, 0, 0}, /* nobody knows how many are wanted */
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        json_t *spec = fixture_json(cases[i].spec);
        struct disruption_counts counts = {.expected = cases[i].expected,
                                           .healthy = cases[i].healthy};
        struct disruption_verdict v = disruption_decide(spec, &counts);
        if (v.desired_healthy != cases[i].desired || v.allowed != cases[i].allowed)
            fail_msg("%s: %lld desired, %lld allowed", cases[i].spec, (long long)v.desired_healthy,
                     (long long)v.allowed);
        json_decref(spec);
    }
}

static void selectors_of_budgets(void **state) {
    static const struct {
        const char *selector;
        bool covers;
    } cases[] = {
        {"{\"spec\": {}}", false},
        {"{\"spec\": {\"selector\": {}}}", true},
        {"{\"spec\": {\"selector\": {\"matchLabels\": {\"a\": \"b\"}}}}", true},
        {"{\"spec\": {\"selector\": {\"matchLabels\": {\"a\": \"c\"}}}}", false},
    };
    json_t *pod = fixture_json("{\"metadata\": {\"labels\": {\"a\": \"b\"}}}");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        json_t *budget = fixture_json(cases[i].selector);
        assert_int_equal(disruption_covers(budget, pod), cases[i].covers);
        json_decref(budget);
    }
    json_decref(pod);
}

static void set_of(struct fixture *f, int replicas) {
    AUTO_FREE char *text = mem_printf(
        "{\"metadata\": {\"name\": \"rs\"}, \"spec\": {\"replicas\": %d, \"selector\":"
        " {\"matchLabels\": {\"a\": \"b\"}}, \"template\": {\"metadata\": {\"labels\": {\"a\":"
        " \"b\"}}, \"spec\": {\"containers\": [{\"name\": \"c\", \"image\": \"inferd/engine\","
        " \"args\": [\"--model\", \"embedded://demo-chat\"]}]}}}}",
        replicas);
    fixture_create(f, KIND_REPLICA_SET, text);
    fixture_pass(f);
}

static void budget(struct fixture *f, const char *name, const char *spec) {
    AUTO_FREE char *text = mem_printf(
        "{\"metadata\": {\"name\": \"%s\"}, \"spec\": {\"selector\": {\"matchLabels\": {\"a\":"
        " \"b\"}}, %s}}",
        name, spec);
    fixture_create(f, KIND_POD_DISRUPTION_BUDGET, text);
    fixture_pass(f);
}

/* As the API server evicts. */
static enum errc evict(struct fixture *f, const char *pod, char cause[DISRUPTION_CAUSE_BYTES_MAX]) {
    struct error err = ERROR_INIT;
    struct object_key key;
    AUTO(store_object) o = NULL;
    AUTO_CHARGES charges = {0};
    char now[CLOCK_RFC3339_BYTES];
    object_key(&key, "core", "pods", "default", pod);
    assert_int_equal(store_get(f->store, key.text, &o, &err), OK);
    enum errc rc = disruption_charge(f->store, o->json, f->wall_ms, &charges, cause, &err);
    if (rc)
        return rc;
    json_t *marked = json_deep_copy(o->json);
    object_set(marked, "metadata.deletionTimestamp", json_string(clock_rfc3339(f->wall_ms, now)));
    object_set(marked, "metadata.deletionGracePeriodSeconds", json_integer(30));
    struct store_write write = {.key = key.text, .object = marked, .expect_revision = o->revision};
    return charges_commit(&charges, f->store, &write, NULL, &err);
}

static char *nth_pod(struct fixture *f, size_t i) {
    json_t *pod = fixture_nth(f, KIND_POD, i);
    char *name = mem_strdup(object_name(pod));
    json_decref(pod);
    return name;
}

static void an_eviction_uses_the_budget_up(void **state) {
    struct fixture *f = *state;
    char cause[DISRUPTION_CAUSE_BYTES_MAX];
    set_of(f, 3);
    budget(f, "pdb", "\"maxUnavailable\": 1");
    json_t *pdb = fixture_get(f, KIND_POD_DISRUPTION_BUDGET, "pdb");
    assert_int_equal(object_int(pdb, "status.expectedPods", 0), 3);
    assert_int_equal(object_int(pdb, "status.currentHealthy", 0), 3);
    assert_condition(pdb, "DisruptionAllowed", "True", "SufficientPods", NULL);
    f->ready_at_once = false; /* what replaces them takes its time */
    AUTO_FREE char *first = nth_pod(f, 0), *second = nth_pod(f, 1);
    assert_int_equal(evict(f, first, cause), OK);
    /* Before the controller looks, and after. */
    assert_int_equal(evict(f, second, cause), ERR_EXHAUSTED);
    fixture_pass(f);
    assert_int_equal(evict(f, second, cause), ERR_EXHAUSTED);
    assert_string_equal(cause,
                        "The disruption budget pdb needs 2 healthy pods and has 2 currently");
    for (int i = 0; i < FIXTURE_PROCESSES_MAX; i++) {
        if (f->processes[i].used && f->processes[i].state.phase == REPLICA_STARTING)
            fixture_set_phase(f, &f->processes[i], REPLICA_READY);
    }
    fixture_pass(f);
    assert_int_equal(evict(f, second, cause), OK);
}

static void a_pod_that_was_to_go_and_stayed_counts_again(void **state) {
    struct fixture *f = *state;
    set_of(f, 2);
    budget(f, "pdb", "\"minAvailable\": 1");
    AUTO_FREE char *name = nth_pod(f, 0);
    char now[CLOCK_RFC3339_BYTES];
    json_t *since = json_pack("{s:s}", name, clock_rfc3339(f->wall_ms, now));
    AUTO_FREE char *text = json_dumps(since, 0);
    json_decref(since);
    fixture_patch(f, KIND_POD_DISRUPTION_BUDGET, "pdb", "status.disruptedPods", text);
    assert_int_field(fixture_get(f, KIND_POD_DISRUPTION_BUDGET, "pdb"), "status.currentHealthy", 1);
    fixture_advance(f, (DISRUPTED_SECONDS_MAX + 1) * 1000);
    json_t *pdb = fixture_get(f, KIND_POD_DISRUPTION_BUDGET, "pdb");
    assert_null(object_at(pdb, "status.disruptedPods"));
    assert_int_field(pdb, "status.currentHealthy", 2);
}

static void unready_pods_go_by_policy(void **state) {
    struct fixture *f = *state;
    char cause[DISRUPTION_CAUSE_BYTES_MAX];
    f->ready_at_once = false;
    set_of(f, 2);
    budget(f, "pdb", "\"minAvailable\": 1");
    AUTO_FREE char *name = nth_pod(f, 0);
    assert_int_equal(evict(f, name, cause), ERR_EXHAUSTED);
    fixture_patch(f, KIND_POD_DISRUPTION_BUDGET, "pdb", "spec.unhealthyPodEvictionPolicy",
                  "\"AlwaysAllow\"");
    fixture_pass(f);
    assert_int_equal(evict(f, name, cause), OK);
}

static void two_budgets_for_one_pod_are_an_error(void **state) {
    struct fixture *f = *state;
    char cause[DISRUPTION_CAUSE_BYTES_MAX];
    set_of(f, 2);
    budget(f, "one", "\"minAvailable\": 1");
    budget(f, "two", "\"minAvailable\": 1");
    AUTO_FREE char *name = nth_pod(f, 0);
    assert_int_equal(evict(f, name, cause), ERR_INTERNAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(budgets_by_table),
        cmocka_unit_test(selectors_of_budgets),
        FIXTURE_TEST(an_eviction_uses_the_budget_up),
        FIXTURE_TEST(a_pod_that_was_to_go_and_stayed_counts_again),
        FIXTURE_TEST(unready_pods_go_by_policy),
        FIXTURE_TEST(two_budgets_for_one_pod_are_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
