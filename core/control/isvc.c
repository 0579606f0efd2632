/* The InferenceService controller. It owns a Deployment and a Service, `NAME-predictor`, and one of
 * each for every entry of spec.canary (canary.h); and a HorizontalPodAutoscaler of the first's name
 * where its fields ask for one.
 *
 * What it wrote into the Deployment is noted there (two annotations): template and replicas are
 * written again only when the InferenceService asks for something else than last time. So `kubectl
 * scale`, `rollout undo` and `rollout restart` on the Deployment hold until the service changes. Of
 * a service that scales by itself the bounds are noted, and the autoscaler writes the replicas.
 *
 * canaryTrafficPercent becomes a third annotation: which ReplicaSet of the Deployment stays beside
 * the newest one (revision.h). It is written in the same commit as a new template.
 *
 * Deployments that are no predictor's any more go: a canary at once when its entry does; the one
 * that was the stable predictor when the one that follows it is whole. */
#include "core/control/isvc.h"

#include <inttypes.h>
#include <stdio.h>

#include "core/control/autoscale_plan.h"
#include "core/control/canary.h"
#include "core/control/deployment.h"
#include "core/control/deployment_status.h"
#include "core/control/events.h"
#include "core/control/isvc_autoscaler.h"
#include "core/control/isvc_predictor.h"
#include "core/control/isvc_room.h"
#include "core/control/isvc_status.h"
#include "core/control/pod_model.h"
#include "core/control/replicaset.h"
#include "core/control/revision.h"
#include "core/control/traffic_build.h"
#include "core/node/replica_command.h"

static const char COMPONENT[] = "v1beta1Controllers";
static const char APPLIED_TEMPLATE[] = "inferd.io/applied-template";
static const char APPLIED_REPLICAS[] = "inferd.io/applied-replicas";

enum { PROGRESS_SECONDS = 600, HISTORY_LIMIT = 10 };

/* A predictor of the service: the stable one or a canary. */
struct predictor {
    json_t *isvc; /* the InferenceService as it sees it; a reference */
    char *child;  /* the name of its Deployment and its Service */
    bool scales;  /* a canary has a fixed number of replicas */
    struct isvc_plan plan;
};

void isvc_retry_all(struct world *w) {
    AUTO_STORE_LIST all = {0};
    world_list(w, KIND_INFERENCE_SERVICE, NULL, &all);
    for (size_t i = 0; i < all.num_items; i++)
        world_enqueue(w, KIND_INFERENCE_SERVICE, object_namespace(all.items[i]->json),
                      object_name(all.items[i]->json));
}

/* The Deployment. */

static int64_t wanted_replicas(const json_t *isvc) {
    const char *stop = object_annotation(isvc, "serving.kserve.io/stop");
    if (stop && !strcmp(stop, "true"))
        return 0;
    struct autoscale_plan plan;
    autoscale_plan(isvc, NULL, &plan);
    if (plan.rule != AUTOSCALE_NONE)
        return plan.initial;
    /* What ready canaries took over; one stays in any case. */
    int64_t min = object_int(isvc, "spec.predictor.minReplicas", 1);
    int64_t left = min - canary_relief(isvc);
    return left < 1 && min > 0 ? 1 : left < 0 ? 0 : left;
}

/* Replicas of a Deployment that was told something else before. Where the autoscaler is at work,
 * new bounds move only what is outside them. */
static int64_t replicas_for(const json_t *isvc, const json_t *deployment) {
    const json_t *has = object_at(deployment, "spec.replicas");
    struct autoscale_plan plan;
    autoscale_plan(isvc, NULL, &plan);
    if (plan.rule == AUTOSCALE_NONE || !has)
        return wanted_replicas(isvc);
    int64_t now = json_integer_value(has);
    return now < plan.min ? plan.min : now > plan.max ? plan.max : now;
}

/* What is noted of it. */
static void describe_replicas(const json_t *isvc, char *out, size_t size) {
    struct autoscale_plan plan;
    autoscale_plan(isvc, NULL, &plan);
    if (plan.rule != AUTOSCALE_NONE)
        snprintf(out, size, "%d..%d", plan.min, plan.max);
    else
        snprintf(out, size, "%" PRId64, wanted_replicas(isvc));
}

