/* Rules of the kinds that bound others. The texts are those of the reference server.
 *
 * A quantity is written in its canonical form wherever it stands, so that comparing texts is
 * comparing amounts. What a quota counts and what a class is worth is core/control/admission.c's.
 */
#include "kube-compat/policy_rules.h"

#include <stdio.h>

#include "core/object.h"
#include "core/quantity.h"
#include "kube-compat/names.h"

enum { PATH_BYTES_MAX = 256, USER_PRIORITY_MAX = 1000000000, PERCENT_MAX = 100 };

static bool is_kind(const struct kind *kind, const char *group, const char *name) {
    return kind->built_in && !strcmp(kind->group, group) && !strcmp(kind->kind, name);
}

static bool among(const char *text, const char *const *list) {
    for (; text && *list; list++) {
        if (!strcmp(text, *list))
            return true;
    }
    return false;
}

static void must_be_one_of(json_t *causes, const char *field, const char *text,
                           const char *const *list) {
    AUTO_BUF known = BUF_INIT;
    if (!text || among(text, list))
        return;
    for (size_t i = 0; list[i]; i++)
        buf_printf(&known, "%s\"%s\"", i ? ", " : "", list[i]);
    cause_add(causes, CAUSE_NOT_SUPPORTED, field,
              "Unsupported value: \"%.64s\": supported values: %s", text, known.data);
}

/* Defaults. */

/* Copies what `to` lacks. */
static void fill(json_t *item, const char *to, const char *from) {
    const char *key;
    json_t *value;
    json_object_foreach (json_object_get(item, from), key, value) {
        json_t *map = json_object_get(item, to);
        if (!json_is_object(map))
            json_object_set_new(item, to, map = json_object());
        if (!json_object_get(map, key))
            json_object_set(map, key, value);
    }
}

static void default_limit_range(json_t *o) {
    static const char *const maps[] = {"max", "min", "default", "defaultRequest",
                                       "maxLimitRequestRatio"};
    size_t i;
    json_t *item;
    json_array_foreach (object_at(o, "spec.limits"), i, item) {
        const char *type = object_str(item, "type");
        for (size_t m = 0; m < ARRAY_LEN(maps); m++)
            object_canonical_quantities(json_object_get(item, maps[m]));
        if (!type || strcmp(type, "Container") != 0)
            continue;
        fill(item, "default", "max");
        fill(item, "defaultRequest", "default");
        fill(item, "defaultRequest", "min");
    }
}

static void default_rules(json_t *behavior, const char *direction, const char *policies) {
    json_t *rules = json_object_get(behavior, direction);
    if (!json_is_object(rules))
        json_object_set_new(behavior, direction, rules = json_object());
    if (!strcmp(direction, "scaleUp") && !json_object_get(rules, "stabilizationWindowSeconds"))
        json_object_set_new(rules, "stabilizationWindowSeconds", json_integer(0));
    if (!json_object_get(rules, "selectPolicy"))
        json_object_set_new(rules, "selectPolicy", json_string("Max"));
    if (!json_array_size(json_object_get(rules, "policies")))
        json_object_set_new(rules, "policies", json_loads(policies, 0, NULL));
}

static void default_autoscaler(json_t *o) {
    json_t *spec = json_object_get(o, "spec"), *behavior = json_object_get(spec, "behavior");
    if (json_is_object(spec) && !json_object_get(spec, "minReplicas"))
        json_object_set_new(spec, "minReplicas", json_integer(1));
    if (json_is_object(spec) && !json_array_size(json_object_get(spec, "metrics")))
        json_object_set_new(spec, "metrics",
                            json_pack("[{s:s, s:{s:s, s:{s:s, s:i}}}]", "type", "Resource",
                                      "resource", "name", "cpu", "target", "type", "Utilization",
                                      "averageUtilization", 80));
    if (!json_is_object(behavior))
        return;
    default_rules(behavior, "scaleUp",
                  "[{\"type\": \"Pods\", \"value\": 4, \"periodSeconds\": 15},"
                  " {\"type\": \"Percent\", \"value\": 100, \"periodSeconds\": 15}]");
    default_rules(behavior, "scaleDown",
                  "[{\"type\": \"Percent\", \"value\": 100, \"periodSeconds\": 15}]");
}

