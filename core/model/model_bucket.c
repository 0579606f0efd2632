/* Objects below a prefix: S3 (and what speaks like it, MinIO among them), Google Cloud Storage,
 * Azure Blob Storage. Each lists in pages; the name of a file is what is behind the prefix.
 *
 * S3 and Azure answer in XML of a fixed, flat form, of which texts between tags are read and
 * nothing else. Path style (HOST/BUCKET/KEY) everywhere: it is what MinIO wants, and AWS takes it.
 */
#include <stdio.h>

#include "core/model/model_source.h"

enum { PAGES_MAX = 200 };

static bool starts_with(const char *s, const char *start) {
    return !strncmp(s, start, strlen(start));
}

/* XML. */

/* Gives the text of the next <tag> behind *at, which moves behind it; NULL: there is none before
 * end. */
static char *next_text(const char **at, const char *end, const char *tag) {
    AUTO_FREE char *open = mem_printf("<%s>", tag);
    AUTO_FREE char *shut = mem_printf("</%s>", tag);
    const char *start = strstr(*at, open);
    if (!start || start >= end)
        return NULL;
    start += strlen(open);
    const char *stop = strstr(start, shut);
    if (!stop || stop > end)
        return NULL;
    *at = stop + strlen(shut);
    return mem_strndup(start, (size_t)(stop - start));
}

