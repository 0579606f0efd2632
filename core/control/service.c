/* A Service has three things here: an address, endpoints, and warnings about the rest.
 *
 * The address comes from a part of the loopback network: it is this machine's, so that a connection
 * to it is refused at once instead of going to whoever has 10.96.0.0/12 on the site's network. No
 * proxy listens on it: requests reach replicas through the gateway. Clients still need one to be
 * there (kubectl port-forward maps the ports of services that have an address, Helm waits for it).
 *
 * Endpoints follow the pods that the selector names: EndpointSlice for today's clients, Endpoints
 * for older ones. There is one slice, because there is one node, which holds NODE_PODS_MAX pods.
 * Services without a selector have endpoints that somebody else writes. */
#include "core/control/service.h"

#include <stdio.h>

#include "core/control/api_service.h"
static const char SERVICE_NAME_LABEL[] = "kubernetes.io/service-name";

/* Addresses. */

static bool is_external(const json_t *service) {
    const char *type = object_str(service, "spec.type");
    return type && !strcmp(type, "ExternalName");
}

/* The address is another service's. */
static bool is_taken(const struct store_list *all, const json_t *service, const char *address) {
    for (size_t i = 0; i < all->num_items; i++) {
        const json_t *o = all->items[i]->json;
        const char *has = object_str(o, "spec.clusterIP");
        bool same = object_name(o) && object_name(service) &&
                    !strcmp(object_name(o), object_name(service)) &&
                    !strcmp(object_namespace(o), object_namespace(service));
        if (!same && has && !strcmp(has, address))
            return true;
    }
    return false;
}

/* The first free address from a place that the name decides: a service that is made anew gets the
 * address that it had. */
static json_t *choose(const struct store_list *all, const json_t *service) {
    uint32_t hash = 2166136261u;
    const char *words[] = {object_namespace(service), object_name(service)};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        for (const char *p = words[i] ? words[i] : ""; *p; p++)
            hash = (hash ^ (unsigned char)*p) * 16777619u;
        hash = (hash ^ '/') * 16777619u;
    }
    char address[sizeof(SERVICE_RANGE) + 8];
    uint32_t host = hash ^ (hash >> 16);
    for (int tries = 0; tries < 0x10000; tries++, host++) {
        snprintf(address, sizeof(address), SERVICE_RANGE "%u.%u", (host >> 8) & 255, host & 255);
        bool edge = (host & 0xffff) <= 1 || (host & 0xffff) == 0xffff; /* network, API, broadcast */
        if (!edge && !is_taken(all, service, address))
            return json_string(address);
    }
    return NULL;
}

static void keep(json_t *service, const json_t *old, const char *path) {
    json_t *value = object_at(old, path);
    if (value && !object_at(service, path))
        object_set(service, path, json_deep_copy(value));
}

enum errc service_assign(struct store *st, json_t *service, const json_t *old, struct error *err) {
    static const char *const kept[] = {"spec.clusterIPs", "spec.ipFamilies", "spec.ipFamilyPolicy"};
    const char *address = object_str(service, "spec.clusterIP");
    AUTO_STORE_LIST all = {0};
    if (is_external(service) || !json_is_object(json_object_get(service, "spec")))
        return OK;
    for (size_t i = 0; i < ARRAY_LEN(kept); i++)
        keep(service, old, kept[i]);
    store_list(st, "core/services/", &all);
    if (!address || !*address) {
        json_t *chosen = choose(&all, service);
        if (!chosen)
            return err_set(err, ERR_EXHAUSTED, "every address of " SERVICE_RANGE "0.0/16 is taken");
        object_set(service, "spec.clusterIP", chosen);
    } else if (!old && strcmp(address, "None") != 0 && is_taken(&all, service, address)) {
        return err_field(err, ERR_INVALID, "spec.clusterIPs",
                         "spec.clusterIPs: Invalid value: [\"%s\"]: failed to allocate IP %s: "
                         "provided IP is already allocated",
                         address, address);
    }
    if (!json_array_size(object_at(service, "spec.clusterIPs")))
        object_set(service, "spec.clusterIPs",
                   json_pack("[s]", object_str(service, "spec.clusterIP")));
    if (!object_at(service, "spec.ipFamilies"))
        object_set(service, "spec.ipFamilies", json_pack("[s]", "IPv4"));
    if (!object_at(service, "spec.ipFamilyPolicy"))
        object_set(service, "spec.ipFamilyPolicy", json_string("SingleStack"));
    return OK;
}

