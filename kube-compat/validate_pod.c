/* Pod specs: what their parts owe each other. The texts are those of the reference server.
 * What a resource may be asked for is here, too; whether there is enough of it is the scheduler's,
 * and whether it may be asked for is core/control/admission.c's. */
#include "kube-compat/validate_parts.h"

#include <stdio.h>

#include "core/object.h"
#include "core/quantity.h"
#include "kube-compat/names.h"
#include "kube-compat/validate.h"

enum { PATH_BYTES_MAX = 192, PORT_MAX = 65535 };

static const char port_rule[] = "must be between 1 and 65535, inclusive";

/* A name of an item of a list must be new: names is what came before. */
static void must_be_new(json_t *names, const char *name, const char *field, json_t *causes) {
    if (!name || !*name)
        return;
    if (json_object_get(names, name))
        cause_add(causes, CAUSE_DUPLICATE, field, "Duplicate value: \"%.253s\"", name);
    json_object_set_new(names, name, json_true());
}

static void check_number(const json_t *o, const char *key, const char *path, int64_t min,
                         json_t *causes) {
    const json_t *value = json_object_get(o, key);
    char field[VALIDATE_FIELD_BYTES_MAX];
    snprintf(field, sizeof(field), "%s.%s", path, key);
    if (!json_is_integer(value) || json_integer_value(value) >= min)
        return;
    if (min)
        cause_add(causes, CAUSE_INVALID, field,
                  "Invalid value: %lld: must be between %lld and 2147483647, inclusive",
                  (long long)json_integer_value(value), (long long)min);
    else
        cause_add(causes, CAUSE_INVALID, field,
                  "Invalid value: %lld: must be greater than or equal to 0",
                  (long long)json_integer_value(value));
}

static void check_ports(const json_t *container, const char *path, json_t *causes) {
    const json_t *ports = json_object_get(container, "ports");
    json_t *names = json_object();
    for (size_t i = 0; i < json_array_size(ports); i++) {
        const json_t *p = json_array_get(ports, i);
        int64_t port = object_int(p, "containerPort", 0);
        const char *name = object_str(p, "name");
        const char *why = name && *name ? name_port_fault(name) : NULL;
        char field[VALIDATE_FIELD_BYTES_MAX];
        snprintf(field, sizeof(field), "%s.ports[%zu].containerPort", path, i);
        if (port < 1 || port > PORT_MAX)
            cause_add(causes, CAUSE_INVALID, field, "Invalid value: %lld: %s", (long long)port,
                      port_rule);
        snprintf(field, sizeof(field), "%s.ports[%zu].name", path, i);
        if (why)
            validate_invalid(causes, field, name, why);
        else
            must_be_new(names, name, field, causes);
    }
    json_decref(names);
}

/* Is the volume of a mount among the pod's volumes? */
static void check_mounts(const json_t *spec, const json_t *container, const char *path,
                         json_t *causes) {
    const json_t *mounts = json_object_get(container, "volumeMounts");
    const json_t *volumes = json_object_get(spec, "volumes");
    json_t *places = json_object();
    for (size_t i = 0; i < json_array_size(mounts); i++) {
        const char *name = object_str(json_array_get(mounts, i), "name");
        bool found = !name;
        for (size_t j = 0; !found && j < json_array_size(volumes); j++) {
            const char *have = object_str(json_array_get(volumes, j), "name");
            found = have && !strcmp(have, name);
        }
        char field[VALIDATE_FIELD_BYTES_MAX];
        snprintf(field, sizeof(field), "%s.volumeMounts[%zu].name", path, i);
        if (!found)
            cause_add(causes, CAUSE_NOT_FOUND, field, "Not found: \"%s\"", name);
        const char *place = object_str(json_array_get(mounts, i), "mountPath");
        snprintf(field, sizeof(field), "%s.volumeMounts[%zu].mountPath", path, i);
        if (!place || !*place)
            validate_required(causes, field, NULL);
        else if (json_object_get(places, place))
            validate_invalid(causes, field, place, "must be unique");
        else
            json_object_set_new(places, place, json_true());
    }
    json_decref(places);
}

