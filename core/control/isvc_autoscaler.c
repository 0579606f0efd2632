/* From KServe's fields to autoscaling/v2.
 *
 *   autoScaling.metrics of type Resource       the same metrics, with autoScaling.behavior
 *   scaleMetric cpu, memory and scaleTarget    one metric, a share of what the pods ask for
 *   serving.kserve.io/metrics,
 *     .../targetUtilizationPercentage          the same, older
 *   class hpa.autoscaling.knative.dev          `target` is percent of cpu, or Mi of memory
 *
 * What says nothing is 80 % of the CPU, KServe's default. The object has at least one replica; only
 * inferd's own rule and Knative's go to zero. */
#include "core/control/isvc_autoscaler.h"

#include <math.h>
#include <stdio.h>

#include "core/base/log.h"
#include "core/control/autoscale_plan.h"
#include "core/control/pod_autoscaler_spec.h"

enum { SHARE_DEFAULT = 80 };
static const char METRICS[] = "spec.predictor.autoScaling.metrics";
static const char BEHAVIOR[] = "spec.predictor.autoScaling.behavior";

static bool is(const char *text, const char *word) {
    return text && !strcmp(text, word);
}

static bool is_resource(const char *name) {
    return is(name, "cpu") || is(name, "memory");
}

/* ---- whether ---- */

static bool all_resources(const json_t *metrics) {
    size_t i;
    json_t *m;
    json_array_foreach ((json_t *)metrics, i, m) {
        if (!is(object_str(m, "type"), "Resource"))
            return false;
    }
    return json_array_size(metrics) > 0;
}

bool isvc_autoscaler_asked(const json_t *isvc) {
    const char *class = autoscale_annotation(isvc, "serving.kserve.io/autoscalerClass");
    const json_t *metrics = object_at(isvc, METRICS);
    if (class && strcmp(class, "hpa") != 0)
        return false;
    if (json_array_size(metrics))
        return all_resources(metrics);
    return class || is_resource(object_str(isvc, "spec.predictor.scaleMetric")) ||
           is_resource(autoscale_annotation(isvc, "serving.kserve.io/metrics")) ||
           is_resource(autoscale_annotation(isvc, "autoscaling.knative.dev/metric")) ||
           is(autoscale_annotation(isvc, "autoscaling.knative.dev/class"),
              "hpa.autoscaling.knative.dev");
}

/* ---- what ---- */

static json_t *share_of(const char *resource, int64_t percent) {
    return json_pack("[{s:s, s:{s:s, s:{s:s, s:I}}}]", "type", "Resource", "resource", "name",
                     resource, "target", "type", "Utilization", "averageUtilization",
                     (json_int_t)percent);
}

/* Knative counts memory in Mi; a share of the CPU is rounded up. */
static json_t *by_knative(const char *resource, double target) {
    if (strcmp(resource, "memory") != 0)
        return share_of(resource, (int64_t)ceil(target));
    json_t *amount = json_sprintf("%lldMi", (long long)target);
    return json_pack("[{s:s, s:{s:s, s:{s:s, s:o}}}]", "type", "Resource", "resource", "name",
                     resource, "target", "type", "AverageValue", "averageValue", amount);
}

static json_t *metrics_of(const json_t *isvc) {
    json_t *given = object_at(isvc, METRICS);
    if (json_array_size(given))
        return json_deep_copy(given);
    struct autoscale_plan plan;
    autoscale_plan(isvc, NULL, &plan);
    const char *resource = object_str(isvc, "spec.predictor.scaleMetric");
    const char *knative = autoscale_annotation(isvc, "autoscaling.knative.dev/target");
    const char *share = autoscale_annotation(isvc, "serving.kserve.io/targetUtilizationPercentage");
    int64_t target = object_int(isvc, "spec.predictor.scaleTarget", 0);
    if (!is_resource(resource))
        resource = autoscale_annotation(isvc, "serving.kserve.io/metrics");
    if (!is_resource(resource))
        resource = autoscale_annotation(isvc, "autoscaling.knative.dev/metric");
    if (!is_resource(resource))
        resource = "cpu";
    if (target > 0)
        return share_of(resource, target);
    if (knative && plan.kpa.target > 0)
        return by_knative(resource, plan.kpa.target);
    target = share ? strtoll(share, NULL, 10) : 0;
    return share_of(resource, target > 0 ? target : SHARE_DEFAULT);
}

