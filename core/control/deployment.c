/* The Deployment controller. The ReplicaSet whose template is the Deployment's is the new one; if
 * none is, one is made, named by a hash of the template, so that making it twice finds the first.
 * `kubectl rollout undo` writes an old template back: its ReplicaSet then is the new one again and
 * gets the next revision number. Sizes come from rollout.c.
 *
 * The annotation inferd.io/stable-replica-set holds one old set in place: it and the new one then
 * both have spec.replicas (a canary; docs/adr/0008). Without the annotation, or when the two are
 * the same set, the Deployment rolls as Kubernetes has it. */
#include "core/control/deployment.h"

#include <inttypes.h>
#include <stdio.h>

#include "core/control/deployment_status.h"
#include "core/control/events.h"
#include "core/control/isvc_predictor.h"
#include "core/control/labels.h"
#include "core/control/revision.h"
#include "core/control/rollout.h"
#include "core/control/traffic_build.h"

static const char COMPONENT[] = "deployment-controller";
static const char DESIRED[] = "deployment.kubernetes.io/desired-replicas";
static const char MAX[] = "deployment.kubernetes.io/max-replicas";

enum { HISTORY_LIMIT_DEFAULT = 10 };

/* What one reconcile works on. */
struct deployment {
    struct world *w;
    struct store_object *object; /* as read */
    json_t *copy;                /* changed, written at the end */
    struct store_object **sets;  /* references; oldest first */
    size_t num_sets;
    size_t new_index;    /* == num_sets: there is no new one */
    size_t stable_index; /* == num_sets: one version is to run */
};

static const struct store_object *new_set(const struct deployment *d) {
    return d->new_index < d->num_sets ? d->sets[d->new_index] : NULL;
}

void deployment_bounds(const json_t *deployment, int64_t *ret_surge, int64_t *ret_unavailable) {
    int64_t desired = object_int(deployment, "spec.replicas", 1);
    const json_t *rolling = object_at(deployment, "spec.strategy.rollingUpdate");
    json_t *quarter = json_string("25%");
    const json_t *surge = json_object_get(rolling, "maxSurge");
    const json_t *unavailable = json_object_get(rolling, "maxUnavailable");
    if (!rollout_resolve(surge ? surge : quarter, desired, true, ret_surge))
        *ret_surge = 1;
    if (!rollout_resolve(unavailable ? unavailable : quarter, desired, false, ret_unavailable))
        *ret_unavailable = 0;
    if (object_annotation(deployment, DEPLOYMENT_NO_SURGE_ANNOTATION))
        *ret_surge = 0;
    if (!*ret_surge && !*ret_unavailable)
        *ret_unavailable = 1;
    if (*ret_unavailable > desired)
        *ret_unavailable = desired;
    json_decref(quarter);
}

/* Finding the sets. */

static int compare_age(const void *a, const void *b) {
    const struct store_object *const *pa = a, *const *pb = b;
    int64_t ra = (*pa)->create_revision, rb = (*pb)->create_revision;
    return ra < rb ? -1 : ra > rb;
}

static enum errc adopt(struct deployment *d, struct store_object **set, struct error *err) {
    json_t *adopted = json_deep_copy((*set)->json);
    json_t *refs = object_at(adopted, "metadata.ownerReferences");
    struct store_object *updated = NULL;
    if (!refs)
        object_set(adopted, "metadata.ownerReferences", refs = json_array());
    json_array_append_new(refs, object_owner_ref(d->object->json));
    if (world_update(d->w, *set, adopted, &updated, err))
        return err->code;
    store_object_unref(*set);
    *set = updated;
    return OK;
}

/* Somebody changed its labels: it goes its own way, with its pods. */
static enum errc release(struct deployment *d, const struct store_object *set, struct error *err) {
    json_t *released = json_deep_copy(set->json), *ref;
    json_t *refs = object_at(released, "metadata.ownerReferences");
    size_t i;
    json_array_foreach (refs, i, ref) {
        const char *uid = object_str(ref, "uid");
        if (uid && !strcmp(uid, object_uid(d->object->json))) {
            json_array_remove(refs, i);
            break;
        }
    }
    return world_update(d->w, set, released, NULL, err);
}

