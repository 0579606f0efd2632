/* The Open Inference Protocol v2 (KServe's "V2"): health, metadata, and the generate extension for
 * text models. Source: kserve/open-inference-protocol, specification/protocol. Errors are
 * {"error": "text"}. */
#include <stdatomic.h>

#include "api/openai.h"
#include "api/openai_json.h"

enum { OIP_MAX_TOKENS_DEFAULT = 20 }; /* the extension's own default */

static void reply_error(struct http_exchange *x, const struct error *err) {
    json_t *body = json_pack("{s:s}", "error", err->text);
    http_reply_json(x, openai_status(err->code), body);
    json_decref(body);
}

static void reply_new(struct http_exchange *x, int status, json_t *body) {
    http_reply_json(x, status, body);
    json_decref(body);
}

static void server_metadata(struct http_exchange *x) {
    reply_new(x, 200,
              json_pack("{s:s, s:s, s:[s]}", "name", "inferd", "version", INFERD_VERSION,
                        "extensions", "generate"));
}

static void model_metadata(struct http_exchange *x, const char *name) {
    json_t *input =
        json_pack("{s:s, s:s, s:[i]}", "name", "text_input", "datatype", "BYTES", "shape", 1);
    json_t *output =
        json_pack("{s:s, s:s, s:[i]}", "name", "text_output", "datatype", "BYTES", "shape", 1);
    reply_new(x, 200,
              json_pack("{s:s, s:[s], s:s, s:[o], s:[o]}", "name", name, "versions", "1",
                        "platform", "inferd", "inputs", input, "outputs", output));
}

/* name NULL: the server's own readiness. */
static void readiness(struct openai_server *s, struct http_exchange *x, const char *name) {
    bool ready = !atomic_load(&s->draining);
    json_t *body = json_pack("{s:b}", "ready", ready);
    if (name)
        json_object_set_new(body, "name", json_string(name));
    reply_new(x, ready ? 200 : 503, body);
}

/* {"text_input": ..., "parameters": {...}} into a completion request. */
static enum errc read_generate(const struct openai_server *s, struct completion_request *rq,
                               bool stream, struct error *err) {
    const char *text = NULL;
    enum errc rc = openai_read_string(rq->body, "text_input", &text, err);
    if (rc)
        return rc;
    if (!text || !*text)
        return err_field(err, ERR_INVALID, "text_input", "text_input: a string is required");
    const json_t *given = json_object_get(rq->body, "parameters");
    if (given && !json_is_null(given) && !json_is_object(given))
        return err_field(err, ERR_INVALID, "parameters", "parameters: must be an object");
    json_t *params = given ? json_copy((json_t *)given) : json_object();
    json_object_del(params, "details");
    json_object_set_new(params, "stream", json_boolean(stream));
    if (!json_object_get(params, "max_tokens"))
        json_object_set_new(params, "max_tokens", json_integer(OIP_MAX_TOKENS_DEFAULT));
    json_object_set_new(rq->body, "parameters", params); /* stop strings live as long as the body */
    rc = openai_params_parse(params, OPENAI_COMPLETIONS, s->generation, s->max_logprobs,
                             &rq->params, err);
    if (!rc && rq->params.n != 1)
        rc = err_field(err, ERR_INVALID, "n", "n: only 1 is supported here");
    if (rc)
        return rc;
    struct tokenizer_encode_options opt = {.add_special = true, .parse_special = true};
    rq->prompts = mem_alloc(sizeof(*rq->prompts));
    rq->num_prompts = 1;
    return tokenizer_encode(model_tokenizer(s->model), text, strlen(text), opt, &rq->prompts[0].ids,
                            err);
}

static void generate(struct openai_server *s, struct http_exchange *x, const char *name,
                     bool stream) {
    struct error err = ERROR_INIT;
    struct completion_request rq = {.x = x, .form = COMPLETION_GENERATE, .model = name};
    enum errc rc = openai_parse_body(x, &rq.body, &err);
    if (!rc)
        rc = read_generate(s, &rq, stream, &err);
    if (!rc) {
        completion_start(s->completions, &rq);
        return;
    }
    reply_error(x, &err);
    completion_request_deinit(&rq);
}

static void no_infer(struct http_exchange *x) {
    struct error err = ERROR_INIT;
    (void)err_set(&err, ERR_INVALID,
                  "this is a text generation model: use /v2/models/NAME/generate or the OpenAI "
                  "endpoints; tensors are not served");
    reply_error(x, &err);
}

/* What follows "/v2/models/NAME". False: no such path. */
static bool model_path(struct openai_server *s, struct http_exchange *x, const char *name,
                       const char *rest, bool get) {
    if (!strncmp(rest, "/versions/", 10)) {
        rest += 10;
        size_t len = strcspn(rest, "/");
        if (len != 1 || *rest != '1')
            return false;
        rest += len;
    }
    if (get && !*rest)
        model_metadata(x, name);
    else if (get && !strcmp(rest, "/ready"))
        readiness(s, x, name);
    else if (!get && !strcmp(rest, "/generate"))
        generate(s, x, name, false);
    else if (!get && !strcmp(rest, "/generate_stream"))
        generate(s, x, name, true);
    else if (!get && !strcmp(rest, "/infer"))
        no_infer(x);
    else
        return false;
    return true;
}

/* rest: what follows "/v2/models/". A name may hold slashes ("org/model"). */
static bool models(struct openai_server *s, struct http_exchange *x, const char *rest, bool get) {
    for (const char *const *n = s->names; *n; n++) {
        size_t len = strlen(*n);
        if (!strncmp(rest, *n, len) && (!rest[len] || rest[len] == '/'))
            return model_path(s, x, *n, rest + len, get);
    }
    struct error err = ERROR_INIT;
    (void)err_set(&err, ERR_NOT_FOUND, "the model of \"%.200s\" does not exist; here is \"%s\"",
                  rest, s->names[0]);
    reply_error(x, &err);
    return true;
}

bool oip_handle(struct openai_server *s, struct http_exchange *x, const char *path) {
    bool get = !strcmp(http_method(x), "GET") || !strcmp(http_method(x), "HEAD");
    if (!get && strcmp(http_method(x), "POST") != 0)
        return false;
    if (get && (!*path || !strcmp(path, "/")))
        server_metadata(x);
    else if (get && !strcmp(path, "/health/live"))
        reply_new(x, 200, json_pack("{s:b}", "live", 1));
    else if (get && !strcmp(path, "/health/ready"))
        readiness(s, x, NULL);
    else if (!strncmp(path, "/models/", 8) && path[8])
        return models(s, x, path + 8, get);
    else
        return false;
    return true;
}
