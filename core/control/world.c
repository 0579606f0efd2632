/* The verbs of controllers. They do to the store what the API server would do for a client: fill in
 * metadata, count generations, delete gracefully. A reconciler never holds state between two looks
 * except in tables whose loss only costs time, so it may be killed anywhere. */
#include "core/control/world.h"

#include <stdio.h>

#include "core/base/clock.h"
#include "core/control/admission.h"

static const struct kind_row rows[KIND_COUNT] = {
    [KIND_NAMESPACE] = {"core", "v1", "namespaces", "Namespace", false},
    [KIND_NODE] = {"core", "v1", "nodes", "Node", false},
    [KIND_POD] = {"core", "v1", "pods", "Pod", true},
    [KIND_EVENT] = {"core", "v1", "events", "Event", false},
    [KIND_CONFIG_MAP] = {"core", "v1", "configmaps", "ConfigMap", false},
    [KIND_SECRET] = {"core", "v1", "secrets", "Secret", false},
    [KIND_SERVICE] = {"core", "v1", "services", "Service", false},
    [KIND_SERVICE_ACCOUNT] = {"core", "v1", "serviceaccounts", "ServiceAccount", false},
    [KIND_CLUSTER_ROLE] = {"rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", false},
    [KIND_RESOURCE_QUOTA] = {"core", "v1", "resourcequotas", "ResourceQuota", false},
    [KIND_ENDPOINTS] = {"core", "v1", "endpoints", "Endpoints", false},
    [KIND_ENDPOINT_SLICE] = {"discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", true},
    [KIND_POD_DISRUPTION_BUDGET] = {"policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget",
                                    true},
    [KIND_PRIORITY_CLASS] = {"scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", true},
    [KIND_LEASE] = {"coordination.k8s.io", "v1", "leases", "Lease", false},
    [KIND_HORIZONTAL_POD_AUTOSCALER] = {"autoscaling", "v2", "horizontalpodautoscalers",
                                        "HorizontalPodAutoscaler", false},
    [KIND_SCALED_OBJECT] = {"keda.sh", "v1alpha1", "scaledobjects", "ScaledObject", true},
    [KIND_TRIGGER_AUTHENTICATION] = {"keda.sh", "v1alpha1", "triggerauthentications",
                                     "TriggerAuthentication", true},
    [KIND_CLUSTER_TRIGGER_AUTHENTICATION] = {"keda.sh", "v1alpha1", "clustertriggerauthentications",
                                             "ClusterTriggerAuthentication", true},
    [KIND_REPLICA_SET] = {"apps", "v1", "replicasets", "ReplicaSet", true},
    [KIND_DEPLOYMENT] = {"apps", "v1", "deployments", "Deployment", true},
    [KIND_INFERENCE_SERVICE] = {"serving.kserve.io", "v1beta1", "inferenceservices",
                                "InferenceService", true},
    [KIND_SERVING_RUNTIME] = {"serving.kserve.io", "v1alpha1", "servingruntimes", "ServingRuntime",
                              true},
    [KIND_CLUSTER_SERVING_RUNTIME] = {"serving.kserve.io", "v1alpha1", "clusterservingruntimes",
                                      "ClusterServingRuntime", true},
};

enum { POD_GRACE_SECONDS_DEFAULT = 30 };

const struct kind_row *kind_row(enum kind kind) {
    return &rows[kind];
}

enum kind kind_find(const char *api_version, const char *name) {
    const char *slash = strchr(api_version, '/');
    size_t group_len = slash ? (size_t)(slash - api_version) : 0;
    for (int k = 0; k < KIND_COUNT; k++) {
        const char *group = strcmp(rows[k].group, "core") ? rows[k].group : "";
        if (!strcmp(rows[k].kind, name) && strlen(group) == group_len &&
            !strncmp(group, api_version, group_len))
            return (enum kind)k;
    }
    return KIND_COUNT;
}

enum kind kind_of_key(const char *store_key) {
    for (int k = 0; k < KIND_COUNT; k++) {
        size_t group_len = strlen(rows[k].group), resource_len = strlen(rows[k].resource);
        const char *resource = store_key + group_len + 1;
        if (!strncmp(store_key, rows[k].group, group_len) && store_key[group_len] == '/' &&
            !strncmp(resource, rows[k].resource, resource_len) && resource[resource_len] == '/')
            return (enum kind)k;
    }
    return KIND_COUNT;
}

static const char *key_of(struct object_key *out, enum kind kind, const char *ns,
                          const char *name) {
    return object_key(out, rows[kind].group, rows[kind].resource, ns, name);
}

struct store_object *world_get(struct world *w, enum kind kind, const char *ns, const char *name) {
    struct object_key key;
    struct store_object *o = NULL;
    struct error err = ERROR_INIT;
    return store_get(w->store, key_of(&key, kind, ns, name), &o, &err) ? NULL : o;
}

void world_list(struct world *w, enum kind kind, const char *ns, struct store_list *ret_list) {
    struct object_key key;
    store_list(w->store, key_of(&key, kind, ns, NULL), ret_list);
}

