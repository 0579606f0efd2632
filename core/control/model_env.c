/* Credentials of models, found where KServe's storage initializer finds them: in the Secrets of the
 * ServiceAccount, whose annotations say where an S3 is, and in the container's environment. */
#include "core/control/model_env.h"

#include "core/control/pod_env.h"

static const char *const places[] = {"HF_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_REGION",
                                     "AWS_DEFAULT_REGION", "STORAGE_EMULATOR_HOST"};
static const char *const secret_keys[] = {
    "HF_TOKEN",          "HUGGING_FACE_HUB_TOKEN",     "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN", "CLOUDSDK_AUTH_ACCESS_TOKEN", "HTTP_BEARER_TOKEN"};

static void set(json_t *env, const char *name, const char *value) {
    json_t *text = value ? json_string(value) : NULL; /* NULL also for what is not UTF-8 */
    if (text)
        json_object_set_new(env, name, text);
}

/* The env of a container, into the map. */
static void add_entries(json_t *env, const json_t *container) {
    size_t i;
    json_t *e;
    json_array_foreach (json_object_get(container, "env"), i, e) {
        if (object_str(e, "name"))
            set(env, object_str(e, "name"), object_str(e, "value"));
    }
}

static json_t *secret_entry(const char *secret, const char *key) {
    return json_pack("{s:s, s:{s:{s:s, s:s, s:b}}}", "name", key, "valueFrom", "secretKeyRef",
                     "name", secret, "key", key, "optional", 1);
}

/* Values of a Secret: a container that asks for them all says how they are looked up. */
static void add_secret_keys(struct world *w, const json_t *pod, const char *secret,
                            const char *const *keys, size_t num_keys, json_t *env) {
    json_t *entries = json_array(), *resolved = NULL;
    struct error err = ERROR_INIT;
    for (size_t i = 0; i < num_keys; i++)
        json_array_append_new(entries, secret_entry(secret, keys[i]));
    json_t *asks = json_pack("{s:o}", "env", entries);
    if (!pod_env_resolve(w, pod, asks, &resolved, &err))
        add_entries(env, resolved);
    json_decref(resolved);
    json_decref(asks);
}

static void add_annotations(const json_t *secret, json_t *env) {
    const char *endpoint = object_annotation(secret, "serving.kserve.io/s3-endpoint");
    const char *https = object_annotation(secret, "serving.kserve.io/s3-usehttps");
    AUTO_FREE char *url =
        !endpoint ? NULL
        : strstr(endpoint, "://")
            ? mem_strdup(endpoint)
            : mem_printf("%s://%s", https && !strcmp(https, "0") ? "http" : "https", endpoint);
    set(env, "AWS_ENDPOINT_URL", url);
    set(env, "AWS_REGION", object_annotation(secret, "serving.kserve.io/s3-region"));
}

static void add_service_account(struct world *w, const json_t *pod, json_t *env) {
    const char *ns = object_namespace(pod), *name = object_str(pod, "spec.serviceAccountName");
    AUTO(store_object)
    account = world_get(w, KIND_SERVICE_ACCOUNT, ns, name ? name : "default");
    size_t i;
    json_t *ref;
    json_array_foreach (account ? json_object_get(account->json, "secrets") : NULL, i, ref) {
        const char *secret_name = object_str(ref, "name");
        AUTO(store_object)
        secret = secret_name ? world_get(w, KIND_SECRET, ns, secret_name) : NULL;
        if (!secret)
            continue;
        add_annotations(secret->json, env);
        add_secret_keys(w, pod, secret_name, secret_keys, ARRAY_LEN(secret_keys), env);
    }
}

/* The login for a host in the text of a .dockerconfigjson; base64 of user:password. */
static void add_login(const char *text, const char *host, json_t *env) {
    json_t *config = json_loads(text, 0, NULL), *login;
    const char *name;
    json_object_foreach (json_object_get(config, "auths"), name, login) {
        const char *start = strstr(name, "://") ? strstr(name, "://") + 3 : name;
        size_t len = strcspn(start, "/");
        if (strlen(host) == len && !strncmp(start, host, len))
            set(env, "REGISTRY_AUTH", json_string_value(json_object_get(login, "auth")));
    }
    json_decref(config);
}

static void add_registry(struct world *w, const json_t *pod, const char *reference, json_t *env) {
    static const char *const key[] = {".dockerconfigjson"};
    size_t i;
    json_t *ref;
    if (strncmp(reference, "oci://", 6) != 0)
        return;
    AUTO_FREE char *host = mem_strndup(reference + 6, strcspn(reference + 6, "/"));
    json_array_foreach (object_at(pod, "spec.imagePullSecrets"), i, ref) {
        json_t *found = json_object();
        if (object_str(ref, "name"))
            add_secret_keys(w, pod, object_str(ref, "name"), key, 1, found);
        const char *text = json_string_value(json_object_get(found, key[0]));
        if (text)
            add_login(text, host, env);
        json_decref(found);
    }
}

json_t *model_env_make(struct world *w, const json_t *pod, const json_t *container,
                       const char *reference) {
    json_t *env = json_object();
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        set(env, places[i], getenv(places[i]));
    add_service_account(w, pod, env);
    add_registry(w, pod, reference, env);
    add_entries(env, container);
    return env;
}
