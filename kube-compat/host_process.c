/* The image `host` runs a command on this machine, so writing it down takes the verb `use` on
 * hostprocesses (ADR 14), in a pod, in what has a template of pods, and in what a pod is composed
 * of (ADR 30). Controllers write to the store directly and are not asked: whoever wrote the
 * Deployment, the InferenceService or the runtime that they act for was. Who scales one, or labels
 * it, changes nothing about the processes and is not asked either. */
#include "kube-compat/host_process.h"

#include "core/object.h"
#include "kube-compat/authz.h"

static bool is_serving(const struct kind *kind, const char *plural) {
    return !strcmp(kind->group, "serving.kserve.io") && !strcmp(kind->plural, plural);
}

/* What of the object says what runs; NULL: nothing does. Gives a new reference. */
static json_t *what_runs(const struct kind *kind, const json_t *object) {
    static const char *const scale_fields[] = {
        "minReplicas",     "maxReplicas",          "scaleTarget", "scaleMetric",
        "scaleMetricType", "containerConcurrency", "autoScaling", "canaryTrafficPercent"};
    if (kind->built_in && !*kind->group && !strcmp(kind->plural, "pods"))
        return json_incref(object_at(object, "spec"));
    if (kind->built_in && !strcmp(kind->group, "apps") &&
        (!strcmp(kind->plural, "deployments") || !strcmp(kind->plural, "replicasets")))
        return json_incref(object_at(object, "spec.template.spec"));
    if (is_serving(kind, "servingruntimes") || is_serving(kind, "clusterservingruntimes"))
        return json_incref(object_at(object, "spec"));
    if (!is_serving(kind, "inferenceservices"))
        return NULL;
    json_t *spec = json_deep_copy(object_at(object, "spec"));
    json_t *predictor = json_object_get(spec, "predictor");
    for (size_t i = 0; i < ARRAY_LEN(scale_fields); i++)
        json_object_del(predictor, scale_fields[i]);
    return spec;
}

/* Anywhere below: an InferenceService has containers in a dozen places. */
static bool has_host_image(const json_t *value) {
    const char *key;
    size_t i;
    json_t *v;
    if (json_is_array(value)) {
        json_array_foreach (value, i, v) {
            if (has_host_image(v))
                return true;
        }
    }
    json_object_foreach ((json_t *)(uintptr_t)value, key, v) {
        const char *text = json_string_value(v);
        if ((text && !strcmp(key, "image") && !strcmp(text, "host")) || has_host_image(v))
            return true;
    }
    return false;
}

static bool is_changed(const struct kind *kind, const json_t *runs, const json_t *old) {
    json_t *ran = old ? what_runs(kind, old) : NULL;
    bool changed = !json_equal((json_t *)(uintptr_t)runs, ran);
    json_decref(ran);
    return changed;
}

enum errc host_process_check(struct request *rq, const json_t *object, const json_t *old,
                             struct error *err) {
    json_t *runs = what_runs(rq->kind, object);
    bool asks = has_host_image(runs) && is_changed(rq->kind, runs, old);
    json_decref(runs);
    if (!asks || authz_may_use_host_processes(rq->kube->authz, rq->who, rq->ns))
        return OK;
    return err_set(err, ERR_FORBIDDEN,
                   "%s \"%s\" is forbidden: User \"%s\" cannot use resource \"hostprocesses\" in "
                   "API group \"inferd.io\" %s%s%s, which the image \"host\" takes",
                   rq->kind->qualified, object_name(object) ? object_name(object) : "",
                   rq->who->name, rq->ns ? "in the namespace \"" : "at the cluster scope",
                   rq->ns ? rq->ns : "", rq->ns ? "\"" : "");
}
