/* tokenizer.json: the whole pipeline of a tokenizer, spelled out.
 *
 *   added_tokens, normalizer, pre_tokenizer, model {type, vocab, merges}, post_processor, decoder
 *
 * model.vocab and model.merges are walked in place (json_scan.h); the rest, with these two emptied,
 * is read by jansson. "special" added tokens become control tokens: they match only where special
 * tokens are parsed, and no merge makes one out of plain text. Added tokens match the raw text;
 * what Hugging Face calls "normalized" (matched behind the normalizer) makes no difference for
 * special ones. */
#include <jansson.h>

#include "engine/json_scan.h"
#include "engine/tokenizer_hf_steps.h"
#include "engine/tokenizer_state.h"

struct loader {
    struct tokenizer *tk;
    json_t *doc;                    /* with model.vocab and model.merges empty */
    const json_t *model;            /* in doc */
    struct json_scan vocab, merges; /* their text; at NULL: not there */
    struct hf_decoder decoder;
    bool byte_level;
    struct buf text, piece, joined; /* scratch */
};

/* Notes where model.vocab and model.merges are. False: the text is not what it should be, and
 * jansson will say why. */
static bool find_lists(struct loader *l, struct json_scan s) {
    if (!json_scan_take(&s, '{'))
        return false;
    bool in_model = false;
    for (;;) {
        buf_clear(&l->text);
        if (!json_scan_string(&s, &l->text) || !json_scan_take(&s, ':'))
            return false;
        if (!in_model && !strcmp(l->text.data, "model") && json_scan_peek(&s) == '{') {
            in_model = json_scan_take(&s, '{');
            continue;
        }
        int first = json_scan_peek(&s);
        struct json_scan value = s;
        if (!json_scan_skip(&s))
            return false;
        value.end = s.at;
        if (in_model && first == '{' && !strcmp(l->text.data, "vocab"))
            l->vocab = value;
        if (in_model && first == '[' && !strcmp(l->text.data, "merges"))
            l->merges = value;
        if (json_scan_take(&s, ','))
            continue;
        if (in_model) {
            in_model = false;
            if (!json_scan_take(&s, '}') ||
                (json_scan_peek(&s) != ',' && json_scan_peek(&s) != '}'))
                return false;
            if (json_scan_take(&s, ','))
                continue;
        }
        return json_scan_take(&s, '}');
    }
}

/* Parses all but the two lists. */
static enum errc parse_rest(struct loader *l, const char *text, size_t len, struct error *err) {
    AUTO_BUF rest = BUF_INIT;
    const char *at = text;
    if (find_lists(l, (struct json_scan){.at = text, .end = text + len})) {
        bool vocab_first = !l->merges.at || (l->vocab.at && l->vocab.at < l->merges.at);
        const struct json_scan *lists[] = {vocab_first ? &l->vocab : &l->merges,
                                           vocab_first ? &l->merges : &l->vocab};
        for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
            if (!lists[i]->at)
                continue;
            buf_append(&rest, at, (size_t)(lists[i]->at - at));
            buf_puts(&rest, *lists[i]->at == '{' ? "{}" : "[]");
            at = lists[i]->end;
        }
    }
    buf_append(&rest, at, (size_t)(text + len - at));
    json_error_t why;
    l->doc = json_loadb(rest.data, rest.len, JSON_ALLOW_NUL, &why);
    if (!l->doc)
        return err_set(err, ERR_MALFORMED, "line %d: %s", why.line, why.text);
    l->model = json_object_get(l->doc, "model");
    if (!json_is_object(l->model))
        return err_set(err, ERR_INVALID, "model: missing");
    return OK;
}

/* Reads the next `"token": id` of model.vocab into l->text and *ret_id; ret_more false: there is
 * none. */
