/* Model references. Each scheme has its own grammar; what all share is that nothing of a reference
 * ever becomes a path of this machine without passing model_ref_path_ok(). */
#include "core/model/model_ref.h"

#include "core/base/buf.h"
#include "core/model/digest.h"

#define HUB_FORM "hf://ORG/NAME, hf://ORG/NAME:REVISION or hf://ORG/NAME/FILE"
#define OCI_FORM "oci://REGISTRY/REPOSITORY:TAG or oci://REGISTRY/REPOSITORY@sha256:HEX"

static const char AZURE_HOST[] = ".blob.core.windows.net";
static const char SHA256_PARAMETER[] = "sha256=";

static const struct {
    const char *prefix;
    enum model_scheme scheme;
} schemes[] = {{"hf://", MODEL_HUB}, {"https://", MODEL_HTTP}, {"http://", MODEL_HTTP},
               {"s3://", MODEL_S3},  {"gs://", MODEL_GS},      {"oci://", MODEL_OCI}};

bool model_ref_is_remote(const char *text) {
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
        if (!strncmp(text, schemes[i].prefix, strlen(schemes[i].prefix)))
            return true;
    }
    return false;
}

bool model_ref_path_ok(const char *path) {
    size_t parts = 0;
    if (!*path || strlen(path) > MODEL_FILE_PATH_BYTES_MAX)
        return false;
    for (const char *p = path; *p; p++) {
        if ((unsigned char)*p < ' ' || *p == 127 || *p == '\\')
            return false;
    }
    for (const char *part = path;; part++) {
        size_t len = strcspn(part, "/");
        if (!len || len > 255 || (len == 1 && part[0] == '.') ||
            (len == 2 && part[0] == '.' && part[1] == '.') || ++parts > MODEL_FILE_PATH_PARTS_MAX)
            return false;
        part += len;
        if (!*part)
            return true;
    }
}

static enum errc invalid(const char *text, const char *expected, struct error *err) {
    return err_set(err, ERR_INVALID, "model reference \"%.256s\": expected %s", text, expected);
}

/* Letters, digits and . _ - : what names of repositories, revisions and tags are made of. */
static bool is_name(const char *s, size_t len) {
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    if (!len || s[0] == '.' || s[0] == '-')
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!strchr(allowed, s[i]))
            return false;
    }
    return true;
}

/* Takes "sha256=HEX" out of a query or fragment that starts at `from`. */
static enum errc take_sha256(struct model_ref *r, struct error *err) {
    char *at = strpbrk(r->url, "?#");
    while (at && strncmp(at + 1, SHA256_PARAMETER, sizeof(SHA256_PARAMETER) - 1) != 0)
        at = strpbrk(at + 1, "&#");
    if (at) {
        char *value = at + sizeof(SHA256_PARAMETER), *end = value + strcspn(value, "&#");
        r->sha256 = mem_strndup(value, (size_t)(end - value));
        for (char *p = r->sha256; *p; p++)
            *p = *p >= 'A' && *p <= 'F' ? (char)(*p + 32) : *p;
        if (!digest_is_sha256(r->sha256))
            return invalid(r->text, "64 hexadecimal digits behind sha256=", err);
        if (*end == '&') /* what follows moves up to the separator that stays */
            memmove(at + 1, end + 1, strlen(end));
        else
            memmove(at, end, strlen(end) + 1);
    }
    r->url[strcspn(r->url, "#")] = '\0'; /* a fragment is not sent */
    return OK;
}

static enum errc parse_http(struct model_ref *r, struct error *err) {
    const char *host = strstr(r->text, "://") + 3;
    size_t host_len = strcspn(host, "/?#");
    r->url = mem_strdup(r->text);
    if (!host_len || memchr(host, '@', host_len))
        return invalid(r->text, "https://HOST/PATH (credentials come from a Secret)", err);
    if (take_sha256(r, err))
        return err->code;
    const char *path = strstr(r->url, "://") + 3 + host_len;
    size_t len = strcspn(path, "?");
    if (len < 2)
        return invalid(r->text, "a path behind the host", err);
    if (host_len <= sizeof(AZURE_HOST) || strncmp(host + host_len - (sizeof(AZURE_HOST) - 1),
                                                  AZURE_HOST, sizeof(AZURE_HOST) - 1) != 0)
        return OK;
    r->scheme = MODEL_AZURE;
    size_t container = strcspn(path + 1, "/?");
    if (container + 1 >= len)
        return invalid(r->text, "https://ACCOUNT.blob.core.windows.net/CONTAINER/PREFIX", err);
    r->place = mem_strndup(path + 1, container);
    r->path = mem_strndup(path + container + 2, len - container - 2);
    return OK;
}

