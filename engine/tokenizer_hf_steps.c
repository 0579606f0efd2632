/* The steps of a tokenizer.json. Each is an object whose "type" names it; "Sequence" nests. Types
 * that are not known are refused: ids that are nearly right are worse than none. */
#include "engine/tokenizer_hf_steps.h"

#include "engine/tokenizer_regex.h"

static const char *text_of(const json_t *object, const char *key) {
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

/* A flag that is `otherwise` where it is absent or null. */
static bool flag(const json_t *object, const char *key, bool otherwise) {
    const json_t *v = json_object_get(object, key);
    return json_is_boolean(v) ? json_is_true(v) : otherwise;
}

static bool is(const json_t *step, const char *type) {
    return !strcmp(text_of(step, "type"), type);
}

static enum errc not_supported(const json_t *step, struct error *err) {
    return err_set(err, ERR_INVALID, "type \"%.60s\" is not supported", text_of(step, "type"));
}

/* Reads step[key], the steps of a Sequence, each by `read`. */
static enum errc read_sequence(const json_t *step, const char *key,
                               enum errc (*read)(const json_t *, void *, uint32_t, struct error *),
                               void *to, uint32_t depth, struct error *err) {
    const json_t *list = json_object_get(step, key);
    if (!json_is_array(list))
        return err_set(err, ERR_INVALID, "%s must be a list", key);
    if (depth == HF_NESTING_MAX)
        return err_set(err, ERR_INVALID, "%s: nested deeper than %d", key, HF_NESTING_MAX);
    for (size_t i = 0; i < json_array_size(list); i++)
        if (read(json_array_get(list, i), to, depth + 1, err))
            return err_wrap(err, "%s[%zu]", key, i);
    return OK;
}

/* A pattern is {"String": "..."} or {"Regex": "..."}; older files have the string alone. */
static enum errc read_pattern(const json_t *step, const char **ret_string, const char **ret_regex,
                              struct error *err) {
    const json_t *v = json_object_get(step, "pattern");
    *ret_string =
        json_is_string(v) ? json_string_value(v) : json_string_value(json_object_get(v, "String"));
    *ret_regex = json_string_value(json_object_get(v, "Regex"));
    const char *given = *ret_string ? *ret_string : *ret_regex;
    if (!given || !*given)
        return err_set(err, ERR_INVALID, "pattern: must be a String or a Regex, and not empty");
    return OK;
}

static enum errc add_kind(struct tokenizer *tk, enum normalizer_kind kind, struct error *err) {
    return normalizer_add(&tk->normalizer, &(struct normalizer_step){.kind = kind}, err);
}

static enum errc read_replace(const json_t *step, struct tokenizer *tk, struct error *err) {
    const char *string, *regex;
    if (read_pattern(step, &string, &regex, err))
        return err->code;
    struct normalizer_step s = {.kind = NORMALIZE_REPLACE};
    if (!string && tokenizer_regex_create(regex, &s.regex, err))
        return err_wrap(err, "pattern");
    s.pattern = mem_strdup(string);
    s.content = mem_strdup(text_of(step, "content"));
    return normalizer_add(&tk->normalizer, &s, err);
}

static enum errc read_bert_normalizer(const json_t *step, struct tokenizer *tk, struct error *err) {
    bool lowercase = flag(step, "lowercase", true);
    bool strip_accents = flag(step, "strip_accents", lowercase);
    if (flag(step, "clean_text", true) && add_kind(tk, NORMALIZE_CLEAN, err))
        return err->code;
    if (flag(step, "handle_chinese_chars", true) && add_kind(tk, NORMALIZE_SPACE_IDEOGRAPHS, err))
        return err->code;
    if (strip_accents &&
        (add_kind(tk, NORMALIZE_FORM_D, err) || add_kind(tk, NORMALIZE_DROP_MARKS, err)))
        return err->code;
    return lowercase ? add_kind(tk, NORMALIZE_LOWERCASE, err) : OK;
}

static enum errc read_normalizer(const json_t *step, void *to, uint32_t depth, struct error *err) {
    static const struct {
        const char *type;
        enum normalizer_kind kind;
    } plain[] = {
        {"NFC", NORMALIZE_FORM_C},          {"NFD", NORMALIZE_FORM_D},
        {"NFKC", NORMALIZE_FORM_KC},        {"NFKD", NORMALIZE_FORM_KD},
        {"Lowercase", NORMALIZE_LOWERCASE}, {"StripAccents", NORMALIZE_DROP_MARKS},
    };
    struct tokenizer *tk = to;
    if (is(step, "Sequence"))
        return read_sequence(step, "normalizers", read_normalizer, tk, depth, err);
    for (size_t i = 0; i < ARRAY_LEN(plain); i++)
        if (is(step, plain[i].type))
            return add_kind(tk, plain[i].kind, err);
    if (is(step, "Replace"))
        return read_replace(step, tk, err);
    if (is(step, "BertNormalizer"))
        return read_bert_normalizer(step, tk, err);
    if (is(step, "Prepend")) {
        struct normalizer_step s = {.kind = NORMALIZE_PREPEND,
                                    .content = mem_strdup(text_of(step, "prepend"))};
        return normalizer_add(&tk->normalizer, &s, err);
    }
    if (is(step, "Strip")) {
        struct normalizer_step s = {.kind = NORMALIZE_STRIP,
                                    .strip_left = flag(step, "strip_left", true),
                                    .strip_right = flag(step, "strip_right", true)};
        return normalizer_add(&tk->normalizer, &s, err);
    }
    return not_supported(step, err);
}

enum errc hf_read_normalizer(const json_t *v, struct tokenizer *tk, struct error *err) {
    if (!v || json_is_null(v))
        return OK;
    return read_normalizer(v, tk, 0, err) ? err_wrap(err, "normalizer") : OK;
}

static enum errc read_behavior(const json_t *step, enum split_behavior *ret_behavior,
                               struct error *err) {
    static const char *const names[] = {
        [SPLIT_ISOLATED] = "Isolated",
        [SPLIT_REMOVED] = "Removed",
        [SPLIT_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
        [SPLIT_MERGED_WITH_NEXT] = "MergedWithNext",
        [SPLIT_CONTIGUOUS] = "Contiguous",
    };
    const char *name = text_of(step, "behavior");
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (!strcasecmp(names[i], name)) {
            *ret_behavior = (enum split_behavior)i;
            return OK;
        }
    }
    return err_set(err, ERR_INVALID, "behavior: \"%.60s\" is not known", name);
}

/* Turns a literal string into an expression that matches it. */
static void quote_pattern(const char *string, struct buf *out) {
    for (; *string; string++) {
        if (strchr("\\^$.|?*+()[]{}-/#&", *string))
            buf_putc(out, '\\');
        buf_putc(out, *string);
    }
}

static enum errc read_split(const json_t *step, struct pretokenizer *p, struct error *err) {
    enum split_behavior behavior = SPLIT_REMOVED;
    const char *string, *regex;
    if (read_behavior(step, &behavior, err) || read_pattern(step, &string, &regex, err))
        return err->code;
    AUTO_BUF quoted = BUF_INIT;
    if (string)
        quote_pattern(string, &quoted);
    bool invert = flag(step, "invert", false);
    if (pretokenizer_add_split(p, string ? quoted.data : regex, behavior, invert, err))
        return err_wrap(err, "pattern");
    return OK;
}

static enum errc read_metaspace(const json_t *step, struct pretokenizer *p, struct error *err) {
    const char *scheme = text_of(step, "prepend_scheme"),
               *replacement = text_of(step, "replacement");
    struct pretokenizer_step s = {.kind = STEP_METASPACE, .split = flag(step, "split", true)};
    if (!*scheme)
        s.prepend = flag(step, "add_prefix_space", true) ? PREPEND_ALWAYS : PREPEND_NEVER;
    else if (!strcmp(scheme, "always"))
        s.prepend = PREPEND_ALWAYS;
    else if (!strcmp(scheme, "first"))
        s.prepend = PREPEND_FIRST;
    else if (!strcmp(scheme, "never"))
        s.prepend = PREPEND_NEVER;
    else
        return err_set(err, ERR_INVALID, "prepend_scheme: \"%.60s\" is not known", scheme);
    if (!*replacement)
        return err_set(err, ERR_INVALID, "replacement: must be one character");
    s.replacement = mem_strdup(replacement);
    return pretokenizer_add_step(p, &s, err);
}

struct pretokenizer_reader {
    struct pretokenizer *p;
    bool byte_level;
};

static enum errc read_byte_level(const json_t *step, struct pretokenizer_reader *r,
                                 struct error *err) {
    r->byte_level = true;
    if (flag(step, "add_prefix_space", true) &&
        pretokenizer_add_step(r->p, &(struct pretokenizer_step){.kind = STEP_PREFIX_SPACE}, err))
        return err->code;
    return flag(step, "use_regex", true) ? pretokenizer_add_named(r->p, "gpt-2", err) : OK;
}

static enum errc read_pretokenizer(const json_t *step, void *to, uint32_t depth,
                                   struct error *err) {
    struct pretokenizer_reader *r = to;
    enum split_behavior behavior = SPLIT_ISOLATED;
    if (is(step, "Sequence"))
        return read_sequence(step, "pretokenizers", read_pretokenizer, r, depth, err);
    if (is(step, "ByteLevel"))
        return read_byte_level(step, r, err);
    if (is(step, "Split"))
        return read_split(step, r->p, err);
    if (is(step, "Metaspace"))
        return read_metaspace(step, r->p, err);
    if (is(step, "BertPreTokenizer"))
        return pretokenizer_add_words(r->p, err);
    if (is(step, "Whitespace"))
        return pretokenizer_add_split(r->p, "\\w+|[^\\w\\s]+", SPLIT_REMOVED, true, err);
    if (is(step, "WhitespaceSplit"))
        return pretokenizer_add_split(r->p, "\\s+", SPLIT_REMOVED, false, err);
    if (is(step, "Digits"))
        return pretokenizer_add_split(r->p,
                                      flag(step, "individual_digits", false) ? "\\p{N}" : "\\p{N}+",
                                      SPLIT_ISOLATED, false, err);
    if (is(step, "Punctuation")) {
        if (json_object_get(step, "behavior") && read_behavior(step, &behavior, err))
            return err->code;
        return pretokenizer_add_split(r->p, PRETOKENIZER_PUNCTUATION, behavior, false, err);
    }
    return not_supported(step, err);
}

enum errc hf_read_pretokenizer(const json_t *v, struct tokenizer *tk, bool *ret_byte_level,
                               struct error *err) {
    struct pretokenizer_reader r = {.p = &tk->pretokenizer};
    if (v && !json_is_null(v) && read_pretokenizer(v, &r, 0, err))
        return err_wrap(err, "pre_tokenizer");
    *ret_byte_level = r.byte_level;
    return OK;
}

struct decoder_reader {
    struct tokenizer *tk;
    struct hf_decoder *d;
};

static enum errc add_replace(struct hf_decoder *d, const char *pattern, const char *content,
                             struct error *err) {
    if (d->num_replaces == HF_REPLACES_MAX)
        return err_set(err, ERR_INVALID, "more than %d replacements", HF_REPLACES_MAX);
    d->replaces[d->num_replaces].pattern = pattern;
    d->replaces[d->num_replaces++].content = content;
    return OK;
}

static enum errc read_decoder(const json_t *step, void *to, uint32_t depth, struct error *err) {
    struct decoder_reader *r = to;
    const char *string, *regex;
    if (is(step, "Sequence"))
        return read_sequence(step, "decoders", read_decoder, r, depth, err);
    if (is(step, "ByteLevel")) {
        r->d->byte_level = true;
    } else if (is(step, "ByteFallback")) {
        r->d->byte_fallback = true;
    } else if (is(step, "Replace")) {
        if (read_pattern(step, &string, &regex, err))
            return err->code;
        if (!string)
            return err_set(err, ERR_INVALID, "pattern: a Regex is not supported in a decoder");
        return add_replace(r->d, string, text_of(step, "content"), err);
    } else if (is(step, "Metaspace")) {
        const char *mark = text_of(step, "replacement");
        bool prepends = strcmp(text_of(step, "prepend_scheme"), "never") != 0;
        r->tk->strips_space = prepends && flag(step, "add_prefix_space", true);
        if (!*mark)
            return err_set(err, ERR_INVALID, "replacement: must be one character");
        return add_replace(r->d, mark, " ", err);
    } else if (is(step, "Strip")) {
        const char *content = text_of(step, "content");
        if (strcmp(content, " ") != 0 || json_integer_value(json_object_get(step, "stop")) ||
            json_integer_value(json_object_get(step, "start")) > 1)
            return err_set(err, ERR_INVALID, "Strip: only one space at the start is supported");
        r->tk->strips_space = json_integer_value(json_object_get(step, "start")) == 1;
    } else if (is(step, "WordPiece")) {
        r->d->wordpiece = true;
        r->d->wordpiece_prefix = text_of(step, "prefix");
        r->tk->strips_space = r->tk->spaces_control = true;
        r->tk->cleans_up = flag(step, "cleanup", true);
    } else if (!is(step, "Fuse")) {
        return not_supported(step, err);
    }
    return OK;
}

enum errc hf_read_decoder(const json_t *v, struct tokenizer *tk, struct hf_decoder *ret_d,
                          struct error *err) {
    *ret_d = (struct hf_decoder){0};
    struct decoder_reader r = {.tk = tk, .d = ret_d};
    if (v && !json_is_null(v) && read_decoder(v, &r, 0, err))
        return err_wrap(err, "decoder");
    return OK;
}

static enum errc find_special(const struct tokenizer *tk, const char *name, int32_t *ret_id,
                              struct error *err) {
    *ret_id = tokenizer_find(tk, name);
    if (*ret_id < 0)
        return err_set(err, ERR_INVALID, "\"%.100s\" is not in the vocabulary", name);
    return OK;
}

/* "single": special tokens around the text, which is Sequence A. */
static enum errc read_template(const json_t *step, struct tokenizer *tk, struct error *err) {
    const json_t *single = json_object_get(step, "single");
    tk->prefix.len = tk->suffix.len = 0;
    bool behind = false;
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *item = json_array_get(single, i);
        const json_t *special = json_object_get(item, "SpecialToken");
        if (!special) {
            behind = true;
            continue;
        }
        int32_t id;
        if (find_special(tk, text_of(special, "id"), &id, err))
            return err_wrap(err, "single[%zu]", i);
        token_ids_push(behind ? &tk->suffix : &tk->prefix, id);
    }
    return OK;
}

