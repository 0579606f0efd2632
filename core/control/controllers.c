/* The loop that all controllers share.
 *
 *   store's events ──which objects could this concern?──▶ keys ──queue──▶ reconcile(key)
 *                                                          ▲                 │ failed: back-off
 *                                                          └─────────────────┘ later: timer
 *
 * An event names an object; the rows of `observe` say whose business it is: its own reconciler's,
 * its owner's, and that of whoever waits for such a thing (the scheduler for room, services for a
 * runtime, the collector for an owner's end). A watch that fell behind is opened anew and every
 * object looked at once: nothing is lost, because reconcilers read the state, not the event. */
#include "core/control/controllers.h"

#include <stdio.h>

#include "core/base/log.h"
#include "core/control/autoscale.h"
#include "core/control/cluster_role.h"
#include "core/control/deployment.h"
#include "core/control/device_metrics.h"
#include "core/control/disruption.h"
#include "core/control/events.h"
#include "core/control/gc.h"
#include "core/control/isvc.h"
#include "core/control/isvc_predictor.h"
#include "core/control/labels.h"
#include "core/control/namespace.h"
#include "core/control/node.h"
#include "core/control/pod.h"
#include "core/control/pod_model.h"
#include "core/control/preview.h"
#include "core/control/pod_autoscaler.h"
#include "core/control/priority.h"
#include "core/control/quota.h"
#include "core/control/replicaset.h"
#include "core/control/runtime.h"
#include "core/control/scaled_object.h"
#include "core/control/scheduler.h"
#include "core/control/service.h"
#include "core/control/token_secret.h"
#include "core/control/traffic_build.h"
#include "core/node/device_reader.h"

/* Keys that are no object's. */
static const char KEY_GC[] = "gc";
static const char KEY_EVENT_SWEEP[] = "event-sweep";
static const char KEY_HEARTBEAT[] = "heartbeat";
static const char KEY_AUTOSCALE[] = "autoscale";
static const char KEY_DEVICES[] = "devices";

struct controllers {
    struct world w;
    struct store_watch *watch;
    store_notify_fn *notify;
    void *user;
};

/* Events to keys. */

static void enqueue_object(struct world *w, enum kind kind, const json_t *o) {
    if (object_name(o))
        world_enqueue(w, kind, object_namespace(o), object_name(o));
}

static void enqueue_owner(struct world *w, const json_t *o) {
    const json_t *ref = object_controller_of(o);
    const char *api_version = object_str(ref, "apiVersion"), *name = object_str(ref, "name");
    const char *kind_name = object_str(ref, "kind");
    enum kind kind = api_version && kind_name ? kind_find(api_version, kind_name) : KIND_COUNT;
    if (kind < KIND_COUNT && name)
        world_enqueue(w, kind, object_namespace(o), name);
}

/* Nobody owns it: those whose selector matches may adopt it. */
static void enqueue_adopters(struct world *w, enum kind kind, const json_t *o) {
    AUTO_STORE_LIST all = {0};
    if (object_controller_of(o))
        return;
    world_list(w, kind, object_namespace(o), &all);
    for (size_t i = 0; i < all.num_items; i++) {
        if (labels_selector_match(object_at(all.items[i]->json, "spec.selector"),
                                  object_at(o, "metadata.labels")))
            enqueue_object(w, kind, all.items[i]->json);
    }
}

static void enqueue_service_of(struct world *w, const json_t *o) {
    const char *isvc = object_label(o, ISVC_LABEL);
    if (isvc && object_namespace(o))
        world_enqueue(w, KIND_INFERENCE_SERVICE, object_namespace(o), isvc);
}

/* A Deployment that recreates waits for the last old pod to be gone. */
static void enqueue_deployment_of(struct world *w, const json_t *pod) {
    const char *name = object_str(object_controller_of(pod), "name");
    AUTO(store_object)
    set = name ? world_get(w, KIND_REPLICA_SET, object_namespace(pod), name) : NULL;
    if (set)
        enqueue_owner(w, set->json);
}

static void enqueue_gc(struct world *w) {
    workqueue_add(w->queue, KEY_GC, w->mono_ms + CONTROLLERS_GC_DELAY_MS);
}

/* The pod gives back what it had: it is gone, being deleted, or has ended. */
static bool made_room(const struct store_event *e) {
    return e->type == STORE_DELETED || (e->previous && replicaset_pod_active(e->previous->json) &&
                                        !replicaset_pod_active(e->object->json));
}

static void enqueue_pods(struct world *w) {
    AUTO_STORE_LIST pods = {0};
    world_list(w, KIND_POD, NULL, &pods);
    for (size_t i = 0; i < pods.num_items; i++)
        enqueue_object(w, KIND_POD, pods.items[i]->json);
}