static enum errc find_sets(struct deployment *d, struct error *err) {
    AUTO_STORE_LIST all = {0};
    const json_t *deployment = d->object->json;
    const json_t *selector = object_at(deployment, "spec.selector");
    world_list(d->w, KIND_REPLICA_SET, object_namespace(deployment), &all);
    d->sets = mem_array(all.num_items, sizeof(*d->sets));
    for (size_t i = 0; i < all.num_items; i++) {
        const json_t *rs = all.items[i]->json, *owner = object_controller_of(rs);
        bool ours = object_controlled_by(rs, deployment);
        bool matches = labels_selector_match(selector, object_at(rs, "metadata.labels"));
        bool orphan = !owner && !object_deleting(rs) && !object_deleting(deployment) && matches;
        if (ours && !matches && release(d, all.items[i], err))
            return err->code;
        if (!(ours && matches) && !orphan)
            continue;
        struct store_object *set = store_object_ref(all.items[i]);
        if (orphan && adopt(d, &set, err)) {
            store_object_unref(set);
            return err->code;
        }
        d->sets[d->num_sets++] = set;
    }
    qsort(d->sets, d->num_sets, sizeof(*d->sets), compare_age);
    return OK;
}

bool deployment_has_template_of(const json_t *deployment, const json_t *set) {
    json_t *theirs = json_deep_copy(object_at(set, "spec.template"));
    json_object_del(object_at(theirs, "metadata.labels"), DEPLOYMENT_HASH_LABEL);
    bool same = json_equal(theirs, object_at(deployment, "spec.template"));
    json_decref(theirs);
    return same;
}

static void find_new(struct deployment *d) {
    d->new_index = 0;
    while (d->new_index < d->num_sets &&
           (object_deleting(d->sets[d->new_index]->json) ||
            !deployment_has_template_of(d->object->json, d->sets[d->new_index]->json)))
        d->new_index++;
}

/* Which old set is held in place beside the new one, or beside the one that is about to be made. */
static void find_stable(struct deployment *d) {
    const char *name = object_annotation(d->object->json, REVISION_STABLE_ANNOTATION);
    d->stable_index = 0;
    while (d->stable_index < d->num_sets &&
           (!name || d->stable_index == d->new_index ||
            object_deleting(d->sets[d->stable_index]->json) ||
            strcmp(object_name(d->sets[d->stable_index]->json), name) != 0))
        d->stable_index++;
}

/* Writing sets. */

static void set_annotation(json_t *o, const char *name, const char *value) {
    json_t *annotations = object_at(o, "metadata.annotations");
    if (!json_is_object(annotations))
        object_set(o, "metadata.annotations", annotations = json_object());
    json_object_set_new(annotations, name, json_string(value));
}

static void set_annotation_int(json_t *o, const char *name, int64_t value) {
    char text[24];
    snprintf(text, sizeof(text), "%" PRId64, value);
    set_annotation(o, name, text);
}

static void set_size(const struct deployment *d, json_t *rs, int64_t replicas) {
    int64_t surge, unavailable, desired = object_int(d->object->json, "spec.replicas", 1);
    deployment_bounds(d->object->json, &surge, &unavailable);
    object_set(rs, "spec.replicas", json_integer(replicas));
    set_annotation_int(rs, DESIRED, desired);
    set_annotation_int(rs, MAX, desired + surge);
}

static int64_t next_revision(const struct deployment *d) {
    int64_t newest = 0;
    for (size_t i = 0; i < d->num_sets; i++) {
        int64_t revision = i == d->new_index ? 0 : revision_number(d->sets[i]->json);
        newest = revision > newest ? revision : newest;
    }
    return newest + 1;
}

/* Annotations of the Deployment travel to its new set (change-cause for `rollout history`). */
static void copy_annotations(const json_t *deployment, json_t *rs) {
    const char *name;
    json_t *value;
    json_object_foreach (object_at(deployment, "metadata.annotations"), name, value) {
        if (strcmp(name, "kubectl.kubernetes.io/last-applied-configuration") != 0 &&
            strncmp(name, "deployment.kubernetes.io/", 25) != 0 &&
            strncmp(name, "inferd.io/", 10) != 0)
            set_annotation(rs, name, json_string_value(value) ? json_string_value(value) : "");
    }
}

/* Not part of the template: it follows the Deployment without a new set. */
static void copy_min_ready(const json_t *deployment, json_t *rs) {
    json_t *min_ready = object_at(deployment, "spec.minReadySeconds");
    if (min_ready)
        object_set(rs, "spec.minReadySeconds", json_incref(min_ready));
    else
        object_delete(rs, "spec.minReadySeconds");
}