static json_t *spec_of(const json_t *isvc, const char *name) {
    struct autoscale_plan plan;
    autoscale_plan(isvc, NULL, &plan);
    return json_pack("{s:{s:s, s:s, s:s}, s:i, s:i, s:o, s:O*}", "scaleTargetRef", "apiVersion",
                     "apps/v1", "kind", "Deployment", "name", name, "minReplicas", plan.min,
                     "maxReplicas", plan.max, "metrics", metrics_of(isvc), "behavior",
                     object_at(isvc, BEHAVIOR));
}

enum errc isvc_autoscaler_reconcile(struct world *w, const json_t *isvc, const char *name,
                                    struct error *err) {
    const char *ns = object_namespace(isvc);
    struct autoscale_plan plan;
    autoscale_plan(isvc, NULL, &plan);
    AUTO(store_object) was = world_get(w, KIND_HORIZONTAL_POD_AUTOSCALER, ns, name);
    if (was && !object_controlled_by(was->json, isvc))
        return OK;
    if (plan.rule != AUTOSCALE_OBJECT)
        return was ? world_delete(w, was, err) : OK;
    json_t *spec = spec_of(isvc, name);
    if (was) {
        json_t *updated = json_deep_copy(was->json);
        object_set(updated, "spec", spec);
        return world_update(w, was, updated, NULL, err);
    }
    json_t *hpa = json_pack("{s:{s:s, s:s, s:{s:s, s:s}, s:[o]}, s:o, s:{s:i, s:i}}", "metadata",
                            "name", name, "namespace", ns, "labels", "component", "predictor",
                            "serving.kserve.io/inferenceservice", object_name(isvc),
                            "ownerReferences", object_owner_ref(isvc), "spec", spec, "status",
                            "currentReplicas", 0, "desiredReplicas", 0);
    return world_create(w, KIND_HORIZONTAL_POD_AUTOSCALER, hpa, NULL, err);
}

/* ---- refusing ---- */

/* "spec.metrics[0]..." of the object is "spec.predictor.autoScaling.metrics[0]..." of the service.
 */
static enum errc translate(struct error *err) {
    static const char own[] = "spec.";
    struct error e = *err;
    if (strncmp(e.field, own, strlen(own)) != 0)
        return err->code;
    const char *rest = strncmp(e.text, own, strlen(own)) ? e.text : e.text + strlen(own);
    AUTO_FREE char *field = mem_printf("spec.predictor.autoScaling.%s", e.field + strlen(own));
    return err_field(err, e.code, field, "spec.predictor.autoScaling.%s", rest);
}

enum errc isvc_autoscaler_check(const json_t *isvc, struct error *err) {
    json_t *metrics = object_at(isvc, METRICS), *behavior = object_at(isvc, BEHAVIOR);
    const char *share = autoscale_annotation(isvc, "serving.kserve.io/targetUtilizationPercentage");
    if (share) {
        static const char field[] =
            "metadata.annotations[serving.kserve.io/targetUtilizationPercentage]";
        char *end;
        long long percent = strtoll(share, &end, 10);
        if (end == share || *end || percent < 1 || percent > INT32_MAX)
            return err_field(err, ERR_INVALID, field,
                             "%s: Invalid value: \"%.64s\": must be a whole number above 0", field,
                             share);
    }
    if (!all_resources(metrics) && !behavior)
        return OK;
    json_t *both = json_pack(
        "{s:{s:{s:s, s:s}, s:o*, s:O*}}", "spec", "scaleTargetRef", "kind", "Deployment", "name",
        "x", "metrics", all_resources(metrics) ? json_incref(metrics) : NULL, "behavior", behavior);
    enum errc rc = pod_autoscaler_check(both, err);
    json_decref(both);
    return rc ? translate(err) : OK;
}
