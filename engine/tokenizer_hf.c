/* Tokenizers from a Hugging Face directory.
 *
 *   tokenizer.json          added_tokens, normalizer, pre_tokenizer, model {type, vocab, merges},
 *                           post_processor, decoder: the whole pipeline, spelled out
 *   tokenizer_config.json   bos_token, eos_token, add_bos_token, add_eos_token, chat_template
 *   special_tokens_map.json bos_token and eos_token, where the former is silent
 *   generation_config.json  eos_token_id, one or a list (config.json's where there is none)
 *   chat_template.jinja     goes before the template in tokenizer_config.json
 *
 * "special" added tokens become control tokens: they match only where special tokens are parsed,
 * and no merge makes one out of plain text. Added tokens match the raw text; what Hugging Face
 * calls "normalized" (matched behind the normalizer) makes no difference for special ones. */
#include "engine/tokenizer_state.h"

#include <jansson.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "engine/tokenizer_hf_steps.h"

enum { HF_JSON_BYTES_MAX = 256 << 20 };

struct loader {
    const char *dir;
    struct tokenizer *tk;
    json_t *doc;         /* tokenizer.json */
    const json_t *model; /* in doc */
    struct hf_decoder decoder;
    bool byte_level;
    struct buf piece, joined; /* scratch */
};

/* Loads dir/name. A file that is absent gives OK and NULL. */
static enum errc load_json(const char *dir, const char *name, json_t **ret_doc, struct error *err) {
    *ret_doc = NULL;
    AUTO_FREE char *path = mem_printf("%s/%s", dir, name);
    struct stat st;
    if (stat(path, &st))
        return errno == ENOENT ? OK : err_errno(err, "open %s", path);
    if (st.st_size > HF_JSON_BYTES_MAX)
        return err_set(err, ERR_INVALID, "%s: %lld bytes, at most %d are possible", path,
                       (long long)st.st_size, HF_JSON_BYTES_MAX);
    json_error_t why;
    *ret_doc = json_load_file(path, JSON_ALLOW_NUL, &why);
    /* tokenizer_config.json often says that model_max_length is 10^30. */
    if (!*ret_doc && json_error_code(&why) == json_error_numeric_overflow)
        *ret_doc = json_load_file(path, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &why);
    if (!*ret_doc)
        return err_set(err, ERR_MALFORMED, "%s: line %d: %s", path, why.line, why.text);
    if (json_is_object(*ret_doc))
        return OK;
    json_decref(*ret_doc);
    *ret_doc = NULL;
    return err_set(err, ERR_MALFORMED, "%s: not an object", path);
}

/* A token in a config: "text" or {"content": "text"}; NULL: neither. */
static const char *token_text(const json_t *v) {
    return json_is_object(v) ? json_string_value(json_object_get(v, "content"))
                             : json_string_value(v);
}

