#include "core/model/model_ref.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define HEX "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

static const char *or_none(const char *text) {
    return text ? text : "none";
}

static void references_are_taken_apart(void **state) {
    static const struct {
        const char *text;
        enum model_scheme scheme;
        const char *place, *path, *revision, *url, *sha256;
    } rows[] = {
        {"hf://org/name", MODEL_HUB, "org/name", "none", "main", "none", "none"},
        {"hf://org/name:v1.0", MODEL_HUB, "org/name", "none", "v1.0", "none", "none"},
        {"hf://org/name/q4.gguf", MODEL_HUB, "org/name", "q4.gguf", "main", "none", "none"},
        {"hf://org/name:abc/sub/q4.gguf", MODEL_HUB, "org/name", "sub/q4.gguf", "abc", "none",
         "none"},
        {"https://h/a.gguf?sha256=" HEX, MODEL_HTTP, "none", "none", "none", "https://h/a.gguf",
         HEX},
        {"https://h:8/a?b=c&sha256=" HEX "&d=e", MODEL_HTTP, "none", "none", "none",
         "https://h:8/a?b=c&d=e", HEX},
        {"https://h/a?sha256=" HEX "&d=e", MODEL_HTTP, "none", "none", "none", "https://h/a?d=e",
         HEX},
        {"http://h/a.gguf#sha256=" HEX, MODEL_HTTP, "none", "none", "none", "http://h/a.gguf", HEX},
        {"http://h/a?mysha256=" HEX, MODEL_HTTP, "none", "none", "none", "http://h/a?mysha256=" HEX,
         "none"},
        {"s3://b/models/x/", MODEL_S3, "b", "models/x", "none", "none", "none"},
        {"s3://b", MODEL_S3, "b", "", "none", "none", "none"},
        {"gs://b/x", MODEL_GS, "b", "x", "none", "none", "none"},
        {"https://acc.blob.core.windows.net/c/p/q?sv=1", MODEL_AZURE, "c", "p/q", "none",
         "https://acc.blob.core.windows.net/c/p/q?sv=1", "none"},
        {"oci://r:5000/a/b:t", MODEL_OCI, "r:5000", "a/b", "t", "none", "none"},
        {"oci://r/a", MODEL_OCI, "r", "a", "latest", "none", "none"},
        {"oci://r/a@sha256:" HEX, MODEL_OCI, "r", "a", "sha256:" HEX, "none", "none"},
        {"file:///srv/x", MODEL_FILE, "none", "/srv/x", "none", "none", "none"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct model_ref r;
        struct error err = ERROR_INIT;
        if (model_ref_parse(rows[i].text, &r, &err))
            fail_msg("%s: %s", rows[i].text, err.text);
        assert_string_equal(r.text, rows[i].text);
        assert_int_equal(r.scheme, rows[i].scheme);
        assert_string_equal(or_none(r.place), rows[i].place);
        assert_string_equal(or_none(r.path), rows[i].path);
        assert_string_equal(or_none(r.revision), rows[i].revision);
        assert_string_equal(or_none(r.url), rows[i].url);
        assert_string_equal(or_none(r.sha256), rows[i].sha256);
        model_ref_deinit(&r);
    }
}

static void bad_references_say_what_is_expected(void **state) {
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"hf://name", "hf://ORG/NAME"},
        {"hf://org/..", "hf://ORG/NAME"},
        {"hf://org/name/../x", "a file within the repository"},
        {"hf://org/name:", "hf://ORG/NAME"},
        {"https:///x", "https://HOST/PATH"},
        {"https://user:pass@h/x", "come from a Secret"},
        {"https://h", "a path behind the host"},
        {"https://h/x?sha256=12", "64 hexadecimal digits"},
        {"https://h/a b", "no spaces"},
        {"s3:///x", "s3://BUCKET[/PREFIX]"},
        {"s3://bucket/a/../b", "s3://BUCKET[/PREFIX]"},
        {"gs:///x", "gs://BUCKET[/PREFIX]"},
        {"oci://r", "oci://REGISTRY/REPOSITORY"},
        {"oci://r/a@sha256:12", "oci://REGISTRY/REPOSITORY"},
        {"oci://r/a//b", "oci://REGISTRY/REPOSITORY"},
        {"file://x", "file:///PATH"},
        {"", "1 to 2048 bytes"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct model_ref r;
        struct error err = ERROR_INIT;
        assert_int_equal(model_ref_parse(rows[i].text, &r, &err), ERR_INVALID);
        if (!strstr(err.text, rows[i].says) || !strstr(err.text, rows[i].text))
            fail_msg("%s: %s", rows[i].text, err.text);
    }
    struct model_ref r;
    struct error err = ERROR_INIT;
    char *longest = mem_alloc(MODEL_REF_BYTES_MAX + 2);
    memset(longest, 'a', MODEL_REF_BYTES_MAX + 1);
    memcpy(longest, "hf://a/", 7);
    assert_int_equal(model_ref_parse(longest, &r, &err), ERR_INVALID);
    longest[MODEL_REF_BYTES_MAX] = '\0';
    assert_int_equal(model_ref_parse(longest, &r, &err), OK);
    model_ref_deinit(&r);
    free(longest);
}

static void what_is_not_elsewhere_is_not_found(void **state) {
    static const char *const texts[] = {"/srv/x",       "x",         "org/name", "pvc://a/b",
                                        "embedded://x", "hdfs://a/b"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct model_ref r;
        struct error err = ERROR_INIT;
        assert_int_equal(model_ref_parse(texts[i], &r, &err), ERR_NOT_FOUND);
        assert_false(model_ref_is_remote(texts[i]));
    }
    assert_true(model_ref_is_remote("oci://r/a"));
}

static void names_of_files_stay_within(void **state) {
    static const char *const good[] = {"a", "a/b.gguf", "..a", "a..", "a/..b/c", ".gitattributes"};
    static const char *const bad[] = {"",     "/a",    "a/",       "a//b", "..",    "a/..",
                                      "../a", "a/./b", "a\\..\\b", "a\n",  "a/../b"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_true(model_ref_path_ok(good[i]));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(model_ref_path_ok(bad[i]));
    char deep[2 * MODEL_FILE_PATH_PARTS_MAX + 2];
    for (size_t i = 0; i <= MODEL_FILE_PATH_PARTS_MAX; i++)
        memcpy(deep + 2 * i, "a/", 2);
    deep[2 * MODEL_FILE_PATH_PARTS_MAX + 1] = '\0';
    assert_false(model_ref_path_ok(deep));
    deep[2 * MODEL_FILE_PATH_PARTS_MAX - 1] = '\0';
    assert_true(model_ref_path_ok(deep));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(references_are_taken_apart),
        cmocka_unit_test(bad_references_say_what_is_expected),
        cmocka_unit_test(what_is_not_elsewhere_is_not_found),
        cmocka_unit_test(names_of_files_stay_within),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
