/* The walk from ids to text, whole and streamed.
 *
 * A token is a piece of bytes and need not end between characters: "\xF0\x9F" and "\x99\x82" are
 * two tokens of one emoji. A stream of text must be UTF-8 at every step, so the streaming form
 * holds the cut sequence back until the rest comes, or until it cannot become one any more. */
#include "engine/tokenizer.h"

#include "engine/tokenizer_state.h"
#include "engine/tokenizer_unicode.h"

/* The bytes that `id` adds behind what was decoded before; started: something was. */
static void append_piece(const struct tokenizer *tk, int32_t id, bool skip_special, bool *started,
                         struct buf *out) {
    bool control = tokenizer_is_control(tk, id);
    if (control && skip_special)
        return;
    size_t len;
    const char *piece = tokenizer_piece(tk, id, &len);
    if (!len)
        return;
    if (control && tk->spaces_control && *started)
        buf_putc(out, ' ');
    if (!*started && tk->strips_space && piece[0] == ' ') {
        piece++;
        len--;
    }
    *started = true;
    buf_append(out, piece, len);
}

void tokenizer_clean_up_spaces(struct buf *text) {
    static const char *const rules[][2] = {
        {" .", "."},     {" ?", "?"},   {" !", "!"},   {" ,", ","},     {" ' ", "'"},
        {" n't", "n't"}, {" 'm", "'m"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
    };
    for (size_t r = 0; r < ARRAY_LEN(rules); r++) {
        size_t from_len = strlen(rules[r][0]), to_len = strlen(rules[r][1]), o = 0;
        for (size_t i = 0; i < text->len;) {
            if (text->len - i >= from_len && !memcmp(text->data + i, rules[r][0], from_len)) {
                memcpy(text->data + o, rules[r][1], to_len);
                o += to_len;
                i += from_len;
            } else {
                text->data[o++] = text->data[i++];
            }
        }
        text->len = o;
    }
    if (text->data)
        text->data[text->len] = '\0';
}

void tokenizer_decode(const struct tokenizer *tk, const int32_t *ids, size_t num_ids,
                      bool skip_special, struct buf *out) {
    AUTO_BUF text = BUF_INIT;
    struct buf *to = tk->cleans_up ? &text : out;
    bool started = false;
    for (size_t i = 0; i < num_ids; i++)
        append_piece(tk, ids[i], skip_special, &started, to);
    if (tk->cleans_up) {
        tokenizer_clean_up_spaces(&text);
        buf_append(out, text.data, text.len);
    }
}

void detokenizer_init(struct detokenizer *d, const struct tokenizer *tk, bool skip_special) {
    *d = (struct detokenizer){.tk = tk, .skip_special = skip_special};
}

void detokenizer_push(struct detokenizer *d, int32_t id, struct buf *out) {
    AUTO_BUF bytes = BUF_INIT;
    buf_append(&bytes, d->held, d->num_held);
    append_piece(d->tk, id, d->skip_special, &d->started, &bytes);
    d->num_held = 0;
    for (size_t i = 0; i < bytes.len;) {
        const char *rest = bytes.data + i;
        size_t rest_len = bytes.len - i, good = utf8_valid_len(rest, rest_len);
        buf_append(out, rest, good);
        i += good;
        if (i == bytes.len)
            break;
        if (utf8_may_continue(rest + good, rest_len - good)) {
            d->num_held = (uint8_t)(rest_len - good);
            memcpy(d->held, rest + good, d->num_held);
            break;
        }
        buf_puts(out, "\xEF\xBF\xBD");
        i++;
    }
}

void detokenizer_flush(struct detokenizer *d, struct buf *out) {
    utf8_append_repaired(out, (const char *)d->held, d->num_held);
    d->num_held = 0;
}
