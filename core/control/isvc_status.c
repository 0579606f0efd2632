/* InferenceService status. The sources are the Deployment (is enough of it available), its
 * ReplicaSets (which revision) and the pods (what exactly is wrong). The most telling pod failure
 * becomes the reason of PredictorReady, so that `kubectl get isvc -o yaml` answers "why not"
 * without a walk through Deployment, ReplicaSet and Pod. */
#include "core/control/isvc_status.h"

#include <inttypes.h>
#include <stdio.h>

#include "core/control/canary.h"
#include "core/control/deployment_status.h"
#include "core/control/isvc_fields.h"
#include "core/control/pod_model.h"
#include "core/control/pod_status.h"
#include "core/control/revision.h"
#include "core/control/scheduler.h"

enum { WHOLE_PERCENT = 100 };

/* What a pod says about why it does not serve. */
struct failure {
    const char *reason; /* condition's; NULL: nothing is wrong */
    const char *message;
    const json_t *pod;
    int64_t exit_code; /* -1: none */
    bool fatal;        /* it will not heal by waiting for it to start */
};

/* It waits for its model, which comes. */
static bool is_loading(const json_t *waiting) {
    const char *reason = object_str(waiting, "reason");
    return reason && !strcmp(reason, POD_MODEL_LOADING);
}

/* How much a failure tells; a waiting container with a termination behind it tells most. */
static struct failure pod_failure(const json_t *pod) {
    const json_t *cs = object_at(pod, "status.containerStatuses.0");
    const json_t *waiting = object_at(cs, "state.waiting");
    const json_t *ended = object_at(cs, "state.terminated");
    const json_t *scheduled = object_find_condition(pod, "PodScheduled");
    struct failure f = {.pod = pod, .exit_code = -1};
    if (!ended)
        ended = object_at(cs, "lastState.terminated");
    if (scheduled && object_str(scheduled, "status") &&
        !strcmp(object_str(scheduled, "status"), "False")) {
        f.reason = object_str(scheduled, "reason");
        f.message = object_str(scheduled, "message");
    } else if (ended && !pod_status_ready(pod) && !object_bool(cs, "ready", false)) {
        f.reason = waiting ? object_str(waiting, "reason") : object_str(ended, "reason");
        f.message = object_str(ended, "message");
        if (!f.message)
            f.message = object_str(waiting, "message");
        f.exit_code = object_int(ended, "exitCode", -1);
        f.fatal = true;
    } else if (waiting && object_str(waiting, "message")) {
        f.reason = object_str(waiting, "reason");
        f.message = object_str(waiting, "message");
        f.fatal = !is_loading(waiting);
    }
    return f;
}

static struct failure worst_failure(const struct isvc_view *v) {
    struct failure worst = {.exit_code = -1};
    for (size_t i = 0; i < v->num_pods; i++) {
        struct failure f = pod_failure(v->pods[i]);
        if (f.reason && (!worst.reason || (f.fatal && !worst.fatal)))
            worst = f;
    }
    return worst;
}

static size_t count_ready(const struct isvc_view *v) {
    size_t num = 0;
    for (size_t i = 0; i < v->num_pods; i++)
        num += pod_status_ready(v->pods[i]);
    return num;
}

/* Addresses. */

static void set_addresses(const struct world *w, json_t *isvc, json_t *predictor) {
    const char *ns = object_namespace(isvc), *name = object_name(isvc);
    AUTO_FREE char *url = mem_printf("http://%s.%s.%s", name, ns, w->config->domain);
    AUTO_FREE char *predictor_url =
        mem_printf("http://%s-predictor.%s.%s", name, ns, w->config->domain);
    AUTO_FREE char *address = mem_printf("%s/serving/%s/%s", w->gateway_url, ns, name);
    object_set(isvc, "status.url", json_string(url));
    object_set(isvc, "status.address", json_pack("{s:s}", "url", address));
    object_set(predictor, "url", json_string(predictor_url));
}

/* Revisions: the Deployment's numbers, as names. */

