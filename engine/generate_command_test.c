/* The commands as a user runs them, on a tiny model written on the spot: exit status, the one line
 * on stderr, and what stands on stdout. */
#include "engine/generate_command.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "engine/bench_command.h"
#include "engine/tiny_model.h"

enum { ARGS_MAX = 24 };

static char *model; /* path */

/* What a command left behind. */
struct outcome {
    int status;
    char out[1 << 20], err[4096];
};

static void read_back(FILE *f, char *text, size_t size) {
    rewind(f);
    text[fread(text, 1, size - 1, f)] = '\0';
    fclose(f);
}

/* Runs a command with stdout and stderr going to files. words: NULL-terminated. */
static const struct outcome *run(int (*command)(int, char **), const char *const *words) {
    static struct outcome o;
    char *argv[ARGS_MAX] = {NULL};
    int argc = 0;
    for (; words[argc]; argc++)
        argv[argc] = mem_strdup(words[argc]);
    FILE *out = tmpfile(), *err = tmpfile();
    assert_non_null(out);
    assert_non_null(err);
    fflush(stdout);
    fflush(stderr);
    int was_out = dup(1), was_err = dup(2);
    dup2(fileno(out), 1);
    dup2(fileno(err), 2);
    o.status = command(argc, argv);
    fflush(stdout);
    fflush(stderr);
    dup2(was_out, 1);
    dup2(was_err, 2);
    close(was_out);
    close(was_err);
    read_back(out, o.out, sizeof(o.out));
    read_back(err, o.err, sizeof(o.err));
    for (int i = 0; i < argc; i++)
        free(argv[i]);
    return &o;
}

#define GENERATE(...) run(generate_command, (const char *const[]){"generate", __VA_ARGS__, NULL})
#define BENCH(...)    run(bench_command, (const char *const[]){"bench", __VA_ARGS__, NULL})

static json_t *parse(const struct outcome *o) {
    if (o->status)
        fail_msg("exit status %d: %s", o->status, o->err);
    json_error_t e;
    json_t *j = json_loads(o->out, 0, &e);
    if (!j)
        fail_msg("%s: %s", e.text, o->out);
    assert_string_equal(o->err, "");
    return j;
}

static void one_line_about(const struct outcome *o, int status, const char *what) {
    assert_int_equal(o->status, status);
    assert_string_equal(o->out, "");
    assert_non_null(strstr(o->err, what));
    char *newline = strchr(o->err, '\n');
    assert_true(newline && !newline[1]);
}

static void bad_usage_exits_2_with_one_line(void **state) {
    one_line_about(GENERATE("--prompt", "x"), 2, "--model");
    one_line_about(GENERATE("--model", model), 2, "--prompt");
    one_line_about(GENERATE("--model", model, "--prompt", "x", "--prompt-tokens", "1"), 2,
                   "--prompt");
    one_line_about(GENERATE("--model", model, "--prompt", "x", "--temprature", "1"), 2,
                   "--temprature");
    one_line_about(GENERATE("--model", model, "--prompt", "x", "--top-p", "1.5"), 2, "--top-p");
    one_line_about(GENERATE("--model", model, "--prompt", "x", "--dtype", "int3"), 2, "int3");
    one_line_about(GENERATE("--model", model, "--prompt", "x", "--force-tokens", "1,,2"), 2,
                   "--force-tokens");
    one_line_about(BENCH("--batch", "4"), 2, "--model");
    one_line_about(BENCH("--model", model, "--batch", "0"), 2, "--batch");
    one_line_about(BENCH("--model", model, "--device", "abacus"), 2, "abacus");
}

static void failures_exit_1_with_one_line(void **state) {
    one_line_about(GENERATE("--model", "/no/such/file.gguf", "--prompt", "x"), 1,
                   "/no/such/file.gguf");
    one_line_about(GENERATE("--model", "/proc/self/exe", "--prompt", "x"), 1, "/proc/self/exe");
    char text[TINY_CONTEXT + 8];
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    one_line_about(GENERATE("--model", model, "--prompt", text), 1, "256");
    one_line_about(GENERATE("--model", model, "--prompt-tokens", "9999"), 1, "9999");
    one_line_about(GENERATE("--model", model, "--prompt", "x", "--max-model-len", "1000"), 1,
                   "max_model_len");
    one_line_about(BENCH("--model", model, "--prompt", "200", "--gen", "100"), 1, "--gen");
}

static void help_is_on_stdout(void **state) {
    assert_int_equal(GENERATE("--help")->status, 0);
    assert_non_null(strstr(GENERATE("--help")->out, "--force-tokens"));
    assert_non_null(strstr(BENCH("--help")->out, "--repeat"));
}

static json_int_t token_at(json_t *j, const char *list, size_t i) {
    return json_integer_value(json_array_get(json_object_get(j, list), i));
}

