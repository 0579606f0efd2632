/* Disruption budgets. The reconciler writes into status how many pods may go; an eviction takes one
 * of them, in the commit that marks the pod, and notes the pod in status.disruptedPods until its
 * end is seen, so that the reconciler does not count it as healthy meanwhile.
 * Source: kubernetes/pkg/controller/disruption and registry/core/pod/rest/eviction.go. */
#include "core/control/disruption.h"

#include <stdio.h>

#include "core/base/clock.h"
#include "core/control/labels.h"
#include "core/control/rollout.h"

static const char VIOLATES[] = "Cannot evict pod as it would violate the pod's disruption budget.";

/* Deciding. */

struct disruption_verdict disruption_decide(const json_t *spec,
                                            const struct disruption_counts *counts) {
    const json_t *min = json_object_get(spec, "minAvailable");
    const json_t *max = json_object_get(spec, "maxUnavailable");
    int64_t number = 1;
    struct disruption_verdict v = {.desired_healthy = 1}; /* neither is given */
    if (max && rollout_resolve(max, counts->expected, true, &number))
        v.desired_healthy = counts->expected - number;
    else if (min && rollout_resolve(min, counts->expected, true, &number))
        v.desired_healthy = number;
    if (v.desired_healthy < 0)
        v.desired_healthy = 0;
    v.allowed = counts->healthy - v.desired_healthy;
    if (counts->expected <= 0 || v.allowed < 0)
        v.allowed = 0;
    return v;
}

bool disruption_covers(const json_t *budget, const json_t *pod) {
    const json_t *selector = object_at(budget, "spec.selector");
    if (!json_is_object(selector))
        return false;
    return (!json_object_size(json_object_get(selector, "matchLabels")) &&
            !json_array_size(json_object_get(selector, "matchExpressions"))) ||
           labels_selector_match(selector, object_at(pod, "metadata.labels"));
}

static bool ready(const json_t *pod) {
    const char *status = object_condition(pod, "Ready");
    return status && !strcmp(status, "True");
}

static bool has_ended(const json_t *pod) {
    const char *phase = object_str(pod, "status.phase");
    return phase && (!strcmp(phase, "Succeeded") || !strcmp(phase, "Failed"));
}

/* Counting. */

/* Adds what the owner of a pod wants, once per owner: the Deployment's replicas, or those of a
 * ReplicaSet that has none. A pod that nobody owns adds nothing. */
static void add_owner(struct world *w, const json_t *pod, json_t *seen, int64_t *expected) {
    const char *ns = object_namespace(pod);
    const char *set_name = object_str(object_controller_of(pod), "name");
    AUTO(store_object) set = set_name ? world_get(w, KIND_REPLICA_SET, ns, set_name) : NULL;
    if (!set || !object_controlled_by(pod, set->json))
        return;
    const char *name = object_str(object_controller_of(set->json), "name");
    AUTO(store_object) deployment = name ? world_get(w, KIND_DEPLOYMENT, ns, name) : NULL;
    const json_t *owner = deployment ? deployment->json : set->json;
    if (!object_uid(owner) || json_object_get(seen, object_uid(owner)))
        return;
    json_object_set_new(seen, object_uid(owner), json_true());
    *expected += object_int(owner, "spec.replicas", 1);
}

/* Also carries those of status.disruptedPods into `disrupted` whose end has not been seen yet;
 * gives in how many ms the next of them is given up, 0: there is none. */
static int64_t count(struct world *w, const json_t *budget, struct disruption_counts *ret,
                     json_t *disrupted) {
    AUTO_STORE_LIST all = {0};
    const json_t *noted = object_at(budget, "status.disruptedPods");
    bool by_owner = object_at(budget, "spec.maxUnavailable") ||
                    json_is_string(object_at(budget, "spec.minAvailable"));
    int64_t num_pods = 0, next_ms = 0;
    json_t *seen = json_object();
    *ret = (struct disruption_counts){0};
    world_list(w, KIND_POD, object_namespace(budget), &all);
    for (size_t i = 0; i < all.num_items; i++) {
        const json_t *pod = all.items[i]->json;
        if (!disruption_covers(budget, pod) || has_ended(pod))
            continue;
        num_pods++;
        add_owner(w, pod, seen, &ret->expected);
        json_t *since = json_object_get(noted, object_name(pod));
        int64_t left_ms = 0;
        if (json_is_string(since) && !object_deleting(pod))
            left_ms = clock_parse_rfc3339(json_string_value(since)) + DISRUPTED_SECONDS_MAX * 1000 -
                      w->wall_ms;
        if (left_ms > 0) {
            json_object_set(disrupted, object_name(pod), since);
            next_ms = !next_ms || left_ms < next_ms ? left_ms : next_ms;
        } else if (ready(pod) && !object_deleting(pod)) {
            ret->healthy++;
        }
    }
    if (!by_owner)
        ret->expected = num_pods;
    json_decref(seen);
    return next_ms;
}