bool policy_defaults_new(const struct kind *kind, json_t *object) {
    if (is_kind(kind, "", "ResourceQuota")) {
        object_set(object, "status", json_object());
    } else if (is_kind(kind, "policy", "PodDisruptionBudget")) {
        object_set(object, "status",
                   json_pack("{s:i, s:i, s:i, s:i}", "currentHealthy", 0, "desiredHealthy", 0,
                             "disruptionsAllowed", 0, "expectedPods", 0));
    } else if (is_kind(kind, "autoscaling", "HorizontalPodAutoscaler")) {
        object_set(object, "status",
                   json_pack("{s:i, s:i}", "currentReplicas", 0, "desiredReplicas", 0));
    } else {
        return false;
    }
    return true;
}

void policy_defaults(const struct kind *kind, json_t *object) {
    if (is_kind(kind, "", "ResourceQuota")) {
        object_canonical_quantities(object_at(object, "spec.hard"));
    } else if (is_kind(kind, "", "LimitRange")) {
        default_limit_range(object);
    } else if (is_kind(kind, "scheduling.k8s.io", "PriorityClass")) {
        if (!json_object_get(object, "value"))
            json_object_set_new(object, "value", json_integer(0));
        if (!object_str(object, "preemptionPolicy"))
            json_object_set_new(object, "preemptionPolicy", json_string("PreemptLowerPriority"));
    } else if (is_kind(kind, "autoscaling", "HorizontalPodAutoscaler")) {
        default_autoscaler(object);
    }
}

/* Quotas. */

static const char *const countable[] = {"pods",
                                        "services",
                                        "services.nodeports",
                                        "services.loadbalancers",
                                        "replicationcontrollers",
                                        "resourcequotas",
                                        "secrets",
                                        "configmaps",
                                        "persistentvolumeclaims",
                                        NULL};
static const char *const amounts[] = {"cpu", "memory", "ephemeral-storage", "storage", NULL};

/* What stands behind "requests." or "limits.", or the name itself. */
static const char *amount_name(const char *resource) {
    return !strncmp(resource, "requests.", 9) ? resource + 9
           : !strncmp(resource, "limits.", 7) ? resource + 7
                                              : resource;
}

static bool is_count(const char *resource) {
    return among(resource, countable) || !strncmp(resource, "count/", 6);
}

static void check_amount(const json_t *value, const char *field, bool whole, json_t *causes) {
    char shown[QUANTITY_BYTES_MAX];
    int64_t milli = 0;
    snprintf(shown, sizeof(shown), "%s", json_string_value(value) ? json_string_value(value) : "");
    if (!quantity_milli(value, &milli))
        cause_add(causes, CAUSE_INVALID, field,
                  "Invalid value: \"%s\": must be greater than or equal to 0", shown);
    else if (whole && milli % 1000)
        cause_add(causes, CAUSE_INVALID, field, "Invalid value: \"%s\": must be an integer", shown);
}

static void check_hard(const json_t *hard, json_t *causes) {
    const char *name;
    json_t *value;
    json_object_foreach ((json_t *)(uintptr_t)hard, name, value) {
        char field[PATH_BYTES_MAX];
        snprintf(field, sizeof(field), "spec.hard[%.150s]", name);
        if (!name_is_qualified(name))
            cause_add(causes, CAUSE_INVALID, field, "Invalid value: \"%.150s\": %s", name,
                      name_qualified_rule);
        else if (!strchr(name, '/') && !among(name, countable) &&
                 !among(amount_name(name), amounts))
            cause_add(causes, CAUSE_INVALID, field,
                      "Invalid value: \"%.150s\": must be a standard resource for quota", name);
        check_amount(value, field, is_count(name) || strchr(name, '/'), causes);
    }
}

static const char *const scopes[] = {"BestEffort",     "NotBestEffort", "Terminating",
                                     "NotTerminating", "PriorityClass", NULL};

/* A pod without requests can only be counted. */
static void check_best_effort(const json_t *hard, const char *field, json_t *causes) {
    const char *name;
    json_t *value;
    json_object_foreach ((json_t *)(uintptr_t)hard, name, value) {
        if (strcmp(name, "pods") != 0 && strcmp(name, "count/pods") != 0) {
            cause_add(causes, CAUSE_INVALID, field,
                      "Invalid value: \"BestEffort\": unsupported scope applied to resource");
            return;
        }
    }
}

