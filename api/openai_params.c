/* Parameters of a completion request: OpenAI's, and vLLM's beyond them.
 *
 * Three sorts of names: those that take effect; those that change nothing here and are ignored
 * because clients send them by habit; those that would change the answer and are not served, which
 * are refused by name. Whatever is in none of the lists is a typing error and is refused too. */
#include "api/openai_params.h"

#include <float.h>
#include <stdio.h>

#include "api/openai_json.h"

/* Read below, or by the callers (model, prompt, messages, ...). */
static const char *const honoured[] = {
    "model",
    "messages",
    "prompt",
    "stream",
    "stream_options",
    "n",
    "best_of",
    "max_tokens",
    "max_completion_tokens",
    "min_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "stop",
    "stop_token_ids",
    "include_stop_str_in_output",
    "skip_special_tokens",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "echo",
    "ignore_eos",
    "add_generation_prompt",
    "continue_final_message",
    "chat_template_kwargs",
    "add_special_tokens",
    "documents",
    "tools",
    "tool_choice",
    "response_format",
    "modalities",
    "spaces_between_special_tokens",
    "length_penalty",
    "use_beam_search",
    "suffix",
};

static const char *const ignored[] = {
    "user",
    "metadata",
    "store",
    "service_tier",
    "parallel_tool_calls",
    "priority",
    "request_id",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "reasoning_effort",
    "verbosity",
    "cache_salt",
    "detokenize",
    "return_tokens_as_token_ids",
    "include_reasoning",
};

static bool in_list(const char *const *list, size_t len, const char *name) {
    for (size_t i = 0; i < len; i++) {
        if (!strcmp(list[i], name))
            return true;
    }
    return false;
}

static enum errc check_names(const json_t *body, struct error *err) {
    const char *name;
    json_t *value;
    json_object_foreach ((json_t *)body, name, value) {
        if (in_list(honoured, ARRAY_LEN(honoured), name) ||
            in_list(ignored, ARRAY_LEN(ignored), name) || json_is_null(value))
            continue;
        return err_field(err, ERR_INVALID, name, "%.100s: this parameter is not supported here",
                         name);
    }
    return OK;
}

static enum errc unsupported(const char *name, const char *what, struct error *err) {
    return err_field(err, ERR_INVALID, name, "%s: %s", name, what);
}

/* Parameters that are fine at their neutral value and refused at any other. */
static enum errc check_neutral(const json_t *body, struct error *err) {
    bool beam = false;
    float length_penalty = 1;
    const char *suffix = NULL;
    enum errc rc = openai_read_bool(body, "use_beam_search", &beam, err);
    if (!rc)
        rc = openai_read_float(body, "length_penalty", -DBL_MAX, DBL_MAX, &length_penalty, err);
    if (!rc)
        rc = openai_read_string(body, "suffix", &suffix, err);
    if (rc)
        return rc;
    if (beam)
        return unsupported("use_beam_search", "beam search is not supported", err);
    if (length_penalty != 1)
        return unsupported("length_penalty", "only 1 is supported: there is no beam search", err);
    if (suffix && *suffix)
        return unsupported("suffix", "infilling is not supported", err);
    const json_t *format = json_object_get(body, "response_format");
    const char *type = json_string_value(json_object_get(format, "type"));
    if (format && !json_is_null(format) && (!type || strcmp(type, "text") != 0))
        return unsupported("response_format",
                           "only {\"type\": \"text\"} is served: constrained output is not yet",
                           err);
    const json_t *tools = json_object_get(body, "tools");
    const char *choice = json_string_value(json_object_get(body, "tool_choice"));
    if (json_array_size(tools) && !(choice && !strcmp(choice, "none")))
        return unsupported(
            "tools",
            "tool calls are not parsed yet; with tool_choice \"none\" the model only "
            "sees the tools",
            err);
    const json_t *modalities = json_object_get(body, "modalities");
    size_t i;
    json_t *m;
    json_array_foreach (modalities, i, m) {
        if (!json_is_string(m) || strcmp(json_string_value(m), "text") != 0)
            return unsupported("modalities", "only \"text\" is supported", err);
    }
    return OK;
}

static enum errc add_stop(struct openai_params *p, const json_t *s, struct error *err) {
    if (!json_is_string(s))
        return unsupported("stop", "must be a string or an array of strings", err);
    if (p->num_stop == OPENAI_STOP_STRINGS_MAX)
        return err_field(err, ERR_INVALID, "stop", "stop: more than %d strings",
                         OPENAI_STOP_STRINGS_MAX);
    size_t len = json_string_length(s);
    if (!len)
        return unsupported("stop", "a stop string is empty", err);
    if (len > OPENAI_STOP_BYTES_MAX)
        return err_field(err, ERR_INVALID, "stop", "stop: a string has %zu bytes, more than %d",
                         len, OPENAI_STOP_BYTES_MAX);
    p->stop[p->num_stop++] = json_string_value(s);
    return OK;
}