static json_t *make_set(const struct deployment *d, int64_t replicas) {
    const json_t *deployment = d->object->json;
    char hash[11];
    json_t *hashed = json_pack("[O, i]", object_at(deployment, "spec.template"),
                               (int)object_int(deployment, "status.collisionCount", 0));
    object_hash_name(hashed, hash);
    json_decref(hashed);
    AUTO_FREE char *name = mem_printf("%.240s-%s", object_name(deployment), hash);
    json_t *rs = json_pack(
        "{s:{s:s, s:s, s:[o], s:{}}, s:{s:o, s:o}, s:{s:i}}", "metadata", "name", name, "namespace",
        object_namespace(deployment), "ownerReferences", object_owner_ref(deployment), "labels",
        "spec", "selector", json_deep_copy(object_at(deployment, "spec.selector")), "template",
        json_deep_copy(object_at(deployment, "spec.template")), "status", "replicas", 0);
    ASSERT(rs);
    json_t *labels = object_at(deployment, "spec.template.metadata.labels");
    json_object_update(object_at(rs, "metadata.labels"), labels);
    json_object_set_new(object_at(rs, "metadata.labels"), DEPLOYMENT_HASH_LABEL, json_string(hash));
    json_object_set_new(object_at(rs, "spec.template.metadata.labels"), DEPLOYMENT_HASH_LABEL,
                        json_string(hash));
    if (!object_at(rs, "spec.selector.matchLabels"))
        object_set(rs, "spec.selector.matchLabels", json_object());
    json_object_set_new(object_at(rs, "spec.selector.matchLabels"), DEPLOYMENT_HASH_LABEL,
                        json_string(hash));
    copy_min_ready(deployment, rs);
    copy_annotations(deployment, rs);
    set_annotation_int(rs, REVISION_ANNOTATION, next_revision(d));
    set_size(d, rs, replicas);
    return rs;
}

static void tell_scaled(const struct deployment *d, const char *name, int64_t was, int64_t now) {
    event_emit(d->w, d->object->json, EVENT_NORMAL, "ScalingReplicaSet", COMPONENT,
               "Scaled %s replica set %s from %" PRId64 " to %" PRId64, now > was ? "up" : "down",
               name, was, now);
}

static enum errc create_set(struct deployment *d, int64_t replicas, struct error *err) {
    json_t *rs = make_set(d, replicas);
    AUTO_FREE char *name = mem_strdup(object_name(rs));
    struct store_object *made = NULL;
    enum errc rc = world_create(d->w, KIND_REPLICA_SET, rs, &made, err);
    if (rc == ERR_EXISTS) { /* same hash, another template, or not ours: hash differently */
        object_set(d->copy, "status.collisionCount",
                   json_integer(object_int(d->copy, "status.collisionCount", 0) + 1));
        return OK;
    }
    if (rc) {
        AUTO_FREE char *message =
            mem_printf("Failed to create new replica set \"%s\": %s", name, err->text);
        deployment_status_progress(d->w, d->copy, "False", "ReplicaSetCreateError", message);
        event_emit(d->w, d->object->json, EVENT_WARNING, "ReplicaSetCreateError", COMPONENT, "%s",
                   message);
        return rc;
    }
    d->sets = mem_realloc(d->sets, (d->num_sets + 1) * sizeof(*d->sets));
    if (d->stable_index == d->num_sets) /* none: it stays none */
        d->stable_index++;
    d->new_index = d->num_sets;
    d->sets[d->num_sets++] = made;
    AUTO_FREE char *message = mem_printf("Created new replica set \"%s\"", name);
    deployment_status_progress(d->w, d->copy, "True", "NewReplicaSetCreated", message);
    if (replicas)
        tell_scaled(d, name, 0, replicas);
    return OK;
}

/* Replaces d->sets[i] by a changed copy (taken). */
static enum errc update_set(struct deployment *d, size_t i, json_t *rs, struct error *err) {
    struct store_object *updated = NULL;
    if (world_update(d->w, d->sets[i], rs, &updated, err))
        return err->code;
    store_object_unref(d->sets[i]);
    d->sets[i] = updated;
    return OK;
}

/* The new set carries the highest revision; the Deployment names it. Its annotations (the
 * change-cause, which `kubectl annotate` sets after the change) follow the Deployment's. */
