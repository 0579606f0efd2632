/* Environment of a container: envFrom first, then env, later entries win, as the kubelet has it.
 * Secrets travel as base64 in their objects and as plain text in the process's environment. */
#include "core/control/pod_env.h"

#include <stdio.h>

#include "core/base/base64.h"

/* The data of a ConfigMap or Secret, or an error that names what is missing. */
static enum errc open_source(struct world *w, enum kind kind, const char *ns, const json_t *ref,
                             struct store_object **ret_o, struct error *err) {
    const char *name = object_str(ref, "name");
    *ret_o = name ? world_get(w, kind, ns, name) : NULL;
    if (*ret_o || object_bool(ref, "optional", false))
        return OK;
    return err_set(err, ERR_NOT_FOUND, "%s \"%s\" not found",
                   kind == KIND_SECRET ? "secret" : "configmap", name ? name : "");
}

/* Gives the value of one key, NULL when it is not there. */
static char *source_value(enum kind kind, const struct store_object *o, const char *key) {
    const char *text =
        o ? json_string_value(json_object_get(json_object_get(o->json, "data"), key)) : NULL;
    if (!text)
        return NULL;
    if (kind != KIND_SECRET)
        return mem_strdup(text);
    AUTO_BUF value = BUF_INIT;
    return base64_decode(&value, text) ? buf_steal(&value) : NULL;
}

static void append(json_t *env, const char *name, const char *value) {
    json_t *e = json_pack("{s:s, s:s}", "name", name, "value", value);
    if (e) /* NULL: the value is not UTF-8, which a JSON object cannot hold */
        json_array_append_new(env, e);
}

static enum errc from_key(struct world *w, enum kind kind, const char *ns, const json_t *entry,
                          const json_t *ref, json_t *env, struct error *err) {
    AUTO(store_object) o = NULL;
    const char *key = object_str(ref, "key");
    if (open_source(w, kind, ns, ref, &o, err))
        return err->code;
    AUTO_FREE char *value = key ? source_value(kind, o, key) : NULL;
    if (value)
        append(env, object_str(entry, "name"), value);
    else if (!object_bool(ref, "optional", false))
        return err_set(err, ERR_NOT_FOUND, "couldn't find key %s in %s %s/%s", key ? key : "",
                       kind == KIND_SECRET ? "Secret" : "ConfigMap", ns, object_str(ref, "name"));
    return OK;
}

/* "metadata.labels['app']" or a plain path. */
static const char *field_value(struct world *w, const json_t *pod, const char *path) {
    const char *quote = strchr(path, '\'');
    if (quote) {
        const char *end = strchr(quote + 1, '\'');
        AUTO_FREE char *key = end ? mem_strndup(quote + 1, (size_t)(end - quote - 1)) : NULL;
        if (!key)
            return NULL;
        const char *value = !strncmp(path, "metadata.labels", 15) ? object_label(pod, key)
                                                                  : object_annotation(pod, key);
        return value ? value : "";
    }
    if (!strcmp(path, "status.podIP") || !strcmp(path, "status.hostIP") ||
        !strcmp(path, "status.podIPs"))
        return w->node_ip;
    const char *value = object_str(pod, path);
    return !value && !strcmp(path, "spec.serviceAccountName") ? "default" : value;
}

static enum errc add_entry(struct world *w, const json_t *pod, const json_t *entry, json_t *env,
                           struct error *err) {
    const char *ns = object_namespace(pod), *name = object_str(entry, "name");
    const char *value = object_str(entry, "value");
    const json_t *secret = object_at(entry, "valueFrom.secretKeyRef");
    const json_t *config = object_at(entry, "valueFrom.configMapKeyRef");
    const char *field = object_str(entry, "valueFrom.fieldRef.fieldPath");
    if (!name)
        return OK;
    if (secret)
        return from_key(w, KIND_SECRET, ns, entry, secret, env, err);
    if (config)
        return from_key(w, KIND_CONFIG_MAP, ns, entry, config, env, err);
    if (field) {
        value = field_value(w, pod, field);
        if (!value)
            return err_set(err, ERR_NOT_FOUND, "env %s: fieldPath %s is not supported", name,
                           field);
    }
    append(env, name, value ? value : "");
    return OK;
}

static enum errc add_all(struct world *w, const json_t *pod, const json_t *from, json_t *env,
                         struct error *err) {
    static const struct {
        const char *field;
        enum kind kind;
    } sources[] = {{"configMapRef", KIND_CONFIG_MAP}, {"secretRef", KIND_SECRET}};
    const char *prefix = object_str(from, "prefix");
    for (size_t i = 0; i < ARRAY_LEN(sources); i++) {
        const json_t *ref = json_object_get(from, sources[i].field);
        AUTO(store_object) o = NULL;
        if (!ref)
            continue;
        if (open_source(w, sources[i].kind, object_namespace(pod), ref, &o, err))
            return err->code;
        const char *key;
        json_t *text;
        json_object_foreach (o ? json_object_get(o->json, "data") : NULL, key, text) {
            AUTO_FREE char *name = mem_printf("%s%s", prefix ? prefix : "", key);
            AUTO_FREE char *value = source_value(sources[i].kind, o, key);
            if (value)
                append(env, name, value);
        }
    }
    return OK;
}

enum errc pod_env_resolve(struct world *w, const json_t *pod, const json_t *container,
                          json_t **ret_container, struct error *err) {
    json_t *env = json_array();
    enum errc rc = OK;
    size_t i;
    json_t *entry;
    json_array_foreach (json_object_get(container, "envFrom"), i, entry) {
        if (!rc)
            rc = add_all(w, pod, entry, env, err);
    }
    json_array_foreach (json_object_get(container, "env"), i, entry) {
        if (!rc)
            rc = add_entry(w, pod, entry, env, err);
    }
    if (rc) {
        json_decref(env);
        return rc;
    }
    *ret_container = json_deep_copy(container);
    object_delete(*ret_container, "envFrom");
    object_set(*ret_container, "env", env);
    return OK;
}

void pod_env_set(json_t *container, const char *name, const char *value) {
    json_t *env = json_object_get(container, "env");
    if (!json_is_array(env))
        json_object_set_new(container, "env", env = json_array());
    for (size_t i = json_array_size(env); i-- > 0;) {
        const char *has = object_str(json_array_get(env, i), "name");
        if (has && !strcmp(has, name))
            json_array_remove(env, i);
    }
    /* At the head, so that the others may refer to it. */
    json_array_insert_new(env, 0, json_pack("{s:s, s:s}", "name", name, "value", value));
}
