/* Rules beyond the schema: names, labels, and what the parts of a built-in object owe each other.
 */
#include "kube-compat/validate.h"

#include <stdio.h>

#include "core/object.h"
#include "kube-compat/names.h"
#include "kube-compat/policy_rules.h"
#include "kube-compat/selector.h"
#include "kube-compat/validate_parts.h"
#include "kube-compat/validate_rbac.h"

enum { ANNOTATIONS_BYTES_MAX = 256 << 10 };

void validate_invalid(json_t *causes, const char *field, const char *value, const char *why) {
    cause_add(causes, CAUSE_INVALID, field, "Invalid value: \"%.253s\": %s", value, why);
}

void validate_required(json_t *causes, const char *field, const char *why) {
    cause_add(causes, CAUSE_REQUIRED, field, "Required value%s%s", why ? ": " : "", why ? why : "");
}

void validate_labels(const json_t *labels, const char *field, json_t *causes) {
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)(uintptr_t)labels, key, value) {
        if (!name_is_qualified(key))
            validate_invalid(causes, field, key, name_qualified_rule);
        const char *text = json_string_value(value);
        if (text && !name_is_label_value(text))
            validate_invalid(causes, field, text, name_label_value_rule);
    }
}

static void check_annotations(const json_t *annotations, json_t *causes) {
    size_t bytes = 0;
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)(uintptr_t)annotations, key, value) {
        bytes += strlen(key) + json_string_length(value);
        if (!name_is_qualified(key))
            validate_invalid(causes, "metadata.annotations", key, name_qualified_rule);
    }
    if (bytes > ANNOTATIONS_BYTES_MAX)
        cause_add(causes, "FieldValueTooLong", "metadata.annotations",
                  "Too long: may not be more than %d bytes", ANNOTATIONS_BYTES_MAX);
}

void validate_metadata(const struct kind *kind, const json_t *object, json_t *causes) {
    const char *name = object_name(object);
    if (!name || !*name) {
        validate_required(causes, "metadata.name", "name or generateName is required");
    } else if (kind->name_rule == KIND_NAME_LABEL) {
        bool service = !strcmp(kind->plural, "services") && kind->built_in;
        if (service ? !name_is_dns1035_label(name) : !name_is_dns1123_label(name))
            validate_invalid(causes, "metadata.name", name,
                             service ? name_dns1035_label_rule : name_dns1123_label_rule);
    } else if (kind->name_rule == KIND_NAME_ANY ? !name_is_path_segment(name)
                                                : !name_is_dns1123_subdomain(name)) {
        validate_invalid(causes, "metadata.name", name,
                         kind->name_rule == KIND_NAME_ANY ? name_path_segment_rule
                                                          : name_dns1123_subdomain_rule);
    }
    validate_labels(object_at(object, "metadata.labels"), "metadata.labels", causes);
    check_annotations(object_at(object, "metadata.annotations"), causes);
    const json_t *finalizers = object_at(object, "metadata.finalizers");
    for (size_t i = 0; i < json_array_size(finalizers); i++) {
        const char *f = json_string_value(json_array_get(finalizers, i));
        if (f && !name_is_qualified(f))
            validate_invalid(causes, "metadata.finalizers", f, name_qualified_rule);
    }
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
    validate_labels(match, "spec.selector.matchLabels", causes);
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
    validate_labels(object_at(object, "spec.template.metadata.labels"), "spec.template.labels",
                    causes);
    validate_pod_spec(object_at(object, "spec.template.spec"), "spec.template.spec", causes);
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

void validate_object(const struct kind *kind, const json_t *object, json_t *causes) {
    if (!kind->built_in)
        return;
    if (!strcmp(kind->kind, "Pod")) {
        const json_t *spec = json_object_get(object, "spec");
        if (!json_is_object(spec))
            validate_required(causes, "spec.containers", NULL);
        else
            validate_pod_spec(spec, "spec", causes);
    } else if (!strcmp(kind->kind, "Deployment") || !strcmp(kind->kind, "ReplicaSet")) {
        if (json_is_object(json_object_get(object, "spec"))) {
            check_template(object, causes);
            if (*kind->kind == 'D')
                check_deployment(object, causes);
        } else {
            validate_required(causes, "spec.selector", NULL);
            validate_required(causes, "spec.template", NULL);
        }
    } else if (!strcmp(kind->kind, "Service")) {
        validate_service(object, causes);
    } else if (!strcmp(kind->kind, "ConfigMap")) {
        validate_config_map(object, causes);
    } else if (!strcmp(kind->kind, "Secret")) {
        validate_secret(object, causes);
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

void validate_update(const struct kind *kind, const json_t *object, const json_t *old,
                     json_t *causes) {
    if (!kind->built_in)
        return;
    if (!strcmp(kind->kind, "Pod")) {
        validate_pod_update(kind, object, old, causes);
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
    if (!strcmp(kind->kind, "ConfigMap") || !strcmp(kind->kind, "Secret"))
        validate_frozen(object, old, causes);
}
