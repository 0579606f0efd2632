/* Priorities, limit ranges and quotas, through both doors. */
#include "core/control/admission.h"

#include "core/control/fixture_test.h"
#include "core/control/limits.h"

static void put(struct fixture *f, const char *key, const char *text) {
    struct error err = ERROR_INIT;
    if (store_put(f->store, key, fixture_json(text), STORE_EXPECT_ANY, NULL, &err))
        fail_msg("%s", err.text);
    fixture_settle(f);
}

static json_t *pod(const char *name, const char *spec) {
    AUTO_FREE char *text = mem_printf(
        "{\"metadata\": {\"name\": \"%s\", \"namespace\": \"default\"}, \"spec\": %s}", name, spec);
    return fixture_json(text);
}

/* Admits a pod as the API server does; gives what became of it, or NULL and the text of err. */
static json_t *admit(struct fixture *f, json_t *p, struct error *err) {
    AUTO_CHARGES charges = {0};
    if (admission_assign(f->store, "core", "pods", p, NULL, err) ||
        admission_charge(f->store, "core", "pods", p, NULL, &charges, err)) {
        json_decref(p);
        return NULL;
    }
    struct object_key key;
    struct store_write write = {.key = object_key(&key, "core", "pods", "default", object_name(p)),
                                .object = json_deep_copy(p),
                                .expect_revision = STORE_EXPECT_ABSENT};
    if (charges_commit(&charges, f->store, &write, NULL, err))
        fail_msg("%s", err->text);
    fixture_settle(f);
    return p;
}

static void admits(struct fixture *f, const char *name, const char *spec) {
    struct error err = ERROR_INIT;
    json_t *p = admit(f, pod(name, spec), &err);
    if (!p)
        fail_msg("%s", err.text);
    json_decref(p);
}

static void refuses(struct fixture *f, const char *name, const char *spec, const char *text) {
    struct error err = ERROR_INIT;
    assert_null(admit(f, pod(name, spec), &err));
    assert_int_equal(err.code, ERR_FORBIDDEN);
    assert_string_equal(err.text, text);
}

/* Nothing here is to be scheduled: what matters is what the store holds. */
#define SPEC(rest) "{\"nodeSelector\": {\"none\": \"1\"}, " rest "}"
#define BARE       SPEC("\"containers\": [{\"name\": \"c\"}]")
#define WANTS(list)                                                                                \
    SPEC("\"containers\": [{\"name\": \"c\", \"resources\": {\"requests\": {" list "}}}]")

static void a_pod_speaks_as_some_account(void **state) {
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    json_t *plain = admit(f, pod("plain", BARE), &err);
    json_t *robot = admit(f, pod("robot", SPEC("\"serviceAccountName\": \"robot\"")), &err);
    assert_field(plain, "spec.serviceAccountName", "default");
    assert_field(robot, "spec.serviceAccount", "robot");
}

static void a_class_gives_its_number_to_new_pods(void **state) {
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    put(f, "scheduling.k8s.io/priorityclasses/-/high",
        "{\"metadata\": {\"name\": \"high\"}, \"value\": 7, \"preemptionPolicy\": \"Never\"}");
    json_t *p =
        admit(f, pod("a", SPEC("\"priorityClassName\": \"high\", \"containers\": []")), &err);
    assert_int_equal(object_int(p, "spec.priority", 0), 7);
    assert_field(p, "spec.preemptionPolicy", "Never");
    p = admit(f, pod("b", BARE), &err);
    assert_int_equal(object_int(p, "spec.priority", -1), 0);
    assert_field(p, "spec.priorityClassName", NULL);
    refuses(f, "c", SPEC("\"priorityClassName\": \"absent\""),
            "pods \"c\" is forbidden: no PriorityClass with name absent was found");
    refuses(f, "c", SPEC("\"priorityClassName\": \"high\", \"priority\": 8"),
            "pods \"c\" is forbidden: the integer value of priority (8) must not be provided in "
            "pod spec; priority admission controller computed 7 from the given PriorityClass name");
}