static json_t *wanted_strategy(const json_t *isvc) {
    const json_t *given = object_at(isvc, "spec.predictor.deploymentStrategy");
    if (json_is_object(given) && json_object_size(given))
        return json_deep_copy(given);
    return json_pack("{s:s, s:{s:s, s:s}}", "type", "RollingUpdate", "rollingUpdate",
                     "maxUnavailable", "25%", "maxSurge", "25%");
}

static json_t *owned_metadata(const json_t *isvc, const char *name) {
    AUTO_FREE char *app = mem_printf("isvc.%s", name);
    return json_pack("{s:s, s:s, s:{s:s, s:s, s:s}, s:{}, s:[o]}", "name", name, "namespace",
                     object_namespace(isvc), "labels", "app", app, ISVC_COMPONENT_LABEL,
                     "predictor", ISVC_LABEL, object_name(isvc), "annotations", "ownerReferences",
                     object_owner_ref(isvc));
}

static void note(json_t *o, const char *annotation, const char *value) {
    json_t *annotations = object_at(o, "metadata.annotations");
    if (!json_is_object(annotations))
        object_set(o, "metadata.annotations", annotations = json_object());
    json_object_set_new(annotations, annotation, json_string(value));
}

static bool noted(const json_t *o, const char *annotation, const char *value) {
    const char *has = object_annotation(o, annotation);
    return has && !strcmp(has, value);
}

/* Those that `owner` controls; NULL: none. Gives an array of what `all` holds. */
static const json_t **select_owned(const struct store_list *all, const json_t *owner,
                                   size_t *ret_len) {
    const json_t **out = mem_array(all->num_items + 1, sizeof(*out));
    *ret_len = 0;
    for (size_t i = 0; owner && i < all->num_items; i++) {
        if (object_controlled_by(all->items[i]->json, owner))
            out[(*ret_len)++] = all->items[i]->json;
    }
    return out;
}

/* The active pods of a predictor. */
static const json_t **select_pods(const struct store_list *all, const char *service,
                                  const char *child, size_t *ret_len) {
    const json_t **out = mem_array(all->num_items + 1, sizeof(*out));
    AUTO_FREE char *app = mem_printf("isvc.%s", child);
    *ret_len = 0;
    for (size_t i = 0; i < all->num_items; i++) {
        const json_t *pod = all->items[i]->json;
        const char *of = object_label(pod, ISVC_LABEL), *is = object_label(pod, "app");
        if (of && is && !strcmp(of, service) && !strcmp(is, app) && replicaset_pod_active(pod))
            out[(*ret_len)++] = pod;
    }
    return out;
}

/* The set that a split leaves in place. That is the one that was rolled out last; when it is the
 * newest, and no other template is on its way, the service goes back to the one before. */
static const json_t *set_that_stays(const json_t *isvc, const json_t *deployment,
                                    const json_t *const *sets, size_t num_sets) {
    const json_t *newest = revision_newest_set(sets, num_sets);
    const json_t *rolled_out = revision_rolled_out_set(isvc, sets, num_sets);
    const char *name = object_str(isvc, "status.components.predictor.latestRolledoutRevision");
    if (!rolled_out || rolled_out != newest || !deployment_has_template_of(deployment, newest))
        return rolled_out;
    AUTO_FREE char *is = revision_name(newest, object_name(deployment));
    return strcmp(is, name) != 0 ? rolled_out : revision_previous_set(isvc, newest, sets, num_sets);
}

static void note_stable(struct world *w, json_t *deployment, const json_t *isvc) {
    AUTO_STORE_LIST all = {0};
    size_t num_sets;
    json_t *annotations = object_at(deployment, "metadata.annotations");
    world_list(w, KIND_REPLICA_SET, object_namespace(isvc), &all);
    const json_t **sets = select_owned(&all, deployment, &num_sets);
    const json_t *stable = revision_canary_percent(isvc) >= 0
                               ? set_that_stays(isvc, deployment, sets, num_sets)
                               : NULL;
    if (stable)
        note(deployment, REVISION_STABLE_ANNOTATION, object_name(stable));
    else if (json_is_object(annotations))
        json_object_del(annotations, REVISION_STABLE_ANNOTATION);
    free(sets);
}

/* Without surge a replica of the new revision starts when one of the old has ended. */
static void tell_swap(struct world *w, const json_t *isvc, const json_t *deployment,
                      const char *because) {
    if (object_int(deployment, "spec.replicas", 0) > 0)
        event_emit(w, isvc, EVENT_NORMAL, "SwappingInPlace", COMPONENT,
                   "Replicas of the new revision start when those of the old one have ended, "
                   "because %s; requests are held while no replica serves",
                   because);
}

