/* The older way to a ServiceAccount's token, kept for programs outside that want one that does not
 * end: a Secret with the type and the annotation kubernetes.io/service-account.name, which this
 * controller fills. Kubernetes' rules: the account's uid is written beside its name, and with the
 * account, or when that is another one of the same name, the Secret goes. The token is good as long
 * as it stands in its Secret. */
#include "core/control/token_secret.h"

#include "core/auth_token.h"
#include "core/base/base64.h"

#define ACCOUNT_NAME "kubernetes.io/service-account.name"
#define ACCOUNT_UID  "kubernetes.io/service-account.uid"

bool token_secret_is(const json_t *secret) {
    const char *type = object_str(secret, "type");
    return type && !strcmp(type, "kubernetes.io/service-account-token");
}

static bool has_data(const json_t *secret, const char *key) {
    const json_t *value = json_object_get(json_object_get(secret, "data"), key);
    return json_string_length(value) > 0;
}

static void set_data(json_t *secret, const char *key, const char *text) {
    AUTO_BUF encoded = BUF_INIT;
    json_t *data = json_object_get(secret, "data");
    if (!json_is_object(data))
        json_object_set_new(secret, "data", data = json_object());
    base64_append(&encoded, text, strlen(text));
    json_object_set_new(data, key, json_string(encoded.data ? encoded.data : ""));
}

/* Gives the account that still is the one the Secret was made for; NULL: there is none. */
static struct store_object *account_of(struct world *w, const json_t *secret) {
    const char *name = object_annotation(secret, ACCOUNT_NAME);
    const char *uid = object_annotation(secret, ACCOUNT_UID);
    AUTO(store_object)
    account = name ? world_get(w, KIND_SERVICE_ACCOUNT, object_namespace(secret), name) : NULL;
    if (!account || object_deleting(account->json))
        return NULL;
    const char *has = object_uid(account->json);
    return !uid || (has && !strcmp(uid, has)) ? steal(account) : NULL;
}

static enum errc fill(struct world *w, const struct store_object *secret, const json_t *account,
                      struct error *err) {
    const char *ns = object_namespace(secret->json);
    json_t *filled = json_deep_copy(secret->json);
    json_t *annotations = object_at(filled, "metadata.annotations");
    json_object_set_new(annotations, ACCOUNT_UID, json_string(object_uid(account)));
    if (!has_data(filled, "token")) {
        AUTO_FREE char *token = NULL;
        struct auth_token_order order = {.ns = ns,
                                         .account = object_name(account),
                                         .uid = object_uid(account),
                                         .secret.name = object_name(filled)};
        if (auth_token_issue(auth_service_accounts(w->auth), &order, w->wall_ms, &token, err)) {
            json_decref(filled);
            return err->code;
        }
        set_data(filled, "token", token);
    }
    set_data(filled, "namespace", ns);
    set_data(filled, "ca.crt", w->ca_pem ? w->ca_pem : "");
    return world_update(w, secret, filled, NULL, err);
}

enum errc token_secret_reconcile(struct world *w, const char *ns, const char *name,
                                 struct error *err) {
    AUTO(store_object) secret = world_get(w, KIND_SECRET, ns, name);
    if (!w->auth || !secret || !token_secret_is(secret->json) || object_deleting(secret->json))
        return OK;
    AUTO(store_object) account = account_of(w, secret->json);
    if (account)
        return fill(w, secret, account->json, err);
    return world_delete(w, secret, err);
}

void token_secret_retry(struct world *w, const char *ns, const char *account) {
    AUTO_STORE_LIST all = {0};
    world_list(w, KIND_SECRET, ns, &all);
    for (size_t i = 0; i < all.num_items; i++) {
        const json_t *secret = all.items[i]->json;
        const char *name = token_secret_is(secret) ? object_annotation(secret, ACCOUNT_NAME) : NULL;
        if (name && !strcmp(name, account))
            world_enqueue(w, KIND_SECRET, ns, object_name(secret));
    }
}