static void check_selector_term(const json_t *term, size_t i, json_t *causes) {
    static const char *const operators[] = {"In", "NotIn", "Exists", "DoesNotExist", NULL};
    char field[PATH_BYTES_MAX];
    const char *scope = object_str(term, "scopeName"), *op = object_str(term, "operator");
    bool values = json_array_size(json_object_get(term, "values")) > 0;
    snprintf(field, sizeof(field), "spec.scopeSelector.matchExpressions[%zu].scopeName", i);
    must_be_one_of(causes, field, scope, scopes);
    snprintf(field, sizeof(field), "spec.scopeSelector.matchExpressions[%zu].operator", i);
    must_be_one_of(causes, field, op, operators);
    if (scope && op && strcmp(scope, "PriorityClass") != 0 && strcmp(op, "Exists") != 0)
        cause_add(causes, CAUSE_INVALID, field,
                  "Invalid value: \"%.32s\": must be 'Exist' when scope is any of "
                  "ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, "
                  "ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or "
                  "ResourceQuotaScopeCrossNamespacePodAffinity",
                  op);
    snprintf(field, sizeof(field), "spec.scopeSelector.matchExpressions[%zu].values", i);
    bool wants = op && (!strcmp(op, "In") || !strcmp(op, "NotIn"));
    if (wants && !values)
        cause_add(causes, CAUSE_REQUIRED, field,
                  "Required value: must be at least one value when `operator` is 'In' or 'NotIn' "
                  "for scope selector");
    else if (op && !wants && values)
        cause_add(causes, CAUSE_INVALID, field,
                  "Invalid value: must be no value when `operator` is 'Exist' or 'DoesNotExist' "
                  "for scope selector");
}

static void validate_quota(const json_t *o, json_t *causes) {
    const json_t *hard = object_at(o, "spec.hard"), *list = object_at(o, "spec.scopes");
    static const char *const pairs[][2] = {{"BestEffort", "NotBestEffort"},
                                           {"Terminating", "NotTerminating"}};
    json_t *seen = json_object(), *item;
    size_t i;
    check_hard(hard, causes);
    json_array_foreach (list, i, item) {
        must_be_one_of(causes, "spec.scopes", json_string_value(item), scopes);
        json_object_set_new(seen, json_string_value(item) ? json_string_value(item) : "",
                            json_true());
    }
    if (json_object_get(seen, "BestEffort"))
        check_best_effort(hard, "spec.scopes", causes);
    for (size_t p = 0; p < ARRAY_LEN(pairs); p++) {
        if (json_object_get(seen, pairs[p][0]) && json_object_get(seen, pairs[p][1]))
            cause_add(causes, CAUSE_INVALID, "spec.scopes",
                      "Invalid value: [\"%s\",\"%s\"]: conflicting scopes", pairs[p][0],
                      pairs[p][1]);
    }
    json_decref(seen);
    json_array_foreach (object_at(o, "spec.scopeSelector.matchExpressions"), i, item)
        check_selector_term(item, i, causes);
}

/* Limit ranges. */

/* The amounts of `low` must not be above those of `high`. */
static void check_order(const json_t *item, const char *field, const char *low, const char *high,
                        json_t *causes) {
    const char *name;
    json_t *value;
    json_object_foreach (json_object_get(item, low), name, value) {
        const json_t *limit = json_object_get(json_object_get(item, high), name);
        int64_t a, b;
        if (!limit || !quantity_milli(value, &a) || !quantity_milli(limit, &b) || a <= b)
            continue;
        char path[PATH_BYTES_MAX];
        snprintf(path, sizeof(path), "%s.%s[%.120s]", field, low, name);
        cause_add(causes, CAUSE_INVALID, path,
                  "Invalid value: \"%s\": %s value %s is greater than %s value %s",
                  json_string_value(value), low, json_string_value(value), high,
                  json_string_value(limit));
    }
}

