/* `inferd generate`: a raw prompt, no template, through the same engine that serves.
 *
 * Special tokens in the prompt's text are parsed and those that the model wants around it are
 * added, so the ids are what other engines' raw completion gives. With --json one object is
 * printed:
 *
 *     {"prompt_tokens": [id, ...], "tokens": [id, ...], "text": "...",
 *      "logprobs": [{"token": id, "logprob": x, "top": [[id, x], ...]}, ...],
 *      "finish_reason": "stop" or "length"}
 *
 * tokens include the end-of-generation token that stopped it; text does not show control tokens.
 * Log probabilities are natural, of the model's own distribution; -9999 stands for an impossible
 * token.
 *
 * --force-tokens 1,2,3 does not generate: it scores the given tokens behind the prompt, each after
 * those before it, so that two engines can be compared position by position although they would
 * have gone different ways. */
#include "engine/generate_command.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>

#include "core/base/buf.h"
#include "core/base/log.h"
#include "core/base/model_path.h"
#include "engine/command_options.h"
#include "engine/model.h"
#include "engine/recording.h"
#include "engine/tokenizer.h"

enum {
    TOKEN_LIST_MAX = 65536,
    EXIT_USAGE = 2,
    LOGPROB_DIGITS = 8,
};
#define LOGPROB_IMPOSSIBLE (-9999.0)

struct generate {
    const char *model, *models_dir, *prompt, *prompt_tokens, *force_tokens, *dtype;
    uint32_t max_tokens, max_model_len, num_threads, top_logprobs, top_k;
    float temperature, top_p, min_p;
    float presence_penalty, frequency_penalty, repetition_penalty;
    uint64_t seed;
    bool has_seed, has_top_logprobs, ignore_eos, is_json, wants_help;

    struct token_ids given, forced; /* of --prompt-tokens and --force-tokens */
};

static enum errc read_ids(const char *option, const char *text, struct token_ids *ids,
                          struct error *err) {
    if (!text)
        return OK;
    AUTO_FREE int32_t *data = mem_array(TOKEN_LIST_MAX, sizeof(data[0]));
    int32_t n = command_options_ids(text, data, TOKEN_LIST_MAX);
    if (n < 0)
        return err_field(err, ERR_INVALID, option,
                         "%s: not a list of at most %d token ids like 1,2,3", option,
                         TOKEN_LIST_MAX);
    for (int32_t i = 0; i < n; i++)
        token_ids_push(ids, data[i]);
    return OK;
}

static enum errc check_usage(struct generate *g, struct error *err) {
    if (!g->model || !*g->model)
        return err_field(err, ERR_INVALID, "--model", "--model is missing");
    if (!g->prompt == !g->prompt_tokens)
        return err_field(err, ERR_INVALID, "--prompt",
                         "--prompt: give either this or --prompt-tokens");
    if (strcmp(g->dtype, "auto") != 0 && strcmp(g->dtype, "float32") != 0)
        return err_field(err, ERR_INVALID, "--dtype", "--dtype: \"%s\" is not auto or float32",
                         g->dtype);
    enum errc rc;
    if ((rc = read_ids("--prompt-tokens", g->prompt_tokens, &g->given, err)) ||
        (rc = read_ids("--force-tokens", g->force_tokens, &g->forced, err)))
        return rc;
    return OK;
}

static double printable(float logprob) {
    return isfinite(logprob) ? (double)logprob : LOGPROB_IMPOSSIBLE;
}

static void piece_text(const struct tokenizer *tk, int32_t id, struct buf *out) {
    size_t len = 0;
    const char *piece = tokenizer_piece(tk, id, &len);
    buf_putc(out, '"');
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)piece[i];
        if (c < 0x20 || c == 0x7f || c == '"' || c == '\\')
            buf_printf(out, "\\x%02x", c);
        else
            buf_putc(out, (char)c);
    }
    buf_putc(out, '"');
}

