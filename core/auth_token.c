/* The claims, as Kubernetes writes them:
 *
 *   iss aud exp iat nbf jti sub            sub: system:serviceaccount:NAMESPACE:NAME
 *   kubernetes.io: { namespace, serviceaccount: {name, uid}, pod|secret|node: {name, uid} }
 *
 * and of a token that lives in a Secret (iss "kubernetes/serviceaccount", no time, no audience):
 *
 *   kubernetes.io/serviceaccount/namespace, .../service-account.name, .../service-account.uid,
 *   .../secret.name
 *
 * A signature says that we wrote it; the store says whether it still holds. Each use looks the
 * account up, and what the token is bound to: an object that is gone, being deleted, or there again
 * with another uid ends the token. A Secret's token must also be the one in the Secret.
 *
 * Checking a signature takes half a millisecond, so the claims of the tokens seen lately stay in a
 * small table, each at the place that the token's hash says. What the store says is not kept. */
#include "core/auth_token.h"

#include <mbedtls/md.h>
#include <pthread.h>
#include <stdio.h>

#include "core/auth_jwt.h"
#include "core/base/base64.h"
#include "core/base/clock.h"
#include "core/object.h"

#define LEGACY_ISSUER    "kubernetes/serviceaccount"
#define LEGACY_NAMESPACE LEGACY_ISSUER "/namespace"
#define LEGACY_ACCOUNT   LEGACY_ISSUER "/service-account.name"
#define LEGACY_UID       LEGACY_ISSUER "/service-account.uid"
#define LEGACY_SECRET    LEGACY_ISSUER "/secret.name"
#define EXTRA            "authentication.kubernetes.io/"

enum { HASH_BYTES = 32, DELETED_GRACE_MS = 60000 };

struct verified {
    unsigned char hash[HASH_BYTES];
    json_t *claims; /* NULL: free */
};

struct auth_token {
    struct auth_jwt *jwt;
    struct store *store;
    char *issuer;
    pthread_mutex_t lock; /* over verified */
    struct verified verified[AUTH_TOKEN_VERIFIED_MAX];
};

enum errc auth_token_open(const struct auth_token_options *opt, struct auth_token **ret_t,
                          struct error *err) {
    struct auth_jwt *jwt = NULL;
    if (auth_jwt_open(opt->key_path, opt->existing_only, &jwt, err))
        return err->code;
    struct auth_token *t = mem_alloc(sizeof(*t));
    t->jwt = jwt;
    t->store = opt->store;
    t->issuer = mem_strdup(opt->issuer);
    pthread_mutex_init(&t->lock, NULL);
    *ret_t = t;
    return OK;
}

void auth_token_close(struct auth_token *t) {
    if (!t)
        return;
    for (size_t i = 0; i < AUTH_TOKEN_VERIFIED_MAX; i++)
        json_decref(t->verified[i].claims);
    auth_jwt_close(t->jwt);
    pthread_mutex_destroy(&t->lock);
    free(t->issuer);
    free(t);
}

const char *auth_token_issuer(const struct auth_token *t) {
    return t->issuer;
}

json_t *auth_token_jwks(const struct auth_token *t) {
    return auth_jwt_jwks(t->jwt);
}

/* ---- issuing ---- */

static void set_bond(json_t *about, const char *kind, const struct auth_token_bond *bond) {
    if (bond->name)
        json_object_set_new(about, kind,
                            json_pack("{s:s, s:s}", "name", bond->name, "uid", bond->uid));
}

