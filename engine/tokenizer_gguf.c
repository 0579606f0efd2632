/* Tokenizers from GGUF metadata, the tokenizer.ggml.* keys:
 *
 *   model             "llama" SentencePiece-style BPE, "gpt2" byte-level BPE, "bert" WordPiece
 *   pre               which expressions cut the text (byte-level BPE)
 *   tokens [V]        spellings: "\u2581the", "\u0120the", "<0x0A>", "<|im_end|>"
 *   token_type [V]    enum token_kind; absent: all normal
 *   scores [V]        SentencePiece's
 *   merges            "left right", best first
 *   bos_token_id ...  and add_bos_token, add_eos_token, add_space_prefix,
 *                     remove_extra_whitespaces
 *
 * Only normal tokens can come out of plain text. Control tokens match where special tokens are
 * parsed, user-defined ones always. */
#include "engine/tokenizer_state.h"

#include <pthread.h>

#include "engine/cpu/thread_pool.h"
#include "engine/gguf.h"

#define KEY(name) "tokenizer.ggml." name

enum { MERGE_THREADS_MAX = 8, MERGES_PER_THREAD_MIN = 1 << 14 };

enum family { FAMILY_SPM, FAMILY_BYTE_LEVEL, FAMILY_WORDPIECE };

struct loader {
    const struct gguf *g;
    struct tokenizer *tk;
    enum family family;
    struct gguf_array tokens, types;
    bool has_types;
    struct buf piece; /* scratch */
};

static enum errc read_family(struct loader *l, struct error *err) {
    static const char *const names[] = {
        [FAMILY_SPM] = "llama", [FAMILY_BYTE_LEVEL] = "gpt2", [FAMILY_WORDPIECE] = "bert"};
    struct gguf_string model;
    if (!gguf_has(l->g, KEY("model")))
        return err_set(err, ERR_NOT_FOUND, "no tokenizer: the key " KEY("model") " is missing");
    if (gguf_get_string(l->g, KEY("model"), &model, err))
        return err->code;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strlen(names[i]) == model.len && !memcmp(names[i], model.data, model.len)) {
            l->family = (enum family)i;
            return OK;
        }
    }
    if ((model.len == 4 && !memcmp(model.data, "none", 4)) ||
        (model.len == 8 && !memcmp(model.data, "no_vocab", 8)))
        return err_set(err, ERR_NOT_FOUND, "no tokenizer: " KEY("model") " is \"none\"");
    return err_set(err, ERR_INVALID, KEY("model") ": \"%.*s\" is not one of llama, gpt2, bert",
                   model.len > 60 ? 60 : (int)model.len, model.data);
}

static enum token_kind kind_of(const struct loader *l, uint32_t id, struct gguf_string text) {
    if (l->has_types)
        return (enum token_kind)gguf_array_int(&l->types, id);
    if (l->family == FAMILY_SPM && tokenizer_byte_token(text.data, text.len) >= 0)
        return TOKEN_BYTE;
    return TOKEN_NORMAL;
}

/* Sets token `id` by its family's spelling. */
static enum errc set_token(struct loader *l, uint32_t id, struct error *err) {
    struct vocab *v = &l->tk->vocab;
    struct gguf_string text = gguf_array_string(&l->tokens, id);
    enum token_kind kind = kind_of(l, id, text);
    if (l->family != FAMILY_BYTE_LEVEL)
        return tokenizer_set_spm_token(l->tk, id, text.data, text.len, kind, err);
    struct vocab_spelling s = {.key = text.data, .key_len = text.len};
    bool matchable = kind == TOKEN_NORMAL || kind == TOKEN_UNUSED;
    buf_clear(&l->piece);
    matchable = matchable && tokenizer_letters_to_bytes(text.data, text.len, &l->piece);
    if (matchable) {
        s.key = l->piece.data;
        s.key_len = l->piece.len;
    }
    return vocab_set(v, id, &s, kind, matchable, err);
}

