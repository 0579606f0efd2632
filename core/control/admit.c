/* Admission: values that the schemas of the kinds cannot judge. Pure, called by the API server on
 * create and update. Errors name field, value and bound; what is accepted without effect is told.
 */
#include "core/control/control.h"

#include <inttypes.h>
#include <stdio.h>

#include "core/control/autoscale_plan.h"
#include "core/control/canary.h"
#include "core/control/isvc_autoscaler.h"
#include "core/control/isvc_fields.h"
#include "core/control/isvc_predictor.h"
#include "core/control/labels.h"
#include "core/control/placement_room.h"
#include "core/control/pod_autoscaler_spec.h"
#include "core/control/pod_fields.h"
#include "core/control/service.h"
#include "core/quantity.h"
#include "core/control/rollout.h"
#include "core/model/model_ref.h"
#include "core/node/replica_command.h"
#include "core/object.h"

enum { ISVC_NAME_BYTES_MAX = 48 }; /* the label "isvc.NAME-predictor" has 63 at most */

static const char PREDICTOR[] = "spec.predictor", TEMPLATE[] = "spec.template.spec";

/* What KServe's storage initializer knows, and what inferd adds: a plain path and embedded://. */
static const char *const uri_schemes[] = {"gs://",
                                          "s3://",
                                          "pvc://",
                                          "file://",
                                          "https://",
                                          "http://",
                                          "hdfs://",
                                          "webhdfs://",
                                          "oci://",
                                          "hf://",
                                          "abfs://",
                                          "modelscope://",
                                          "model-registry://",
                                          "oci+fetch://",
                                          "embedded://"};

static enum errc not_negative(const json_t *o, const char *path, int64_t max, struct error *err) {
    const json_t *v = object_at(o, path);
    if (!v || json_is_null(v))
        return OK;
    if (!json_is_integer(v))
        return err_field(err, ERR_INVALID, path, "%s: Invalid value: must be an integer", path);
    if (json_integer_value(v) < 0)
        return err_field(err, ERR_INVALID, path,
                         "%s: Invalid value: %" PRId64 ": must be greater than or equal to 0", path,
                         (int64_t)json_integer_value(v));
    if (max && json_integer_value(v) > max)
        return err_field(err, ERR_INVALID, path,
                         "%s: Invalid value: %" PRId64 ": must be at most %" PRId64, path,
                         (int64_t)json_integer_value(v), max);
    return OK;
}

/* InferenceService. */

static enum errc check_name(const json_t *isvc, struct error *err) {
    const char *name = object_name(isvc);
    if (!name)
        return OK; /* generateName: the API server makes a valid one */
    size_t len = strlen(name);
    bool ok = len && name[0] >= 'a' && name[0] <= 'z' && name[len - 1] != '-' &&
              strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
    if (!ok)
        return err_field(err, ERR_INVALID, "metadata.name",
                         "metadata.name: Invalid value: \"%s\": an InferenceService name must "
                         "consist of lower case alphanumeric characters or '-', start with a "
                         "letter and end with an alphanumeric character",
                         name);
    if (len > ISVC_NAME_BYTES_MAX)
        return err_field(err, ERR_INVALID, "metadata.name",
                         "metadata.name: Invalid value: \"%s\": %zu characters, at most %d", name,
                         len, ISVC_NAME_BYTES_MAX);
    return OK;
}

static enum errc check_replicas(const json_t *isvc, struct error *err) {
    static const char *const fields[] = {"minReplicas", "maxReplicas", "containerConcurrency",
                                         "timeout", "scaleTarget"};
    static const char *const components[] = {"spec.predictor", "spec.transformer",
                                             "spec.explainer"};
    char path[OBJECT_PATH_BYTES_MAX];
    for (size_t c = 0; c < ARRAY_LEN(components); c++) {
        const json_t *component = object_at(isvc, components[c]);
        for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
            snprintf(path, sizeof(path), "%s.%s", components[c], fields[i]);
            if (not_negative(isvc, path, 0, err))
                return err->code;
        }
        snprintf(path, sizeof(path), "%s.canaryTrafficPercent", components[c]);
        if (not_negative(isvc, path, 100, err))
            return err->code;
        int64_t min = object_int(component, "minReplicas", 1);
        int64_t max = object_int(component, "maxReplicas", 0);
        snprintf(path, sizeof(path), "%s.minReplicas", components[c]);
        if (max && min > max)
            return err_field(err, ERR_INVALID, path,
                             "%s: Invalid value: %" PRId64
                             ": must not be above maxReplicas (%" PRId64 ")",
                             path, min, max);
    }
    return OK;
}