/* Without --json, but with candidates asked for: a line a token. */
static void print_candidates(const struct tokenizer *tk, const struct recorded_token *t) {
    AUTO_BUF line = BUF_INIT;
    buf_printf(&line, "%d ", t->id);
    piece_text(tk, t->id, &line);
    buf_printf(&line, " %.4f", printable(t->logprob));
    for (uint32_t i = 0; i < t->num_top; i++) {
        buf_printf(&line, "%s%d ", i ? ", " : " | ", t->top[i].id);
        piece_text(tk, t->top[i].id, &line);
        buf_printf(&line, " %.4f", printable(t->top[i].logprob));
    }
    puts(line.data);
}

static void print_text(const struct generate *g, const struct tokenizer *tk, struct recording *r) {
    AUTO_BUF text = BUF_INIT;
    struct detokenizer d;
    struct recorded_token t;
    detokenizer_init(&d, tk, true);
    d.started = true; /* the text goes on from the prompt */
    for (uint32_t i = 0; recording_wait(r, i, &t); i++) {
        if (g->has_top_logprobs) {
            print_candidates(tk, &t);
            continue;
        }
        buf_clear(&text);
        detokenizer_push(&d, t.id, &text);
        fwrite(text.data ? text.data : "", 1, text.len, stdout);
        fflush(stdout);
    }
    buf_clear(&text);
    detokenizer_flush(&d, &text);
    if (!g->has_top_logprobs)
        printf("%s\n", text.data ? text.data : "");
}

static json_t *logprobs_json(const struct recorded_token *t) {
    json_t *top = json_array();
    for (uint32_t i = 0; i < t->num_top; i++)
        json_array_append_new(top, json_pack("[i,f]", t->top[i].id, printable(t->top[i].logprob)));
    return json_pack("{s:i,s:f,s:o}", "token", t->id, "logprob", printable(t->logprob), "top", top);
}

static json_t *result_json(const struct tokenizer *tk, const struct token_ids *prompt,
                           struct recording *r) {
    json_t *prompt_tokens = json_array(), *tokens = json_array(), *logprobs = json_array();
    for (size_t i = 0; i < prompt->len; i++)
        json_array_append_new(prompt_tokens, json_integer(prompt->data[i]));
    AUTO_BUF text = BUF_INIT;
    struct detokenizer d;
    struct recorded_token t;
    detokenizer_init(&d, tk, true);
    d.started = true;
    for (uint32_t i = 0; recording_wait(r, i, &t); i++) {
        json_array_append_new(tokens, json_integer(t.id));
        json_array_append_new(logprobs, logprobs_json(&t));
        detokenizer_push(&d, t.id, &text);
    }
    detokenizer_flush(&d, &text);
    json_t *out = json_object();
    json_object_set_new(out, "prompt_tokens", prompt_tokens);
    json_object_set_new(out, "tokens", tokens);
    json_object_set_new(out, "text", json_stringn(text.data ? text.data : "", text.len));
    json_object_set_new(out, "logprobs", logprobs);
    json_object_set_new(out, "finish_reason",
                        json_string(recording_finish(r) == FINISH_STOP ? "stop" : "length"));
    return out;
}

static enum errc print_result(const struct generate *g, const struct tokenizer *tk,
                              const struct token_ids *prompt, struct recording *r,
                              struct error *err) {
    if (g->is_json) {
        json_t *result = result_json(tk, prompt, r);
        json_dumpf(result, stdout, JSON_REAL_PRECISION(LOGPROB_DIGITS));
        json_decref(result);
        putchar('\n');
    } else {
        print_text(g, tk, r);
    }
    if (recording_finish(r) == FINISH_ERROR)
        return err_set(err, ERR_INTERNAL,
                       "the model's logits are not numbers; is the file damaged? Compare its "
                       "checksum with the publisher's");
    if (fflush(stdout) || ferror(stdout))
        return err_errno(err, "write to standard output");
    return OK;
}

