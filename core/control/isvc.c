/* The InferenceService controller. It owns one Deployment and one Service, `NAME-predictor`, and a
 * HorizontalPodAutoscaler of that name where its fields ask for one.
 *
 * What it wrote into the Deployment is noted there (two annotations): template and replicas are
 * written again only when the InferenceService asks for something else than last time. So `kubectl
 * scale`, `rollout undo` and `rollout restart` on the Deployment hold until the service changes. Of
 * a service that scales by itself the bounds are noted, and the autoscaler writes the replicas.
 *
 * canaryTrafficPercent becomes a third annotation: which ReplicaSet of the Deployment stays beside
 * the newest one (revision.h). It is written in the same commit as a new template. */
#include "core/control/isvc.h"

#include <inttypes.h>
#include <stdio.h>

#include "core/control/autoscale_plan.h"
#include "core/control/events.h"
#include "core/control/isvc_autoscaler.h"
#include "core/control/isvc_predictor.h"
#include "core/control/isvc_status.h"
#include "core/control/placement.h"
#include "core/control/replicaset.h"
#include "core/control/revision.h"
#include "core/control/traffic_build.h"
#include "core/quantity.h"

static const char COMPONENT[] = "v1beta1Controllers";
static const char APPLIED_TEMPLATE[] = "inferd.io/applied-template";
static const char APPLIED_REPLICAS[] = "inferd.io/applied-replicas";

enum { PROGRESS_SECONDS = 600, HISTORY_LIMIT = 10, NAME_BYTES_MAX = 300 };

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
    return object_int(isvc, "spec.predictor.minReplicas", 1);
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

/* Old and new cannot have their GPUs at the same time: the node has too few for one more. */
static bool surge_cannot_fit(struct world *w, const json_t *isvc, const json_t *template) {
    AUTO(store_object) node = world_get(w, KIND_NODE, NULL, w->node_name);
    const char *name;
    json_t *amount;
    json_object_foreach (node ? object_at(node->json, "status.allocatable") : NULL, name, amount) {
        int64_t has = 0, each = strchr(name, '/') ? placement_request(template, name) : 0;
        if (each && quantity_milli(amount, &has) && (wanted_replicas(isvc) + 1) * each > has)
            return true;
    }
    return false;
}