/* The claims that a bound token has beyond those of every one. */
static void bind_claims(const struct auth_token *t, const struct auth_token_order *o,
                        int64_t now_ms, json_t *claims) {
    char jti[37];
    object_uid_make(jti);
    json_int_t now = now_ms / 1000;
    json_object_set_new(claims, "iss", json_string(t->issuer));
    json_object_set_new(claims, "iat", json_integer(now));
    json_object_set_new(claims, "nbf", json_integer(now));
    json_object_set_new(claims, "exp", json_integer(now + o->seconds));
    json_object_set_new(claims, "jti", json_string(jti));
    json_object_set_new(claims, "aud",
                        json_array_size(o->audiences) ? json_deep_copy(o->audiences)
                                                      : json_pack("[s]", t->issuer));
    json_t *about = json_pack("{s:s, s:{s:s, s:s}}", "namespace", o->ns, "serviceaccount", "name",
                              o->account, "uid", o->uid);
    set_bond(about, "pod", &o->pod);
    set_bond(about, "secret", &o->secret);
    set_bond(about, "node", &o->node);
    json_object_set_new(claims, "kubernetes.io", about);
}

enum errc auth_token_issue(const struct auth_token *t, const struct auth_token_order *o,
                           int64_t now_ms, char **ret_token, struct error *err) {
    AUTO_FREE char *sub = mem_printf("system:serviceaccount:%s:%s", o->ns, o->account);
    if (strlen(sub) >= AUTH_NAME_BYTES_MAX)
        return err_set(err, ERR_INVALID,
                       "serviceaccount %s/%s: its user name would have %zu bytes, above %d", o->ns,
                       o->account, strlen(sub), AUTH_NAME_BYTES_MAX - 1);
    json_t *claims = json_pack("{s:s}", "sub", sub);
    if (o->seconds) {
        bind_claims(t, o, now_ms, claims);
    } else {
        json_object_set_new(claims, "iss", json_string(LEGACY_ISSUER));
        json_object_set_new(claims, LEGACY_NAMESPACE, json_string(o->ns));
        json_object_set_new(claims, LEGACY_ACCOUNT, json_string(o->account));
        json_object_set_new(claims, LEGACY_UID, json_string(o->uid));
        json_object_set_new(claims, LEGACY_SECRET, json_string(o->secret.name));
    }
    enum errc rc = auth_jwt_sign(t->jwt, claims, ret_token, err);
    json_decref(claims);
    return rc;
}

/* ---- whose is it ---- */

/* Gives the claims of a token whose signature holds. */
static enum errc verify(struct auth_token *t, const char *token, json_t **ret_claims,
                        struct error *err) {
    unsigned char hash[HASH_BYTES];
    ASSERT(!mbedtls_md(mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), (const unsigned char *)token,
                       strlen(token), hash));
    struct verified *place = &t->verified[hash[0] % AUTH_TOKEN_VERIFIED_MAX];
    pthread_mutex_lock(&t->lock);
    json_t *known =
        place->claims && !memcmp(place->hash, hash, HASH_BYTES) ? json_incref(place->claims) : NULL;
    pthread_mutex_unlock(&t->lock);
    if (known) {
        *ret_claims = known;
        return OK;
    }
    json_t *claims = NULL;
    enum errc rc = auth_jwt_verify(t->jwt, token, &claims, err);
    if (rc)
        return rc;
    pthread_mutex_lock(&t->lock);
    json_t *old = place->claims;
    place->claims = json_incref(claims);
    memcpy(place->hash, hash, HASH_BYTES);
    pthread_mutex_unlock(&t->lock);
    json_decref(old);
    *ret_claims = claims;
    return OK;
}

static enum errc check_times(const json_t *claims, int64_t now_ms, struct error *err) {
    const json_t *exp = json_object_get(claims, "exp"), *nbf = json_object_get(claims, "nbf");
    if (!json_is_integer(exp) || json_integer_value(exp) <= now_ms / 1000)
        return err_set(err, ERR_UNAUTHENTICATED, "service account token has expired");
    if (nbf && (!json_is_integer(nbf) || json_integer_value(nbf) > now_ms / 1000))
        return err_set(err, ERR_UNAUTHENTICATED, "service account token is not valid yet");
    return OK;
}

static bool has_string(const json_t *list, const char *text) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *s = json_string_value(json_array_get(list, i));
        if (s && !strcmp(s, text))
            return true;
    }
    return false;
}