static enum errc next_token(struct loader *l, struct json_scan *s, bool *ret_more, int64_t *ret_id,
                            struct error *err) {
    bool first = json_scan_take(s, '{');
    *ret_more = !json_scan_take(s, '}');
    if (!*ret_more)
        return OK;
    buf_clear(&l->text);
    if ((!first && !json_scan_take(s, ',')) || !json_scan_string(s, &l->text) ||
        !json_scan_take(s, ':') || !json_scan_integer(s, ret_id))
        return err_set(err, ERR_MALFORMED, "model.vocab, byte %td: not a list of \"token\": id",
                       s->at - l->vocab.at);
    if (*ret_id < 0 || *ret_id >= VOCAB_TOKENS_MAX)
        return err_set(err, ERR_INVALID, "model.vocab: \"%.60s\": id must be 0 to %d", l->text.data,
                       VOCAB_TOKENS_MAX - 1);
    return OK;
}

/* The ids run from 0 to the largest one in the vocabulary and among the added tokens. */
static enum errc count_tokens(struct loader *l, uint64_t *ret_num, struct error *err) {
    int64_t last = -1, id = -1;
    struct json_scan s = l->vocab;
    for (bool more = true; more;) {
        if (next_token(l, &s, &more, &id, err))
            return err->code;
        last = more && id > last ? id : last;
    }
    const json_t *added = json_object_get(l->doc, "added_tokens");
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *v = json_object_get(json_array_get(added, i), "id");
        int64_t n = json_integer_value(v);
        if (!json_is_integer(v) || n < 0 || n >= VOCAB_TOKENS_MAX)
            return err_set(err, ERR_INVALID, "added_tokens[%zu].id: must be 0 to %d", i,
                           VOCAB_TOKENS_MAX - 1);
        last = n > last ? n : last;
    }
    *ret_num = (uint64_t)(last + 1);
    return OK;
}

/* Appends `text` as the decoder's replacements leave it. */
static void append_decoded(const struct hf_decoder *d, const char *text, size_t len,
                           struct buf *out) {
    struct buf from = BUF_INIT, to = BUF_INIT;
    buf_append(&from, text, len);
    for (uint32_t r = 0; r < d->num_replaces; r++) {
        size_t width = strlen(d->replaces[r].pattern);
        buf_clear(&to);
        for (size_t i = 0; i < from.len;) {
            bool hit =
                from.len - i >= width && !memcmp(from.data + i, d->replaces[r].pattern, width);
            if (hit)
                buf_puts(&to, d->replaces[r].content);
            else
                buf_putc(&to, from.data[i]);
            i += hit ? width : 1;
        }
        struct buf was = from;
        from = to;
        to = was;
    }
    buf_append(out, from.data, from.len);
    buf_deinit(&from);
    buf_deinit(&to);
}

static void spell_wordpiece(struct loader *l, const char *text, size_t len,
                            struct vocab_spelling *s) {
    size_t prefix = strlen(l->decoder.wordpiece_prefix);
    buf_clear(&l->joined);
    if (prefix && len > prefix && !memcmp(text, l->decoder.wordpiece_prefix, prefix)) {
        s->key = text + prefix;
        s->key_len = len - prefix;
        return;
    }
    buf_puts(&l->joined, "\xE2\x96\x81");
    buf_append(&l->joined, text, len);
    buf_putc(&l->piece, ' ');
    buf_append(&l->piece, text, len);
    *s = (struct vocab_spelling){.key = l->joined.data,
                                 .key_len = l->joined.len,
                                 .piece = l->piece.data,
                                 .piece_len = l->piece.len};
}

/* Sets token `id` to what l->text spells. */
static enum errc set_token(struct loader *l, uint32_t id, struct error *err) {
    struct vocab *v = &l->tk->vocab;
    const char *text = l->text.data;
    size_t len = l->text.len;
    struct vocab_spelling s = {.key = text, .key_len = len};
    enum token_kind kind = TOKEN_NORMAL;
    bool matchable = true;
    int byte = l->tk->bpe.byte_fallback ? tokenizer_byte_token(text, len) : -1;
    buf_clear(&l->piece);
    if (l->tk->kind == TOKENIZER_WORDPIECE) {
        spell_wordpiece(l, text, len, &s);
    } else if (l->byte_level) {
        matchable = tokenizer_letters_to_bytes(text, len, &l->piece);
        if (matchable) {
            s.key = l->piece.data;
            s.key_len = l->piece.len;
        }
    } else if (byte >= 0) {
        kind = TOKEN_BYTE;
        matchable = false;
        buf_putc(&l->piece, (char)byte);
        s.piece = l->piece.data;
        s.piece_len = 1;
    } else {
        append_decoded(&l->decoder, text, len, &l->piece);
        s.piece = l->piece.data;
        s.piece_len = l->piece.len;
    }
    return vocab_set(v, id, &s, kind, matchable, err);
}

