/* Building the traffic table. A pod is in it while it is Ready, not being deleted, and its process
 * is ours: what an earlier daemon left as Ready in the store does not count. The replica, with its
 * count of requests in flight, belongs to the pod's record; tables share it.
 *
 * The ready pods of each ReplicaSet are a revision. While canaryTrafficPercent is set,
 * status.traffic says what each gets, and what it does not name gets nothing. Otherwise the
 * canaries of spec.canary get what status.canaryStatuses says, and the stable predictor the rest,
 * each revision as much as it has replicas: during a rolling update old and new pods serve side by
 * side, as behind a Kubernetes Service. */
#include "core/control/traffic_build.h"

#include <inttypes.h>

#include "core/base/base64.h"
#include "core/control/autoscale_plan.h"
#include "core/control/canary.h"
#include "core/control/isvc_predictor.h"
#include "core/control/pod.h"
#include "core/control/pod_record.h"
#include "core/control/pod_status.h"
#include "core/control/replicaset.h"
#include "core/control/scaled_object.h"
#include "core/control/revision.h"
#include "core/control/traffic_keys.h"
#include "core/node/replica_command.h"

enum { MODELS_MAX = 64, NAMES_MAX = 3, HOST_FORMS = 4, WHOLE_PERCENT = 100 };

/* Whose revision it is: a canary's index, or one of these. */
enum { SIDE_STABLE = -1, SIDE_GONE = -2 };

/* A pod, by the service that its label names. */
struct labelled_pod {
    const char *ns, *service;
    const json_t *pod;
};

struct builder {
    struct world *w;
    struct traffic_table *table, *before;
    struct labelled_pod *all_pods; /* sorted by namespace, service */
    size_t num_all_pods;
    const struct labelled_pod *pods; /* of the service that is being added */
    size_t num_pods;
    struct buf text; /* what the table says, to compare */
};

/* The pods of each service. */

static int compare_service(const struct labelled_pod *p, const char *ns, const char *service) {
    int order = strcmp(p->ns, ns);
    return order ? order : strcmp(p->service, service);
}

static int compare_pods(const void *a, const void *b) {
    const struct labelled_pod *pa = a, *pb = b;
    int order = compare_service(pa, pb->ns, pb->service);
    return order ? order : strcmp(object_name(pa->pod), object_name(pb->pod));
}

static void gather_pods(struct builder *b, const struct store_list *pods) {
    b->all_pods = mem_array(pods->num_items + 1, sizeof(*b->all_pods));
    for (size_t i = 0; i < pods->num_items; i++) {
        const json_t *pod = pods->items[i]->json;
        const char *service = object_label(pod, ISVC_LABEL), *ns = object_namespace(pod);
        if (service && ns)
            b->all_pods[b->num_all_pods++] =
                (struct labelled_pod){.ns = ns, .service = service, .pod = pod};
    }
    qsort(b->all_pods, b->num_all_pods, sizeof(*b->all_pods), compare_pods);
}