/* Room or taints may have changed; a heartbeat changes neither. */
static void enqueue_pods_of_node(struct world *w, const struct store_event *e) {
    static const char *const parts[] = {"spec", "status.allocatable", "metadata.labels"};
    bool same = e->previous != NULL;
    for (size_t i = 0; i < ARRAY_LEN(parts) && same; i++) {
        const json_t *was = object_at(e->previous->json, parts[i]);
        const json_t *now = object_at(e->object->json, parts[i]);
        same = was == now || json_equal(was, now);
    }
    if (!same || e->type == STORE_DELETED)
        enqueue_pods(w);
}

static void observe_kind(struct world *w, enum kind kind, const struct store_event *e) {
    const json_t *o = e->object->json;
    switch (kind) {
    case KIND_POD:
        enqueue_object(w, kind, o);
        enqueue_adopters(w, KIND_REPLICA_SET, o);
        enqueue_service_of(w, o);
        disruption_enqueue(w, object_namespace(o));
        service_enqueue(w, object_namespace(o), object_at(o, "metadata.labels"));
        if (e->previous)
            service_enqueue(w, object_namespace(o),
                            object_at(e->previous->json, "metadata.labels"));
        if (made_room(e))
            scheduler_retry_pending(w);
        if (e->type == STORE_DELETED)
            enqueue_deployment_of(w, o);
        break;
    case KIND_REPLICA_SET:
        enqueue_object(w, kind, o);
        enqueue_adopters(w, KIND_DEPLOYMENT, o);
        enqueue_service_of(w, o);
        disruption_enqueue(w, object_namespace(o));
        break;
    case KIND_DEPLOYMENT:
        disruption_enqueue(w, object_namespace(o));
        enqueue_object(w, kind, o);
        break;
    case KIND_INFERENCE_SERVICE:
        workqueue_add(w->queue, KEY_AUTOSCALE, w->mono_ms + AUTOSCALE_TICK_MS);
        enqueue_object(w, kind, o);
        break;
    case KIND_HORIZONTAL_POD_AUTOSCALER:
        if (pod_autoscaler_is_news(e))
            enqueue_object(w, kind, o);
        break;
    case KIND_SCALED_OBJECT:
        if (scaled_object_is_news(e))
            enqueue_object(w, kind, o);
        break;
    case KIND_NAMESPACE:
    case KIND_SERVICE:
    case KIND_RESOURCE_QUOTA:
    case KIND_POD_DISRUPTION_BUDGET:
        enqueue_object(w, kind, o);
        break;
    case KIND_SERVING_RUNTIME:
    case KIND_CLUSTER_SERVING_RUNTIME:
        isvc_retry_all(w);
        break;
    case KIND_NODE:
        enqueue_pods_of_node(w, e);
        if (e->previous && e->type == STORE_MODIFIED)
            node_tell_schedulable(w, e->previous->json, o);
        if (e->type == STORE_DELETED)
            workqueue_add(w->queue, KEY_HEARTBEAT, w->mono_ms);
        break;
    case KIND_SECRET:
        if (token_secret_is(o))
            enqueue_object(w, kind, o);
        else
            w->traffic_stale = true; /* it may hold the API keys of a service */
        break;
    case KIND_CLUSTER_ROLE:
        cluster_role_changed(w);
        break;
    case KIND_CONFIG_MAP:
    case KIND_SERVICE_ACCOUNT:
        if (kind == KIND_SERVICE_ACCOUNT && object_name(o))
            token_secret_retry(w, object_namespace(o), object_name(o));
        if (e->type == STORE_DELETED && object_namespace(o))
            world_enqueue(w, KIND_NAMESPACE, NULL, object_namespace(o));
        break;
    default:
        break;
    }
}

static void observe(struct world *w, const struct store_event *e) {
    enum kind kind = kind_of_key(e->object->key);
    const json_t *o = e->object->json;
    if (kind == KIND_EVENT)
        return;
    enqueue_owner(w, o);
    if (e->previous)
        enqueue_owner(w, e->previous->json); /* released */
    bool owned_news = e->type == STORE_ADDED && object_at(o, "metadata.ownerReferences");
    if (e->type == STORE_DELETED || object_deleting(o) || owned_news)
        enqueue_gc(w);
    bool changes_amounts = kind == KIND_POD || kind == KIND_SERVICE;
    if (object_namespace(o) && (e->type != STORE_MODIFIED || changes_amounts))
        quota_enqueue(w, object_namespace(o));
    observe_kind(w, kind, e);
}

