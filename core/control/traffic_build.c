/* Building the traffic table. A pod is in it while it is Ready, not being deleted, and its process
 * is ours: what an earlier daemon left as Ready in the store does not count. Replicas that stay are
 * shared with the table before, with their counts of requests in flight.
 *
 * All ready pods of a service stand under one revision, the newest ready one, with 100 percent:
 * during a rolling update old and new pods serve side by side, as behind a Kubernetes Service. */
#include "core/control/traffic_build.h"

#include <inttypes.h>

#include "core/control/isvc_predictor.h"
#include "core/control/pod.h"
#include "core/control/pod_status.h"
#include "core/control/replicaset.h"

enum { MODELS_MAX = 64, HOSTS_MAX = 8 };

struct builder {
    struct world *w;
    struct traffic_table *table, *before;
    struct store_list pods;
    struct buf text; /* what the table says, to compare */
};

static struct traffic_replica *shared_replica(const struct traffic_table *before, const char *pod,
                                              const char *uds_path) {
    for (uint32_t s = 0; s < before->num_services; s++) {
        const struct traffic_service *service = &before->services[s];
        for (uint32_t r = 0; r < service->num_revisions; r++) {
            for (uint32_t i = 0; i < service->revisions[r].num_replicas; i++) {
                struct traffic_replica *has = service->revisions[r].replicas[i];
                if (!strcmp(has->pod, pod) && !strcmp(has->uds_path, uds_path))
                    return traffic_replica_ref(has);
            }
        }
    }
    return traffic_replica_create(pod, uds_path);
}

static bool is_labelled(const json_t *pod, const json_t *isvc) {
    const char *of = object_label(pod, ISVC_LABEL), *ns = object_namespace(pod);
    return of && ns && !strcmp(of, object_name(isvc)) && !strcmp(ns, object_namespace(isvc));
}

static bool belongs(const json_t *pod, const json_t *isvc) {
    return is_labelled(pod, isvc) && replicaset_pod_active(pod);
}

/* Names. */

static const char *const *make_hosts(struct builder *b, const char *ns, const char *name) {
    static const char *const suffixes[] = {"", "-predictor"};
    const char **hosts = arena_alloc(b->table->arena, (HOSTS_MAX + 1) * sizeof(*hosts));
    size_t n = 0;
    for (size_t s = 0; s < ARRAY_LEN(suffixes); s++) {
        struct arena *a = b->table->arena;
        const char *suffix = suffixes[s];
        hosts[n++] = arena_printf(a, "%s%s.%s.%s", name, suffix, ns, b->w->config->domain);
        hosts[n++] = arena_printf(a, "%s%s.%s.svc.cluster.local", name, suffix, ns);
        hosts[n++] = arena_printf(a, "%s%s.%s.svc", name, suffix, ns);
        hosts[n++] = arena_printf(a, "%s%s.%s", name, suffix, ns);
    }
    return hosts;
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
    static const char *const options[] = {"--served-model-name", "--served_model_name",
                                          "--model_name", "--model-name", "--model"};
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
    for (size_t i = 0; i < b->pods.num_items; i++) {
        const json_t *pod = b->pods.items[i]->json;
        const char *uds_path, *const *names;
        if (belongs(pod, isvc) && pod_endpoint(b->w, object_uid(pod), &uds_path, &names)) {
            for (; *names; names++)
                add_model(b, models, &num, *names);
        }
    }
    json_t *model = isvc_predictor_model(isvc);
    add_args(b, json_object_get(model, "args"), models, &num);
    json_decref(model);
    add_args(b, object_at(isvc, "spec.predictor.containers.0.args"), models, &num);
    return models;
}

/* Replicas. */

static void add_replicas(struct builder *b, const json_t *isvc, struct traffic_service *s) {
    const char *name = object_str(isvc, "status.components.predictor.latestReadyRevision");
    struct traffic_revision *r = arena_alloc(b->table->arena, sizeof(*r));
    r->name = arena_strdup(b->table->arena, name ? name : object_name(isvc));
    r->percent = 100;
    r->replicas =
        arena_alloc(b->table->arena, (b->pods.num_items + 1) * sizeof(struct traffic_replica *));
    for (size_t i = 0; i < b->pods.num_items; i++) {
        const json_t *pod = b->pods.items[i]->json;
        const char *uds_path, *const *names;
        if (belongs(pod, isvc) && pod_status_ready(pod) &&
            pod_endpoint(b->w, object_uid(pod), &uds_path, &names))
            r->replicas[r->num_replicas++] = shared_replica(b->before, object_name(pod), uds_path);
    }
    s->revisions = r;
    s->num_revisions = 1;
}

/* A pod of the service that is being deleted gives its place to the next one. */
static bool one_is_ending(const struct builder *b, const json_t *isvc) {
    for (size_t i = 0; i < b->pods.num_items; i++) {
        if (is_labelled(b->pods.items[i]->json, isvc) && object_deleting(b->pods.items[i]->json))
            return true;
    }
    return false;
}

/* A replica is on its way, or will be, and nothing has gone wrong with it yet. */
static bool may_become_ready(const struct builder *b, const json_t *isvc) {
    bool any = false, ending = one_is_ending(b, isvc);
    for (size_t i = 0; i < b->pods.num_items; i++) {
        const json_t *pod = b->pods.items[i]->json;
        const char *scheduled = object_condition(pod, "PodScheduled");
        const char *waiting = pod_status_waiting(pod);
        bool refused = scheduled && !strcmp(scheduled, "False") && !ending;
        bool stuck = waiting && strcmp(waiting, "ContainerCreating") != 0;
        if (!belongs(pod, isvc))
            continue;
        any = true;
        if (!refused && !stuck)
            return true;
    }
    const char *transition = object_str(isvc, "status.modelStatus.transitionStatus");
    return !any && (!transition || !strcmp(transition, "InProgress"));
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
    for (uint32_t i = 0; i < s->revisions->num_replicas; i++)
        buf_printf(&b->text, " %s=%s", s->revisions->replicas[i]->pod,
                   s->revisions->replicas[i]->uds_path);
    buf_printf(&b->text, " revision=%s\n", s->revisions->name);
}

static void add_service(struct builder *b, const json_t *isvc) {
    struct traffic_service *s = &b->table->services[b->table->num_services++];
    int64_t concurrency = object_int(isvc, "spec.predictor.containerConcurrency", 0);
    s->ns = arena_strdup(b->table->arena, object_namespace(isvc));
    s->name = arena_strdup(b->table->arena, object_name(isvc));
    s->hosts = make_hosts(b, s->ns, s->name);
    s->models = make_models(b, isvc);
    s->container_concurrency = concurrency > 0 ? (uint32_t)concurrency : 0;
    add_replicas(b, isvc, s);
    if (!s->revisions->num_replicas) {
        s->not_ready_reason = why_not_ready(b, isvc);
        s->waiting_may_help = may_become_ready(b, isvc);
    }
    describe(b, s);
}

void traffic_build(struct world *w) {
    AUTO_STORE_LIST services = {0};
    struct builder b = {
        .w = w, .table = traffic_table_create(), .before = traffic_current(w->traffic)};
    world_list(w, KIND_INFERENCE_SERVICE, NULL, &services); /* sorted by namespace, name */
    world_list(w, KIND_POD, NULL, &b.pods);
    b.table->services =
        arena_alloc(b.table->arena, (services.num_items + 1) * sizeof(struct traffic_service));
    for (size_t i = 0; i < services.num_items; i++) {
        if (!object_deleting(services.items[i]->json))
            add_service(&b, services.items[i]->json);
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
    store_list_deinit(&b.pods);
}
