/* Patches against the published suites: RFC 7386's table, the json-patch-tests project's cases, and
 * Kubernetes' own strategic merge cases. */
#include "kube-compat/patch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "kube-compat/test_data.h"

static json_t *parse(const char *text) {
    json_t *v = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(v);
    return v;
}

static void expect_equal(const json_t *got, const json_t *want, const char *what) {
    if (json_equal(got, want))
        return;
    char *g = json_dumps(got, JSON_ENCODE_ANY | JSON_SORT_KEYS);
    char *w = json_dumps(want, JSON_ENCODE_ANY | JSON_SORT_KEYS);
    fail_msg("%s:\n got  %s\n want %s", what, g, w);
}

static void merge_patch_follows_rfc_7386(void **state) {
    json_t *cases = test_data_json("data/conformance/json-merge-patch/rfc7396.json");
    size_t i;
    json_t *c;
    json_array_foreach (cases, i, c) {
        json_t *got = patch_merge(json_object_get(c, "original"), json_object_get(c, "patch"));
        expect_equal(got, json_object_get(c, "result"), "merge patch");
        json_decref(got);
    }
    assert_true(i > 10);
    json_decref(cases);
}

static void run_json_patch_file(const char *name) {
    json_t *cases = test_data_json(name);
    size_t i, num = 0;
    json_t *c;
    json_array_foreach (cases, i, c) {
        json_t *patch = json_object_get(c, "patch"), *doc = json_object_get(c, "doc");
        if (json_is_true(json_object_get(c, "disabled")) || !patch)
            continue;
        const char *comment = json_string_value(json_object_get(c, "comment"));
        json_t *before = json_deep_copy(doc), *got = NULL;
        struct error err = ERROR_INIT;
        enum errc code = patch_json(doc, patch, &got, &err);
        if (json_object_get(c, "error")) {
            if (!code)
                fail_msg("%s: %s: case %zu applied", name, comment, i);
        } else {
            if (code)
                fail_msg("%s: %s: case %zu: %s", name, comment, i, err.text);
            if (json_object_get(c, "expected"))
                expect_equal(got, json_object_get(c, "expected"), comment ? comment : "case");
        }
        expect_equal(doc, before, "the document that was patched");
        json_decref(before);
        json_decref(got);
        num++;
    }
    assert_true(num >= 9);
    json_decref(cases);
}

static void json_patch_follows_rfc_6902(void **state) {
    run_json_patch_file("data/conformance/json-patch/tests.json");
    run_json_patch_file("data/conformance/json-patch/spec_tests.json");
}

static void json_patch_is_bounded(void **state) {
    json_t *doc = parse("{\"a\":[1]}"), *got = NULL, *many = json_array();
    struct error err = ERROR_INIT;
    for (int i = 0; i <= PATCH_OPERATIONS_MAX; i++)
        json_array_append_new(many,
                              json_pack("{s:s, s:s, s:i}", "op", "add", "path", "/b", "value", 1));
    assert_int_equal(patch_json(doc, many, &got, &err), ERR_TOO_LARGE);
    json_decref(many);
    /* Each copy doubles the document. */
    json_t *bomb = json_array();
    for (int i = 0; i < 60; i++)
        json_array_append_new(
            bomb, json_pack("{s:s, s:s, s:s}", "op", "copy", "from", "/a", "path", "/a/0"));
    assert_int_equal(patch_json(doc, bomb, &got, &err), ERR_INVALID);
    json_decref(bomb);
    json_decref(doc);
}

/* Kubernetes' made-up type for these cases, in the notation of our tables. */
static const char merge_item_types[] =
    "test.v1.MergeItem\n"
    "  0 name any\n"
    "  0 value any\n"
    "  0 other any\n"
    "  0 mergingList []MergeItem merge=name\n"
    "  0 nonMergingList []MergeItem\n"
    "  0 mergingIntList []int64 set\n"
    "  0 nonMergingIntList []int64\n"
    "  0 mergeItemPtr []MergeItem merge=name\n"
    "  0 simpleMap {}any\n"
    "  0 replacingItem any\n"
    "  0 retainKeysMap RetainKeysMergeItem\n"
    "  0 retainKeysMergingList []MergeItem merge=name retainKeys\n"
    "test.v1.RetainKeysMergeItem\n"
    "  0 name any\n"
    "  0 value any\n"
    "  0 other any\n"
    "  0 simpleMap {}any\n"
    "  0 mergingList []MergeItem merge=name\n"
    "  0 nonMergingList []MergeItem\n"
    "  0 mergingIntList []int64 set\n";

static struct schema_types *merge_item(const struct schema **ret_schema) {
    struct schema_types *t = NULL;
    struct error err = ERROR_INIT;
    const struct schema_table table = {"test", merge_item_types, sizeof(merge_item_types) - 1};
    if (schema_types_create(&table, 1, &t, &err))
        fail_msg("%s", err.text);
    *ret_schema = schema_types_find(t, "test.v1.MergeItem");
    return t;
}

/* Keys are written in either case in the file. */
static json_t *either(const json_t *c, const char *upper, const char *lower) {
    json_t *v = json_object_get(c, upper);
    return v ? v : json_object_get(c, lower);
}

