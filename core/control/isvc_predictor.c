/* The predictor's pod template, as KServe's controller composes it:
 *
 *   runtime's pod spec  ◀ merged with ─ runtime's kserve-container ◀─ spec.predictor.model
 *                       ◀ merged with ─ the PodSpec fields of spec.predictor
 *
 * args are appended, env merged by name (ports and volumeMounts likewise), resources by key;
 * anything else in the model's section replaces. {{.Name}}, {{.Namespace}}, {{.Labels.x}} and
 * {{.Annotations.x}} of the InferenceService are filled in. The model's location travels in the
 * annotation that KServe's storage initializer reads; here core/node/replica_command.h and
 * pod_serve.h do.
 *
 * A runtime whose container has the image `host` is a command of this machine, and who wrote it had
 * the right to (ADR 30). Whoever chooses it fills in names and a model. To change the command, its
 * environment or what is run beside it, an InferenceService says the image `host` itself, and that
 * was asked for when it was written. */
#include "core/control/isvc_predictor.h"

#include <stdio.h>

#include "core/control/runtime.h"
#include "core/model/model_ref.h"
#include "core/node/replica_command.h"

enum { FILLED_BYTES_MAX = 64 * 1024 };

static const char *const frameworks[] = {"model",   "sklearn", "xgboost",  "tensorflow",
                                         "pytorch", "triton",  "onnx",     "huggingface",
                                         "pmml",    "paddle",  "lightgbm", NULL};

/* Fields of the predictor, and of its model section, that are not part of a pod. */
static const char *const component_fields[] = {"minReplicas",
                                               "maxReplicas",
                                               "scaleTarget",
                                               "scaleMetric",
                                               "scaleMetricType",
                                               "autoScaling",
                                               "timeout",
                                               "containerConcurrency",
                                               "canaryTrafficPercent",
                                               "logger",
                                               "batcher",
                                               "labels",
                                               "annotations",
                                               "deploymentStrategy",
                                               "workerSpec",
                                               "name",
                                               "containers",
                                               "initContainers",
                                               "volumes"};
static const char *const model_fields[] = {"modelFormat", "storageUri",     "storage",
                                           "runtime",     "runtimeVersion", "protocolVersion"};
/* What the annotations of the InferenceService leave behind: what says nothing to a pod must not
 * make a new revision of it. */
static const char *const dropped_annotations[] = {
    "kubectl.kubernetes.io/last-applied-configuration", "serving.kserve.io/autoscalerClass",
    ISVC_TAGS_ANNOTATION, ISVC_STICKY_ANNOTATION};

const char *const *isvc_predictor_frameworks(void) {
    return frameworks;
}

static bool among(const char *name, const char *const *list, size_t len) {
    for (size_t i = 0; i < len; i++) {
        if (!strcmp(name, list[i]))
            return true;
    }
    return false;
}

#define AMONG(name, list) among(name, list, ARRAY_LEN(list))

char *isvc_predictor_child(const json_t *isvc) {
    const char *own = object_str(isvc, "spec.predictor.name");
    return own && *own ? mem_printf("%.250s-%.60s-predictor", object_name(isvc), own)
                       : mem_printf("%.250s-predictor", object_name(isvc));
}

json_t *isvc_predictor_model(const json_t *isvc) {
    const json_t *predictor = object_at(isvc, "spec.predictor");
    for (const char *const *f = frameworks; *f; f++) {
        json_t *section = json_object_get(predictor, *f);
        if (!section)
            continue;
        if (!strcmp(*f, "model"))
            return json_incref(section);
        json_t *model = json_is_object(section) ? json_copy(section) : json_object();
        json_object_set_new(model, "modelFormat", json_pack("{s:s}", "name", *f));
        return model;
    }
    return NULL;
}

/* Filling in. */

static const char *placeholder_value(const json_t *isvc, const char *name) {
    if (!strcmp(name, ".Name"))
        return object_name(isvc);
    if (!strcmp(name, ".Namespace"))
        return object_namespace(isvc);
    if (!strncmp(name, ".Labels.", 8))
        return object_label(isvc, name + 8);
    if (!strncmp(name, ".Annotations.", 13))
        return object_annotation(isvc, name + 13);
    return NULL;
}

