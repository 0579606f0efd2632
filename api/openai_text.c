/* POST /v1/completions: prompts as text or as token ids, one or several. */
#include "api/openai.h"
#include "api/openai_json.h"

static enum errc bad_prompt(struct error *err) {
    return err_field(err, ERR_INVALID, "prompt",
                     "prompt: must be a string, an array of strings, an array of token ids, or an "
                     "array of arrays of token ids");
}

static enum errc add_ids(const json_t *ids, struct completion_prompt *p, struct error *err) {
    size_t i;
    json_t *id;
    json_array_foreach (ids, i, id) {
        json_int_t v = json_integer_value(id);
        if (!json_is_integer(id) || v < 0 || v > INT32_MAX)
            return bad_prompt(err);
        token_ids_push(&p->ids, (int32_t)v);
    }
    return OK;
}

static enum errc add_prompt(const struct openai_server *s, const json_t *value, bool add_special,
                            bool echo, struct completion_request *rq, struct error *err) {
    const struct tokenizer *tk = model_tokenizer(s->model);
    struct completion_prompt *p = &rq->prompts[rq->num_prompts++];
    enum errc rc;
    if (json_is_string(value)) {
        struct tokenizer_encode_options opt = {.add_special = add_special, .parse_special = true};
        rc = tokenizer_encode(tk, json_string_value(value), json_string_length(value), opt, &p->ids,
                              err);
        p->echo = echo ? mem_strdup(json_string_value(value)) : NULL;
    } else {
        rc = json_is_array(value) ? add_ids(value, p, err) : bad_prompt(err);
    }
    if (!rc && !p->ids.len)
        return err_field(err, ERR_INVALID, "prompt", "prompt: is empty");
    for (size_t i = 0; !rc && i < p->ids.len; i++) {
        if ((uint32_t)p->ids.data[i] >= tokenizer_vocab_size(tk))
            rc = err_field(err, ERR_INVALID, "prompt", "prompt: token id %d is not below %u",
                           p->ids.data[i], tokenizer_vocab_size(tk));
    }
    if (!rc && echo && !p->echo) {
        struct buf text = BUF_INIT;
        tokenizer_decode(tk, p->ids.data, p->ids.len, true, &text);
        p->echo = buf_steal(&text);
    }
    return rc;
}

static enum errc read_prompts(const struct openai_server *s, struct completion_request *rq,
                              struct error *err) {
    const json_t *prompt = json_object_get(rq->body, "prompt");
    bool add_special = true, echo = rq->params.echo;
    enum errc rc = openai_read_bool(rq->body, "add_special_tokens", &add_special, err);
    if (rc)
        return rc;
    bool list = json_is_array(prompt) && !json_is_integer(json_array_get(prompt, 0));
    size_t n = list ? json_array_size(prompt) : 1;
    if (!prompt || json_is_null(prompt))
        return err_field(err, ERR_INVALID, "prompt", "prompt: is required");
    if (!n || n * rq->params.n > OPENAI_CHOICES_MAX)
        return err_field(err, ERR_INVALID, "prompt",
                         "prompt: %zu prompts times n = %u is not within 1..%d choices", n,
                         rq->params.n, OPENAI_CHOICES_MAX);
    rq->prompts = mem_array(n, sizeof(*rq->prompts));
    for (size_t i = 0; i < n && !rc; i++)
        rc = add_prompt(s, list ? json_array_get(prompt, i) : prompt, add_special, echo, rq, err);
    return rc;
}

void openai_completions(struct openai_server *s, struct http_exchange *x) {
    openai_complete(s, x, COMPLETION_TEXT, read_prompts);
}
