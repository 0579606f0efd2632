/* Reading a HorizontalPodAutoscaler, and refusing what the deciders could not keep to: a target of
 * nothing, a policy without a period. The messages are those of Kubernetes' validation. */
#include "core/control/pod_autoscaler_spec.h"

#include <inttypes.h>
#include <stdio.h>

#include "core/object.h"
#include "core/quantity.h"

enum { STABILIZATION_SECONDS_MAX = 3600, PERIOD_SECONDS_MAX = 1800, FIELD_BYTES_MAX = 160 };

/* ---- metrics ---- */

static const struct {
    const char *name, *member;
} sources[METRIC_SOURCES] = {
    [METRIC_SOURCE_RESOURCE] = {"Resource", "resource"},
    [METRIC_SOURCE_CONTAINER_RESOURCE] = {"ContainerResource", "containerResource"},
    [METRIC_SOURCE_PODS] = {"Pods", "pods"},
    [METRIC_SOURCE_OBJECT] = {"Object", "object"},
    [METRIC_SOURCE_EXTERNAL] = {"External", "external"},
};

const char *metric_source_name(enum metric_source source) {
    return sources[source].name;
}

const char *metric_source_member(enum metric_source source) {
    return sources[source].member;
}

enum metric_source metric_source_of(const json_t *metric) {
    const char *type = object_str(metric, "type");
    for (int i = 0; type && i < METRIC_SOURCES; i++) {
        if (!strcmp(type, sources[i].name))
            return (enum metric_source)i;
    }
    return METRIC_SOURCES;
}

static int64_t milli_of(const json_t *from, const char *path) {
    const json_t *value = object_at(from, path);
    int64_t milli;
    return value && quantity_milli(value, &milli) ? milli : 0;
}

struct metric_spec metric_spec_read(const json_t *metric) {
    enum metric_source source = metric_source_of(metric);
    const char *type = object_str(metric, "type");
    const json_t *m =
        source < METRIC_SOURCES ? json_object_get(metric, sources[source].member) : NULL;
    return (struct metric_spec){
        .source = source,
        .type = type ? type : "",
        .resource = object_str(m, "name"),
        .container = object_str(m, "container"),
        .name = object_str(m, "metric.name"),
        .selector = object_at(m, "metric.selector"),
        .object = object_at(m, "describedObject"),
        .utilization = object_int(m, "target.averageUtilization", 0),
        .average_milli = milli_of(m, "target.averageValue"),
        .value_milli = milli_of(m, "target.value"),
    };
}

/* ---- bounds and behaviour ---- */

static enum hpa_select select_of(const json_t *rules) {
    const char *word = object_str(rules, "selectPolicy");
    return word && !strcmp(word, "Min")        ? HPA_SELECT_MIN
           : word && !strcmp(word, "Disabled") ? HPA_SELECT_DISABLED
                                               : HPA_SELECT_MAX;
}

static void read_rules(const json_t *from, struct hpa_rules *rules) {
    const json_t *policies = json_object_get(from, "policies");
    rules->select = select_of(from);
    rules->stabilization_seconds =
        (int32_t)object_int(from, "stabilizationWindowSeconds", rules->stabilization_seconds);
    if (!json_array_size(policies))
        return;
    rules->num_policies = 0;
    size_t i;
    json_t *p;
    json_array_foreach ((json_t *)policies, i, p) {
        const char *type = object_str(p, "type");
        if (i < HPA_POLICIES_MAX)
            rules->policies[rules->num_policies++] =
                (struct hpa_policy){.percent = type && !strcmp(type, "Percent"),
                                    .value = (int32_t)object_int(p, "value", 0),
                                    .period_seconds = (int32_t)object_int(p, "periodSeconds", 0)};
    }
}