/* Submits the prompt (with the forced tokens behind it) and prints what comes. */
static enum errc run_request(const struct generate *g, struct engine *e, const struct model *m,
                             const struct token_ids *prompt, struct error *err) {
    AUTO_TOKEN_IDS ids = TOKEN_IDS_INIT;
    for (size_t i = 0; i < prompt->len; i++)
        token_ids_push(&ids, prompt->data[i]);
    for (size_t i = 0; i < g->forced.len; i++)
        token_ids_push(&ids, g->forced.data[i]);

    uint32_t num_forced = (uint32_t)g->forced.len, room = engine_max_model_len(e);
    struct recording_options opt = {
        .num_tokens_max = num_forced             ? num_forced
                          : g->max_tokens < room ? g->max_tokens
                                                 : room,
        .first_prompt_index = num_forced ? (uint32_t)prompt->len : UINT32_MAX,
        .drops_sampled = num_forced > 0,
        .num_top = g->top_logprobs,
        .vocab_size = model_config(m)->vocab_size,
    };
    AUTO(recording) r = NULL;
    enum errc rc = recording_create(&opt, &r, err);
    if (rc)
        return rc;
    struct engine_request rq = {.prompt = ids.data, .num_prompt = (uint32_t)ids.len};
    sampling_params_init(&rq.sampling);
    rq.sampling.temperature = g->temperature;
    rq.sampling.top_p = g->top_p;
    rq.sampling.top_k = (int32_t)g->top_k;
    rq.sampling.min_p = g->min_p;
    rq.sampling.presence_penalty = g->presence_penalty;
    rq.sampling.frequency_penalty = g->frequency_penalty;
    rq.sampling.repetition_penalty = g->repetition_penalty;
    rq.sampling.seed = g->seed;
    rq.sampling.has_seed = g->has_seed;
    rq.sampling.ignore_eos = g->ignore_eos;
    rq.sampling.max_tokens = num_forced ? 1 : g->max_tokens;
    rq.sampling.num_logprobs = 0;
    recording_attach(r, &rq);
    uint64_t id;
    if ((rc = engine_submit(e, &rq, &id, err)))
        return rc;
    rc = print_result(g, model_tokenizer(m), prompt, r, err);
    recording_finish(r); /* the engine may still be about to call the sink */
    return rc;
}

static enum errc run(const struct generate *g, struct error *err) {
    struct model_path_options places = {.models_dir = g->models_dir};
    AUTO_FREE char *path = NULL;
    AUTO(model) m = NULL;
    enum errc rc;
    if ((rc = model_path_resolve(g->model, &places, &path, err)) ||
        (rc = model_open(path, &m, err)))
        return rc;

    AUTO_TOKEN_IDS prompt = TOKEN_IDS_INIT;
    for (size_t i = 0; i < g->given.len; i++)
        token_ids_push(&prompt, g->given.data[i]);
    struct tokenizer_encode_options how = {.add_special = true, .parse_special = true};
    if (g->prompt && (rc = tokenizer_encode(model_tokenizer(m), g->prompt, strlen(g->prompt), how,
                                            &prompt, err)))
        return rc;

    /* One request needs no more context than its own. */
    uint32_t context = model_config(m)->context_length;
    uint64_t need = prompt.len + g->forced.len + (g->forced.len ? 1 : g->max_tokens);
    struct engine_options opt = {
        .max_model_len = g->max_model_len ? g->max_model_len
                         : need < context ? (uint32_t)(need < 2 ? 2 : need)
                                          : context,
        .max_num_seqs = 1,
        .max_num_waiting = 1,
        .num_threads = g->num_threads,
        .reference = !strcmp(g->dtype, "float32"),
    };
    AUTO(engine) e = NULL;
    if ((rc = engine_create(m, &opt, &e, err)))
        return rc;
    return run_request(g, e, m, &prompt, err);
}

