/* The command line of `inferd engine`. A manifest written for vllm/vllm-openai or for KServe's
 * huggingfaceserver must either mean the same here or say why it cannot: the table below is that
 * promise, option by option. */
#include "core/base/engine_args.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>

#include "core/base/buf.h"

enum effect {
    HONOURED,
    NO_MEANING, /* accepted with a warning */
    REFUSED,    /* would change results */
};

enum arg_kind {
    ARG_STRING,
    ARG_STRINGS, /* one or more words, up to the next option */
    ARG_UINT,    /* also "4k" = 4000, "4K" = 4096, as vLLM reads lengths */
    ARG_BYTES,
    ARG_INT,
    ARG_FLAG,   /* --x, --no-x, and --x=true */
    ARG_CHOICE, /* value must be one of `words` (first list: fine; others refused) */
};

struct option {
    const char *name;
    enum arg_kind kind;
    enum effect effect;
    size_t offset;     /* into struct engine_args, for HONOURED */
    uint64_t min, max; /* of ARG_UINT, ARG_BYTES */
    const char *words; /* ARG_CHOICE: "auto|half"; REFUSED, NO_MEANING: why */
};

#define FIELD(f) offsetof(struct engine_args, f)
#define NONE     SIZE_MAX

static const struct option options[] = {
    {"model", ARG_STRING, HONOURED, FIELD(model), 0, 0, "path or hf://ORG/NAME"},
    {"model-id", ARG_STRING, HONOURED, FIELD(model), 0, 0, NULL},
    {"model-dir", ARG_STRING, HONOURED, FIELD(model), 0, 0, NULL},
    {"served-model-name", ARG_STRINGS, HONOURED, FIELD(served_names), 0, 0, "what clients call it"},
    {"model-name", ARG_STRINGS, HONOURED, FIELD(served_names), 0, 0, NULL},
    {"host", ARG_STRING, HONOURED, FIELD(host), 0, 0, "address to listen on"},
    {"port", ARG_INT, HONOURED, FIELD(port), 0, 65535, "TCP port (0: any free one)"},
    {"http-port", ARG_INT, HONOURED, FIELD(port), 0, 65535, NULL},
    {"uds", ARG_STRING, HONOURED, FIELD(uds), 0, 0, "listen on this Unix socket instead"},
    {"chat-template", ARG_STRING, HONOURED, FIELD(chat_template), 0, 0, "file or Jinja source"},
    {"api-key", ARG_STRING, HONOURED, FIELD(api_key), 0, 0, "bearer token to ask for"},
    {"revision", ARG_STRING, HONOURED, FIELD(revision), 0, 0, "of a hub model"},
    {"models-dir", ARG_STRING, HONOURED, FIELD(models_dir), 0, 0, "folder of models"},
    {"download-dir", ARG_STRING, HONOURED, FIELD(hf_cache_dir), 0, 0, "hub cache"},
    {"hf-cache-dir", ARG_STRING, HONOURED, FIELD(hf_cache_dir), 0, 0, NULL},
    {"max-model-len", ARG_UINT, HONOURED, FIELD(max_model_len), 8, 1 << 24, "longest context"},
    {"max-length", ARG_UINT, HONOURED, FIELD(max_model_len), 8, 1 << 24, NULL},
    {"max-num-seqs", ARG_UINT, HONOURED, FIELD(max_num_seqs), 1, 4096, "requests in a step"},
    {"max-num-batched-tokens", ARG_UINT, HONOURED, FIELD(max_num_batched_tokens), 1, 1 << 20,
     "tokens in a step"},
    {"block-size", ARG_UINT, HONOURED, FIELD(block_size), 1, 256, "positions per KV block"},
    {"kv-cache-memory-bytes", ARG_BYTES, HONOURED, FIELD(kv_cache_bytes), 1, 1ull << 46,
     "size of the KV cache"},
    {"threads", ARG_UINT, HONOURED, FIELD(num_threads), 1, 1024, "CPU threads"},
    {"seed", ARG_BYTES, HONOURED, FIELD(seed), 0, INT64_MAX, "for requests without one"},
    {"max-logprobs", ARG_INT, HONOURED, FIELD(max_logprobs), 0, 20, "most top_logprobs"},
    {"device", ARG_CHOICE, HONOURED, FIELD(device), 0, 0, "auto|cpu"},
    {"dtype", ARG_CHOICE, HONOURED, NONE, 0, 0, "auto|half|float16|bfloat16|float|float32"},
    {"generation-config", ARG_CHOICE, HONOURED, NONE, 0, 0, "auto|vllm"},
    {"enable-prefix-caching", ARG_FLAG, HONOURED, NONE, 0, 0, "reuse the KV of common prefixes"},
    {"quantization", ARG_CHOICE, HONOURED, NONE, 0, 0, "gguf|none|auto"},
    {"kv-cache-dtype", ARG_CHOICE, HONOURED, NONE, 0, 0, "auto"},
    {"load-format", ARG_CHOICE, HONOURED, NONE, 0, 0, "auto|safetensors|gguf"},
    {"tensor-parallel-size", ARG_CHOICE, HONOURED, NONE, 0, 0, "1"},
    {"pipeline-parallel-size", ARG_CHOICE, HONOURED, NONE, 0, 0, "1"},
    {"data-parallel-size", ARG_CHOICE, HONOURED, NONE, 0, 0, "1"},
    {"runner", ARG_CHOICE, HONOURED, NONE, 0, 0, "auto|generate"},
    {"task", ARG_CHOICE, HONOURED, NONE, 0, 0,
     "auto|generate|text_generation|text-generation|causal_lm"},
    {"backend", ARG_CHOICE, HONOURED, NONE, 0, 0, "auto|vllm|huggingface"},
    {"chat-template-content-format", ARG_CHOICE, HONOURED, NONE, 0, 0, "auto|string"},

    {"gpu-memory-utilization", ARG_STRING, NO_MEANING, NONE, 0, 0,
     "memory is budgeted in bytes: --kv-cache-memory-bytes"},
    {"trust-remote-code", ARG_FLAG, NO_MEANING, NONE, 0, 0, "code of a model is never run"},
    {"enforce-eager", ARG_FLAG, NO_MEANING, NONE, 0, 0, "there is nothing to compile"},
    {"enable-chunked-prefill", ARG_FLAG, NO_MEANING, NONE, 0, 0, "prefill is always chunked"},
    {"swap-space", ARG_STRING, NO_MEANING, NONE, 0, 0, "preempted requests are recomputed"},
    {"cpu-offload-gb", ARG_STRING, NO_MEANING, NONE, 0, 0, "weights are not split over devices"},
    {"disable-log-requests", ARG_FLAG, NO_MEANING, NONE, 0, 0, "requests are never logged"},
    {"enable-log-requests", ARG_FLAG, NO_MEANING, NONE, 0, 0, "requests are never logged"},
    {"disable-log-stats", ARG_FLAG, NO_MEANING, NONE, 0, 0, "figures are at /metrics"},
    {"max-log-len", ARG_STRING, NO_MEANING, NONE, 0, 0, "requests are never logged"},
    {"uvicorn-log-level", ARG_STRING, NO_MEANING, NONE, 0, 0, "there is no uvicorn here"},
    {"disable-uvicorn-access-log", ARG_FLAG, NO_MEANING, NONE, 0, 0, "there is no uvicorn here"},
    {"distributed-executor-backend", ARG_STRING, NO_MEANING, NONE, 0, 0, "one process, one device"},
    {"max-parallel-loading-workers", ARG_STRING, NO_MEANING, NONE, 0, 0, "weights are mapped"},
    {"tokenizer-mode", ARG_STRING, NO_MEANING, NONE, 0, 0, "there is one tokenizer"},
    {"guided-decoding-backend", ARG_STRING, NO_MEANING, NONE, 0, 0,
     "constrained output is not served yet"},
    {"enable-auto-tool-choice", ARG_FLAG, NO_MEANING, NONE, 0, 0,
     "tool calls are not served yet: requests with tools are refused"},
    {"tool-call-parser", ARG_STRING, NO_MEANING, NONE, 0, 0,
     "tool calls are not served yet: requests with tools are refused"},
    {"reasoning-parser", ARG_STRING, NO_MEANING, NONE, 0, 0,
     "reasoning is not split off yet: it comes as text"},
    {"enable-reasoning", ARG_FLAG, NO_MEANING, NONE, 0, 0,
     "reasoning is not split off yet: it comes as text"},
    {"compilation-config", ARG_STRING, NO_MEANING, NONE, 0, 0, "there is nothing to compile"},
    {"max-seq-len-to-capture", ARG_STRING, NO_MEANING, NONE, 0, 0, "there is nothing to capture"},
    {"scheduling-policy", ARG_STRING, NO_MEANING, NONE, 0, 0, "requests run in order of arrival"},
    {"num-scheduler-steps", ARG_STRING, NO_MEANING, NONE, 0, 0, "one step at a time"},
    {"disable-custom-all-reduce", ARG_FLAG, NO_MEANING, NONE, 0, 0, "one process, one device"},
    {"async-scheduling", ARG_FLAG, NO_MEANING, NONE, 0, 0, "the engine schedules as it runs"},
    {"disable-frontend-multiprocessing", ARG_FLAG, NO_MEANING, NONE, 0, 0, "one process"},
    {"workers", ARG_STRING, NO_MEANING, NONE, 0, 0, "one process"},
    {"enable-docs-url", ARG_STRING, NO_MEANING, NONE, 0, 0, "there is no docs page"},
    {"enable-grpc", ARG_STRING, NO_MEANING, NONE, 0, 0, "gRPC is not served"},
    {"grpc-port", ARG_STRING, NO_MEANING, NONE, 0, 0, "gRPC is not served"},
    {"max-batch-size", ARG_STRING, NO_MEANING, NONE, 0, 0, "use --max-num-seqs"},

    {"tokenizer", ARG_STRING, REFUSED, NONE, 0, 0, "the model's own tokenizer is used"},
    {"enable-lora", ARG_FLAG, REFUSED, NONE, 0, 0, "LoRA adapters are not supported"},
    {"lora-modules", ARG_STRINGS, REFUSED, NONE, 0, 0, "LoRA adapters are not supported"},
    {"speculative-config", ARG_STRING, REFUSED, NONE, 0, 0,
     "speculative decoding is not supported"},
    {"speculative-model", ARG_STRING, REFUSED, NONE, 0, 0, "speculative decoding is not supported"},
    {"rope-scaling", ARG_STRING, REFUSED, NONE, 0, 0, "the model's own is used"},
    {"rope-theta", ARG_STRING, REFUSED, NONE, 0, 0, "the model's own is used"},
    {"hf-overrides", ARG_STRING, REFUSED, NONE, 0, 0, "config.json is used as it is"},
    {"override-generation-config", ARG_STRING, REFUSED, NONE, 0, 0,
     "set the values in the request"},
    {"limit-mm-per-prompt", ARG_STRING, REFUSED, NONE, 0, 0, "text models only"},
    {"allowed-local-media-path", ARG_STRING, REFUSED, NONE, 0, 0, "text models only"},
    {"kv-transfer-config", ARG_STRING, REFUSED, NONE, 0, 0, "the KV cache stays in one process"},
};

