/* Where a proxied request goes: a port of a pod, or one of the pods behind a port of a service.
 *
 * What can be reached is what port-forward reaches (reach.h): no other port of the machine. Of the
 * pods behind a service those that are ready take turns. */
#include "kube-compat/proxy.h"

#include <stdatomic.h>
#include <stdio.h>

#include "core/object.h"
#include "kube-compat/reach.h"
#include "kube-compat/rest.h"

enum { PORT_DEFAULT = 80 };

bool proxy_split_name(struct arena *arena, const char *text, const char **ret_scheme,
                      const char **ret_name, const char **ret_port) {
    const char *first = strchr(text, ':');
    const char *second = first ? strchr(first + 1, ':') : NULL;
    *ret_scheme = second ? arena_strndup(arena, text, (size_t)(first - text)) : "";
    const char *name = second ? first + 1 : text;
    const char *end = second ? second : first;
    *ret_name = end ? arena_strndup(arena, name, (size_t)(end - name)) : arena_strdup(arena, name);
    *ret_port = end ? arena_strdup(arena, end + 1) : "";
    return **ret_name && !strchr(*ret_port, ':');
}

/* The parts of the name in the URL. Errors in Kubernetes' words. */
static enum errc read_name(struct request *rq, const char **ret_name, const char **ret_port,
                           struct error *err) {
    const char *scheme;
    if (!proxy_split_name(http_arena(rq->x), rq->name, &scheme, ret_name, ret_port))
        return err_set(err, ERR_MALFORMED, "invalid %s request \"%s\"", rq->resource, rq->name);
    if (*scheme && strcmp(scheme, "http") != 0)
        return err_set(err, ERR_MALFORMED, "pods are reached by http here, not by %.16s", scheme);
    return OK;
}

static enum errc read_named(struct request *rq, const char *name, struct store_object **ret_o,
                            struct error *err) {
    struct request about = *rq;
    about.name = name;
    return rest_read(&about, ret_o, err);
}

/* Behind /api/v1/namespaces/NS/RESOURCE/NAME/proxy, as it was sent; NULL: it is spelled in another
 * way (its slashes in percents, for one). */
static const char *behind_proxy(const char *raw) {
    enum { SEGMENTS = 7 };
    size_t len = 0;
    for (int i = 0; i < SEGMENTS; i++) {
        raw += len;
        raw += strspn(raw, "/");
        len = strcspn(raw, "/");
    }
    return len == 5 && !memcmp(raw, "proxy", 5) ? raw + len : NULL;
}

/* Reaches the port and hands the request on. Answers when it gives OK. */
static enum errc hand_on(struct request *rq, const struct reach *reach, uint16_t port,
                         struct error *err) {
    struct reach_address to;
    const char *raw = http_raw_path(rq->x), *query = http_raw_query(rq->x);
    const char *rest = behind_proxy(raw);
    struct proxy_call call;
    if (!rest)
        return err_set(err, ERR_MALFORMED, "a path that is spelled in a way that hides /proxy");
    call.to = &to;
    call.port = port;
    call.prefix = arena_strndup(http_arena(rq->x), raw, (size_t)(rest - raw));
    call.path = arena_printf(http_arena(rq->x), "%s%s%s%s", *rest ? "" : "/", rest,
                             *query ? "?" : "", query);
    if (reach_find(reach, port, &to, err)) {
        err->code = ERR_UNAVAILABLE;
        return err_wrap(err, "error trying to reach service");
    }
    return proxy_call_start(rq->kube->tunnels, rq->x, &call, err);
}

static enum errc begin_pod(struct request *rq, struct error *err) {
    AUTO(store_object) pod = NULL;
    AUTO(reach) reach = NULL;
    const char *name, *port;
    if (read_name(rq, &name, &port, err) || read_named(rq, name, &pod, err))
        return err->code;
    if (reach_create(rq->kube->opt.running, steal(pod), &reach, err))
        return err->code = ERR_UNAVAILABLE;
    uint16_t number = reach_port(reach, port);
    if (!number && *port)
        return err_set(err, ERR_MALFORMED, "pod \"%s\" has no port \"%.64s\"", name, port);
    return hand_on(rq, reach, number ? number : PORT_DEFAULT, err);
}

/* The service's port that the name asks for; NULL: there is none. */
static const json_t *find_port(const json_t *service, const char *wanted) {
    const json_t *ports = object_at(service, "spec.ports");
    if (!*wanted && json_array_size(ports) == 1)
        return json_array_get(ports, 0);
    size_t i;
    json_t *p;
    json_array_foreach (ports, i, p) {
        const char *name = object_str(p, "name");
        char number[16];
        snprintf(number, sizeof(number), "%lld", (long long)object_int(p, "port", 0));
        if (!strcmp(name ? name : "", wanted) || !strcmp(number, wanted))
            return p;
    }
    return NULL;
}

static bool is_ready(const json_t *service, const json_t *pod) {
    const char *ready = object_condition(pod, "Ready");
    const json_t *selector = object_at(service, "spec.selector");
    return json_object_size(selector) && !object_deleting(pod) && ready && !strcmp(ready, "True") &&
           object_labels_match(selector, object_at(pod, "metadata.labels"));
}

/* targetPort of the service's port on a pod; 0: the pod has none of that name. */
static uint16_t target_port(const json_t *service_port, const struct reach *reach) {
    const json_t *target = json_object_get(service_port, "targetPort");
    int64_t number = json_is_integer(target)  ? json_integer_value(target)
                     : json_is_string(target) ? 0
                                              : object_int(service_port, "port", 0);
    return number > 0 && number <= UINT16_MAX ? (uint16_t)number
           : json_is_string(target)           ? reach_port(reach, json_string_value(target))
                                              : 0;
}

static enum errc begin_service(struct request *rq, struct error *err) {
    static atomic_uint turn;
    AUTO(store_object) service = NULL;
    const char *name, *port;
    if (read_name(rq, &name, &port, err) || read_named(rq, name, &service, err))
        return err->code;
    const json_t *service_port = find_port(service->json, port);
    struct object_key prefix;
    AUTO_STORE_LIST pods = {0};
    store_list(rq->kube->opt.store, object_key(&prefix, "core", "pods", rq->ns, NULL), &pods);
    unsigned start = turn++;
    err_set(err, ERR_UNAVAILABLE, "no endpoints available for service \"%s\"", rq->name);
    for (size_t i = 0; service_port && i < pods.num_items; i++) {
        struct store_object *pod = pods.items[(start + i) % pods.num_items];
        AUTO(reach) reach = NULL;
        struct error why = ERROR_INIT;
        if (!is_ready(service->json, pod->json) ||
            reach_create(rq->kube->opt.running, store_object_ref(pod), &reach, &why))
            continue;
        uint16_t number = target_port(service_port, reach);
        if (number)
            return hand_on(rq, reach, number, err);
    }
    return err->code;
}

void proxy_pod(struct request *rq) {
    struct error err = ERROR_INIT;
    if (begin_pod(rq, &err))
        request_fail(rq, &err);
}

void proxy_service(struct request *rq) {
    struct error err = ERROR_INIT;
    if (begin_service(rq, &err))
        request_fail(rq, &err);
}