/* The ids run from 0 to the largest one in the vocabulary and among the added tokens. */
static enum errc count_tokens(const struct loader *l, uint64_t *ret_num, struct error *err) {
    json_int_t last = -1;
    const char *text;
    json_t *id;
    json_object_foreach (json_object_get((json_t *)l->model, "vocab"), text, id) {
        json_int_t n = json_integer_value(id);
        if (!json_is_integer(id) || n < 0 || n >= VOCAB_TOKENS_MAX)
            return err_set(err, ERR_INVALID, "model.vocab: \"%.60s\": id must be 0 to %d", text,
                           VOCAB_TOKENS_MAX - 1);
        last = n > last ? n : last;
    }
    const json_t *added = json_object_get(l->doc, "added_tokens");
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *v = json_object_get(json_array_get(added, i), "id");
        json_int_t n = json_integer_value(v);
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

static enum errc set_token(struct loader *l, const char *text, uint32_t id, struct error *err) {
    struct vocab *v = &l->tk->vocab;
    size_t len = strlen(text);
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
    json_t *vocab = json_object_get((json_t *)l->model, "vocab");
    if (!json_is_object(vocab))
        return err_set(err, ERR_INVALID, "model.vocab: must be an object of token: id");
    uint64_t num = 0;
    if (count_tokens(l, &num, err) || vocab_init(&l->tk->vocab, num, err))
        return err->code;
    const char *text;
    json_t *id;
    json_object_foreach (vocab, text, id) {
        if (set_token(l, text, (uint32_t)json_integer_value(id), err))
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

/* A merge is "left right" or ["left", "right"]. ret_used false: it concerns a special token. */
static enum errc read_merge(struct loader *l, const json_t *v, struct bpe_merge *m, bool *ret_used,
                            struct error *err) {
    const char *left = json_string_value(json_array_get(v, 0));
    const char *right = json_string_value(json_array_get(v, 1));
    size_t left_len = left ? strlen(left) : 0;
    if (json_is_string(v)) {
        left = json_string_value(v);
        const char *space = strchr(left, ' ');
        left_len = space ? (size_t)(space - left) : 0;
        right = space ? space + 1 : NULL;
    }
    if (!left || !right || !left_len || !*right)
        return err_set(err, ERR_INVALID, "must be \"left right\" or [left, right]");
    size_t right_len = strlen(right);
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
    const json_t *list = json_object_get(l->model, "merges");
    if (!json_is_array(list) || json_array_size(list) > BPE_MERGES_MAX)
        return err_set(err, ERR_INVALID, "model.merges: must be a list of at most %d",
                       BPE_MERGES_MAX);
    AUTO_FREE struct bpe_merge *merges = mem_array(json_array_size(list), sizeof(struct bpe_merge));
    uint32_t num = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        bool used;
        if (read_merge(l, json_array_get(list, i), &merges[num], &used, err))
            return err_wrap(err, "model.merges[%zu]", i);
        num += used;
    }
    bpe_set_merges(&l->tk->bpe, steal(merges), num);
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
        type = json_object_get(l->model, "merges") ? "BPE" : "WordPiece";
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
    l->model = json_object_get(l->doc, "model");
    if (!json_is_object(l->model))
        return err_set(err, ERR_INVALID, "model: missing");
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

/* Where the tokenizer's class builds its own post-processor from add_bos_token and add_eos_token,
 * these flags overrule the one in tokenizer.json. */
static void apply_add_flags(struct tokenizer *tk, const json_t *config) {
    static const char *const classes[] = {"Llama", "CodeLlama", "Gemma", "Cohere"};
    const char *class = json_string_value(json_object_get(config, "tokenizer_class"));
    bool applies = false;
    for (size_t i = 0; class && i < ARRAY_LEN(classes); i++)
        applies |= !strncmp(class, classes[i], strlen(classes[i]));
    const json_t *bos = json_object_get(config, "add_bos_token");
    const json_t *eos = json_object_get(config, "add_eos_token");
    if (applies && json_is_boolean(bos) && (json_is_false(bos) || tk->bos >= 0)) {
        tk->prefix.len = 0;
        if (json_is_true(bos))
            token_ids_push(&tk->prefix, tk->bos);
    }
    if (applies && json_is_boolean(eos) && (json_is_false(eos) || tk->eos >= 0)) {
        tk->suffix.len = 0;
        if (json_is_true(eos))
            token_ids_push(&tk->suffix, tk->eos);
    }
}

/* The template is a string, or a list of named ones, of which "default" is the chat's. */
static enum errc set_chat_template(struct tokenizer *tk, const json_t *v, struct error *err) {
    const char *text = json_string_value(v);
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *named = json_array_get(v, i);
        const char *name = json_string_value(json_object_get(named, "name"));
        if (name && !strcmp(name, "default"))
            text = json_string_value(json_object_get(named, "template"));
    }
    if (text && strlen(text) > TOKENIZER_TEMPLATE_BYTES_MAX)
        return err_set(err, ERR_INVALID, "chat_template: %zu bytes, at most %d are possible",
                       strlen(text), TOKENIZER_TEMPLATE_BYTES_MAX);
    free(tk->chat_template);
    tk->chat_template = mem_strdup(text);
    return OK;
}

static enum errc read_template_file(struct loader *l, struct error *err) {
    AUTO_FREE char *path = mem_printf("%s/chat_template.jinja", l->dir);
    FILE *f = fopen(path, "re");
    if (!f)
        return OK;
    char *text = mem_alloc(TOKENIZER_TEMPLATE_BYTES_MAX + 2);
    size_t len = fread(text, 1, TOKENIZER_TEMPLATE_BYTES_MAX + 1, f);
    fclose(f);
    if (len > TOKENIZER_TEMPLATE_BYTES_MAX) {
        free(text);
        return err_set(err, ERR_INVALID, "%s: more than %d bytes", path,
                       TOKENIZER_TEMPLATE_BYTES_MAX);
    }
    free(l->tk->chat_template);
    l->tk->chat_template = mem_realloc(text, len + 1);
    return OK;
}

static enum errc load_config(struct loader *l, struct error *err) {
    struct tokenizer *tk = l->tk;
    json_t *config, *map;
    if (load_json(l->dir, "tokenizer_config.json", &config, err))
        return err->code;
    if (load_json(l->dir, "special_tokens_map.json", &map, err)) {
        json_decref(config);
        return err->code;
    }
    static const char *const names[] = {"bos_token", "eos_token"};
    int32_t *const ids[] = {&tk->bos, &tk->eos};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const char *text = token_text(json_object_get(config, names[i]));
        if (!text)
            text = token_text(json_object_get(map, names[i]));
        *ids[i] = text ? tokenizer_find(tk, text) : -1;
    }
    apply_add_flags(tk, config);
    enum errc rc = set_chat_template(tk, json_object_get(config, "chat_template"), err);
    json_decref(config);
    json_decref(map);
    if (rc)
        return err_wrap(err, "%s/tokenizer_config.json", l->dir);
    return read_template_file(l, err);
}

static void add_eos_ids(struct tokenizer *tk, const json_t *ids) {
    if (json_is_integer(ids))
        tokenizer_add_eog(tk, json_integer_value(ids));
    for (size_t i = 0; i < json_array_size(ids); i++)
        if (json_is_integer(json_array_get(ids, i)))
            tokenizer_add_eog(tk, json_integer_value(json_array_get(ids, i)));
}

static enum errc load_generation_config(struct loader *l, struct error *err) {
    static const char *const names[] = {"generation_config.json", "config.json"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        json_t *doc;
        if (load_json(l->dir, names[i], &doc, err))
            return err->code;
        json_t *ids = json_object_get(doc, "eos_token_id");
        bool found = json_is_integer(ids) || json_array_size(ids);
        add_eos_ids(l->tk, ids);
        json_decref(doc);
        if (found)
            break;
    }
    if (l->tk->eos < 0 && l->tk->eog.len)
        l->tk->eos = l->tk->eog.data[0];
    return OK;
}

enum errc tokenizer_from_dir(const char *dir, struct tokenizer **ret_tk, struct error *err) {
    AUTO(tokenizer) tk = mem_alloc(sizeof(*tk));
    tk->bos = tk->eos = -1;
    struct loader l = {.dir = dir, .tk = tk};
    if (load_json(dir, "tokenizer.json", &l.doc, err))
        return err->code;
    if (!l.doc)
        return err_set(err, ERR_NOT_FOUND, "no tokenizer: %s/tokenizer.json is missing", dir);
    enum errc rc = load_pipeline(&l, err);
    if (rc)
        err_wrap(err, "%s/tokenizer.json", dir);
    else
        rc = load_config(&l, err) ? err->code : load_generation_config(&l, err);
    if (!rc)
        tokenizer_seal(tk);
    json_decref(l.doc);
    buf_deinit(&l.piece);
    buf_deinit(&l.joined);
    if (!rc)
        *ret_tk = steal(tk);
    return rc;
}