static enum errc check_resources(const json_t *container, const char *path, struct error *err) {
    static const char *const lists[] = {"requests", "limits"};
    for (size_t l = 0; l < ARRAY_LEN(lists); l++) {
        const json_t *list = json_object_get(json_object_get(container, "resources"), lists[l]);
        const char *name;
        json_t *value;
        json_object_foreach ((json_t *)list, name, value) {
            int64_t milli, limit;
            AUTO_FREE char *field = mem_printf("%s.resources.%s[%s]", path, lists[l], name);
            if (!quantity_milli(value, &milli)) {
                AUTO_FREE char *text = json_dumps(value, JSON_ENCODE_ANY);
                return err_field(err, ERR_INVALID, field,
                                 "%s: Invalid value: %s: must be a quantity like 500m or 2Gi",
                                 field, text);
            }
            const json_t *max = json_object_get(object_at(container, "resources.limits"), name);
            if (!l && max && quantity_milli(max, &limit) && milli > limit)
                return err_field(err, ERR_INVALID, field,
                                 "%s: Invalid value: \"%s\": must be less than or equal to the "
                                 "limit",
                                 field, json_string_value(value) ? json_string_value(value) : "");
        }
    }
    return OK;
}

/* What is to be downloaded must be a reference that can be. */
static enum errc check_reference(const char *uri, const char *field, struct error *err) {
    struct model_ref ref;
    struct error why = ERROR_INIT;
    if (!model_ref_is_remote(uri))
        return OK;
    if (model_ref_parse(uri, &ref, &why))
        return err_field(err, ERR_INVALID, field, "%s: Invalid value: \"%s\": %s", field, uri,
                         why.text);
    model_ref_deinit(&ref);
    return OK;
}

static enum errc check_uri(const char *uri, const char *path, struct error *err) {
    AUTO_FREE char *field = mem_printf("%s.storageUri", path);
    if (!uri)
        return OK;
    if (!*uri)
        return err_field(err, ERR_INVALID, field, "%s: Invalid value: \"\": must not be empty",
                         field);
    for (size_t i = 0; i < ARRAY_LEN(uri_schemes); i++) {
        if (!strncmp(uri, uri_schemes[i], strlen(uri_schemes[i])))
            return check_reference(uri, field, err);
    }
    if (!strstr(uri, "://"))
        return OK;
    return err_field(err, ERR_INVALID, field,
                     "%s: Invalid value: \"%s\": storageUri is not supported; known are file://, "
                     "pvc://, hf://, embedded://, a path, and KServe's remote schemes (gs:// s3:// "
                     "https:// http:// hdfs:// webhdfs:// oci:// abfs:// modelscope:// "
                     "model-registry://)",
                     field, uri);
}

static enum errc check_model(const json_t *section, const char *base, const char *name,
                             struct error *err) {
    AUTO_FREE char *path = mem_printf("%s.%s", base, name);
    if (!json_is_object(section))
        return err_field(err, ERR_INVALID, path, "%s: Invalid value: must be an object", path);
    const char *format = object_str(section, "modelFormat.name");
    if (!strcmp(name, "model") && (!format || !*format)) {
        AUTO_FREE char *field = mem_printf("%s.modelFormat.name", path);
        return err_field(err, ERR_INVALID, field,
                         "%s: Required value: huggingface, gguf, llama, vllm, or a format of your "
                         "own ServingRuntime",
                         field);
    }
    if (check_uri(object_str(section, "storageUri"), path, err))
        return err->code;
    return check_resources(section, path, err);
}