static const struct option *find_option(const char *name) {
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        if (!strcmp(options[i].name, name))
            return &options[i];
    }
    return NULL;
}

static void *slot(struct engine_args *a, const struct option *o) {
    return (char *)a + o->offset;
}

static void warn(struct engine_args *a, const char *name, const char *why) {
    if (a->num_warnings < ENGINE_ARGS_WARNINGS_MAX)
        a->warnings[a->num_warnings++] = mem_printf("--%s has no effect: %s", name, why);
}

/* A whole number with vLLM's multipliers: k m g are decimal, K M G binary. */
static bool parse_number(const char *text, uint64_t *ret) {
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno || end == text || *text == '-')
        return false;
    uint64_t unit = 1;
    static const char suffixes[] = "kmgKMG";
    static const uint64_t units[] = {1000, 1000000, 1000000000, 1 << 10, 1 << 20, 1 << 30};
    const char *s = *end ? strchr(suffixes, *end) : NULL;
    if (s) {
        unit = units[s - suffixes];
        end++;
        if (end[0] == 'i' && end[1] == 'B')
            end += 2;
    }
    if (*end || v > UINT64_MAX / unit)
        return false;
    *ret = v * unit;
    return true;
}

static enum errc set_number(struct engine_args *a, const struct option *o, const char *value,
                            struct error *err) {
    uint64_t v;
    uint64_t max = o->kind == ARG_BYTES || o->kind == ARG_UINT || o->kind == ARG_INT ? o->max : 0;
    if (!parse_number(value, &v))
        return err_field(err, ERR_INVALID, o->name, "--%s: \"%.80s\" is not a whole number",
                         o->name, value);
    if (v < o->min || v > max)
        return err_field(err, ERR_INVALID, o->name, "--%s: %llu is not within %llu..%llu", o->name,
                         (unsigned long long)v, (unsigned long long)o->min,
                         (unsigned long long)max);
    if (o->kind == ARG_BYTES)
        *(uint64_t *)slot(a, o) = v;
    else if (o->kind == ARG_UINT)
        *(uint32_t *)slot(a, o) = (uint32_t)v;
    else
        *(int32_t *)slot(a, o) = (int32_t)v;
    return OK;
}