/* The set that a canary leaves in place; NULL: no canary. */
static const json_t *stable_set(const struct isvc_view *v) {
    return v->deployment
               ? revision_stable_set(v->deployment, revision_newest_set(v->sets, v->num_sets),
                                     v->sets, v->num_sets)
               : NULL;
}

static bool has_arrived(const struct isvc_view *v) {
    if (!v->deployment)
        return false;
    return stable_set(v) ? deployment_status_split_complete(v->deployment)
                         : deployment_status_complete(v->deployment);
}

static const json_t *newest_ready_set(const struct isvc_view *v) {
    const json_t *newest = NULL;
    for (size_t i = 0; i < v->num_sets; i++) {
        if (object_int(v->sets[i], "status.readyReplicas", 0) > 0 &&
            (!newest || revision_number(v->sets[i]) > revision_number(newest)))
            newest = v->sets[i];
    }
    return newest;
}

/* The newest revision beside a stable one: its share, and who is the latest that is ready. */
static void set_split(json_t *predictor, const struct isvc_view *v, const json_t *stable,
                      int64_t percent) {
    const char *name = object_name(v->deployment);
    const json_t *newest = revision_newest_set(v->sets, v->num_sets);
    const char *was_ready = object_str(predictor, "latestReadyRevision");
    bool ready = revision_takes_share(newest, was_ready, name);
    AUTO_FREE char *latest = revision_name(ready ? newest : stable, name);
    AUTO_FREE char *prev = revision_name(stable, name);
    object_set(predictor, "latestReadyRevision", json_string(latest));
    if (!revision_stays_with_share(stable, json_object_get(predictor, "traffic"))) {
        object_set(predictor, "traffic", revision_traffic(latest, 0, NULL)); /* it starts */
        return;
    }
    object_set(predictor, "traffic", revision_traffic(latest, percent, prev));
    /* As KServe: a revision that was rolled out and is split is no longer what was rolled out. */
    const char *rolled_out = object_str(predictor, "latestRolledoutRevision");
    const char *previous = object_str(predictor, "previousRolledoutRevision");
    if (previous && rolled_out && !strcmp(rolled_out, latest) &&
        revision_is_named(stable, previous))
        object_set(predictor, "latestRolledoutRevision", json_string(previous));
}

static void set_revisions(const json_t *isvc, json_t *predictor, const struct isvc_view *v) {
    const char *name = object_name(v->deployment);
    if (!revision_number(v->deployment))
        return;
    AUTO_FREE char *created = revision_name(v->deployment, name);
    object_set(predictor, "latestCreatedRevision", json_string(created));
    const json_t *stable = stable_set(v), *ready_set = newest_ready_set(v);
    int64_t percent = revision_canary_percent(isvc);
    if (stable && percent >= 0) {
        set_split(predictor, v, stable, percent);
        return;
    }
    if (ready_set) {
        AUTO_FREE char *ready = revision_name(ready_set, name);
        object_set(predictor, "latestReadyRevision", json_string(ready));
        object_set(predictor, "traffic", revision_traffic(ready, 0, NULL));
    }
    const char *was = object_str(predictor, "latestRolledoutRevision");
    if (!deployment_status_complete(v->deployment) || (was && !strcmp(was, created)))
        return;
    if (was)
        object_set(predictor, "previousRolledoutRevision", json_string(was));
    object_set(predictor, "latestRolledoutRevision", json_string(created));
}

/* Model status. */

static void set_failure_info(const struct world *w, json_t *isvc, const struct isvc_view *v,
                             const struct failure *f) {
    const json_t *was = object_at(isvc, "status.modelStatus.lastFailureInfo");
    const char *reason = f->reason ? "ModelLoadFailed" : v->plan->reason;
    const char *message = f->reason ? f->message : v->plan->message;
    json_t *info = json_pack("{s:s, s:s}", "reason", reason, "message", message ? message : "");
    if (f->exit_code >= 0)
        json_object_set_new(info, "exitCode", json_integer(f->exit_code));
    if (f->pod)
        json_object_set_new(info, "location", json_string(object_name(f->pod)));
    if (f->pod && v->deployment) {
        AUTO_FREE char *revision = revision_name(v->deployment, object_name(v->deployment));
        json_object_set_new(info, "modelRevisionName", json_string(revision));
    }
    const char *was_message = object_str(was, "message"), *was_time = object_str(was, "time");
    bool same = was_message && message && !strcmp(was_message, message);
    json_object_set_new(info, "time",
                        same && was_time ? json_string(was_time) : world_timestamp(w));
    object_set(isvc, "status.modelStatus.lastFailureInfo", info);
}