/* At most one framework; without one, containers. Beside a framework containers are accepted, as
 * KServe's schema does, and have no effect (isvc_fields.c says so). */
static enum errc check_implementation(const json_t *predictor, const char *base,
                                      struct error *err) {
    const char *found = NULL;
    for (const char *const *f = isvc_predictor_frameworks(); *f; f++) {
        const json_t *section = json_object_get(predictor, *f);
        if (!section || json_is_null(section))
            continue;
        if (found)
            return err_field(err, ERR_INVALID, base,
                             "%s: Invalid value: %s and %s: only one of model and the framework "
                             "shorthands may be given",
                             base, found, *f);
        found = *f;
        if (check_model(section, base, *f, err))
            return err->code;
    }
    const json_t *containers = json_object_get(predictor, "containers");
    size_t i;
    json_t *c;
    json_array_foreach (containers, i, c) {
        const char *image = object_str(c, "image");
        AUTO_FREE char *path = mem_printf("%s.containers[%zu]", base, i);
        if (!found && (!image || !*image))
            return err_field(err, ERR_INVALID, path, "%s.image: Required value", path);
        if (check_resources(c, path, err))
            return err->code;
    }
    if (!found && !json_array_size(containers))
        return err_field(err, ERR_INVALID, base,
                         "%s: Required value: model, containers or one of the framework "
                         "shorthands (huggingface, sklearn, pytorch ...)",
                         base);
    return OK;
}

static enum errc check_canaries(const json_t *isvc, struct error *err) {
    if (canary_check(isvc, err))
        return err->code;
    for (size_t i = 0; i < canary_count(isvc); i++) {
        AUTO_FREE char *base = mem_printf("spec.canary[%zu].predictor", i);
        const json_t *entry = json_array_get(object_at(isvc, "spec.canary"), i);
        if (check_implementation(json_object_get(entry, "predictor"), base, err))
            return err->code;
    }
    return OK;
}

static enum errc admit_isvc(json_t *isvc, json_t *warnings, struct error *err) {
    const json_t *predictor = object_at(isvc, PREDICTOR);
    json_t *first = object_at(isvc, "spec.predictor.containers.0");
    if (!json_is_object(predictor))
        return err_field(err, ERR_INVALID, PREDICTOR, "spec.predictor: Required value");
    /* KServe's default: a single container needs no name. */
    if (json_is_object(first) && !object_str(first, "name"))
        json_object_set_new(first, "name", json_string(ISVC_CONTAINER_NAME));
    if (check_name(isvc, err) || check_replicas(isvc, err) || autoscale_check(isvc, err) ||
        isvc_autoscaler_check(isvc, err) || check_implementation(predictor, PREDICTOR, err) ||
        check_canaries(isvc, err))
        return err->code;
    isvc_fields_ignored(isvc, warnings);
    return OK;
}

/* Deployment and ReplicaSet. */

static enum errc check_strategy(const json_t *deployment, struct error *err) {
    static const char *const paths[] = {"spec.strategy.rollingUpdate.maxSurge",
                                        "spec.strategy.rollingUpdate.maxUnavailable"};
    int64_t numbers[2] = {1, 1};
    for (size_t i = 0; i < 2; i++) {
        const json_t *v = object_at(deployment, paths[i]);
        if (v && !rollout_resolve(v, 100, true, &numbers[i])) {
            AUTO_FREE char *text = json_dumps(v, JSON_ENCODE_ANY);
            return err_field(
                err, ERR_INVALID, paths[i],
                "%s: Invalid value: %s: must be a number or a percentage, not negative", paths[i],
                text);
        }
    }
    if (!numbers[0] && !numbers[1])
        return err_field(err, ERR_INVALID, paths[1],
                         "%s: Invalid value: 0: may not be 0 when maxSurge is 0", paths[1]);
    return OK;
}

