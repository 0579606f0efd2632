/* The ReplicaSet controller. The store answers with what was just written, so there are no
 * expectations to keep: count, compare, create or delete the difference.
 *
 * Pods belong by their controller ownerReference. A pod without one whose labels match is adopted;
 * an owned one whose labels no longer match is released. */
#include "core/control/replicaset.h"

#include <stdio.h>

#include "core/base/clock.h"
#include "core/control/events.h"
#include "core/control/labels.h"

static const char COMPONENT[] = "replicaset-controller";

enum { NAME_TRIES_MAX = 5, POD_NAME_BYTES_MAX = 253 };

struct pods {
    const struct store_object **items; /* borrowed from the list */
    size_t len;
};

bool replicaset_pod_active(const json_t *pod) {
    const char *phase = object_str(pod, "status.phase");
    return !object_deleting(pod) &&
           !(phase && (!strcmp(phase, "Succeeded") || !strcmp(phase, "Failed")));
}

static bool ready(const json_t *pod) {
    const char *status = object_condition(pod, "Ready");
    return status && !strcmp(status, "True");
}

static int64_t ready_since_ms(const json_t *pod) {
    const char *at = object_str(object_find_condition(pod, "Ready"), "lastTransitionTime");
    return at ? clock_parse_rfc3339(at) : 0;
}

bool replicaset_pod_available(const json_t *pod, int64_t min_ready_seconds, int64_t wall_ms,
                              int64_t *ret_wait_ms) {
    if (!ready(pod))
        return false;
    int64_t wait_ms = ready_since_ms(pod) + min_ready_seconds * 1000 - wall_ms;
    if (min_ready_seconds > 0 && wait_ms > 0) {
        *ret_wait_ms = wait_ms;
        return false;
    }
    return true;
}

static int64_t deletion_cost(const json_t *pod) {
    const char *cost = object_annotation(pod, "controller.kubernetes.io/pod-deletion-cost");
    return cost ? atoll(cost) : 0;
}

static int64_t restarts(const json_t *pod) {
    return object_int(pod, "status.containerStatuses.0.restartCount", 0);
}

static int64_t created_ms(const json_t *pod) {
    const char *at = object_str(pod, "metadata.creationTimestamp");
    return at ? clock_parse_rfc3339(at) : 0;
}

static bool running(const json_t *pod) {
    const char *phase = object_str(pod, "status.phase");
    return phase && !strcmp(phase, "Running");
}

static int compare(int64_t a, int64_t b) {
    return a < b ? -1 : a > b;
}

int replicaset_deletion_order(const json_t *a, const json_t *b) {
    int order =
        compare(object_str(a, "spec.nodeName") != NULL, object_str(b, "spec.nodeName") != NULL);
    if (!order)
        order = compare(running(a), running(b));
    if (!order)
        order = compare(ready(a), ready(b));
    if (!order)
        order = compare(deletion_cost(a), deletion_cost(b));
    if (!order && ready(a)) /* ready for a shorter time goes first */
        order = compare(ready_since_ms(b), ready_since_ms(a));
    if (!order)
        order = compare(restarts(b), restarts(a));
    if (!order)
        order = compare(created_ms(b), created_ms(a));
    return order ? order : strcmp(object_name(a), object_name(b));
}

static int compare_pods(const void *a, const void *b) {
    const struct store_object *const *pa = a, *const *pb = b;
    return replicaset_deletion_order((*pa)->json, (*pb)->json);
}

/* Ownership. */

static enum errc adopt(struct world *w, const json_t *rs, const struct store_object *pod,
                       struct error *err) {
    json_t *adopted = json_deep_copy(pod->json);
    json_t *refs = object_at(adopted, "metadata.ownerReferences");
    if (!refs)
        object_set(adopted, "metadata.ownerReferences", refs = json_array());
    json_array_append_new(refs, object_owner_ref(rs));
    return world_update(w, pod, adopted, NULL, err);
}

static enum errc release(struct world *w, const json_t *rs, const struct store_object *pod,
                         struct error *err) {
    json_t *released = json_deep_copy(pod->json);
    json_t *refs = object_at(released, "metadata.ownerReferences"), *ref;
    size_t i;
    json_array_foreach (refs, i, ref) {
        const char *uid = object_str(ref, "uid");
        if (uid && !strcmp(uid, object_uid(rs))) {
            json_array_remove(refs, i);
            break;
        }
    }
    return world_update(w, pod, released, NULL, err);
}

/* Puts the active pods of the set into `out`, adopting and releasing on the way. */
static enum errc claim(struct world *w, const json_t *rs, const struct store_list *all,
                       struct pods *out, struct error *err) {
    const json_t *selector = object_at(rs, "spec.selector");
    for (size_t i = 0; i < all->num_items; i++) {
        const struct store_object *pod = all->items[i];
        const json_t *owner = object_controller_of(pod->json);
        bool ours = object_controlled_by(pod->json, rs);
        bool matches = labels_selector_match(selector, object_at(pod->json, "metadata.labels"));
        if (!replicaset_pod_active(pod->json) || (!ours && (owner || !matches)))
            continue;
        if (ours && !matches) {
            if (release(w, rs, pod, err))
                return err->code;
            continue;
        }
        /* The adopted object is a newer revision: the next round, which it causes, counts it. */
        if (!ours && (object_deleting(rs) || adopt(w, rs, pod, err)))
            return object_deleting(rs) ? OK : err->code;
        out->items[out->len++] = pod;
    }
    return OK;
}

/* Making and taking pods. */