static void check_limit_item(const json_t *item, size_t i, json_t *causes) {
    static const char *const maps[] = {"max", "min", "default", "defaultRequest"};
    static const char *const order[][2] = {{"min", "max"},
                                           {"min", "defaultRequest"},
                                           {"defaultRequest", "max"},
                                           {"defaultRequest", "default"},
                                           {"min", "default"},
                                           {"default", "max"}};
    char field[64], path[PATH_BYTES_MAX];
    const char *type = object_str(item, "type"), *name;
    json_t *value;
    snprintf(field, sizeof(field), "spec.limits[%zu]", i);
    for (size_t m = 0; m < ARRAY_LEN(maps); m++) {
        json_object_foreach (json_object_get(item, maps[m]), name, value) {
            snprintf(path, sizeof(path), "%s.%s[%.120s]", field, maps[m], name);
            check_amount(value, path, false, causes);
        }
    }
    for (size_t m = 2; type && !strcmp(type, "Pod") && m < ARRAY_LEN(maps); m++) {
        snprintf(path, sizeof(path), "%s.%s", field, maps[m]);
        if (json_object_size(json_object_get(item, maps[m])))
            cause_add(causes, CAUSE_FORBIDDEN, path,
                      "Forbidden: may not be specified when `type` is 'Pod'");
    }
    for (size_t k = 0; k < ARRAY_LEN(order); k++)
        check_order(item, field, order[k][0], order[k][1], causes);
    json_object_foreach (json_object_get(item, "maxLimitRequestRatio"), name, value) {
        int64_t milli;
        snprintf(path, sizeof(path), "%s.maxLimitRequestRatio[%.120s]", field, name);
        if (!quantity_milli(value, &milli) || milli < 1000)
            cause_add(causes, CAUSE_INVALID, path, "Invalid value: \"%s\": ratio %s is less than 1",
                      json_string_value(value), json_string_value(value));
    }
}

static void validate_limit_range(const json_t *o, json_t *causes) {
    static const char *const types[] = {"Pod", "Container", "PersistentVolumeClaim", NULL};
    json_t *seen = json_object(), *item;
    size_t i;
    json_array_foreach (object_at(o, "spec.limits"), i, item) {
        const char *type = object_str(item, "type");
        char field[64];
        snprintf(field, sizeof(field), "spec.limits[%zu].type", i);
        must_be_one_of(causes, field, type, types);
        if (type && json_object_get(seen, type))
            cause_add(causes, CAUSE_DUPLICATE, field, "Duplicate value: \"%.64s\"", type);
        if (type)
            json_object_set_new(seen, type, json_true());
        check_limit_item(item, i, causes);
    }
    json_decref(seen);
}

/* Priority classes, budgets, autoscalers. */

static void validate_class(const json_t *o, json_t *causes) {
    static const char *const policies[] = {"PreemptLowerPriority", "Never", NULL};
    const char *name = object_name(o);
    bool ours =
        name && (!strcmp(name, "system-cluster-critical") || !strcmp(name, "system-node-critical"));
    if (name && !strncmp(name, "system-", 7) && !ours)
        cause_add(causes, CAUSE_FORBIDDEN, "metadata.name",
                  "Forbidden: priority class names with 'system-' prefix are reserved for system "
                  "use only");
    if (!ours && object_int(o, "value", 0) > USER_PRIORITY_MAX)
        cause_add(causes, CAUSE_FORBIDDEN, "value",
                  "Forbidden: maximum allowed value of a user defined priority is %d",
                  USER_PRIORITY_MAX);
    must_be_one_of(causes, "preemptionPolicy", object_str(o, "preemptionPolicy"), policies);
}

static void check_int_or_percent(const json_t *o, const char *field, json_t *causes) {
    const json_t *value = object_at(o, field);
    const char *text = json_string_value(value);
    if (text) {
        char *end;
        long percent = strtol(text, &end, 10);
        if (end == text || strcmp(end, "%") != 0)
            cause_add(causes, CAUSE_INVALID, field,
                      "Invalid value: \"%.64s\": a valid percent string must be a numeric string "
                      "followed by an ending '%%' (e.g. '1%%',  or '93%%', regex used for "
                      "validation is '[0-9]+%%')",
                      text);
        else if (percent < 0 || percent > PERCENT_MAX)
            cause_add(causes, CAUSE_INVALID, field,
                      "Invalid value: \"%.64s\": must not be greater than 100%%", text);
    } else if (json_is_integer(value) && json_integer_value(value) < 0) {
        cause_add(causes, CAUSE_INVALID, field,
                  "Invalid value: %lld: must be greater than or equal to 0",
                  (long long)json_integer_value(value));
    }
}