struct hpa_spec pod_autoscaler_spec(const json_t *autoscaler) {
    struct hpa_spec s = {
        .min_replicas = (int32_t)object_int(autoscaler, "spec.minReplicas", 1),
        .max_replicas = (int32_t)object_int(autoscaler, "spec.maxReplicas", 1),
        .up = hpa_rules_up_default(),
        .down = hpa_rules_down_default(),
    };
    read_rules(object_at(autoscaler, "spec.behavior.scaleUp"), &s.up);
    read_rules(object_at(autoscaler, "spec.behavior.scaleDown"), &s.down);
    return s;
}

/* ---- refusing ---- */

static enum errc required(const char *field, const char *what, struct error *err) {
    return err_field(err, ERR_INVALID, field, "%s: Required value: %s", field, what);
}

static enum errc within(const json_t *o, const char *field, const char *name, int64_t min,
                        int64_t max, struct error *err) {
    int64_t value = object_int(o, name, min);
    if (value >= min && value <= max)
        return OK;
    AUTO_FREE char *path = mem_printf("%s.%s", field, name);
    if (value < min)
        return err_field(err, ERR_INVALID, path,
                         "%s: Invalid value: %" PRId64
                         ": must be greater than or equal to %" PRId64,
                         path, value, min);
    return err_field(err, ERR_INVALID, path,
                     "%s: Invalid value: %" PRId64 ": must be less than or equal to %" PRId64, path,
                     value, max);
}

static enum errc one_of(const json_t *o, const char *field, const char *name, const char *a,
                        const char *b, const char *c, struct error *err) {
    const char *value = object_str(o, name);
    if (!value || !strcmp(value, a) || !strcmp(value, b) || (c && !strcmp(value, c)))
        return OK;
    AUTO_FREE char *path = mem_printf("%s.%s", field, name);
    return err_field(err, ERR_INVALID, path,
                     "%s: Unsupported value: \"%.64s\": supported values: \"%s\", \"%s\"%s%s%s",
                     path, value, a, b, c ? ", \"" : "", c ? c : "", c ? "\"" : "");
}

/* A target that is a quantity: above nothing. */
static enum errc check_quantity(const json_t *target, const char *field, const char *name,
                                struct error *err) {
    const json_t *value = json_object_get(target, name);
    int64_t milli;
    if (!value || (quantity_milli(value, &milli) && milli > 0))
        return OK;
    AUTO_FREE char *path = mem_printf("%s.%s", field, name);
    AUTO_FREE char *text = json_dumps(value, JSON_ENCODE_ANY);
    return err_field(err, ERR_INVALID, path,
                     "%s: Invalid value: %.64s: must be a positive quantity, such as 500m or 2Gi",
                     path, text ? text : "");
}

static enum errc check_target(const json_t *member, const struct metric_spec *m,
                              const char *metric_field, struct error *err) {
    const json_t *target = json_object_get(member, "target");
    AUTO_FREE char *field = mem_printf("%s.target", metric_field);
    bool resource =
        m->source == METRIC_SOURCE_RESOURCE || m->source == METRIC_SOURCE_CONTAINER_RESOURCE;
    bool has_share = json_object_get(target, "averageUtilization") != NULL;
    bool has_average = json_object_get(target, "averageValue") != NULL;
    bool has_value = json_object_get(target, "value") != NULL;
    if (!json_is_object(target))
        return required(field, "must specify a target", err);
    if (one_of(target, field, "type", "Utilization", "AverageValue", "Value", err) ||
        check_quantity(target, field, "averageValue", err) ||
        check_quantity(target, field, "value", err) ||
        (has_share && within(target, field, "averageUtilization", 1, INT32_MAX, err)))
        return err->code;
    if (resource && has_share == has_average)
        return required(field,
                        has_share ? "may not set both a target raw value and a target utilization"
                                  : "must set either a target raw value or a target utilization",
                        err);
    if (m->source == METRIC_SOURCE_PODS && !has_average)
        return required(field, "must specify a positive target averageValue", err);
    if (!resource && m->source != METRIC_SOURCE_PODS && has_average == has_value)
        return required(field,
                        has_value
                            ? "may not set both a target value for metric and a per-pod target"
                            : "must set either a target value for metric or a per-pod target",
                        err);
    return OK;
}

