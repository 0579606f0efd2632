/* Routes of the engine's HTTP interface. Each endpoint stands at OpenAI's path and again under
 * /openai, where KServe's huggingfaceserver has it. */
#include "api/openai.h"

#include <stdatomic.h>
#include <stdio.h>

#include "api/openai_json.h"
#include "core/base/memory_need.h"

enum errc openai_find_model(const struct openai_server *s, const char *name, const char **ret_name,
                            struct error *err) {
    if (!name || !*name) {
        *ret_name = s->names[0];
        return OK;
    }
    for (const char *const *n = s->names; *n; n++) {
        if (!strcmp(*n, name)) {
            *ret_name = *n;
            return OK;
        }
    }
    return err_field(err, ERR_NOT_FOUND, "model",
                     "the model \"%.200s\" does not exist; here is \"%s\"", name, s->names[0]);
}

void openai_complete(struct openai_server *s, struct http_exchange *x, enum completion_form form,
                     openai_prompts_fn *read_prompts) {
    struct error err = ERROR_INIT;
    struct completion_request rq = {.x = x, .form = form};
    enum openai_endpoint endpoint = form == COMPLETION_CHAT ? OPENAI_CHAT : OPENAI_COMPLETIONS;
    const char *name = NULL;
    enum errc rc = openai_parse_body(x, &rq.body, &err);
    if (!rc)
        rc = openai_read_string(rq.body, "model", &name, &err);
    if (!rc)
        rc = openai_find_model(s, name, &rq.model, &err);
    if (!rc)
        rc = openai_params_parse(rq.body, endpoint, s->generation, s->max_logprobs, &rq.params,
                                 &err);
    if (!rc)
        rc = read_prompts(s, &rq, &err);
    if (!rc) {
        completion_start(s->completions, &rq);
        return;
    }
    openai_reply_error(x, &err);
    completion_request_deinit(&rq);
}

/* OpenAI's model object; "ready" beside it is what KServe's v1 protocol reads at the same path. */
static json_t *model_object(const struct openai_server *s, const char *name) {
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:o, s:i, s:s, s:b}", "id", name, "object", "model",
                     "created", (json_int_t)s->created_seconds, "owned_by", "inferd", "root",
                     s->names[0], "parent", json_null(), "max_model_len",
                     (int)engine_max_model_len(s->engine), "name", name, "ready", 1);
}

static void list_models(struct openai_server *s, struct http_exchange *x) {
    json_t *data = json_array();
    for (const char *const *n = s->names; *n; n++)
        json_array_append_new(data, model_object(s, *n));
    json_t *body = json_pack("{s:s, s:o}", "object", "list", "data", data);
    http_reply_json(x, 200, body);
    json_decref(body);
}

static void show_model(struct openai_server *s, struct http_exchange *x, const char *name) {
    struct error err = ERROR_INIT;
    const char *known = NULL;
    if (openai_find_model(s, name, &known, &err)) {
        openai_reply_error(x, &err);
        return;
    }
    json_t *body = model_object(s, known);
    http_reply_json(x, 200, body);
    json_decref(body);
}

static void show_health(struct openai_server *s, struct http_exchange *x) {
    if (s->memory_bytes) {
        char bytes[24];
        snprintf(bytes, sizeof(bytes), "%lld", (long long)s->memory_bytes);
        http_set_header(x, MEMORY_NEED_HEADER, bytes);
    }
    if (!atomic_load(&s->draining)) {
        http_reply_text(x, 200, "ok\n");
        return;
    }
    http_reply_text(x, 503, "draining\n");
}

static void show_metrics(struct openai_server *s, struct http_exchange *x) {
    AUTO_BUF out = BUF_INIT;
    engine_metrics_write(s->metrics, s->engine, &out);
    http_reply(x, 200, "text/plain; version=0.0.4; charset=utf-8", out.data, out.len);
}

static void show_version(struct openai_server *s, struct http_exchange *x) {
    json_t *body = json_pack("{s:s}", "version", INFERD_VERSION);
    http_reply_json(x, 200, body);
    json_decref(body);
}

struct route {
    const char *method, *path;
    void (*answer)(struct openai_server *s, struct http_exchange *x);
    bool open; /* without the API key */
};

static const struct route routes[] = {
    {"POST", "/v1/chat/completions", openai_chat, false},
    {"POST", "/v1/completions", openai_completions, false},
    {"GET", "/v1/models", list_models, false},
    {"GET", "/health", show_health, true},
    {"GET", "/healthz", show_health, true},
    {"GET", "/ping", show_health, true},
    {"GET", "/metrics", show_metrics, true},
    {"GET", "/version", show_version, true},
};

/* Constant time in the bytes compared: the key is a secret. */
static bool same_secret(const char *a, const char *b) {
    size_t n = strlen(a), m = strlen(b);
    unsigned char differ = n != m;
    for (size_t i = 0; i < m; i++)
        differ |= (unsigned char)(b[i] ^ (n ? a[i % n] : 0));
    return !differ;
}

static bool may_enter(const struct openai_server *s, const struct http_exchange *x) {
    if (!s->api_key)
        return true;
    const char *given = http_header(x, "Authorization");
    return given && !strncmp(given, "Bearer ", 7) && same_secret(given + 7, s->api_key);
}

static void refuse_key(struct http_exchange *x) {
    struct error err = ERROR_INIT;
    (void)err_set(&err, ERR_UNAUTHENTICATED,
                  "missing or wrong API key: send \"Authorization: "
                  "Bearer KEY\"");
    openai_reply_error(x, &err);
}

static void refuse_path(struct http_exchange *x, const char *allowed) {
    struct error err = ERROR_INIT;
    if (allowed) {
        http_set_header(x, "Allow", allowed);
        (void)err_set(&err, ERR_METHOD, "%.20s is not allowed on %.200s: use %s", http_method(x),
                      http_path(x), allowed);
        openai_reply_error(x, &err);
        return;
    }
    /* Not model_not_found: the path itself is unknown. */
    AUTO_BUF body = BUF_INIT;
    buf_puts(&body, "{\"error\":{\"message\":\"no such path: ");
    openai_escape(&body, http_path(x), strlen(http_path(x)));
    buf_puts(&body, "\",\"type\":\"invalid_request_error\",\"param\":null,\"code\":\"not_found\","
                    "\"request_id\":");
    openai_quote(&body, http_request_id(x));
    buf_puts(&body, "}}");
    http_reply(x, 404, "application/json", body.data, body.len);
}

void openai_handle(struct http_exchange *x, void *user) {
    struct openai_server *s = user;
    const char *path = http_path(x), *method = http_method(x), *allowed = NULL;
    if (!strncmp(path, "/openai/", 8))
        path += 7;
    bool get = !strcmp(method, "GET") || !strcmp(method, "HEAD");
    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        const struct route *r = &routes[i];
        if (strcmp(r->path, path) != 0)
            continue;
        allowed = r->method;
        if (strcmp(r->method, get ? "GET" : method) != 0)
            continue;
        if (r->open || may_enter(s, x))
            r->answer(s, x);
        else
            refuse_key(x);
        return;
    }
    bool model = !strncmp(path, "/v1/models/", 11) && path[11] && get;
    bool oip = !strncmp(path, "/v2", 3) && (!path[3] || path[3] == '/');
    if ((model || oip) && !may_enter(s, x))
        refuse_key(x);
    else if (model)
        show_model(s, x, path + 11);
    else if (!oip || !oip_handle(s, x, path + 3))
        refuse_path(x, allowed);
}
