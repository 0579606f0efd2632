/* What the loaders share: end-of-generation tokens, and the two ways in which vocabularies spell
 * bytes.
 *
 * Byte-level vocabularies are stored as JSON text, so each byte is shown as a printable letter: the
 * printable ones of Latin-1 stand for themselves, the other 68, in order, for U+0100 and up. */
#include "engine/tokenizer_state.h"

#include "engine/tokenizer_unicode.h"

#define SPACE_MARK "\xE2\x96\x81" /* U+2581, SentencePiece's space */

void tokenizer_add_eog(struct tokenizer *tk, int64_t id) {
    if (id >= 0 && id < tk->vocab.len && !tokenizer_is_eog(tk, (int32_t)id))
        token_ids_push(&tk->eog, (int32_t)id);
}

static const char *const end_names[] = {
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "<|return|>",
    "<|call|>",
    "<|END_OF_TURN_TOKEN|>",
    "<end_of_utterance>",
    "<|eot|>",
    "<|role_end|>",
    "<turn|>",
    "<\uFF5Cend\u2581of\u2581sentence\uFF5C>", /* DeepSeek's, with fullwidth bars */
};

static bool has_control(const struct tokenizer *tk, const char *name) {
    const struct special_token *t = special_tokens_find(&tk->special, name, strlen(name));
    return t && t->control;
}

void tokenizer_seal(struct tokenizer *tk) {
    special_tokens_seal(&tk->special);
    /* gpt-oss ends its reasoning with <|end|> and goes on; only <|return|> and <|call|> end it. */
    bool harmony = has_control(tk, "<|return|>") && has_control(tk, "<|call|>");
    for (size_t i = 0; i < ARRAY_LEN(end_names); i++) {
        if (harmony && !strcmp(end_names[i], "<|end|>"))
            continue;
        if (has_control(tk, end_names[i]))
            tokenizer_add_eog(
                tk, special_tokens_find(&tk->special, end_names[i], strlen(end_names[i]))->id);
    }
    tokenizer_add_eog(tk, tk->eos);
    if (tk->eos < 0 && tk->eog.len)
        tk->eos = tk->eog.data[0];
    if (tk->bos < 0 && tk->prefix.len)
        tk->bos = tk->prefix.data[0];
}

/* The byte that a letter stands for, -1: none. */
static int letter_to_byte(uint32_t code) {
    if ((code >= 0x21 && code <= 0x7E) || (code >= 0xA1 && code <= 0xAC) ||
        (code >= 0xAE && code <= 0xFF))
        return (int)code;
    if (code < 0x100 || code > 0x143)
        return -1;
    uint32_t n = code - 0x100; /* the n-th of the bytes that are not printable */
    if (n <= 0x20)
        return (int)n; /* 0x00 to 0x20 */
    if (n <= 0x42)
        return (int)(0x7F + (n - 0x21)); /* 0x7F to 0xA0 */
    return 0xAD;
}

bool tokenizer_letters_to_bytes(const char *letters, size_t len, struct buf *out) {
    size_t before = out->len;
    for (size_t i = 0; i < len;) {
        uint32_t code;
        size_t n = utf8_next(letters + i, len - i, &code);
        int byte = n ? letter_to_byte(code) : -1;
        if (byte < 0) {
            out->len = before;
            return false;
        }
        buf_putc(out, (char)byte);
        i += n;
    }
    return true;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int tokenizer_byte_token(const char *text, size_t len) {
    if (len != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>')
        return -1;
    int high = hex_digit(text[3]), low = hex_digit(text[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

enum errc tokenizer_set_spm_token(struct tokenizer *tk, uint32_t id, const char *text, size_t len,
                                  enum token_kind kind, struct error *err) {
    struct vocab_spelling s = {.key = text, .key_len = len};
    bool matchable = kind == TOKEN_NORMAL || kind == TOKEN_UNUSED;
    AUTO_BUF piece = BUF_INIT;
    if (kind == TOKEN_BYTE) {
        int byte = tokenizer_byte_token(text, len);
        if (byte < 0)
            return err_set(err, ERR_INVALID,
                           "token %u: a byte token must read <0x00> to <0xFF>, not \"%.*s\"", id,
                           len > 20 ? 20 : (int)len, text);
        buf_putc(&piece, (char)byte);
    }
    /* User-defined pieces match raw text, where a space is a space. */
    for (size_t i = 0; (matchable || kind == TOKEN_USER_DEFINED) && i < len;) {
        bool mark = len - i >= 3 && !memcmp(text + i, SPACE_MARK, 3);
        buf_putc(&piece, mark ? ' ' : text[i]);
        i += mark ? 3 : 1;
    }
    if (piece.len) {
        s.piece = piece.data;
        s.piece_len = piece.len;
    }
    return vocab_set(&tk->vocab, id, &s, kind, matchable, err);
}

static enum errc add_step(struct tokenizer *tk, enum normalizer_kind kind, const char *pattern,
                          const char *content, struct error *err) {
    struct normalizer_step step = {
        .kind = kind, .pattern = mem_strdup(pattern), .content = mem_strdup(content)};
    return normalizer_add(&tk->normalizer, &step, err);
}

enum errc tokenizer_set_up_spm(struct tokenizer *tk, struct spm_options opt, struct error *err) {
    tk->kind = TOKENIZER_BPE;
    tk->bpe.vocab = &tk->vocab;
    tk->bpe.byte_fallback = true;
    tk->keeps_bad_bytes = true;
    tk->strips_space = opt.add_space_prefix;
    if (opt.remove_extra_whitespaces && add_step(tk, NORMALIZE_COLLAPSE_SPACES, NULL, NULL, err))
        return err->code;
    if (opt.add_space_prefix && add_step(tk, NORMALIZE_PREPEND, NULL, " ", err))
        return err->code;
    return add_step(tk, NORMALIZE_REPLACE, " ", SPACE_MARK, err);
}

void tokenizer_add_special_kinds(struct tokenizer *tk) {
    for (uint32_t id = 0; id < tk->vocab.len; id++) {
        enum token_kind kind = tk->vocab.tokens[id].kind;
        if (kind != TOKEN_CONTROL && kind != TOKEN_USER_DEFINED && kind != TOKEN_UNKNOWN)
            continue;
        size_t len;
        struct special_token t = {.id = (int32_t)id, .control = kind != TOKEN_USER_DEFINED};
        t.text = vocab_piece(&tk->vocab, id, &len);
        t.len = (uint32_t)len;
        special_tokens_add(&tk->special, &t);
    }
}