static bool in_words(const char *words, const char *value) {
    size_t len = strlen(value);
    for (const char *p = words; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL) {
        size_t n = strcspn(p, "|");
        if (n == len && !strncmp(p, value, n))
            return true;
    }
    return false;
}

static enum errc set_choice(struct engine_args *a, const struct option *o, const char *value,
                            struct error *err) {
    if (!in_words(o->words, value))
        return err_field(err, ERR_INVALID, o->name,
                         "--%s: \"%.80s\" is not supported here; one of %s", o->name, value,
                         o->words);
    if (!strcmp(o->name, "dtype"))
        a->reference = !strcmp(value, "float32") || !strcmp(value, "float");
    else if (!strcmp(o->name, "generation-config"))
        a->ignore_generation_config = !strcmp(value, "vllm");
    else if (o->offset != NONE) {
        free(*(char **)slot(a, o));
        *(char **)slot(a, o) = mem_strdup(value);
    }
    return OK;
}

static enum errc add_name(struct engine_args *a, const struct option *o, const char *value,
                          struct error *err) {
    if (a->num_served_names == ENGINE_ARGS_NAMES_MAX)
        return err_field(err, ERR_INVALID, o->name, "--%s: more than %d names", o->name,
                         ENGINE_ARGS_NAMES_MAX);
    if (!*value || strlen(value) > 256)
        return err_field(err, ERR_INVALID, o->name, "--%s: a name has 1 to 256 bytes", o->name);
    a->served_names[a->num_served_names++] = mem_strdup(value);
    return OK;
}