/* Gives the text with its {{...}} replaced; unknown ones stay, so that they are seen. */
static char *fill_text(const json_t *isvc, const char *text) {
    struct buf out = BUF_INIT;
    buf_reserve(&out, strlen(text) + 1);
    while (*text && out.len < FILLED_BYTES_MAX) {
        const char *end = !strncmp(text, "{{", 2) ? strstr(text, "}}") : NULL;
        char name[128] = "";
        if (end && end - text < (ptrdiff_t)sizeof(name))
            sscanf(text + 2, " %127[^} ]", name);
        const char *value = *name ? placeholder_value(isvc, name) : NULL;
        if (value) {
            buf_puts(&out, value);
            text = end + 2;
        } else {
            buf_putc(&out, *text++);
        }
    }
    return buf_steal(&out);
}

/* Who wrote it down was asked for his right only when it said so itself (ADR 30). */
static bool becomes_host(const json_t *isvc, const char *key, const json_t *value) {
    const char *text = strcmp(key, "image") != 0 ? NULL : json_string_value(value);
    AUTO_FREE char *filled = text ? fill_text(isvc, text) : NULL;
    return filled && !strcmp(filled, REPLICA_HOST_IMAGE);
}

/* Gives a copy of value with every string in it filled in, but for an image that would become the
 * image `host` by it. */
static json_t *fill(const json_t *isvc, const json_t *value) {
    if (json_is_string(value)) {
        AUTO_FREE char *text = fill_text(isvc, json_string_value(value));
        return json_string(text);
    }
    if (json_is_array(value)) {
        json_t *out = json_array();
        for (size_t i = 0; i < json_array_size(value); i++)
            json_array_append_new(out, fill(isvc, json_array_get(value, i)));
        return out;
    }
    if (json_is_object(value)) {
        json_t *out = json_object(), *v;
        const char *key;
        json_object_foreach ((json_t *)value, key, v)
            json_object_set_new(out, key,
                                becomes_host(isvc, key, v) ? json_incref(v) : fill(isvc, v));
        return out;
    }
    return json_deep_copy(value);
}

/* Merging. */

/* Lists that are merged by what names their entries; of other lists the later one stands. */
static const struct {
    const char *field, *key;
} keyed_lists[] = {{"env", "name"}, {"volumeMounts", "mountPath"}, {"ports", "containerPort"}};

static const char *list_key(const char *field) {
    for (size_t i = 0; i < ARRAY_LEN(keyed_lists); i++) {
        if (!strcmp(keyed_lists[i].field, field))
            return keyed_lists[i].key;
    }
    return NULL;
}

static void merge_list(json_t *container, const char *field, const char *key,
                       const json_t *entries) {
    json_t *list = json_array(), *entry, *has;
    size_t i, k;
    json_array_extend(list, json_object_get(container, field));
    json_array_foreach (entries, i, entry) {
        const json_t *name = json_object_get(entry, key);
        json_array_foreach (list, k, has) {
            if (name && json_equal(json_object_get(has, key), (json_t *)(uintptr_t)name))
                break;
        }
        if (k < json_array_size(list))
            json_array_set(list, k, entry);
        else
            json_array_append(list, entry);
    }
    json_object_set_new(container, field, list);
}

static void merge_container(json_t *container, const json_t *model) {
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)model, key, value) {
        json_t *has = json_object_get(container, key);
        if (AMONG(key, model_fields) || !strcmp(key, "name"))
            continue;
        if (!strcmp(key, "args") && json_is_array(has) && json_is_array(value)) {
            json_t *both = json_copy(has);
            json_array_extend(both, value);
            json_object_set_new(container, key, both);
        } else if (list_key(key) && json_is_array(value)) {
            merge_list(container, key, list_key(key), value);
        } else if (!strcmp(key, "resources") && json_is_object(has) && json_is_object(value)) {
            json_t *both = json_deep_copy(has);
            json_object_update_recursive(both, value);
            json_object_set_new(container, key, both);
        } else {
            json_object_set(container, key, value);
        }
    }
}

