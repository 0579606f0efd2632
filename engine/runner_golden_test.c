/* The runner against another engine's recorded outputs, for every type of weights and every
 * architecture. The models are made on the spot by the tool that the recordings name, and kept
 * beside this program.
 *
 * Both paths must give the logits that the other engine recorded from its exact path, and choose
 * its tokens wherever the margin is more than rounding. All logits of the fast path must be nearer
 * to those of the exact one than the other engine's own fast path was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <dirent.h>
#include <jansson.h>
#include <libgen.h>
#include <math.h>
#include <stdio.h>
#include <sys/stat.h>

#include "engine/runner_fixture.h"
#include "engine/shared_data.h"

enum {
    NUM_GREEDY = 32,
    EXACT_PROMPT_MAX = 64, /* the exact path is slow: only for the shorter prompts */
};

/* Rounding of the recording (five digits behind the point of logits of 5 to 30) and of F32 sums in
 * another order, through a few layers. */
static const double EXACT_TOL = 2e-3;
static const double DEVIATIONS_MAX = 5; /* of single logits, in recorded rms differences */

static char program_dir[4096];

struct golden {
    json_t *json;
    char *model_path;
};

/* Runs make_gguf unless an earlier run left the file; false when it cannot be run. */
static bool make_model(const char *args, const char *sha256, const char *path) {
    if (!access(path, R_OK))
        return true;
    char *tool = shared_data_path("tools/make_gguf");
    if (!tool)
        return false;
    char *partial = mem_printf("%s.%d", path, (int)getpid());
    char *command = mem_printf("python3 '%s' %s --sha256 -o '%s'", tool, args, partial);
    char line[512] = "";
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    bool read = fgets(line, sizeof(line), pipe) != NULL;
    int status = pclose(pipe);
    if (!read || status)
        printf("skipped: %s gave status %d\n", command, status);
    else if (!strstr(line, sha256))
        fail_msg("%s made %s, but the recording is of sha256 %s", command, line, sha256);
    else
        assert_int_equal(rename(partial, path), 0);
    free(command);
    free(partial);
    free(tool);
    return read && !status;
}

/* Logits of the last NUM_GREEDY rows when the prompt and then the recorded tokens are fed. */
static float *forced_logits(const struct model *m, bool reference, struct fixture_seq *seq) {
    AUTO(runner) r = fixture_runner(m, reference, 0);
    float *logits = mem_array((size_t)NUM_GREEDY * model_config(m)->vocab_size, sizeof(*logits));
    struct fixture_part prompt = {seq, seq->num_ids - NUM_GREEDY, false};
    struct fixture_part rest = {seq, NUM_GREEDY, true};
    seq->num_computed = 0;
    if (prompt.num_tokens)
        fixture_forward(r, &prompt, 1, NULL);
    fixture_forward(r, &rest, 1, logits);
    return logits;
}

static double rms(const float *a, const float *b, size_t len) {
    double sum = 0;
    for (size_t i = 0; i < len; i++)
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sqrt(sum / (double)len);
}