/* Gives the audiences that are the token's and wanted. */
static enum errc check_audiences(const struct auth_token *t, const json_t *claims, bool legacy,
                                 const json_t *wanted, json_t **ret_both, struct error *err) {
    json_t *api = json_pack("[s]", t->issuer), *both = json_array();
    const json_t *has = legacy ? api : json_object_get(claims, "aud");
    if (!json_array_size(wanted))
        wanted = api;
    for (size_t i = 0; i < json_array_size(wanted); i++) {
        const char *s = json_string_value(json_array_get(wanted, i));
        if (s && has_string(has, s))
            json_array_append_new(both, json_string(s));
    }
    AUTO_FREE char *has_text = has ? json_dumps(has, JSON_ENCODE_ANY) : NULL;
    AUTO_FREE char *wanted_text = json_dumps(wanted, JSON_ENCODE_ANY);
    json_decref(api);
    if (json_array_size(both)) {
        *ret_both = both;
        return OK;
    }
    json_decref(both);
    return err_set(err, ERR_UNAUTHENTICATED,
                   "token audiences %.200s is invalid for the target audiences %.200s",
                   has_text ? has_text : "[]", wanted_text ? wanted_text : "[]");
}

/* An object that must still be there with this uid (NULL: any). Gives a reference. */
static enum errc check_object(struct store *st, const char *resource, const char *ns,
                              const char *name, const char *uid, int64_t now_ms,
                              struct store_object **ret_o, struct error *err) {
    struct object_key key;
    AUTO(store_object) o = NULL;
    struct error ignored = ERROR_INIT;
    if (!name || store_get(st, object_key(&key, "", resource, ns, name), &o, &ignored))
        return err_set(err, ERR_UNAUTHENTICATED, "%s \"%.253s\" of the token is gone", resource,
                       name ? name : "");
    const char *deleted = object_str(o->json, "metadata.deletionTimestamp");
    if (deleted && clock_parse_rfc3339(deleted) < now_ms - DELETED_GRACE_MS)
        return err_set(err, ERR_UNAUTHENTICATED, "%s \"%.253s\" of the token is being deleted",
                       resource, name);
    const char *has = object_uid(o->json);
    if (uid && (!has || strcmp(uid, has) != 0))
        return err_set(err, ERR_UNAUTHENTICATED,
                       "%s \"%.253s\" has been deleted and made again since the token was made",
                       resource, name);
    *ret_o = steal(o);
    return OK;
}

static void add_extra(struct auth_identity *id, const char *key, const char *prefix,
                      const char *value) {
    if (!value || id->num_extra == AUTH_EXTRA_MAX)
        return;
    struct auth_extra *e = &id->extra[id->num_extra++];
    snprintf(e->key, sizeof(e->key), EXTRA "%s", key);
    snprintf(e->value, sizeof(e->value), "%s%s", prefix, value);
}

static enum errc identify_account(struct auth_token *t, const char *ns, const char *name,
                                  const char *uid, int64_t now_ms, struct auth_identity *id,
                                  struct error *err) {
    AUTO(store_object) account = NULL;
    if (!ns || !name || !uid)
        return err_set(err, ERR_UNAUTHENTICATED, "the token does not name its serviceaccount");
    if (check_object(t->store, "serviceaccounts", ns, name, uid, now_ms, &account, err))
        return err->code;
    memset(id, 0, sizeof(*id));
    snprintf(id->name, sizeof(id->name), "system:serviceaccount:%s:%s", ns, name);
    snprintf(id->uid, sizeof(id->uid), "%s", uid);
    AUTO_FREE char *of_namespace = mem_printf("system:serviceaccounts:%s", ns);
    auth_identity_add_group(id, "system:serviceaccounts");
    auth_identity_add_group(id, of_namespace);
    auth_identity_add_group(id, "system:authenticated");
    return OK;
}