static enum errc load_vocab(struct loader *l, struct error *err) {
    if (!l->vocab.at)
        return err_set(err, ERR_INVALID, "model.vocab: must be an object of token: id");
    uint64_t num = 0;
    int64_t id = -1;
    struct json_scan s = l->vocab;
    if (count_tokens(l, &num, err) || vocab_init(&l->tk->vocab, num, err))
        return err->code;
    for (bool more = true; more;) {
        if (next_token(l, &s, &more, &id, err))
            return err->code;
        if (more && set_token(l, (uint32_t)id, err))
            return err_wrap(err, "model.vocab");
    }
    return OK;
}

/* Gives token `id` the spelling and the kind that added_tokens[i] says. */
static enum errc set_added_token(struct loader *l, const json_t *a, struct error *err) {
    struct vocab *v = &l->tk->vocab;
    const char *text = json_string_value(json_object_get(a, "content"));
    uint32_t id = (uint32_t)json_integer_value(json_object_get(a, "id"));
    bool special = json_is_true(json_object_get(a, "special"));
    bool matchable = !special && v->tokens[id].matchable;
    struct vocab_spelling s = {0};
    buf_clear(&l->joined);
    if (matchable) { /* stays the part of merges that it is */
        const char *key = vocab_key(v, id, &s.key_len);
        buf_append(&l->joined, key, s.key_len);
    } else {
        buf_puts(&l->joined, text);
    }
    buf_clear(&l->piece);
    if (special || l->byte_level)
        buf_puts(&l->piece, text);
    else
        append_decoded(&l->decoder, text, strlen(text), &l->piece);
    s = (struct vocab_spelling){.key = l->joined.data,
                                .key_len = l->joined.len,
                                .piece = l->piece.data,
                                .piece_len = l->piece.len};
    return vocab_set(v, id, &s, special ? TOKEN_CONTROL : TOKEN_USER_DEFINED, matchable, err);
}

/* Where the vocabulary keeps the raw text of an added token: it is the piece or the key. */
static const char *raw_text(const struct vocab *v, uint32_t id, const char *text) {
    size_t len, want = strlen(text);
    const char *kept = vocab_piece(v, id, &len);
    if (len == want && !memcmp(kept, text, len))
        return kept;
    kept = vocab_key(v, id, &len);
    return len == want && !memcmp(kept, text, len) ? kept : NULL;
}

static enum errc load_added_tokens(struct loader *l, struct error *err) {
    struct vocab *v = &l->tk->vocab;
    const json_t *added = json_object_get(l->doc, "added_tokens");
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *a = json_array_get(added, i), *text = json_object_get(a, "content");
        if (!json_string_length(text) ||
            strlen(json_string_value(text)) != json_string_length(text))
            return err_set(err, ERR_INVALID, "added_tokens[%zu].content: missing or empty", i);
        if (set_added_token(l, a, err))
            return err_wrap(err, "added_tokens[%zu]", i);
    }
    vocab_index(v, l->byte_level);
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *a = json_array_get(added, i);
        uint32_t id = (uint32_t)json_integer_value(json_object_get(a, "id"));
        struct special_token t = {
            .text = raw_text(v, id, json_string_value(json_object_get(a, "content"))),
            .len = (uint32_t)json_string_length(json_object_get(a, "content")),
            .id = (int32_t)id,
            .control = json_is_true(json_object_get(a, "special")),
            .lstrip = json_is_true(json_object_get(a, "lstrip")),
            .rstrip = json_is_true(json_object_get(a, "rstrip")),
            .single_word = json_is_true(json_object_get(a, "single_word")),
        };
        if (!t.text)
            return err_set(err, ERR_INVALID, "added_tokens[%zu].id: %u stands for two tokens", i,
                           id);
        special_tokens_add(&l->tk->special, &t);
    }
    special_tokens_seal(&l->tk->special);
    return OK;
}