static void one_class_is_the_default(void **state) {
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    put(f, "scheduling.k8s.io/priorityclasses/-/usual",
        "{\"metadata\": {\"name\": \"usual\"}, \"value\": 3, \"globalDefault\": true}");
    json_t *p = admit(f, pod("a", BARE), &err);
    assert_int_equal(object_int(p, "spec.priority", 0), 3);
    assert_field(p, "spec.priorityClassName", "usual");
    json_t *second = fixture_json("{\"metadata\": {\"name\": \"x\"}, \"globalDefault\": true}");
    assert_int_equal(
        admission_assign(f->store, "scheduling.k8s.io", "priorityclasses", second, NULL, &err),
        ERR_FORBIDDEN);
    assert_string_equal(err.text,
                        "priorityclasses.scheduling.k8s.io \"x\" is forbidden: PriorityClass usual "
                        "is already marked as default. Only one default can exist");
    object_set(second, "metadata.name", json_string("usual")); /* itself, again */
    assert_int_equal(
        admission_assign(f->store, "scheduling.k8s.io", "priorityclasses", second, NULL, &err), OK);
    json_decref(second);
}

static const char range[] =
    "{\"metadata\": {\"name\": \"r\"}, \"spec\": {\"limits\": [{\"type\": \"Container\", \"min\": "
    "{\"cpu\": \"100m\"},"
    " \"max\": {\"cpu\": \"2\"}, \"default\": {\"cpu\": \"1\"}, \"defaultRequest\": {\"cpu\": "
    "\"500m\"}, \"maxLimitRequestRatio\": {\"cpu\": \"4\"}},"
    " {\"type\": \"Pod\", \"max\": {\"memory\": \"1Gi\"}}]}}";

static void limit_ranges_judge_every_bound(void **state) {
    static const struct {
        const char *resources, *text; /* NULL: admitted */
    } cases[] = {
        {"{\"limits\": {\"cpu\": \"1\", \"memory\": \"1Gi\"}, \"requests\": {\"cpu\": \"1\"}}",
         NULL},
        {"{\"limits\": {\"cpu\": \"1\", \"memory\": \"2Gi\"}, \"requests\": {\"cpu\": \"1\"}}",
         "maximum memory usage per Pod is 1Gi, but limit is 2Gi"},
        {"{\"limits\": {\"cpu\": \"1\"}, \"requests\": {\"cpu\": \"1\"}}",
         "maximum memory usage per Pod is 1Gi.  No limit is specified"},
        {"{\"limits\": {\"cpu\": \"3\", \"memory\": \"1Mi\"}, \"requests\": {\"cpu\": \"1\"}}",
         "maximum cpu usage per Container is 2, but limit is 3"},
        {"{\"limits\": {\"cpu\": \"200m\", \"memory\": \"1Mi\"}, \"requests\": {\"cpu\": "
         "\"50m\"}}",
         "minimum cpu usage per Container is 100m, but request is 50m"},
        {"{\"limits\": {\"cpu\": \"1\", \"memory\": \"1Mi\"}, \"requests\": {\"cpu\": \"200m\"}}",
         "cpu max limit to request ratio per Container is 4, but provided ratio is 5.000000"},
        {"{\"limits\": {\"memory\": \"1Mi\"}, \"requests\": {}}",
         "[minimum cpu usage per Container is 100m.  No request is specified, maximum cpu usage "
         "per Container is 2.  No limit is specified, cpu max limit to request ratio per "
         "Container is 4, but no request is specified or request is 0]"},
    };
    json_t *limits = fixture_json(range);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = ERROR_INIT;
        AUTO_FREE char *spec = mem_printf(
            "{\"containers\": [{\"name\": \"c\", \"resources\": %s}]}", cases[i].resources);
        json_t *p = pod("a", spec);
        enum errc rc = limits_check(limits, p, &err);
        assert_int_equal(rc, cases[i].text ? ERR_FORBIDDEN : OK);
        if (rc)
            assert_string_equal(err.text, cases[i].text);
        json_decref(p);
    }
    json_decref(limits);
}

static void limit_ranges_give_what_is_left_out(void **state) {
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    put(f, "core/limitranges/default/r", range);
    json_t *p = admit(f,
                      pod("a", SPEC("\"containers\": [{\"name\": \"c\", \"resources\": {\"limits\":"
                                    " {\"memory\": \"1Mi\"}}}]")),
                      &err);
    if (!p)
        fail_msg("%s", err.text);
    const json_t *c = object_at(p, "spec.containers.0.resources");
    assert_string_equal(object_str(c, "limits.cpu"), "1");
    assert_string_equal(object_str(c, "requests.cpu"), "500m");
    assert_string_equal(object_annotation(p, "kubernetes.io/limit-ranger"),
                        "LimitRanger plugin set: cpu request for container c; cpu limit for "
                        "container c");
    json_decref(p);
    refuses(f, "b", BARE,
            "pods \"b\" is forbidden: maximum memory usage per Pod is 1Gi.  No limit is specified");
}

