/* POST /v1/chat/completions: messages become a prompt through the model's chat template. */
#include "api/openai.h"

#include <stdio.h>

#include "api/openai_json.h"
#include "core/base/clock.h"

enum { MESSAGES_MAX = 4096 };

static enum errc bad_message(size_t i, const char *what, struct error *err) {
    char field[64];
    snprintf(field, sizeof(field), "messages[%zu]", i);
    return err_field(err, ERR_INVALID, field, "messages[%zu]: %s", i, what);
}

/* Content in parts becomes one string: templates expect text. Gives. */
static enum errc join_parts(const json_t *parts, size_t i, json_t **ret, struct error *err) {
    AUTO_BUF text = BUF_INIT;
    size_t k;
    json_t *part;
    json_array_foreach (parts, k, part) {
        const char *type = json_string_value(json_object_get(part, "type"));
        const json_t *value = json_is_string(part) ? part : json_object_get(part, "text");
        bool is_text = json_is_string(part) || (type && !strcmp(type, "text"));
        if (!is_text || !json_is_string(value))
            return bad_message(i, "only content parts of type \"text\" are supported", err);
        if (k)
            buf_putc(&text, '\n');
        buf_append(&text, json_string_value(value), json_string_length(value));
    }
    *ret = json_stringn(text.data ? text.data : "", text.len);
    return OK;
}

static enum errc copy_message(const json_t *m, size_t i, json_t *out, struct error *err) {
    const json_t *content = json_object_get(m, "content");
    json_t *text = NULL;
    enum errc rc = OK;
    if (!json_is_object(m))
        return bad_message(i, "must be an object", err);
    if (!json_is_string(json_object_get(m, "role")))
        return bad_message(i, "role: a string is required", err);
    if (json_is_array(content))
        rc = join_parts(content, i, &text, err);
    else if (content && !json_is_null(content) && !json_is_string(content))
        rc = bad_message(i, "content: must be a string or an array of parts", err);
    else if ((!content || json_is_null(content)) && !json_object_get(m, "tool_calls"))
        rc = bad_message(i, "content: is required", err);
    if (rc)
        return rc;
    json_t *copy = json_copy((json_t *)m);
    if (text)
        json_object_set_new(copy, "content", text);
    json_array_append_new(out, copy);
    return OK;
}

static enum errc copy_messages(const json_t *body, json_t **ret, struct error *err) {
    const json_t *messages = json_object_get(body, "messages");
    size_t n = json_array_size(messages), i;
    json_t *m;
    if (!json_is_array(messages) || !n)
        return err_field(err, ERR_INVALID, "messages",
                         "messages: a non-empty array of messages is required");
    if (n > MESSAGES_MAX)
        return err_field(err, ERR_INVALID, "messages", "messages: %zu messages, more than %d", n,
                         MESSAGES_MAX);
    json_t *out = json_array();
    enum errc rc = OK;
    json_array_foreach (messages, i, m) {
        rc = copy_message(m, i, out, err);
        if (rc)
            break;
    }
    if (rc)
        json_decref(out);
    else
        *ret = out;
    return rc;
}

static void set_token(json_t *vars, const char *name, const struct tokenizer *tk, int32_t id) {
    size_t len;
    const char *piece = id >= 0 ? tokenizer_piece(tk, id, &len) : NULL;
    json_t *value = piece ? json_stringn(piece, len) : NULL;
    json_object_set_new(vars, name, value ? value : json_string(""));
}

