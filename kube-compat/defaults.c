/* Defaults: what the reference server writes into an object where the client was silent. Clients
 * rely on reading these back (a Deployment's replicas, a port's protocol), and controllers on never
 * having to guess. Custom resources get none of this: their defaults are in their schema. */
#include "kube-compat/validate.h"

#include "core/base/base64.h"
#include "core/object.h"
#include "kube-compat/crd.h"
#include "kube-compat/policy_rules.h"
#include "kube-compat/validate_rbac.h"

static void set_default(json_t *o, const char *key, json_t *value) {
    if (json_is_object(o) && !json_object_get(o, key))
        json_object_set_new(o, key, value);
    else
        json_decref(value);
}

static void default_string(json_t *o, const char *key, const char *value) {
    const char *have = json_string_value(json_object_get(o, key));
    if (json_is_object(o) && (!have || !*have) && !json_is_integer(json_object_get(o, key)))
        json_object_set_new(o, key, json_string(value));
}

static void default_integer(json_t *o, const char *key, int64_t value) {
    set_default(o, key, json_integer(value));
}

/* Limits stand in for requests that were not given. */
static void default_resources(json_t *resources) {
    json_t *limits = json_object_get(resources, "limits");
    object_canonical_quantities(limits);
    object_canonical_quantities(json_object_get(resources, "requests"));
    const char *key;
    json_t *value;
    if (!json_object_size(limits))
        return;
    set_default(resources, "requests", json_object());
    json_object_foreach (limits, key, value) {
        set_default(json_object_get(resources, "requests"), key, json_incref(value));
    }
}

static void default_probe(json_t *probe) {
    if (!probe)
        return;
    default_integer(probe, "timeoutSeconds", 1);
    default_integer(probe, "periodSeconds", 10);
    default_integer(probe, "successThreshold", 1);
    default_integer(probe, "failureThreshold", 3);
    json_t *http = json_object_get(probe, "httpGet");
    if (http) {
        default_string(http, "path", "/");
        default_string(http, "scheme", "HTTP");
    }
}

/* An image without a tag, or with :latest, is looked for every time. */
static const char *pull_policy(const char *image) {
    const char *slash = image ? strrchr(image, '/') : NULL;
    const char *tag = image ? strchr(slash ? slash : image, ':') : NULL;
    return tag && strcmp(tag, ":latest") != 0 ? "IfNotPresent" : "Always";
}

static void default_container(json_t *c) {
    default_string(c, "terminationMessagePath", "/dev/termination-log");
    default_string(c, "terminationMessagePolicy", "File");
    default_string(c, "imagePullPolicy", pull_policy(object_str(c, "image")));
    set_default(c, "resources", json_object());
    default_resources(json_object_get(c, "resources"));
    json_t *ports = json_object_get(c, "ports");
    for (size_t i = 0; i < json_array_size(ports); i++)
        default_string(json_array_get(ports, i), "protocol", "TCP");
    default_probe(json_object_get(c, "livenessProbe"));
    default_probe(json_object_get(c, "readinessProbe"));
    default_probe(json_object_get(c, "startupProbe"));
    json_t *env = json_object_get(c, "env");
    for (size_t i = 0; i < json_array_size(env); i++) {
        json_t *ref = object_at(json_array_get(env, i), "valueFrom.fieldRef");
        if (ref)
            default_string(ref, "apiVersion", "v1");
    }
}

static void default_volume(json_t *v) {
    static const char *const with_mode[] = {"secret", "configMap", "downwardAPI", "projected"};
    for (size_t i = 0; i < ARRAY_LEN(with_mode); i++) {
        json_t *source = json_object_get(v, with_mode[i]);
        if (source)
            default_integer(source, "defaultMode", 0644);
    }
    json_t *host_path = json_object_get(v, "hostPath");
    if (host_path)
        set_default(host_path, "type", json_string(""));
}

static void default_pod_spec(json_t *spec) {
    if (!json_is_object(spec))
        return;
    default_string(spec, "restartPolicy", "Always");
    default_string(spec, "dnsPolicy", "ClusterFirst");
    default_string(spec, "schedulerName", "default-scheduler");
    default_integer(spec, "terminationGracePeriodSeconds", 30);
    set_default(spec, "securityContext", json_object());
    static const char *const lists[] = {"initContainers", "containers"};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        json_t *containers = json_object_get(spec, lists[i]);
        for (size_t j = 0; j < json_array_size(containers); j++) {
            if (json_is_object(json_array_get(containers, j)))
                default_container(json_array_get(containers, j));
        }
    }
    json_t *volumes = json_object_get(spec, "volumes");
    for (size_t i = 0; i < json_array_size(volumes); i++)
        default_volume(json_array_get(volumes, i));
    const char *account = object_str(spec, "serviceAccountName");
    if (account && *account)
        default_string(spec, "serviceAccount", account);
}

static void default_deployment(json_t *o) {
    json_t *spec = json_object_get(o, "spec");
    default_integer(spec, "replicas", 1);
    default_integer(spec, "revisionHistoryLimit", 10);
    default_integer(spec, "progressDeadlineSeconds", 600);
    set_default(spec, "strategy", json_object());
    json_t *strategy = json_object_get(spec, "strategy");
    default_string(strategy, "type", "RollingUpdate");
    const char *type = object_str(strategy, "type");
    if (type && !strcmp(type, "RollingUpdate")) {
        set_default(strategy, "rollingUpdate", json_object());
        json_t *rolling = json_object_get(strategy, "rollingUpdate");
        set_default(rolling, "maxUnavailable", json_string("25%"));
        set_default(rolling, "maxSurge", json_string("25%"));
    }
    default_pod_spec(object_at(o, "spec.template.spec"));
}

