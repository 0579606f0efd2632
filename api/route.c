/* Routing. The table is small (services of one machine), so every rule is a walk over it.
 *
 * The body's `model` is found by a scanner that only keeps track of strings and nesting: a chat
 * with a long history is not parsed twice, and a body nested 20,000 deep costs a counter. */
#include "api/route.h"

#include <ctype.h>
#include <strings.h>

#include <jansson.h>

#include "core/base/buf.h"

enum { KNOWN_NAMES_MAX = 20, SHOWN_BYTES_MAX = 256 };

bool route_is_ready(const struct traffic_service *s) {
    return traffic_num_ready(s) > 0;
}

/* ---- by host ---- */

static bool has_host(const char *const *hosts, const char *host, size_t len) {
    for (; hosts && *hosts; hosts++) {
        if (strlen(*hosts) == len && !strncasecmp(*hosts, host, len))
            return true;
    }
    return false;
}

const struct traffic_service *route_by_host(const struct traffic_table *table, const char *host,
                                            const struct traffic_tag **ret_tag) {
    *ret_tag = NULL;
    if (!host)
        return NULL;
    size_t len = strcspn(host, ":"); /* an IPv6 literal is no service's name anyway */
    if (len && host[len - 1] == '.')
        len--; /* the root's dot */
    for (uint32_t i = 0; i < table->num_services; i++) {
        if (has_host(table->services[i].hosts, host, len))
            return &table->services[i];
    }
    for (uint32_t i = 0; i < table->num_services; i++) {
        const struct traffic_service *s = &table->services[i];
        for (uint32_t t = 0; t < s->num_tags; t++) {
            if (!has_host(s->tags[t].hosts, host, len))
                continue;
            *ret_tag = &s->tags[t];
            return s;
        }
    }
    return NULL;
}

/* ---- by model ---- */

/* Prefers a ready service among those that match. */
static void prefer(const struct traffic_service **best, const struct traffic_service *s) {
    if (!*best || (!route_is_ready(*best) && route_is_ready(s)))
        *best = s;
}

static const struct traffic_service *by_model(const struct traffic_table *table,
                                              const char *model) {
    const struct traffic_service *best = NULL;
    for (uint32_t i = 0; i < table->num_services; i++) {
        const char *const *m = table->services[i].models;
        for (; m && *m; m++)
            if (!strcmp(*m, model))
                prefer(&best, &table->services[i]);
    }
    return best;
}

/* Models may hold slashes ("org/name"), so the longest one that the path starts with counts. */
static const struct traffic_service *by_model_in_path(const struct traffic_table *table,
                                                      const char *rest) {
    const struct traffic_service *best = NULL;
    size_t best_len = 0;
    for (uint32_t i = 0; i < table->num_services; i++) {
        const char *const *m = table->services[i].models;
        for (; m && *m; m++) {
            size_t len = strlen(*m);
            if (len < best_len || strncmp(rest, *m, len) != 0 ||
                (rest[len] && !strchr("/:", rest[len])))
                continue;
            if (len > best_len)
                best = NULL;
            best_len = len;
            prefer(&best, &table->services[i]);
        }
    }
    return best;
}

static enum errc unknown_model(const struct traffic_table *table, const char *model, size_t len,
                               struct error *err) {
    AUTO_BUF known = BUF_INIT;
    int num_known = 0;
    for (uint32_t i = 0; i < table->num_services; i++) {
        const char *const *m = table->services[i].models;
        for (; m && *m && num_known < KNOWN_NAMES_MAX; m++)
            buf_printf(&known, "%s`%s`", num_known++ ? ", " : "", *m);
    }
    if (len > SHOWN_BYTES_MAX)
        for (len = SHOWN_BYTES_MAX; len && ((unsigned char)model[len] & 0xc0) == 0x80;)
            len--; /* not in the middle of a character */
    return err_field(err, ERR_NOT_FOUND, "model", "The model `%.*s` does not exist. %s%s", (int)len,
                     model, num_known ? "Known models: " : "",
                     num_known ? known.data : "No models are deployed.");
}

/* ---- the body's model ---- */

struct scanner {
    const char *at, *end;
};

static void skip_space(struct scanner *s) {
    while (s->at < s->end && strchr(" \t\r\n", *s->at) && *s->at)
        s->at++;
}

/* Moves behind a string that starts at s->at. False: it does not end. */
static bool skip_string(struct scanner *s) {
    for (s->at++; s->at < s->end; s->at++) {
        if (*s->at == '"') {
            s->at++;
            return true;
        }
        if (*s->at == '\\')
            s->at++;
    }
    return false;
}

/* Moves behind a value of any kind. False: it does not end. */
static bool skip_value(struct scanner *s) {
    size_t depth = 0;
    const char *start = s->at;
    while (s->at < s->end) {
        char c = *s->at;
        if (c == '"') {
            if (!skip_string(s))
                return false;
        } else if (c == '{' || c == '[') {
            depth++;
            s->at++;
        } else if (c == '}' || c == ']') {
            if (!depth)
                return s->at > start; /* the end of what holds this value */
            depth--;
            s->at++;
        } else if (c == ',' && !depth) {
            return s->at > start;
        } else {
            s->at++;
            continue; /* part of a number or a word, or space */
        }
        if (!depth)
            return true;
    }
    return false;
}

/* Gives (arena) the text of the JSON string between start and end; NULL: it is not one. */
static const char *decode_string(const char *start, const char *end, struct arena *arena) {
    json_t *value = json_loadb(start, (size_t)(end - start), JSON_DECODE_ANY, NULL);
    const char *text = json_is_string(value) ? arena_strdup(arena, json_string_value(value)) : NULL;
    json_decref(value);
    return text;
}