static enum errc identify_bound(struct auth_token *t, const json_t *claims, int64_t now_ms,
                                struct auth_identity *id, struct error *err) {
    static const struct {
        const char *kind, *resource;
        bool namespaced;
    } bonds[] = {{"pod", "pods", true}, {"secret", "secrets", true}, {"node", "nodes", false}};
    const json_t *about = json_object_get(claims, "kubernetes.io");
    const json_t *account = json_object_get(about, "serviceaccount");
    const char *ns = object_str(about, "namespace");
    if (check_times(claims, now_ms, err) ||
        identify_account(t, ns, object_str(account, "name"), object_str(account, "uid"), now_ms, id,
                         err))
        return err->code;
    const char *jti = object_str(claims, "jti");
    add_extra(id, "credential-id", "JTI=", jti);
    for (size_t i = 0; i < ARRAY_LEN(bonds); i++) {
        const json_t *bond = json_object_get(about, bonds[i].kind);
        AUTO(store_object) o = NULL;
        /* A pod's token names the node that it ran on only to tell. */
        bool tells = !strcmp(bonds[i].kind, "node") && json_object_get(about, "pod");
        if (!bond)
            continue;
        if (!tells &&
            check_object(t->store, bonds[i].resource, bonds[i].namespaced ? ns : NULL,
                         object_str(bond, "name"), object_str(bond, "uid"), now_ms, &o, err))
            return err->code;
        AUTO_FREE char *name_key = mem_printf("%s-name", bonds[i].kind);
        AUTO_FREE char *uid_key = mem_printf("%s-uid", bonds[i].kind);
        if (strcmp(bonds[i].kind, "secret") != 0) {
            add_extra(id, name_key, "", object_str(bond, "name"));
            add_extra(id, uid_key, "", object_str(bond, "uid"));
        }
    }
    return OK;
}

/* Is this token the one in the Secret? Compared in constant time. */
static bool in_secret(const json_t *secret, const char *token) {
    const char *text = object_str(secret, "data.token");
    AUTO_BUF encoded = BUF_INIT;
    base64_append(&encoded, token, strlen(token));
    return text && auth_same_secret(text, strlen(text), encoded.data, encoded.len);
}

static enum errc identify_legacy(struct auth_token *t, const json_t *claims, const char *token,
                                 int64_t now_ms, struct auth_identity *id, struct error *err) {
    const char *ns = json_string_value(json_object_get(claims, LEGACY_NAMESPACE));
    const char *secret_name = json_string_value(json_object_get(claims, LEGACY_SECRET));
    if (identify_account(t, ns, json_string_value(json_object_get(claims, LEGACY_ACCOUNT)),
                         json_string_value(json_object_get(claims, LEGACY_UID)), now_ms, id, err))
        return err->code;
    AUTO(store_object) secret = NULL;
    if (check_object(t->store, "secrets", ns, secret_name, NULL, now_ms, &secret, err))
        return err->code;
    if (!in_secret(secret->json, token))
        return err_set(err, ERR_UNAUTHENTICATED, "the token is not that of secret \"%s\" any more",
                       secret_name);
    return OK;
}

enum errc auth_token_identify(struct auth_token *t, const char *token, const json_t *audiences,
                              int64_t now_ms, struct auth_identity *ret_identity,
                              json_t **ret_audiences, struct error *err) {
    json_t *claims = NULL, *both = NULL;
    struct auth_identity id;
    enum errc rc = verify(t, token, &claims, err);
    if (rc)
        return rc;
    const char *issuer = object_str(claims, "iss");
    bool legacy = issuer && !strcmp(issuer, LEGACY_ISSUER);
    if (!t->store || !issuer || (!legacy && strcmp(issuer, t->issuer) != 0))
        rc = err_set(err, ERR_UNAUTHENTICATED, "the token's issuer is \"%.200s\", not \"%.200s\"",
                     issuer ? issuer : "", t->issuer);
    if (!rc)
        rc = check_audiences(t, claims, legacy, audiences, &both, err);
    if (!rc)
        rc = legacy ? identify_legacy(t, claims, token, now_ms, &id, err)
                    : identify_bound(t, claims, now_ms, &id, err);
    json_decref(claims);
    if (rc) {
        json_decref(both);
        return rc;
    }
    *ret_identity = id;
    if (ret_audiences)
        *ret_audiences = both;
    else
        json_decref(both);
    return OK;
}