static enum errc follow_deployment(struct deployment *d, struct error *err) {
    json_t *rs = json_deep_copy(new_set(d)->json);
    int64_t was = revision_number(rs), next = next_revision(d);
    copy_annotations(d->object->json, rs);
    copy_min_ready(d->object->json, rs);
    if (was < next) { /* an old version came back */
        const char *history = object_annotation(rs, REVISION_HISTORY_ANNOTATION);
        AUTO_FREE char *longer =
            history ? mem_printf("%s,%" PRId64, history, was) : mem_printf("%" PRId64, was);
        if (was)
            set_annotation(rs, REVISION_HISTORY_ANNOTATION, longer);
        set_annotation_int(rs, REVISION_ANNOTATION, next);
        AUTO_FREE char *message = mem_printf("Found new replica set \"%s\"", object_name(rs));
        deployment_status_progress(d->w, d->copy, "True", "FoundNewReplicaSet", message);
    }
    if (update_set(d, d->new_index, rs, err))
        return err->code;
    set_annotation_int(d->copy, REVISION_ANNOTATION, revision_number(new_set(d)->json));
    return OK;
}

/* Sizing. */

static int64_t pods_of(const struct deployment *d, const struct store_object *set) {
    AUTO_STORE_LIST all = {0};
    int64_t num = 0;
    world_list(d->w, KIND_POD, object_namespace(set->json), &all);
    for (size_t i = 0; i < all.num_items; i++)
        num += object_controlled_by(all.items[i]->json, set->json);
    return num;
}

static struct rollout_set read_set(const struct deployment *d, const struct store_object *set) {
    const char *max = object_annotation(set->json, MAX);
    return (struct rollout_set){
        .replicas = object_int(set->json, "spec.replicas", 0),
        .available = object_int(set->json, "status.availableReplicas", 0),
        .num_pods = pods_of(d, set),
        .max_replicas = max && atoll(max) > 0 ? atoll(max) : 0,
        .created = set->create_revision,
    };
}

/* A set with pods was sized for another spec.replicas. */
static bool was_scaled(const struct deployment *d) {
    int64_t desired = object_int(d->object->json, "spec.replicas", 1);
    for (size_t i = 0; i < d->num_sets; i++) {
        const char *text = object_annotation(d->sets[i]->json, DESIRED);
        if (object_int(d->sets[i]->json, "spec.replicas", 0) > 0 && text && atoll(text) != desired)
            return true;
    }
    return false;
}

static enum errc apply_size(struct deployment *d, size_t i, int64_t replicas, bool renew,
                            struct error *err) {
    int64_t was = object_int(d->sets[i]->json, "spec.replicas", 0);
    if (was == replicas && !renew)
        return OK;
    json_t *rs = json_deep_copy(d->sets[i]->json);
    set_size(d, rs, replicas);
    if (update_set(d, i, rs, err))
        return err->code;
    if (was != replicas)
        tell_scaled(d, object_name(d->sets[i]->json), was, replicas);
    return OK;
}

static enum errc size_sets(struct deployment *d, bool paused, struct error *err) {
    const char *strategy = object_str(d->object->json, "spec.strategy.type");
    struct rollout_set fresh = {0}, *old = mem_array(d->num_sets + 1, sizeof(*old));
    struct rollout r = {.desired = object_int(d->object->json, "spec.replicas", 1),
                        .recreate = strategy && !strcmp(strategy, "Recreate"),
                        .old_sets = old,
                        .status_replicas = object_int(d->object->json, "status.replicas", 0)};
    deployment_bounds(d->object->json, &r.max_surge, &r.max_unavailable);
    for (size_t i = 0; i < d->num_sets; i++) {
        if (i != d->new_index)
            old[r.num_old_sets++] = read_set(d, d->sets[i]);
    }
    if (new_set(d))
        fresh = read_set(d, new_set(d));
    if (new_set(d) || !paused)
        r.new_set = &fresh;
    bool scaled = was_scaled(d), split = d->stable_index < d->num_sets;
    if (split && !paused)
        rollout_split(&r, &old[d->stable_index - (d->stable_index > d->new_index)]);
    else if (paused || scaled)
        rollout_scale(&r);
    else
        rollout_step(&r);
    enum errc rc = OK;
    size_t num_sets = d->num_sets; /* create_set() appends one, which has its size */
    if (!new_set(d) && !paused)
        rc = create_set(d, fresh.replicas, err);
    for (size_t i = 0, k = 0; i < num_sets && !rc; i++)
        rc = apply_size(d, i, i == d->new_index ? fresh.replicas : old[k++].replicas, scaled, err);
    free(old);
    return rc;
}

