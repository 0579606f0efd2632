/* The namespace controller. An active namespace has a ServiceAccount `default` and the ConfigMap
 * `kube-root-ca.crt`, which come back when deleted. A terminating one loses its objects, owners
 * before what they own so that nothing is made anew, then goes itself. */
#include "core/control/namespace.h"

#include <stdio.h>

#include "core/control/api_service.h"

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

/* What a namespace still has: how many objects, by resource and by finalizer that holds them. */
struct remaining {
    json_t *resources, *finalizers;
};

static void count_up(json_t *counts, const char *key) {
    json_object_set_new(counts, key,
                        json_integer(json_integer_value(json_object_get(counts, key)) + 1));
}

static void count_remaining(const struct store_object *o, struct remaining *left) {
    const char *slash = strchr(o->key, '/'), *end = slash ? strchr(slash + 1, '/') : NULL;
    size_t i;
    json_t *f;
    if (!end)
        return;
    int group_len = (int)(slash - o->key);
    bool core = group_len == 4 && !strncmp(o->key, "core", 4);
    AUTO_FREE char *resource =
        mem_printf("%.*s.%.*s", (int)(end - slash - 1), slash + 1, core ? 0 : group_len, o->key);
    count_up(left->resources, resource);
    json_array_foreach (object_at(o->json, "metadata.finalizers"), i, f) {
        if (json_is_string(f))
            count_up(left->finalizers, json_string_value(f));
    }
}

/* Deletes what is in the namespace; ret_left counts what does not go at once. */
static enum errc empty(struct world *w, const char *ns, struct remaining *ret_left,
                       struct error *err) {
    static const enum kind owners_first[] = {KIND_INFERENCE_SERVICE, KIND_DEPLOYMENT,
                                             KIND_REPLICA_SET, KIND_COUNT};
    AUTO_STORE_LIST all = {0};
    store_list(w->store, "", &all);
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
        if (has && !strcmp(has, ns))
            count_remaining(all.items[i], ret_left);
    }
    return OK;
}

/* "pods. has 2 resource instances, widgets.example.com has ..." */
static char *list_counts(const json_t *counts, const char *format) {
    struct buf out = BUF_INIT;
    const char *key;
    json_t *n;
    json_object_foreach ((json_t *)(uintptr_t)counts, key, n) {
        buf_printf(&out, "%s%s %s %lld resource instances", out.len ? ", " : "", key, format,
                   (long long)json_integer_value(n));
    }
    buf_puts(&out, "");
    return buf_steal(&out);
}

/* What `kubectl describe namespace` tells somebody who waits. */
static enum errc tell_remaining(struct world *w, const struct store_object *o,
                                const struct remaining *left, struct error *err) {
    static const char *const fine[][3] = {
        {"NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered",
         "All resources successfully discovered"},
        {"NamespaceDeletionGroupVersionParsingFailure", "ParsedGroupVersions",
         "All legacy kube types successfully parsed"},
        {"NamespaceDeletionContentFailure", "ContentDeleted",
         "All content successfully deleted, may be waiting on finalization"}};
    bool content = json_object_size(left->resources), held = json_object_size(left->finalizers);
    AUTO_FREE char *resources = list_counts(left->resources, "has");
    AUTO_FREE char *finalizers = list_counts(left->finalizers, "in");
    AUTO_FREE char *what = mem_printf("Some resources are remaining: %s", resources);
    AUTO_FREE char *who =
        mem_printf("Some content in the namespace has finalizers remaining: %s", finalizers);
    json_t *updated = json_deep_copy(o->json);
    for (size_t i = 0; i < ARRAY_LEN(fine); i++)
        object_set_condition(updated, fine[i][0], "False", fine[i][1], fine[i][2], w->wall_ms);
    object_set_condition(updated, "NamespaceContentRemaining", content ? "True" : "False",
                         content ? "SomeResourcesRemain" : "ContentRemoved",
                         content ? what : "All content successfully removed", w->wall_ms);
    object_set_condition(updated, "NamespaceFinalizersRemaining", held ? "True" : "False",
                         held ? "SomeFinalizersRemain" : "ContentHasNoFinalizers",
                         held ? who : "All content-preserving finalizers finished", w->wall_ms);
    return world_update(w, o, updated, NULL, err);
}

/* One look at a terminating namespace: empties it, and it goes when nothing is left. */
static enum errc finish(struct world *w, const struct store_object *o, struct error *err) {
    const char *name = object_name(o->json);
    struct remaining left = {.resources = json_object(), .finalizers = json_object()};
    enum errc rc = empty(w, name, &left, err);
    bool waits = json_object_size(left.resources) ||
                 json_array_size(object_at(o->json, "metadata.finalizers"));
    if (!rc && waits) {
        world_enqueue_after(w, KIND_NAMESPACE, NULL, name, EMPTYING_POLL_MS);
        rc = tell_remaining(w, o, &left, err);
    } else if (!rc) {
        rc = world_remove(w, o, err);
    }
    json_decref(left.resources);
    json_decref(left.finalizers);
    return rc;
}

enum errc namespace_reconcile(struct world *w, const char *name, struct error *err) {
    AUTO(store_object) o = world_get(w, KIND_NAMESPACE, NULL, name);
    if (!o)
        return OK;
    if (!object_deleting(o->json)) {
        enum errc rc = set_phase(w, o, "Active", err);
        return rc ? rc : furnish(w, name, err);
    }
    const char *phase = object_str(o->json, "status.phase");
    if (!phase || strcmp(phase, "Terminating") != 0)
        return set_phase(w, o, "Terminating", err); /* which brings us back */
    return finish(w, o, err);
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
    return api_service_reconcile(w, err);
}
