/* Registries of the OCI distribution API, version 2.
 *
 *     GET /v2/REPO/manifests/TAG ──401──▶ WWW-Authenticate: Bearer realm, service, scope
 *          ▲                                      │
 *          └── Authorization: Bearer ◀── token ◀──┘ GET realm?service=...&scope=...
 *
 * A model is an artefact whose layers are files: each layer names its file in an annotation, as
 * ORAS and the CNCF's model format do, and is known by its digest. Layers that are archives of a
 * container image's file system are refused: nothing here unpacks. */
#include <stdio.h>
#include <strings.h>

#include "core/model/model_source.h"

static const char ACCEPT[] = "application/vnd.oci.image.manifest.v1+json, "
                             "application/vnd.docker.distribution.manifest.v2+json, "
                             "application/vnd.oci.image.index.v1+json";

enum { MANIFEST_BYTES_MAX = 4 << 20, TOKEN_BYTES_MAX = 256 << 10 };

static bool is_loopback(const char *host) {
    return !strncmp(host, "127.", 4) || !strncmp(host, "localhost", 9) ||
           !strncmp(host, "[::1]", 5);
}

/* Gives the value of a parameter of a challenge: realm="...". */
static char *parameter(const char *challenge, const char *name) {
    AUTO_FREE char *open = mem_printf("%s=\"", name);
    const char *start = strcasestr(challenge, open);
    if (!start)
        return NULL;
    start += strlen(open);
    return mem_strndup(start, strcspn(start, "\""));
}

/* Asks for a token as the challenge says. Credentials go to whom the registry names, which is how
 * every client of registries does it. */
static enum errc get_token(struct model_http *h, const char *challenge, const char *basic,
                           struct model_auth *auth, struct error *err) {
    AUTO_FREE char *realm = parameter(challenge, "realm");
    AUTO_FREE char *service = parameter(challenge, "service");
    AUTO_FREE char *scope = parameter(challenge, "scope");
    AUTO_BUF url = BUF_INIT, text = BUF_INIT;
    if (!realm)
        return err_set(err, ERR_UNAUTHENTICATED, "the registry's challenge \"%.120s\" has no realm",
                       challenge);
    AUTO_FREE char *e_service = service ? model_http_escape(service, false) : NULL;
    AUTO_FREE char *e_scope = scope ? model_http_escape(scope, false) : NULL;
    buf_printf(&url, "%s%c", realm, strchr(realm, '?') ? '&' : '?');
    if (e_service)
        buf_printf(&url, "service=%s&", e_service);
    if (e_scope)
        buf_printf(&url, "scope=%s&", e_scope);
    url.data[url.len - 1] = '\0';
    struct model_auth login = {.basic = mem_strdup(basic)};
    const struct model_document d = {.url = url.data, .auth = &login, .bytes_max = TOKEN_BYTES_MAX};
    enum errc rc = model_http_get(h, &d, &text, NULL, err);
    model_auth_deinit(&login);
    if (rc)
        return err_wrap(err, "ask for a token");
    json_t *answer = json_loadb(text.data ? text.data : "", text.len, 0, NULL);
    const char *token = json_string_value(json_object_get(answer, "token"));
    if (!token)
        token = json_string_value(json_object_get(answer, "access_token"));
    if (token && !strpbrk(token, "\r\n"))
        auth->bearer = mem_strdup(token);
    else
        rc = err_set(err, ERR_UNAUTHENTICATED, "%s gave no token", realm);
    json_decref(answer);
    return rc;
}

static enum errc get_manifest(struct model_http *h, const char *url, const char *basic,
                              struct model_source *s, struct buf *out, struct error *err) {
    struct model_response r = {0};
    const struct model_document d = {
        .url = url, .auth = &s->auth, .accept = ACCEPT, .bytes_max = MANIFEST_BYTES_MAX};
    enum errc rc = model_http_get(h, &d, out, &r, err);
    bool asked = rc == ERR_UNAUTHENTICATED && r.challenge && !s->auth.bearer && !s->auth.basic;
    if (asked && !strncasecmp(r.challenge, "Bearer ", 7)) {
        rc = get_token(h, r.challenge, basic, &s->auth, err);
        if (!rc)
            rc = model_http_get(h, &d, out, NULL, err);
    } else if (asked && basic && !strncasecmp(r.challenge, "Basic ", 6)) {
        s->auth.basic = mem_strdup(basic);
        rc = model_http_get(h, &d, out, NULL, err);
    }
    model_response_deinit(&r);
    return rc;
}

static bool is_archive(const char *media_type) {
    return strstr(media_type, "tar") || strstr(media_type, "rootfs") ||
           strstr(media_type, "docker.image");
}