/* Finds what text[0..len) spells in the vocabulary and appends its key to `key`. */
static int32_t find_spelled(const struct loader *l, const char *text, size_t len, struct buf *key) {
    size_t start = key->len;
    if (!l->byte_level)
        buf_append(key, text, len);
    else if (!tokenizer_letters_to_bytes(text, len, key))
        return -1;
    return vocab_find(&l->tk->vocab, key->data + start, key->len - start);
}

/* Whether a merge must be left out because it makes, or is made of, a special token. */
static bool is_special(const struct loader *l, const char *text, size_t len) {
    return special_tokens_find(&l->tk->special, text, len) != NULL;
}

/* Reads one merge into l->text, "left right" or ["left", "right"]; *ret_left is the length of the
 * left token, the right one starts at *ret_right. */
static bool read_pair(struct loader *l, struct json_scan *s, size_t *ret_left, size_t *ret_right) {
    buf_clear(&l->text);
    if (json_scan_take(s, '[')) {
        if (!json_scan_string(s, &l->text) || !json_scan_take(s, ','))
            return false;
        *ret_left = *ret_right = l->text.len;
        return json_scan_string(s, &l->text) && json_scan_take(s, ']');
    }
    if (!json_scan_string(s, &l->text))
        return false;
    const char *space = l->text.len ? memchr(l->text.data, ' ', l->text.len) : NULL;
    *ret_left = space ? (size_t)(space - l->text.data) : 0;
    *ret_right = *ret_left + 1;
    return space != NULL;
}

/* Turns the pair in l->text into token ids. ret_used false: it concerns a special token. */
static enum errc find_merge(struct loader *l, size_t left_len, size_t right_at, struct bpe_merge *m,
                            bool *ret_used, struct error *err) {
    const char *left = l->text.data, *right = l->text.data + right_at;
    size_t right_len = l->text.len - right_at;
    buf_clear(&l->joined);
    int32_t left_id = find_spelled(l, left, left_len, &l->joined);
    int32_t right_id = find_spelled(l, right, right_len, &l->joined);
    int32_t result = vocab_find(&l->tk->vocab, l->joined.data, l->joined.len);
    *ret_used = left_id >= 0 && right_id >= 0 && result >= 0;
    if (*ret_used) {
        *m = (struct bpe_merge){(uint32_t)left_id, (uint32_t)right_id, (uint32_t)result};
        return OK;
    }
    if (is_special(l, left, left_len) || is_special(l, right, right_len) ||
        (l->joined.len && is_special(l, l->joined.data, l->joined.len)))
        return OK;
    return err_set(err, ERR_INVALID, "\"%.*s\" + \"%.60s\": %s is not in the vocabulary",
                   left_len > 60 ? 60 : (int)left_len, left, right,
                   left_id < 0    ? "the left token"
                   : right_id < 0 ? "the right token"
                                  : "the joined token");
}

static enum errc load_merges(struct loader *l, struct error *err) {
    struct json_scan s = l->merges;
    if (!s.at || !json_scan_take(&s, '['))
        return err_set(err, ERR_INVALID, "model.merges: must be a list");
    size_t num = 0, used = 0, cap = 1024, left_len, right_at;
    AUTO_FREE struct bpe_merge *merges = mem_array(cap, sizeof(*merges));
    if (json_scan_peek(&s) != ']') {
        do {
            if (used == cap)
                merges = mem_realloc(merges, (cap *= 2) * sizeof(*merges));
            bool counts = false;
            if (num == BPE_MERGES_MAX)
                return err_set(err, ERR_INVALID, "model.merges: more than %d", BPE_MERGES_MAX);
            if (!read_pair(l, &s, &left_len, &right_at))
                return err_set(err, ERR_INVALID,
                               "model.merges[%zu]: must be \"left right\" or [left, right]", num);
            if (find_merge(l, left_len, right_at, &merges[used], &counts, err))
                return err_wrap(err, "model.merges[%zu]", num);
            used += counts;
            num++;
        } while (json_scan_take(&s, ','));
    }
    if (!json_scan_take(&s, ']'))
        return err_set(err, ERR_MALFORMED, "model.merges[%zu]: no list goes on like this", num);
    bpe_set_merges(&l->tk->bpe, steal(merges), (uint32_t)used);
    return OK;
}

