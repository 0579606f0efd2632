/* Patches: a document and a patch, a line each. An array is a JSON patch; anything else is a merge
 * patch and, of objects, a strategic merge patch of a Deployment too.
 *
 * Promises: the document is left alone; a merge patch applied twice does what it did once; a patch
 * made of the difference leads to the same result; an empty strategic patch changes nothing. */
#include "kube-compat/patch.h"
#include "tests/fuzz/fuzz.h"

/* Gives the merge patch from one value to another. */
static json_t *difference(const json_t *from, const json_t *to) {
    if (!json_is_object(from) || !json_is_object(to))
        return json_deep_copy(to);
    json_t *patch = json_object();
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)(uintptr_t)from, key, value) {
        json_t *after = json_object_get(to, key);
        if (!after)
            json_object_set_new(patch, key, json_null());
        else if (!json_equal(value, after))
            json_object_set_new(patch, key, difference(value, after));
    }
    json_object_foreach ((json_t *)(uintptr_t)to, key, value) {
        if (!json_object_get(from, key))
            json_object_set_new(patch, key, json_deep_copy(value));
    }
    return patch;
}

/* A merge patch cannot say null. */
static bool has_null_member(const json_t *v) {
    const char *key;
    json_t *member;
    json_object_foreach ((json_t *)(uintptr_t)v, key, member) {
        if (json_is_null(member) || has_null_member(member))
            return true;
    }
    return false;
}

static void merge(const json_t *doc, const json_t *patch) {
    json_t *once = patch_merge(doc, patch), *twice = patch_merge(once, patch);
    ASSERT(once && twice);
    fuzz_expect_text(once);
    fuzz_expect_same(twice, once, "a merge patch applied twice does what it did once");
    if (!has_null_member(once)) {
        json_t *short_way = difference(doc, once), *same = patch_merge(doc, short_way);
        fuzz_expect_same(same, once, "the difference leads to the same result");
        json_decref(same);
        json_decref(short_way);
    }
    json_decref(twice);
    json_decref(once);
}

static void strategic(const json_t *doc, const json_t *patch) {
    const struct schema *s = fuzz_schema("apps", "v1", "deployments");
    struct error err = ERROR_INIT;
    json_t *got = NULL, *same = NULL, *nothing = json_object();
    if (!patch_strategic(s, doc, patch, &got, &err))
        fuzz_expect_text(got);
    else
        ASSERT(err.code && err.text[0] && !got);
    ASSERT(!patch_strategic(s, doc, nothing, &same, &err));
    fuzz_expect_same(same, doc, "an empty strategic patch changes nothing");
    json_decref(nothing);
    json_decref(same);
    json_decref(got);
}

static void operations(const json_t *doc, const json_t *patch) {
    struct error err = ERROR_INIT;
    json_t *got = NULL, *same = NULL;
    if (patch_json(doc, patch, &got, &err)) {
        ASSERT(err.code && err.text[0] && !got);
        return;
    }
    fuzz_expect_text(got);
    json_t *test = json_pack("[{s:s, s:s, s:O}]", "op", "test", "path", "", "value", got);
    ASSERT(!patch_json(got, test, &same, &err));
    fuzz_expect_same(same, got, "a test changes nothing");
    json_decref(test);
    json_decref(same);
    json_decref(got);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_parts p;
    fuzz_parts_init(&p, 2, data, size);
    json_t *doc = fuzz_json(p.text[0], p.len[0]), *patch = fuzz_json(p.text[1], p.len[1]);
    if (doc && patch) {
        json_t *before = json_deep_copy(doc);
        if (json_is_array(patch))
            operations(doc, patch);
        merge(doc, patch);
        if (json_is_object(doc) && json_is_object(patch))
            strategic(doc, patch);
        fuzz_expect_same(doc, before, "the document is left alone");
        json_decref(before);
    }
    json_decref(patch);
    json_decref(doc);
    fuzz_parts_deinit(&p);
    return 0;
}