static const char *target_state(const struct isvc_view *v, const struct failure *f, size_t ready) {
    if (!v->plan->template || f->fatal)
        return "FailedToLoad";
    if (v->deployment && !object_int(v->deployment, "spec.replicas", 1))
        return "Standby";
    if (has_arrived(v) && ready)
        return "Loaded";
    for (size_t i = 0; i < v->num_pods; i++) {
        const json_t *waiting = object_at(v->pods[i], "status.containerStatuses.0.state.waiting");
        if (pod_status_running(v->pods[i]) ||
            (is_loading(waiting) && object_str(waiting, "message")))
            return "Loading";
    }
    return "Pending";
}

static void set_model_status(const struct world *w, json_t *isvc, const struct isvc_view *v,
                             const struct failure *f) {
    size_t ready = count_ready(v), failed = 0;
    for (size_t i = 0; i < v->num_pods; i++)
        failed += pod_failure(v->pods[i]).fatal;
    const char *target = target_state(v, f, ready);
    bool standby = !strcmp(target, "Standby");
    const char *transition = !v->plan->template                     ? "InvalidSpec"
                             : f->fatal                             ? "BlockedByFailedLoad"
                             : standby || !strcmp(target, "Loaded") ? "UpToDate"
                                                                    : "InProgress";
    object_set(isvc, "status.modelStatus.transitionStatus", json_string(transition));
    object_set(isvc, "status.modelStatus.states",
               json_pack("{s:s, s:s}", "activeModelState",
                         ready     ? "Loaded"
                         : standby ? "Standby"
                                   : target,
                         "targetModelState", target));
    object_set(isvc, "status.modelStatus.copies",
               json_pack("{s:I, s:I}", "failedCopies", (json_int_t)failed, "totalCopies",
                         (json_int_t)v->num_pods));
    if (!v->plan->template || f->fatal)
        set_failure_info(w, isvc, v, f);
    else if (!strcmp(transition, "UpToDate"))
        object_delete(isvc, "status.modelStatus.lastFailureInfo");
}

/* Canaries. */

static void set_canary_condition(const struct world *w, json_t *isvc, size_t num, bool all_ready) {
    static const char TYPE[] = "CanaryPredictorReady";
    const char *stop = object_annotation(isvc, "serving.kserve.io/stop");
    bool stopped = stop && !strcmp(stop, "true");
    if (!num)
        object_remove_condition(isvc, TYPE);
    else
        object_set_condition(isvc, TYPE, all_ready && !stopped ? "True" : "False",
                             stopped     ? "Stopped"
                             : all_ready ? "AllCanariesReady"
                                         : "CanariesNotReady",
                             NULL, w->wall_ms);
}

/* What the status says of a canary's model is told in the words of the service's own. */
static json_t *canary_model_status(const struct world *w, const json_t *isvc, const char *name,
                                   const struct isvc_view *v) {
    json_t *both = json_pack("{s:{s:{}}}", "status", "modelStatus"), *was;
    size_t i;
    json_array_foreach (object_at(isvc, "status.canaryStatuses"), i, was) {
        const char *has = object_str(was, "name");
        if (has && !strcmp(has, name) && json_object_get(was, "modelStatus"))
            object_set(both, "status.modelStatus",
                       json_deep_copy(json_object_get(was, "modelStatus")));
    }
    struct failure f = worst_failure(v);
    set_model_status(w, both, v, &f);
    json_t *status = json_incref(object_at(both, "status.modelStatus"));
    json_decref(both);
    return status;
}