static void quota(struct fixture *f, const char *name, const char *spec) {
    AUTO_FREE char *text =
        mem_printf("{\"metadata\": {\"name\": \"%s\"}, \"spec\": %s}", name, spec);
    fixture_create(f, KIND_RESOURCE_QUOTA, text);
}

static void assert_used(struct fixture *f, const char *name, const char *resource,
                        const char *expect) {
    json_t *q = fixture_get(f, KIND_RESOURCE_QUOTA, name);
    const char *has = json_string_value(json_object_get(object_at(q, "status.used"), resource));
    assert_non_null(has);
    assert_string_equal(has, expect);
    json_decref(q);
}

static void a_quota_bounds_what_pods_want(void **state) {
    struct fixture *f = *state;
    quota(f, "q",
          "{\"hard\": {\"requests.cpu\": \"2\", \"memory\": \"1Gi\", \"pods\": \"3\","
          " \"nvidia.com/gpu\": \"1\"}}");
    assert_used(f, "q", "requests.cpu", "0");
    refuses(f, "a", BARE,
            "pods \"a\" is forbidden: failed quota: q: must specify memory for: c; requests.cpu "
            "for: c");
    admits(f, "a", WANTS("\"cpu\": \"1500m\", \"memory\": \"512Mi\""));
    assert_used(f, "q", "requests.cpu", "1500m");
    assert_used(f, "q", "memory", "512Mi");
    assert_used(f, "q", "pods", "1");
    refuses(f, "b", WANTS("\"cpu\": \"1\", \"memory\": \"1Gi\""),
            "pods \"b\" is forbidden: exceeded quota: q, requested: memory=1Gi,requests.cpu=1, "
            "used: memory=512Mi,requests.cpu=1500m, limited: memory=1Gi,requests.cpu=2");
    admits(f, "b", WANTS("\"cpu\": \"500m\", \"memory\": \"1Mi\", \"nvidia.com/gpu\": \"1\""));
    refuses(f, "c", WANTS("\"cpu\": \"0\", \"memory\": \"0\", \"nvidia.com/gpu\": 1"),
            "pods \"c\" is forbidden: exceeded quota: q, requested: nvidia.com/gpu=1, used: "
            "nvidia.com/gpu=1, limited: nvidia.com/gpu=1");
    /* A pod that has ended, or is gone, makes room. */
    fixture_patch(f, KIND_POD, "b", "status", "{\"phase\": \"Succeeded\"}");
    assert_used(f, "q", "requests.cpu", "1500m");
    fixture_delete(f, KIND_POD, "a", "Background", 0);
    fixture_pass(f);
    assert_used(f, "q", "requests.cpu", "0");
}

static void scopes_choose_the_pods_that_count(void **state) {
    struct fixture *f = *state;
    put(f, "scheduling.k8s.io/priorityclasses/-/high",
        "{\"metadata\": {\"name\": \"high\"}, \"value\": 7}");
    quota(f, "effort", "{\"hard\": {\"pods\": \"0\"}, \"scopes\": [\"BestEffort\"]}");
    quota(f, "high",
          "{\"hard\": {\"pods\": \"1\"}, \"scopeSelector\": {\"matchExpressions\":"
          " [{\"scopeName\": \"PriorityClass\", \"operator\": \"In\", \"values\":"
          " [\"high\"]}]}}");
    quota(f, "ends", "{\"hard\": {\"pods\": \"0\"}, \"scopes\": [\"Terminating\"]}");
    refuses(f, "a", BARE,
            "pods \"a\" is forbidden: exceeded quota: effort, requested: pods=1, used: pods=0, "
            "limited: pods=0");
    admits(f, "a", WANTS("\"cpu\": \"1\""));
    assert_used(f, "high", "pods", "0");
#define HIGH                                                                                       \
    SPEC("\"priorityClassName\": \"high\", \"containers\": [{\"name\": \"c\", \"resources\":"      \
         " {\"limits\": {\"cpu\": \"1\"}}}]")
    admits(f, "b", HIGH);
    refuses(f, "c", HIGH,
            "pods \"c\" is forbidden: exceeded quota: high, requested: pods=1, used: pods=1, "
            "limited: pods=1");
    refuses(f, "c",
            SPEC("\"activeDeadlineSeconds\": 5, \"containers\": [{\"name\": \"c\", \"resources\":"
                 " {\"limits\": {\"cpu\": \"1\"}}}]"),
            "pods \"c\" is forbidden: exceeded quota: ends, requested: pods=1, used: pods=0, "
            "limited: pods=0");
}