/* History. */

static int compare_revision(const void *a, const void *b) {
    const struct store_object *const *pa = a, *const *pb = b;
    int64_t ra = revision_number((*pa)->json), rb = revision_number((*pb)->json);
    return ra < rb ? -1 : ra > rb;
}

static enum errc clean_history(struct deployment *d, struct error *err) {
    int64_t limit = object_int(d->object->json, "spec.revisionHistoryLimit", HISTORY_LIMIT_DEFAULT);
    struct store_object **idle = mem_array(d->num_sets, sizeof(*idle));
    size_t num_idle = 0;
    enum errc rc = OK;
    for (size_t i = 0; i < d->num_sets; i++) {
        const json_t *rs = d->sets[i]->json;
        if (i != d->new_index && i != d->stable_index && !object_deleting(rs) &&
            !object_int(rs, "spec.replicas", 0) && !object_int(rs, "status.replicas", 0))
            idle[num_idle++] = d->sets[i];
    }
    qsort(idle, num_idle, sizeof(*idle), compare_revision);
    for (size_t i = 0; !rc && i + (size_t)limit < num_idle; i++)
        rc = world_delete(d->w, idle[i], err);
    free(idle);
    return rc;
}

/* Putting it together. */

static void note_pause(struct deployment *d, bool paused) {
    const char *reason = object_str(object_find_condition(d->copy, "Progressing"), "reason");
    bool noted = reason && !strcmp(reason, "DeploymentPaused");
    if (paused && !noted)
        deployment_status_progress(d->w, d->copy, "Unknown", "DeploymentPaused",
                                   "Deployment is paused");
    else if (!paused && noted)
        deployment_status_progress(d->w, d->copy, "Unknown", "DeploymentResumed",
                                   "Deployment is resumed");
}

/* `kubectl rollout status` is about to return: requests must find the new version by then. */
static bool becomes_complete(const struct deployment *d) {
    return object_label(d->object->json, ISVC_LABEL) && deployment_status_complete(d->copy) &&
           !deployment_status_complete(d->object->json);
}

static enum errc write_status(struct deployment *d, struct error *err) {
    const json_t **sets = mem_array(d->num_sets + 1, sizeof(*sets));
    for (size_t i = 0; i < d->num_sets; i++)
        sets[i] = d->sets[i]->json;
    struct deployment_sets view = {
        .new_set = new_set(d) ? new_set(d)->json : NULL,
        .stable_set = d->stable_index < d->num_sets ? d->sets[d->stable_index]->json : NULL,
        .sets = sets,
        .num_sets = d->num_sets};
    int64_t due_ms = deployment_status_update(d->w, d->copy, &view);
    free(sets);
    if (due_ms)
        world_enqueue_after(d->w, KIND_DEPLOYMENT, object_namespace(d->copy), object_name(d->copy),
                            due_ms);
    if (becomes_complete(d))
        traffic_build(d->w, NULL);
    return world_update(d->w, d->object, steal(d->copy), NULL, err);
}

static enum errc sync(struct deployment *d, struct error *err) {
    bool paused = object_bool(d->object->json, "spec.paused", false);
    if (find_sets(d, err))
        return err->code;
    find_new(d);
    find_stable(d);
    if (object_deleting(d->object->json))
        return write_status(d, err);
    note_pause(d, paused);
    if (size_sets(d, paused, err) || (new_set(d) && !paused && follow_deployment(d, err)))
        return err->code;
    if (write_status(d, err))
        return err->code;
    return clean_history(d, err);
}

enum errc deployment_reconcile(struct world *w, const char *ns, const char *name,
                               struct error *err) {
    AUTO(store_object) o = world_get(w, KIND_DEPLOYMENT, ns, name);
    if (!o)
        return OK;
    struct deployment d = {.w = w, .object = o, .copy = json_deep_copy(o->json)};
    enum errc rc = sync(&d, err);
    for (size_t i = 0; i < d.num_sets; i++)
        store_object_unref(d.sets[i]);
    free(d.sets);
    json_decref(d.copy);
    return rc;
}