/* The port of an httpGet or tcpSocket: a number or the name of a container's port. */
static void check_action_port(const json_t *action, const char *at, json_t *causes) {
    const json_t *port = json_object_get(action, "port");
    char field[VALIDATE_FIELD_BYTES_MAX + 8];
    snprintf(field, sizeof(field), "%s.port", at);
    if (!port)
        validate_required(causes, field, NULL);
    else if (json_is_integer(port) &&
             (json_integer_value(port) < 1 || json_integer_value(port) > PORT_MAX))
        cause_add(causes, CAUSE_INVALID, field, "Invalid value: %lld: %s",
                  (long long)json_integer_value(port), port_rule);
}

static void check_probe(const json_t *probe, const char *at, json_t *causes) {
    static const char *const handlers[] = {"exec", "httpGet", "tcpSocket", "grpc"};
    static const char *const numbers[] = {"initialDelaySeconds", "timeoutSeconds", "periodSeconds",
                                          "successThreshold", "failureThreshold"};
    size_t num = 0;
    for (size_t h = 0; h < ARRAY_LEN(handlers); h++) {
        const json_t *action = json_object_get(probe, handlers[h]);
        char field[VALIDATE_FIELD_BYTES_MAX];
        snprintf(field, sizeof(field), "%s.%s", at, handlers[h]);
        if (!action)
            continue;
        if (num++)
            cause_add(causes, CAUSE_FORBIDDEN, field,
                      "Forbidden: may not specify more than 1 handler type");
        if (h)
            check_action_port(action, field, causes);
    }
    if (!num)
        validate_required(causes, at, "must specify a handler type");
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        check_number(probe, numbers[i], at, 0, causes);
}

static void check_probes(const json_t *container, const char *path, json_t *causes) {
    static const char *const probes[] = {"livenessProbe", "readinessProbe", "startupProbe"};
    for (size_t i = 0; i < ARRAY_LEN(probes); i++) {
        const json_t *probe = json_object_get(container, probes[i]);
        char at[PATH_BYTES_MAX];
        snprintf(at, sizeof(at), "%.160s.%s", path, probes[i]);
        if (json_is_object(probe))
            check_probe(probe, at, causes);
    }
}

static void check_env(const json_t *container, const char *path, json_t *causes) {
    static const char *const sources[] = {"fieldRef", "resourceFieldRef", "configMapKeyRef",
                                          "secretKeyRef"};
    size_t i;
    json_t *e;
    json_array_foreach (json_object_get(container, "env"), i, e) {
        const json_t *from = json_object_get(e, "valueFrom");
        const char *name = object_str(e, "name"), *value = object_str(e, "value");
        char field[VALIDATE_FIELD_BYTES_MAX];
        size_t num = 0;
        snprintf(field, sizeof(field), "%s.env[%zu].name", path, i);
        if (name && !*name)
            validate_required(causes, field, NULL);
        for (const char *p = name; p && *p; p++) {
            if (*p >= ' ' && *p <= '~' && *p != '=')
                continue;
            validate_invalid(causes, field, name,
                             "a valid environment variable name must consist only of printable "
                             "ASCII characters other than '='");
            break;
        }
        for (size_t s = 0; s < ARRAY_LEN(sources); s++)
            num += json_object_get(from, sources[s]) != NULL;
        snprintf(field, sizeof(field), "%s.env[%zu].valueFrom", path, i);
        if (from && !num)
            validate_invalid(causes, field, "",
                             "must specify one of: `fieldRef`, `resourceFieldRef`, "
                             "`configMapKeyRef` or `secretKeyRef`");
        else if (num > 1)
            validate_invalid(causes, field, "",
                             "may not have more than one field specified at a time");
        else if (from && value && *value)
            validate_invalid(causes, field, "", "may not be specified when `value` is not empty");
    }
}

static bool is_container_resource(const char *name) {
    return strchr(name, '/') || !strcmp(name, "cpu") || !strcmp(name, "memory") ||
           !strcmp(name, "ephemeral-storage") || !strncmp(name, "hugepages-", 10);
}

