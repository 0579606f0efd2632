/* The two versions of HorizontalPodAutoscaler. Version 1 knows one metric, the share of the CPU; it
 * carries everything else of version 2 in annotations, as JSON in words of its own:
 *
 *   spec.metrics           .../metrics           less the CPU's share, which is a field
 *   spec.behavior          .../behavior
 *   status.currentMetrics  .../current-metrics   likewise
 *   status.conditions      .../conditions
 *
 * so that a client of version 1 that writes back what it read loses nothing. The words of a metric
 * differ only in their names: the table of pairs below converts in both directions.
 * Source: kubernetes/pkg/apis/autoscaling, annotations.go and v1/conversion.go (behaviour). */
#include "kube-compat/autoscaler_view.h"

#include "core/base/mem.h"
#include "core/object.h"

#define PREFIX "autoscaling.alpha.kubernetes.io/"

static const char METRICS[] = PREFIX "metrics";
static const char BEHAVIOR[] = PREFIX "behavior";
static const char CURRENT_METRICS[] = PREFIX "current-metrics";
static const char CONDITIONS[] = PREFIX "conditions";

/* A metric of a type stands in the member `member`. */
struct source {
    const char *type, *member;
    struct {
        const char *v2, *v1; /* paths inside the member */
    } pairs[6];
};

static const struct source targets[] = {
    {"Resource",
     "resource",
     {{"name", "name"},
      {"target.averageUtilization", "targetAverageUtilization"},
      {"target.averageValue", "targetAverageValue"}}},
    {"ContainerResource",
     "containerResource",
     {{"name", "name"},
      {"container", "container"},
      {"target.averageUtilization", "targetAverageUtilization"},
      {"target.averageValue", "targetAverageValue"}}},
    {"Pods",
     "pods",
     {{"metric.name", "metricName"},
      {"metric.selector", "selector"},
      {"target.averageValue", "targetAverageValue"}}},
    {"Object",
     "object",
     {{"describedObject", "target"},
      {"metric.name", "metricName"},
      {"metric.selector", "selector"},
      {"target.value", "targetValue"},
      {"target.averageValue", "averageValue"}}},
    {"External",
     "external",
     {{"metric.name", "metricName"},
      {"metric.selector", "metricSelector"},
      {"target.value", "targetValue"},
      {"target.averageValue", "targetAverageValue"}}},
};

static const struct source currents[] = {
    {"Resource",
     "resource",
     {{"name", "name"},
      {"current.averageUtilization", "currentAverageUtilization"},
      {"current.averageValue", "currentAverageValue"}}},
    {"ContainerResource",
     "containerResource",
     {{"name", "name"},
      {"container", "container"},
      {"current.averageUtilization", "currentAverageUtilization"},
      {"current.averageValue", "currentAverageValue"}}},
    {"Pods",
     "pods",
     {{"metric.name", "metricName"},
      {"metric.selector", "selector"},
      {"current.averageValue", "currentAverageValue"}}},
    {"Object",
     "object",
     {{"describedObject", "target"},
      {"metric.name", "metricName"},
      {"metric.selector", "selector"},
      {"current.value", "currentValue"},
      {"current.averageValue", "averageValue"}}},
    {"External",
     "external",
     {{"metric.name", "metricName"},
      {"metric.selector", "metricSelector"},
      {"current.value", "currentValue"},
      {"current.averageValue", "currentAverageValue"}}},
};

static bool text_is(const json_t *o, const char *path, const char *text) {
    const char *has = object_str(o, path);
    return has && !strcmp(has, text);
}

/* The metric that version 1 has a field for. */
static bool is_cpu_share(const json_t *metric, const char *share) {
    return text_is(metric, "type", "Resource") && text_is(metric, "resource.name", "cpu") &&
           object_at(metric, share);
}

/* What kind of target it is, by the value that it names. */
static void set_target_type(json_t *member) {
    json_t *target = json_object_get(member, "target");
    const char *type = json_object_get(target, "averageUtilization") ? "Utilization"
                       : json_object_get(target, "averageValue")     ? "AverageValue"
                                                                     : "Value";
    if (target)
        json_object_set_new(target, "type", json_string(type));
}

/* Gives the metric in the other version's words; NULL: it is of no known type. */
static json_t *convert_metric(const struct source *sources, const json_t *metric, bool to_v1) {
    const char *type = object_str(metric, "type");
    const struct source *s = NULL;
    for (size_t i = 0; type && i < ARRAY_LEN(targets) && !s; i++)
        s = strcmp(sources[i].type, type) ? NULL : &sources[i];
    if (!s)
        return NULL;
    const json_t *from = json_object_get(metric, s->member);
    json_t *member = json_object();
    for (size_t i = 0; i < ARRAY_LEN(s->pairs) && s->pairs[i].v2; i++) {
        json_t *value = object_at(from, to_v1 ? s->pairs[i].v2 : s->pairs[i].v1);
        if (value)
            object_set(member, to_v1 ? s->pairs[i].v1 : s->pairs[i].v2, json_deep_copy(value));
    }
    if (!to_v1)
        set_target_type(member);
    return json_pack("{s:s, s:o}", "type", type, s->member, member);
}