static void quotas_count_objects_of_any_kind(void **state) {
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    quota(f, "q",
          "{\"hard\": {\"count/deployments.apps\": \"0\", \"configmaps\": \"1\","
          " \"services.nodeports\": \"1\", \"count/widgets.example.com\": \"1\"}}");
    AUTO_CHARGES charges = {0};
    json_t *o = pod("a", "{}");
    assert_int_equal(admission_charge(f->store, "apps", "deployments", o, NULL, &charges, &err),
                     ERR_FORBIDDEN);
    assert_string_equal(err.text, "deployments.apps \"a\" is forbidden: exceeded quota: q, "
                                  "requested: count/deployments.apps=1, used: "
                                  "count/deployments.apps=0, limited: count/deployments.apps=0");
    assert_int_equal(admission_charge(f->store, "example.com", "widgets", o, NULL, &charges, &err),
                     OK);
    assert_int_equal(charges.num, 1);
    /* kube-root-ca.crt is one already */
    assert_int_equal(admission_charge(f->store, "core", "configmaps", o, NULL, &charges, &err),
                     ERR_FORBIDDEN);
    assert_int_equal(admission_charge(f->store, "core", "secrets", o, NULL, &charges, &err), OK);
    object_set(o, "spec", fixture_json("{\"type\": \"NodePort\", \"ports\": [{}, {}]}"));
    assert_int_equal(admission_charge(f->store, "core", "services", o, NULL, &charges, &err),
                     ERR_FORBIDDEN);
    /* A change is judged by what it adds. */
    json_t *plain = pod("a", "{}");
    assert_int_equal(admission_charge(f->store, "core", "services", o, plain, &charges, &err),
                     ERR_FORBIDDEN);
    assert_string_equal(err.text, "services \"a\" is forbidden: exceeded quota: q, requested: "
                                  "services.nodeports=2, used: services.nodeports=0, limited: "
                                  "services.nodeports=1");
    assert_int_equal(admission_charge(f->store, "core", "services", o, o, &charges, &err), OK);
    assert_int_equal(admission_charge(f->store, "core", "services", plain, o, &charges, &err), OK);
    json_decref(plain);
    json_decref(o);
}

static void controllers_are_bound_too(void **state) {
    struct fixture *f = *state;
    quota(f, "q", "{\"hard\": {\"pods\": \"2\"}}");
    fixture_create(f, KIND_REPLICA_SET,
                   "{\"metadata\": {\"name\": \"rs\"}, \"spec\": {\"replicas\": 3, \"selector\":"
                   " {\"matchLabels\": {\"a\": \"b\"}}, \"template\": {\"metadata\": {\"labels\":"
                   " {\"a\": \"b\"}}, \"spec\": {\"nodeSelector\": {\"none\": \"1\"},"
                   " \"containers\": [{\"name\": \"c\", \"image\": \"i\"}]}}}}");
    fixture_pass(f);
    assert_int_equal(fixture_count(f, KIND_POD), 2);
    assert_true(fixture_events(f, "FailedCreate",
                               "exceeded quota: q, requested: pods=1, used: pods=2, limited: "
                               "pods=2") > 0);
    fixture_patch(f, KIND_RESOURCE_QUOTA, "q", "spec.hard.pods", "\"3\"");
    fixture_advance(f, 600 * 1000);
    assert_int_equal(fixture_count(f, KIND_POD), 3);
    assert_used(f, "q", "pods", "3");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(a_pod_speaks_as_some_account),
        FIXTURE_TEST(a_class_gives_its_number_to_new_pods),
        FIXTURE_TEST(one_class_is_the_default),
        cmocka_unit_test(limit_ranges_judge_every_bound),
        FIXTURE_TEST(limit_ranges_give_what_is_left_out),
        FIXTURE_TEST(a_quota_bounds_what_pods_want),
        FIXTURE_TEST(scopes_choose_the_pods_that_count),
        FIXTURE_TEST(quotas_count_objects_of_any_kind),
        FIXTURE_TEST(controllers_are_bound_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