/* GPUs are not divided, and what is asked for is what is given. */
static void check_extended(const json_t *resources, const char *list, const char *name,
                           const json_t *value, const char *field, json_t *causes) {
    const json_t *limit = json_object_get(json_object_get(resources, "limits"), name);
    int64_t milli, limit_milli;
    if (!quantity_milli(value, &milli))
        return; /* admission says so */
    if (milli % 1000)
        validate_invalid(causes, field, json_string_value(value) ? json_string_value(value) : "",
                         "must be an integer");
    if (strcmp(list, "requests") != 0)
        return;
    if (!limit)
        cause_add(causes, CAUSE_REQUIRED, field,
                  "Required value: Limit must be set for non overcommitable resources");
    else if (quantity_milli(limit, &limit_milli) && limit_milli != milli)
        cause_add(causes, CAUSE_INVALID, field, "Invalid value: \"%s\": must be equal to %s limit",
                  json_string_value(value) ? json_string_value(value) : "", name);
}

static void check_resources(const json_t *container, const char *path, json_t *causes) {
    static const char *const lists[] = {"limits", "requests"};
    const json_t *resources = json_object_get(container, "resources");
    for (size_t l = 0; l < ARRAY_LEN(lists); l++) {
        const char *name;
        json_t *value;
        json_object_foreach (json_object_get(resources, lists[l]), name, value) {
            char field[VALIDATE_FIELD_BYTES_MAX];
            snprintf(field, sizeof(field), "%s.resources.%s[%.120s]", path, lists[l], name);
            if (!name_is_qualified(name))
                validate_invalid(causes, field, name, name_qualified_rule);
            else if (!is_container_resource(name))
                validate_invalid(causes, field, name,
                                 "must be a standard resource type or fully qualified");
            else if (strchr(name, '/'))
                check_extended(resources, lists[l], name, value, field, causes);
        }
    }
}

static void check_volumes(const json_t *spec, const char *path, json_t *causes) {
    json_t *names = json_object(), *v, *source;
    size_t i;
    json_array_foreach (json_object_get(spec, "volumes"), i, v) {
        const char *name = object_str(v, "name"), *key;
        char at[PATH_BYTES_MAX], field[VALIDATE_FIELD_BYTES_MAX];
        size_t num = 0;
        snprintf(at, sizeof(at), "%s.volumes[%zu]", path, i);
        snprintf(field, sizeof(field), "%s.name", at);
        if (name && !name_is_dns1123_label(name))
            validate_invalid(causes, field, name, name_dns1123_label_rule);
        else
            must_be_new(names, name, field, causes);
        json_object_foreach (v, key, source) {
            if (!strcmp(key, "name") || json_is_null(source) || !num++)
                continue;
            snprintf(field, sizeof(field), "%s.%.64s", at, key);
            cause_add(causes, CAUSE_FORBIDDEN, field,
                      "Forbidden: may not specify more than 1 volume type");
        }
        if (!num)
            validate_required(causes, at, "must specify a volume type");
    }
    json_decref(names);
}

static void check_tolerations(const json_t *spec, const char *path, json_t *causes) {
    size_t i;
    json_t *t;
    json_array_foreach (json_object_get(spec, "tolerations"), i, t) {
        const char *key = object_str(t, "key"), *op = object_str(t, "operator");
        const char *value = object_str(t, "value"), *effect = object_str(t, "effect");
        bool exists = op && !strcmp(op, "Exists");
        char field[VALIDATE_FIELD_BYTES_MAX];
        snprintf(field, sizeof(field), "%s.tolerations[%zu].key", path, i);
        if (key && *key && !name_is_qualified(key))
            validate_invalid(causes, field, key, name_qualified_rule);
        snprintf(field, sizeof(field), "%s.tolerations[%zu].operator", path, i);
        if ((!key || !*key) && !exists)
            validate_invalid(causes, field, op ? op : "",
                             "operator must be Exists when `key` is empty, which means \"match all "
                             "values and all keys\"");
        if (exists && value && *value)
            validate_invalid(causes, field, value,
                             "value must be empty when `operator` is 'Exists'");
        snprintf(field, sizeof(field), "%s.tolerations[%zu].effect", path, i);
        if (json_object_get(t, "tolerationSeconds") &&
            (!effect || strcmp(effect, "NoExecute") != 0))
            validate_invalid(causes, field, effect ? effect : "",
                             "effect must be 'NoExecute' when `tolerationSeconds` is set");
    }
}

