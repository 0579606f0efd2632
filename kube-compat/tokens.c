/* TokenRequest makes a token for a ServiceAccount (kubectl create token), good for a time and an
 * audience and, when it is bound to an object, no longer than that. TokenReview tells whose a token
 * is, to programs that are shown one. Other programs check tokens by themselves, with the public
 * keys that the two OpenID documents name. What is in a token, and when it is accepted, is
 * core/auth_token.c's. */
#include "kube-compat/tokens.h"

#include <inttypes.h>

#include "core/auth_token.h"
#include "core/base/clock.h"
#include "core/object.h"
#include "kube-compat/body.h"
#include "kube-compat/rest.h"
#include "kube-compat/status.h"

static const char TOKEN_GROUP[] = "authentication.k8s.io";

/* ---- TokenRequest ---- */

/* What was asked for; borrows from the body and from the objects that it holds. */
struct order {
    struct auth_token_order token;
    struct store_object *account, *bound, *node;
};

static void order_deinit(struct order *o) {
    store_object_unref(o->account);
    store_object_unref(o->bound);
    store_object_unref(o->node);
}

static enum errc check_seconds(struct request *rq, const json_t *spec, int64_t *ret_seconds,
                               struct error *err) {
    static const char FIELD[] = "spec.expirationSeconds";
    const json_t *value = json_object_get(spec, "expirationSeconds");
    int64_t seconds = value && !json_is_null(value) ? (int64_t)json_integer_value(value)
                                                    : AUTH_TOKEN_SECONDS_DEFAULT;
    if (value && !json_is_null(value) && !json_is_integer(value))
        return err_set(err, ERR_MALFORMED, "%s: not a whole number", FIELD);
    if (seconds < AUTH_TOKEN_SECONDS_MIN)
        cause_add(rq->causes, CAUSE_INVALID, FIELD,
                  "Invalid value: %" PRId64 ": may not specify a duration less than 10 minutes",
                  seconds);
    else if (seconds > AUTH_TOKEN_SECONDS_MAX)
        cause_add(rq->causes, CAUSE_INVALID, FIELD,
                  "Invalid value: %" PRId64 ": may not specify a duration larger than 2^32 seconds",
                  seconds);
    else
        *ret_seconds = seconds;
    return json_array_size(rq->causes) ? err_set(err, ERR_INVALID, "%s is invalid", FIELD) : OK;
}

static enum errc check_audiences(struct request *rq, const json_t *spec, struct order *o,
                                 struct error *err) {
    const json_t *list = json_object_get(spec, "audiences");
    size_t i, num = json_array_size(list);
    const json_t *audience;
    if (num > AUTH_TOKEN_AUDIENCES_MAX) {
        cause_add(rq->causes, "FieldValueTooMany", "spec.audiences",
                  "Too many: %zu: must have at most %d items", num, AUTH_TOKEN_AUDIENCES_MAX);
        return err_set(err, ERR_INVALID, "spec.audiences is invalid");
    }
    json_array_foreach (list, i, audience) {
        if (!json_is_string(audience))
            return err_set(err, ERR_MALFORMED, "spec.audiences[%zu]: not a string", i);
    }
    o->token.audiences = list;
    return OK;
}

static enum errc find(const struct request *rq, const char *resource, const char *ns,
                      const char *name, struct store_object **ret_o, struct error *err) {
    struct object_key key;
    struct error ignored = ERROR_INIT;
    if (store_get(rq->kube->opt.store, object_key(&key, "", resource, ns, name), ret_o, &ignored))
        return err_set(err, ERR_NOT_FOUND, "%s \"%.253s\" not found", resource, name);
    return OK;
}

/* The Pod runs as this account; its token also tells the node. */
static enum errc bind_pod(const struct request *rq, struct order *o, struct error *err) {
    const json_t *pod = o->bound->json;
    const char *account = object_str(pod, "spec.serviceAccountName");
    const char *node = object_str(pod, "spec.nodeName");
    struct error ignored = ERROR_INIT;
    if (strcmp(account && *account ? account : "default", rq->name) != 0)
        return err_set(err, ERR_MALFORMED,
                       "cannot bind token for serviceaccount \"%s\" to pod running with different "
                       "serviceaccount name.",
                       rq->name);
    o->token.pod = (struct auth_token_bond){object_name(pod), object_uid(pod)};
    if (node && *node && !find(rq, "nodes", NULL, node, &o->node, &ignored))
        o->token.node = (struct auth_token_bond){node, object_uid(o->node->json)};
    return OK;
}

