/* API keys of a service, from where they are kept to the traffic table, as digests.
 *
 * The table is built anew when a Secret changes, so a new key is good, and one that was taken out
 * is not, from the next request on; nothing restarts. To change a key without a gap, the new one is
 * put in beside the old one, clients move, and the old one is taken out.
 *
 * --api-key in a manifest makes the replica ask for that key itself. Then the gateway asks, too, so
 * that who has none wakes nothing, and hands the replica its own key whichever of the service's
 * keys a client sent. A value with a reference, "$(KEY)", is known to the replica only, which then
 * asks alone. */
#include "core/control/traffic_keys.h"

#include "core/auth_keys.h"
#include "core/base/base64.h"
#include "core/control/isvc_predictor.h"

/* ---- the manifest's own ---- */

/* Gives (borrowed) the value of the last --api-key; NULL: there is none. */
static const char *find_argument(const json_t *args) {
    static const char option[] = "--api-key";
    size_t len = sizeof(option) - 1;
    const char *found = NULL;
    for (size_t i = 0; i < json_array_size(args); i++) {
        const char *arg = json_string_value(json_array_get(args, i));
        if (!arg || strncmp(arg, option, len) != 0)
            continue;
        if (arg[len] == '=')
            found = arg + len + 1;
        else if (!arg[len])
            found = json_string_value(json_array_get(args, i + 1));
    }
    return found && !strstr(found, "$(") ? found : NULL;
}

static const char *replica_key(const json_t *isvc, struct arena *arena) {
    json_t *model = isvc_predictor_model(isvc);
    const char *key = find_argument(json_object_get(model, "args"));
    if (!key)
        key = find_argument(object_at(isvc, "spec.predictor.containers.0.args"));
    key = key ? arena_strdup(arena, key) : NULL;
    json_decref(model);
    return key;
}

/* ---- Secrets ---- */

/* All of its values. */
static enum errc add_values(struct auth_keys *keys, const json_t *secret, struct error *err) {
    const char *name;
    const json_t *value;
    json_object_foreach (json_object_get(secret, "data"), name, value) {
        AUTO_BUF key = BUF_INIT;
        enum errc rc = OK;
        if (!base64_decode(&key, json_string_value(value)) ||
            strlen(key.data ? key.data : "") != key.len)
            rc = err_set(err, ERR_INVALID, "it is not base64 of a text");
        else
            rc = auth_keys_add(keys, key.data ? key.data : "", err);
        if (key.data)
            explicit_bzero(key.data, key.len);
        if (rc)
            return err_wrap(err, "data.%s", name);
    }
    return OK;
}

static void add_secret(struct world *w, const char *ns, const char *name, struct arena *arena,
                       struct traffic_service *s, struct auth_keys *keys) {
    struct error err = ERROR_INIT;
    AUTO(store_object) secret = world_get(w, KIND_SECRET, ns, name);
    if (!secret)
        s->keys_fault =
            arena_printf(arena, "Secret %s/%s with its API keys does not exist", ns, name);
    else if (add_values(keys, secret->json, &err))
        s->keys_fault = arena_printf(arena, "Secret %s/%s: %s", ns, name, err.text);
    else if (!keys->num)
        s->keys_fault = arena_printf(arena, "Secret %s/%s holds no API key", ns, name);
    if (s->keys_fault)
        keys->num = 0;
}

/* ---- public ---- */

void traffic_keys_find(struct world *w, const json_t *isvc, struct arena *arena,
                       struct traffic_service *s) {
    const char *named = object_annotation(isvc, TRAFFIC_KEYS_ANNOTATION);
    const char *configured = w->config->gateway_api_key_secret;
    s->replica_key = replica_key(isvc, arena);
    bool by_secret = named || *configured;
    if (!by_secret && !s->replica_key)
        return;
    struct auth_keys *keys = arena_alloc(arena, sizeof(*keys));
    s->keys = keys;
    if (named) {
        add_secret(w, s->ns, named, arena, s, keys);
    } else if (*configured) {
        const char *slash = strchr(configured, '/'); /* settled at start */
        add_secret(w, arena_strndup(arena, configured, (size_t)(slash - configured)), slash + 1,
                   arena, s, keys);
    }
    struct error err = ERROR_INIT;
    if (s->replica_key && !s->keys_fault && auth_keys_add(keys, s->replica_key, &err))
        s->keys_fault = arena_printf(arena, "--api-key: %s", err.text);
}
