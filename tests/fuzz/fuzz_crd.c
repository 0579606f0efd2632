/* Users' kinds: the schema of a definition, an object of it, and a JSONPath of a printer column, a
 * line each.
 *
 * Promises: a definition is read, or refused with a cause; pruning and defaulting, done twice, do
 * what they did once; after pruning no field is unknown; a path that parses finds parts. */
#include "kube-compat/crd.h"

#include "kube-compat/json_path.h"
#include "tests/fuzz/fuzz.h"

static json_t *definition_of(const json_t *schema) {
    return json_pack("{s:s, s:s, s:{s:s, s:s, s:i}, s:{s:s, s:s, s:{s:s, s:s},"
                     " s:[{s:s, s:b, s:b, s:{s:O}}]}}",
                     "apiVersion", "apiextensions.k8s.io/v1", "kind", "CustomResourceDefinition",
                     "metadata", "name", "widgets.example.com", "uid", "u", "generation", 1, "spec",
                     "group", "example.com", "scope", "Namespaced", "names", "plural", "widgets",
                     "kind", "Widget", "versions", "name", "v1", "served", 1, "storage", 1,
                     "schema", "openAPIV3Schema", (json_t *)(uintptr_t)schema);
}

static void check_object(const struct schema *s, json_t *object) {
    json_t *causes = json_array(), *unknown = json_array(), *none = json_array();
    schema_prune(s, object, true);
    json_t *pruned = json_deep_copy(object);
    schema_prune(s, object, true);
    fuzz_expect_same(object, pruned, "pruning twice is pruning once");
    struct schema_findings f = {.causes = causes, .unknown = unknown, .nulls = true};
    schema_check(s, object, &f);
    fuzz_expect_same(unknown, none, "after pruning no field is unknown");
    ASSERT(json_array_size(causes) <= SCHEMA_FINDINGS_MAX);
    schema_default(s, object);
    json_t *filled = json_deep_copy(object);
    schema_default(s, object);
    fuzz_expect_same(object, filled, "defaulting twice is defaulting once");
    fuzz_expect_text(object);
    json_decref(filled);
    json_decref(pruned);
    json_decref(none);
    json_decref(unknown);
    json_decref(causes);
}

static void check_definition(const json_t *schema, json_t *object) {
    json_t *definition = definition_of(schema), *causes = json_array(), *warnings = json_array();
    struct error err = ERROR_INIT;
    AUTO(crd) crd = NULL;
    crd_default(definition);
    crd_check(definition, NULL, causes);
    size_t before = json_array_size(causes);
    enum errc code = crd_read(definition, kinds_types(fuzz_kinds()), causes, warnings, &crd, &err);
    ASSERT(code == OK || (err.text[0] && json_array_size(causes)));
    if (!code && !before && object)
        check_object(crd_kind(crd, 0)->schema, object);
    json_decref(warnings);
    json_decref(causes);
    json_decref(definition);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_parts p;
    fuzz_parts_init(&p, 3, data, size);
    json_t *schema = fuzz_json(p.text[0], p.len[0]), *object = fuzz_json(p.text[1], p.len[1]);
    json_t *found = json_array();
    (void)json_path_find(object ? object : schema, p.text[2], found);
    ASSERT(json_array_size(found) <= JSON_PATH_RESULTS_MAX);
    json_decref(found);
    if (schema)
        check_definition(schema, json_is_object(object) ? object : NULL);
    json_decref(object);
    json_decref(schema);
    fuzz_parts_deinit(&p);
    return 0;
}
