/* `inferd bench`: what a client of the engine would measure, without HTTP and text in between.
 *
 * A repeat has two phases, both with `batch` requests of `prompt` random tokens at once:
 *
 *   prefill  each request asks for one token.
 *            prompt_tokens_per_second = batch * prompt / time from submitting to the last token
 *            ttft_seconds = median over the requests of the time from submitting to its token
 *   decode   the same prompts again, so that they come from the prefix cache, with `gen` tokens and
 *            a few more. Measured is the window in which all requests generate: from the moment the
 *            last of them has its first token to the moment the first of them is done.
 *            decode_tokens_per_second = tokens of all requests in the window / its length
 *
 * Printed is the median over the repeats; each has other prompts, and a small one goes before them
 * so that the weights are in memory. load_seconds is opening the model and starting the engine,
 * once. resident_bytes is the process's resident set at the end, mapped weights included. */
#include "engine/bench_command.h"

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "core/base/buf.h"
#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/model_path.h"
#include "engine/command_options.h"
#include "engine/cpu/thread_pool.h"
#include "engine/engine.h"
#include "engine/free_memory.h"
#include "engine/model.h"
#include "engine/philox.h"
#include "engine/runner.h"

enum {
    EXIT_USAGE = 2,
    BATCH_MAX = 1024,
    REPEAT_MAX = 100,
    BLOCK_SIZE = 16,
    STEP_TOKENS = 512,
    DEFAULT_PROMPT = 512,
    DEFAULT_GEN = 128,
    WARM_TOKENS = 16,
    LEAD_STEPS_MIN = 2,
};

struct bench {
    const char *model, *models_dir, *device;
    uint32_t num_prompt, num_gen, batch, num_threads, repeat;
    bool has_prompt, has_gen, is_json, wants_help;
};

/* Tokens of one phase as they come: written by the engine thread, read when all are finished. */
struct phase {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t num_unfinished;
    bool holds; /* the engine waits, at its first token, until all requests are submitted */
    bool failed;
    uint32_t num_tokens_max;
    struct lane {
        struct phase *phase;
        uint32_t num_tokens;
        int64_t *mono_ns; /* [num_tokens_max] */
    } * lanes;            /* [batch] */
};

static void phase_init(struct phase *p, uint32_t batch, uint32_t num_tokens_max) {
    *p = (struct phase){.num_unfinished = batch, .num_tokens_max = num_tokens_max};
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->changed, NULL);
    p->lanes = mem_array(batch, sizeof(p->lanes[0]));
    int64_t *mono_ns = mem_array((size_t)batch * num_tokens_max, sizeof(mono_ns[0]));
    for (uint32_t i = 0; i < batch; i++)
        p->lanes[i] = (struct lane){.phase = p, .mono_ns = mono_ns + (size_t)i * num_tokens_max};
}

static void phase_deinit(struct phase *p) {
    free(p->lanes[0].mono_ns);
    free(p->lanes);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->changed);
}

static void sink(void *user, const struct engine_token *token) {
    struct lane *lane = user;
    struct phase *p = lane->phase;
    if (token->has_token && lane->num_tokens < p->num_tokens_max)
        lane->mono_ns[lane->num_tokens++] = token->mono_ns;
    if (token->index && !token->finish)
        return;
    pthread_mutex_lock(&p->lock);
    while (p->holds) /* a sink must not block, but here nobody else is served */
        pthread_cond_wait(&p->changed, &p->lock);
    if (token->finish) {
        p->failed |= token->finish != FINISH_LENGTH;
        p->num_unfinished--;
        pthread_cond_broadcast(&p->changed);
    }
    pthread_mutex_unlock(&p->lock);
}

static void phase_let_go(struct phase *p, uint32_t num_never_submitted) {
    pthread_mutex_lock(&p->lock);
    p->holds = false;
    p->num_unfinished -= num_never_submitted;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
}

static void phase_wait(struct phase *p) {
    pthread_mutex_lock(&p->lock);
    while (p->num_unfinished)
        pthread_cond_wait(&p->changed, &p->lock);
    pthread_mutex_unlock(&p->lock);
}

