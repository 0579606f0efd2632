/* Rules beyond the schema: names, labels, and what the parts of a built-in object owe each other.
 */
#include "kube-compat/validate.h"

#include <stdio.h>

#include "core/base/base64.h"
#include "core/object.h"
#include "kube-compat/names.h"
#include "kube-compat/policy_rules.h"
#include "kube-compat/selector.h"
#include "kube-compat/validate_rbac.h"

enum {
    ANNOTATIONS_BYTES_MAX = 256 << 10,
    DATA_BYTES_MAX = 1 << 20,
    PATH_BYTES_MAX = 192,
    FIELD_BYTES_MAX = 256
};

static void invalid(json_t *causes, const char *field, const char *value, const char *why) {
    cause_add(causes, CAUSE_INVALID, field, "Invalid value: \"%.253s\": %s", value, why);
}

static void required(json_t *causes, const char *field, const char *why) {
    cause_add(causes, CAUSE_REQUIRED, field, "Required value%s%s", why ? ": " : "", why ? why : "");
}

static void check_labels(const json_t *labels, const char *field, json_t *causes) {
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)(uintptr_t)labels, key, value) {
        if (!name_is_qualified(key))
            invalid(causes, field, key, name_qualified_rule);
        const char *text = json_string_value(value);
        if (text && !name_is_label_value(text))
            invalid(causes, field, text, name_label_value_rule);
    }
}

static void check_annotations(const json_t *annotations, json_t *causes) {
    size_t bytes = 0;
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)(uintptr_t)annotations, key, value) {
        bytes += strlen(key) + json_string_length(value);
        if (!name_is_qualified(key))
            invalid(causes, "metadata.annotations", key, name_qualified_rule);
    }
    if (bytes > ANNOTATIONS_BYTES_MAX)
        cause_add(causes, "FieldValueTooLong", "metadata.annotations",
                  "Too long: may not be more than %d bytes", ANNOTATIONS_BYTES_MAX);
}

void validate_metadata(const struct kind *kind, const json_t *object, json_t *causes) {
    const char *name = object_name(object);
    if (!name || !*name) {
        required(causes, "metadata.name", "name or generateName is required");
    } else if (kind->name_rule == KIND_NAME_LABEL) {
        bool service = !strcmp(kind->plural, "services") && kind->built_in;
        if (service ? !name_is_dns1035_label(name) : !name_is_dns1123_label(name))
            invalid(causes, "metadata.name", name,
                    service ? name_dns1035_label_rule : name_dns1123_label_rule);
    } else if (kind->name_rule == KIND_NAME_ANY ? !name_is_path_segment(name)
                                                : !name_is_dns1123_subdomain(name)) {
        invalid(causes, "metadata.name", name,
                kind->name_rule == KIND_NAME_ANY ? name_path_segment_rule
                                                 : name_dns1123_subdomain_rule);
    }
    check_labels(object_at(object, "metadata.labels"), "metadata.labels", causes);
    check_annotations(object_at(object, "metadata.annotations"), causes);
    const json_t *finalizers = object_at(object, "metadata.finalizers");
    for (size_t i = 0; i < json_array_size(finalizers); i++) {
        const char *f = json_string_value(json_array_get(finalizers, i));
        if (f && !name_is_qualified(f))
            invalid(causes, "metadata.finalizers", f, name_qualified_rule);
    }
}

static void check_ports(const json_t *container, const char *path, json_t *causes) {
    const json_t *ports = json_object_get(container, "ports");
    for (size_t i = 0; i < json_array_size(ports); i++) {
        int64_t port = object_int(json_array_get(ports, i), "containerPort", 0);
        char field[FIELD_BYTES_MAX];
        snprintf(field, sizeof(field), "%s.ports[%zu].containerPort", path, i);
        if (port < 1 || port > 65535)
            cause_add(causes, CAUSE_INVALID, field,
                      "Invalid value: %lld: must be between 1 and 65535, inclusive",
                      (long long)port);
    }
}

/* Is the volume of a mount among the pod's volumes? */
static void check_mounts(const json_t *spec, const json_t *container, const char *path,
                         json_t *causes) {
    const json_t *mounts = json_object_get(container, "volumeMounts");
    const json_t *volumes = json_object_get(spec, "volumes");
    for (size_t i = 0; i < json_array_size(mounts); i++) {
        const char *name = object_str(json_array_get(mounts, i), "name");
        bool found = !name;
        for (size_t j = 0; !found && j < json_array_size(volumes); j++) {
            const char *have = object_str(json_array_get(volumes, j), "name");
            found = have && !strcmp(have, name);
        }
        char field[FIELD_BYTES_MAX];
        snprintf(field, sizeof(field), "%s.volumeMounts[%zu].name", path, i);
        if (!found)
            cause_add(causes, CAUSE_NOT_FOUND, field, "Not found: \"%s\"", name);
    }
}