void service_warn(const json_t *service, json_t *warnings) {
    static const char *const without_effect[] = {
        "spec.externalIPs", "spec.loadBalancerIP", "spec.loadBalancerSourceRanges",
        "spec.healthCheckNodePort", "spec.loadBalancerClass"};
    const char *type = object_str(service, "spec.type");
    const char *address = object_str(service, "spec.clusterIP");
    const char *affinity = object_str(service, "spec.sessionAffinity");
    if (type && (!strcmp(type, "NodePort") || !strcmp(type, "LoadBalancer")))
        json_array_append_new(warnings,
                              json_sprintf("spec.type %s has no effect: inferd opens no ports for "
                                           "services; models answer at the gateway",
                                           type));
    else if (!is_external(service) && !(address && !strcmp(address, "None")))
        json_array_append_new(
            warnings, json_string("spec.clusterIP: nothing answers on a service's address: models "
                                  "answer at the gateway, pods at their endpoints"));
    if (affinity && !strcmp(affinity, "ClientIP"))
        json_array_append_new(warnings, json_string("spec.sessionAffinity has no effect"));
    for (size_t i = 0; i < ARRAY_LEN(without_effect); i++) {
        if (object_at(service, without_effect[i]))
            json_array_append_new(warnings, json_sprintf("%s has no effect", without_effect[i]));
    }
}

/* Endpoints. */

static bool selects(const json_t *service, const json_t *labels) {
    const json_t *selector = object_at(service, "spec.selector");
    return json_object_size(selector) && object_labels_match(selector, labels);
}

static bool has_ended(const json_t *pod) {
    const char *phase = object_str(pod, "status.phase");
    return phase && (!strcmp(phase, "Succeeded") || !strcmp(phase, "Failed"));
}

/* The number behind targetPort: itself, or that of the container port of this name; 0: none. */
static int64_t target_port(const json_t *service_port, const json_t *pod) {
    const json_t *target = json_object_get(service_port, "targetPort");
    const char *name = json_string_value(target);
    size_t i, k;
    json_t *c, *port;
    if (json_is_integer(target) && json_integer_value(target))
        return json_integer_value(target);
    if (!name)
        return object_int(service_port, "port", 0);
    json_array_foreach (object_at(pod, "spec.containers"), i, c) {
        json_array_foreach (json_object_get(c, "ports"), k, port) {
            const char *has = object_str(port, "name");
            if (has && !strcmp(has, name))
                return object_int(port, "containerPort", 0);
        }
    }
    return 0;
}

/* The ports as numbers, by what the first pod that knows them says. */
static json_t *resolve_ports(const json_t *service, const json_t *const *pods, size_t num_pods) {
    json_t *ports = json_array(), *p;
    size_t i;
    json_array_foreach (object_at(service, "spec.ports"), i, p) {
        int64_t number = num_pods ? 0 : target_port(p, NULL);
        for (size_t k = 0; k < num_pods && !number; k++)
            number = target_port(p, pods[k]);
        if (!number)
            continue;
        const char *name = object_str(p, "name"), *protocol = object_str(p, "protocol");
        json_array_append_new(ports,
                              json_pack("{s:s, s:s, s:I}", "name", name ? name : "", "protocol",
                                        protocol ? protocol : "TCP", "port", (json_int_t)number));
    }
    return ports;
}

static json_t *reference(const json_t *pod) {
    return json_pack("{s:s, s:s, s:s, s:s}", "kind", "Pod", "name", object_name(pod), "namespace",
                     object_namespace(pod), "uid", object_uid(pod) ? object_uid(pod) : "");
}

static json_t *endpoint(const json_t *service, const json_t *pod) {
    const char *status = object_condition(pod, "Ready"), *node = object_str(pod, "spec.nodeName");
    bool serving = status && !strcmp(status, "True"), ending = object_deleting(pod);
    bool ready =
        (serving && !ending) || object_bool(service, "spec.publishNotReadyAddresses", false);
    json_t *e = json_pack("{s:[s], s:{s:b, s:b, s:b}, s:o}", "addresses",
                          object_str(pod, "status.podIP"), "conditions", "ready", ready, "serving",
                          serving, "terminating", ending, "targetRef", reference(pod));
    if (node)
        json_object_set_new(e, "nodeName", json_string(node));
    return e;
}

json_t *service_endpoints(const json_t *service, const json_t *const *pods, size_t num_pods) {
    const json_t **chosen = mem_array(num_pods + 1, sizeof(*chosen));
    json_t *endpoints = json_array();
    size_t num = 0;
    for (size_t i = 0; i < num_pods; i++) {
        if (!selects(service, object_at(pods[i], "metadata.labels")) || has_ended(pods[i]) ||
            !object_str(pods[i], "status.podIP"))
            continue;
        chosen[num++] = pods[i];
        json_array_append_new(endpoints, endpoint(service, pods[i]));
    }
    json_t *ports = resolve_ports(service, chosen, num);
    free(chosen);
    return json_pack("{s:o, s:o}", "endpoints", endpoints, "ports", ports);
}

/* Writing. */

static json_t *labels_of(const json_t *service, const char *manager) {
    json_t *labels = object_at(service, "metadata.labels");
    labels = labels ? json_copy(labels) : json_object();
    const char *address = object_str(service, "spec.clusterIP");
    if (manager) {
        json_object_set_new(labels, SERVICE_NAME_LABEL, json_string(object_name(service)));
        json_object_set_new(labels, "endpointslice.kubernetes.io/managed-by", json_string(manager));
    }
    if (address && !strcmp(address, "None"))
        json_object_set_new(labels, "service.kubernetes.io/headless", json_string(""));
    return labels;
}