/* What the layer is called; NULL: it does not say. */
static const char *layer_name(const json_t *layer) {
    static const char *const names[] = {"org.opencontainers.image.title",
                                        "org.cncf.model.filepath"};
    const json_t *annotations = json_object_get(layer, "annotations");
    const char *name = NULL;
    for (size_t i = 0; i < ARRAY_LEN(names) && !name; i++)
        name = json_string_value(json_object_get(annotations, names[i]));
    return name;
}

static enum errc add_layer(const struct model_ref *ref, const char *base, const json_t *layer,
                           struct model_source *s, struct error *err) {
    const char *type = json_string_value(json_object_get(layer, "mediaType"));
    const char *digest = json_string_value(json_object_get(layer, "digest"));
    const json_t *size = json_object_get(layer, "size");
    const char *name = layer_name(layer);
    struct model_source_file *f = NULL;
    if (!digest || strncmp(digest, "sha256:", 7) != 0 || !digest_is_sha256(digest + 7) ||
        !json_is_integer(size) || json_integer_value(size) < 0)
        return err_set(err, ERR_INVALID, "\"%.200s\": a layer has no SHA-256 digest and size",
                       ref->text);
    if (!type || is_archive(type))
        return err_set(err, ERR_INVALID,
                       "\"%.200s\": layer of type \"%.120s\" is an archive, which is not unpacked; "
                       "expected an artefact whose layers are files, as \"oras push\" makes it",
                       ref->text, type ? type : "");
    if (!name && strstr(type, "ollama.image.model"))
        name = "model.gguf";
    if (!name)
        return strstr(type, "ollama") ? OK /* templates and parameters of that program */
                                      : err_set(err, ERR_INVALID,
                                                "\"%.200s\": a layer of type \"%.120s\" has no "
                                                "annotation org.opencontainers.image.title",
                                                ref->text, type);
    char *url = mem_printf("%s/blobs/%s", base, digest);
    if (model_source_add(s, name, url, (uint64_t)json_integer_value(size), &f, err))
        return err->code;
    memcpy(f->sha256, digest + 7, DIGEST_HEX_BYTES);
    return OK;
}

static enum errc read_manifest(const struct model_ref *ref, const char *base,
                               const struct buf *text, struct model_source *s, struct error *err) {
    char hex[DIGEST_HEX_BYTES];
    AUTO(digest) d = digest_create(DIGEST_SHA256);
    digest_update(d, text->data ? text->data : "", text->len);
    digest_hex(d, hex);
    if (!strncmp(ref->revision, "sha256:", 7) && strcmp(ref->revision + 7, hex) != 0)
        return err_set(err, ERR_INVALID, "\"%.200s\": the manifest that came has the digest %s",
                       ref->text, hex);
    s->revision = mem_printf("sha256:%s", hex);
    json_t *m = json_loadb(text->data ? text->data : "", text->len, 0, NULL), *layer;
    json_t *layers = json_object_get(m, "layers");
    enum errc rc = OK;
    size_t i;
    if (!json_is_array(layers))
        rc = err_set(err, ERR_INVALID, "\"%.200s\": not an image manifest with layers%s", ref->text,
                     json_object_get(m, "manifests") ? ", but an index of several platforms" : "");
    json_array_foreach (layers, i, layer) {
        if (!rc)
            rc = add_layer(ref, base, layer, s, err);
    }
    json_decref(m);
    return rc;
}

enum errc model_registry_find(struct model_http *h, const struct model_ref *ref, const json_t *env,
                              struct model_source *ret, struct error *err) {
    const char *plain = model_env(env, "REGISTRY_PLAIN_HTTP");
    bool http = is_loopback(ref->place) || (plain && !strcmp(plain, "1"));
    /* "someone/model" is at Docker Hub, as for every other program. */
    bool short_name = !http && !strpbrk(ref->place, ".:");
    bool hub = short_name || !strcmp(ref->place, "docker.io");
    AUTO_FREE char *base = mem_printf(
        "%s://%s/v2/%s%s%s", http ? "http" : "https", hub ? "registry-1.docker.io" : ref->place,
        short_name ? ref->place : "", short_name ? "/" : "", ref->path);
    AUTO_FREE char *url = mem_printf("%s/manifests/%s", base, ref->revision);
    AUTO_BUF text = BUF_INIT;
    AUTO_FREE char *basic = model_env_secret(env, "REGISTRY_AUTH");
    if (get_manifest(h, url, basic, ret, &text, err))
        return err_wrap(err, "model \"%.200s\"%s", ref->text,
                        err->code == ERR_UNAUTHENTICATED || err->code == ERR_FORBIDDEN
                            ? ": name a Secret with the registry's login in imagePullSecrets"
                            : "");
    return read_manifest(ref, base, &text, ret, err);
}
