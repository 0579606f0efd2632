#include "core/control/control.h"

#include <stddef.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>

#include "core/base/yaml.h"
#include "core/object.h"

static json_t *parse(const char *text) {
    json_error_t why;
    json_t *o = json_loads(text, 0, &why);
    if (!o)
        fail_msg("%s: %s", text, why.text);
    return o;
}

static enum errc admit(const char *resource, json_t *object, const json_t *old, json_t *warnings,
                       struct error *err) {
    return control_admit("", resource, object, old, warnings, err);
}

static void values_out_of_bounds_are_refused_by_field(void **state) {
    static const struct {
        const char *spec, *field, *part;
    } rows[] = {
        {"{}", "spec.predictor", "Required value"},
        {"{\"predictor\":{}}", "spec.predictor", "Required value"},
        {"{\"predictor\":{\"containers\":[]}}", "spec.predictor", "Required value"},
        {"{\"predictor\":{\"model\":{}}}", "spec.predictor.model.modelFormat.name", "Required"},
        {"{\"predictor\":{\"model\":5}}", "spec.predictor.model", "object"},
        {"{\"predictor\":{\"minReplicas\":3,\"maxReplicas\":2,\"sklearn\":{}}}",
         "spec.predictor.minReplicas", "3: must not be above maxReplicas (2)"},
        {"{\"predictor\":{\"minReplicas\":-1,\"sklearn\":{}}}", "spec.predictor.minReplicas", "-1"},
        {"{\"predictor\":{\"maxReplicas\":-2,\"sklearn\":{}}}", "spec.predictor.maxReplicas", "-2"},
        {"{\"predictor\":{\"minReplicas\":\"x\",\"sklearn\":{}}}", "spec.predictor.minReplicas",
         "integer"},
        {"{\"predictor\":{\"canaryTrafficPercent\":101,\"sklearn\":{}}}",
         "spec.predictor.canaryTrafficPercent", "101: must be at most 100"},
        {"{\"predictor\":{\"canaryTrafficPercent\":-1,\"sklearn\":{}}}",
         "spec.predictor.canaryTrafficPercent", "-1: must be greater than or equal to 0"},
        {"{\"predictor\":{\"canaryTrafficPercent\":\"20%\",\"sklearn\":{}}}",
         "spec.predictor.canaryTrafficPercent", "integer"},
        {"{\"predictor\":{\"sklearn\":{},\"pytorch\":{}}}", "spec.predictor", "only one"},
        {"{\"predictor\":{\"sklearn\":{\"storageUri\":\"foo://x\"}}}",
         "spec.predictor.sklearn.storageUri", "foo://x"},
        {"{\"predictor\":{\"sklearn\":{\"storageUri\":\"\"}}}", "spec.predictor.sklearn.storageUri",
         "empty"},
        {"{\"predictor\":{\"containers\":[{\"name\":\"a\"}]}}", "spec.predictor.containers[0]",
         "image: Required"},
        {"{\"predictor\":{\"sklearn\":{\"resources\":{\"limits\":{\"cpu\":\"lots\"}}}}}",
         "spec.predictor.sklearn.resources.limits[cpu]", "lots"},
        {"{\"predictor\":{\"sklearn\":{\"resources\":{\"limits\":{\"cpu\":\"1\"},\"requests\":{"
         "\"cpu\":\"1500m\"}}}}}",
         "spec.predictor.sklearn.resources.requests[cpu]", "limit"},
        {"{\"predictor\":{\"sklearn\":{}},\"transformer\":{\"minReplicas\":2,\"maxReplicas\":1}}",
         "spec.transformer.minReplicas", "maxReplicas (1)"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        AUTO_FREE char *text =
            mem_printf("{\"metadata\":{\"name\":\"a\"},\"spec\":%s}", rows[i].spec);
        json_t *o = parse(text), *warnings = json_array();
        if (admit("inferenceservices", o, NULL, warnings, &err) != ERR_INVALID ||
            strcmp(err.field, rows[i].field) != 0 || !strstr(err.text, rows[i].part))
            fail_msg("%s: %s: %s", text, err.field, err.text);
        json_decref(o);
        json_decref(warnings);
    }
}

static void names_that_make_no_host_name_are_refused(void **state) {
    static const char *const bad[] = {
        "1a", "A", "a.b", "a-", "a_b", "a234567890123456789012345678901234567890123456789"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct error err = ERROR_INIT;
        json_t *o = json_pack("{s:{s:s}, s:{s:{s:{}}}}", "metadata", "name", bad[i], "spec",
                              "predictor", "sklearn");
        json_t *warnings = json_array();
        assert_int_equal(admit("inferenceservices", o, NULL, warnings, &err), ERR_INVALID);
        assert_string_equal(err.field, "metadata.name");
        json_decref(o);
        json_decref(warnings);
    }
}

static bool warned(const json_t *warnings, const char *part) {
    size_t i;
    json_t *w;
    json_array_foreach (warnings, i, w) {
        if (strstr(json_string_value(w), part))
            return true;
    }
    return false;
}

static void fields_without_effect_are_told(void **state) {
    struct error err = ERROR_INIT;
    json_t *o = parse(
        "{\"metadata\":{\"name\":\"a\",\"annotations\":{\"serving.kserve.io/deploymentMode\":"
        "\"Serverless\"}},\"spec\":{\"transformer\":{\"containers\":[{\"image\":\"x\"}]},"
        "\"explainer\":{\"x\":1},\"predictor\":{\"scaleMetric\":\"cpu\","
        "\"minReplicas\":0,\"maxReplicas\":4,\"logger\":{\"mode\":\"all\"},\"model\":{"
        "\"modelFormat\":{\"name\":\"gguf\"},\"storageUri\":\"/m\",\"readinessProbe\":{\"x\":1},"
        "\"storage\":{\"key\":\"k\"}},\"containers\":[{\"name\":\"side\",\"image\":\"s\"}]}}}");
    json_t *warnings = json_array();
    assert_int_equal(admit("inferenceservices", o, NULL, warnings, &err), OK);
    static const char *const parts[] = {"spec.transformer has no effect",
                                        "spec.explainer has no effect",
                                        "spec.predictor.minReplicas has no effect",
                                        "logger",
                                        "model.readinessProbe",
                                        "model.storage has",
                                        "containers[0]",
                                        "deploymentMode"};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (!warned(warnings, parts[i]))
            fail_msg("no warning names %s", parts[i]);
    }
    json_decref(o);
    json_decref(warnings);
}

