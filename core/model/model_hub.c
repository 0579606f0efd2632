/* The Hugging Face Hub, and mirrors that speak its API.
 *
 * GET /api/models/ORG/NAME/revision/REV?blobs=true names the commit and every file with its size
 * and digest: SHA-256 of what is in LFS, else git's own. Files come from
 * /ORG/NAME/resolve/COMMIT/FILE, so that a branch that moves meanwhile mixes nothing.
 *
 * Of a repository that has the same weights in several formats, a runtime needs one. vLLM's rule:
 * with *.safetensors there the others are left out, and so are folders for other frameworks. */
#include <stdio.h>

#include "core/model/model_source.h"

static const char ENDPOINT[] = "https://huggingface.co";

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), k = strlen(end);
    return n >= k && !strcmp(s + n - k, end);
}

static bool is_other_format(const char *path) {
    static const char *const endings[] = {".bin", ".pt",   ".pth",  ".h5",     ".msgpack",
                                          ".ot",  ".onnx", ".gguf", ".tflite", ".mlmodel"};
    static const char *const folders[] = {"original/", "onnx/", "coreml/", "openvino/", "metal/"};
    for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
        if (ends_with(path, endings[i]))
            return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        if (!strncmp(path, folders[i], strlen(folders[i])))
            return true;
    }
    return false;
}

struct contents {
    bool safetensors, config;
    size_t num_gguf;
    char gguf[512]; /* their names, as many as fit */
};

static void look_at(const json_t *siblings, struct contents *c) {
    size_t i, len = 0;
    json_t *s;
    *c = (struct contents){0};
    json_array_foreach (siblings, i, s) {
        const char *name = json_string_value(json_object_get(s, "rfilename"));
        if (!name)
            continue;
        c->safetensors = c->safetensors || (ends_with(name, ".safetensors") && !strchr(name, '/'));
        c->config = c->config || !strcmp(name, "config.json");
        if (!ends_with(name, ".gguf"))
            continue;
        c->num_gguf++;
        if (len + strlen(name) + 3 < sizeof(c->gguf))
            len += (size_t)snprintf(c->gguf + len, sizeof(c->gguf) - len, "%s%s", len ? ", " : "",
                                    name);
    }
}

static bool is_wanted(const struct model_ref *ref, const struct contents *c, const char *name) {
    if (ref->path)
        return !strcmp(name, ref->path);
    if (!strcmp(name, ".gitattributes") || !strcmp(name, ".gitignore"))
        return false;
    return !c->safetensors || !is_other_format(name);
}

static enum errc add_file(const struct model_ref *ref, const char *endpoint, const json_t *entry,
                          struct model_source *s, struct error *err) {
    const char *name = json_string_value(json_object_get(entry, "rfilename"));
    const json_t *lfs = json_object_get(entry, "lfs");
    const char *sha256 = json_string_value(json_object_get(lfs, "sha256"));
    const char *blob = json_string_value(json_object_get(entry, "blobId"));
    const json_t *size = json_object_get(lfs, "size");
    struct model_source_file *f = NULL;
    if (!size)
        size = json_object_get(entry, "size");
    bool sized = json_is_integer(size) && json_integer_value(size) >= 0;
    AUTO_FREE char *path = model_http_escape(name, true);
    char *url = mem_printf("%s/%s/resolve/%s/%s", endpoint, ref->place, s->revision, path);
    if (model_source_add(s, name, url,
                         sized ? (uint64_t)json_integer_value(size) : MODEL_BYTES_UNKNOWN, &f, err))
        return err->code;
    if (sha256 && !digest_is_sha256(sha256))
        return err_set(err, ERR_INVALID, "%s: \"%.80s\" is not a SHA-256", name, sha256);
    if (sha256)
        memcpy(f->sha256, sha256, DIGEST_HEX_BYTES);
    else if (blob && strlen(blob) == 40)
        memcpy(f->git_sha1, blob, 41);
    return OK;
}

static enum errc explain(const struct model_ref *ref, bool has_token, struct error *err) {
    if (err->code == ERR_UNAUTHENTICATED || err->code == ERR_FORBIDDEN) /* also: does not exist */
        return err_wrap(err, "model \"%.200s\": %s", ref->text,
                        has_token ? "HF_TOKEN may not read it (accept the model's conditions on "
                                    "its page, or correct the name)"
                                  : "it is private, gated, or does not exist; if it exists, set "
                                    "HF_TOKEN from a Secret");
    if (err->code == ERR_NOT_FOUND)
        return err_wrap(err, "model \"%.200s\": no such repository or revision \"%.80s\"",
                        ref->text, ref->revision);
    return err_wrap(err, "model \"%.200s\"", ref->text);
}

/* A revision becomes part of addresses. */
static bool is_commit(const char *text) {
    return text && strlen(text) >= 7 && strlen(text) <= 64 &&
           strspn(text, "0123456789abcdef") == strlen(text);
}

static enum errc choose(const struct model_ref *ref, const char *endpoint, const json_t *answer,
                        struct model_source *s, struct error *err) {
    const json_t *siblings = json_object_get(answer, "siblings");
    const char *commit = json_string_value(json_object_get(answer, "sha"));
    struct contents c;
    size_t i;
    json_t *entry;
    if (!json_is_array(siblings) || !is_commit(commit))
        return err_set(err, ERR_INVALID, "model \"%.200s\": %s does not answer like the Hub",
                       ref->text, endpoint);
    s->revision = mem_strdup(commit);
    look_at(siblings, &c);
    if (!ref->path && c.num_gguf > 1 && !c.safetensors)
        return err_set(err, ERR_INVALID,
                       "model \"%.200s\": the repository has %zu GGUF files; name one: "
                       "hf://%s/FILE with FILE one of %s",
                       ref->text, c.num_gguf, ref->place, c.gguf);
    json_array_foreach (siblings, i, entry) {
        const char *name = json_string_value(json_object_get(entry, "rfilename"));
        if (name && is_wanted(ref, &c, name) && add_file(ref, endpoint, entry, s, err))
            return err->code;
    }
    if (ref->path && !s->num_files)
        return err_set(err, ERR_NOT_FOUND,
                       "model \"%.200s\": the repository has no file \"%s\"%s%s", ref->text,
                       ref->path, c.num_gguf ? "; its GGUF files are " : "", c.gguf);
    return OK;
}

enum errc model_hub_find(struct model_http *h, const struct model_ref *ref, const json_t *env,
                         struct model_source *ret, struct error *err) {
    const char *endpoint = model_env(env, "HF_ENDPOINT");
    AUTO_BUF text = BUF_INIT;
    ret->auth.bearer = model_env_secret(env, "HF_TOKEN");
    if (!ret->auth.bearer)
        ret->auth.bearer = model_env_secret(env, "HUGGING_FACE_HUB_TOKEN");
    AUTO_FREE char *base = mem_strdup(endpoint ? endpoint : ENDPOINT);
    while (*base && base[strlen(base) - 1] == '/')
        base[strlen(base) - 1] = '\0';
    AUTO_FREE char *url =
        mem_printf("%s/api/models/%s/revision/%s?blobs=true", base, ref->place, ref->revision);
    const struct model_document d = {
        .url = url, .auth = &ret->auth, .bytes_max = MODEL_LISTING_BYTES_MAX};
    if (model_http_get(h, &d, &text, NULL, err))
        return explain(ref, ret->auth.bearer != NULL, err);
    json_t *answer = json_loadb(text.data ? text.data : "", text.len, 0, NULL);
    enum errc rc = choose(ref, base, answer, ret, err);
    json_decref(answer);
    return rc;
}