static enum errc load_tokens(struct loader *l, struct error *err) {
    if (gguf_get_strings(l->g, KEY("tokens"), &l->tokens, err) ||
        vocab_init(&l->tk->vocab, l->tokens.len, err))
        return err_wrap(err, KEY("tokens"));
    l->has_types = gguf_has(l->g, KEY("token_type"));
    if (l->has_types && gguf_get_ints(l->g, KEY("token_type"), &l->types, err))
        return err->code;
    if (l->has_types && l->types.len != l->tokens.len)
        return err_set(err, ERR_INVALID, KEY("token_type") ": %llu entries for %llu tokens",
                       (unsigned long long)l->types.len, (unsigned long long)l->tokens.len);
    for (uint32_t id = 0; id < l->tk->vocab.len; id++) {
        int64_t kind = l->has_types ? gguf_array_int(&l->types, id) : TOKEN_NORMAL;
        if (kind < TOKEN_NORMAL || kind > TOKEN_BYTE)
            return err_set(err, ERR_INVALID, KEY("token_type") "[%u]: %lld is not 1 to 6", id,
                           (long long)kind);
        if (set_token(l, id, err))
            return err_wrap(err, KEY("tokens"));
    }
    vocab_index(&l->tk->vocab, l->family == FAMILY_BYTE_LEVEL);
    return OK;
}

static enum errc load_scores(struct loader *l, struct error *err) {
    struct vocab *v = &l->tk->vocab;
    struct gguf_array scores;
    if (gguf_get_floats(l->g, KEY("scores"), &scores, err))
        return err->code;
    if (scores.len != v->len)
        return err_set(err, ERR_INVALID, KEY("scores") ": %llu entries for %u tokens",
                       (unsigned long long)scores.len, v->len);
    v->scores = mem_array(v->len, sizeof(*v->scores));
    for (uint32_t id = 0; id < v->len; id++) {
        v->scores[id] = gguf_array_float(&scores, id);
        if (v->scores[id] != v->scores[id])
            return err_set(err, ERR_INVALID, KEY("scores") "[%u]: not a number", id);
    }
    return OK;
}

/* Finds the token that letters[0..len) spell; its bytes are appended to l->piece. */
static int32_t find_letters(struct loader *l, const char *letters, size_t len) {
    size_t start = l->piece.len;
    if (!tokenizer_letters_to_bytes(letters, len, &l->piece))
        return -1;
    return vocab_find(&l->tk->vocab, l->piece.data + start, l->piece.len - start);
}

static bool is_special(const struct loader *l, const char *text, size_t len) {
    return len && special_tokens_find(&l->tk->special, text, len);
}

/* Reads "left right". ret_used false: the merge concerns a special token, which is cut out of text
 * before any merge could see it. */
static enum errc parse_merge(struct loader *l, struct gguf_string text, struct bpe_merge *m,
                             bool *ret_used, struct error *err) {
    const char *space = text.len > 2 ? memchr(text.data + 1, ' ', text.len - 2) : NULL;
    if (!space)
        return err_set(err, ERR_INVALID, "\"%.*s\" is not two tokens with a space between",
                       text.len > 100 ? 100 : (int)text.len, text.data);
    size_t left_len = (size_t)(space - text.data), right_len = text.len - left_len - 1;
    buf_clear(&l->piece);
    int32_t left = find_letters(l, text.data, left_len);
    int32_t right = find_letters(l, space + 1, right_len);
    int32_t result = vocab_find(&l->tk->vocab, l->piece.data, l->piece.len);
    *ret_used = left >= 0 && right >= 0 && result >= 0;
    if (*ret_used) {
        *m = (struct bpe_merge){(uint32_t)left, (uint32_t)right, (uint32_t)result};
        return OK;
    }
    if (is_special(l, text.data, left_len) || is_special(l, space + 1, right_len) ||
        is_special(l, l->piece.data, l->piece.len))
        return OK;
    return err_set(err, ERR_INVALID, "\"%.*s\": %s is not in the vocabulary",
                   text.len > 100 ? 100 : (int)text.len, text.data,
                   left < 0    ? "the left token"
                   : right < 0 ? "the right token"
                               : "the joined token");
}