/* Every object is looked at once. */
static enum errc resync(struct controllers *c, struct error *err) {
    AUTO_STORE_LIST all = {0};
    store_watch_close(steal(c->watch));
    store_list(c->w.store, "", &all);
    for (size_t i = 0; i < all.num_items; i++) {
        enum kind kind = kind_of_key(all.items[i]->key);
        if (kind == KIND_POD || kind == KIND_REPLICA_SET || kind == KIND_DEPLOYMENT ||
            kind == KIND_INFERENCE_SERVICE || kind == KIND_NAMESPACE || kind == KIND_SERVICE ||
            kind == KIND_RESOURCE_QUOTA || kind == KIND_POD_DISRUPTION_BUDGET ||
            kind == KIND_CLUSTER_ROLE || kind == KIND_HORIZONTAL_POD_AUTOSCALER ||
            kind == KIND_SCALED_OBJECT ||
            (kind == KIND_SECRET && token_secret_is(all.items[i]->json)))
            enqueue_object(&c->w, kind, all.items[i]->json);
    }
    enqueue_gc(&c->w);
    return store_watch_open(c->w.store, "", all.revision, c->notify, c->user, &c->watch, err);
}

static void observe_all(struct controllers *c) {
    struct store_event e;
    int64_t progress;
    enum errc rc = OK;
    while (c->watch && store_watch_next(c->watch, &e, &progress, &rc))
        observe(&c->w, &e);
    struct error err = ERROR_INIT;
    struct log_quoted q;
    if ((rc || !c->watch) && resync(c, &err))
        log_error("control watch cannot be opened, trying again", "error=%s",
                  log_quote(&q, err.text));
}

/* Keys to reconcilers. */

static enum errc reconcile_namespace(struct world *w, const char *ns, const char *name,
                                     struct error *err) {
    return namespace_reconcile(w, name, err);
}

static const struct {
    enum kind kind;
    enum errc (*reconcile)(struct world *w, const char *ns, const char *name, struct error *err);
} reconcilers[] = {
    {KIND_POD, pod_reconcile},
    {KIND_REPLICA_SET, replicaset_reconcile},
    {KIND_DEPLOYMENT, deployment_reconcile},
    {KIND_INFERENCE_SERVICE, isvc_reconcile},
    {KIND_NAMESPACE, reconcile_namespace},
    {KIND_SECRET, token_secret_reconcile},
    {KIND_RESOURCE_QUOTA, quota_reconcile},
    {KIND_SERVICE, service_reconcile},
    {KIND_POD_DISRUPTION_BUDGET, disruption_reconcile},
    {KIND_CLUSTER_ROLE, cluster_role_reconcile},
    {KIND_HORIZONTAL_POD_AUTOSCALER, pod_autoscaler_reconcile},
    {KIND_SCALED_OBJECT, scaled_object_reconcile},
};

static enum errc dispatch(struct world *w, const char *key, struct error *err) {
    char kind[64], ns[WORKQUEUE_KEY_BYTES_MAX], name[WORKQUEUE_KEY_BYTES_MAX];
    if (!strcmp(key, KEY_GC))
        return gc_collect(w, err);
    if (!strcmp(key, KEY_EVENT_SWEEP)) {
        bool more = events_expire(w);
        workqueue_add(w->queue, key,
                      w->mono_ms + (more ? CONTROLLERS_GC_DELAY_MS : CONTROLLERS_EVENT_SWEEP_MS));
        return OK;
    }
    if (!strcmp(key, KEY_HEARTBEAT)) {
        workqueue_add(w->queue, key, w->mono_ms + NODE_HEARTBEAT_SECONDS * 1000);
        return node_ensure(w, err);
    }
    if (!strcmp(key, KEY_DEVICES)) {
        /* The Node is written under its own key, which is tried again when it fails. */
        if (device_reader_poll(w->device_reader)) {
            preview_set_devices(w->preview, device_reader_current(w->device_reader));
            workqueue_add(w->queue, KEY_HEARTBEAT, w->mono_ms);
            enqueue_pods(w); /* theirs may have failed */
        }
        device_metrics_set(w->metrics, device_reader_current(w->device_reader), w->node_name);
        workqueue_add(w->queue, key, w->mono_ms + device_reader_period_ms(w->device_reader));
        return OK;
    }
    if (!strcmp(key, KEY_AUTOSCALE)) {
        if (autoscale_tick(w))
            workqueue_add(w->queue, key, w->mono_ms + AUTOSCALE_TICK_MS);
        return OK;
    }
    const char *space = strchr(key, ' '), *slash = strchr(key, '/');
    ASSERT(space && slash && slash > space && (size_t)(space - key) < sizeof(kind));
    snprintf(kind, sizeof(kind), "%.*s", (int)(space - key), key);
    snprintf(ns, sizeof(ns), "%.*s", (int)(slash - space - 1), space + 1);
    snprintf(name, sizeof(name), "%s", slash + 1);
    for (size_t i = 0; i < ARRAY_LEN(reconcilers); i++) {
        if (!strcmp(kind_row(reconcilers[i].kind)->kind, kind))
            return reconcilers[i].reconcile(w, *ns ? ns : NULL, name, err);
    }
    return OK; /* an owner of a kind that nobody here reconciles */
}