/* A canary asks for both revisions at once, and who says how to roll out has said it. */
static void note_room(struct world *w, json_t *deployment, const json_t *isvc) {
    const json_t *given = object_at(isvc, "spec.predictor.deploymentStrategy");
    bool free_to = revision_canary_percent(isvc) < 0 && !json_object_size(given);
    AUTO_FREE char *why = free_to ? isvc_room_wanted(w, deployment) : NULL;
    bool was = object_annotation(deployment, DEPLOYMENT_NO_SURGE_ANNOTATION) != NULL;
    if (!why) {
        if (was)
            json_object_del(object_at(deployment, "metadata.annotations"),
                            DEPLOYMENT_NO_SURGE_ANNOTATION);
        return;
    }
    note(deployment, DEPLOYMENT_NO_SURGE_ANNOTATION, why);
    AUTO_FREE char *because = mem_printf("there is no room for both: %s", why);
    if (!was)
        tell_swap(w, isvc, deployment, because);
}

static bool is_without_surge(const json_t *deployment) {
    int64_t surge, unavailable;
    const char *type = object_str(deployment, "spec.strategy.type");
    deployment_bounds(deployment, &surge, &unavailable);
    return (type && !strcmp(type, "Recreate")) || !surge;
}

/* Writes template, strategy and replicas into the Deployment where they are new. */
static void apply_plan(struct world *w, json_t *deployment, const json_t *isvc,
                       const struct isvc_plan *plan) {
    char hash[11], replicas[32];
    json_t *strategy = wanted_strategy(isvc);
    json_t *both = json_pack("[O, O]", plan->template, strategy);
    object_hash_name(both, hash);
    json_decref(both);
    describe_replicas(isvc, replicas, sizeof(replicas));
    if (!noted(deployment, APPLIED_TEMPLATE, hash)) {
        json_t *before = object_at(deployment, "spec.template");
        bool changes = before && !json_equal(before, plan->template);
        object_set(deployment, "spec.template", json_deep_copy(plan->template));
        object_set(deployment, "spec.strategy", json_incref(strategy));
        if (changes && is_without_surge(deployment))
            tell_swap(w, isvc, deployment, "maxSurge is 0");
        note(deployment, APPLIED_TEMPLATE, hash);
    }
    json_decref(strategy);
    if (!noted(deployment, APPLIED_REPLICAS, replicas)) {
        object_set(deployment, "spec.replicas", json_integer(replicas_for(isvc, deployment)));
        note(deployment, APPLIED_REPLICAS, replicas);
    }
    int64_t max = object_int(isvc, "spec.predictor.maxReplicas", 0);
    if (max > 0 && object_int(deployment, "spec.replicas", 0) > max)
        object_set(deployment, "spec.replicas", json_integer(max));
}

static enum errc ensure_deployment(struct world *w, const json_t *isvc, const char *name,
                                   const struct isvc_plan *plan, struct error *err) {
    AUTO(store_object) was = world_get(w, KIND_DEPLOYMENT, object_namespace(isvc), name);
    if (was) {
        if (!object_controlled_by(was->json, isvc))
            return err_set(err, ERR_EXISTS,
                           "deployment \"%s\" exists and does not belong to this InferenceService",
                           name);
        if (object_deleting(was->json))
            return OK; /* made anew when it is gone */
        json_t *updated = json_deep_copy(was->json);
        apply_plan(w, updated, isvc, plan);
        note_stable(w, updated, isvc);
        note_room(w, updated, isvc);
        return world_update(w, was, updated, NULL, err);
    }
    AUTO_FREE char *app = mem_printf("isvc.%s", name);
    json_t *deployment =
        json_pack("{s:o, s:{s:{s:{s:s}}, s:i, s:i}}", "metadata", owned_metadata(isvc, name),
                  "spec", "selector", "matchLabels", "app", app, "progressDeadlineSeconds",
                  PROGRESS_SECONDS, "revisionHistoryLimit", HISTORY_LIMIT);
    apply_plan(w, deployment, isvc, plan);
    return world_create(w, KIND_DEPLOYMENT, deployment, NULL, err);
}