static double number(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

static void check_recorded(const char *name, const json_t *reference, double tolerance,
                           const float *logits, uint32_t vocab) {
    size_t i;
    json_t *pair;
    json_array_foreach (json_object_get(reference, "top5"), i, pair) {
        json_int_t id = json_integer_value(json_array_get(pair, 0));
        double want = json_number_value(json_array_get(pair, 1));
        if (fabs((double)logits[id] - want) > tolerance)
            fail_msg("%s: logit of token %d: %f, recorded %f", name, (int)id, (double)logits[id],
                     want);
    }
    json_t *best = json_object_get(reference, "greedy_logit");
    json_t *ids = json_object_get(reference, "greedy");
    for (i = 0; i < NUM_GREEDY; i++) {
        json_int_t id = json_integer_value(json_array_get(ids, i));
        double want = json_number_value(json_array_get(best, i));
        double got = (double)logits[i * vocab + (size_t)id];
        if (fabs(got - want) > tolerance)
            fail_msg("%s: logit of step %zu: %f, recorded %f", name, i, got, want);
    }
}

/* With recorded tokens forced, every step with a clear margin must choose the recorded one. */
static void check_choices(const char *name, const json_t *reference, double margin_min,
                          const float *logits, uint32_t vocab) {
    for (size_t i = 0; i < NUM_GREEDY; i++) {
        double margin =
            json_number_value(json_array_get(json_object_get(reference, "greedy_margin"), i));
        json_int_t want =
            json_integer_value(json_array_get(json_object_get(reference, "greedy"), i));
        uint32_t got = fixture_best(logits + i * vocab, vocab);
        if (margin > margin_min && got != want)
            fail_msg("%s: step %zu chose %u instead of %d, margin %f", name, i, got, (int)want,
                     margin);
    }
}

static void read_ids(const json_t *array, struct fixture_seq *seq) {
    size_t i;
    json_t *id;
    json_array_foreach (array, i, id) {
        assert_true(seq->num_ids < FIXTURE_SEQ_TOKENS);
        seq->ids[seq->num_ids++] = (int32_t)json_integer_value(id);
    }
}

static void check_prompt(const char *name, const struct model *m, const json_t *prompt) {
    struct fixture_seq seq = {0};
    const json_t *reference = json_object_get(prompt, "reference");
    const json_t *native = json_object_get(prompt, "native");
    uint32_t vocab = model_config(m)->vocab_size;
    read_ids(json_object_get(prompt, "ids"), &seq);
    uint32_t num_prompt = seq.num_ids;
    read_ids(json_object_get(reference, "greedy"), &seq);
    seq.num_ids--; /* what the last token leads to is not recorded */
    AUTO_FREE float *fast = forced_logits(m, false, &seq);
    double bound = number(native, "rms_diff");
    /* Integer products round the activations; floats may only be summed in another order. */
    double tolerance = runner_model_bytes(m) ? DEVIATIONS_MAX * bound : EXACT_TOL;
    check_recorded(name, reference, tolerance, fast, vocab);
    check_choices(name, reference, tolerance, fast, vocab);
    if (num_prompt > EXACT_PROMPT_MAX)
        return;
    AUTO_FREE float *exact = forced_logits(m, true, &seq);
    double diff = rms(exact, fast, (size_t)NUM_GREEDY * vocab);
    check_recorded(name, reference, EXACT_TOL, exact, vocab);
    check_choices(name, reference, EXACT_TOL, exact, vocab);
    printf("%s: %u tokens: rms difference %.3g, bound %.3g\n", name, num_prompt, diff, bound);
    if (!(diff <= bound))
        fail_msg("%s: rms difference %g of %u tokens is above %g", name, diff, num_prompt, bound);
}

static void check_file(const char *dir, const char *name) {
    json_error_t json_err;
    char *path = mem_printf("%s/%s", dir, name);
    json_t *golden = json_load_file(path, 0, &json_err);
    if (!golden)
        fail_msg("%s: %s", path, json_err.text);
    const char *sha256 = json_string_value(json_object_get(golden, "sha256"));
    char *model_path = mem_printf("%s/golden-%.16s.gguf", program_dir, sha256);
    if (make_model(json_string_value(json_object_get(golden, "make_gguf")), sha256, model_path)) {
        size_t i;
        json_t *prompt;
        AUTO(model) m = fixture_model(model_path);
        json_array_foreach (json_object_get(golden, "prompts"), i, prompt)
            check_prompt(name, m, prompt);
    }
    json_decref(golden);
    free(model_path);
    free(path);
}

static int is_recording(const struct dirent *entry) {
    return !strncmp(entry->d_name, "tiny-", 5) && strstr(entry->d_name, ".json") != NULL;
}

static void logits_are_no_further_from_exact_than_recorded(void **state) {
    struct dirent **entries;
    AUTO_FREE char *dir = shared_data_path("data/golden");
    if (!dir)
        skip();
    int count = scandir(dir, &entries, is_recording, alphasort);
    assert_true(count > 0);
    for (int i = 0; i < count; i++) {
        check_file(dir, entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
}

int main(int argc, char **argv) {
    snprintf(program_dir, sizeof(program_dir), "%s", argv[0]);
    dirname(program_dir);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_no_further_from_exact_than_recorded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
