/* tokenizer.model: two formats of one name.
 *
 * SentencePiece writes a protobuf message, ModelProto:
 *   1 pieces  repeated { 1 piece: string, 2 score: float, 3 type: enum token_kind, default NORMAL }
 *   2 trainer_spec     { 3 model_type: 1 unigram, 2 BPE; 40 unk_id, 41 bos_id, 42 eos_id }
 *   3 normalizer_spec  { 2 precompiled_charsmap: bytes, 3 add_dummy_prefix,
 *                        4 remove_extra_whitespaces }
 * Llama 3 writes tiktoken's ranks: a line for each token, its bytes in base64 and its rank; special
 * tokens follow the last rank and are listed nowhere but in the program that trained the model. */
#include "engine/tokenizer_state.h"

#include <stdio.h>

struct message {
    const uint8_t *at, *end;
};

struct field {
    uint32_t number, wire; /* 0 varint, 1 eight bytes, 2 a run of bytes, 5 four bytes */
    uint64_t value;        /* of a varint or a fixed field */
    struct message bytes;  /* of a run */
};

static bool read_varint(struct message *m, uint64_t *ret_value) {
    uint64_t value = 0;
    for (uint32_t shift = 0; shift < 64 && m->at < m->end; shift += 7) {
        uint8_t byte = *m->at++;
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (!(byte & 0x80)) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

/* Reads the next field. False at the end, or with *broken set where no field stands. */
static bool next_field(struct message *m, struct field *f, bool *broken) {
    uint64_t key, len;
    if (m->at == m->end)
        return false;
    *broken = true;
    if (!read_varint(m, &key) || key >> 3 > UINT32_MAX)
        return false;
    *f = (struct field){.number = (uint32_t)(key >> 3), .wire = (uint32_t)(key & 7)};
    if (f->wire == 0) {
        if (!read_varint(m, &f->value))
            return false;
    } else if (f->wire == 2) {
        if (!read_varint(m, &len) || len > (uint64_t)(m->end - m->at))
            return false;
        f->bytes = (struct message){m->at, m->at + len};
        m->at += len;
    } else if (f->wire == 1 || f->wire == 5) {
        size_t width = f->wire == 1 ? 8 : 4;
        if ((size_t)(m->end - m->at) < width)
            return false;
        memcpy(&f->value, m->at, width);
        m->at += width;
    } else {
        return false;
    }
    *broken = false;
    return true;
}

struct spm_model {
    uint32_t num_pieces;
    int64_t model_type, unknown_id, bos_id, eos_id;
    struct spm_options options;
    bool has_charsmap;
};

static bool read_spec(struct message m, uint32_t which, struct spm_model *s) {
    struct field f;
    bool broken = false;
    while (next_field(&m, &f, &broken)) {
        int64_t value = (int64_t)(int32_t)f.value;
        switch (which << 8 | f.number) {
        case 2 << 8 | 3:
            s->model_type = value;
            break;
        case 2 << 8 | 40:
            s->unknown_id = value;
            break;
        case 2 << 8 | 41:
            s->bos_id = value;
            break;
        case 2 << 8 | 42:
            s->eos_id = value;
            break;
        case 3 << 8 | 2:
            s->has_charsmap = f.bytes.end > f.bytes.at;
            break;
        case 3 << 8 | 3:
            s->options.add_space_prefix = f.value;
            break;
        case 3 << 8 | 4:
            s->options.remove_extra_whitespaces = f.value;
            break;
        }
    }
    return !broken;
}

static enum errc read_outline(struct message m, struct spm_model *s, struct error *err) {
    const uint8_t *start = m.at;
    struct field f;
    bool broken = false;
    *s = (struct spm_model){.model_type = 1, .bos_id = 1, .eos_id = 2};
    s->options = (struct spm_options){.add_space_prefix = true, .remove_extra_whitespaces = true};
    while (next_field(&m, &f, &broken)) {
        s->num_pieces += f.number == 1 && f.wire == 2;
        if ((f.number == 2 || f.number == 3) && f.wire == 2 && !read_spec(f.bytes, f.number, s))
            return err_set(err, ERR_MALFORMED, "broken message in field %u", f.number);
    }
    if (broken)
        return err_set(err, ERR_MALFORMED, "neither SentencePiece nor tiktoken: byte %td",
                       m.at - start);
    if (s->model_type != 2)
        return err_set(err, ERR_INVALID,
                       "trainer_spec.model_type: %lld is not supported (supported is 2, BPE)",
                       (long long)s->model_type);
    if (s->has_charsmap)
        return err_set(err, ERR_INVALID, "normalizer_spec.precompiled_charsmap: not supported");
    return OK;
}

static enum errc read_piece(struct tokenizer *tk, struct message m, uint32_t id,
                            struct error *err) {
    struct field f;
    struct message text = {0};
    uint64_t kind = TOKEN_NORMAL;
    float score = 0;
    bool broken = false;
    while (next_field(&m, &f, &broken)) {
        if (f.number == 1 && f.wire == 2)
            text = f.bytes;
        else if (f.number == 2 && f.wire == 5)
            memcpy(&score, &f.value, sizeof(score));
        else if (f.number == 3 && f.wire == 0)
            kind = f.value;
    }
    if (broken || kind < TOKEN_NORMAL || kind > TOKEN_BYTE || score != score)
        return err_set(err, ERR_MALFORMED, "pieces[%u]: broken message", id);
    tk->vocab.scores[id] = score;
    if (!text.at)
        return OK;
    return tokenizer_set_spm_token(tk, id, (const char *)text.at, (size_t)(text.end - text.at),
                                   (enum token_kind)kind, err);
}

static enum errc load_sentencepiece(struct tokenizer *tk, struct message m, struct error *err) {
    struct spm_model s;
    struct field f;
    bool broken = false;
    if (read_outline(m, &s, err) || vocab_init(&tk->vocab, s.num_pieces, err))
        return err->code;
    tk->vocab.scores = mem_array(tk->vocab.len, sizeof(*tk->vocab.scores));
    for (uint32_t id = 0; next_field(&m, &f, &broken);)
        if (f.number == 1 && f.wire == 2 && read_piece(tk, f.bytes, id++, err))
            return err->code;
    vocab_index(&tk->vocab, false);
    tokenizer_add_special_kinds(tk);
    special_tokens_seal(&tk->special);
    if (tokenizer_set_up_spm(tk, s.options, err))
        return err->code;
    tk->bpe.unknown_id = s.unknown_id >= 0 && s.unknown_id < tk->vocab.len ? (int)s.unknown_id : -1;
    tk->bos = s.bos_id >= 0 && s.bos_id < tk->vocab.len ? (int32_t)s.bos_id : -1;
    tk->eos = s.eos_id >= 0 && s.eos_id < tk->vocab.len ? (int32_t)s.eos_id : -1;
    if (tk->bos >= 0)
        token_ids_push(&tk->prefix, tk->bos);
    return OK;
}

/* Appends what base64 text[0..len) stands for. */
static bool decode_base64(const char *text, size_t len, struct buf *out) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    while (len && text[len - 1] == '=')
        len--;
    uint32_t bits = 0, num_bits = 0;
    for (size_t i = 0; i < len; i++) {
        const char *digit = text[i] ? strchr(digits, text[i]) : NULL;
        if (!digit)
            return false;
        bits = (bits << 6 | (uint32_t)(digit - digits)) & 0xFFFF;
        num_bits += 6;
        if (num_bits >= 8) {
            num_bits -= 8;
            buf_putc(out, (char)(bits >> num_bits));
        }
    }
    return true;
}

enum { LLAMA3_RANKS = 128000, LLAMA3_SPECIAL_TOKENS = 256 };

/* Llama 3's special tokens follow its ranks; all but these six are reserved ones, numbered on. */
static enum errc add_llama3_tokens(struct tokenizer *tk, struct error *err) {
    static const char *const names[] = {[0] = "<|begin_of_text|>",
                                        [1] = "<|end_of_text|>",
                                        [6] = "<|start_header_id|>",
                                        [7] = "<|end_header_id|>",
                                        [9] = "<|eot_id|>"};
    int num_reserved = 0;
    for (uint32_t i = 0; i < LLAMA3_SPECIAL_TOKENS; i++) {
        char reserved[64];
        const char *name = i < ARRAY_LEN(names) ? names[i] : NULL;
        if (!name) {
            snprintf(reserved, sizeof(reserved), "<|reserved_special_token_%d|>", num_reserved++);
            name = reserved;
        }
        struct vocab_spelling s = {.key = name, .key_len = strlen(name)};
        if (vocab_set(&tk->vocab, LLAMA3_RANKS + i, &s, TOKEN_CONTROL, false, err))
            return err->code;
    }
    tk->bos = LLAMA3_RANKS;
    tk->eos = LLAMA3_RANKS + 1;
    token_ids_push(&tk->prefix, tk->bos);
    return OK;
}

/* One line, "aGVsbG8= 15339". The id must be the rank: a list with holes is not tiktoken's. */
static enum errc read_rank(struct tokenizer *tk, const char *line, size_t len, uint32_t rank,
                           struct buf *bytes, struct error *err) {
    const char *space = memchr(line, ' ', len);
    size_t text_len = space ? (size_t)(space - line) : 0;
    buf_clear(bytes);
    if (!text_len || !decode_base64(line, text_len, bytes) || !bytes->len ||
        strtoul(space + 1, NULL, 10) != rank)
        return err_set(err, ERR_MALFORMED, "line %u: not \"base64 %u\"", rank + 1, rank);
    struct vocab_spelling s = {.key = bytes->data, .key_len = bytes->len};
    tk->vocab.scores[rank] = -(float)rank;
    return vocab_set(&tk->vocab, rank, &s, TOKEN_NORMAL, true, err);
}

static enum errc load_tiktoken(struct tokenizer *tk, const char *data, size_t len,
                               struct error *err) {
    uint64_t num_ranks = 0;
    for (size_t i = 0; i < len; i++)
        num_ranks += data[i] == '\n';
    num_ranks += len && data[len - 1] != '\n';
    bool llama3 = num_ranks == LLAMA3_RANKS;
    if (vocab_init(&tk->vocab, num_ranks + (llama3 ? LLAMA3_SPECIAL_TOKENS : 0), err))
        return err->code;
    tk->vocab.scores = mem_array(tk->vocab.len, sizeof(*tk->vocab.scores));
    AUTO_BUF bytes = BUF_INIT;
    const char *at = data, *end = data + len;
    for (uint32_t rank = 0; at < end; rank++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t line_len = (size_t)((newline ? newline : end) - at);
        if (read_rank(tk, at, line_len, rank, &bytes, err))
            return err->code;
        at += line_len + (newline != NULL);
    }
    if (llama3 && add_llama3_tokens(tk, err))
        return err->code;
    vocab_index(&tk->vocab, true);
    tokenizer_add_special_kinds(tk);
    special_tokens_seal(&tk->special);
    tk->bpe.vocab = &tk->vocab;
    tk->bpe.byte_level = tk->bpe.ignore_merges = true;
    tk->bpe.unknown_id = -1;
    return pretokenizer_add_named(&tk->pretokenizer, "llama-bpe", err);
}

enum errc tokenizer_load_model(struct tokenizer *tk, const char *data, size_t len,
                               struct error *err) {
    const uint8_t *bytes = (const uint8_t *)data;
    bool protobuf = !len || bytes[0] == 0x0A || bytes[0] == 0x12 || bytes[0] == 0x1A;
    return protobuf ? load_sentencepiece(tk, (struct message){bytes, bytes + len}, err)
                    : load_tiktoken(tk, data, len, err);
}