/* What the template sees by name. Gives. */
static enum errc make_vars(const struct openai_server *s, const struct completion_request *rq,
                           json_t *messages, json_t **ret, struct error *err) {
    const struct tokenizer *tk = model_tokenizer(s->model);
    const json_t *kwargs = json_object_get(rq->body, "chat_template_kwargs");
    if (kwargs && !json_is_null(kwargs) && !json_is_object(kwargs))
        return err_field(err, ERR_INVALID, "chat_template_kwargs",
                         "chat_template_kwargs: must be an object");
    json_t *vars = json_object();
    json_object_set(vars, "messages", messages);
    json_object_set_new(vars, "add_generation_prompt",
                        json_boolean(rq->params.add_generation_prompt));
    set_token(vars, "bos_token", tk, tokenizer_bos(tk));
    set_token(vars, "eos_token", tk, tokenizer_eos(tk));
    static const char *const passed[] = {"tools", "documents"};
    for (size_t i = 0; i < ARRAY_LEN(passed); i++) {
        json_t *v = json_object_get(rq->body, passed[i]);
        if (json_array_size(v))
            json_object_set(vars, passed[i], v);
    }
    if (json_is_object(kwargs))
        json_object_update(vars, (json_t *)kwargs);
    *ret = vars;
    return OK;
}

/* continue_final_message: the prompt ends with the last message's own text. */
static enum errc cut_behind_last_message(const json_t *messages, struct buf *text,
                                         struct error *err) {
    const json_t *last = json_array_get(messages, json_array_size(messages) - 1);
    const json_t *content = json_object_get(last, "content");
    size_t len = json_string_length(content);
    const char *at = NULL;
    for (size_t i = text->len >= len ? text->len - len + 1 : 0; len && i-- > 0;) {
        if (!memcmp(text->data + i, json_string_value(content), len)) {
            at = text->data + i;
            break;
        }
    }
    if (!at)
        return err_field(
            err, ERR_INVALID, "continue_final_message",
            "continue_final_message: the template does not show the last message as it "
            "is");
    text->len = (size_t)(at - text->data) + len;
    text->data[text->len] = '\0';
    return OK;
}

/* Templates usually write the start token themselves; where they do not and the model wants one,
 * it is put in front, and never twice. */
static enum errc encode(const struct openai_server *s, const struct buf *text,
                        struct token_ids *ids, struct error *err) {
    const struct tokenizer *tk = model_tokenizer(s->model);
    struct tokenizer_encode_options opt = {.parse_special = true};
    AUTO_TOKEN_IDS plain = TOKEN_IDS_INIT;
    enum errc rc = tokenizer_encode(tk, text->data, text->len, opt, &plain, err);
    if (rc)
        return rc;
    int32_t bos = tokenizer_bos(tk);
    if (tokenizer_adds_bos(tk) && bos >= 0 && (!plain.len || plain.data[0] != bos))
        token_ids_push(ids, bos);
    for (size_t i = 0; i < plain.len; i++)
        token_ids_push(ids, plain.data[i]);
    return OK;
}

static enum errc render(const struct openai_server *s, struct completion_request *rq,
                        struct error *err) {
    json_t *messages = NULL, *vars = NULL;
    AUTO_BUF text = BUF_INIT;
    if (!s->chat_template)
        return err_field(
            err, ERR_INVALID, "messages",
            "messages: the model brings no chat template; use /v1/completions, or start "
            "the replica with --chat-template");
    enum errc rc = copy_messages(rq->body, &messages, err);
    if (!rc)
        rc = make_vars(s, rq, messages, &vars, err);
    buf_reserve(&text, 1);
    if (!rc) {
        rc = chat_template_render(s->chat_template, vars, clock_wall_ms(), &text, err);
        if (rc)
            snprintf(err->field, sizeof(err->field), "messages");
    }
    if (!rc && rq->params.continue_final_message)
        rc = cut_behind_last_message(messages, &text, err);
    if (!rc) {
        rq->prompts = mem_alloc(sizeof(*rq->prompts));
        rq->num_prompts = 1;
        rc = encode(s, &text, &rq->prompts[0].ids, err);
    }
    json_decref(messages);
    json_decref(vars);
    return rc;
}

void openai_chat(struct openai_server *s, struct http_exchange *x) {
    openai_complete(s, x, COMPLETION_CHAT, render);
}