static enum errc ensure_service(struct world *w, const json_t *isvc, const char *name,
                                struct error *err) {
    AUTO(store_object) was = world_get(w, KIND_SERVICE, object_namespace(isvc), name);
    if (was)
        return OK;
    AUTO_FREE char *app = mem_printf("isvc.%s", name);
    json_t *service = json_pack(
        "{s:o, s:{s:s, s:s, s:[s], s:{s:s}, s:[{s:s, s:i, s:i, s:s}], s:s, s:s}, s:{s:{}}}",
        "metadata", owned_metadata(isvc, name), "spec", "type", "ClusterIP", "clusterIP", "None",
        "clusterIPs", "None", "selector", "app", app, "ports", "name", name, "port", 80,
        "targetPort", 8080, "protocol", "TCP", "sessionAffinity", "None", "internalTrafficPolicy",
        "Cluster", "status", "loadBalancer");
    ASSERT(service);
    return world_create(w, KIND_SERVICE, service, NULL, err);
}

/* Status. */

static void tell_ready(struct world *w, const json_t *was, const json_t *now) {
    const char *before = object_condition(was, "Ready"), *after = object_condition(now, "Ready");
    const json_t *ready = object_find_condition(now, "Ready");
    bool was_ready = before && !strcmp(before, "True"), is_ready = after && !strcmp(after, "True");
    const char *reason = object_str(ready, "reason"), *message = object_str(ready, "message");
    const char *old_reason = object_str(object_find_condition(was, "Ready"), "reason");
    if (is_ready && !was_ready)
        event_emit(w, now, EVENT_NORMAL, "InferenceServiceReady", COMPONENT,
                   "InferenceService [%s] is Ready", object_name(now));
    else if (!is_ready && was_ready)
        event_emit(w, now, EVENT_WARNING, "InferenceServiceNotReady", COMPONENT,
                   "InferenceService [%s] is no longer Ready because of: %s", object_name(now),
                   reason ? reason : "");
    else if (!is_ready && message && reason && strcmp(reason, "MinimumReplicasUnavailable") != 0 &&
             strcmp(reason, POD_MODEL_LOADING) != 0 &&
             (!old_reason || strcmp(old_reason, reason) != 0))
        event_emit(w, now, EVENT_WARNING, reason, COMPONENT, "%s", message);
}

/* What the status of a predictor is read from. */
static void open_view(struct world *w, const struct predictor *p, const struct store_list *sets,
                      const struct store_list *pods, struct store_object **ret_deployment,
                      struct isvc_view *v) {
    *ret_deployment = world_get(w, KIND_DEPLOYMENT, object_namespace(p->isvc), p->child);
    v->plan = &p->plan;
    v->deployment = *ret_deployment ? (*ret_deployment)->json : NULL;
    v->sets = select_owned(sets, v->deployment, &v->num_sets);
    v->pods = select_pods(pods, object_name(p->isvc), p->child, &v->num_pods);
}

static enum errc write_status(struct world *w, const struct store_object *o,
                              const struct predictor *predictors, size_t num_predictors,
                              struct error *err) {
    const char *ns = object_namespace(o->json);
    struct store_object *deployments[1 + CANARY_MAX];
    struct isvc_view views[1 + CANARY_MAX] = {0};
    AUTO_STORE_LIST sets = {0}, pods = {0};
    world_list(w, KIND_REPLICA_SET, ns, &sets);
    world_list(w, KIND_POD, ns, &pods);
    for (size_t i = 0; i < num_predictors; i++)
        open_view(w, &predictors[i], &sets, &pods, &deployments[i], &views[i]);
    json_t *isvc = json_deep_copy(o->json);
    isvc_status_update(w, isvc, &views[0], &views[1], num_predictors - 1);
    /* First the route, then the word: who reads the status and then asks finds what it says. */
    if (!json_equal(json_object_get(isvc, "status"), json_object_get(o->json, "status")))
        traffic_build(w, isvc);
    AUTO(store_object) written = NULL;
    enum errc rc = world_update(w, o, isvc, &written, err);
    if (!rc)
        tell_ready(w, o->json, written->json);
    for (size_t i = 0; i < num_predictors; i++) {
        free((void *)(uintptr_t)views[i].pods);
        free((void *)(uintptr_t)views[i].sets);
        store_object_unref(deployments[i]);
    }
    w->traffic_stale = true;
    return rc;
}

/* Predictors. */