/* A run of merges, parsed by one thread: a large vocabulary has hundreds of thousands, each three
 * look-ups in a table that no cache holds, and they are most of the time that a replica takes to be
 * ready when its weights are in memory already. */
struct merge_run {
    struct loader l; /* with a scratch of its own; the tokenizer is only read */
    const struct gguf_array *texts;
    struct bpe_merge *merges; /* [num_texts] */
    uint32_t first, num_texts, num_used;
    struct error err; /* of the first merge that is wrong, which ends the run */
    pthread_t thread;
    bool has_thread;
};

static void *parse_run(void *user) {
    struct merge_run *r = user;
    for (uint32_t i = 0; i < r->num_texts && !r->err.code; i++) {
        bool used = false;
        struct gguf_string text = gguf_array_string(r->texts, r->first + i);
        if (parse_merge(&r->l, text, &r->merges[r->num_used], &used, &r->err))
            err_wrap(&r->err, KEY("merges") "[%u]", r->first + i);
        r->num_used += used;
    }
    return NULL;
}

/* The runs one behind the other, without the merges that are not used. The error is that of the
 * first merge that is wrong, however many threads there were. */
static enum errc join_runs(struct merge_run *runs, uint32_t num_runs, uint32_t *ret_num,
                           struct error *err) {
    uint32_t num = 0;
    for (uint32_t i = 0; i < num_runs; i++) {
        struct merge_run *r = &runs[i];
        if (r->has_thread)
            pthread_join(r->thread, NULL);
        else
            parse_run(r);
        buf_deinit(&r->l.piece);
        if (r->err.code && !err->code)
            *err = r->err;
        memmove(runs[0].merges + num, r->merges, r->num_used * sizeof(r->merges[0]));
        num += r->num_used;
    }
    *ret_num = num;
    return err->code;
}

static enum errc parse_merges(const struct loader *l, const struct gguf_array *texts,
                              struct bpe_merge *merges, uint32_t *ret_num, struct error *err) {
    struct merge_run runs[MERGE_THREADS_MAX] = {0};
    uint32_t len = (uint32_t)texts->len, num_runs = 1 + len / MERGES_PER_THREAD_MIN;
    if (num_runs > thread_pool_num_cpus())
        num_runs = thread_pool_num_cpus();
    if (num_runs > MERGE_THREADS_MAX)
        num_runs = MERGE_THREADS_MAX;
    for (uint32_t i = 0; i < num_runs; i++) {
        struct merge_run *r = &runs[i];
        r->l = *l;
        r->l.piece = BUF_INIT;
        r->texts = texts;
        r->first = (uint32_t)((uint64_t)len * i / num_runs);
        r->num_texts = (uint32_t)((uint64_t)len * (i + 1) / num_runs) - r->first;
        r->merges = merges + r->first;
        r->has_thread = i && !pthread_create(&r->thread, NULL, parse_run, r);
    }
    struct error first = ERROR_INIT;
    if (join_runs(runs, num_runs, ret_num, &first))
        *err = first;
    return first.code;
}

static enum errc load_merges(struct loader *l, struct error *err) {
    struct gguf_array texts;
    if (gguf_get_strings(l->g, KEY("merges"), &texts, err))
        return err->code;
    if (texts.len > BPE_MERGES_MAX)
        return err_set(err, ERR_INVALID, KEY("merges") ": %llu entries, at most %d are possible",
                       (unsigned long long)texts.len, BPE_MERGES_MAX);
    AUTO_FREE struct bpe_merge *merges = mem_array(texts.len, sizeof(*merges));
    uint32_t num = 0;
    if (parse_merges(l, &texts, merges, &num, err))
        return err->code;
    bpe_set_merges(&l->tk->bpe, steal(merges), num);
    return OK;
}

/* *value stays when the key is absent. */
static enum errc read_bool(const struct loader *l, const char *key, bool *value,
                           struct error *err) {
    return gguf_has(l->g, key) ? gguf_get_bool(l->g, key, value, err) : OK;
}

