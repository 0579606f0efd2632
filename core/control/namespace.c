/* The namespace controller. An active namespace has a ServiceAccount `default` and the ConfigMap
 * `kube-root-ca.crt`, which come back when deleted. A terminating one loses its objects, owners
 * before what they own so that nothing is made anew, then goes itself. */
#include "core/control/namespace.h"

#include <stdio.h>

#include "core/control/service.h"

enum { EMPTYING_POLL_MS = 500 };

static enum errc ensure(struct world *w, enum kind kind, json_t *object, struct error *err) {
    AUTO(store_object) was = world_get(w, kind, object_namespace(object), object_name(object));
    if (was) {
        json_decref(object);
        return OK;
    }
    enum errc rc = world_create(w, kind, object, NULL, err);
    return rc == ERR_EXISTS ? OK : rc;
}

static enum errc furnish(struct world *w, const char *ns, struct error *err) {
    json_t *account = json_pack("{s:{s:s, s:s}}", "metadata", "name", "default", "namespace", ns);
    if (ensure(w, KIND_SERVICE_ACCOUNT, account, err))
        return err->code;
    json_t *ca =
        json_pack("{s:{s:s, s:s, s:{s:s}}, s:{s:s}}", "metadata", "name", "kube-root-ca.crt",
                  "namespace", ns, "annotations", "kubernetes.io/description",
                  "Contains a CA bundle that can be used to verify the API server.", "data",
                  "ca.crt", w->ca_pem ? w->ca_pem : "");
    return ensure(w, KIND_CONFIG_MAP, ca, err);
}

static enum errc set_phase(struct world *w, const struct store_object *o, const char *phase,
                           struct error *err) {
    json_t *updated = json_deep_copy(o->json);
    json_t *labels = object_at(updated, "metadata.labels");
    if (!json_is_object(labels))
        object_set(updated, "metadata.labels", labels = json_object());
    json_object_set_new(labels, "kubernetes.io/metadata.name", json_string(object_name(o->json)));
    object_set(updated, "status.phase", json_string(phase));
    return world_update(w, o, updated, NULL, err);
}

/* Deletes what is in the namespace; *ret_left is what does not go at once. */
static enum errc empty(struct world *w, const char *ns, size_t *ret_left, struct error *err) {
    static const enum kind owners_first[] = {KIND_INFERENCE_SERVICE, KIND_DEPLOYMENT,
                                             KIND_REPLICA_SET, KIND_COUNT};
    AUTO_STORE_LIST all = {0};
    store_list(w->store, "", &all);
    *ret_left = 0;
    for (size_t pass = 0; pass < ARRAY_LEN(owners_first); pass++) {
        bool last = pass == ARRAY_LEN(owners_first) - 1;
        for (size_t i = 0; i < all.num_items; i++) {
            const char *has = object_namespace(all.items[i]->json);
            if (!has || strcmp(has, ns) != 0 ||
                (!last && kind_of_key(all.items[i]->key) != owners_first[pass]))
                continue;
            enum errc rc = world_delete(w, all.items[i], err);
            if (rc && rc != ERR_CONFLICT)
                return rc;
        }
    }
    store_list_deinit(&all);
    store_list(w->store, "", &all);
    for (size_t i = 0; i < all.num_items; i++) {
        const char *has = object_namespace(all.items[i]->json);
        *ret_left += has && !strcmp(has, ns);
    }
    return OK;
}

enum errc namespace_reconcile(struct world *w, const char *name, struct error *err) {
    AUTO(store_object) o = world_get(w, KIND_NAMESPACE, NULL, name);
    size_t left;
    if (!o)
        return OK;
    if (!object_deleting(o->json)) {
        enum errc rc = set_phase(w, o, "Active", err);
        return rc ? rc : furnish(w, name, err);
    }
    const char *phase = object_str(o->json, "status.phase");
    if (!phase || strcmp(phase, "Terminating") != 0)
        return set_phase(w, o, "Terminating", err); /* which brings us back */
    if (empty(w, name, &left, err))
        return err->code;
    if (left || json_array_size(object_at(o->json, "metadata.finalizers"))) {
        world_enqueue_after(w, KIND_NAMESPACE, NULL, name, EMPTYING_POLL_MS);
        return OK;
    }
    return world_remove(w, o, err);
}

static enum errc ensure_api_service(struct world *w, struct error *err) {
    const char *colon = w->kube_address ? strrchr(w->kube_address, ':') : NULL;
    int port = colon ? (int)strtol(colon + 1, NULL, 10) : 6443;
    json_t *service = json_pack(
        "{s:{s:s, s:s, s:{s:s, s:s}}, s:{s:s, s:s, s:[s], s:[{s:s, s:s, s:i, s:i}], s:s}, "
        "s:{s:{}}}",
        "metadata", "name", "kubernetes", "namespace", "default", "labels", "component",
        "apiserver", "provider", "kubernetes", "spec", "type", "ClusterIP", "clusterIP",
        SERVICE_API_ADDRESS, "clusterIPs", SERVICE_API_ADDRESS, "ports", "name", "https",
        "protocol", "TCP", "port", 443, "targetPort", port, "sessionAffinity", "None", "status",
        "loadBalancer");
    ASSERT(service);
    return ensure(w, KIND_SERVICE, service, err);
}

enum errc namespace_ensure_builtin(struct world *w, struct error *err) {
    static const char *const names[] = {"default", "kube-system", "kube-public", "kube-node-lease"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        json_t *ns = json_pack("{s:{s:s, s:{s:s}}, s:{s:[s]}, s:{s:s}}", "metadata", "name",
                               names[i], "labels", "kubernetes.io/metadata.name", names[i], "spec",
                               "finalizers", "kubernetes", "status", "phase", "Active");
        if (ensure(w, KIND_NAMESPACE, ns, err))
            return err->code;
    }
    return ensure_api_service(w, err);
}