static size_t open_predictors(struct world *w, json_t *isvc, struct predictor *predictors) {
    size_t num = 1 + canary_count(isvc);
    for (size_t i = 0; i < num; i++) {
        struct predictor *p = &predictors[i];
        p->isvc = i ? canary_service(isvc, i - 1) : json_incref(isvc);
        p->child = isvc_predictor_child(p->isvc);
        p->scales = i == 0;
        isvc_predictor_plan(w, p->isvc, &p->plan);
    }
    return num;
}

static void close_predictors(struct predictor *predictors, size_t num) {
    for (size_t i = 0; i < num; i++) {
        json_decref(predictors[i].isvc);
        free(predictors[i].child);
        isvc_plan_deinit(&predictors[i].plan);
    }
}

static enum errc ensure_predictor(struct world *w, struct predictor *p, struct error *err) {
    enum errc rc = OK;
    if (p->plan.template)
        rc = ensure_deployment(w, p->isvc, p->child, &p->plan, err);
    if (p->plan.template && !rc && p->scales)
        rc = isvc_autoscaler_reconcile(w, p->isvc, p->child, err);
    if (p->plan.template && !rc)
        rc = ensure_service(w, p->isvc, p->child, err);
    if (rc == ERR_EXISTS || rc == ERR_FORBIDDEN) { /* waiting does not help: say it */
        json_decref(p->plan.template);
        p->plan.template = NULL;
        p->plan.reason = "InvalidPredictorSpec";
        p->plan.message = mem_strdup(err->text);
        rc = OK;
    }
    return rc;
}

/* It was the stable predictor, and the one that follows it is not whole yet. */
static bool still_serves(struct world *w, const json_t *isvc, const char *child,
                         const char *stable) {
    const char *rolled_out =
        object_str(isvc, "status.components.predictor.latestRolledoutRevision");
    size_t len = strlen(child);
    if (!rolled_out || strncmp(rolled_out, child, len) != 0 || rolled_out[len] != '-' ||
        strchr(rolled_out + len + 1, '-'))
        return false;
    AUTO(store_object) next = world_get(w, KIND_DEPLOYMENT, object_namespace(isvc), stable);
    return !next || !deployment_status_complete(next->json);
}

static enum errc drop_orphans(struct world *w, const json_t *isvc,
                              const struct predictor *predictors, size_t num, struct error *err) {
    static const enum kind kinds[] = {KIND_HORIZONTAL_POD_AUTOSCALER, KIND_DEPLOYMENT,
                                      KIND_SERVICE};
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        AUTO_STORE_LIST all = {0};
        world_list(w, kinds[k], object_namespace(isvc), &all);
        for (size_t i = 0; i < all.num_items; i++) {
            const json_t *o = all.items[i]->json;
            const char *component = object_label(o, ISVC_COMPONENT_LABEL);
            bool goes = object_controlled_by(o, isvc) && !object_deleting(o) && component &&
                        !strcmp(component, "predictor");
            for (size_t p = 0; p < num && goes; p++)
                goes = strcmp(object_name(o), predictors[p].child) != 0;
            if (goes && !still_serves(w, isvc, object_name(o), predictors[0].child) &&
                world_delete(w, all.items[i], err))
                return err->code;
        }
    }
    return OK;
}

enum errc isvc_reconcile(struct world *w, const char *ns, const char *name, struct error *err) {
    AUTO(store_object) o = world_get(w, KIND_INFERENCE_SERVICE, ns, name);
    if (!o) {
        w->traffic_stale = true;
        pod_model_release_service(w, ns, name);
        return OK;
    }
    if (object_deleting(o->json))
        return OK; /* the garbage collector takes what it owns */
    struct predictor predictors[1 + CANARY_MAX] = {0};
    size_t num = open_predictors(w, o->json, predictors);
    enum errc rc = OK;
    const json_t *first = num ? predictors[0].plan.template : NULL;
    if (first)
        pod_model_keep_for_service(w, o->json,
                                   object_annotation(first, REPLICA_SOURCE_URI_ANNOTATION));
    for (size_t i = 0; i < num && !rc; i++)
        rc = ensure_predictor(w, &predictors[i], err);
    if (!rc)
        rc = drop_orphans(w, o->json, predictors, num, err);
    if (!rc)
        rc = write_status(w, o, predictors, num, err);
    close_predictors(predictors, num);
    return rc;
}