static void write_verdict(const struct world *w, json_t *budget,
                          const struct disruption_counts *counts,
                          const struct disruption_verdict *v) {
    object_set(budget, "status.currentHealthy", json_integer(counts->healthy));
    object_set(budget, "status.desiredHealthy", json_integer(v->desired_healthy));
    object_set(budget, "status.expectedPods", json_integer(counts->expected));
    object_set(budget, "status.disruptionsAllowed", json_integer(v->allowed));
    object_set(budget, "status.observedGeneration",
               json_integer(object_int(budget, "metadata.generation", 0)));
    object_set_condition(budget, "DisruptionAllowed", v->allowed ? "True" : "False",
                         v->allowed ? "SufficientPods" : "InsufficientPods", "", w->wall_ms);
    json_object_set_new(object_find_condition(budget, "DisruptionAllowed"), "observedGeneration",
                        json_integer(object_int(budget, "metadata.generation", 0)));
}

enum errc disruption_reconcile(struct world *w, const char *ns, const char *name,
                               struct error *err) {
    AUTO(store_object) o = world_get(w, KIND_POD_DISRUPTION_BUDGET, ns, name);
    struct disruption_counts counts;
    if (!o || object_deleting(o->json))
        return OK;
    json_t *budget = json_deep_copy(o->json), *disrupted = json_object();
    int64_t next_ms = count(w, o->json, &counts, disrupted);
    struct disruption_verdict v = disruption_decide(object_at(o->json, "spec"), &counts);
    write_verdict(w, budget, &counts, &v);
    if (json_object_size(disrupted))
        object_set(budget, "status.disruptedPods", json_incref(disrupted));
    else
        object_delete(budget, "status.disruptedPods");
    json_decref(disrupted);
    if (next_ms)
        world_enqueue_after(w, KIND_POD_DISRUPTION_BUDGET, ns, name, next_ms);
    return world_update(w, o, budget, NULL, err);
}

void disruption_enqueue(struct world *w, const char *ns) {
    AUTO_STORE_LIST all = {0};
    world_list(w, KIND_POD_DISRUPTION_BUDGET, ns, &all);
    for (size_t i = 0; i < all.num_items; i++)
        world_enqueue(w, KIND_POD_DISRUPTION_BUDGET, ns, object_name(all.items[i]->json));
}

/* Evicting. */

/* A pod that serves nobody, or goes anyway, costs no budget. */
static bool is_free(const json_t *pod) {
    const char *phase = object_str(pod, "status.phase");
    return object_deleting(pod) || has_ended(pod) || (phase && !strcmp(phase, "Pending"));
}

/* A pod that is not ready may go when the policy says so, or when the others are enough. */
static bool may_go_unready(const json_t *budget, const json_t *pod) {
    const char *policy = object_str(budget, "spec.unhealthyPodEvictionPolicy");
    int64_t desired = object_int(budget, "status.desiredHealthy", 0);
    if (ready(pod))
        return false;
    return (policy && !strcmp(policy, "AlwaysAllow")) ||
           (desired > 0 && object_int(budget, "status.currentHealthy", 0) >= desired);
}

static enum errc refuse(const json_t *budget, char cause[DISRUPTION_CAUSE_BYTES_MAX],
                        struct error *err) {
    bool seen = object_int(budget, "status.observedGeneration", 0) >=
                object_int(budget, "metadata.generation", 0);
    if (seen)
        snprintf(cause, DISRUPTION_CAUSE_BYTES_MAX,
                 "The disruption budget %s needs %lld healthy pods and has %lld currently",
                 object_name(budget), (long long)object_int(budget, "status.desiredHealthy", 0),
                 (long long)object_int(budget, "status.currentHealthy", 0));
    else
        snprintf(cause, DISRUPTION_CAUSE_BYTES_MAX,
                 "The disruption budget %s is still being processed by the server.",
                 object_name(budget));
    err_set(err, ERR_EXHAUSTED, "%s", VIOLATES);
    /* A budget that is full does not heal by asking again; one that is new does. */
    err->retry_after_seconds = seen ? 0 : 1;
    return ERR_EXHAUSTED;
}

enum errc disruption_charge(struct store *st, const json_t *pod, int64_t wall_ms,
                            struct charges *charges, char ret_cause[DISRUPTION_CAUSE_BYTES_MAX],
                            struct error *err) {
    struct object_key prefix;
    AUTO_STORE_LIST all = {0};
    struct store_object *budget = NULL;
    if (is_free(pod))
        return OK;
    store_list(st,
               object_key(&prefix, "policy", "poddisruptionbudgets", object_namespace(pod), NULL),
               &all);
    for (size_t i = 0; i < all.num_items; i++) {
        if (!disruption_covers(all.items[i]->json, pod))
            continue;
        if (budget)
            return err_set(err, ERR_INTERNAL,
                           "This pod has more than one PodDisruptionBudget, which the eviction "
                           "subresource does not support.");
        budget = all.items[i];
    }
    if (!budget || may_go_unready(budget->json, pod))
        return OK;
    int64_t allowed = object_int(budget->json, "status.disruptionsAllowed", 0);
    if (allowed <= 0 || object_int(budget->json, "status.observedGeneration", 0) <
                            object_int(budget->json, "metadata.generation", 0))
        return refuse(budget->json, ret_cause, err);
    char now[CLOCK_RFC3339_BYTES];
    json_t *charged = json_deep_copy(budget->json);
    json_t *disrupted = object_at(charged, "status.disruptedPods");
    object_set(charged, "status.disruptionsAllowed", json_integer(allowed - 1));
    if (!json_is_object(disrupted))
        object_set(charged, "status.disruptedPods", disrupted = json_object());
    json_object_set_new(disrupted, object_name(pod), json_string(clock_rfc3339(wall_ms, now)));
    return charges_add(charges, budget, charged, err);
}