static int run_strategic(const struct schema *s, const json_t *doc, const json_t *patch,
                         const json_t *want, const json_t *error, const char *what) {
    if (!json_is_object(doc) || !json_is_object(patch))
        return 0;
    json_t *got = NULL;
    struct error err = ERROR_INIT;
    enum errc code = patch_strategic(s, doc, patch, &got, &err);
    if (error) {
        assert_int_not_equal(code, OK);
        return 1;
    }
    if (code)
        fail_msg("%s: %s", what, err.text);
    expect_equal(got, want, what);
    json_decref(got);
    return 1;
}

static void strategic_merge_follows_the_reference_cases(void **state) {
    json_t *cases = test_data_json("data/api/kubernetes/strategic-merge-patch/cases.json");
    const struct schema *s;
    struct schema_types *types = merge_item(&s);
    int num = 0;
    size_t i;
    json_t *c;
    json_array_foreach (cases, i, c) {
        const char *set = json_string_value(json_object_get(c, "set"));
        /* These compare after sorting, and what they patch is not what they print. */
        if (!strncmp(set, "sort", 4) || !strncmp(set, "replaceRaw", 10))
            continue;
        const char *what = json_string_value(json_object_get(c, "description"));
        const json_t *error = json_object_get(c, "ExpectedError");
        json_t *modified = either(c, "Modified", "modified");
        json_t *result = either(c, "TwoWayResult", "twoWayResult");
        num += run_strategic(s, either(c, "Original", "original"), either(c, "TwoWay", "twoWay"),
                             result ? result : modified, error, what);
        /* The reference's order here comes from a slice that it overwrites while reading it. */
        if (!strcmp(what, "add map and delete map from merging list"))
            continue;
        num += run_strategic(s, either(c, "Current", "current"), either(c, "ThreeWay", "threeWay"),
                             either(c, "Result", "result"), error, what);
    }
    assert_true(num > 60);
    schema_types_destroy(types);
    json_decref(cases);
}

static void new_items_come_before_those_the_patch_does_not_name(void **state) {
    const struct schema *s;
    struct schema_types *types = merge_item(&s);
    json_t *doc = parse("{\"mergingList\":[{\"name\":\"a\"},{\"name\":\"b\"}]}");
    json_t *patch = parse("{\"mergingList\":[{\"name\":\"n\"}]}");
    json_t *want = parse("{\"mergingList\":[{\"name\":\"n\"},{\"name\":\"a\"},{\"name\":\"b\"}]}");
    run_strategic(s, doc, patch, want, NULL, "order");
    json_decref(doc);
    json_decref(patch);
    json_decref(want);
    schema_types_destroy(types);
}

/* Random documents out of the words that mean something to a patch. */
static json_t *random_json(uint32_t *seed, int depth) {
    static const char *const keys[] = {"name",
                                       "mergingList",
                                       "mergingIntList",
                                       "simpleMap",
                                       "retainKeysMap",
                                       "$patch",
                                       "$retainKeys",
                                       "$setElementOrder/mergingList",
                                       "$setElementOrder/mergingIntList",
                                       "$deleteFromPrimitiveList/mergingIntList",
                                       "$setElementOrder/name",
                                       "op",
                                       "path",
                                       "from",
                                       "value"};
    static const char *const texts[] = {"delete", "replace", "merge", "a",    "add",
                                        "remove", "copy",    "/a",    "/a/0", ""};
    *seed = *seed * 1664525 + 1013904223;
    uint32_t r = *seed >> 8;
    uint32_t choice = r % (depth > 0 ? 6 : 4), num = r / 8 % 4;
    if (choice == 0)
        return json_integer(r / 64 % 3);
    if (choice == 1)
        return json_null();
    if (choice < 4)
        return json_string(texts[r / 64 % ARRAY_LEN(texts)]);
    json_t *v = choice == 4 ? json_array() : json_object();
    for (uint32_t i = 0; i < num; i++) {
        json_t *member = random_json(seed, depth - 1);
        if (choice == 4)
            json_array_append_new(v, member);
        else
            json_object_set_new(v, keys[(*seed >> 10) % ARRAY_LEN(keys)], member);
    }
    return v;
}

static void any_patch_is_refused_or_applied(void **state) {
    const struct schema *s;
    struct schema_types *types = merge_item(&s);
    uint32_t seed = 3;
    size_t applied = 0;
    for (int i = 0; i < 20000; i++) {
        json_t *doc = random_json(&seed, 4), *patch = random_json(&seed, 4), *got = NULL;
        json_t *before = json_deep_copy(doc);
        struct error err = ERROR_INIT;
        if (json_is_object(doc) && !patch_strategic(s, doc, patch, &got, &err)) {
            applied++;
            json_decref(got);
        }
        if (!patch_json(doc, patch, &got, &err))
            json_decref(got);
        json_decref(patch_merge(doc, patch));
        assert_true(json_equal(doc, before));
        json_decref(before);
        json_decref(doc);
        json_decref(patch);
    }
    assert_true(applied > 100);
    schema_types_destroy(types);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merge_patch_follows_rfc_7386),
        cmocka_unit_test(json_patch_follows_rfc_6902),
        cmocka_unit_test(json_patch_is_bounded),
        cmocka_unit_test(strategic_merge_follows_the_reference_cases),
        cmocka_unit_test(any_patch_is_refused_or_applied),
        cmocka_unit_test(new_items_come_before_those_the_patch_does_not_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