/* "cls" and "sep": ["[CLS]", 101]. */
static enum errc read_bert_processor(const json_t *step, struct tokenizer *tk, struct error *err) {
    const char *cls = json_string_value(json_array_get(json_object_get(step, "cls"), 0));
    const char *sep = json_string_value(json_array_get(json_object_get(step, "sep"), 0));
    int32_t cls_id, sep_id;
    if (!cls || !sep)
        return err_set(err, ERR_INVALID, "cls and sep must be [token, id]");
    if (find_special(tk, cls, &cls_id, err) || find_special(tk, sep, &sep_id, err))
        return err->code;
    tk->prefix.len = tk->suffix.len = 0;
    token_ids_push(&tk->prefix, cls_id);
    token_ids_push(&tk->suffix, sep_id);
    return OK;
}

static enum errc read_postprocessor(const json_t *step, void *to, uint32_t depth,
                                    struct error *err) {
    if (is(step, "Sequence"))
        return read_sequence(step, "processors", read_postprocessor, to, depth, err);
    if (is(step, "TemplateProcessing"))
        return read_template(step, to, err);
    if (is(step, "BertProcessing") || is(step, "RobertaProcessing"))
        return read_bert_processor(step, to, err);
    return is(step, "ByteLevel") ? OK : not_supported(step, err); /* ByteLevel is about offsets */
}

enum errc hf_read_postprocessor(const json_t *v, struct tokenizer *tk, struct error *err) {
    if (!v || json_is_null(v))
        return OK;
    return read_postprocessor(v, tk, 0, err) ? err_wrap(err, "post_processor") : OK;
}