static json_t *new_pod(const json_t *rs) {
    char suffix[6];
    object_name_suffix(suffix);
    AUTO_FREE char *name = mem_printf("%.*s-%s", POD_NAME_BYTES_MAX - 6, object_name(rs), suffix);
    json_t *template = json_deep_copy(object_at(rs, "spec.template"));
    json_t *pod =
        json_pack("{s:{s:s, s:s, s:[o]}, s:O, s:{s:s}}", "metadata", "name", name, "namespace",
                  object_namespace(rs), "ownerReferences", object_owner_ref(rs), "spec",
                  object_at(template, "spec"), "status", "phase", "Pending");
    static const char *const copied[] = {"labels", "annotations", "finalizers"};
    for (size_t i = 0; pod && i < ARRAY_LEN(copied); i++) {
        json_t *value = json_object_get(object_at(template, "metadata"), copied[i]);
        if (value)
            json_object_set(object_at(pod, "metadata"), copied[i], value);
    }
    json_decref(template);
    return pod;
}

static enum errc create_pod(struct world *w, const json_t *rs, struct error *err) {
    AUTO(store_object) made = NULL;
    enum errc rc = ERR_EXISTS;
    for (int i = 0; i < NAME_TRIES_MAX && rc == ERR_EXISTS; i++) {
        json_t *pod = new_pod(rs);
        if (!pod)
            return err_set(err, ERR_INVALID, "spec.template: has no spec");
        rc = world_create(w, KIND_POD, pod, &made, err);
    }
    if (rc)
        event_emit(w, rs, EVENT_WARNING, "FailedCreate", COMPONENT, "Error creating: %s",
                   err->text);
    else
        event_emit(w, rs, EVENT_NORMAL, "SuccessfulCreate", COMPONENT, "Created pod: %s",
                   object_name(made->json));
    return rc;
}

static enum errc delete_pod(struct world *w, const json_t *rs, const struct store_object *pod,
                            struct error *err) {
    if (world_delete(w, pod, err))
        return err->code;
    event_emit(w, rs, EVENT_NORMAL, "SuccessfulDelete", COMPONENT, "Deleted pod: %s",
               object_name(pod->json));
    return OK;
}

static enum errc scale(struct world *w, const json_t *rs, struct pods *pods, struct error *err) {
    int64_t want = object_int(rs, "spec.replicas", 1), have = (int64_t)pods->len;
    enum errc rc = OK;
    for (; have < want && !rc; have++)
        rc = create_pod(w, rs, err);
    if (want < have)
        qsort(pods->items, pods->len, sizeof(*pods->items), compare_pods);
    for (size_t i = 0; want < have && !rc; i++, have--)
        rc = delete_pod(w, rs, pods->items[i], err);
    return rc;
}

/* Status. */

/* failure: why pods could not be made or taken; OK: they could. */
static enum errc write_status(struct world *w, const struct store_object *o,
                              const struct error *failure, struct error *err) {
    AUTO_STORE_LIST all = {0};
    const json_t *rs = o->json;
    int64_t replicas = 0, ready_replicas = 0, available = 0, labeled = 0, next_ms = 0;
    int64_t min_ready = object_int(rs, "spec.minReadySeconds", 0);
    const json_t *labels = object_at(rs, "spec.template.metadata.labels");
    world_list(w, KIND_POD, object_namespace(rs), &all);
    for (size_t i = 0; i < all.num_items; i++) {
        const json_t *pod = all.items[i]->json;
        int64_t wait_ms = 0;
        if (!object_controlled_by(pod, rs) || !replicaset_pod_active(pod))
            continue;
        replicas++;
        ready_replicas += ready(pod);
        labeled += object_labels_match(labels, object_at(pod, "metadata.labels"));
        available += replicaset_pod_available(pod, min_ready, w->wall_ms, &wait_ms);
        if (wait_ms && (!next_ms || wait_ms < next_ms))
            next_ms = wait_ms;
    }
    if (next_ms)
        world_enqueue_after(w, KIND_REPLICA_SET, object_namespace(rs), object_name(rs), next_ms);
    json_t *updated = json_deep_copy(rs);
    object_set(updated, "status.replicas", json_integer(replicas));
    object_set(updated, "status.fullyLabeledReplicas", json_integer(labeled));
    object_set(updated, "status.readyReplicas", json_integer(ready_replicas));
    object_set(updated, "status.availableReplicas", json_integer(available));
    object_set(updated, "status.observedGeneration",
               json_integer(object_int(rs, "metadata.generation", 0)));
    /* The first failure stays: each try names another pod. */
    if (failure->code && !object_find_condition(updated, "ReplicaFailure"))
        object_set_condition(updated, "ReplicaFailure", "True",
                             replicas < object_int(rs, "spec.replicas", 1) ? "FailedCreate"
                                                                           : "FailedDelete",
                             failure->text, w->wall_ms);
    else if (!failure->code)
        object_remove_condition(updated, "ReplicaFailure");
    return world_update(w, o, updated, NULL, err);
}

enum errc replicaset_reconcile(struct world *w, const char *ns, const char *name,
                               struct error *err) {
    AUTO(store_object) o = world_get(w, KIND_REPLICA_SET, ns, name);
    AUTO_STORE_LIST all = {0};
    if (!o)
        return OK;
    world_list(w, KIND_POD, ns, &all);
    struct pods pods = {.items = mem_array(all.num_items, sizeof(*pods.items))};
    enum errc rc = claim(w, o->json, &all, &pods, err);
    if (!rc && !object_deleting(o->json))
        rc = scale(w, o->json, &pods, err);
    free(pods.items);
    struct error status_err = ERROR_INIT, none = ERROR_INIT;
    enum errc status_rc = write_status(w, o, rc == ERR_CONFLICT ? &none : err, &status_err);
    if (!rc && status_rc) {
        *err = status_err;
        rc = status_rc;
    }
    return rc;
}