static enum errc check_metric(const json_t *metric, size_t index, struct error *err) {
    struct metric_spec m = metric_spec_read(metric);
    char field[FIELD_BYTES_MAX];
    if (m.source == METRIC_SOURCES)
        return OK; /* the schema's rules have refused it */
    const json_t *member = json_object_get(metric, sources[m.source].member);
    snprintf(field, sizeof(field), "spec.metrics[%zu].%s", index, sources[m.source].member);
    bool resource =
        m.source == METRIC_SOURCE_RESOURCE || m.source == METRIC_SOURCE_CONTAINER_RESOURCE;
    AUTO_FREE char *name = mem_printf("%s.%s", field, resource ? "name" : "metric.name");
    const char *has = resource ? m.resource : m.name;
    if (!has || !*has)
        return required(
            name, resource ? "must specify a resource name" : "must specify a metric name", err);
    AUTO_FREE char *container = mem_printf("%s.container", field);
    if (m.source == METRIC_SOURCE_CONTAINER_RESOURCE && (!m.container || !*m.container))
        return required(container, "must specify a container", err);
    AUTO_FREE char *object = mem_printf("%s.describedObject", field);
    if (m.source == METRIC_SOURCE_OBJECT &&
        (!object_str(m.object, "kind") || !object_str(m.object, "name")))
        return required(object, "must specify kind and name", err);
    return check_target(member, &m, field, err);
}

static enum errc check_rules(const json_t *rules, const char *field, struct error *err) {
    const json_t *policies = json_object_get(rules, "policies"), *p;
    size_t i;
    if (!rules)
        return OK;
    if (within(rules, field, "stabilizationWindowSeconds", 0, STABILIZATION_SECONDS_MAX, err) ||
        one_of(rules, field, "selectPolicy", "Max", "Min", "Disabled", err))
        return err->code;
    if (json_array_size(policies) > HPA_POLICIES_MAX) {
        AUTO_FREE char *path = mem_printf("%s.policies", field);
        return err_field(err, ERR_INVALID, path, "%s: Too many: %zu: must have at most %d items",
                         path, json_array_size(policies), HPA_POLICIES_MAX);
    }
    json_array_foreach ((json_t *)policies, i, p) {
        AUTO_FREE char *at = mem_printf("%s.policies[%zu]", field, i);
        AUTO_FREE char *type = mem_printf("%s.type", at);
        if (!object_str(p, "type"))
            return required(type, "must be Pods or Percent", err);
        if (one_of(p, at, "type", "Pods", "Percent", NULL, err) ||
            within(p, at, "value", 1, INT32_MAX, err) ||
            within(p, at, "periodSeconds", 1, PERIOD_SECONDS_MAX, err))
            return err->code;
    }
    return OK;
}

enum errc pod_autoscaler_check(const json_t *autoscaler, struct error *err) {
    const json_t *metrics = object_at(autoscaler, "spec.metrics"), *metric;
    size_t i;
    if (!object_str(autoscaler, "spec.scaleTargetRef.kind"))
        return required("spec.scaleTargetRef.kind", "must specify a kind", err);
    if (!object_str(autoscaler, "spec.scaleTargetRef.name"))
        return required("spec.scaleTargetRef.name", "must specify a name", err);
    if (json_array_size(metrics) > POD_AUTOSCALER_METRICS_MAX)
        return err_field(err, ERR_INVALID, "spec.metrics",
                         "spec.metrics: Too many: %zu: must have at most %d items",
                         json_array_size(metrics), POD_AUTOSCALER_METRICS_MAX);
    json_array_foreach ((json_t *)metrics, i, metric) {
        if (check_metric(metric, i, err))
            return err->code;
    }
    if (check_rules(object_at(autoscaler, "spec.behavior.scaleUp"), "spec.behavior.scaleUp", err))
        return err->code;
    return check_rules(object_at(autoscaler, "spec.behavior.scaleDown"), "spec.behavior.scaleDown",
                       err);
}