static void validate_budget(const json_t *o, json_t *causes) {
    static const char *const policies[] = {"IfHealthyBudget", "AlwaysAllow", NULL};
    if (object_at(o, "spec.minAvailable") && object_at(o, "spec.maxUnavailable"))
        cause_add(causes, CAUSE_INVALID, "spec",
                  "Invalid value: minAvailable and maxUnavailable cannot be both set");
    check_int_or_percent(o, "spec.minAvailable", causes);
    check_int_or_percent(o, "spec.maxUnavailable", causes);
    must_be_one_of(causes, "spec.unhealthyPodEvictionPolicy",
                   object_str(o, "spec.unhealthyPodEvictionPolicy"), policies);
}

static void check_metric(const json_t *metric, size_t i, json_t *causes) {
    static const char *const types[] = {"ContainerResource", "External", "Object", "Pods",
                                        "Resource",          NULL};
    static const char *const members[] = {"containerResource", "external", "object", "pods",
                                          "resource"};
    char field[64];
    const char *type = object_str(metric, "type");
    snprintf(field, sizeof(field), "spec.metrics[%zu].type", i);
    must_be_one_of(causes, field, type, types);
    for (size_t t = 0; type && types[t]; t++) {
        if (strcmp(types[t], type) != 0 || json_object_get(metric, members[t]))
            continue;
        snprintf(field, sizeof(field), "spec.metrics[%zu].%s", i, members[t]);
        cause_add(causes, CAUSE_REQUIRED, field,
                  "Required value: must populate information for the given metric source");
    }
}

static void validate_autoscaler(const json_t *o, json_t *causes) {
    int64_t min = object_int(o, "spec.minReplicas", 1), max = object_int(o, "spec.maxReplicas", 0);
    json_t *metric;
    size_t i;
    if (min < 1)
        cause_add(causes, CAUSE_INVALID, "spec.minReplicas",
                  "Invalid value: %lld: must be greater than or equal to 1", (long long)min);
    if (max < 1)
        cause_add(causes, CAUSE_INVALID, "spec.maxReplicas",
                  "Invalid value: %lld: must be greater than 0", (long long)max);
    if (max < min)
        cause_add(causes, CAUSE_INVALID, "spec.maxReplicas",
                  "Invalid value: %lld: must be greater than or equal to `minReplicas`",
                  (long long)max);
    json_array_foreach (object_at(o, "spec.metrics"), i, metric)
        check_metric(metric, i, causes);
}

void policy_validate(const struct kind *kind, const json_t *object, json_t *causes) {
    static const char *const address_types[] = {"FQDN", "IPv4", "IPv6", NULL};
    if (is_kind(kind, "", "ResourceQuota"))
        validate_quota(object, causes);
    else if (is_kind(kind, "", "LimitRange"))
        validate_limit_range(object, causes);
    else if (is_kind(kind, "scheduling.k8s.io", "PriorityClass"))
        validate_class(object, causes);
    else if (is_kind(kind, "policy", "PodDisruptionBudget"))
        validate_budget(object, causes);
    else if (is_kind(kind, "autoscaling", "HorizontalPodAutoscaler"))
        validate_autoscaler(object, causes);
    else if (is_kind(kind, "discovery.k8s.io", "EndpointSlice"))
        must_be_one_of(causes, "addressType", object_str(object, "addressType"), address_types);
}

void policy_validate_update(const struct kind *kind, const json_t *object, const json_t *old,
                            json_t *causes) {
    static const char *const frozen[] = {"value", "preemptionPolicy"};
    if (is_kind(kind, "", "ResourceQuota") &&
        !json_equal(object_at(object, "spec.scopes"), object_at(old, "spec.scopes")) &&
        object_at(object, "spec.scopes") != object_at(old, "spec.scopes"))
        cause_add(causes, CAUSE_INVALID, "spec.scopes", "Invalid value: field is immutable");
    if (!is_kind(kind, "scheduling.k8s.io", "PriorityClass"))
        return;
    for (size_t i = 0; i < ARRAY_LEN(frozen); i++) {
        if (!json_equal(json_object_get(object, frozen[i]), json_object_get(old, frozen[i])))
            cause_add(causes, CAUSE_FORBIDDEN, frozen[i],
                      "Forbidden: may not be changed in an update.");
    }
}