/* The five entities, in place. */
static void decode_entities(char *text) {
    static const struct {
        const char *name;
        char c;
    } entities[] = {
        {"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}};
    char *out = text;
    for (const char *p = text; *p;) {
        size_t len = 1;
        char c = *p;
        for (size_t i = 0; i < ARRAY_LEN(entities); i++) {
            if (starts_with(p, entities[i].name)) {
                len = strlen(entities[i].name);
                c = entities[i].c;
            }
        }
        *out++ = c;
        p += len;
    }
    *out = '\0';
}

/* One kind of storage: how a page is asked for and read. */
struct bucket {
    const struct model_ref *ref;
    char *base;  /* "http://host:9000/bucket" */
    char *query; /* a SAS token of Azure, behind every address; "": none */
    struct model_source *s;
    char *next; /* the token of the next page; NULL: the last one */
};

/* Adds the object; path "": the prefix names this one object. */
static enum errc add_object(struct bucket *b, const char *key, const char *etag, uint64_t bytes,
                            struct error *err) {
    const char *prefix = b->ref->path;
    size_t len = strlen(prefix);
    struct model_source_file *f = NULL;
    const char *path = NULL;
    if (!starts_with(key, prefix) || (len && key[len] && key[len] != '/'))
        return OK; /* "model-2" is not below "model" */
    if (!len)
        path = key;
    else if (key[len] == '/')
        path = key + len + 1;
    else
        path = strrchr(key, '/') ? strrchr(key, '/') + 1 : key;
    if (!*path || path[strlen(path) - 1] == '/')
        return OK; /* a folder's own entry */
    AUTO_FREE char *escaped = model_http_escape(key, true);
    char *url = mem_printf("%s/%s%s%s", b->base, escaped, *b->query ? "?" : "", b->query);
    if (model_source_add(b->s, path, url, bytes, &f, err))
        return err->code;
    f->etag = mem_strdup(etag);
    return OK;
}

/* <tag> with a name, a size and an etag in it, as often as it comes. */
static enum errc read_xml(struct bucket *b, const char *text, const char *tag, const char *name_tag,
                          const char *size_tag, const char *next_tag, struct error *err) {
    const char *at = text, *end = text + strlen(text);
    AUTO_FREE char *open = mem_printf("<%s>", tag);
    while ((at = strstr(at, open))) {
        const char *next = strstr(at + 1, open), *in = at;
        const char *stop = next ? next : end;
        AUTO_FREE char *key = next_text(&in, stop, name_tag);
        AUTO_FREE char *size = (in = at, next_text(&in, stop, size_tag));
        AUTO_FREE char *etag = (in = at, next_text(&in, stop, "ETag"));
        char *rest = NULL;
        if (!etag)
            etag = (in = at, next_text(&in, stop, "Etag"));
        unsigned long long bytes = size ? strtoull(size, &rest, 10) : 0;
        if (!key || !size || *rest)
            return err_set(err, ERR_INVALID, "\"%.200s\": the list of objects cannot be read",
                           b->ref->text);
        decode_entities(key);
        if (etag)
            decode_entities(etag);
        if (add_object(b, key, etag, bytes, err))
            return err->code;
        at = stop;
    }
    at = text;
    b->next = next_text(&at, end, next_tag);
    if (b->next)
        decode_entities(b->next);
    if (b->next && !*b->next)
        free(steal(b->next));
    return OK;
}

static enum errc read_gs(struct bucket *b, const char *text, struct error *err) {
    json_t *answer = json_loads(text, 0, NULL), *item;
    enum errc rc = OK;
    size_t i;
    if (!json_is_object(answer))
        rc = err_set(err, ERR_INVALID, "\"%.200s\": the list of objects cannot be read",
                     b->ref->text);
    json_array_foreach (json_object_get(answer, "items"), i, item) {
        const char *name = json_string_value(json_object_get(item, "name"));
        const char *size = json_string_value(json_object_get(item, "size"));
        if (!rc && name && size)
            rc = add_object(b, name, NULL, strtoull(size, NULL, 10), err);
    }
    b->next = mem_strdup(json_string_value(json_object_get(answer, "nextPageToken")));
    json_decref(answer);
    return rc;
}

/* Gives the address of a page. Parameters in alphabetical order: a signature wants them so. */
static char *page_url(const struct bucket *b, const char *list_base, const char *token) {
    AUTO_FREE char *prefix = model_http_escape(b->ref->path, false);
    AUTO_FREE char *next = token ? model_http_escape(token, false) : NULL;
    switch (b->ref->scheme) {
    case MODEL_S3:
        return mem_printf("%s/?%s%s%slist-type=2&prefix=%s", list_base,
                          next ? "continuation-token=" : "", next ? next : "", next ? "&" : "",
                          prefix);
    case MODEL_GS:
        return mem_printf("%s?%s%s%sprefix=%s", list_base, next ? "pageToken=" : "",
                          next ? next : "", next ? "&" : "", prefix);
    default:
        return mem_printf("%s?comp=list%s%s&prefix=%s&restype=container%s%s", list_base,
                          next ? "&marker=" : "", next ? next : "", prefix, *b->query ? "&" : "",
                          b->query);
    }
}

static enum errc list(struct model_http *h, struct bucket *b, const char *list_base,
                      struct error *err) {
    AUTO_FREE char *token = NULL;
    for (int page = 0; page < PAGES_MAX; page++) {
        AUTO_BUF text = BUF_INIT;
        AUTO_FREE char *url = page_url(b, list_base, token);
        const struct model_document d = {
            .url = url, .auth = &b->s->auth, .bytes_max = MODEL_LISTING_BYTES_MAX};
        if (model_http_get(h, &d, &text, NULL, err))
            return err_wrap(err, "list \"%.200s\"", b->ref->text);
        const char *body = text.data ? text.data : "";
        enum errc rc =
            b->ref->scheme == MODEL_GS ? read_gs(b, body, err)
            : b->ref->scheme == MODEL_S3
                ? read_xml(b, body, "Contents", "Key", "Size", "NextContinuationToken", err)
                : read_xml(b, body, "Blob", "Name", "Content-Length", "NextMarker", err);
        free(steal(token));
        token = steal(b->next);
        if (rc || !token)
            return rc;
    }
    return err_set(err, ERR_INVALID, "list \"%.200s\": more than %d pages", b->ref->text,
                   PAGES_MAX);
}

static char *without_slashes(const char *text) {
    size_t len = strlen(text);
    while (len && text[len - 1] == '/')
        len--;
    return mem_strndup(text, len);
}

static void set_s3(struct bucket *b, const json_t *env) {
    struct model_auth *auth = &b->s->auth;
    const char *endpoint = model_env(env, "AWS_ENDPOINT_URL_S3");
    const char *region = model_env(env, "AWS_REGION");
    if (!endpoint)
        endpoint = model_env(env, "AWS_ENDPOINT_URL");
    if (!region)
        region = model_env(env, "AWS_DEFAULT_REGION");
    if (!region)
        region = "us-east-1";
    AUTO_FREE char *host =
        endpoint ? without_slashes(endpoint) : mem_printf("https://s3.%s.amazonaws.com", region);
    b->base = mem_printf("%s/%s", host, b->ref->place);
    if (!model_env(env, "AWS_ACCESS_KEY_ID") || !model_env(env, "AWS_SECRET_ACCESS_KEY"))
        return; /* a bucket that anybody may read */
    auth->aws_region = mem_strdup(region);
    auth->aws_key_id = model_env_secret(env, "AWS_ACCESS_KEY_ID");
    auth->aws_secret = model_env_secret(env, "AWS_SECRET_ACCESS_KEY");
    auth->aws_token = model_env_secret(env, "AWS_SESSION_TOKEN");
}

static char *set_gs(struct bucket *b, const json_t *env) {
    const char *emulator = model_env(env, "STORAGE_EMULATOR_HOST");
    AUTO_FREE char *host = !emulator                 ? mem_strdup("https://storage.googleapis.com")
                           : strstr(emulator, "://") ? without_slashes(emulator)
                                                     : mem_printf("http://%s", emulator);
    b->base = mem_printf("%s/%s", host, b->ref->place);
    b->s->auth.bearer = model_env_secret(env, "CLOUDSDK_AUTH_ACCESS_TOKEN");
    return mem_printf("%s/storage/v1/b/%s/o", host, b->ref->place);
}

/* https://ACCOUNT.blob.core.windows.net/CONTAINER/PREFIX[?SAS] */
static void set_azure(struct bucket *b) {
    const char *url = b->ref->url, *host = strstr(url, "://") + 3;
    const char *query = strchr(url, '?');
    size_t len = (size_t)(host - url) + strcspn(host, "/");
    b->base = mem_printf("%.*s/%s", (int)len, url, b->ref->place);
    free(b->query);
    b->query = mem_strdup(query ? query + 1 : "");
}

enum errc model_bucket_find(struct model_http *h, const struct model_ref *ref, const json_t *env,
                            struct model_source *ret, struct error *err) {
    struct bucket b = {.ref = ref, .s = ret, .query = mem_strdup("")};
    char *list_base = NULL;
    if (ref->scheme == MODEL_S3)
        set_s3(&b, env);
    else if (ref->scheme == MODEL_GS)
        list_base = set_gs(&b, env);
    else
        set_azure(&b);
    enum errc rc = list(h, &b, list_base ? list_base : b.base, err);
    if (!rc && !ret->num_files)
        rc = err_set(err, ERR_NOT_FOUND, "\"%.200s\": nothing is there", ref->text);
    free(list_base);
    free(b.base);
    free(b.query);
    free(b.next);
    return rc;
}
