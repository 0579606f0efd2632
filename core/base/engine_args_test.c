/* The engine's command line: what vLLM's and KServe's manifests say is understood or refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "core/base/engine_args.h"

static void the_guides_manifest_parses(void **state) {
    const char *args[] = {"--model", "meta-llama/Llama-3.1-8B-Instruct", NULL};
    struct engine_args a;
    struct error err = ERROR_INIT;
    assert_int_equal(engine_args_parse(args, &a, &err), OK);
    assert_string_equal(a.model, "meta-llama/Llama-3.1-8B-Instruct");
    assert_int_equal(a.port, 8000);
    engine_args_deinit(&a);
}

static void spellings_of_vllm_and_kserve_mean_the_same(void **state) {
    const char *args[] = {"org/m",
                          "--served_model_name",
                          "a",
                          "b",
                          "--max_model_len=4k",
                          "--max-num-seqs",
                          "8",
                          "--dtype=float32",
                          "--no-enable-prefix-caching",
                          "--gpu-memory-utilization",
                          "0.9",
                          "--trust_remote_code",
                          NULL};
    struct engine_args a;
    struct error err = ERROR_INIT;
    if (engine_args_parse(args, &a, &err))
        fail_msg("%s", err.text);
    assert_string_equal(a.model, "org/m");
    assert_int_equal(a.num_served_names, 2);
    assert_string_equal(a.served_names[1], "b");
    assert_int_equal(a.max_model_len, 4000);
    assert_int_equal(a.max_num_seqs, 8);
    assert_true(a.reference);
    assert_true(a.disable_prefix_caching);
    assert_int_equal(a.num_warnings, 2);
    assert_non_null(strstr(a.warnings[0], "--gpu-memory-utilization"));
    engine_args_deinit(&a);
}

static void expect_error(const char *one, const char *two, const char *part) {
    const char *args[] = {one, two, NULL};
    struct engine_args a;
    struct error err = ERROR_INIT;
    assert_int_equal(engine_args_parse(args, &a, &err), ERR_INVALID);
    if (!strstr(err.text, part))
        fail_msg("\"%s\" does not say \"%s\"", err.text, part);
    engine_args_deinit(&a);
}

static void what_would_change_results_is_refused(void **state) {
    expect_error("--quantization", "awq", "one of gguf|none|auto");
    expect_error("--tensor-parallel-size", "4", "\"4\" is not supported here; one of 1");
    expect_error("--lora-modules", "x=y", "LoRA");
    expect_error("--kv-cache-dtype", "fp8", "one of auto");
}

static void bad_values_name_option_value_and_bound(void **state) {
    expect_error("--max-num-seqs", "0", "--max-num-seqs: 0 is not within 1..4096");
    expect_error("--max-num-seqs", "-1", "not a whole number");
    expect_error("--max-model-len", NULL, "wants a value");
    expect_error("--nonsense", "1", "unknown option --nonsense");
    expect_error("--no-model", "1", "unknown option");
    expect_error("--port", "65536", "0..65535");
    expect_error("--enable-prefix-caching=maybe", NULL, "not true or false");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_guides_manifest_parses),
        cmocka_unit_test(spellings_of_vllm_and_kserve_mean_the_same),
        cmocka_unit_test(what_would_change_results_is_refused),
        cmocka_unit_test(bad_values_name_option_value_and_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
