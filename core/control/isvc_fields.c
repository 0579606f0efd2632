/* One table. A row leaves it in the change that gives the field its effect. */
#include "core/control/isvc_fields.h"

#include "core/control/canary.h"
#include "core/control/isvc_predictor.h"
#include "core/control/pod_probes.h"
#include "core/node/replica_command.h"
#include "core/object.h"

struct row {
    const char *path; /* below the InferenceService, or below the model container for '*' rows */
    const char *why;
};

static const struct row rows[] = {
    {"spec.transformer", "transformers are not run yet; requests go straight to the predictor"},
    {"spec.explainer", "explainers are not run yet"},
    {"spec.predictor.batcher",
     "requests are not batched by an agent; the engine batches by itself"},
    {"spec.predictor.logger", "payloads are not logged yet"},
    {"spec.predictor.timeout", "requests have no time limit of their own yet"},
    {"spec.predictor.workerSpec", "a model is served by one node; workers are not started"},
};

/* Of predictors that inferd's own engine serves. */
static const struct row engine_rows[] = {
    {"spec.predictor.initContainers", "init containers are not run; there are no images here"},
    {"spec.predictor.volumes", "volumes are not mounted; models are read where storageUri says"},
};

static const struct row container_rows[] = {
    {"livenessProbe", "probes are inferd's own: the process and its /health"},
    {"readinessProbe", "probes are inferd's own: the process and its /health"},
    {"startupProbe", "probes are inferd's own: the process and its /health"},
    {"lifecycle", "lifecycle hooks are not run"},
    {"volumeMounts", "volumes are not mounted; models are read where storageUri says"},
    {"workingDir", "there is no image to have directories"},
    {"storage", "credentials of storage are not used; set storageUri"},
    {"runtimeVersion", "there is no image tag to choose; the installed inferd serves"},
};

static void add(json_t *out, const char *path, const char *why) {
    AUTO_FREE char *text = mem_printf("%s has no effect: %s", path, why);
    json_array_append_new(out, json_string(text));
}

static bool is_set(const json_t *value) {
    bool empty = (json_is_array(value) && !json_array_size(value)) ||
                 (json_is_object(value) && !json_object_size(value));
    return value && !json_is_null(value) && !empty;
}

static bool is_host(const json_t *container) {
    const char *image = object_str(container, "image");
    return image && !strcmp(image, REPLICA_HOST_IMAGE);
}

static void check_container(const json_t *container, const char *path, json_t *out) {
    if (is_host(container)) {
        pod_probes_warn(container, path, out);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(container_rows); i++) {
        AUTO_FREE char *full = mem_printf("%s.%s", path, container_rows[i].path);
        if (is_set(json_object_get(container, container_rows[i].path)))
            add(out, full, container_rows[i].why);
    }
}

static void check_canaries(const json_t *isvc, json_t *out) {
    if (canary_count(isvc) && is_set(object_at(isvc, "spec.predictor.canaryTrafficPercent")))
        add(out, "spec.predictor.canaryTrafficPercent", "spec.canary says who gets what");
    for (size_t i = 0; i < canary_count(isvc); i++) {
        json_t *service = canary_service(isvc, i), *model = isvc_predictor_model(service);
        AUTO_FREE char *path = mem_printf("spec.canary[%zu].predictor.model", i);
        check_container(model, path, out);
        json_decref(model);
        json_decref(service);
    }
}