static enum errc bind(const struct request *rq, const json_t *ref, struct order *o,
                      struct error *err) {
    const char *kind = object_str(ref, "kind"), *version = object_str(ref, "apiVersion");
    const char *name = object_str(ref, "name"), *uid = object_str(ref, "uid");
    bool core = version && !strcmp(version, "v1");
    bool pod = core && kind && !strcmp(kind, "Pod"), node = core && kind && !strcmp(kind, "Node");
    bool secret = core && kind && !strcmp(kind, "Secret");
    if (!pod && !secret && !node)
        return err_set(err, ERR_MALFORMED, "cannot bind token to object of type %.64s, Kind=%.64s",
                       version ? version : "", kind ? kind : "");
    const char *resource = pod ? "pods" : secret ? "secrets" : "nodes";
    if (find(rq, resource, node ? NULL : rq->ns, name ? name : "", &o->bound, err))
        return err->code;
    const char *has = object_uid(o->bound->json);
    if (uid && *uid && (!has || strcmp(uid, has) != 0))
        return err_set(err, ERR_CONFLICT,
                       "Operation cannot be fulfilled on %s \"%s\": the UID in the bound object "
                       "reference (%.64s) does not match the UID in record. The object might have "
                       "been deleted and then recreated",
                       kind, name, uid);
    if (pod)
        return bind_pod(rq, o, err);
    *(secret ? &o->token.secret : &o->token.node) = (struct auth_token_bond){name, has};
    return OK;
}

static enum errc read_order(struct request *rq, const json_t *body, struct order *o,
                            struct error *err) {
    const json_t *spec = json_object_get(body, "spec");
    const json_t *ref = json_object_get(spec, "boundObjectRef");
    const char *kind = object_str(body, "kind"), *name = object_str(body, "metadata.name");
    if (kind && *kind && strcmp(kind, "TokenRequest") != 0)
        return err_set(err, ERR_MALFORMED, "%.64s cannot be handled as a TokenRequest", kind);
    if (name && *name && strcmp(name, rq->name) != 0)
        return err_set(err, ERR_MALFORMED,
                       "the name of the object (%.253s) does not match the name on the URL (%s)",
                       name, rq->name);
    if (rest_read(rq, &o->account, err) || check_seconds(rq, spec, &o->token.seconds, err) ||
        check_audiences(rq, spec, o, err))
        return err->code;
    o->token.ns = rq->ns;
    o->token.account = rq->name;
    o->token.uid = object_uid(o->account->json);
    return ref && !json_is_null(ref) ? bind(rq, ref, o, err) : OK;
}

static void fail(struct request *rq, const struct error *err) {
    if (err->code != ERR_INVALID) {
        request_fail(rq, err);
        return;
    }
    const struct status_subject about = {
        .group = TOKEN_GROUP, .kind = "TokenRequest", .name = rq->name};
    json_t *status = status_failure(err, &about, rq->causes);
    http_reply_json(rq->x, status_code(status), status);
    json_decref(status);
}

static json_t *answer(const struct request *rq, const struct order *o, const json_t *body,
                      const char *token, int64_t now_ms) {
    char created[CLOCK_RFC3339_BYTES], expires[CLOCK_RFC3339_BYTES];
    const char *issuer = auth_token_issuer(auth_service_accounts(rq->kube->opt.auth));
    const json_t *ref = object_at(body, "spec.boundObjectRef");
    json_t *spec =
        json_pack("{s:o, s:I, s:O?}", "audiences",
                  json_array_size(o->token.audiences) ? json_deep_copy(o->token.audiences)
                                                      : json_pack("[s]", issuer),
                  "expirationSeconds", (json_int_t)o->token.seconds, "boundObjectRef",
                  json_is_object(ref) ? ref : NULL);
    return json_pack("{s:s, s:s, s:{s:s, s:s, s:s}, s:o, s:{s:s, s:s}}", "kind", "TokenRequest",
                     "apiVersion", "authentication.k8s.io/v1", "metadata", "name", rq->name,
                     "namespace", rq->ns, "creationTimestamp", clock_rfc3339(now_ms, created),
                     "spec", spec, "status", "expirationTimestamp",
                     clock_rfc3339(now_ms + o->token.seconds * 1000, expires), "token", token);
}