static json_t *default_container(json_t *container) {
    static const char *const defaults[][2] = {{"terminationMessagePath", "/dev/termination-log"},
                                              {"terminationMessagePolicy", "File"},
                                              {"imagePullPolicy", "IfNotPresent"}};
    if (!object_str(container, "name"))
        object_set(container, "name", json_string(ISVC_CONTAINER_NAME));
    for (size_t i = 0; i < ARRAY_LEN(defaults); i++) {
        if (!json_object_get(container, defaults[i][0]))
            json_object_set_new(container, defaults[i][0], json_string(defaults[i][1]));
    }
    if (!json_object_get(container, "resources"))
        json_object_set_new(container, "resources", json_object());
    if (!json_object_get(container, "ports"))
        json_object_set_new(container, "ports",
                            json_pack("[{s:i, s:s}]", "containerPort", 8080, "protocol", "TCP"));
    return container;
}

/* What only commands of this machine have: in a pod of inferd's own engine nothing else runs. */
static void add_host_fields(json_t *spec, const json_t *isvc, const json_t *runtime) {
    static const char *const lists[] = {"initContainers", "volumes"};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        json_t *both = json_array();
        AUTO_FREE char *path = mem_printf("spec.predictor.%s", lists[i]);
        json_t *own = fill(isvc, object_at(isvc, path));
        json_array_extend(both, json_object_get(json_object_get(runtime, "spec"), lists[i]));
        json_array_extend(both, own);
        json_decref(own);
        if (json_array_size(both))
            json_object_set(spec, lists[i], both);
        json_decref(both);
    }
}

/* The pod's own fields: the runtime's, then the predictor's, then defaults. */
static json_t *pod_spec(const struct world *w, const json_t *predictor, const json_t *runtime) {
    static const char *const runtime_pod_fields[] = {"nodeSelector", "tolerations", "affinity",
                                                     "imagePullSecrets", "serviceAccountName"};
    json_t *spec = json_object(), *value;
    const char *key;
    for (size_t i = 0; i < ARRAY_LEN(runtime_pod_fields); i++) {
        value = json_object_get(json_object_get(runtime, "spec"), runtime_pod_fields[i]);
        if (value)
            json_object_set_new(spec, runtime_pod_fields[i], json_deep_copy(value));
    }
    json_object_foreach ((json_t *)predictor, key, value) {
        if (!AMONG(key, component_fields) && strcmp(key, "serviceAccount") != 0 &&
            !among(key, frameworks, ARRAY_LEN(frameworks) - 1))
            json_object_set_new(spec, key, json_deep_copy(value));
    }
    json_t *defaults = json_pack("{s:s, s:s, s:s, s:I, s:{}}", "restartPolicy", "Always",
                                 "dnsPolicy", "ClusterFirst", "schedulerName", "default-scheduler",
                                 "terminationGracePeriodSeconds",
                                 (json_int_t)w->config->drain_seconds, "securityContext");
    json_object_update_missing(spec, defaults);
    json_decref(defaults);
    return spec;
}

static void copy_strings(json_t *to, const json_t *from) {
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)from, key, value) {
        if (json_is_string(value) && !AMONG(key, dropped_annotations))
            json_object_set(to, key, value);
    }
}

static json_t *pod_metadata(const json_t *isvc, const json_t *runtime, const char *source_uri) {
    const json_t *predictor = object_at(isvc, "spec.predictor");
    json_t *labels = json_object(), *annotations = json_object();
    AUTO_FREE char *child = isvc_predictor_child(isvc);
    AUTO_FREE char *app = mem_printf("isvc.%s", child);
    copy_strings(labels, object_at(runtime, "spec.labels"));
    copy_strings(labels, object_at(isvc, "metadata.labels"));
    copy_strings(labels, json_object_get(predictor, "labels"));
    json_object_set_new(labels, "app", json_string(app));
    json_object_set_new(labels, ISVC_COMPONENT_LABEL, json_string("predictor"));
    json_object_set_new(labels, ISVC_LABEL, json_string(object_name(isvc)));
    copy_strings(annotations, object_at(runtime, "spec.annotations"));
    copy_strings(annotations, object_at(isvc, "metadata.annotations"));
    copy_strings(annotations, json_object_get(predictor, "annotations"));
    if (source_uri)
        json_object_set_new(annotations, REPLICA_SOURCE_URI_ANNOTATION, json_string(source_uri));
    return json_pack("{s:o, s:o}", "labels", labels, "annotations", annotations);
}

static void refuse(struct isvc_plan *p, const char *reason, char *message) {
    p->reason = reason;
    p->message = message;
}

static bool scheme_is_local(const char *uri) {
    static const char *const schemes[] = {"file://", "pvc://", "hf://", "embedded://"};
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
        if (!strncmp(uri, schemes[i], strlen(schemes[i])))
            return true;
    }
    return !strstr(uri, "://");
}