/* The stable revision with what is left, then the canaries. */
static void share_traffic(json_t *predictor, int64_t left, json_t *canaries) {
    json_t *traffic = json_object_get(predictor, "traffic");
    if (!json_is_array(traffic)) {
        if (!json_array_size(canaries))
            return;
        json_object_set_new(predictor, "traffic", traffic = json_array());
    }
    json_t *stable = json_array_get(traffic, 0);
    bool has_stable = object_bool(stable, "latestRevision", false);
    while (json_array_size(traffic) > (has_stable ? 1 : 0))
        json_array_remove(traffic, json_array_size(traffic) - 1);
    if (has_stable)
        json_object_set_new(stable, "percent", json_integer(left));
    json_array_extend(traffic, canaries);
}

/* The newest revision of each canary, with its share. */
static void set_canaries(const struct world *w, json_t *isvc, json_t *predictor,
                         const struct isvc_view *canaries, size_t num) {
    json_t *statuses = json_array(), *traffic = json_array();
    int64_t left = WHOLE_PERCENT;
    bool all_ready = true;
    for (size_t i = 0; i < num; i++) {
        const char *name = canary_name(isvc, i);
        const json_t *deployment = canaries[i].deployment;
        bool ready = canaries[i].plan->template && deployment &&
                     canary_is_ready(deployment, canary_was_ready(isvc, name));
        int64_t percent = ready ? canary_percent(isvc, i) : 0;
        all_ready = all_ready && ready;
        left -= percent;
        json_array_append_new(statuses,
                              json_pack("{s:s, s:b, s:I, s:o}", "name", name, "ready", (int)ready,
                                        "trafficPercent", (json_int_t)percent, "modelStatus",
                                        canary_model_status(w, isvc, name, &canaries[i])));
        const json_t *set = newest_ready_set(&canaries[i]);
        if (!set)
            continue;
        AUTO_FREE char *revision = revision_name(set, object_name(deployment));
        json_array_append_new(traffic, json_pack("{s:b, s:I, s:s, s:s}", "latestRevision", 0,
                                                 "percent", (json_int_t)percent, "revisionName",
                                                 revision, "tag", name));
    }
    set_canary_condition(w, isvc, num, all_ready);
    if (num)
        object_set(isvc, "status.canaryStatuses", json_incref(statuses));
    else
        object_delete(isvc, "status.canaryStatuses");
    if (revision_canary_percent(isvc) < 0)
        share_traffic(predictor, left, traffic);
    json_decref(statuses);
    json_decref(traffic);
}

/* Revisions with a tag have a URL of their own. */
static void set_tags(const struct world *w, const json_t *isvc, json_t *predictor) {
    const char *wanted = object_annotation(isvc, ISVC_TAGS_ANNOTATION);
    bool latest_too = wanted && !strcmp(wanted, "true");
    size_t i;
    json_t *target;
    json_array_foreach (json_object_get(predictor, "traffic"), i, target) {
        if (latest_too && object_bool(target, "latestRevision", false))
            json_object_set_new(target, "tag", json_string("latest"));
        const char *tag = object_str(target, "tag");
        if (!tag)
            continue;
        AUTO_FREE char *url = mem_printf("http://%s-%s-predictor.%s.%s", tag, object_name(isvc),
                                         object_namespace(isvc), w->config->domain);
        json_object_set_new(target, "url", json_string(url));
    }
}

/* Conditions. */

static void set_info(const struct world *w, json_t *isvc, const char *type, const char *reason,
                     const char *message) {
    if (!message) {
        json_t *conditions = object_at(isvc, "status.conditions"), *c;
        size_t i;
        json_array_foreach (conditions, i, c) {
            const char *has = object_str(c, "type");
            if (has && !strcmp(has, type)) {
                json_array_remove(conditions, i);
                return;
            }
        }
        return;
    }
    object_set_condition(isvc, type, "True", reason, message, w->wall_ms);
    json_object_set_new(object_find_condition(isvc, type), "severity", json_string("Info"));
}