static void check_probes(const json_t *container, const char *path, json_t *causes) {
    static const char *const ports[] = {
        "livenessProbe.httpGet",    "livenessProbe.tcpSocket", "readinessProbe.httpGet",
        "readinessProbe.tcpSocket", "startupProbe.httpGet",    "startupProbe.tcpSocket",
    };
    for (size_t i = 0; i < ARRAY_LEN(ports); i++) {
        const json_t *action = object_at(container, ports[i]);
        char field[FIELD_BYTES_MAX];
        snprintf(field, sizeof(field), "%s.%s.port", path, ports[i]);
        if (action && !json_object_get(action, "port"))
            required(causes, field, NULL);
    }
}

static void check_containers(const json_t *spec, const char *list_name, const char *path,
                             json_t *names, json_t *causes) {
    const json_t *list = json_object_get(spec, list_name);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *c = json_array_get(list, i);
        const char *name = object_str(c, "name"), *image = object_str(c, "image");
        char at[PATH_BYTES_MAX], field[FIELD_BYTES_MAX];
        snprintf(at, sizeof(at), "%s.%s[%zu]", path, list_name, i);
        snprintf(field, sizeof(field), "%s.name", at);
        if (name && !name_is_dns1123_label(name))
            invalid(causes, field, name, name_dns1123_label_rule);
        else if (name && json_object_get(names, name))
            cause_add(causes, CAUSE_DUPLICATE, field, "Duplicate value: \"%s\"", name);
        if (name)
            json_object_set_new(names, name, json_true());
        snprintf(field, sizeof(field), "%s.image", at);
        if (!image || !*image)
            required(causes, field, NULL);
        check_ports(c, at, causes);
        check_mounts(spec, c, at, causes);
        check_probes(c, at, causes);
    }
}

static void check_pod_spec(const json_t *spec, const char *path, json_t *causes) {
    char field[PATH_BYTES_MAX];
    snprintf(field, sizeof(field), "%s.containers", path);
    const json_t *containers = json_object_get(spec, "containers");
    if (json_is_array(containers) && !json_array_size(containers))
        required(causes, field, NULL);
    json_t *names = json_object();
    check_containers(spec, "initContainers", path, names, causes);
    check_containers(spec, "containers", path, names, causes);
    json_decref(names);
}

/* Does a matchExpressions entry hold for labels? */
static bool expression_holds(const json_t *e, const json_t *labels) {
    const char *key = object_str(e, "key"), *op = object_str(e, "operator");
    if (!key || !op)
        return false;
    const json_t *have = json_object_get(labels, key);
    if (!strcmp(op, "Exists") || !strcmp(op, "DoesNotExist"))
        return (have != NULL) == (*op == 'E');
    const json_t *values = json_object_get(e, "values");
    bool among = false;
    for (size_t i = 0; have && !among && i < json_array_size(values); i++)
        among = json_equal(have, json_array_get(values, i));
    return among == !strcmp(op, "In");
}

static void check_selector(const json_t *object, json_t *causes) {
    const json_t *selector = object_at(object, "spec.selector");
    const json_t *match = json_object_get(selector, "matchLabels");
    const json_t *expressions = json_object_get(selector, "matchExpressions");
    const json_t *labels = object_at(object, "spec.template.metadata.labels");
    if (!json_is_object(selector))
        return;
    if (!json_object_size(match) && !json_array_size(expressions)) {
        cause_add(causes, CAUSE_INVALID, "spec.selector",
                  "Invalid value: {}: empty selector is invalid for %s",
                  object_str(object, "kind"));
        return;
    }
    check_labels(match, "spec.selector.matchLabels", causes);
    bool holds = !match || !json_object_size(match) || object_labels_match(match, labels);
    for (size_t i = 0; holds && i < json_array_size(expressions); i++)
        holds = expression_holds(json_array_get(expressions, i), labels);
    if (holds)
        return;
    char *shown = json_dumps(labels ? labels : json_null(), JSON_COMPACT | JSON_ENCODE_ANY);
    cause_add(causes, CAUSE_INVALID, "spec.template.metadata.labels",
              "Invalid value: %.400s: `selector` does not match template `labels`",
              shown ? shown : "null");
    free(shown);
}

static void check_replicas(const json_t *object, json_t *causes) {
    int64_t replicas = object_int(object, "spec.replicas", 0);
    if (replicas < 0)
        cause_add(causes, CAUSE_INVALID, "spec.replicas",
                  "Invalid value: %lld: must be greater than or equal to 0", (long long)replicas);
}