static void check_annotations(const json_t *isvc, json_t *out) {
    const char *mode = object_annotation(isvc, "serving.kserve.io/deploymentMode");
    const char *scaler = object_annotation(isvc, "serving.kserve.io/autoscalerClass");
    if (mode && strcmp(mode, "RawDeployment") != 0 && strcmp(mode, "Standard") != 0)
        add(out, "metadata.annotations[serving.kserve.io/deploymentMode]",
            "every service is a Deployment here (Standard, formerly RawDeployment)");
    if (scaler && strcmp(scaler, "none") != 0 && strcmp(scaler, "external") != 0 &&
        strcmp(scaler, "hpa") != 0)
        add(out, "metadata.annotations[serving.kserve.io/autoscalerClass]",
            "replicas follow the requests in flight; a ScaledObject is not made");
    if (object_annotation(isvc, "autoscaling.knative.dev/target-burst-capacity"))
        add(out, "metadata.annotations[autoscaling.knative.dev/target-burst-capacity]",
            "the gateway is always in the path of requests and holds them");
}

/* Metrics that are of no use where they stand. */
static void check_metrics(const json_t *isvc, json_t *out) {
    static const char metrics[] = "spec.predictor.autoScaling.metrics";
    const char *metric = object_str(isvc, "spec.predictor.scaleMetric");
    const char *type = object_str(isvc, "spec.predictor.scaleMetricType");
    bool of_pods = metric && (!strcmp(metric, "cpu") || !strcmp(metric, "memory"));
    const json_t *list = object_at(isvc, metrics);
    size_t i;
    json_t *m;
    json_array_foreach (list, i, m) {
        const char *kind = object_str(m, "type");
        AUTO_FREE char *path = mem_printf("%s[%zu]", metrics, i);
        if (kind && strcmp(kind, "Resource") != 0)
            add(out, path,
                "of these metrics only Resource scales yet; replicas follow the "
                "requests in flight unless all are of that type");
    }
    if (metric && json_array_size(list))
        add(out, "spec.predictor.scaleMetric", "autoScaling.metrics says what is looked at");
    if (type && (!of_pods || strcmp(type, "Utilization") != 0))
        add(out, "spec.predictor.scaleMetricType",
            of_pods
                ? "a target is a share of what the pods ask for; autoScaling.metrics has amounts"
                : "a target is a number of requests per replica");
    if (of_pods && !object_int(isvc, "spec.predictor.minReplicas", 1))
        add(out, "spec.predictor.minReplicas",
            "a service that scales by cpu or memory keeps one replica at least");
}

/* The predictor says itself that it is a process of this machine. */
static bool says_host(const json_t *isvc) {
    json_t *model = isvc_predictor_model(isvc);
    bool host = is_host(model ? model : object_at(isvc, "spec.predictor.containers.0"));
    json_decref(model);
    return host;
}

static void check_rows(const json_t *isvc, const struct row *list, size_t len, json_t *out) {
    for (size_t i = 0; i < len; i++) {
        if (is_set(object_at(isvc, list[i].path)))
            add(out, list[i].path, list[i].why);
    }
}

void isvc_fields_ignored(const json_t *isvc, json_t *out) {
    const json_t *predictor = object_at(isvc, "spec.predictor");
    check_rows(isvc, rows, ARRAY_LEN(rows), out);
    if (!says_host(isvc))
        check_rows(isvc, engine_rows, ARRAY_LEN(engine_rows), out);
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)predictor, key, value) {
        if (is_set(json_object_get(value, "storageUri")) || !strcmp(key, "model")) {
            AUTO_FREE char *path = mem_printf("spec.predictor.%s", key);
            check_container(value, path, out);
        }
    }
    size_t i;
    json_t *model = isvc_predictor_model(isvc);
    bool has_model = model != NULL;
    json_decref(model);
    json_array_foreach (json_object_get(predictor, "containers"), i, value) {
        AUTO_FREE char *path = mem_printf("spec.predictor.containers[%zu]", i);
        if (is_host(value))
            check_container(value, path, out);
        else if (has_model)
            add(out, path, "the model's section says what runs, and one container runs per pod");
        else if (i == 0)
            check_container(value, path, out);
        else
            add(out, path, "inferd runs one container per pod");
    }
    check_metrics(isvc, out);
    check_canaries(isvc, out);
    check_annotations(isvc, out);
}