static void set_predictor_ready(const struct world *w, json_t *isvc, const struct isvc_view *v,
                                const struct failure *f) {
    const json_t *available =
        v->deployment ? object_find_condition(v->deployment, "Available") : NULL;
    const char *status = object_str(available, "status");
    bool is_available = status && !strcmp(status, "True");
    int64_t desired = v->deployment ? object_int(v->deployment, "spec.replicas", 1) : 1;
    if (!v->plan->template)
        object_set_condition(isvc, "PredictorReady", "False", v->plan->reason, v->plan->message,
                             w->wall_ms);
    else if (is_available && (desired == 0 || count_ready(v)))
        object_set_condition(isvc, "PredictorReady", "True", NULL, NULL, w->wall_ms);
    else if (f->reason)
        object_set_condition(isvc, "PredictorReady", "False", f->reason, f->message, w->wall_ms);
    else if (available)
        object_set_condition(isvc, "PredictorReady", "False", "MinimumReplicasUnavailable",
                             "Deployment does not have minimum availability.", w->wall_ms);
    else
        object_set_condition(isvc, "PredictorReady", "Unknown", NULL, NULL, w->wall_ms);
}

static bool is_true(const json_t *isvc, const char *type) {
    const char *status = object_condition(isvc, type);
    return status && !strcmp(status, "True");
}

static void set_ready(const struct world *w, json_t *isvc) {
    const json_t *predictor = object_find_condition(isvc, "PredictorReady");
    if (is_true(isvc, "PredictorReady")) {
        object_set_condition(isvc, "IngressReady", "True", NULL, NULL, w->wall_ms);
        object_set_condition(isvc, "Ready", "True", NULL, NULL, w->wall_ms);
        return;
    }
    object_set_condition(isvc, "IngressReady", "False", "Predictor ingress not created",
                         "the predictor has no ready replica", w->wall_ms);
    AUTO_FREE char *reason = mem_strdup(object_str(predictor, "reason"));
    AUTO_FREE char *message = mem_strdup(object_str(predictor, "message"));
    object_set_condition(isvc, "Ready", "False", reason ? reason : "PredictorNotReady", message,
                         w->wall_ms);
}

static void set_notes(const struct world *w, json_t *isvc, const struct isvc_view *v) {
    json_t *ignored = json_array(), *line;
    AUTO_BUF text = BUF_INIT;
    size_t i;
    isvc_fields_ignored(isvc, ignored);
    json_array_foreach (ignored, i, line)
        buf_printf(&text, "%s%s", i ? "; " : "", json_string_value(line));
    json_decref(ignored);
    set_info(w, isvc, "FieldsIgnored", "NotSupported", text.data);
    const char *fallback = NULL;
    for (i = 0; i < v->num_pods && !fallback; i++)
        fallback = object_annotation(v->pods[i], SCHEDULER_CPU_FALLBACK_ANNOTATION);
    AUTO_FREE char *message =
        fallback ? mem_printf("this node has no %s: the model runs on the CPU (cpuFallback is on)",
                              fallback)
                 : NULL;
    set_info(w, isvc, "CPUFallback", "NoGPU", message);
}

void isvc_status_update(const struct world *w, json_t *isvc, const struct isvc_view *v,
                        const struct isvc_view *canaries, size_t num_canaries) {
    if (!json_is_object(json_object_get(isvc, "status")))
        object_set(isvc, "status", json_object());
    json_t *predictor = object_at(isvc, "status.components.predictor");
    if (!json_is_object(predictor)) {
        predictor = json_object();
        object_set(isvc, "status.components.predictor", predictor);
    }
    struct failure f = worst_failure(v);
    set_addresses(w, isvc, predictor);
    if (v->deployment)
        set_revisions(isvc, predictor, v);
    set_canaries(w, isvc, predictor, canaries, num_canaries);
    set_tags(w, isvc, predictor);
    set_model_status(w, isvc, v, &f);
    set_predictor_ready(w, isvc, v, &f);
    set_ready(w, isvc);
    set_notes(w, isvc, v);
    object_set(isvc, "status.deploymentMode", json_string("Standard"));
    object_set(isvc, "status.observedGeneration",
               json_integer(object_int(isvc, "metadata.generation", 0)));
    object_delete(isvc, "status.servingRuntimeName");
    object_delete(isvc, "status.clusterServingRuntimeName");
    if (v->plan->runtime)
        object_set(isvc,
                   v->plan->cluster_runtime ? "status.clusterServingRuntimeName"
                                            : "status.servingRuntimeName",
                   json_string(v->plan->runtime));
}
