/* Writing completions: whole answers and stream chunks, in OpenAI's two shapes and in the Open
 * Inference Protocol's generate extension. Text goes straight into the buffer; no JSON tree is
 * built per token. Fields beyond OpenAI's (stop_reason, cached tokens) are vLLM's. */
#include <stdio.h>

#include "api/completion_state.h"
#include "api/openai_json.h"

static const char *finish_name(enum finish_reason finish) {
    switch (finish) {
    case FINISH_STOP:
        return "\"stop\"";
    case FINISH_LENGTH:
        return "\"length\"";
    case FINISH_ABORT:
    case FINISH_ERROR:
        return "\"abort\"";
    case FINISH_NONE:
        break;
    }
    return "null";
}

static void put_stop_reason(const struct completion_choice *choice, struct buf *out) {
    buf_puts(out, ",\"stop_reason\":");
    if (choice->stop_string)
        openai_quote(out, choice->stop_string);
    else if (choice->stop_id >= 0)
        buf_printf(out, "%d", choice->stop_id);
    else
        buf_puts(out, "null");
}

static void put_usage(const struct completion *c, struct buf *out) {
    unsigned long long prompt = 0, generated = 0, cached = 0;
    for (uint32_t i = 0; i < c->rq.num_prompts; i++)
        prompt += c->rq.prompts[i].ids.len;
    for (uint32_t i = 0; i < c->num_choices; i++) {
        generated += c->choices[i].num_tokens;
        if (i % c->rq.params.n == 0)
            cached += c->choices[i].num_cached;
    }
    buf_printf(out,
               "\"usage\":{\"prompt_tokens\":%llu,\"completion_tokens\":%llu,"
               "\"total_tokens\":%llu,\"prompt_tokens_details\":{\"cached_tokens\":%llu}}",
               prompt, generated, prompt + generated, cached);
}

/* {"id":...,"object":...,"created":...,"model":... without the closing brace. */
static void put_head(const struct completion *c, const char *object, struct buf *out) {
    buf_printf(out, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", c->id, object,
               (long long)c->created_seconds);
    openai_quote(out, c->rq.model);
}

static void put_logprobs(const struct completion_choice *choice, struct buf *out) {
    const struct completion *c = choice->completion;
    const struct completion_logprobs *l = &choice->logprobs;
    buf_puts(out, ",\"logprobs\":");
    if (!c->rq.params.logprobs) {
        buf_puts(out, "null");
    } else if (c->rq.form == COMPLETION_CHAT) {
        buf_printf(out, "{\"content\":[%s],\"refusal\":null}",
                   l->content.data ? l->content.data : "");
    } else {
        buf_printf(out, "{\"tokens\":[%s],\"token_logprobs\":[%s],",
                   l->tokens.data ? l->tokens.data : "",
                   l->token_logprobs.data ? l->token_logprobs.data : "");
        buf_printf(out, "\"top_logprobs\":[%s],\"text_offset\":[%s]}",
                   l->top_logprobs.data ? l->top_logprobs.data : "",
                   l->text_offset.data ? l->text_offset.data : "");
    }
}

/* ---- log probabilities ---- */

/* A token's bytes as a JSON string; what is no UTF-8 by itself shows as U+FFFD. */
static void put_token_text(struct buf *out, const char *piece, size_t len) {
    AUTO_BUF text = BUF_INIT;
    for (size_t i = 0; i < len;) {
        json_t *one = NULL;
        size_t n = 1;
        for (; n <= 4 && i + n <= len && !(one = json_stringn(piece + i, n)); n++)
            ;
        buf_append(&text, one ? piece + i : "\xEF\xBF\xBD", one ? n : 3);
        i += one ? n : 1;
        json_decref(one);
    }
    buf_putc(out, '"');
    openai_escape(out, text.data ? text.data : "", text.len);
    buf_putc(out, '"');
}

static void put_bytes(struct buf *out, const char *piece, size_t len) {
    buf_puts(out, ",\"bytes\":[");
    for (size_t i = 0; i < len; i++)
        buf_printf(out, "%s%u", i ? "," : "", (unsigned char)piece[i]);
    buf_putc(out, ']');
}

/* JSON has no -inf; OpenAI writes -9999 for what is that unlikely. */
static void put_logprob(struct buf *out, float logprob) {
    buf_printf(out, "%.6g", logprob > -9999.0f ? (double)logprob : -9999.0);
}