/* Gives why the model will never come; NULL: it is here, or may be fetched. */
static char *cannot_fetch(const struct world *w, const char *uri) {
    struct model_ref ref;
    struct error err = ERROR_INIT;
    if (scheme_is_local(uri) && (!w->models.self || !model_ref_is_remote(uri)))
        return NULL;
    if (!w->models.self)
        return mem_printf(
            "storageUri \"%s\": models are not downloaded here; put it into the models "
            "folder and name it by file://, pvc://, hf:// or a path",
            uri);
    if (model_ref_parse(uri, &ref, &err))
        return mem_printf("storageUri: %s", err.text);
    model_ref_deinit(&ref);
    return NULL;
}

static bool is_host(const json_t *container) {
    const char *image = object_str(container, "image");
    return image && !strcmp(image, REPLICA_HOST_IMAGE);
}

/* Every container of a pod of host processes must be one. Gives (heap) what is wrong, or NULL. */
static char *check_host_lists(const json_t *spec) {
    static const char *const lists[] = {"containers", "initContainers"};
    for (size_t l = 0; l < ARRAY_LEN(lists); l++) {
        size_t i;
        json_t *c;
        json_array_foreach (json_object_get(spec, lists[l]), i, c) {
            const char *image = object_str(c, "image"), *name = object_str(c, "name");
            if (!is_host(c))
                return mem_printf("container \"%s\": the image \"%s\" cannot be run beside "
                                  "containers with the image \"host\"",
                                  name ? name : "", image ? image : "");
        }
    }
    return NULL;
}

/* Takes containers, the served one first. */
static void finish(const struct world *w, const json_t *isvc, const json_t *runtime,
                   json_t *containers, const char *source_uri, struct isvc_plan *p) {
    const json_t *served = json_array_get(containers, 0);
    const char *image = object_str(served, "image");
    bool host = is_host(served);
    if (!host && (!image || !replica_command_image_known(image))) {
        refuse(p, RUNTIME_NOT_SUPPORTING,
               mem_printf("image \"%s\"%s%s: no runtime on this machine serves it; known are "
                          "vllm/vllm-openai, kserve/huggingfaceserver, inferd/engine and host",
                          image ? image : "", runtime ? " of runtime " : "",
                          runtime ? object_name(runtime) : ""));
        json_decref(containers);
        return;
    }
    json_t *spec = pod_spec(w, object_at(isvc, "spec.predictor"), runtime);
    json_object_set_new(spec, "containers", containers);
    if (host)
        add_host_fields(spec, isvc, runtime);
    char *wrong = host ? check_host_lists(spec) : NULL;
    if (wrong) {
        refuse(p, "InvalidPredictorSpec", wrong);
        json_decref(spec);
        return;
    }
    p->template =
        json_pack("{s:o, s:o}", "metadata", pod_metadata(isvc, runtime, source_uri), "spec", spec);
}

static bool is_served_container(const json_t *c) {
    const char *name = object_str(c, "name");
    return name && !strcmp(name, ISVC_CONTAINER_NAME);
}

/* Gives an array with the kserve-container first. */
static json_t *ordered(const json_t *isvc, const json_t *containers) {
    json_t *out = json_array(), *c;
    size_t i;
    json_array_foreach (containers, i, c) {
        json_t *filled = default_container(fill(isvc, c));
        if (is_served_container(c))
            json_array_insert_new(out, 0, filled);
        else
            json_array_append_new(out, filled);
    }
    return out;
}

/* The field of an InferenceService's container with which it would change the command of a runtime
 * that is a host process; NULL: it leaves it alone, or says itself that it is one. */
static const char *changes_command(const json_t *container) {
    static const char *const harmless[] = {"name", "resources", "imagePullPolicy",
                                           "terminationMessagePath", "terminationMessagePolicy"};
    const char *key;
    json_t *value;
    if (is_host(container))
        return NULL;
    json_object_foreach ((json_t *)(uintptr_t)container, key, value) {
        bool empty = json_is_null(value) || (json_is_array(value) && !json_array_size(value)) ||
                     (json_is_object(value) && !json_object_size(value));
        if (!empty && !AMONG(key, harmless) && !AMONG(key, model_fields))
            return key;
    }
    return NULL;
}