static enum errc read_stop(const json_t *body, struct openai_params *p, struct error *err) {
    const json_t *stop = json_object_get(body, "stop");
    size_t i;
    json_t *s;
    if (!stop || json_is_null(stop))
        return OK;
    if (!json_is_array(stop))
        return add_stop(p, stop, err);
    json_array_foreach (stop, i, s) {
        enum errc rc = add_stop(p, s, err);
        if (rc)
            return rc;
    }
    return OK;
}

static enum errc read_stop_ids(const json_t *body, struct sampling_params *s, struct error *err) {
    const json_t *ids = json_object_get(body, "stop_token_ids");
    size_t i;
    json_t *id;
    if (!ids || json_is_null(ids))
        return OK;
    if (!json_is_array(ids) || json_array_size(ids) > ENGINE_STOP_IDS_MAX)
        return err_field(err, ERR_INVALID, "stop_token_ids",
                         "stop_token_ids: must be an array of at most %d token ids",
                         ENGINE_STOP_IDS_MAX);
    json_array_foreach (ids, i, id) {
        json_int_t v = json_integer_value(id);
        if (!json_is_integer(id) || v < 0 || v > INT32_MAX)
            return unsupported("stop_token_ids", "an entry is no token id", err);
        s->stop_ids[s->num_stop_ids++] = (int32_t)v;
    }
    return OK;
}

static enum errc read_logit_bias(const json_t *body, struct sampling_params *s, struct error *err) {
    const json_t *map = json_object_get(body, "logit_bias");
    const char *key;
    json_t *value;
    if (!map || json_is_null(map))
        return OK;
    if (!json_is_object(map))
        return unsupported("logit_bias", "must be an object of token id to bias", err);
    if (json_object_size(map) > ENGINE_LOGIT_BIAS_MAX)
        return err_field(err, ERR_INVALID, "logit_bias", "logit_bias: %zu entries, more than %d",
                         json_object_size(map), ENGINE_LOGIT_BIAS_MAX);
    json_object_foreach ((json_t *)map, key, value) {
        char *end;
        long id = strtol(key, &end, 10);
        double bias = json_number_value(value);
        if (*end || end == key || id < 0 || id > INT32_MAX)
            return err_field(err, ERR_INVALID, "logit_bias", "logit_bias: \"%.40s\" is no token id",
                             key);
        if (!json_is_number(value) || bias < -100 || bias > 100)
            return err_field(err, ERR_INVALID, "logit_bias",
                             "logit_bias: the bias of %ld is not a number within -100..100", id);
        s->logit_bias[s->num_logit_bias].id = (int32_t)id;
        s->logit_bias[s->num_logit_bias++].bias = (float)bias;
    }
    return OK;
}

/* chat: logprobs is a switch, top_logprobs the number; completions: logprobs is the number. */
static enum errc read_logprobs(const json_t *body, enum openai_endpoint endpoint, int32_t max,
                               struct openai_params *p, struct error *err) {
    int64_t k = -1;
    enum errc rc;
    if (endpoint == OPENAI_COMPLETIONS) {
        rc = openai_read_int(body, "logprobs", 0, max, &k, err);
        p->logprobs = k >= 0;
    } else {
        rc = openai_read_bool(body, "logprobs", &p->logprobs, err);
        if (!rc)
            rc = openai_read_int(body, "top_logprobs", 0, max, &k, err);
        if (!rc && k > 0 && !p->logprobs)
            return unsupported("top_logprobs", "needs logprobs: true", err);
        if (p->logprobs && k < 0)
            k = 0;
    }
    p->sampling.num_logprobs = p->logprobs ? (int32_t)k : -1;
    return rc;
}

static enum errc read_stream(const json_t *body, struct openai_params *p, struct error *err) {
    enum errc rc = openai_read_bool(body, "stream", &p->stream, err);
    const json_t *options = json_object_get(body, "stream_options");
    if (rc || !options || json_is_null(options))
        return rc;
    if (!json_is_object(options))
        return unsupported("stream_options", "must be an object", err);
    if (!p->stream)
        return unsupported("stream_options", "needs stream: true", err);
    rc = openai_read_bool(options, "include_usage", &p->include_usage, err);
    if (!rc)
        rc = openai_read_bool(options, "continuous_usage_stats", &p->continuous_usage, err);
    return rc;
}