static enum errc admit_replicated(const json_t *o, const json_t *old, json_t *warnings,
                                  struct error *err) {
    const json_t *selector = object_at(o, "spec.selector");
    const json_t *labels = object_at(o, "spec.template.metadata.labels");
    if (not_negative(o, "spec.replicas", 0, err) ||
        not_negative(o, "spec.minReadySeconds", 0, err) ||
        not_negative(o, "spec.revisionHistoryLimit", 0, err) ||
        not_negative(o, "spec.progressDeadlineSeconds", 0, err) || check_strategy(o, err))
        return err->code;
    if (!labels_selector_match(selector, labels))
        return err_field(err, ERR_INVALID, "spec.template.metadata.labels",
                         "spec.template.metadata.labels: Invalid value: `selector` does not match "
                         "template `labels`, or is empty");
    if (old && !json_equal((json_t *)selector, object_at(old, "spec.selector")))
        return err_field(err, ERR_INVALID, "spec.selector",
                         "spec.selector: Invalid value: field is immutable");
    const json_t *template = object_at(o, TEMPLATE);
    if (!old || !json_equal((json_t *)template, object_at(old, TEMPLATE)))
        pod_fields_ignored(template, TEMPLATE, warnings);
    return OK;
}

/* Pod. */

/* What the scheduler has written into the pod is what the pod holds: of a new pod it goes, and
 * nobody else changes it. */
static enum errc keep_holdings(json_t *pod, const json_t *old, json_t *warnings,
                               struct error *err) {
    static const char *const written[] = {PLACEMENT_DEVICES_ANNOTATION,
                                          PLACEMENT_MEMORY_ANNOTATION};
    for (size_t i = 0; i < ARRAY_LEN(written); i++) {
        const char *now = object_annotation(pod, written[i]);
        const char *was = old ? object_annotation(old, written[i]) : NULL;
        AUTO_FREE char *field = mem_printf("metadata.annotations[%s]", written[i]);
        if (!now && !was)
            continue;
        if (!old) {
            json_object_del(object_at(pod, "metadata.annotations"), written[i]);
            json_array_append_new(warnings,
                                  json_sprintf("%s: left out: the scheduler writes it", field));
        } else if (!now || !was || strcmp(now, was) != 0) {
            return err_field(err, ERR_INVALID, field,
                             "%s: Invalid value: \"%.200s\": field is immutable: it says what the "
                             "pod holds, and is written by the scheduler",
                             field, now ? now : "");
        }
    }
    return OK;
}

static enum errc admit_pod(json_t *pod, const json_t *old, json_t *warnings, struct error *err) {
    const json_t *containers = object_at(pod, "spec.containers");
    size_t i;
    json_t *c;
    if (!json_array_size(containers))
        return err_field(err, ERR_INVALID, "spec.containers", "spec.containers: Required value");
    json_array_foreach (containers, i, c) {
        AUTO_FREE char *path = mem_printf("spec.containers[%zu]", i);
        if (check_resources(c, path, err))
            return err->code;
    }
    if (keep_holdings(pod, old, warnings, err))
        return err->code;
    if (old)
        return OK;
    pod_fields_ignored(json_object_get(pod, "spec"), "spec", warnings);
    if (replica_command_is_host(pod))
        return OK;
    if (json_array_size(containers) > 1)
        json_array_append_new(warnings, json_string("spec.containers: inferd runs the first "
                                                    "container of a pod that serves a model only"));
    if (json_array_size(object_at(pod, "spec.initContainers")))
        json_array_append_new(warnings, json_string("spec.initContainers has no effect on a pod "
                                                    "that serves a model"));
    return OK;
}

enum errc control_admit(const char *group, const char *resource, json_t *object, const json_t *old,
                        json_t *warnings, struct error *err) {
    if (!strcmp(resource, "inferenceservices"))
        return admit_isvc(object, warnings, err);
    if (!strcmp(resource, "deployments") || !strcmp(resource, "replicasets"))
        return admit_replicated(object, old, warnings, err);
    if (!strcmp(resource, "pods") && strcmp(group, "metrics.k8s.io") != 0)
        return admit_pod(object, old, warnings, err);
    if (!*group && !strcmp(resource, "services") && !old)
        service_warn(object, warnings);
    if (!strcmp(resource, "horizontalpodautoscalers"))
        return pod_autoscaler_check(object, err);
    return OK;
}
