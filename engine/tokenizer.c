/* Tokenizer: the walk from text to ids.
 *
 * Special tokens are cut out of the raw text first, so that nothing can join across them; what lies
 * between goes through normalizer, pre-tokenizer and model. All state of a call lives in a
 * workspace on its stack, the tokenizer itself is never written: any number of threads encode at
 * once. */
#include "engine/tokenizer.h"

#include "engine/tokenizer_state.h"
#include "engine/tokenizer_unicode.h"

void token_ids_push(struct token_ids *ids, int32_t id) {
    if (ids->len == ids->cap) {
        ids->cap = ids->cap ? ids->cap * 2 : 32;
        ids->data = mem_realloc(ids->data, ids->cap * sizeof(*ids->data));
    }
    ids->data[ids->len++] = id;
}

void token_ids_deinit(struct token_ids *ids) {
    free(ids->data);
    *ids = TOKEN_IDS_INIT;
}

void tokenizer_destroy(struct tokenizer *tk) {
    if (!tk)
        return;
    vocab_deinit(&tk->vocab);
    special_tokens_deinit(&tk->special);
    normalizer_deinit(&tk->normalizer);
    pretokenizer_deinit(&tk->pretokenizer);
    bpe_deinit(&tk->bpe);
    token_ids_deinit(&tk->prefix);
    token_ids_deinit(&tk->suffix);
    token_ids_deinit(&tk->eog);
    free(tk->chat_template);
    free(tk);
}

struct workspace {
    struct pretokens pretokens;
    struct buf spare, repaired;
    struct bpe_workspace bpe;
};

static void workspace_deinit(struct workspace *w) {
    pretokens_deinit(&w->pretokens);
    buf_deinit(&w->spare);
    buf_deinit(&w->repaired);
    bpe_workspace_deinit(&w->bpe);
}

/* Text between special tokens. */
static enum errc encode_plain(const struct tokenizer *tk, const char *text, size_t len,
                              bool is_first, struct workspace *w, struct token_ids *ids,
                              struct error *err) {
    struct pretokens *pre = &w->pretokens;
    buf_clear(&pre->text);
    buf_append(&pre->text, text, len);
    if (normalizer_run(&tk->normalizer, &pre->text, &w->spare, err) ||
        pretokenizer_run(&tk->pretokenizer, pre, is_first, err))
        return err->code;
    for (size_t i = 0; i < pre->len; i++) {
        const char *word = pre->text.data + pre->data[i].start;
        if (tk->kind == TOKENIZER_BPE)
            bpe_encode(&tk->bpe, word, pre->data[i].len, &w->bpe, ids);
        else
            wordpiece_encode(&tk->wordpiece, word, pre->data[i].len, &w->spare, ids);
    }
    return OK;
}

static enum errc encode_text(const struct tokenizer *tk, const char *text, size_t len,
                             bool parse_special, struct workspace *w, struct token_ids *ids,
                             struct error *err) {
    for (size_t at = 0; at < len;) {
        struct special_match m = {.start = len, .end = len, .id = -1};
        (void)special_tokens_next(&tk->special, text, len, at, parse_special, &m);
        if (m.start > at && encode_plain(tk, text + at, m.start - at, at == 0, w, ids, err))
            return err->code;
        if (m.id >= 0)
            token_ids_push(ids, m.id);
        at = m.end;
    }
    return OK;
}

static void push_all(struct token_ids *ids, const struct token_ids *more) {
    for (size_t i = 0; i < more->len; i++)
        token_ids_push(ids, more->data[i]);
}

enum errc tokenizer_encode(const struct tokenizer *tk, const char *text, size_t len,
                           struct tokenizer_encode_options opt, struct token_ids *ids,
                           struct error *err) {
    if (len > TOKENIZER_TEXT_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "text of %zu bytes: at most %d are possible", len,
                       TOKENIZER_TEXT_BYTES_MAX);
    if (!len)
        return OK;
    size_t ids_before = ids->len;
    struct workspace w = {0};
    if (!tk->keeps_bad_bytes && utf8_valid_len(text, len) < len) {
        utf8_append_repaired(&w.repaired, text, len);
        text = w.repaired.data;
        len = w.repaired.len;
    }
    if (opt.add_special)
        push_all(ids, &tk->prefix);
    enum errc rc = encode_text(tk, text, len, opt.parse_special, &w, ids, err);
    if (rc)
        ids->len = ids_before;
    else if (opt.add_special)
        push_all(ids, &tk->suffix);
    workspace_deinit(&w);
    return rc;
}

const char *tokenizer_piece(const struct tokenizer *tk, int32_t id, size_t *ret_len) {
    if (id < 0 || (uint32_t)id >= tk->vocab.len) {
        *ret_len = 0;
        return "";
    }
    return vocab_piece(&tk->vocab, (uint32_t)id, ret_len);
}

uint32_t tokenizer_vocab_size(const struct tokenizer *tk) {
    return tk->vocab.len;
}

int32_t tokenizer_bos(const struct tokenizer *tk) {
    return tk->bos;
}

int32_t tokenizer_eos(const struct tokenizer *tk) {
    return tk->eos;
}

bool tokenizer_is_eog(const struct tokenizer *tk, int32_t id) {
    for (size_t i = 0; i < tk->eog.len; i++)
        if (tk->eog.data[i] == id)
            return true;
    return false;
}

bool tokenizer_is_control(const struct tokenizer *tk, int32_t id) {
    if (id < 0 || (uint32_t)id >= tk->vocab.len)
        return false;
    enum token_kind kind = tk->vocab.tokens[id].kind;
    return kind == TOKEN_CONTROL || kind == TOKEN_UNKNOWN;
}

int32_t tokenizer_find(const struct tokenizer *tk, const char *piece) {
    size_t len = strlen(piece);
    const struct special_token *t = special_tokens_find(&tk->special, piece, len);
    return t ? t->id : vocab_find(&tk->vocab, piece, len);
}

bool tokenizer_adds_bos(const struct tokenizer *tk) {
    return tk->bos >= 0 && tk->prefix.len && tk->prefix.data[0] == tk->bos;
}

const char *tokenizer_chat_template(const struct tokenizer *tk) {
    return tk->chat_template;
}