static void json_has_prompt_tokens_text_and_logprobs(void **state) {
    json_t *j = parse(GENERATE("--model", model, "--prompt", "ab", "--max-tokens", "12", "--json",
                               "--top-logprobs", "3", "--ignore-eos"));
    json_t *prompt = json_object_get(j, "prompt_tokens"), *tokens = json_object_get(j, "tokens");
    assert_int_equal(token_at(j, "prompt_tokens", 0), TINY_BOS);
    assert_int_equal(token_at(j, "prompt_tokens", json_array_size(prompt) - 1), 'b' + 3);
    assert_int_equal(json_array_size(tokens), 12);
    assert_string_equal(json_string_value(json_object_get(j, "finish_reason")), "length");
    assert_non_null(json_string_value(json_object_get(j, "text")));
    json_t *logprobs = json_object_get(j, "logprobs"), *row;
    assert_int_equal(json_array_size(logprobs), 12);
    size_t i;
    json_array_foreach (logprobs, i, row) {
        json_t *top = json_object_get(row, "top"), *best = json_array_get(top, 0);
        assert_int_equal(json_integer_value(json_object_get(row, "token")),
                         token_at(j, "tokens", i));
        assert_int_equal(json_array_size(top), 3);
        assert_int_equal(json_integer_value(json_array_get(best, 0)), token_at(j, "tokens", i));
        assert_true(json_real_value(json_array_get(best, 1)) ==
                    json_real_value(json_object_get(row, "logprob")));
    }
    json_decref(j);
}

static void forced_tokens_get_the_scores_that_generating_them_gave(void **state) {
    json_t *free_run =
        parse(GENERATE("--model", model, "--prompt", "hello", "--max-tokens", "10", "--json",
                       "--temperature", "1", "--seed", "5", "--ignore-eos", "--top-logprobs",
                       "1000")); /* more than there are: the whole vocabulary */
    char list[256] = "";
    for (size_t i = 0; i < 10; i++)
        snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%d", i ? "," : "",
                 (int)token_at(free_run, "tokens", i));
    json_t *forced = parse(GENERATE("--model", model, "--prompt", "hello", "--json",
                                    "--force-tokens", list, "--top-logprobs", "1000"));
    assert_true(json_equal(json_object_get(free_run, "tokens"), json_object_get(forced, "tokens")));
    assert_true(
        json_equal(json_object_get(free_run, "logprobs"), json_object_get(forced, "logprobs")));
    json_t *row = json_array_get(json_object_get(forced, "logprobs"), 9), *pair;
    assert_int_equal(json_array_size(json_object_get(row, "top")), TINY_VOCAB);
    double sum = 0;
    size_t i;
    json_array_foreach (json_object_get(row, "top"), i, pair)
        sum += exp(json_real_value(json_array_get(pair, 1)));
    assert_true(fabs(sum - 1) < 1e-5);
    json_decref(free_run);
    json_decref(forced);
}

static void text_streams_to_stdout(void **state) {
    const struct outcome *o =
        GENERATE("--model", model, "--prompt", "ab", "--max-tokens", "5", "--ignore-eos");
    assert_int_equal(o->status, 0);
    size_t len = strlen(o->out);
    assert_true(len >= 1 && o->out[len - 1] == '\n');
    o = GENERATE("--model", model, "--prompt", "ab", "--max-tokens", "5", "--ignore-eos",
                 "--top-logprobs", "2");
    uint32_t lines = 0;
    for (const char *c = o->out; *c; c++)
        lines += *c == '\n';
    assert_int_equal(lines, 5);
}

static void bench_prints_every_figure(void **state) {
    json_t *j = parse(BENCH("--model", model, "--prompt", "20", "--gen", "5", "--batch", "3",
                            "--repeat", "2", "--threads", "1", "--json"));
    assert_string_equal(json_string_value(json_object_get(j, "model")), "tiny");
    assert_string_equal(json_string_value(json_object_get(j, "device")), "cpu");
    assert_int_equal(json_integer_value(json_object_get(j, "batch")), 3);
    assert_int_equal(json_integer_value(json_object_get(j, "threads")), 1);
    const char *positive[] = {"prompt_tokens_per_second", "decode_tokens_per_second",
                              "load_seconds", "ttft_seconds", "resident_bytes"};
    for (size_t i = 0; i < ARRAY_LEN(positive); i++)
        assert_true(json_number_value(json_object_get(j, positive[i])) > 0);
    assert_int_equal(json_object_size(j), 9);
    json_decref(j);
}

static int write_model(void **state) {
    model = tiny_model_write();
    return 0;
}

static int remove_model(void **state) {
    unlink(model);
    free(model);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_usage_exits_2_with_one_line),
        cmocka_unit_test(failures_exit_1_with_one_line),
        cmocka_unit_test(help_is_on_stdout),
        cmocka_unit_test(json_has_prompt_tokens_text_and_logprobs),
        cmocka_unit_test(forced_tokens_get_the_scores_that_generating_them_gave),
        cmocka_unit_test(text_streams_to_stdout),
        cmocka_unit_test(bench_prints_every_figure),
    };
    return cmocka_run_group_tests(tests, write_model, remove_model);
}