enum errc route_body_model(const char *body, size_t len, struct arena *arena,
                           const char **ret_model, struct error *err) {
    struct scanner s = {.at = body, .end = body + len};
    const char *model = NULL;
    bool seen = false;
    skip_space(&s);
    if (s.at == s.end || *s.at != '{')
        return err_set(err, ERR_MALFORMED, "request body is not a JSON object");
    s.at++;
    for (;;) {
        skip_space(&s);
        if (s.at < s.end && *s.at == '}')
            break;
        const char *key = s.at;
        if (s.at == s.end || *key != '"' || !skip_string(&s))
            return err_set(err, ERR_MALFORMED, "request body is not valid JSON (byte %zu)",
                           (size_t)(s.at - body));
        const char *key_end = s.at;
        skip_space(&s);
        if (s.at == s.end || *s.at++ != ':')
            return err_set(err, ERR_MALFORMED, "request body is not valid JSON (byte %zu)",
                           (size_t)(s.at - body));
        skip_space(&s);
        const char *value = s.at;
        if (!skip_value(&s))
            return err_set(err, ERR_MALFORMED, "request body is not valid JSON (byte %zu)",
                           (size_t)(s.at - body));
        bool is_model = (size_t)(key_end - key) == strlen("\"model\"") &&
                        !memcmp(key, "\"model\"", strlen("\"model\""));
        if (is_model) {
            seen = true;
            model = decode_string(value, s.at, arena);
        }
        skip_space(&s);
        if (s.at < s.end && *s.at == ',')
            s.at++;
    }
    if (!model)
        return err_field(err, ERR_INVALID, "model",
                         seen ? "`model` must be a string"
                              : "you must provide a `model` parameter");
    *ret_model = model;
    return OK;
}

/* ---- the decision ---- */

static const char *with_query(const struct route_request *rq, const char *path,
                              struct arena *arena) {
    const char *slash = *path == '/' ? "" : "/";
    if (!*rq->raw_query)
        return arena_printf(arena, "%s%s", slash, path);
    return arena_printf(arena, "%s%s?%s", slash, path, rq->raw_query);
}

static const char *after(const char *text, const char *prefix) {
    size_t len = strlen(prefix);
    return strncmp(text, prefix, len) ? NULL : text + len;
}

/* "latest-demo": the service demo, which has a tag latest. */
static const struct traffic_service *find_tagged(const struct traffic_table *table, const char *ns,
                                                 const char *name,
                                                 const struct traffic_tag **ret_tag) {
    for (const char *dash = strchr(name, '-'); dash; dash = strchr(dash + 1, '-')) {
        const struct traffic_service *s = traffic_find(table, ns, dash + 1);
        for (uint32_t t = 0; s && t < s->num_tags; t++) {
            const char *tag = s->tags[t].name;
            if (strlen(tag) != (size_t)(dash - name) || strncmp(tag, name, strlen(tag)) != 0)
                continue;
            *ret_tag = &s->tags[t];
            return s;
        }
    }
    return NULL;
}

/* rest: "NAMESPACE/NAME" or "NAMESPACE/NAME/...". */
static enum errc find_by_path(const struct traffic_table *table, const struct route_request *rq,
                              const char *rest, struct arena *arena, struct route *ret_route,
                              struct error *err) {
    size_t ns_len = strcspn(rest, "/");
    const char *name_at = rest + ns_len + (rest[ns_len] == '/');
    size_t name_len = strcspn(name_at, "/");
    const char *ns = arena_strndup(arena, rest, ns_len);
    const char *name = arena_strndup(arena, name_at, name_len);
    ret_route->service = traffic_find(table, ns, name);
    if (!ret_route->service)
        ret_route->service = find_tagged(table, ns, name, &ret_route->tag);
    if (!ret_route->service)
        return err_set(err, ERR_NOT_FOUND, "there is no InferenceService %s in namespace %s",
                       *name ? name : "\"\"", *ns ? ns : "\"\"");
    ret_route->target = with_query(rq, name_at + name_len, arena);
    return OK;
}

enum errc route_find(const struct traffic_table *table, const struct route_request *rq,
                     struct arena *arena, struct route *ret_route, struct error *err) {
    struct route route = {.target = with_query(rq, rq->raw_path, arena)};
    route.service = route_by_host(table, rq->host, &route.tag);
    const char *rest = after(rq->raw_path, "/serving/");
    if (!route.service && rest) {
        enum errc rc = find_by_path(table, rq, rest, arena, &route, err);
        if (rc)
            return rc;
    }
    if (!route.service) {
        const char *in_path = after(rq->path, "/v1/models/");
        in_path = in_path ? in_path : after(rq->path, "/openai/v1/models/");
        in_path = in_path ? in_path : after(rq->path, "/v2/models/");
        if (in_path) {
            route.service = by_model_in_path(table, in_path);
            if (!route.service)
                return unknown_model(table, in_path, strcspn(in_path, "/:"), err);
        } else if (after(rq->path, "/v1/") || after(rq->path, "/openai/v1/")) {
            const char *model = "";
            enum errc rc = route_body_model(rq->body, rq->body_len, arena, &model, err);
            if (rc)
                return rc;
            route.service = by_model(table, model);
            if (!route.service)
                return unknown_model(table, model, strlen(model), err);
        }
    }
    if (!route.service)
        return err_set(err, ERR_NOT_FOUND, "nothing is served at %s", rq->path);
    *ret_route = route;
    return OK;
}