/* Numbers and names of the spec itself. */
static void check_scalars(const json_t *spec, const char *path, json_t *causes) {
    static const char *const labels[] = {"hostname", "subdomain"};
    const char *account = object_str(spec, "serviceAccountName");
    char field[VALIDATE_FIELD_BYTES_MAX];
    check_number(spec, "terminationGracePeriodSeconds", path, 0, causes);
    check_number(spec, "activeDeadlineSeconds", path, 1, causes);
    snprintf(field, sizeof(field), "%s.serviceAccountName", path);
    if (account && *account && !name_is_dns1123_subdomain(account))
        validate_invalid(causes, field, account, name_dns1123_subdomain_rule);
    for (size_t i = 0; i < ARRAY_LEN(labels); i++) {
        const char *name = object_str(spec, labels[i]);
        snprintf(field, sizeof(field), "%s.%s", path, labels[i]);
        if (name && *name && !name_is_dns1123_label(name))
            validate_invalid(causes, field, name, name_dns1123_label_rule);
    }
    snprintf(field, sizeof(field), "%s.nodeSelector", path);
    validate_labels(json_object_get(spec, "nodeSelector"), field, causes);
}

static void check_containers(const json_t *spec, const char *list_name, const char *path,
                             json_t *names, json_t *causes) {
    const json_t *list = json_object_get(spec, list_name);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *c = json_array_get(list, i);
        const char *name = object_str(c, "name"), *image = object_str(c, "image");
        char at[PATH_BYTES_MAX], field[VALIDATE_FIELD_BYTES_MAX];
        snprintf(at, sizeof(at), "%s.%s[%zu]", path, list_name, i);
        snprintf(field, sizeof(field), "%s.name", at);
        if (name && !name_is_dns1123_label(name))
            validate_invalid(causes, field, name, name_dns1123_label_rule);
        else if (name && json_object_get(names, name))
            cause_add(causes, CAUSE_DUPLICATE, field, "Duplicate value: \"%s\"", name);
        if (name)
            json_object_set_new(names, name, json_true());
        snprintf(field, sizeof(field), "%s.image", at);
        if (!image || !*image)
            validate_required(causes, field, NULL);
        check_ports(c, at, causes);
        check_mounts(spec, c, at, causes);
        check_probes(c, at, causes);
        check_env(c, at, causes);
        check_resources(c, at, causes);
    }
}

void validate_pod_spec(const json_t *spec, const char *path, json_t *causes) {
    char field[PATH_BYTES_MAX];
    snprintf(field, sizeof(field), "%s.containers", path);
    const json_t *containers = json_object_get(spec, "containers");
    if (json_is_array(containers) && !json_array_size(containers))
        validate_required(causes, field, NULL);
    check_volumes(spec, path, causes);
    check_tolerations(spec, path, causes);
    check_scalars(spec, path, causes);
    json_t *names = json_object();
    check_containers(spec, "initContainers", path, names, causes);
    check_containers(spec, "containers", path, names, causes);
    json_decref(names);
}

/* A Pod's spec is fixed, but for images, tolerations that are added, and the deadline. A pod that a
 * controller made lacks some defaults, which an update fills in: that is no change. */
void validate_pod_update(const struct kind *kind, const json_t *object, const json_t *old,
                         json_t *causes) {
    json_t *now = json_deep_copy(json_object_get(object, "spec"));
    json_t *before_update = json_deep_copy(old);
    defaults_apply(kind, before_update, NULL);
    const json_t *was = json_object_get(before_update, "spec");
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
    json_decref(before_update);
    json_decref(now);
}