static void a_plain_service_is_accepted_in_silence_and_its_container_named(void **state) {
    struct error err = ERROR_INIT;
    json_t *warnings = json_array();
    json_t *o = parse("{\"metadata\":{\"name\":\"my-llm\"},\"spec\":{\"predictor\":{\"containers\":"
                      "[{\"image\":\"vllm/vllm-openai:latest\",\"args\":[\"--model\",\"m\"],"
                      "\"resources\":{\"limits\":{\"nvidia.com/gpu\":\"1\"}}}]}}}");
    assert_int_equal(admit("inferenceservices", o, NULL, warnings, &err), OK);
    assert_int_equal(json_array_size(warnings), 0);
    assert_string_equal(object_str(o, "spec.predictor.containers.0.name"), "kserve-container");
    json_decref(o);
    json_decref(warnings);
}

static void deployments_must_select_their_own_pods(void **state) {
    static const struct {
        const char *spec, *field;
    } rows[] = {
        {"{\"selector\":{\"matchLabels\":{\"a\":\"1\"}},\"template\":{\"metadata\":{\"labels\":{"
         "\"a\":\"2\"}}}}",
         "spec.template.metadata.labels"},
        {"{\"selector\":{},\"template\":{\"metadata\":{\"labels\":{\"a\":\"2\"}}}}",
         "spec.template.metadata.labels"},
        {"{\"replicas\":-1}", "spec.replicas"},
        {"{\"strategy\":{\"rollingUpdate\":{\"maxSurge\":\"x\"}}}",
         "spec.strategy.rollingUpdate.maxSurge"},
        {"{\"strategy\":{\"rollingUpdate\":{\"maxSurge\":0,\"maxUnavailable\":\"0%\"}}}",
         "spec.strategy.rollingUpdate.maxUnavailable"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        AUTO_FREE char *text = mem_printf("{\"spec\":%s}", rows[i].spec);
        json_t *o = parse(text);
        if (admit("deployments", o, NULL, NULL, &err) != ERR_INVALID ||
            strcmp(err.field, rows[i].field) != 0)
            fail_msg("%s: %s", text, err.text);
        json_decref(o);
    }
    json_t *old = parse("{\"spec\":{\"selector\":{\"matchLabels\":{\"a\":\"1\"}},\"template\":{"
                        "\"metadata\":{\"labels\":{\"a\":\"1\",\"b\":\"1\"}}}}}");
    json_t *o = json_deep_copy(old);
    struct error err = ERROR_INIT;
    assert_int_equal(admit("deployments", o, old, NULL, &err), OK);
    object_set(o, "spec.selector.matchLabels", json_pack("{s:s}", "b", "1"));
    assert_int_equal(admit("deployments", o, old, NULL, &err), ERR_INVALID);
    assert_string_equal(err.field, "spec.selector");
    json_decref(o);
    json_decref(old);
}

/* KServe's own manifests. */

static char *read_file(const char *path) {
    AUTO_BUF text = BUF_INIT;
    FILE *f = fopen(path, "re");
    char part[4096];
    for (size_t n; f && (n = fread(part, 1, sizeof(part), f)) > 0;)
        buf_append(&text, part, n);
    if (f)
        fclose(f);
    return buf_steal(&text);
}

/* Admits every InferenceService of a file; gives how many there were. Fragments of the
 * documentation, which name no object, are left out. */
static int admit_file(const char *path) {
    AUTO_FREE char *text = read_file(path);
    struct error err = ERROR_INIT;
    json_t *documents = NULL, *o;
    size_t i;
    int num = 0;
    if (yaml_parse_all(text, strlen(text), &documents, &err))
        return 0; /* the YAML reader's own tests look at those */
    json_array_foreach (documents, i, o) {
        const char *kind = object_str(o, "kind"), *version = object_str(o, "apiVersion");
        json_t *warnings = json_array();
        if (object_name(o) && json_object_get(o, "spec") &&
            !json_is_null(json_object_get(o, "spec")) && kind && version &&
            !strcmp(kind, "InferenceService") && !strcmp(version, "serving.kserve.io/v1beta1")) {
            num++;
            if (admit("inferenceservices", o, NULL, warnings, &err))
                fail_msg("%s: %s", path, err.text);
        }
        json_decref(warnings);
    }
    json_decref(documents);
    return num;
}

static void what_a_pod_asks_for_in_vain_is_told(void **state) {
    static const struct {
        const char *spec, *warning; /* NULL: none */
    } rows[] = {
        {"\"containers\":[{\"name\":\"c\",\"image\":\"nginx:1\"}]",
         "containers[0].image: no runtime on this machine serves \"nginx:1\"; known are"},
        {"\"containers\":[{\"name\":\"c\",\"image\":\"host\"}]",
         "containers[0].command: the image \"host\" has no command of its own"},
        {"\"containers\":[{\"name\":\"c\",\"image\":\"host\",\"args\":[\"ls\"]}]", NULL},
        {"\"containers\":[{\"name\":\"c\",\"image\":\"vllm/vllm-openai:v1\"}]", NULL},
        {"\"containers\":[{\"name\":\"c\",\"image\":\"inferd/engine\",\"stdin\":true}]",
         "containers[0].stdin has no effect"},
        {"\"containers\":[{\"name\":\"c\",\"image\":\"host\",\"command\":[\"ls\"]}],\"volumes\":[{"
         "\"name\":\"v\","
         "\"hostPath\":{\"path\":\"/\"}}]",
         "volumes[0] \"v\" is not mounted: "},
        {"\"containers\":[{\"name\":\"c\",\"image\":\"host\",\"command\":[\"ls\"]}],\"volumes\":[{"
         "\"name\":\"v\","
         "\"projected\":{\"sources\":[{\"serviceAccountToken\":{\"path\":\"t\"}}]}}]",
         NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        AUTO_FREE char *pod = mem_printf("{\"spec\":{%s}}", rows[i].spec);
        AUTO_FREE char *deployment = mem_printf(
            "{\"spec\":{\"selector\":{\"matchLabels\":{\"a\":\"1\"}},\"template\":{\"metadata\":"
            "{\"labels\":{\"a\":\"1\"}},\"spec\":{%s}}}}",
            rows[i].spec);
        json_t *p = parse(pod), *d = parse(deployment), *warnings = json_array();
        assert_int_equal(admit("pods", p, NULL, warnings, &err), OK);
        assert_int_equal(admit("deployments", d, NULL, warnings, &err), OK);
        assert_int_equal(json_array_size(warnings), rows[i].warning ? 2 : 0);
        if (rows[i].warning && !warned(warnings, rows[i].warning))
            fail_msg("%s: not told", rows[i].warning);
        json_array_clear(warnings); /* who changes something else is not told again */
        assert_int_equal(admit("pods", p, p, warnings, &err), OK);
        assert_int_equal(admit("deployments", d, d, warnings, &err), OK);
        assert_int_equal(json_array_size(warnings), 0);
        json_decref(warnings);
        json_decref(d);
        json_decref(p);
    }
}

static void what_a_pod_holds_is_written_by_the_scheduler_alone(void **state) {
    static const char *const names[] = {"inferd.io/devices", "inferd.io/memory"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct error err = ERROR_INIT;
        json_t *warnings = json_array();
        AUTO_FREE char *text = mem_printf("{\"metadata\":{\"annotations\":{\"%s\":\"{}\",\"a\":"
                                          "\"b\"}},\"spec\":{\"containers\":[{\"image\":"
                                          "\"inferd/engine\"}]}}",
                                          names[i]);
        AUTO_FREE char *field = mem_printf("metadata.annotations[%s]", names[i]);
        json_t *holds = parse(text), *pod = parse(text);
        json_t *annotations = object_at(pod, "metadata.annotations");
        assert_int_equal(admit("pods", pod, holds, warnings, &err), OK);
        json_object_set_new(annotations, names[i], json_string("{\"nvidia.com/gpu\":[\"GPU-0\"]}"));
        assert_int_equal(admit("pods", pod, holds, warnings, &err), ERR_INVALID);
        assert_string_equal(err.field, field);
        assert_non_null(strstr(err.text, "GPU-0\"]}\": field is immutable"));
        json_object_del(annotations, names[i]);
        assert_int_equal(admit("pods", pod, holds, warnings, &err), ERR_INVALID);
        assert_int_equal(admit("pods", holds, pod, warnings, &err), ERR_INVALID);
        assert_int_equal(json_array_size(warnings), 0);
        /* A copy of a pod begins without. */
        assert_int_equal(admit("pods", holds, NULL, warnings, &err), OK);
        assert_true(warned(warnings, field));
        assert_null(object_annotation(holds, names[i]));
        assert_string_equal(object_annotation(holds, "a"), "b");
        json_decref(pod);
        json_decref(holds);
        json_decref(warnings);
    }
}

static void kserves_samples_are_admitted(void **state) {
    static const char *const folders[] = {"samples", "samples-docs"};
    const char *shared = getenv("INFERD_SHARED");
    int num = 0;
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        AUTO_FREE char *dir = mem_printf("%s/data/kserve/%s/InferenceService",
                                         shared ? shared : "../shared", folders[i]);
        DIR *d = opendir(dir);
        if (!d) {
            print_message("skipped, absent: %s\n", dir);
            skip();
        }
        for (struct dirent *e; (e = readdir(d));) {
            AUTO_FREE char *path = mem_printf("%s/%s", dir, e->d_name);
            if (strstr(e->d_name, ".yaml"))
                num += admit_file(path);
        }
        closedir(d);
    }
    assert_true(num > 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_out_of_bounds_are_refused_by_field),
        cmocka_unit_test(names_that_make_no_host_name_are_refused),
        cmocka_unit_test(fields_without_effect_are_told),
        cmocka_unit_test(a_plain_service_is_accepted_in_silence_and_its_container_named),
        cmocka_unit_test(deployments_must_select_their_own_pods),
        cmocka_unit_test(what_a_pod_asks_for_in_vain_is_told),
        cmocka_unit_test(what_a_pod_holds_is_written_by_the_scheduler_alone),
        cmocka_unit_test(kserves_samples_are_admitted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