/* Reads the command line into g; with --help prints the list instead. */
static enum errc parse(struct generate *g, int argc, char **argv, struct error *err) {
    const struct command_option options[] = {
        {"model", OPTION_TEXT, &g->model, NULL, 0, 0, "file, directory, embedded://M, hf://ORG/M"},
        {"models-dir", OPTION_TEXT, &g->models_dir, NULL, 0, 0, "where references are looked up"},
        {"prompt", OPTION_TEXT, &g->prompt, NULL, 0, 0, "the text to go on from"},
        {"prompt-tokens", OPTION_TEXT, &g->prompt_tokens, NULL, 0, 0, "or its ids, like 1,2,3"},
        {"max-tokens", OPTION_COUNT, &g->max_tokens, NULL, 1, UINT32_MAX, "at most (128)"},
        {"temperature", OPTION_REAL, &g->temperature, NULL, 0, 1e6, "0 (default): greedy"},
        {"top-p", OPTION_REAL, &g->top_p, NULL, 0, 1, "1 (default): off"},
        {"top-k", OPTION_COUNT, &g->top_k, NULL, 0, INT32_MAX, "0 (default): off"},
        {"min-p", OPTION_REAL, &g->min_p, NULL, 0, 1, "0 (default): off"},
        {"presence-penalty", OPTION_REAL, &g->presence_penalty, NULL, -2, 2, "0 (default): off"},
        {"frequency-penalty", OPTION_REAL, &g->frequency_penalty, NULL, -2, 2, "0 (default): off"},
        {"repetition-penalty", OPTION_REAL, &g->repetition_penalty, NULL, 0, 1e6,
         "1 (default): off"},
        {"seed", OPTION_SEED, &g->seed, &g->has_seed, 0, 0, "of the random numbers"},
        {"ignore-eos", OPTION_FLAG, &g->ignore_eos, NULL, 0, 0, "go on behind the end"},
        {"top-logprobs", OPTION_COUNT, &g->top_logprobs, &g->has_top_logprobs, 0, UINT32_MAX,
         "best candidates to report for each token"},
        {"force-tokens", OPTION_TEXT, &g->force_tokens, NULL, 0, 0,
         "ids to score behind the prompt instead of generating"},
        {"json", OPTION_FLAG, &g->is_json, NULL, 0, 0, "print one JSON object"},
        {"dtype", OPTION_TEXT, &g->dtype, NULL, 0, 0, "auto (default); float32: exact and slow"},
        {"threads", OPTION_COUNT, &g->num_threads, NULL, 0, 1024, "0 (default): all CPUs"},
        {"max-model-len", OPTION_COUNT, &g->max_model_len, NULL, 2, UINT32_MAX, "context length"},
        {"help", OPTION_FLAG, &g->wants_help, NULL, 0, 0, "this list"},
    };
    enum errc rc = command_options_parse(options, ARRAY_LEN(options), argc, argv, err);
    if (rc)
        return rc;
    if (!g->wants_help)
        return check_usage(g, err);
    AUTO_BUF help = BUF_INIT;
    command_options_help(options, ARRAY_LEN(options), &help);
    printf("usage: inferd generate --model PATH --prompt TEXT "
           "[options]\n%s",
           help.data);
    return OK;
}

int generate_command(int argc, char **argv) {
    struct generate g = {
        .dtype = "auto",
        .max_tokens = 128,
        .top_p = 1,
        .repetition_penalty = 1,
    };
    struct error err = ERROR_INIT;
    log_set_level(LOG_LEVEL_WARN);
    int status = 0;
    if (parse(&g, argc, argv, &err)) {
        fprintf(stderr, "inferd generate: %s (see inferd generate --help)\n", err.text);
        status = EXIT_USAGE;
    } else if (!g.wants_help && run(&g, &err)) {
        fprintf(stderr, "inferd generate: %s\n", err.text);
        status = EXIT_FAILURE;
    }
    token_ids_deinit(&g.given);
    token_ids_deinit(&g.forced);
    return status;
}