static void check_template(const json_t *object, json_t *causes) {
    check_replicas(object, causes);
    check_selector(object, causes);
    check_labels(object_at(object, "spec.template.metadata.labels"), "spec.template.labels",
                 causes);
    check_pod_spec(object_at(object, "spec.template.spec"), "spec.template.spec", causes);
    const char *policy = object_str(object, "spec.template.spec.restartPolicy");
    if (policy && strcmp(policy, "Always") != 0)
        cause_add(causes, CAUSE_NOT_SUPPORTED, "spec.template.spec.restartPolicy",
                  "Unsupported value: \"%s\": supported values: \"Always\"", policy);
}

static void check_deployment(const json_t *object, json_t *causes) {
    static const char field[] = "spec.strategy.rollingUpdate";
    const char *type = object_str(object, "spec.strategy.type");
    const char *unavailable = object_str(object, "spec.strategy.rollingUpdate.maxUnavailable");
    int64_t deadline = object_int(object, "spec.progressDeadlineSeconds", INT32_MAX);
    int64_t min_ready = object_int(object, "spec.minReadySeconds", 0);
    bool recreate = type && !strcmp(type, "Recreate");
    if (type && !recreate && strcmp(type, "RollingUpdate") != 0)
        cause_add(causes, CAUSE_NOT_SUPPORTED, "spec.strategy.type",
                  "Unsupported value: \"%.64s\": supported values: \"Recreate\", "
                  "\"RollingUpdate\"",
                  type);
    if (recreate && object_at(object, field))
        cause_add(causes, CAUSE_FORBIDDEN, field,
                  "Forbidden: may not be specified when strategy `type` is 'Recreate'");
    if (unavailable && strtol(unavailable, NULL, 10) > 100)
        cause_add(causes, CAUSE_INVALID, "spec.strategy.rollingUpdate.maxUnavailable",
                  "Invalid value: \"%.64s\": must not be greater than 100%%", unavailable);
    if (deadline <= min_ready)
        cause_add(causes, CAUSE_INVALID, "spec.progressDeadlineSeconds",
                  "Invalid value: %lld: must be greater than minReadySeconds", (long long)deadline);
}

