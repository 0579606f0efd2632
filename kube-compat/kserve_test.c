/* Every KServe manifest of the samples: what fits the CRD's schema fits ours, what does not is
 * refused, and nothing that was given is lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "core/base/yaml.h"
#include "core/object.h"
#include "kube-compat/kinds.h"
#include "kube-compat/test_data.h"
#include "kube-compat/validate.h"

static struct kinds *kinds;

static int load(void **state) {
    struct error err = ERROR_INIT;
    if (kinds_create(&kinds, &err))
        fail_msg("%s", err.text);
    return 0;
}

static int unload(void **state) {
    kinds_unref(kinds);
    return 0;
}

static const struct kind *kind_of(const json_t *object) {
    const char *api_version = object_str(object, "apiVersion"), *kind = object_str(object, "kind");
    for (size_t i = 0; i < kinds_count(kinds); i++) {
        const struct kind *k = kinds_at(kinds, i);
        if (api_version && kind && !strcmp(k->api_version, api_version) && !strcmp(k->kind, kind))
            return k;
    }
    return NULL;
}

static json_t *read_document(const char *file, size_t index) {
    char name[512], path[1024];
    snprintf(name, sizeof(name), "data/kserve/%s", file);
    FILE *f = fopen(test_data_path(name, path), "rb");
    if (!f)
        return NULL;
    AUTO_BUF text = BUF_INIT;
    char chunk[4096];
    for (size_t n; (n = fread(chunk, 1, sizeof(chunk), f)) > 0;)
        buf_append(&text, chunk, n);
    fclose(f);
    json_t *docs = NULL;
    struct error err = ERROR_INIT;
    if (yaml_parse_all(text.data, text.len, &docs, &err))
        fail_msg("%s: %s", file, err.text);
    json_t *doc = json_incref(json_array_get(docs, index));
    json_decref(docs);
    return doc;
}

/* Is there a cause or unknown field at a JSON pointer like /spec/predictor/x? */
static void check_document(const json_t *expect, json_t *doc, const struct kind *kind) {
    const char *file = object_str(expect, "file");
    struct schema_findings found = {.unknown = json_array(), .causes = json_array(), .nulls = true};
    defaults_apply(kind, doc, NULL);
    schema_check(kind->schema, doc, &found);
    bool fits = json_array_size(found.causes) == 0;
    if (fits != object_bool(expect, "fits_schema", true))
        fail_msg("%s: %s: %s", file, fits ? "fits" : "does not fit",
                 json_dumps(found.causes, JSON_COMPACT));
    /* The list of the file names the outermost unknown field of each branch, as ours does. */
    const json_t *unknown = json_object_get(expect, "unknown_fields");
    bool known = !json_array_size(found.unknown);
    if (known != !json_array_size(unknown))
        fail_msg("%s: unknown fields: %s", file, json_dumps(found.unknown, JSON_COMPACT));
    if (known && fits) {
        json_t *pruned = json_deep_copy(doc);
        schema_prune(kind->schema, pruned, true);
        if (!json_equal(pruned, doc))
            fail_msg("%s: pruning lost something", file);
        json_decref(pruned);
    }
    json_decref(found.unknown);
    json_decref(found.causes);
}

static void samples_are_told_apart(void **state) {
    json_t *list = test_data_json("data/kserve/validation.json");
    size_t i, num = 0;
    json_t *expect;
    json_array_foreach (list, i, expect) {
        json_t *doc =
            read_document(object_str(expect, "file"), (size_t)object_int(expect, "document", 0));
        const struct kind *kind = kind_of(doc);
        if (kind && !json_object_get(expect, "schema")) {
            check_document(expect, doc, kind);
            num++;
        }
        json_decref(doc);
    }
    assert_true(num > 90);
    json_decref(list);
}

static json_t *check(const char *yaml, const char *plural, bool want_causes) {
    json_t *doc;
    struct error err = ERROR_INIT;
    assert_int_equal(yaml_parse(yaml, strlen(yaml), &doc, &err), OK);
    struct schema_findings found = {.unknown = json_array(), .causes = json_array()};
    schema_check(kinds_find(kinds, "serving.kserve.io", "v1beta1", plural)->schema, doc, &found);
    json_decref(doc);
    json_decref(want_causes ? found.unknown : found.causes);
    return want_causes ? found.causes : found.unknown;
}

static void mistakes_are_named_with_path_value_and_type(void **state) {
    json_t *causes = check("spec: {predictor: {minReplicas: one, model: {modelFormat: {}}}}",
                           "inferenceservices", true);
    assert_int_equal(json_array_size(causes), 2);
    assert_string_equal(object_str(json_array_get(causes, 0), "field"),
                        "spec.predictor.minReplicas");
    assert_non_null(strstr(object_str(json_array_get(causes, 0), "message"), "\"one\""));
    assert_non_null(strstr(object_str(json_array_get(causes, 0), "message"), "integer"));
    assert_string_equal(object_str(json_array_get(causes, 1), "field"),
                        "spec.predictor.model.modelFormat.name");
    json_decref(causes);
    json_t *unknown = check("spec: {predictor: {model: {storageURI: x}}, predictr: {}}",
                            "inferenceservices", false);
    assert_int_equal(json_array_size(unknown), 2);
    assert_string_equal(json_string_value(json_array_get(unknown, 0)),
                        "spec.predictor.model.storageURI");
    assert_string_equal(json_string_value(json_array_get(unknown, 1)), "spec.predictr");
    json_decref(unknown);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_are_told_apart),
        cmocka_unit_test(mistakes_are_named_with_path_value_and_type),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
