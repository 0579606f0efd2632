/* Tokenizers from a Hugging Face directory, or from one of the files in it.
 *
 *   tokenizer.json          the whole pipeline; where it is absent,
 *   tokenizer.model         SentencePiece's own file, or ranks as tiktoken writes them (Llama 3)
 *   tokenizer_config.json   bos_token, eos_token, add_bos_token, add_eos_token, chat_template
 *   special_tokens_map.json bos_token and eos_token, where the former is silent
 *   generation_config.json  eos_token_id, one or a list (config.json's where there is none)
 *   chat_template.jinja     goes before the template in tokenizer_config.json */
#include "engine/tokenizer.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <sys/stat.h>

#include "engine/tokenizer_state.h"

enum { HF_FILE_BYTES_MAX = 256 << 20 };

/* Reads an open regular file whose size was looked at; it may still have grown. */
static enum errc read_open_file(FILE *f, const char *path, size_t len_max, struct buf *out,
                                struct error *err) {
    struct stat st;
    if (fstat(fileno(f), &st))
        return err_errno(err, "stat %s", path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_MALFORMED, "%s: not a regular file", path);
    if ((uint64_t)st.st_size > len_max)
        return err_set(err, ERR_INVALID, "%s: more than %zu bytes", path, len_max);
    size_t want = (size_t)st.st_size + 1; /* one more than there is: a short read is the end */
    for (size_t n = want; n == want && out->len <= len_max; out->len += n) {
        buf_reserve(out, want);
        n = fread(out->data + out->len, 1, want, f);
    }
    buf_reserve(out, 1);
    out->data[out->len] = '\0';
    if (ferror(f))
        return err_errno(err, "read %s", path);
    if (out->len > len_max)
        return err_set(err, ERR_INVALID, "%s: more than %zu bytes", path, len_max);
    return OK;
}

/* Appends the file's bytes. ERR_NOT_FOUND: there is none. */
static enum errc read_file(const char *path, size_t len_max, struct buf *out, struct error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* does not wait for a FIFO's writer */
    if (fd < 0 && errno == ENOENT)
        return err_set(err, ERR_NOT_FOUND, "%s: no such file", path);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
    if (!f)
        return err_errno(err, "open %s", path);
    enum errc rc = read_open_file(f, path, len_max, out, err);
    fclose(f);
    return rc;
}

/* Loads dir/name. A file that is absent gives OK and NULL. */
static enum errc load_json(const char *dir, const char *name, json_t **ret_doc, struct error *err) {
    *ret_doc = NULL;
    AUTO_FREE char *path = mem_printf("%s/%s", dir, name);
    AUTO_BUF text = BUF_INIT;
    struct error missing = ERROR_INIT;
    if (read_file(path, HF_FILE_BYTES_MAX, &text, &missing)) {
        if (missing.code == ERR_NOT_FOUND)
            return OK;
        *err = missing;
        return err->code;
    }
    json_error_t why;
    *ret_doc = json_loadb(text.data, text.len, JSON_ALLOW_NUL, &why);
    /* tokenizer_config.json often says that model_max_length is 10^30. */
    if (!*ret_doc && json_error_code(&why) == json_error_numeric_overflow)
        *ret_doc = json_loadb(text.data, text.len, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &why);
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

static enum errc read_template_file(struct tokenizer *tk, const char *dir, struct error *err) {
    AUTO_FREE char *path = mem_printf("%s/chat_template.jinja", dir);
    AUTO_BUF text = BUF_INIT;
    struct error why = ERROR_INIT;
    if (read_file(path, TOKENIZER_TEMPLATE_BYTES_MAX, &text, &why)) {
        if (why.code == ERR_NOT_FOUND)
            return OK;
        *err = why;
        return err->code;
    }
    free(tk->chat_template);
    tk->chat_template = buf_steal(&text);
    return OK;
}

static enum errc load_config(struct tokenizer *tk, const char *dir, struct error *err) {
    json_t *config, *map;
    if (load_json(dir, "tokenizer_config.json", &config, err))
        return err->code;
    if (load_json(dir, "special_tokens_map.json", &map, err)) {
        json_decref(config);
        return err->code;
    }
    static const char *const names[] = {"bos_token", "eos_token"};
    int32_t *const ids[] = {&tk->bos, &tk->eos};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const char *text = token_text(json_object_get(config, names[i]));
        if (!text)
            text = token_text(json_object_get(map, names[i]));
        if (text)
            *ids[i] = tokenizer_find(tk, text);
    }
    apply_add_flags(tk, config);
    enum errc rc = set_chat_template(tk, json_object_get(config, "chat_template"), err);
    json_decref(config);
    json_decref(map);
    if (rc)
        return err_wrap(err, "%s/tokenizer_config.json", dir);
    return read_template_file(tk, dir, err);
}

static void add_eos_ids(struct tokenizer *tk, const json_t *ids) {
    if (json_is_integer(ids))
        tokenizer_add_eog(tk, json_integer_value(ids));
    for (size_t i = 0; i < json_array_size(ids); i++)
        if (json_is_integer(json_array_get(ids, i)))
            tokenizer_add_eog(tk, json_integer_value(json_array_get(ids, i)));
}

static enum errc load_generation_config(struct tokenizer *tk, const char *dir, struct error *err) {
    static const char *const names[] = {"generation_config.json", "config.json"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        json_t *doc;
        if (load_json(dir, names[i], &doc, err))
            return err->code;
        json_t *ids = json_object_get(doc, "eos_token_id");
        bool found = json_is_integer(ids) || json_array_size(ids);
        add_eos_ids(tk, ids);
        json_decref(doc);
        if (found)
            break;
    }
    return OK;
}

/* The vocabulary file at `path`, then what the files beside it say. */
static enum errc load(struct tokenizer *tk, const char *path, const char *dir, struct error *err) {
    AUTO_BUF text = BUF_INIT;
    if (read_file(path, HF_FILE_BYTES_MAX, &text, err))
        return err->code;
    size_t len = strlen(path);
    bool json = len >= 5 && !strcmp(path + len - 5, ".json");
    if (json ? tokenizer_load_json(tk, text.data, text.len, err)
             : tokenizer_load_model(tk, text.data, text.len, err))
        return err_wrap(err, "%s", path);
    buf_deinit(&text);
    if (load_config(tk, dir, err) || load_generation_config(tk, dir, err))
        return err->code;
    tokenizer_seal(tk);
    return OK;
}

enum errc tokenizer_from_file(const char *path, struct tokenizer **ret_tk, struct error *err) {
    AUTO(tokenizer) tk = mem_alloc(sizeof(*tk));
    tk->bos = tk->eos = -1;
    const char *slash = strrchr(path, '/');
    AUTO_FREE char *dir = slash ? mem_strndup(path, (size_t)(slash - path)) : mem_strdup(".");
    if (load(tk, path, *dir ? dir : "/", err))
        return err->code;
    *ret_tk = steal(tk);
    return OK;
}

enum errc tokenizer_from_dir(const char *dir, struct tokenizer **ret_tk, struct error *err) {
    static const char *const names[] = {"tokenizer.json", "tokenizer.model"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        AUTO_FREE char *path = mem_printf("%s/%s", dir, names[i]);
        struct stat st;
        if (!stat(path, &st))
            return tokenizer_from_file(path, ret_tk, err);
    }
    return err_set(err, ERR_NOT_FOUND,
                   "no tokenizer: %s has neither tokenizer.json nor tokenizer.model", dir);
}