/* Puts a value, as text, among the annotations. Takes it. */
static void annotate(json_t *o, const char *name, json_t *value) {
    json_t *annotations = object_at(o, "metadata.annotations");
    if (!json_is_object(annotations))
        object_set(o, "metadata.annotations", annotations = json_object());
    AUTO_FREE char *text = json_dumps(value, JSON_COMPACT);
    json_object_set_new(annotations, name, json_string(text));
    json_decref(value);
}

/* Takes an annotation out and gives what its text means; NULL: absent, or not JSON. */
static json_t *take_annotation(json_t *o, const char *name) {
    const char *text = object_annotation(o, name);
    json_t *value = text ? json_loads(text, 0, NULL) : NULL;
    json_object_del(object_at(o, "metadata.annotations"), name);
    return value;
}

/* Moves a list of metrics of version 2 into a field and an annotation of version 1. */
static void split_metrics(json_t *o, const char *list, const struct source *sources,
                          const char *share, const char *field, const char *annotation) {
    json_t *others = json_array(), *metric;
    size_t i;
    json_array_foreach (object_at(o, list), i, metric) {
        json_t *other = is_cpu_share(metric, share) ? NULL : convert_metric(sources, metric, true);
        if (other)
            json_array_append_new(others, other);
        else if (is_cpu_share(metric, share))
            object_set(o, field, json_incref(object_at(metric, share)));
    }
    object_delete(o, list);
    if (json_array_size(others))
        annotate(o, annotation, others);
    else
        json_decref(others);
}

json_t *autoscaler_to_v1(const json_t *v2) {
    json_t *o = json_deep_copy(v2);
    json_object_set_new(o, "apiVersion", json_string("autoscaling/v1"));
    split_metrics(o, "spec.metrics", targets, "resource.target.averageUtilization",
                  "spec.targetCPUUtilizationPercentage", METRICS);
    split_metrics(o, "status.currentMetrics", currents, "resource.current.averageUtilization",
                  "status.currentCPUUtilizationPercentage", CURRENT_METRICS);
    static const char *const moved[][2] = {{"spec.behavior", BEHAVIOR},
                                           {"status.conditions", CONDITIONS}};
    for (size_t i = 0; i < ARRAY_LEN(moved); i++) {
        json_t *value = json_incref(object_at(o, moved[i][0]));
        object_delete(o, moved[i][0]);
        if (value)
            annotate(o, moved[i][1], value);
    }
    return o;
}

static void join_metrics(json_t *o, const char *list, const struct source *sources,
                         const char *value, const char *field, const char *annotation) {
    json_t *metrics = json_array(), *metric, *others = take_annotation(o, annotation);
    json_t *share = object_at(o, field);
    size_t i;
    json_array_foreach (others, i, metric) {
        json_t *converted = convert_metric(sources, metric, false);
        if (converted)
            json_array_append_new(metrics, converted);
    }
    if (share) {
        json_t *cpu = json_pack("{s:s, s:{s:s}}", "type", "Resource", "resource", "name", "cpu");
        object_set(cpu, value, json_incref(share));
        set_target_type(json_object_get(cpu, "resource"));
        json_array_append_new(metrics, cpu);
    }
    object_delete(o, field);
    if (json_array_size(metrics))
        object_set(o, list, json_incref(metrics));
    json_decref(metrics);
    json_decref(others);
}

json_t *autoscaler_to_v2(const json_t *v1) {
    json_t *o = json_deep_copy(v1);
    json_object_set_new(o, "apiVersion", json_string("autoscaling/v2"));
    join_metrics(o, "spec.metrics", targets, "resource.target.averageUtilization",
                 "spec.targetCPUUtilizationPercentage", METRICS);
    join_metrics(o, "status.currentMetrics", currents, "resource.current.averageUtilization",
                 "status.currentCPUUtilizationPercentage", CURRENT_METRICS);
    json_t *behavior = take_annotation(o, BEHAVIOR), *conditions = take_annotation(o, CONDITIONS);
    if (json_is_object(behavior))
        object_set(o, "spec.behavior", json_incref(behavior));
    if (json_is_array(conditions))
        object_set(o, "status.conditions", json_incref(conditions));
    json_decref(behavior);
    json_decref(conditions);
    if (!json_object_size(object_at(o, "metadata.annotations")))
        object_delete(o, "metadata.annotations");
    return o;
}
