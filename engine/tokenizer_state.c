/* What the loaders share: end-of-generation tokens, and the two ways in which vocabularies spell
 * bytes.
 *
 * Byte-level vocabularies are stored as JSON text, so each byte is shown as a printable letter: the
 * printable ones of Latin-1 stand for themselves, the other 68, in order, for U+0100 and up. */
#include "engine/tokenizer_state.h"

#include "engine/tokenizer_unicode.h"

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
    "<\xEF\xBD\x9C"
    "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>",
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
