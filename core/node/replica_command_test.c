/* Containers of real manifests become commands, or say why they cannot. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/node/replica_command.h"

static char root[] = "/tmp/inferd-command-XXXXXX";

static int make_tree(void **state) {
    assert_non_null(mkdtemp(root));
    AUTO_FREE char *org = mem_printf("%s/meta-llama", root);
    AUTO_FREE char *model = mem_printf("%s/Llama-3.1-8B-Instruct.gguf", org);
    mkdir(org, 0700);
    FILE *f = fopen(model, "w");
    return f ? fclose(f) : -1;
}

static int remove_tree(void **state) {
    AUTO_FREE char *command = mem_printf("rm -rf '%s'", root);
    return system(command);
}

static enum errc make(const char *container, const char *source_uri, struct replica_command *c,
                      struct error *err) {
    json_error_t at;
    json_t *pod = json_pack("{s:{s:s},s:{s:[o]}}", "metadata", "uid", "u-1", "spec", "containers",
                            json_loads(container, 0, &at));
    assert_non_null(pod);
    if (source_uri)
        json_object_set_new(json_object_get(pod, "metadata"), "annotations",
                            json_pack("{s:s}", REPLICA_SOURCE_URI_ANNOTATION, source_uri));
    struct replica_command_options opt = {.program = "/usr/bin/inferd",
                                          .run_dir = "/run/inferd",
                                          .models = {.models_dir = root, .hf_cache_dir = root}};
    enum errc rc = replica_command_make(pod, &opt, c, err);
    json_decref(pod);
    return rc;
}

static void expect_argv(const struct replica_command *c, const char *expected) {
    char line[4096] = "";
    for (char **a = c->argv; *a; a++) {
        if (a != c->argv)
            strcat(line, " ");
        strcat(line, *a);
    }
    assert_string_equal(line, expected);
}

static void the_guides_manifest_becomes_a_command(void **state) {
    struct replica_command c;
    struct error err = ERROR_INIT;
    if (make("{\"image\":\"vllm/vllm-openai:latest\",\"args\":[\"--model\","
             "\"meta-llama/Llama-3.1-8B-Instruct\"]}",
             NULL, &c, &err))
        fail_msg("%s", err.text);
    assert_string_equal(c.model_reference, "meta-llama/Llama-3.1-8B-Instruct");
    assert_string_equal(c.served_names[0], "meta-llama/Llama-3.1-8B-Instruct");
    AUTO_FREE char *expected =
        mem_printf("/usr/bin/inferd engine --model meta-llama/Llama-3.1-8B-Instruct --model "
                   "%s/meta-llama/Llama-3.1-8B-Instruct.gguf --uds /run/inferd/u-1.sock "
                   "--served-model-name meta-llama/Llama-3.1-8B-Instruct",
                   root);
    expect_argv(&c, expected);
    replica_command_deinit(&c);
}

static void kserves_runtime_reads_the_storage_uri(void **state) {
    struct replica_command c;
    struct error err = ERROR_INIT;
    if (make("{\"image\":\"kserve/huggingfaceserver:v0.15\",\"command\":[\"python3\",\"-m\","
             "\"huggingfaceserver\"],\"args\":[\"--model_dir=/mnt/models\","
             "\"--model_name=$(NAME)\"],\"env\":[{\"name\":\"NAME\",\"value\":\"demo\"}]}",
             "embedded://demo-chat", &c, &err))
        fail_msg("%s", err.text);
    assert_string_equal(c.model_path, "embedded://demo-chat");
    assert_string_equal(c.served_names[0], "demo");
    assert_string_equal(c.env[0], "NAME=demo");
    expect_argv(&c, "/usr/bin/inferd engine --model_dir=/mnt/models --model_name=demo --model "
                    "embedded://demo-chat --uds /run/inferd/u-1.sock");
    replica_command_deinit(&c);
}

static void options_without_effect_become_warnings(void **state) {
    struct replica_command c;
    struct error err = ERROR_INIT;
    if (make("{\"image\":\"docker.io/vllm/vllm-openai@sha256:0\",\"command\":[\"vllm\",\"serve\"],"
             "\"args\":[\"embedded://demo-chat\",\"--gpu-memory-utilization=0.5\"]}",
             NULL, &c, &err))
        fail_msg("%s", err.text);
    assert_non_null(strstr(c.warnings[0], "--gpu-memory-utilization"));
    assert_null(c.warnings[1]);
    assert_string_equal(c.served_names[0], "demo-chat");
    replica_command_deinit(&c);
}

static void expect_error(const char *container, enum errc code, const char *part) {
    struct replica_command c;
    struct error err = ERROR_INIT;
    assert_int_equal(make(container, NULL, &c, &err), code);
    if (!strstr(err.text, part))
        fail_msg("\"%s\" does not say \"%s\"", err.text, part);
}

static void what_cannot_run_says_why(void **state) {
    expect_error("{\"image\":\"nginx:1\"}", ERR_INVALID, "serves \"nginx:1\"");
    expect_error("{\"image\":\"myvllm-openai\"}", ERR_INVALID, "known are vllm/vllm-openai");
    expect_error("{\"image\":\"vllm/vllm-openai\"}", ERR_INVALID, "no --model");
    expect_error("{\"image\":\"vllm/vllm-openai\",\"args\":[\"--model\",\"no/such\"]}",
                 ERR_NOT_FOUND, "no/such.gguf");
    expect_error("{\"image\":\"vllm/vllm-openai\",\"args\":[\"--quantization\",\"awq\"]}",
                 ERR_INVALID, "--quantization");
    expect_error("{\"image\":\"vllm/vllm-openai\",\"command\":[\"/bin/sh\",\"-c\",\"x\"]}",
                 ERR_INVALID, "shell line");
    expect_error("{\"image\":\"vllm/vllm-openai\",\"args\":[1]}", ERR_INVALID, "args[0]");
}

static void the_image_host_runs_its_command(void **state) {
    struct replica_command c;
    struct error err = ERROR_INIT;
    if (make("{\"image\":\"host\",\"command\":[\"sh\",\"-c\"],\"args\":[\"echo $(WHO)\"],"
             "\"workingDir\":\"/srv\",\"env\":[{\"name\":\"WHO\",\"value\":\"me\"}],"
             "\"resources\":{\"limits\":{\"memory\":\"1Gi\",\"cpu\":1}}}",
             NULL, &c, &err))
        fail_msg("%s", err.text);
    assert_true(c.host);
    assert_string_equal(strrchr(c.argv[0], '/'), "/sh"); /* found through PATH */
    assert_string_equal(c.argv[1], "-c");
    assert_string_equal(c.argv[2], "echo me");
    assert_null(c.argv[3]);
    assert_string_equal(c.env[0], "WHO=me");
    assert_string_equal(c.work_dir, "/srv");
    assert_null(c.uds_path);
    assert_non_null(strstr(c.warnings[0], "resources.limits.cpu: not enforced"));
    replica_command_deinit(&c);
    /* `kubectl run --image=host -- sh` gives args only. */
    if (make("{\"image\":\"host\",\"args\":[\"sh\"]}", NULL, &c, &err))
        fail_msg("%s", err.text);
    assert_string_equal(strrchr(c.argv[0], '/'), "/sh");
    replica_command_deinit(&c);
    expect_error("{\"image\":\"host\"}", ERR_INVALID, "command: Required value");
    expect_error("{\"image\":\"host\",\"command\":[\"ls\"],\"workingDir\":\"tmp\"}", ERR_INVALID,
                 "\"tmp\" is not an absolute path");
    expect_error("{\"image\":\"host:1\",\"command\":[\"ls\"]}", ERR_INVALID, "serves \"host:1\"");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_guides_manifest_becomes_a_command),
        cmocka_unit_test(kserves_runtime_reads_the_storage_uri),
        cmocka_unit_test(options_without_effect_become_warnings),
        cmocka_unit_test(what_cannot_run_says_why),
        cmocka_unit_test(the_image_host_runs_its_command),
    };
    return cmocka_run_group_tests(tests, make_tree, remove_tree);
}
