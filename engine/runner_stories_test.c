/* The runner on two small trained models: the known stories, token by token, from every form of the
 * files, and the recorded best logits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <jansson.h>
#include <math.h>

#include "engine/runner_fixture.h"
#include "engine/shared_data.h"

/* The distance from the best to the second-best. */
static float margin_of(const float *logits, uint32_t len) {
    uint32_t best = fixture_best(logits, len);
    float second = -INFINITY;
    for (uint32_t i = 0; i < len; i++)
        if (i != best && logits[i] > second)
            second = logits[i];
    return logits[best] - second;
}

static void check_first_logits(const json_t *recorded, const float *logits, double tolerance) {
    size_t i;
    json_t *pair;
    assert_true(json_array_size(recorded) > 0);
    json_array_foreach ((json_t *)(uintptr_t)recorded, i, pair) {
        double want = json_number_value(json_array_get(pair, 1));
        double got = (double)logits[json_integer_value(json_array_get(pair, 0))];
        if (fabs(want - got) > tolerance)
            fail_msg("logit %zu: %f, recorded %f", i, got, want);
    }
}

/* The recorded tokens are fed one a step; each must be the runner's choice too, but where two are
 * so near that rounding may choose either. Returns how many steps were clear. */
static size_t check_case(const struct model *m, struct runner *r, const json_t *c,
                         double tolerance) {
    size_t num_clear = 0;
    struct fixture_seq seq = {0};
    const json_t *prompt = json_object_get(c, "prompt_tokens");
    const json_t *greedy = json_object_get(c, "greedy_tokens");
    uint32_t vocab = model_config(m)->vocab_size;
    AUTO_FREE float *logits = mem_array(vocab, sizeof(*logits));
    for (size_t i = 0; i < json_array_size(prompt); i++)
        seq.ids[seq.num_ids++] = (int32_t)json_integer_value(json_array_get(prompt, i));
    fixture_forward(r, &(struct fixture_part){&seq, seq.num_ids - 1, false}, seq.num_ids > 1, NULL);
    for (size_t i = 0; i < json_array_size(greedy); i++) {
        fixture_forward(r, &(struct fixture_part){&seq, 1, true}, 1, logits);
        if (!i)
            check_first_logits(json_object_get(c, "first_step_top5"), logits, tolerance);
        int32_t want = (int32_t)json_integer_value(json_array_get(greedy, i));
        bool clear = (double)margin_of(logits, vocab) > 2 * tolerance;
        if (clear && fixture_best(logits, vocab) != (uint32_t)want)
            fail_msg("\"%s\": step %zu chose %u, recorded %d",
                     json_string_value(json_object_get(c, "prompt")), i,
                     fixture_best(logits, vocab), want);
        num_clear += clear;
        seq.ids[seq.num_ids++] = want;
    }
    return num_clear;
}

static void check_model(const char *model_name, const char *expected_name, double tolerance,
                        size_t num_clear_min) {
    json_error_t json_err;
    size_t i, num_clear = 0;
    json_t *c;
    AUTO_FREE char *path = shared_data_path(model_name);
    AUTO_FREE char *expected_path = shared_data_path(expected_name);
    if (!path || !expected_path)
        skip();
    json_t *expected = json_load_file(expected_path, 0, &json_err);
    assert_non_null(expected);
    AUTO(model) m = fixture_model(path);
    AUTO(runner) fast = fixture_runner(m, false, 0);
    AUTO(runner) exact = fixture_runner(m, true, 0);
    json_array_foreach (json_object_get(expected, "cases"), i, c) {
        num_clear += check_case(m, fast, c, tolerance);
        if (!i)
            check_case(m, exact, c, tolerance);
    }
    printf("%s: %zu clear steps agree\n", model_name, num_clear);
    assert_true(num_clear >= num_clear_min);
    json_decref(expected);
}

static void stories260k_tells_the_known_stories(void **state) {
    check_model("data/models/stories260K/stories260K.gguf", "data/models/stories260K/expected.json",
                1e-3, 700);
}

static void tinystories_from_gguf_f32(void **state) {
    check_model("data/models/tinystories-656k/tinystories-656k-f32.gguf",
                "data/models/tinystories-656k/expected.json", 1e-3, 700);
}

/* Recorded from an engine that rounds activations to 8 bits for this file, as ours may. */
static void tinystories_from_gguf_q8_0(void **state) {
    check_model("data/models/tinystories-656k/tinystories-656k-q8_0.gguf",
                "data/models/tinystories-656k/expected-q8_0.json", 0.25, 400);
}

static void tinystories_from_safetensors(void **state) {
    check_model("data/models/tinystories-656k", "data/models/tinystories-656k/expected.json", 1e-3,
                400);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stories260k_tells_the_known_stories),
        cmocka_unit_test(tinystories_from_gguf_f32),
        cmocka_unit_test(tinystories_from_gguf_q8_0),
        cmocka_unit_test(tinystories_from_safetensors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