/* ConfigMap and Secret keys are file names. */
static void check_data(const json_t *object, const char *member, json_t *causes) {
    const char *key;
    json_t *value;
    size_t bytes = 0;
    json_object_foreach (json_object_get(object, member), key, value) {
        bytes += json_string_length(value);
        char field[PATH_BYTES_MAX];
        snprintf(field, sizeof(field), "%s[%.120s]", member, key);
        if (!*key || strlen(key) > NAME_SUBDOMAIN_BYTES_MAX || !strcmp(key, ".") ||
            !strncmp(key, "..", 2) ||
            key[strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")])
            invalid(causes, field, key,
                    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' "
                    "(e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation "
                    "is '[-._a-zA-Z0-9]+')");
    }
    if (bytes > DATA_BYTES_MAX * 4 / 3)
        cause_add(causes, "FieldValueTooLong", member, "Too long: may not be more than %d bytes",
                  DATA_BYTES_MAX);
}

static void check_base64(const json_t *object, const char *member, json_t *causes) {
    const char *key;
    json_t *value;
    json_object_foreach (json_object_get(object, member), key, value) {
        const char *text = json_string_value(value);
        char field[PATH_BYTES_MAX];
        snprintf(field, sizeof(field), "%s.%.120s", member, key);
        if (text && !base64_check(text, json_string_length(value)))
            cause_add(causes, CAUSE_INVALID, field, "Invalid value: illegal base64 data");
    }
}

static void check_service(const json_t *object, json_t *causes) {
    const char *type = object_str(object, "spec.type");
    const char *ip = object_str(object, "spec.clusterIP");
    const json_t *ports = object_at(object, "spec.ports");
    bool external = type && !strcmp(type, "ExternalName");
    bool headless = ip && !strcmp(ip, "None");
    if (!external && !headless && !json_array_size(ports))
        required(causes, "spec.ports", NULL);
    for (size_t i = 0; i < json_array_size(ports); i++) {
        int64_t port = object_int(json_array_get(ports, i), "port", 0);
        char field[PATH_BYTES_MAX];
        snprintf(field, sizeof(field), "spec.ports[%zu].port", i);
        if (port < 1 || port > 65535)
            cause_add(causes, CAUSE_INVALID, field,
                      "Invalid value: %lld: must be between 1 and 65535, inclusive",
                      (long long)port);
        const char *name = object_str(json_array_get(ports, i), "name");
        snprintf(field, sizeof(field), "spec.ports[%zu].name", i);
        if (json_array_size(ports) > 1 && (!name || !*name))
            required(causes, field, NULL);
        else if (name && *name && !name_is_dns1123_label(name))
            invalid(causes, field, name, name_dns1123_label_rule);
    }
}

void validate_object(const struct kind *kind, const json_t *object, json_t *causes) {
    if (!kind->built_in)
        return;
    if (!strcmp(kind->kind, "Pod")) {
        const json_t *spec = json_object_get(object, "spec");
        if (!json_is_object(spec))
            required(causes, "spec.containers", NULL);
        else
            check_pod_spec(spec, "spec", causes);
    } else if (!strcmp(kind->kind, "Deployment") || !strcmp(kind->kind, "ReplicaSet")) {
        if (json_is_object(json_object_get(object, "spec"))) {
            check_template(object, causes);
            if (*kind->kind == 'D')
                check_deployment(object, causes);
        } else {
            required(causes, "spec.selector", NULL);
            required(causes, "spec.template", NULL);
        }
    } else if (!strcmp(kind->kind, "Service")) {
        check_service(object, causes);
    } else if (!strcmp(kind->kind, "ConfigMap")) {
        check_data(object, "data", causes);
        check_data(object, "binaryData", causes);
        check_base64(object, "binaryData", causes);
    } else if (!strcmp(kind->kind, "Secret")) {
        check_data(object, "data", causes);
        check_base64(object, "data", causes);
    } else if (validate_is_rbac(kind)) {
        validate_rbac(kind, object, causes);
    } else {
        policy_validate(kind, object, causes);
    }
}

static void immutable(const json_t *object, const json_t *old, const char *path, json_t *causes) {
    const json_t *now = object_at(object, path), *was = object_at(old, path);
    if (now == was || (now && was && json_equal(now, was)))
        return;
    char *shown = json_dumps(now ? now : json_null(), JSON_COMPACT | JSON_ENCODE_ANY);
    cause_add(causes, CAUSE_INVALID, path, "Invalid value: %.300s: field is immutable",
              shown ? shown : "null");
    free(shown);
}

/* A Pod's spec is fixed, but for images, tolerations that are added, and the deadline. */
static void check_pod_update(const json_t *object, const json_t *old, json_t *causes) {
    json_t *now = json_deep_copy(json_object_get(object, "spec"));
    const json_t *was = json_object_get(old, "spec");
    static const char *const lists[] = {"containers", "initContainers"};
    for (size_t l = 0; l < ARRAY_LEN(lists); l++) {
        const json_t *before = json_object_get(was, lists[l]);
        json_t *after = json_object_get(now, lists[l]);
        for (size_t i = 0; i < json_array_size(after) && i < json_array_size(before); i++) {
            json_t *image = json_object_get(json_array_get(before, i), "image");
            if (image && json_is_object(json_array_get(after, i)))
                json_object_set(json_array_get(after, i), "image", image);
        }
    }
    static const char *const free_fields[] = {"tolerations", "activeDeadlineSeconds",
                                              "terminationGracePeriodSeconds", "nodeName"};
    for (size_t i = 0; i < ARRAY_LEN(free_fields); i++) {
        json_t *before = json_object_get(was, free_fields[i]);
        if (!strcmp(free_fields[i], "nodeName") && before)
            continue; /* it can be given once, by a scheduler */
        if (before)
            json_object_set(now, free_fields[i], before);
        else
            json_object_del(now, free_fields[i]);
    }
    if (!json_equal(now, was))
        cause_add(causes, CAUSE_FORBIDDEN, "spec",
                  "Forbidden: pod updates may not change fields other than "
                  "`spec.containers[*].image`,`spec.initContainers[*].image`,"
                  "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing "
                  "tolerations)");
    json_decref(now);
}

void validate_update(const struct kind *kind, const json_t *object, const json_t *old,
                     json_t *causes) {
    if (!kind->built_in)
        return;
    if (!strcmp(kind->kind, "Pod")) {
        check_pod_update(object, old, causes);
    } else if (!strcmp(kind->kind, "Deployment") || !strcmp(kind->kind, "ReplicaSet")) {
        immutable(object, old, "spec.selector", causes);
    } else if (!strcmp(kind->kind, "Service")) {
        const char *type = object_str(object, "spec.type");
        if (object_str(old, "spec.clusterIP") && type && strcmp(type, "ExternalName") != 0)
            immutable(object, old, "spec.clusterIP", causes);
    } else if (!strcmp(kind->kind, "Secret")) {
        immutable(object, old, "type", causes);
    } else if (validate_is_rbac(kind)) {
        validate_rbac_update(kind, object, old, causes);
    } else {
        policy_validate_update(kind, object, old, causes);
    }
    bool frozen = object_bool(old, "immutable", false);
    if (frozen && (!strcmp(kind->kind, "ConfigMap") || !strcmp(kind->kind, "Secret"))) {
        immutable(object, old, "data", causes);
        immutable(object, old, "binaryData", causes);
        immutable(object, old, "immutable", causes);
    }
}