/* Points b->pods at those of the service. */
static void select_pods(struct builder *b, const char *ns, const char *service) {
    size_t low = 0, high = b->num_all_pods;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (compare_service(&b->all_pods[mid], ns, service) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    b->pods = &b->all_pods[low];
    b->num_pods = 0;
    while (low + b->num_pods < b->num_all_pods &&
           !compare_service(&b->pods[b->num_pods], ns, service))
        b->num_pods++;
}

/* Names. */

/* Under each of the names (NULL-terminated, NAMES_MAX at most). */
static const char *const *make_hosts(struct builder *b, const char *ns, const char *const *names) {
    struct arena *a = b->table->arena;
    const char **hosts = arena_alloc(a, (NAMES_MAX * HOST_FORMS + 1) * sizeof(*hosts));
    size_t n = 0;
    for (; *names; names++) {
        hosts[n++] = arena_printf(a, "%s.%s.%s", *names, ns, b->w->config->domain);
        hosts[n++] = arena_printf(a, "%s.%s.svc.cluster.local", *names, ns);
        hosts[n++] = arena_printf(a, "%s.%s.svc", *names, ns);
        hosts[n++] = arena_printf(a, "%s.%s", *names, ns);
    }
    return hosts;
}

static const char *const *service_hosts(struct builder *b, const char *ns, const char *name) {
    AUTO_FREE char *predictor = mem_printf("%s-predictor", name);
    return make_hosts(b, ns, (const char *const[]){name, predictor, NULL});
}

/* As Knative has them (TAG-SERVICE), by the short name, and as the Service of a canary. */
static const char *const *tag_hosts(struct builder *b, const char *ns, const char *name,
                                    const char *tag) {
    AUTO_FREE char *knative = mem_printf("%s-%s-predictor", tag, name);
    AUTO_FREE char *brief = mem_printf("%s-%s", tag, name);
    AUTO_FREE char *service = mem_printf("%s-%s-predictor", name, tag);
    return make_hosts(b, ns, (const char *const[]){knative, brief, service, NULL});
}

static void add_tags(struct builder *b, const json_t *isvc, struct traffic_service *s) {
    const json_t *traffic = object_at(isvc, "status.components.predictor.traffic");
    struct arena *a = b->table->arena;
    struct traffic_tag *tags = arena_alloc(a, (json_array_size(traffic) + 1) * sizeof(*tags));
    size_t i;
    json_t *target;
    json_array_foreach ((json_t *)traffic, i, target) {
        const char *tag = object_str(target, "tag");
        const char *revision = object_str(target, "revisionName");
        if (tag && revision)
            tags[s->num_tags++] = (struct traffic_tag){.name = arena_strdup(a, tag),
                                                       .revision = arena_strdup(a, revision),
                                                       .hosts = tag_hosts(b, s->ns, s->name, tag)};
    }
    s->tags = tags;
}

static void add_model(struct builder *b, const char **models, size_t *num, const char *name) {
    for (size_t i = 0; i < *num; i++) {
        if (!strcmp(models[i], name))
            return;
    }
    if (*num < MODELS_MAX)
        models[(*num)++] = arena_strdup(b->table->arena, name);
}

/* Names given in the args of a container, so that a service without replicas is found by them. */
static void add_args(struct builder *b, const json_t *args, const char **models, size_t *num) {
    static const char *const options[] = {"--served-model-name",
                                          "--served_model_name",
                                          "--model_name",
                                          "--model-name",
                                          "--model",
                                          "--alias"};
    for (size_t i = 0; i < json_array_size(args); i++) {
        const char *arg = json_string_value(json_array_get(args, i));
        const char *next = json_string_value(json_array_get(args, i + 1));
        for (size_t o = 0; arg && o < ARRAY_LEN(options); o++) {
            size_t len = strlen(options[o]);
            if (strncmp(arg, options[o], len) != 0)
                continue;
            if (arg[len] == '=')
                add_model(b, models, num, arg + len + 1);
            else if (!arg[len] && next)
                add_model(b, models, num, next);
        }
    }
}

static const char *const *make_models(struct builder *b, const json_t *isvc) {
    const char **models = arena_alloc(b->table->arena, (MODELS_MAX + 1) * sizeof(*models));
    size_t num = 0;
    add_model(b, models, &num, object_name(isvc));
    for (size_t i = 0; i < b->num_pods; i++) {
        const json_t *pod = b->pods[i].pod;
        struct traffic_replica *replica;
        const char *const *names;
        if (replicaset_pod_active(pod) && pod_endpoint(b->w, object_uid(pod), &replica, &names)) {
            for (; *names; names++)
                add_model(b, models, &num, *names);
            if (replica_command_is_host(pod)) /* nobody knows its names better */
                add_args(b, object_at(pod, "spec.containers.0.args"), models, &num);
        }
    }
    json_t *model = isvc_predictor_model(isvc);
    add_args(b, json_object_get(model, "args"), models, &num);
    json_decref(model);
    add_args(b, object_at(isvc, "spec.predictor.containers.0.args"), models, &num);
    return models;
}

/* Replicas. */

/* The ReplicaSet that the pod is of; a reference, NULL: none. */
static struct store_object *set_of(const struct builder *b, const json_t *pod) {
    const char *name = object_str(object_controller_of(pod), "name");
    AUTO(store_object)
    set = name ? world_get(b->w, KIND_REPLICA_SET, object_namespace(pod), name) : NULL;
    return set && object_controlled_by(pod, set->json) ? steal(set) : NULL;
}

/* The revision of the pod's set, made when this is its first pod. */
static struct traffic_revision *revision_of(struct builder *b, struct traffic_service *s,
                                            const json_t *isvc, const json_t *set) {
    const char *owner = object_str(object_controller_of(set), "name");
    AUTO_FREE char *name = set && owner ? revision_name(set, owner) : mem_strdup(object_name(isvc));
    for (uint32_t i = 0; i < s->num_revisions; i++) {
        if (!strcmp(s->revisions[i].name, name))
            return &s->revisions[i];
    }
    struct traffic_revision *r = &s->revisions[s->num_revisions++];
    r->name = arena_strdup(b->table->arena, name);
    r->percent = revision_share(object_at(isvc, "status.components.predictor.traffic"), set);
    r->replicas =
        arena_alloc(b->table->arena, (b->num_pods + 1) * sizeof(struct traffic_replica *));
    return r;
}

/* By the label that a pod shares with its Deployment. One that is neither the stable predictor's
 * nor a canary's serves with the stable one for as long as it is kept; its pods outlive it for a
 * moment, without requests. */
static int side_of(const struct builder *b, const json_t *isvc, const json_t *pod) {
    const char *app = object_label(pod, "app");
    AUTO_FREE char *stable = isvc_predictor_child(isvc);
    const char *child = app && !strncmp(app, "isvc.", 5) ? app + 5 : stable;
    if (!strcmp(child, stable))
        return SIDE_STABLE;
    int canary = canary_of_deployment(isvc, child);
    AUTO(store_object)
    kept = canary < 0 ? world_get(b->w, KIND_DEPLOYMENT, object_namespace(isvc), child) : NULL;
    return canary >= 0 ? canary : kept && !object_deleting(kept->json) ? SIDE_STABLE : SIDE_GONE;
}

/* Shares `percent` out among the revisions of one side, as much as they have replicas. */
static void share_by_size(struct traffic_service *s, const int *sides, int side, uint32_t percent) {
    uint32_t total = 0, seen = 0;
    for (uint32_t i = 0; i < s->num_revisions; i++)
        total += sides[i] == side ? s->revisions[i].num_replicas : 0;
    for (uint32_t i = 0; i < s->num_revisions; i++) {
        struct traffic_revision *r = &s->revisions[i];
        if (sides[i] != side)
            continue;
        r->percent = percent * (seen + r->num_replicas) / total - percent * seen / total;
        seen += r->num_replicas;
    }
}

static void share_out(const json_t *isvc, struct traffic_service *s, const int *sides) {
    uint32_t left = WHOLE_PERCENT;
    for (size_t c = 0; c < canary_count(isvc); c++) {
        uint32_t share = canary_share(isvc, canary_name(isvc, c));
        share = share < left ? share : left;
        share_by_size(s, sides, (int)c, share);
        left -= share;
    }
    share_by_size(s, sides, SIDE_STABLE, left);
    share_by_size(s, sides, SIDE_GONE, 0);
}

static void add_replicas(struct builder *b, const json_t *isvc, struct traffic_service *s) {
    int *sides = mem_array(b->num_pods + 1, sizeof(*sides));
    s->revisions = arena_alloc(b->table->arena, (b->num_pods + 1) * sizeof(*s->revisions));
    for (size_t i = 0; i < b->num_pods; i++) {
        const json_t *pod = b->pods[i].pod;
        struct traffic_replica *replica;
        const char *const *names;
        if (!replicaset_pod_active(pod) || !pod_status_ready(pod) ||
            !pod_endpoint(b->w, object_uid(pod), &replica, &names))
            continue;
        AUTO(store_object) set = set_of(b, pod);
        struct traffic_revision *r = revision_of(b, s, isvc, set ? set->json : NULL);
        sides[r - s->revisions] = side_of(b, isvc, pod);
        r->replicas[r->num_replicas++] = traffic_replica_ref(replica);
    }
    bool by_status = revision_canary_percent(isvc) >= 0 &&
                     object_at(isvc, "status.components.predictor.traffic");
    if (!by_status)
        share_out(isvc, s, sides);
    free(sides);
}

/* A pod of the service that is being deleted gives its place to the next one. */
static bool one_is_ending(const struct builder *b) {
    for (size_t i = 0; i < b->num_pods; i++) {
        if (object_deleting(b->pods[i].pod))
            return true;
    }
    return false;
}

/* The node takes no new pods for a while: somebody drains it, and will be back. */
static bool is_cordoned(const struct builder *b) {
    AUTO(store_object) node = world_get(b->w, KIND_NODE, NULL, b->w->node_name);
    return node && object_bool(node->json, "spec.unschedulable", false);
}

/* The process ended and waits to be started again, but it was ready before it did: this is no model
 * that cannot be loaded. */
static bool served_in_its_last_run(const struct builder *b, const json_t *pod) {
    const struct pod_record *r = pod_record_find(b->w, object_uid(pod));
    const struct pod_container *main = r ? pod_record_first_main(r) : NULL;
    return main && main->served;
}

static bool pod_may_become_ready(const struct builder *b, const json_t *pod, bool ending) {
    const char *scheduled = object_condition(pod, "PodScheduled");
    const char *waiting = pod_status_waiting(pod);
    if (scheduled && !strcmp(scheduled, "False"))
        return ending || is_cordoned(b);
    return !waiting || !strcmp(waiting, "ContainerCreating") ||
           (!strcmp(waiting, "CrashLoopBackOff") && served_in_its_last_run(b, pod));
}

/* Between the end of a pod and the beginning of the next there is none. */
static bool replicas_are_wanted(const struct builder *b, const json_t *isvc) {
    AUTO_FREE char *name = mem_printf("%s-predictor", object_name(isvc));
    AUTO(store_object) d = world_get(b->w, KIND_DEPLOYMENT, object_namespace(isvc), name);
    return d && object_int(d->json, "spec.replicas", 1) > 0;
}

/* A replica is on its way, or will be, and nothing has gone wrong with it yet. */
static bool may_become_ready(struct builder *b, const json_t *isvc) {
    bool any = false, ending = one_is_ending(b);
    for (size_t i = 0; i < b->num_pods; i++) {
        if (!replicaset_pod_active(b->pods[i].pod))
            continue;
        any = true;
        if (pod_may_become_ready(b, b->pods[i].pod, ending))
            return true;
    }
    if (any)
        return false;
    /* With no pod there is nothing that has gone wrong, whatever the status still says of the last
     * one; only a spec that makes none is hopeless. */
    const char *transition = object_str(isvc, "status.modelStatus.transitionStatus");
    AUTO_FREE char *deployment = mem_printf("%.250s-predictor", object_name(isvc));
    bool wakes =
        autoscale_wakes(isvc) || scaled_object_governs(b->w, object_namespace(isvc), deployment);
    return !transition || !strcmp(transition, "InProgress") || replicas_are_wanted(b, isvc) ||
           (strcmp(transition, "InvalidSpec") != 0 && wakes);
}

static const char *why_not_ready(struct builder *b, const json_t *isvc) {
    const json_t *ready = object_find_condition(isvc, "PredictorReady");
    const char *message = object_str(ready, "message"), *reason = object_str(ready, "reason");
    const char *status = object_str(ready, "status");
    if (status && !strcmp(status, "True"))
        return "it is scaled to zero";
    return arena_strdup(b->table->arena, message ? message : reason ? reason : "it is starting");
}

/* The table. */

static void describe(struct builder *b, const struct traffic_service *s) {
    buf_printf(&b->text, "%s/%s wait=%d concurrency=%u why=%s models=", s->ns, s->name,
               s->waiting_may_help, s->container_concurrency,
               s->not_ready_reason ? s->not_ready_reason : "");
    for (const char *const *m = s->models; *m; m++)
        buf_printf(&b->text, "%s,", *m);
    if (s->keys) {
        buf_printf(&b->text, " keys=%s", s->keys_fault ? s->keys_fault : "");
        for (uint32_t i = 0; i < s->keys->num; i++)
            base64_append(&b->text, s->keys->digests[i], AUTH_KEY_DIGEST_BYTES);
    }
    if (s->sticky_header)
        buf_printf(&b->text, " sticky=%s", s->sticky_header);
    for (uint32_t i = 0; i < s->num_tags; i++)
        buf_printf(&b->text, " %s:%s", s->tags[i].name, s->tags[i].revision);
    for (uint32_t i = 0; i < s->num_revisions; i++) {
        const struct traffic_revision *r = &s->revisions[i];
        buf_printf(&b->text, " %s=%u%%", r->name, r->percent);
        for (uint32_t k = 0; k < r->num_replicas; k++)
            buf_printf(&b->text, ",%s=%s", r->replicas[k]->pod, r->replicas[k]->address);
    }
    buf_puts(&b->text, "\n");
}

static void add_service(struct builder *b, const json_t *isvc) {
    struct traffic_service *s = &b->table->services[b->table->num_services++];
    int64_t concurrency = object_int(isvc, "spec.predictor.containerConcurrency", 0);
    s->ns = arena_strdup(b->table->arena, object_namespace(isvc));
    s->name = arena_strdup(b->table->arena, object_name(isvc));
    select_pods(b, s->ns, s->name);
    s->hosts = service_hosts(b, s->ns, s->name);
    add_tags(b, isvc, s);
    s->models = make_models(b, isvc);
    const char *sticky = canary_sticky_header(isvc);
    s->sticky_header = sticky ? arena_strdup(b->table->arena, sticky) : NULL;
    s->container_concurrency = concurrency > 0 ? (uint32_t)concurrency : 0;
    const struct traffic_service *was = traffic_find(b->before, s->ns, s->name);
    s->turn = was && was->turn ? traffic_turn_ref(was->turn) : traffic_turn_create();
    traffic_keys_find(b->w, isvc, b->table->arena, s);
    add_replicas(b, isvc, s);
    if (!traffic_num_ready(s)) {
        s->not_ready_reason = why_not_ready(b, isvc);
        s->waiting_may_help = may_become_ready(b, isvc);
    }
    describe(b, s);
}

/* The table's order. The store's is another: "team-a/" stands before "team/". */
static int compare_names(const void *a, const void *b) {
    const json_t *ja = (*(struct store_object *const *)a)->json;
    const json_t *jb = (*(struct store_object *const *)b)->json;
    int order = strcmp(object_namespace(ja), object_namespace(jb));
    return order ? order : strcmp(object_name(ja), object_name(jb));
}

static bool same_object(const json_t *a, const json_t *b) {
    const char *uid_a = object_uid(a), *uid_b = object_uid(b);
    return uid_a && uid_b && !strcmp(uid_a, uid_b);
}

void traffic_build(struct world *w, const json_t *about_to_be) {
    AUTO_STORE_LIST services = {0}, pods = {0};
    struct builder b = {
        .w = w, .table = traffic_table_create(), .before = traffic_current(w->traffic)};
    world_list(w, KIND_INFERENCE_SERVICE, NULL, &services);
    qsort(services.items, services.num_items, sizeof(struct store_object *), compare_names);
    world_list(w, KIND_POD, NULL, &pods);
    gather_pods(&b, &pods);
    b.table->services =
        arena_alloc(b.table->arena, (services.num_items + 1) * sizeof(struct traffic_service));
    for (size_t i = 0; i < services.num_items; i++) {
        const json_t *isvc = services.items[i]->json;
        if (!object_deleting(isvc))
            add_service(&b, same_object(isvc, about_to_be) ? about_to_be : isvc);
    }
    char *text = buf_steal(&b.text);
    if (!w->traffic_published || strcmp(text, w->traffic_published) != 0) {
        traffic_publish(w->traffic, b.table);
        free(w->traffic_published);
        w->traffic_published = text;
    } else {
        traffic_table_unref(b.table);
        free(text);
    }
    traffic_table_unref(b.before);
    free(b.all_pods);
}