static void look_at(struct world *w, const char *key) {
    struct error err = ERROR_INIT;
    struct log_quoted q;
    enum errc rc = dispatch(w, key, &err);
    workqueue_done(w->queue, key, rc != OK, w->mono_ms);
    if (rc == ERR_CONFLICT)
        log_debug("object changed meanwhile, looking again", "key=%s", log_quote(&q, key));
    else if (rc)
        log_warn("reconcile failed, retrying", "key=\"%s\" code=%s error=%s", key, errc_name(rc),
                 log_quote(&q, err.text));
}

void controllers_run(struct controllers *c, int64_t wall_ms, int64_t mono_ms) {
    char key[WORKQUEUE_KEY_BYTES_MAX];
    struct world *w = &c->w;
    w->wall_ms = wall_ms;
    w->mono_ms = mono_ms;
    observe_all(c);
    scaled_object_take_answers(w);
    pod_model_wake(w);
    if (traffic_take_asked(w->traffic)) {
        autoscale_tick(w);
        observe_all(c);
    }
    for (int i = 0; i < CONTROLLERS_KEYS_MAX && workqueue_next(w->queue, mono_ms, key); i++) {
        look_at(w, key);
        observe_all(c); /* own writes cause more, until nothing changes any more */
    }
    if (w->traffic_stale) {
        w->traffic_stale = false;
        traffic_build(w, NULL);
    }
    events_flush(w);
}

int64_t controllers_wait_ms(const struct controllers *c, int64_t mono_ms) {
    return workqueue_wait_ms(c->w.queue, mono_ms);
}

void controllers_replica_changed(struct controllers *c, const char *uid) {
    pod_changed(&c->w, uid);
}

/* Life. */

static enum errc furnish(struct controllers *c, struct error *err) {
    struct world *w = &c->w;
    if (namespace_ensure_builtin(w, err) || priority_ensure_builtin(w, err) ||
        node_ensure(w, err) || node_remove_stale(w, err) || runtime_ensure_builtin(w, err))
        return err_wrap(err, "prepare the data directory");
    return OK;
}

enum errc controllers_create(const struct world *world, store_notify_fn *notify, void *user,
                             struct controllers **ret_c, struct error *err) {
    AUTO(controllers) c = mem_alloc(sizeof(*c));
    c->w = *world;
    c->notify = notify;
    c->user = user;
    c->w.queue = workqueue_create();
    c->w.events = events_create();
    c->w.pods = pod_table_create();
    c->w.autoscale = autoscale_table_create();
    c->w.pod_autoscalers = pod_autoscaler_table_create();
    c->w.scaled_objects = scaled_object_table_create(notify, user);
    c->w.traffic_stale = true;
    if (furnish(c, err) || resync(c, err))
        return err->code;
    device_metrics_set(c->w.metrics, device_reader_current(c->w.device_reader), c->w.node_name);
    preview_set_devices(c->w.preview, device_reader_current(c->w.device_reader));
    preview_furnish(c->w.preview, &c->w);
    workqueue_add(c->w.queue, KEY_EVENT_SWEEP, c->w.mono_ms);
    workqueue_add(c->w.queue, KEY_HEARTBEAT, c->w.mono_ms + NODE_HEARTBEAT_SECONDS * 1000);
    if (device_reader_period_ms(c->w.device_reader))
        workqueue_add(c->w.queue, KEY_DEVICES,
                      c->w.mono_ms + device_reader_period_ms(c->w.device_reader));
    *ret_c = steal(c);
    return OK;
}

void controllers_destroy(struct controllers *c) {
    if (!c)
        return;
    store_watch_close(c->watch);
    pod_table_destroy(c->w.pods);
    autoscale_table_destroy(c->w.autoscale);
    pod_autoscaler_table_destroy(c->w.pod_autoscalers);
    scaled_object_table_destroy(c->w.scaled_objects);
    events_destroy(c->w.events);
    workqueue_destroy(c->w.queue);
    free(c->w.traffic_published);
    free(c);
}