static bool model_flag(const struct loader *l, const char *key) {
    return json_is_true(json_object_get(l->model, key));
}

/* Checks the model's type and sets how it works; the vocabulary comes after. */
static enum errc read_model(struct loader *l, struct error *err) {
    const char *type = json_string_value(json_object_get(l->model, "type"));
    static const char *const must_be_empty[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    if (!type)
        type = l->merges.at ? "BPE" : "WordPiece";
    if (!strcmp(type, "WordPiece")) {
        const char *prefix =
            json_string_value(json_object_get(l->model, "continuing_subword_prefix"));
        const json_t *longest = json_object_get(l->model, "max_input_chars_per_word");
        json_int_t chars =
            json_is_integer(longest) ? json_integer_value(longest) : WORDPIECE_WORD_CHARS_MAX;
        if (chars < 0 || chars > 10000)
            return err_set(err, ERR_INVALID, "model.max_input_chars_per_word: must be 0 to 10000");
        l->tk->kind = TOKENIZER_WORDPIECE;
        l->tk->wordpiece.word_chars_max = (uint32_t)chars;
        l->decoder.wordpiece_prefix = prefix ? prefix : "##";
        return OK;
    }
    if (strcmp(type, "BPE") != 0)
        return err_set(err, ERR_INVALID,
                       "model.type: \"%.60s\" is not supported (supported are BPE, WordPiece)",
                       type);
    for (size_t i = 0; i < ARRAY_LEN(must_be_empty); i++) {
        const char *s = json_string_value(json_object_get(l->model, must_be_empty[i]));
        if (s && *s)
            return err_set(err, ERR_INVALID, "model.%s: \"%.60s\" is not supported",
                           must_be_empty[i], s);
    }
    l->tk->bpe.byte_level = l->byte_level;
    l->tk->bpe.byte_fallback = model_flag(l, "byte_fallback");
    l->tk->bpe.fuse_unknown = model_flag(l, "fuse_unk");
    l->tk->bpe.ignore_merges = model_flag(l, "ignore_merges");
    return OK;
}

static void set_unknown(struct loader *l) {
    const char *text = json_string_value(json_object_get(l->model, "unk_token"));
    int32_t id = text ? tokenizer_find(l->tk, text) : -1;
    l->tk->bpe.unknown_id = id;
    l->tk->wordpiece.unknown_id = id;
    l->tk->bpe.vocab = l->tk->wordpiece.vocab = &l->tk->vocab;
}

static enum errc load_pipeline(struct loader *l, struct error *err) {
    if (hf_read_normalizer(json_object_get(l->doc, "normalizer"), l->tk, err) ||
        hf_read_pretokenizer(json_object_get(l->doc, "pre_tokenizer"), l->tk, &l->byte_level,
                             err) ||
        hf_read_decoder(json_object_get(l->doc, "decoder"), l->tk, &l->decoder, err))
        return err->code;
    l->byte_level = l->byte_level || l->decoder.byte_level;
    if (read_model(l, err) || load_vocab(l, err) || load_added_tokens(l, err))
        return err->code;
    set_unknown(l);
    if (l->tk->kind == TOKENIZER_BPE && load_merges(l, err))
        return err->code;
    return hf_read_postprocessor(json_object_get(l->doc, "post_processor"), l->tk, err);
}

enum errc tokenizer_load_json(struct tokenizer *tk, const char *text, size_t len,
                              struct error *err) {
    struct loader l = {.tk = tk};
    enum errc rc = parse_rest(&l, text, len, err);
    if (!rc)
        rc = load_pipeline(&l, err);
    json_decref(l.doc);
    buf_deinit(&l.text);
    buf_deinit(&l.piece);
    buf_deinit(&l.joined);
    return rc;
}