void tokens_request(struct request *rq) {
    struct error err = ERROR_INIT;
    struct order o = {0};
    json_t *body = NULL;
    AUTO_FREE char *token = NULL;
    int64_t now_ms = clock_wall_ms();
    const struct auth *auth = rq->kube->opt.auth;
    const struct schema *schema =
        schema_types_find(kinds_types(rq->kinds), "authentication.v1.TokenRequest");
    enum errc rc = auth ? body_read(rq, schema, NULL, &body, &err)
                        : err_set(&err, ERR_UNAVAILABLE, "this server makes no tokens");
    if (!rc)
        rc = read_order(rq, body, &o, &err);
    if (!rc)
        rc = auth_token_issue(auth_service_accounts(auth), &o.token, now_ms, &token, &err);
    if (rc)
        fail(rq, &err);
    else
        request_reply(rq, 201, answer(rq, &o, body, token, now_ms));
    json_decref(body);
    order_deinit(&o);
}

/* ---- TokenReview ---- */

json_t *tokens_user(const struct auth_identity *who) {
    const char *everybody =
        who && who->anonymous ? "system:unauthenticated" : "system:authenticated";
    json_t *groups = json_array();
    bool said = false;
    for (uint32_t i = 0; who && i < who->num_groups; i++) {
        said = said || !strcmp(who->groups[i], everybody);
        json_array_append_new(groups, json_string(who->groups[i]));
    }
    if (!said)
        json_array_append_new(groups, json_string(everybody));
    json_t *user =
        json_pack("{s:s, s:o}", "username", who ? who->name : "system:admin", "groups", groups);
    if (who && *who->uid)
        json_object_set_new(user, "uid", json_string(who->uid));
    json_t *extra = json_object();
    for (uint32_t i = 0; who && i < who->num_extra; i++) {
        json_t *values = json_object_get(extra, who->extra[i].key);
        if (!values) {
            values = json_array();
            json_object_set_new(extra, who->extra[i].key, values);
        }
        json_array_append_new(values, json_string(who->extra[i].value));
    }
    if (json_object_size(extra))
        json_object_set(user, "extra", extra);
    json_decref(extra);
    return user;
}

enum errc tokens_review(struct request *rq, const json_t *spec, json_t **ret_status,
                        struct error *err) {
    const char *token = object_str(spec, "token");
    const struct auth *auth = rq->kube->opt.auth;
    struct auth_identity *who = arena_alloc(http_arena(rq->x), sizeof(*who));
    struct error why = ERROR_INIT;
    json_t *audiences = NULL;
    if (!token || !*token)
        return err_set(err, ERR_MALFORMED, "token is required for TokenReview in authentication");
    if (!auth)
        return err_set(err, ERR_UNAVAILABLE, "this server knows no tokens");
    if (auth_review(auth, token, json_object_get(spec, "audiences"), who, &audiences, &why)) {
        *ret_status = json_pack("{s:{}, s:o}", "user", "error",
                                json_sprintf("[invalid bearer token, %s]", why.text));
        return OK;
    }
    *ret_status = json_pack("{s:b, s:o, s:o}", "authenticated", true, "user", tokens_user(who),
                            "audiences", audiences);
    return OK;
}

/* ---- OpenID ---- */

static void send_document(struct request *rq, const char *type, json_t *document) {
    AUTO_FREE char *text = json_dumps(document, JSON_COMPACT);
    json_decref(document);
    http_set_header(rq->x, "Cache-Control", "public, max-age=3600");
    http_reply(rq->x, 200, type, text, strlen(text));
}

bool tokens_handle(struct request *rq, const char *path) {
    const struct auth *auth = rq->kube->opt.auth;
    const struct auth_token *t = auth ? auth_service_accounts(auth) : NULL;
    if (t && !strcmp(path, "/openid/v1/jwks")) {
        send_document(rq, "application/jwk-set+json", auth_token_jwks(t));
        return true;
    }
    if (!t || strcmp(path, "/.well-known/openid-configuration") != 0)
        return false;
    const char *host = http_header(rq->x, "Host");
    json_t *uri =
        json_sprintf("https://%s/openid/v1/jwks", host ? host : rq->kube->opt.server_address);
    send_document(rq, "application/json",
                  json_pack("{s:s, s:o, s:[s], s:[s], s:[s]}", "issuer", auth_token_issuer(t),
                            "jwks_uri", uri, "response_types_supported", "id_token",
                            "subject_types_supported", "public",
                            "id_token_signing_alg_values_supported", "ES256"));
    return true;
}