static enum errc submit_all(struct engine *e, const int32_t *prompts, uint32_t num_prompt,
                            uint32_t batch, struct phase *p, struct error *err) {
    for (uint32_t i = 0; i < batch; i++) {
        struct engine_request rq = {
            .prompt = prompts + (size_t)i * num_prompt,
            .num_prompt = num_prompt,
            .sink = sink,
            .user = &p->lanes[i],
        };
        sampling_params_init(&rq.sampling);
        rq.sampling.temperature = 0;
        rq.sampling.ignore_eos = true;
        rq.sampling.max_tokens = p->num_tokens_max;
        uint64_t id;
        enum errc rc = engine_submit(e, &rq, &id, err);
        if (rc) {
            phase_let_go(p, batch - i);
            return rc;
        }
    }
    phase_let_go(p, 0);
    return OK;
}

/* Runs one phase to its end. On an error some requests may have run; all are finished. */
static enum errc run_phase(struct engine *e, const int32_t *prompts, uint32_t num_prompt,
                           uint32_t batch, struct phase *p, struct error *err) {
    enum errc rc = submit_all(e, prompts, num_prompt, batch, p, err);
    phase_wait(p);
    if (!rc && p->failed)
        return err_set(err, ERR_INTERNAL,
                       "the model's logits are not numbers; is the file damaged?");
    return rc;
}

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, uint32_t n) {
    qsort(values, n, sizeof(values[0]), compare_doubles);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

struct figures {
    double prompt_rate, decode_rate, ttft_seconds;
};

static enum errc measure_prefill(struct engine *e, const struct bench *b, const int32_t *prompts,
                                 struct figures *f, struct error *err) {
    struct phase p;
    phase_init(&p, b->batch, 1);
    AUTO_FREE double *ttft = mem_array(b->batch, sizeof(ttft[0]));
    int64_t start_ns = clock_mono_ns(), last_ns = start_ns;
    enum errc rc = run_phase(e, prompts, b->num_prompt, b->batch, &p, err);
    for (uint32_t i = 0; !rc && i < b->batch; i++) {
        int64_t ns = p.lanes[i].mono_ns[0];
        ttft[i] = (double)(ns - start_ns) / 1e9;
        last_ns = ns > last_ns ? ns : last_ns;
    }
    f->ttft_seconds = median(ttft, b->batch);
    f->prompt_rate = (double)b->batch * b->num_prompt * 1e9 / (double)(last_ns - start_ns + 1);
    phase_deinit(&p);
    return rc;
}

/* Steps that pass before the last of the requests starts, with their prompts cached. */
static uint32_t lead_steps(const struct bench *b) {
    return LEAD_STEPS_MIN + b->batch * BLOCK_SIZE / STEP_TOKENS;
}

static enum errc measure_decode(struct engine *e, const struct bench *b, const int32_t *prompts,
                                struct figures *f, struct error *err) {
    struct phase p;
    uint32_t num_tokens = b->num_gen + lead_steps(b);
    phase_init(&p, b->batch, num_tokens);
    p.holds = true;
    enum errc rc = run_phase(e, prompts, b->num_prompt, b->batch, &p, err);
    int64_t from_ns = 0, to_ns = INT64_MAX;
    for (uint32_t i = 0; !rc && i < b->batch; i++) {
        int64_t first = p.lanes[i].mono_ns[0], last = p.lanes[i].mono_ns[num_tokens - 1];
        from_ns = first > from_ns ? first : from_ns;
        to_ns = last < to_ns ? last : to_ns;
    }
    uint64_t in_window = 0;
    for (uint32_t i = 0; !rc && i < b->batch; i++) {
        for (uint32_t t = 0; t < num_tokens; t++) {
            int64_t ns = p.lanes[i].mono_ns[t];
            in_window += ns > from_ns && ns <= to_ns;
        }
    }
    if (!rc && !in_window)
        rc = err_set(err, ERR_EXHAUSTED,
                     "%u requests never generated all at once: raise --gen or lower --batch",
                     b->batch);
    f->decode_rate = (double)in_window * 1e9 / (double)(to_ns - from_ns + !in_window);
    phase_deinit(&p);
    return rc;
}

static void random_prompts(int32_t *prompts, size_t num_tokens, uint32_t vocab_size,
                           uint64_t seed) {
    for (size_t i = 0; i < num_tokens; i++)
        prompts[i] = (int32_t)(philox_uniform(seed, i) * vocab_size);
}

static enum errc measure(struct engine *e, const struct bench *b, uint32_t vocab_size,
                         struct figures *ret_figures, struct error *err) {
    size_t num_tokens = (size_t)b->batch * b->num_prompt;
    AUTO_FREE int32_t *prompts = mem_try_alloc(num_tokens * sizeof(prompts[0]));
    if (!prompts)
        return err_set(err, ERR_EXHAUSTED, "no memory for %zu prompt tokens", num_tokens);
    double prompt_rate[REPEAT_MAX], decode_rate[REPEAT_MAX], ttft[REPEAT_MAX];
    enum errc rc;
    struct phase warm;
    phase_init(&warm, 1, 1);
    random_prompts(prompts, num_tokens, vocab_size, 0);
    rc = run_phase(e, prompts, b->num_prompt < WARM_TOKENS ? b->num_prompt : WARM_TOKENS, 1, &warm,
                   err);
    phase_deinit(&warm);
    for (uint32_t i = 0; !rc && i < b->repeat; i++) {
        struct figures f = {0};
        random_prompts(prompts, num_tokens, vocab_size, i + 1);
        if ((rc = measure_prefill(e, b, prompts, &f, err)) ||
            (rc = measure_decode(e, b, prompts, &f, err)))
            break;
        prompt_rate[i] = f.prompt_rate;
        decode_rate[i] = f.decode_rate;
        ttft[i] = f.ttft_seconds;
    }
    if (rc)
        return rc;
    *ret_figures = (struct figures){
        .prompt_rate = median(prompt_rate, b->repeat),
        .decode_rate = median(decode_rate, b->repeat),
        .ttft_seconds = median(ttft, b->repeat),
    };
    return OK;
}

static void print_figures(const struct bench *b, const char *name, const struct figures *f,
                          double load_seconds) {
    uint32_t threads = b->num_threads ? b->num_threads : thread_pool_num_cpus();
    json_t *model = json_string(name); /* NULL: not UTF-8; the file says what it likes */
    json_t *out = json_pack("{s:o,s:s,s:i,s:f,s:f,s:i,s:f,s:f,s:I}", "model",
                            model ? model : json_string("(name is not UTF-8)"), "device", "cpu",
                            "threads", (int)threads, "prompt_tokens_per_second", f->prompt_rate,
                            "decode_tokens_per_second", f->decode_rate, "batch", (int)b->batch,
                            "load_seconds", load_seconds, "ttft_seconds", f->ttft_seconds,
                            "resident_bytes", (json_int_t)free_memory_resident_bytes());
    ASSERT(out);
    if (b->is_json) {
        json_dumpf(out, stdout, JSON_REAL_PRECISION(6));
        putchar('\n');
    } else {
        const char *key;
        json_t *value;
        json_object_foreach (out, key, value) {
            printf("%-26s ", key);
            json_dumpf(value, stdout, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
            putchar('\n');
        }
    }
    json_decref(out);
}

/* Lengths that were not given follow a short context. */
static enum errc fit_lengths(struct bench *b, uint32_t context, struct error *err) {
    if (!b->has_prompt && b->num_prompt > context / 2)
        b->num_prompt = context / 2 ? context / 2 : 1;
    if (!b->has_gen && b->num_gen > context / 4)
        b->num_gen = context / 4 ? context / 4 : 1;
    uint64_t need = (uint64_t)b->num_prompt + b->num_gen + lead_steps(b);
    if (need > context)
        return err_field(err, ERR_INVALID, "--prompt",
                         "--prompt %u and --gen %u: with %u tokens to start they are above the "
                         "model's context length of %u",
                         b->num_prompt, b->num_gen, lead_steps(b), context);
    return OK;
}

static enum errc run(struct bench *b, struct error *err) {
    struct model_path_options places = {.models_dir = b->models_dir};
    AUTO_FREE char *path = NULL;
    AUTO(model) m = NULL;
    AUTO(engine) e = NULL;
    enum errc rc;
    if ((rc = model_path_resolve(b->model, &places, &path, err)))
        return rc;
    int64_t start_ns = clock_mono_ns();
    if ((rc = model_open(path, &m, err)) ||
        (rc = fit_lengths(b, model_config(m)->context_length, err)))
        return rc;
    uint32_t max_model_len = b->num_prompt + b->num_gen + lead_steps(b);
    uint64_t num_blocks = (uint64_t)b->batch * ((max_model_len + BLOCK_SIZE - 1) / BLOCK_SIZE);
    struct engine_options opt = {
        .max_model_len = max_model_len,
        .max_num_seqs = b->batch,
        .max_num_batched_tokens = b->batch > STEP_TOKENS ? b->batch : STEP_TOKENS,
        .block_size = BLOCK_SIZE,
        .kv_cache_bytes = num_blocks * runner_kv_block_bytes(model_config(m), BLOCK_SIZE),
        .num_threads = b->num_threads,
    };
    if ((rc = engine_create(m, &opt, &e, err)))
        return rc;
    double load_seconds = (double)(clock_mono_ns() - start_ns) / 1e9;
    struct figures f = {0};
    if ((rc = measure(e, b, model_config(m)->vocab_size, &f, err)))
        return rc;
    print_figures(b, model_config(m)->name, &f, load_seconds);
    if (fflush(stdout) || ferror(stdout))
        return err_errno(err, "write to standard output");
    return OK;
}

/* Reads the command line into b; with --help prints the list instead. */
static enum errc parse(struct bench *b, int argc, char **argv, struct error *err) {
    const struct command_option options[] = {
        {"model", OPTION_TEXT, &b->model, NULL, 0, 0, "file, directory, embedded://M, hf://ORG/M"},
        {"models-dir", OPTION_TEXT, &b->models_dir, NULL, 0, 0, "where references are looked up"},
        {"prompt", OPTION_COUNT, &b->num_prompt, &b->has_prompt, 1, 1 << 20, "tokens (512)"},
        {"gen", OPTION_COUNT, &b->num_gen, &b->has_gen, 1, 1 << 20, "tokens to measure (128)"},
        {"batch", OPTION_COUNT, &b->batch, NULL, 1, BATCH_MAX, "requests at once (1)"},
        {"threads", OPTION_COUNT, &b->num_threads, NULL, 0, 1024, "0 (default): all CPUs"},
        {"device", OPTION_TEXT, &b->device, NULL, 0, 0, "auto (default) or cpu"},
        {"repeat", OPTION_COUNT, &b->repeat, NULL, 1, REPEAT_MAX, "medians over so many (3)"},
        {"json", OPTION_FLAG, &b->is_json, NULL, 0, 0, "print one JSON object"},
        {"help", OPTION_FLAG, &b->wants_help, NULL, 0, 0, "this list"},
    };
    enum errc rc = command_options_parse(options, ARRAY_LEN(options), argc, argv, err);
    if (rc)
        return rc;
    if (b->wants_help) {
        AUTO_BUF help = BUF_INIT;
        command_options_help(options, ARRAY_LEN(options), &help);
        printf("usage: inferd bench --model PATH [options]\n%s", help.data);
        return OK;
    }
    if (!b->model || !*b->model)
        return err_field(err, ERR_INVALID, "--model", "--model is missing");
    if (strcmp(b->device, "auto") != 0 && strcmp(b->device, "cpu") != 0)
        return err_field(err, ERR_INVALID, "--device", "--device: \"%s\" is not auto or cpu",
                         b->device);
    return OK;
}

int bench_command(int argc, char **argv) {
    struct bench b = {
        .device = "auto",
        .num_prompt = DEFAULT_PROMPT,
        .num_gen = DEFAULT_GEN,
        .batch = 1,
        .repeat = 3,
    };
    struct error err = ERROR_INIT;
    log_set_level(LOG_LEVEL_WARN);
    if (parse(&b, argc, argv, &err)) {
        fprintf(stderr, "inferd bench: %s (see inferd bench --help)\n", err.text);
        return EXIT_USAGE;
    }
    if (!b.wants_help && run(&b, &err)) {
        fprintf(stderr, "inferd bench: %s\n", err.text);
        return EXIT_FAILURE;
    }
    return 0;
}