static json_t *wanted_strategy(struct world *w, const json_t *isvc, const json_t *template) {
    const json_t *given = object_at(isvc, "spec.predictor.deploymentStrategy");
    if (json_is_object(given) && json_object_size(given))
        return json_deep_copy(given);
    /* On a machine with one GPU the usual strategy would wait for ever for a second one. */
    if (surge_cannot_fit(w, isvc, template))
        return json_pack("{s:s, s:{s:i, s:i}}", "type", "RollingUpdate", "rollingUpdate",
                         "maxUnavailable", 1, "maxSurge", 0);
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

static const json_t **select_json(const struct store_list *all, const json_t *owner,
                                  const char *label, size_t *ret_len) {
    const json_t **out = mem_array(all->num_items + 1, sizeof(*out));
    size_t len = 0;
    for (size_t i = 0; i < all->num_items; i++) {
        const json_t *o = all->items[i]->json;
        const char *has = object_label(o, ISVC_LABEL);
        bool ours = owner ? object_controlled_by(o, owner)
                          : label && has && !strcmp(has, label) && replicaset_pod_active(o);
        if (ours)
            out[len++] = o;
    }
    *ret_len = len;
    return out;
}

/* While a canary is asked for, the set that was rolled out last is noted as the one that stays. */
static void note_stable(struct world *w, json_t *deployment, const json_t *isvc) {
    AUTO_STORE_LIST all = {0};
    size_t num_sets;
    json_t *annotations = object_at(deployment, "metadata.annotations");
    world_list(w, KIND_REPLICA_SET, object_namespace(isvc), &all);
    const json_t **sets = select_json(&all, deployment, NULL, &num_sets);
    const json_t *stable =
        revision_canary_percent(isvc) >= 0 ? revision_rolled_out_set(isvc, sets, num_sets) : NULL;
    if (stable)
        note(deployment, REVISION_STABLE_ANNOTATION, object_name(stable));
    else if (json_is_object(annotations))
        json_object_del(annotations, REVISION_STABLE_ANNOTATION);
    free(sets);
}

/* Writes template, strategy and replicas into the Deployment where they are new. */
static void apply_plan(struct world *w, json_t *deployment, const json_t *isvc,
                       const struct isvc_plan *plan) {
    char hash[11], replicas[32];
    json_t *strategy = wanted_strategy(w, isvc, plan->template);
    json_t *both = json_pack("[O, O]", plan->template, strategy);
    object_hash_name(both, hash);
    json_decref(both);
    describe_replicas(isvc, replicas, sizeof(replicas));
    if (!noted(deployment, APPLIED_TEMPLATE, hash)) {
        object_set(deployment, "spec.template", json_deep_copy(plan->template));
        object_set(deployment, "spec.strategy", json_incref(strategy));
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
             (!old_reason || strcmp(old_reason, reason) != 0))
        event_emit(w, now, EVENT_WARNING, reason, COMPONENT, "%s", message);
}

static enum errc write_status(struct world *w, const struct store_object *o, const char *name,
                              const struct isvc_plan *plan, struct error *err) {
    const char *ns = object_namespace(o->json);
    AUTO(store_object) deployment = world_get(w, KIND_DEPLOYMENT, ns, name);
    AUTO_STORE_LIST sets = {0}, pods = {0};
    world_list(w, KIND_REPLICA_SET, ns, &sets);
    world_list(w, KIND_POD, ns, &pods);
    struct isvc_view view = {.plan = plan, .deployment = deployment ? deployment->json : NULL};
    const json_t **own_pods = select_json(&pods, NULL, object_name(o->json), &view.num_pods);
    const json_t **own_sets = mem_array(1, sizeof(*own_sets));
    if (deployment) {
        free(own_sets);
        own_sets = select_json(&sets, deployment->json, NULL, &view.num_sets);
    }
    view.pods = own_pods;
    view.sets = own_sets;
    json_t *isvc = json_deep_copy(o->json);
    isvc_status_update(w, isvc, &view);
    /* First the route, then the word: who reads the status and then asks finds what it says. */
    if (!json_equal(json_object_get(isvc, "status"), json_object_get(o->json, "status")))
        traffic_build(w, isvc);
    AUTO(store_object) written = NULL;
    enum errc rc = world_update(w, o, isvc, &written, err);
    if (!rc)
        tell_ready(w, o->json, written->json);
    free(own_pods);
    free(own_sets);
    w->traffic_stale = true;
    return rc;
}

enum errc isvc_reconcile(struct world *w, const char *ns, const char *name, struct error *err) {
    AUTO(store_object) o = world_get(w, KIND_INFERENCE_SERVICE, ns, name);
    if (!o) {
        w->traffic_stale = true;
        return OK;
    }
    if (object_deleting(o->json))
        return OK; /* the garbage collector takes what it owns */
    char child[NAME_BYTES_MAX];
    snprintf(child, sizeof(child), "%.250s-predictor", name);
    struct isvc_plan plan;
    isvc_predictor_plan(w, o->json, &plan);
    enum errc rc = OK;
    if (plan.template)
        rc = ensure_deployment(w, o->json, child, &plan, err);
    if (plan.template && !rc)
        rc = isvc_autoscaler_reconcile(w, o->json, child, err);
    if (plan.template && !rc)
        rc = ensure_service(w, o->json, child, err);
    if (rc == ERR_EXISTS || rc == ERR_FORBIDDEN) { /* waiting does not help: say it */
        json_decref(plan.template);
        plan.template = NULL;
        plan.reason = "InvalidPredictorSpec";
        plan.message = mem_strdup(err->text);
        rc = OK;
    }
    if (!rc)
        rc = write_status(w, o, child, &plan, err);
    isvc_plan_deinit(&plan);
    return rc;
}
