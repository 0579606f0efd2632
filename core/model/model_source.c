/* Sources of models: what they have in common, and the simplest one, a file at an address. */
#include "core/model/model_source.h"

#include "core/model/model_store.h"

const char *model_env(const json_t *env, const char *name) {
    const char *value = json_string_value(json_object_get(env, name));
    return value && *value ? value : NULL;
}

char *model_env_secret(const json_t *env, const char *name) {
    const char *value = model_env(env, name);
    size_t len = value ? strcspn(value, "\r\n") : 0;
    return len ? mem_strndup(value, len) : NULL;
}

enum errc model_source_add(struct model_source *s, const char *path, char *url, uint64_t bytes,
                           struct model_source_file **ret_file, struct error *err) {
    bool full = s->num_files == MODEL_FILES_MAX;
    if (full || !model_ref_path_ok(path)) {
        free(url);
        return full
                   ? err_set(err, ERR_INVALID, "the model has more than %d files", MODEL_FILES_MAX)
                   : err_set(err, ERR_INVALID,
                             "the source lists a file \"%.256s\": not a name within a model", path);
    }
    if (!(s->num_files & (s->num_files - 1))) /* 0 and powers of two: the list is full */
        s->files =
            mem_realloc(s->files, (s->num_files ? s->num_files * 2 : 1) * sizeof(s->files[0]));
    struct model_source_file *f = &s->files[s->num_files++];
    *f = (struct model_source_file){.path = mem_strdup(path), .url = url, .bytes = bytes};
    *ret_file = f;
    return OK;
}

void model_source_deinit(struct model_source *s) {
    for (size_t i = 0; i < s->num_files; i++) {
        free(s->files[i].path);
        free(s->files[i].url);
        free(s->files[i].etag);
    }
    free(s->files);
    free(s->revision);
    model_auth_deinit(&s->auth);
    *s = (struct model_source){0};
}

static bool is_archive(const char *name) {
    static const char *const endings[] = {".tar", ".tgz", ".tar.gz", ".zip"};
    size_t len = strlen(name);
    for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
        size_t n = strlen(endings[i]);
        if (len > n && !strcmp(name + len - n, endings[i]))
            return true;
    }
    return false;
}

/* The last part of the address is the file's name. */
static enum errc address_find(const struct model_ref *ref, const json_t *env,
                              struct model_source *ret, struct error *err) {
    struct model_source_file *f = NULL;
    size_t len = strcspn(ref->url, "?");
    AUTO_FREE char *path = mem_strndup(ref->url, len);
    AUTO_FREE char *name = model_http_unescape(strrchr(path, '/') + 1);
    if (strchr(name, '/') || !model_ref_path_ok(name))
        return err_set(err, ERR_INVALID,
                       "model reference \"%.256s\": expected the name of a file at the end of the "
                       "path",
                       ref->text);
    if (is_archive(name))
        return err_set(err, ERR_INVALID,
                       "model reference \"%.256s\": archives are not unpacked; expected a model "
                       "file such as a .gguf, or a folder by hf://, s3://, gs:// or oci://",
                       ref->text);
    ret->auth.bearer = model_env_secret(env, "HTTP_BEARER_TOKEN");
    enum errc rc = model_source_add(ret, name, mem_strdup(ref->url), MODEL_BYTES_UNKNOWN, &f, err);
    if (f && ref->sha256)
        memcpy(f->sha256, ref->sha256, DIGEST_HEX_BYTES);
    return rc;
}

enum errc model_source_find(struct model_http *h, const struct model_ref *ref, const json_t *env,
                            struct model_source *ret, struct error *err) {
    struct model_source s = {0};
    enum errc rc = OK;
    switch (ref->scheme) {
    case MODEL_HUB:
        rc = model_hub_find(h, ref, env, &s, err);
        break;
    case MODEL_S3:
    case MODEL_GS:
    case MODEL_AZURE:
        rc = model_bucket_find(h, ref, env, &s, err);
        break;
    case MODEL_OCI:
        rc = model_registry_find(h, ref, env, &s, err);
        break;
    case MODEL_HTTP:
        rc = address_find(ref, env, &s, err);
        break;
    default:
        rc = err_set(err, ERR_INVALID, "model reference \"%.256s\" is not downloaded", ref->text);
    }
    if (!rc && !s.num_files)
        rc = err_set(err, ERR_NOT_FOUND, "\"%.256s\" has no files", ref->text);
    if (rc)
        model_source_deinit(&s);
    else
        *ret = s;
    return rc;
}