static enum errc check_namespace(struct world *w, const char *ns, struct error *err) {
    AUTO(store_object) o = ns ? world_get(w, KIND_NAMESPACE, NULL, ns) : NULL;
    if (ns && (!o || object_deleting(o->json)))
        return err_set(err, ERR_FORBIDDEN,
                       "unable to create new content in namespace %s because it is being "
                       "terminated",
                       ns);
    return OK;
}

/* Into the store, together with the quotas that count it. */
static enum errc put_charged(struct world *w, const struct kind_row *row, const char *key,
                             const json_t *object, struct store_object **ret_o, struct error *err) {
    enum errc rc = ERR_CONFLICT;
    for (int tries = 0; rc == ERR_CONFLICT && tries < ADMISSION_TRIES_MAX; tries++) {
        AUTO_CHARGES charges = {0};
        rc = admission_charge(w->store, row->group, row->resource, object, NULL, &charges, err);
        if (rc)
            break;
        struct store_write write = {
            .key = key, .object = json_deep_copy(object), .expect_revision = STORE_EXPECT_ABSENT};
        rc = charges_commit(&charges, w->store, &write, ret_o, err);
    }
    return rc;
}

enum errc world_create(struct world *w, enum kind kind, json_t *object, struct store_object **ret_o,
                       struct error *err) {
    const struct kind_row *row = &rows[kind];
    const char *ns = object_namespace(object);
    struct object_key key;
    if (check_namespace(w, ns, err)) {
        json_decref(object);
        return err->code;
    }
    if (!strcmp(row->group, "core")) {
        json_object_set_new(object, "apiVersion", json_string(row->version));
    } else {
        AUTO_FREE char *version = mem_printf("%s/%s", row->group, row->version);
        json_object_set_new(object, "apiVersion", json_string(version));
    }
    json_object_set_new(object, "kind", json_string(row->kind));
    object_stamp_new(object, row->has_generation, w->wall_ms);
    key_of(&key, kind, ns, object_name(object));
    enum errc rc = admission_assign(w->store, row->group, row->resource, object, NULL, err);
    if (!rc)
        rc = put_charged(w, row, key.text, object, ret_o, err);
    json_decref(object);
    return rc;
}

static void count_generation(const struct store_object *old, json_t *object) {
    enum kind kind = kind_of_key(old->key);
    const json_t *was = json_object_get(old->json, "spec"), *now = json_object_get(object, "spec");
    bool same_spec = was == now || (was && now && json_equal((json_t *)was, (json_t *)now));
    bool marked = object_deleting(object) && !object_deleting(old->json);
    if (kind < KIND_COUNT && rows[kind].has_generation && (!same_spec || marked))
        object_set(object, "metadata.generation",
                   json_integer(object_int(old->json, "metadata.generation", 0) + 1));
}

enum errc world_update(struct world *w, const struct store_object *old, json_t *object,
                       struct store_object **ret_o, struct error *err) {
    count_generation(old, object);
    return store_put(w->store, old->key, object, old->revision, ret_o, err);
}

enum errc world_remove(struct world *w, const struct store_object *o, struct error *err) {
    enum errc rc = store_delete(w->store, o->key, o->revision, NULL, err);
    return rc == ERR_NOT_FOUND ? OK : rc;
}

enum errc world_delete(struct world *w, const struct store_object *o, struct error *err) {
    bool is_pod = kind_of_key(o->key) == KIND_POD;
    bool runs = is_pod && object_str(o->json, "spec.nodeName");
    bool has_finalizers = json_array_size(object_at(o->json, "metadata.finalizers")) > 0;
    if (!runs && !has_finalizers)
        return world_remove(w, o, err);
    if (object_deleting(o->json))
        return OK;
    char at[CLOCK_RFC3339_BYTES];
    json_t *marked = json_deep_copy(o->json);
    int64_t grace =
        is_pod ? object_int(marked, "spec.terminationGracePeriodSeconds", POD_GRACE_SECONDS_DEFAULT)
               : 0;
    object_set(marked, "metadata.deletionTimestamp",
               json_string(clock_rfc3339(w->wall_ms + grace * 1000, at)));
    object_set(marked, "metadata.deletionGracePeriodSeconds", json_integer(grace));
    enum errc rc = world_update(w, o, marked, NULL, err);
    return rc == ERR_NOT_FOUND ? OK : rc;
}

void world_enqueue_after(struct world *w, enum kind kind, const char *ns, const char *name,
                         int64_t delay_ms) {
    char key[WORKQUEUE_KEY_BYTES_MAX];
    int n = snprintf(key, sizeof(key), "%s %s/%s", rows[kind].kind, ns ? ns : "", name);
    ASSERT(n > 0 && n < (int)sizeof(key));
    workqueue_add(w->queue, key, w->mono_ms + delay_ms);
}

void world_enqueue(struct world *w, enum kind kind, const char *ns, const char *name) {
    world_enqueue_after(w, kind, ns, name, 0);
}

json_t *world_timestamp(const struct world *w) {
    char now[CLOCK_RFC3339_BYTES];
    return json_string(clock_rfc3339(w->wall_ms, now));
}