static enum errc parse_hub(struct model_ref *r, const char *rest, struct error *err) {
    size_t org = strcspn(rest, "/");
    if (!is_name(rest, org) || rest[org] != '/')
        return invalid(r->text, HUB_FORM, err);
    size_t name = strcspn(rest + org + 1, "/:");
    const char *p = rest + org + 1 + name;
    if (!is_name(rest + org + 1, name))
        return invalid(r->text, HUB_FORM, err);
    r->place = mem_strndup(rest, org + 1 + name);
    if (*p == ':') {
        size_t len = strcspn(++p, "/");
        if (!is_name(p, len))
            return invalid(r->text, HUB_FORM, err);
        r->revision = mem_strndup(p, len);
        p += len;
    }
    if (!r->revision)
        r->revision = mem_strdup("main");
    if (*p == '/' && p[1])
        r->path = mem_strdup(p + 1);
    if (r->path && !model_ref_path_ok(r->path))
        return invalid(r->text, "a file within the repository behind its name", err);
    return OK;
}

static enum errc parse_bucket(struct model_ref *r, const char *rest, struct error *err) {
    size_t bucket = strcspn(rest, "/");
    const char *path = rest[bucket] ? rest + bucket + 1 : "";
    size_t len = strlen(path);
    while (len && path[len - 1] == '/')
        len--;
    r->place = mem_strndup(rest, bucket);
    r->path = mem_strndup(path, len);
    if (!is_name(rest, bucket) || (len && !model_ref_path_ok(r->path)))
        return invalid(
            r->text, r->scheme == MODEL_S3 ? "s3://BUCKET[/PREFIX]" : "gs://BUCKET[/PREFIX]", err);
    return OK;
}

static enum errc parse_oci(struct model_ref *r, const char *rest, struct error *err) {
    size_t host = strcspn(rest, "/");
    const char *repository = rest[host] ? rest + host + 1 : "";
    size_t len = strcspn(repository, ":@");
    const char *tag = repository + len;
    r->place = mem_strndup(rest, host);
    r->path = mem_strndup(repository, len);
    if (!host ||
        strspn(r->place, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                         "0123456789.-:[]") != host ||
        !model_ref_path_ok(r->path))
        return invalid(r->text, OCI_FORM, err);
    for (const char *p = r->path; *p; p += *p == '/') {
        size_t part = strcspn(p, "/");
        if (!is_name(p, part))
            return invalid(r->text, OCI_FORM, err);
        p += part;
    }
    if (*tag == '@' && (strncmp(tag, "@sha256:", 8) != 0 || !digest_is_sha256(tag + 8)))
        return invalid(r->text, OCI_FORM, err);
    if (*tag == ':' && !is_name(tag + 1, strlen(tag + 1)))
        return invalid(r->text, OCI_FORM, err);
    r->revision = mem_strdup(*tag ? tag + 1 : "latest");
    return OK;
}

static enum errc parse_file(struct model_ref *r, const char *path, struct error *err) {
    if (*path != '/')
        return invalid(r->text, "file:///PATH", err);
    r->path = mem_strdup(path);
    return OK;
}

static enum errc parse(struct model_ref *r, struct error *err) {
    const char *rest = NULL;
    r->scheme = MODEL_FILE;
    if (!strncmp(r->text, "file://", 7))
        return parse_file(r, r->text + 7, err);
    for (size_t i = 0; i < ARRAY_LEN(schemes) && !rest; i++) {
        size_t len = strlen(schemes[i].prefix);
        if (!strncmp(r->text, schemes[i].prefix, len)) {
            rest = r->text + len;
            r->scheme = schemes[i].scheme;
        }
    }
    if (!rest)
        return err_set(err, ERR_NOT_FOUND,
                       "model reference \"%.256s\": expected one of hf://, https://, s3://, gs://, "
                       "oci://, file://",
                       r->text);
    switch (r->scheme) {
    case MODEL_HUB:
        return parse_hub(r, rest, err);
    case MODEL_S3:
    case MODEL_GS:
        return parse_bucket(r, rest, err);
    case MODEL_OCI:
        return parse_oci(r, rest, err);
    default:
        return parse_http(r, err);
    }
}

enum errc model_ref_parse(const char *text, struct model_ref *ret_ref, struct error *err) {
    if (!*text || strlen(text) > MODEL_REF_BYTES_MAX)
        return err_set(err, ERR_INVALID,
                       "model reference \"%.64s...\": expected 1 to %d bytes, it has %zu", text,
                       MODEL_REF_BYTES_MAX, strlen(text));
    for (const char *p = text; *p; p++) {
        if ((unsigned char)*p <= ' ' || *p == 127)
            return invalid(text, "no spaces and control characters", err);
    }
    struct model_ref r = {.text = mem_strdup(text)};
    enum errc rc = parse(&r, err);
    if (rc)
        model_ref_deinit(&r);
    else
        *ret_ref = r;
    return rc;
}

void model_ref_deinit(struct model_ref *r) {
    free(r->text);
    free(r->url);
    free(r->sha256);
    free(r->place);
    free(r->path);
    free(r->revision);
    *r = (struct model_ref){0};
}