static void put_entry(const struct tokenizer *tk, int32_t id, float logprob, struct buf *out) {
    size_t len;
    const char *piece = tokenizer_piece(tk, id, &len);
    buf_puts(out, "{\"token\":");
    put_token_text(out, piece, len);
    buf_puts(out, ",\"logprob\":");
    put_logprob(out, logprob);
    put_bytes(out, piece, len);
}

static void comma(struct buf *out) {
    if (out->len)
        buf_putc(out, ',');
}

static void add_chat(struct completion_choice *choice, const struct engine_token *t) {
    const struct tokenizer *tk = choice->detokenizer.tk;
    struct buf *out = &choice->logprobs.content;
    comma(out);
    put_entry(tk, t->id, t->logprob, out);
    buf_puts(out, ",\"top_logprobs\":[");
    for (uint32_t i = 0; i < t->num_top; i++) {
        if (i)
            buf_putc(out, ',');
        put_entry(tk, t->top[i].id, t->top[i].logprob, out);
        buf_putc(out, '}');
    }
    buf_puts(out, "]}");
}

static uint32_t count_characters(const char *text, size_t len) {
    uint32_t n = 0;
    for (size_t i = 0; i < len; i++)
        n += ((unsigned char)text[i] & 0xC0) != 0x80;
    return n;
}

static void add_text(struct completion_choice *choice, const struct engine_token *t) {
    const struct tokenizer *tk = choice->detokenizer.tk;
    struct completion_logprobs *l = &choice->logprobs;
    size_t len;
    const char *piece = tokenizer_piece(tk, t->id, &len);
    comma(&l->tokens);
    put_token_text(&l->tokens, piece, len);
    comma(&l->token_logprobs);
    put_logprob(&l->token_logprobs, t->logprob);
    comma(&l->text_offset);
    buf_printf(&l->text_offset, "%u", l->offset);
    l->offset += count_characters(piece, len);
    comma(&l->top_logprobs);
    buf_putc(&l->top_logprobs, '{');
    for (uint32_t i = 0; i < t->num_top; i++) {
        if (i)
            buf_putc(&l->top_logprobs, ',');
        piece = tokenizer_piece(tk, t->top[i].id, &len);
        put_token_text(&l->top_logprobs, piece, len);
        buf_putc(&l->top_logprobs, ':');
        put_logprob(&l->top_logprobs, t->top[i].logprob);
    }
    buf_putc(&l->top_logprobs, '}');
}

/* The first prompt token has nothing that predicts it: OpenAI's echo shows null for it. */
static void add_first_prompt_token(struct completion_choice *choice) {
    struct completion_logprobs *l = &choice->logprobs;
    size_t len;
    const char *piece = tokenizer_piece(choice->detokenizer.tk, choice->prompt->ids.data[0], &len);
    put_token_text(&l->tokens, piece, len);
    buf_puts(&l->token_logprobs, "null");
    buf_puts(&l->top_logprobs, "null");
    buf_puts(&l->text_offset, "0");
    l->offset = count_characters(piece, len);
}

void completion_logprobs_add(struct completion_choice *choice, const struct engine_token *t) {
    const struct completion *c = choice->completion;
    if (c->rq.form == COMPLETION_CHAT) {
        add_chat(choice, t);
        return;
    }
    if (c->rq.params.echo && !choice->logprobs.offset && choice->prompt->ids.len)
        add_first_prompt_token(choice);
    add_text(choice, t);
}

static void clear_logprobs(struct completion_logprobs *l) {
    buf_clear(&l->content);
    buf_clear(&l->tokens);
    buf_clear(&l->token_logprobs);
    buf_clear(&l->top_logprobs);
    buf_clear(&l->text_offset);
}

/* ---- whole answers ---- */

static void put_text(const struct completion_choice *choice, struct buf *out) {
    buf_putc(out, '"');
    openai_escape(out, choice->text.data ? choice->text.data : "", choice->text.len);
    buf_putc(out, '"');
}

static void render_generate(const struct completion *c, struct buf *out) {
    buf_puts(out, "{\"model_name\":");
    openai_quote(out, c->rq.model);
    buf_printf(out, ",\"model_version\":\"1\",\"id\":\"%s\",\"text_output\":", c->id);
    put_text(&c->choices[0], out);
    buf_putc(out, '}');
}