static void default_service(json_t *o, const json_t *old) {
    json_t *spec = json_object_get(o, "spec");
    default_string(spec, "type", "ClusterIP");
    default_string(spec, "sessionAffinity", "None");
    default_string(spec, "internalTrafficPolicy", "Cluster");
    const char *type = object_str(spec, "type");
    const char *assigned = object_str(old, "spec.clusterIP");
    if (type && strcmp(type, "ExternalName") != 0 && assigned)
        default_string(spec, "clusterIP", assigned);
    json_t *ports = json_object_get(spec, "ports");
    for (size_t i = 0; i < json_array_size(ports); i++) {
        json_t *p = json_array_get(ports, i);
        default_string(p, "protocol", "TCP");
        const json_t *port = json_object_get(p, "port");
        if (json_is_integer(port))
            set_default(p, "targetPort", json_integer(json_integer_value(port)));
    }
}

/* stringData is write-only: its values go, encoded, into data. */
static void default_secret(json_t *o) {
    json_t *strings = json_object_get(o, "stringData");
    const char *key;
    json_t *value;
    if (json_object_size(strings))
        set_default(o, "data", json_object());
    json_object_foreach (strings, key, value) {
        AUTO_BUF out = BUF_INIT;
        if (json_is_string(value))
            base64_append(&out, json_string_value(value), json_string_length(value));
        json_object_set_new(json_object_get(o, "data"), key, json_string(out.data ? out.data : ""));
    }
    json_object_del(o, "stringData");
    default_string(o, "type", "Opaque");
}

/* KServe's webhook names the container that serves, before the schema asks for a name. */
static void default_inference_service(json_t *o) {
    static const char *const components[] = {"predictor", "transformer", "explainer"};
    for (size_t i = 0; i < ARRAY_LEN(components); i++) {
        json_t *component = json_object_get(json_object_get(o, "spec"), components[i]);
        json_t *first = json_array_get(json_object_get(component, "containers"), 0);
        if (json_is_object(first))
            default_string(first, "name", "kserve-container");
    }
}

void defaults_new(const struct kind *kind, json_t *object) {
    if (!strcmp(kind->kind, "Namespace") && kind->built_in) {
        object_set(object, "spec.finalizers", json_pack("[s]", "kubernetes"));
        object_set(object, "status.phase", json_string("Active"));
    } else if (!strcmp(kind->kind, "Pod") && kind->built_in) {
        object_set(object, "status.phase", json_string("Pending"));
    } else if (!strcmp(kind->kind, "Service") && kind->built_in) {
        object_set(object, "status.loadBalancer", json_object());
    } else if (policy_defaults_new(kind, object)) {
        return;
    } else if (kind->has_status && kind->built_in && strcmp(kind->kind, "Node") != 0) {
        json_object_set_new(object, "status", json_object());
    }
    if (!strcmp(kind->kind, "ReplicaSet") && kind->built_in)
        object_set(object, "status.replicas", json_integer(0));
}

/* What the pod was given when it was made stays, whatever a client that wrote it knew about it. */
static void keep_assigned(json_t *spec, const json_t *old) {
    static const char *const fields[] = {"priority", "priorityClassName", "preemptionPolicy"};
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        json_t *value = json_object_get(old, fields[i]);
        if (value)
            set_default(spec, fields[i], json_incref(value));
    }
}

void defaults_apply(const struct kind *kind, json_t *object, const json_t *old) {
    if (!kind->built_in) {
        if (kind->crd)
            schema_default(kind->schema, object);
        if (!strcmp(kind->kind, "InferenceService") && !strcmp(kind->group, "serving.kserve.io"))
            default_inference_service(object);
        return;
    }
    if (!strcmp(kind->kind, "Pod")) {
        json_t *spec = json_object_get(object, "spec");
        default_pod_spec(spec);
        set_default(spec, "enableServiceLinks", json_true());
        default_string(spec, "serviceAccountName", "default");
        default_string(spec, "serviceAccount", object_str(spec, "serviceAccountName"));
        keep_assigned(spec, json_object_get(old, "spec"));
    } else if (!strcmp(kind->kind, "Deployment")) {
        default_deployment(object);
    } else if (!strcmp(kind->kind, "ReplicaSet")) {
        default_integer(json_object_get(object, "spec"), "replicas", 1);
        default_pod_spec(object_at(object, "spec.template.spec"));
    } else if (!strcmp(kind->kind, "Service")) {
        default_service(object, old);
    } else if (!strcmp(kind->kind, "Secret")) {
        default_secret(object);
    } else if (kind_is_crd(kind)) {
        crd_default(object);
    } else if (!strcmp(kind->kind, "Namespace")) {
        const char *name = object_name(object);
        json_t *metadata = json_object_get(object, "metadata");
        set_default(metadata, "labels", json_object());
        if (name)
            json_object_set_new(json_object_get(metadata, "labels"), "kubernetes.io/metadata.name",
                                json_string(name));
    } else if (validate_is_rbac(kind)) {
        defaults_rbac(object);
    } else {
        policy_defaults(kind, object);
    }
}