/* *id stays when the key is absent; some writers put 2^32 - 1 where there is none. */
static enum errc read_id(const struct loader *l, const char *key, int32_t *id, struct error *err) {
    uint32_t value;
    if (!gguf_has(l->g, key))
        return OK;
    if (gguf_get_u32(l->g, key, &value, err))
        return err->code;
    if (value != UINT32_MAX && value >= l->tk->vocab.len)
        return err_set(err, ERR_INVALID, "%s: %u is outside the vocabulary of %u tokens", key,
                       value, l->tk->vocab.len);
    *id = value == UINT32_MAX ? -1 : (int32_t)value;
    return OK;
}

static enum errc load_spm(struct loader *l, struct error *err) {
    struct spm_options opt = {.add_space_prefix = true};
    if (load_scores(l, err) || read_bool(l, KEY("add_space_prefix"), &opt.add_space_prefix, err) ||
        read_bool(l, KEY("remove_extra_whitespaces"), &opt.remove_extra_whitespaces, err))
        return err->code;
    return tokenizer_set_up_spm(l->tk, opt, err);
}

/* The families whose original tokenizers start every text with BOS, when the file does not say. */
static bool pre_adds_bos(const char *pre) {
    static const char *const names[] = {"llama-bpe", "llama3",      "llama-v3", "falcon3",
                                        "falcon-h1", "pixtral",     "midm-2.0", "lfm2",
                                        "tekken",    "jina-v5-nano"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (!strcmp(names[i], pre))
            return true;
    return false;
}

static enum errc load_byte_level(struct loader *l, bool *add_bos, struct error *err) {
    struct tokenizer *tk = l->tk;
    struct gguf_string pre = {.data = "default", .len = 7};
    if (gguf_has(l->g, KEY("pre")) && gguf_get_string(l->g, KEY("pre"), &pre, err))
        return err->code;
    AUTO_FREE char *name = mem_strndup(pre.data, pre.len);
    if (pretokenizer_add_named(&tk->pretokenizer, name, err))
        return err_wrap(err, KEY("pre"));
    tk->bpe.byte_level = true;
    *add_bos = pre_adds_bos(name);
    tk->bpe.ignore_merges = *add_bos; /* the same families take a word that is a token whole */
    return load_merges(l, err);
}

static enum errc load_wordpiece(struct loader *l, struct error *err) {
    static const enum normalizer_kind steps[] = {NORMALIZE_CLEAN, NORMALIZE_SPACE_IDEOGRAPHS,
                                                 NORMALIZE_FORM_D, NORMALIZE_DROP_MARKS,
                                                 NORMALIZE_LOWERCASE};
    struct tokenizer *tk = l->tk;
    for (size_t i = 0; i < ARRAY_LEN(steps); i++)
        if (normalizer_add(&tk->normalizer, &(struct normalizer_step){.kind = steps[i]}, err))
            return err->code;
    tk->kind = TOKENIZER_WORDPIECE;
    tk->strips_space = tk->spaces_control = tk->cleans_up = true;
    tk->wordpiece = (struct wordpiece){
        .vocab = &tk->vocab, .unknown_id = -1, .word_chars_max = WORDPIECE_WORD_CHARS_MAX};
    return pretokenizer_add_words(&tk->pretokenizer, err);
}

/* What stands around a text, and which tokens end one. `add_bos` and `add_eos` hold the family's
 * defaults. */
static enum errc load_ids(struct loader *l, bool add_bos, bool add_eos, struct error *err) {
    struct tokenizer *tk = l->tk;
    bool spm = l->family == FAMILY_SPM, bert = l->family == FAMILY_WORDPIECE;
    int32_t unknown = spm && tk->vocab.len > 2 ? 0 : -1, cls = -1, sep = -1, eot = -1, eom = -1;
    tk->bos = spm && tk->vocab.len > 2 ? 1 : -1;
    tk->eos = spm && tk->vocab.len > 2 ? 2 : -1;
    if (read_id(l, KEY("bos_token_id"), &tk->bos, err) ||
        read_id(l, KEY("eos_token_id"), &tk->eos, err) ||
        read_id(l, KEY("unknown_token_id"), &unknown, err) ||
        read_id(l, KEY("cls_token_id"), &cls, err) ||
        read_id(l, KEY("seperator_token_id"), &sep, err) ||
        read_id(l, KEY("eot_token_id"), &eot, err) || read_id(l, KEY("eom_token_id"), &eom, err) ||
        read_bool(l, KEY("add_bos_token"), &add_bos, err) ||
        read_bool(l, KEY("add_eos_token"), &add_eos, err))
        return err->code;
    int32_t first = bert && cls >= 0 ? cls : tk->bos, last = bert && sep >= 0 ? sep : tk->eos;
    if (add_bos && first >= 0)
        token_ids_push(&tk->prefix, first);
    if (add_eos && last >= 0)
        token_ids_push(&tk->suffix, last);
    tk->bpe.unknown_id = l->family == FAMILY_BYTE_LEVEL ? -1 : unknown;
    tk->wordpiece.unknown_id = unknown;
    tokenizer_add_eog(tk, eot);
    tokenizer_add_eog(tk, eom);
    return OK;
}

static enum errc load_chat_template(struct loader *l, struct error *err) {
    struct gguf_string text;
    if (!gguf_has(l->g, "tokenizer.chat_template"))
        return OK;
    if (gguf_get_string(l->g, "tokenizer.chat_template", &text, err))
        return err->code;
    if (text.len > TOKENIZER_TEMPLATE_BYTES_MAX)
        return err_set(err, ERR_INVALID,
                       "tokenizer.chat_template: %zu bytes, at most %d are possible", text.len,
                       TOKENIZER_TEMPLATE_BYTES_MAX);
    l->tk->chat_template = mem_strndup(text.data, text.len);
    return OK;
}

/* GGUF has no field for "takes the white space behind it"; in Phi-3 all special tokens but three
 * do. Only the model's name tells. */
static void apply_name_quirks(struct loader *l) {
    static const char *const exempt[] = {"<unk>", "<s>", "<|endoftext|>"};
    struct gguf_string text = {0};
    struct error ignored = ERROR_INIT;
    if (gguf_get_string(l->g, "general.name", &text, &ignored))
        return;
    AUTO_FREE char *name = mem_strndup(text.data, text.len);
    if (!strcasestr(name, "phi-3") && !strcasestr(name, "phi3"))
        return;
    for (size_t i = 0; i < l->tk->special.len; i++) {
        struct special_token *t = &l->tk->special.data[i];
        bool is_exempt = false;
        for (size_t k = 0; k < ARRAY_LEN(exempt); k++)
            is_exempt |= t->len == strlen(exempt[k]) && !memcmp(t->text, exempt[k], t->len);
        t->rstrip = !is_exempt;
    }
}

static enum errc load(struct loader *l, struct error *err) {
    bool add_bos = true, add_eos = false;
    if (read_family(l, err) || load_tokens(l, err))
        return err->code;
    tokenizer_add_special_kinds(l->tk);
    apply_name_quirks(l);
    special_tokens_seal(&l->tk->special);
    l->tk->bpe.vocab = &l->tk->vocab;
    enum errc rc;
    switch (l->family) {
    case FAMILY_SPM:
        rc = load_spm(l, err);
        break;
    case FAMILY_BYTE_LEVEL:
        rc = load_byte_level(l, &add_bos, err);
        break;
    default:
        add_eos = true;
        rc = load_wordpiece(l, err);
    }
    if (rc || load_ids(l, add_bos, add_eos, err) || load_chat_template(l, err))
        return err->code;
    tokenizer_seal(l->tk);
    return OK;
}

enum errc tokenizer_from_gguf(const struct gguf *g, struct tokenizer **ret_tk, struct error *err) {
    AUTO(tokenizer) tk = mem_alloc(sizeof(*tk));
    tk->bos = tk->eos = -1;
    struct loader l = {.g = g, .tk = tk};
    enum errc rc = load(&l, err);
    buf_deinit(&l.piece);
    if (!rc)
        *ret_tk = steal(tk);
    return rc;
}
