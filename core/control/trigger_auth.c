/* TriggerAuthentication and ClusterTriggerAuthentication. Values are read anew for each question,
 * so a changed Secret counts at the next one; they are in no status, Event or log. */
#include "core/control/trigger_auth.h"

#include "core/base/base64.h"

/* Of a Secret (decoded) or a ConfigMap; NULL: not there, or not text. Gives. */
static char *value_of(struct world *w, enum kind kind, const char *ns, const char *name,
                      const char *key) {
    AUTO(store_object) o = world_get(w, kind, ns, name);
    const char *text =
        o ? json_string_value(json_object_get(object_at(o->json, "data"), key)) : NULL;
    if (!text || kind == KIND_CONFIG_MAP)
        return mem_strdup(text);
    AUTO_BUF out = BUF_INIT;
    buf_reserve(&out, 1);
    if (!base64_decode(&out, text) || strlen(out.data) != out.len)
        return NULL;
    return buf_steal(&out);
}

static enum errc add_from(struct world *w, enum kind kind, const char *ns, const json_t *list,
                          json_t *auth, struct error *err) {
    size_t i;
    json_t *ref;
    json_array_foreach ((json_t *)(uintptr_t)list, i, ref) {
        const char *parameter = object_str(ref, "parameter"), *name = object_str(ref, "name");
        const char *key = object_str(ref, "key");
        if (!parameter || !name || !key)
            return err_set(err, ERR_INVALID, "a reference wants parameter, name and key");
        char *value = value_of(w, kind, ns, name, key);
        json_t *text = value ? json_string(value) : NULL;
        free(value);
        if (!text)
            return err_set(err, ERR_NOT_FOUND, "%s %s/%s has no text under the key %.60s",
                           kind_row(kind)->kind, ns, name, key);
        json_object_set_new(auth, parameter, text);
    }
    return OK;
}

static enum errc fill(struct world *w, const char *ns, const json_t *spec, json_t *auth,
                      struct error *err) {
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)(uintptr_t)spec, key, value) {
        if (strcmp(key, "secretTargetRef") != 0 && strcmp(key, "configMapTargetRef") != 0)
            return err_set(err, ERR_INVALID,
                           "spec.%.40s is not supported (secretTargetRef and configMapTargetRef "
                           "are)",
                           key);
    }
    if (add_from(w, KIND_SECRET, ns, json_object_get(spec, "secretTargetRef"), auth, err))
        return err->code;
    return add_from(w, KIND_CONFIG_MAP, ns, json_object_get(spec, "configMapTargetRef"), auth, err);
}

enum errc trigger_auth_open(struct world *w, const char *ns, const json_t *trigger,
                            json_t **ret_auth, struct error *err) {
    const char *name = object_str(trigger, "authenticationRef.name");
    const char *kind_name = object_str(trigger, "authenticationRef.kind");
    *ret_auth = NULL;
    if (!name)
        return OK;
    bool cluster = kind_name && !strcmp(kind_name, "ClusterTriggerAuthentication");
    enum kind kind = cluster ? KIND_CLUSTER_TRIGGER_AUTHENTICATION : KIND_TRIGGER_AUTHENTICATION;
    AUTO(store_object) o = world_get(w, kind, cluster ? NULL : ns, name);
    if (!o)
        return err_set(err, ERR_NOT_FOUND, "%s %s does not exist", kind_row(kind)->kind, name);
    json_t *auth = json_object();
    if (fill(w, cluster ? TRIGGER_AUTH_NAMESPACE : ns, object_at(o->json, "spec"), auth, err)) {
        json_decref(auth);
        return err_wrap(err, "%s %s", kind_row(kind)->kind, name);
    }
    *ret_auth = auth;
    return OK;
}
