/* metrics.k8s.io, as metrics-server serves it: which objects there are is the store's business
 * (selectors are those of pods and nodes), what they use the latest snapshot's (core/node/usage.h).
 *
 * A pod is listed when something of it runs and was measured, so a list may be shorter than that of
 * the pods; clients expect that. Figures are of this machine only, which is all the nodes there
 * are. Time and window are those of the measurement. The containers of a pod may have been measured
 * over different windows when one has just been started: the longest is told. */
#include "kube-compat/resource_metrics.h"

#include <stdio.h>

#include "core/base/clock.h"
#include "core/node/usage.h"
#include "core/object.h"
#include "kube-compat/filter.h"
#include "kube-compat/rest.h"

/* Kilobytes: who reads memory in bytes is misled about how exact it is. */
static json_t *usage_of(const struct usage_figures *f) {
    return json_pack("{s:o, s:o}", "cpu", json_sprintf("%lldn", (long long)f->cpu_nano), "memory",
                     json_sprintf("%lldKi", (long long)(f->memory_bytes / 1024)));
}

/* Takes what is particular to the kind. */
static json_t *complete(const json_t *of, const struct usage_snapshot *s, int64_t window_ms,
                        const char *field, json_t *value) {
    char time[CLOCK_RFC3339_BYTES];
    clock_rfc3339(s->wall_ms, time);
    json_t *metadata = json_pack("{s:s, s:s*, s:s}", "name", object_name(of), "namespace",
                                 object_namespace(of), "creationTimestamp", time);
    json_t *labels = object_at(of, "metadata.labels");
    if (json_object_size(labels))
        json_object_set(metadata, "labels", labels);
    return json_pack(
        "{s:o, s:s, s:o, s:o}", "metadata", metadata, "timestamp", time, "window",
        json_sprintf("%lld.%03llds", (long long)(window_ms / 1000), (long long)(window_ms % 1000)),
        field, value);
}

json_t *resource_metrics_of_pod(const json_t *pod, const struct usage_snapshot *s) {
    const char *uid = object_uid(pod);
    json_t *containers = json_array();
    int64_t window_ms = 0;
    for (size_t i = 0; i < s->num_containers && uid; i++) {
        const struct usage_container *c = &s->containers[i];
        if (strcmp(c->uid, uid) != 0)
            continue;
        json_array_append_new(containers, json_pack("{s:s, s:o}", "name", c->container, "usage",
                                                    usage_of(&c->figures)));
        if (c->figures.window_ms > window_ms)
            window_ms = c->figures.window_ms;
    }
    if (json_array_size(containers))
        return complete(pod, s, window_ms, "containers", containers);
    json_decref(containers);
    return NULL;
}

json_t *resource_metrics_of_node(const json_t *node, const struct usage_snapshot *s) {
    return complete(node, s, s->node.window_ms, "usage", usage_of(&s->node));
}

static json_t *metrics_of(const struct request *rq, const json_t *object,
                          const struct usage_snapshot *s) {
    if (!s || object_deleting(object))
        return NULL;
    return rq->kind->namespaced ? resource_metrics_of_pod(object, s)
                                : resource_metrics_of_node(object, s);
}

static void serve_get(struct request *rq, const struct kind *measured,
                      const struct usage_snapshot *s) {
    AUTO(store_object) o = NULL;
    struct error err = ERROR_INIT;
    struct object_key key;
    object_key(&key, measured->store_group, measured->plural, rq->ns, rq->name);
    json_t *metrics = NULL;
    if (!store_get(rq->kube->opt.store, key.text, &o, &err))
        metrics = metrics_of(rq, o->json, s);
    if (!metrics) {
        request_not_found(rq, &err);
        request_fail(rq, &err);
        return;
    }
    json_object_set_new(metrics, "kind", json_string(rq->kind->kind));
    json_object_set_new(metrics, "apiVersion", json_string(rq->kind->api_version));
    request_reply(rq, 200, metrics);
}

static void serve_list(struct request *rq, const struct kind *measured,
                       const struct usage_snapshot *s) {
    struct error err = ERROR_INIT;
    struct filter filter;
    if (filter_init(&filter, measured, http_query(rq->x, "labelSelector"),
                    http_query(rq->x, "fieldSelector"), &err)) {
        filter_deinit(&filter);
        request_fail(rq, &err);
        return;
    }
    struct object_key prefix;
    AUTO_STORE_LIST all = {0};
    json_t *items = json_array();
    store_list(rq->kube->opt.store,
               object_key(&prefix, measured->store_group, measured->plural, rq->ns, NULL), &all);
    for (size_t i = 0; i < all.num_items; i++) {
        json_t *metrics = filter_match(&filter, all.items[i]->json)
                              ? metrics_of(rq, all.items[i]->json, s)
                              : NULL;
        if (metrics)
            json_array_append_new(items, metrics);
    }
    filter_deinit(&filter);
    request_reply(rq, 200,
                  json_pack("{s:s, s:s, s:{}, s:o}", "kind", rq->kind->list_kind, "apiVersion",
                            rq->kind->api_version, "metadata", "items", items));
}

enum errc resource_metrics_serve(struct request *rq, struct error *err) {
    const struct kind *measured = kinds_find(rq->kinds, "", "v1", rq->kind->plural);
    AUTO(usage_snapshot) s = rq->kube->opt.usage ? usage_latest(rq->kube->opt.usage) : NULL;
    if (rq->subresource)
        return err_set(err, ERR_NOT_FOUND, "the server could not find the requested resource");
    if (!strcmp(rq->verb, "get") && (rq->ns || !rq->kind->namespaced))
        serve_get(rq, measured, s);
    else if (!strcmp(rq->verb, "list"))
        serve_list(rq, measured, s);
    else
        return err_set(err, ERR_METHOD,
                       "the server does not allow this method on the requested resource");
    return OK;
}