static enum errc read_lengths(const json_t *body, enum openai_endpoint endpoint,
                              struct openai_params *p, struct error *err) {
    int64_t max = -1, max_completion = -1, min = 0, n = 1;
    enum errc rc = openai_read_int(body, "max_tokens", 1, INT32_MAX, &max, err);
    if (!rc && endpoint == OPENAI_CHAT)
        rc = openai_read_int(body, "max_completion_tokens", 1, INT32_MAX, &max_completion, err);
    if (!rc)
        rc = openai_read_int(body, "min_tokens", 0, INT32_MAX, &min, err);
    if (!rc)
        rc = openai_read_int(body, "n", 1, OPENAI_CHOICES_MAX, &n, err);
    if (rc)
        return rc;
    int64_t best_of = n;
    rc = openai_read_int(body, "best_of", 1, OPENAI_CHOICES_MAX, &best_of, err);
    if (!rc && best_of != n)
        return unsupported("best_of", "must equal n: nothing is discarded here", err);
    max = max_completion > 0 ? max_completion : max;
    p->has_max_tokens = max > 0;
    p->sampling.max_tokens = max > 0 ? (uint32_t)max : endpoint == OPENAI_CHAT ? INT32_MAX : 16;
    if (min > p->sampling.max_tokens)
        return err_field(err, ERR_INVALID, "min_tokens",
                         "min_tokens: %lld is above max_tokens (%u)", (long long)min,
                         p->sampling.max_tokens);
    p->sampling.min_tokens = (uint32_t)min;
    p->n = (uint32_t)n;
    return rc;
}

static enum errc read_sampling(const json_t *body, struct sampling_params *s, struct error *err) {
    int64_t top_k = s->top_k, seed = 0;
    enum errc rc = openai_read_float(body, "temperature", 0, 2, &s->temperature, err);
    if (!rc)
        rc = openai_read_float(body, "top_p", 0, 1, &s->top_p, err);
    if (!rc && s->top_p <= 0)
        rc = unsupported("top_p", "0 is not within (0, 1]", err);
    if (!rc)
        rc = openai_read_float(body, "min_p", 0, 1, &s->min_p, err);
    if (!rc)
        rc = openai_read_int(body, "top_k", -1, INT32_MAX, &top_k, err);
    if (!rc)
        rc = openai_read_float(body, "presence_penalty", -2, 2, &s->presence_penalty, err);
    if (!rc)
        rc = openai_read_float(body, "frequency_penalty", -2, 2, &s->frequency_penalty, err);
    if (!rc)
        rc = openai_read_float(body, "repetition_penalty", 0.01, 100, &s->repetition_penalty, err);
    if (!rc)
        rc = openai_read_int(body, "seed", INT64_MIN, INT64_MAX, &seed, err);
    if (!rc)
        rc = openai_read_bool(body, "ignore_eos", &s->ignore_eos, err);
    s->top_k = (int32_t)top_k;
    s->has_seed = json_is_number(json_object_get(body, "seed"));
    s->seed = (uint64_t)seed;
    return rc;
}

static void apply_defaults(const struct model_generation *d, struct sampling_params *s) {
    if (!d)
        return;
    if (d->temperature >= 0)
        s->temperature = d->temperature;
    if (d->top_p > 0)
        s->top_p = d->top_p;
    if (d->min_p >= 0)
        s->min_p = d->min_p;
    if (d->top_k > 0)
        s->top_k = d->top_k;
    if (d->repetition_penalty > 0)
        s->repetition_penalty = d->repetition_penalty;
}

static enum errc read_output(const json_t *body, enum openai_endpoint endpoint,
                             struct openai_params *p, struct error *err) {
    bool skip_special = true;
    enum errc rc =
        openai_read_bool(body, "include_stop_str_in_output", &p->include_stop_in_output, err);
    if (!rc)
        rc = openai_read_bool(body, "skip_special_tokens", &skip_special, err);
    p->keep_special_tokens = !skip_special;
    if (!rc && endpoint == OPENAI_COMPLETIONS)
        rc = openai_read_bool(body, "echo", &p->echo, err);
    if (!rc && endpoint == OPENAI_CHAT) {
        rc = openai_read_bool(body, "continue_final_message", &p->continue_final_message, err);
        p->add_generation_prompt = !p->continue_final_message;
    }
    if (!rc && endpoint == OPENAI_CHAT)
        rc = openai_read_bool(body, "add_generation_prompt", &p->add_generation_prompt, err);
    if (!rc && p->add_generation_prompt && p->continue_final_message)
        rc = unsupported("continue_final_message", "excludes add_generation_prompt", err);
    return rc;
}

enum errc openai_params_parse(const json_t *body, enum openai_endpoint endpoint,
                              const struct model_generation *defaults, int32_t max_logprobs,
                              struct openai_params *ret_params, struct error *err) {
    struct openai_params *p = ret_params;
    memset(p, 0, sizeof(*p));
    sampling_params_init(&p->sampling);
    apply_defaults(defaults, &p->sampling);
    enum errc rc = check_names(body, err);
    if (!rc)
        rc = check_neutral(body, err);
    if (!rc)
        rc = read_lengths(body, endpoint, p, err);
    if (!rc)
        rc = read_sampling(body, &p->sampling, err);
    if (!rc)
        rc = read_stop(body, p, err);
    if (!rc)
        rc = read_stop_ids(body, &p->sampling, err);
    if (!rc)
        rc = read_logit_bias(body, &p->sampling, err);
    if (!rc)
        rc = read_logprobs(body, endpoint, max_logprobs, p, err);
    if (!rc)
        rc = read_stream(body, p, err);
    if (!rc)
        rc = read_output(body, endpoint, p, err);
    p->sampling.prompt_logprobs = p->echo && p->logprobs;
    return rc;
}