/* Containers of the predictor beside its model: those that have a name of the runtime's are merged
 * into it, the others run beside. */
static void add_predictor_containers(json_t *containers, const json_t *isvc) {
    size_t i, k;
    json_t *c, *has;
    json_array_foreach (object_at(isvc, "spec.predictor.containers"), i, c) {
        const char *name = object_str(c, "name");
        json_t *filled = fill(isvc, c);
        json_t *same = NULL;
        json_array_foreach (containers, k, has) {
            if (name && !strcmp(object_str(has, "name"), name))
                same = has;
        }
        if (same) {
            merge_container(same, filled);
            json_decref(filled);
        } else {
            json_array_append_new(containers, default_container(filled));
        }
    }
}

/* Gives (heap) why this InferenceService may not use a runtime that is a host process; NULL: it
 * may. */
static char *check_host_use(const json_t *isvc, const json_t *model, const char *runtime) {
    static const char *const lists[] = {"containers", "initContainers"};
    const char *field = changes_command(model);
    size_t i;
    json_t *c;
    if (field)
        return mem_printf("spec.predictor.model.%s changes the command of runtime \"%s\", which is "
                          "a process of this machine: say image: host beside it, which takes the "
                          "right to use hostprocesses",
                          field, runtime);
    for (size_t l = 0; l < ARRAY_LEN(lists); l++) {
        AUTO_FREE char *path = mem_printf("spec.predictor.%s", lists[l]);
        json_array_foreach (object_at(isvc, path), i, c) {
            if (!is_host(c))
                return mem_printf("%s[%zu].image: must be host beside runtime \"%s\", which is a "
                                  "process of this machine",
                                  path, i, runtime);
        }
    }
    return NULL;
}

/* Gives the runtime's containers with the InferenceService's words in them; NULL: refused. */
static json_t *compose(const json_t *isvc, const json_t *model, const json_t *runtime,
                       struct isvc_plan *p) {
    json_t *containers = ordered(isvc, object_at(runtime, "spec.containers"));
    json_t *served = json_array_get(containers, 0);
    char *wrong = NULL;
    if (!served)
        wrong = mem_printf("runtime \"%s\" has no containers", p->runtime);
    else if (is_host(served))
        wrong = check_host_use(isvc, model, p->runtime);
    if (wrong) {
        json_decref(containers);
        refuse(p, "InvalidPredictorSpec", wrong);
        return NULL;
    }
    bool host = is_host(served);
    json_t *filled = fill(isvc, model);
    merge_container(served, filled);
    json_decref(filled);
    if (host)
        add_predictor_containers(containers, isvc);
    return containers;
}

static void plan_model(struct world *w, const json_t *isvc, const json_t *model,
                       struct isvc_plan *p) {
    struct runtime_choice choice;
    const char *uri = object_str(model, "storageUri");
    if (!runtime_select(w, object_namespace(isvc), model, &choice)) {
        refuse(p, choice.reason, mem_strdup(choice.message));
        return;
    }
    AUTO(store_object) runtime = choice.object;
    p->runtime = mem_strdup(object_name(runtime->json));
    p->cluster_runtime = kind_of_key(runtime->key) == KIND_CLUSTER_SERVING_RUNTIME;
    char *why_not = uri ? cannot_fetch(w, uri) : NULL;
    if (why_not) {
        refuse(p, "ModelLoadFailed", why_not);
        return;
    }
    json_t *containers = compose(isvc, model, runtime->json, p);
    if (containers)
        finish(w, isvc, runtime->json, containers, uri, p);
}

void isvc_predictor_plan(struct world *w, const json_t *isvc, struct isvc_plan *ret) {
    *ret = (struct isvc_plan){0};
    json_t *model = isvc_predictor_model(isvc);
    const json_t *containers = object_at(isvc, "spec.predictor.containers");
    if (model)
        plan_model(w, isvc, model, ret);
    else if (json_array_size(containers))
        finish(w, isvc, NULL, ordered(isvc, containers), NULL, ret);
    else
        refuse(ret, "InvalidPredictorSpec",
               mem_strdup("spec.predictor: neither model nor containers"));
    json_decref(model);
}

void isvc_plan_deinit(struct isvc_plan *p) {
    json_decref(p->template);
    free(p->message);
    free(p->runtime);
    *p = (struct isvc_plan){0};
}