static enum errc set_value(struct engine_args *a, const struct option *o, const char *value,
                           struct error *err) {
    if (o->effect == REFUSED)
        return err_field(err, ERR_INVALID, o->name, "--%s is not supported: %s", o->name, o->words);
    if (o->effect == NO_MEANING) {
        warn(a, o->name, o->words);
        return OK;
    }
    switch (o->kind) {
    case ARG_STRING: {
        char **s = slot(a, o);
        free(*s);
        *s = mem_strdup(value);
        return OK;
    }
    case ARG_STRINGS:
        return add_name(a, o, value, err);
    case ARG_UINT:
    case ARG_BYTES:
    case ARG_INT:
        return set_number(a, o, value, err);
    case ARG_CHOICE:
        return set_choice(a, o, value, err);
    case ARG_FLAG:
        a->disable_prefix_caching = !strcmp(value, "false");
        return OK;
    }
    return err_set(err, ERR_INTERNAL, "option --%s has no kind", o->name);
}

/* A flag: --x, --no-x, --x=true|false. */
static enum errc set_flag(struct engine_args *a, const struct option *o, bool negated,
                          const char *inline_value, struct error *err) {
    const char *value = inline_value ? inline_value : "true";
    if (!in_words("true|false|True|False|1|0", value))
        return err_field(err, ERR_INVALID, o->name, "--%s: \"%.80s\" is not true or false", o->name,
                         value);
    bool on = in_words("true|True|1", value) != negated;
    if (!on && o->effect == REFUSED)
        return OK;
    return set_value(a, o, on ? "true" : "false", err);
}