/* Makes the object or brings it up to date. Takes it. */
static enum errc put(struct world *w, enum kind kind, const json_t *service, json_t *object,
                     struct error *err) {
    AUTO(store_object) was = world_get(w, kind, object_namespace(service), object_name(object));
    json_t *ref = object_owner_ref(service);
    object_set(object, "metadata.namespace", json_string(object_namespace(service)));
    object_set(object, "metadata.ownerReferences", json_pack("[o]", ref));
    if (!was)
        return world_create(w, kind, object, NULL, err);
    json_t *updated = json_deep_copy(was->json), *value;
    const char *key;
    json_object_foreach (object, key, value) {
        if (strcmp(key, "metadata") != 0)
            json_object_set(updated, key, value);
    }
    object_set(updated, "metadata.labels", json_incref(object_at(object, "metadata.labels")));
    json_decref(object);
    return world_update(w, was, updated, NULL, err);
}

static enum errc put_slice(struct world *w, const json_t *service, const json_t *view,
                           struct error *err) {
    char hash[11];
    json_t *uid = json_string(object_uid(service));
    object_hash_name(uid, hash);
    json_decref(uid);
    AUTO_FREE char *name = mem_printf("%.240s-%.5s", object_name(service), hash);
    return put(w, KIND_ENDPOINT_SLICE, service,
               json_pack("{s:{s:s, s:o}, s:s, s:O, s:O}", "metadata", "name", name, "labels",
                         labels_of(service, "endpointslice-controller.k8s.io"), "addressType",
                         "IPv4", "endpoints", json_object_get(view, "endpoints"), "ports",
                         json_object_get(view, "ports")),
               err);
}

static enum errc put_endpoints(struct world *w, const json_t *service, const json_t *view,
                               struct error *err) {
    json_t *ready = json_array(), *unready = json_array(), *e;
    size_t i;
    json_array_foreach (json_object_get(view, "endpoints"), i, e) {
        json_t *address = json_pack("{s:O, s:O*}", "ip", object_at(e, "addresses.0"), "targetRef",
                                    json_object_get(e, "targetRef"));
        json_t *node = json_object_get(e, "nodeName");
        if (node)
            json_object_set(address, "nodeName", node);
        json_array_append_new(object_bool(e, "conditions.ready", false) ? ready : unready, address);
    }
    json_t *subset = json_object();
    if (json_array_size(ready))
        json_object_set(subset, "addresses", ready);
    if (json_array_size(unready))
        json_object_set(subset, "notReadyAddresses", unready);
    bool any = json_object_size(subset) > 0;
    json_object_set(subset, "ports", json_object_get(view, "ports"));
    json_decref(ready);
    json_decref(unready);
    json_t *subsets = json_array();
    if (any)
        json_array_append(subsets, subset);
    json_decref(subset);
    return put(w, KIND_ENDPOINTS, service,
               json_pack("{s:{s:s, s:o}, s:o}", "metadata", "name", object_name(service), "labels",
                         labels_of(service, NULL), "subsets", subsets),
               err);
}

enum errc service_write_endpoints(struct world *w, const json_t *service, const json_t *view,
                                  struct error *err) {
    enum errc rc = put_slice(w, service, view, err);
    return rc ? rc : put_endpoints(w, service, view, err);
}

enum errc service_reconcile(struct world *w, const char *ns, const char *name, struct error *err) {
    if (api_service_is(ns, name))
        return api_service_reconcile(w, err);
    AUTO(store_object) o = world_get(w, KIND_SERVICE, ns, name);
    AUTO(store_object) space = world_get(w, KIND_NAMESPACE, NULL, ns);
    AUTO_STORE_LIST all = {0};
    if (!o || object_deleting(o->json) || !space || object_deleting(space->json) ||
        !json_object_size(object_at(o->json, "spec.selector")))
        return OK;
    world_list(w, KIND_POD, ns, &all);
    const json_t **pods = mem_array(all.num_items + 1, sizeof(*pods));
    for (size_t i = 0; i < all.num_items; i++)
        pods[i] = all.items[i]->json;
    json_t *view = service_endpoints(o->json, pods, all.num_items);
    free(pods);
    enum errc rc = service_write_endpoints(w, o->json, view, err);
    json_decref(view);
    return rc;
}

void service_enqueue(struct world *w, const char *ns, const json_t *labels) {
    AUTO_STORE_LIST all = {0};
    world_list(w, KIND_SERVICE, ns, &all);
    for (size_t i = 0; i < all.num_items; i++) {
        if (selects(all.items[i]->json, labels))
            world_enqueue(w, KIND_SERVICE, ns, object_name(all.items[i]->json));
    }
}
