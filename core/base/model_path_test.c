/* Model references: each form finds its place, and what is missing is said in full. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/model_path.h"

static char root[] = "/tmp/inferd-model-path-XXXXXX";

static void put(const char *relative) {
    AUTO_FREE char *path = mem_printf("%s/%s", root, relative);
    for (char *p = path + strlen(root) + 1; (p = strchr(p, '/')); p++) {
        *p = '\0';
        mkdir(path, 0700);
        *p = '/';
    }
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("abc123\n", f);
    fclose(f);
}

static int make_tree(void **state) {
    assert_non_null(mkdtemp(root));
    put("models/org/dir/config.json");
    put("models/one.gguf");
    put("models/claim/sub/model.gguf");
    put("hub/models--meta--llama/refs/main");
    put("hub/models--meta--llama/snapshots/abc123/config.json");
    return 0;
}

static int remove_tree(void **state) {
    AUTO_FREE char *command = mem_printf("rm -rf '%s'", root);
    return system(command);
}

static void expect_path(const char *reference, const char *relative) {
    AUTO_FREE char *models = mem_printf("%s/models", root);
    AUTO_FREE char *hub = mem_printf("%s/hub", root);
    struct model_path_options opt = {.models_dir = models, .hf_cache_dir = hub};
    struct error err = ERROR_INIT;
    AUTO_FREE char *path = NULL;
    if (model_path_resolve(reference, &opt, &path, &err))
        fail_msg("%s: %s", reference, err.text);
    AUTO_FREE char *expected = mem_printf("%s/%s", root, relative);
    assert_string_equal(path, expected);
}

static void each_form_finds_its_place(void **state) {
    expect_path("hf://org/dir", "models/org/dir");
    expect_path("org/dir", "models/org/dir");
    expect_path("any/one", "models/one.gguf");
    expect_path("one", "models/one.gguf");
    expect_path("pvc://claim/sub", "models/claim/sub/model.gguf");
    expect_path("pvc://other/claim/sub", "models/claim/sub/model.gguf");
    expect_path("hf://meta/llama", "hub/models--meta--llama/snapshots/abc123");
    expect_path("meta/llama:abc123", "hub/models--meta--llama/snapshots/abc123");
}

static void embedded_models_need_no_file(void **state) {
    struct model_path_options opt = {0};
    struct error err = ERROR_INIT;
    AUTO_FREE char *path = NULL;
    assert_int_equal(model_path_resolve("embedded://demo-chat", &opt, &path, &err), OK);
    assert_string_equal(path, "embedded://demo-chat");
}

static void expect_error(const char *reference, enum errc code, const char *part) {
    AUTO_FREE char *models = mem_printf("%s/models", root);
    struct model_path_options opt = {.models_dir = models, .hf_cache_dir = root};
    struct error err = ERROR_INIT;
    AUTO_FREE char *path = NULL;
    assert_int_equal(model_path_resolve(reference, &opt, &path, &err), code);
    if (!strstr(err.text, part))
        fail_msg("\"%s\" does not say \"%s\"", err.text, part);
}

static void what_is_missing_is_said_with_every_place(void **state) {
    expect_error("hf://no/where", ERR_NOT_FOUND, "models/no/where.gguf");
    expect_error("hf://no/where", ERR_NOT_FOUND, "models--no--where/snapshots/main");
    expect_error("s3://bucket/x", ERR_INVALID, "one of file://");
    expect_error("pvc://a/../../etc", ERR_INVALID, "..");
    expect_error("", ERR_INVALID, "empty");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_form_finds_its_place),
        cmocka_unit_test(embedded_models_need_no_file),
        cmocka_unit_test(what_is_missing_is_said_with_every_place),
    };
    return cmocka_run_group_tests(tests, make_tree, remove_tree);
}