/* One option; *i stands on it and is left on the last word that belongs to it. */
static enum errc parse_option(struct engine_args *a, const char *const *args, size_t *i,
                              struct error *err) {
    char name[64];
    const char *word = args[*i] + 2;
    const char *equals = strchr(word, '=');
    size_t len = equals ? (size_t)(equals - word) : strlen(word);
    if (!len || len >= sizeof(name))
        return err_field(err, ERR_INVALID, "args", "unknown option \"%.80s\"", args[*i]);
    for (size_t k = 0; k < len; k++)
        name[k] = word[k] == '_' ? '-' : word[k];
    name[len] = '\0';
    const struct option *o = find_option(name);
    bool negated = false;
    if (!o && !strncmp(name, "no-", 3)) {
        o = find_option(name + 3);
        negated = o && o->kind == ARG_FLAG;
        o = negated ? o : NULL;
    }
    if (!o)
        return err_field(err, ERR_INVALID, name, "unknown option --%s", name);
    if (o->kind == ARG_FLAG)
        return set_flag(a, o, negated, equals ? equals + 1 : NULL, err);
    if (equals)
        return set_value(a, o, equals + 1, err);
    if (!args[*i + 1])
        return err_field(err, ERR_INVALID, name, "--%s wants a value", name);
    do {
        enum errc rc = set_value(a, o, args[++*i], err);
        if (rc)
            return rc;
    } while (o->kind == ARG_STRINGS && args[*i + 1] && strncmp(args[*i + 1], "--", 2) != 0);
    return OK;
}

enum errc engine_args_parse(const char *const *args, struct engine_args *ret_args,
                            struct error *err) {
    *ret_args = (struct engine_args){.port = 8000, .max_logprobs = 20};
    for (size_t i = 0; args[i]; i++) {
        enum errc rc = OK;
        if (!strncmp(args[i], "--", 2))
            rc = parse_option(ret_args, args, &i, err);
        else if (!i)
            ret_args->model = mem_strdup(args[i]);
        else
            rc = err_field(err, ERR_INVALID, "args", "\"%.80s\" is not an option", args[i]);
        if (rc)
            return rc;
    }
    return OK;
}

void engine_args_deinit(struct engine_args *a) {
    for (uint32_t i = 0; i < a->num_served_names; i++)
        free(a->served_names[i]);
    for (uint32_t i = 0; i < a->num_warnings; i++)
        free(a->warnings[i]);
    free(a->model);
    free(a->host);
    free(a->uds);
    free(a->chat_template);
    free(a->api_key);
    free(a->revision);
    free(a->models_dir);
    free(a->hf_cache_dir);
    free(a->device);
    *a = (struct engine_args){0};
}

void engine_args_help(struct buf *out) {
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        const struct option *o = &options[i];
        if (o->effect == HONOURED && o->words)
            buf_printf(out, "  --%-24s %s\n", o->name, o->words);
    }
}