void completion_render_reply(const struct completion *c, struct buf *out) {
    bool chat = c->rq.form == COMPLETION_CHAT;
    if (c->rq.form == COMPLETION_GENERATE) {
        render_generate(c, out);
        return;
    }
    put_head(c, chat ? "chat.completion" : "text_completion", out);
    buf_puts(out, ",\"choices\":[");
    for (uint32_t i = 0; i < c->num_choices; i++) {
        const struct completion_choice *choice = &c->choices[i];
        buf_printf(out, "%s{\"index\":%u,", i ? "," : "", i);
        buf_puts(out, chat ? "\"message\":{\"role\":\"assistant\",\"content\":" : "\"text\":");
        put_text(choice, out);
        buf_puts(out, chat ? ",\"refusal\":null}" : "");
        put_logprobs(choice, out);
        buf_printf(out, ",\"finish_reason\":%s", finish_name(choice->finish));
        put_stop_reason(choice, out);
        buf_putc(out, '}');
    }
    buf_puts(out, "],");
    put_usage(c, out);
    buf_putc(out, '}');
}

/* ---- streams ---- */

static void end_event(const struct completion *c, struct buf *out) {
    if (c->rq.params.continuous_usage) {
        buf_putc(out, ',');
        put_usage(c, out);
    } else if (c->rq.params.include_usage) {
        buf_puts(out, ",\"usage\":null");
    }
    buf_puts(out, "}\n\n");
}

/* "data: {head,"choices":[{"index":i," */
static void open_event(const struct completion *c, const struct completion_choice *choice,
                       struct buf *out) {
    buf_puts(out, "data: ");
    put_head(c, c->rq.form == COMPLETION_CHAT ? "chat.completion.chunk" : "text_completion", out);
    buf_printf(out, ",\"choices\":[{\"index\":%u,", choice->index);
}

static void put_role(struct completion *c, struct completion_choice *choice, struct buf *out) {
    if (choice->told_role)
        return;
    choice->told_role = true;
    open_event(c, choice, out);
    buf_puts(out, "\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,"
                  "\"finish_reason\":null}]");
    end_event(c, out);
}

static void render_generate_chunk(const struct completion *c,
                                  const struct completion_choice *choice, struct buf *out) {
    buf_puts(out, "data: {\"model_name\":");
    openai_quote(out, c->rq.model);
    buf_printf(out, ",\"model_version\":\"1\",\"id\":\"%s\",\"text_output\":", c->id);
    put_text(choice, out);
    buf_puts(out, "}\n\n");
}

void completion_render_chunk(struct completion *c, struct completion_choice *choice,
                             struct buf *out) {
    bool chat = c->rq.form == COMPLETION_CHAT;
    if (c->rq.form == COMPLETION_GENERATE) {
        render_generate_chunk(c, choice, out);
    } else {
        if (chat)
            put_role(c, choice, out);
        open_event(c, choice, out);
        buf_puts(out, chat ? "\"delta\":{" : "\"text\":");
        if (!chat || choice->text.len) {
            buf_puts(out, chat ? "\"content\":" : "");
            put_text(choice, out);
        }
        buf_puts(out, chat ? "}" : "");
        put_logprobs(choice, out);
        buf_printf(out, ",\"finish_reason\":%s",
                   choice->closed ? finish_name(choice->finish) : "null");
        if (choice->closed)
            put_stop_reason(choice, out);
        buf_puts(out, "}]");
        end_event(c, out);
    }
    choice->told_end = choice->closed;
    buf_clear(&choice->text);
    clear_logprobs(&choice->logprobs);
}

void completion_render_error(const struct completion *c, const struct error *err, struct buf *out) {
    buf_puts(out, "data: ");
    openai_error_body(err, http_request_id(c->rq.x), out);
    buf_puts(out, "\n\n");
}

void completion_render_end(const struct completion *c, struct buf *out) {
    if (c->rq.form == COMPLETION_GENERATE)
        return;
    if (c->rq.params.include_usage && !c->failure.code) {
        buf_puts(out, "data: ");
        put_head(c, c->rq.form == COMPLETION_CHAT ? "chat.completion.chunk" : "text_completion",
                 out);
        buf_puts(out, ",\"choices\":[],");
        put_usage(c, out);
        buf_puts(out, "}\n\n");
    }
    buf_puts(out, "data: [DONE]\n\n");
}
