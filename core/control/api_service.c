/* Clients in a cluster find the API server by the Service `kubernetes`; those that look for targets
 * (Prometheus' role `endpoints`) by its endpoints. Both come back when somebody deletes them, and
 * follow the port that the server got. */
#include "core/control/api_service.h"

#include <arpa/inet.h>
#include <stdio.h>

#include "core/control/service.h"

enum { PORT = 443, LISTEN_PORT_DEFAULT = 6443 };

static const char NAMESPACE[] = "default", NAME[] = "kubernetes";

bool api_service_is(const char *ns, const char *name) {
    return ns && !strcmp(ns, NAMESPACE) && !strcmp(name, NAME);
}

/* Where it listens: an address of its own, or the node's when it listens on all. */
struct listener {
    char ip[INET_ADDRSTRLEN];
    int port;
};

static void read_listener(const struct world *w, struct listener *l) {
    const char *address = w->kube_address ? w->kube_address : "";
    const char *colon = strrchr(address, ':');
    struct in_addr parsed;
    l->port = colon ? (int)strtol(colon + 1, NULL, 10) : LISTEN_PORT_DEFAULT;
    snprintf(l->ip, sizeof(l->ip), "%.*s", colon ? (int)(colon - address) : 0, address);
    if (inet_pton(AF_INET, l->ip, &parsed) != 1 || parsed.s_addr == htonl(INADDR_ANY))
        snprintf(l->ip, sizeof(l->ip), "%s", w->node_ip);
}

static json_t *new_service(int port) {
    json_t *service = json_pack(
        "{s:{s:s, s:s, s:{s:s, s:s}}, s:{s:s, s:s, s:[s], s:[{s:s, s:s, s:i, s:i}], s:s}, "
        "s:{s:{}}}",
        "metadata", "name", NAME, "namespace", NAMESPACE, "labels", "component", "apiserver",
        "provider", "kubernetes", "spec", "type", "ClusterIP", "clusterIP", SERVICE_API_ADDRESS,
        "clusterIPs", SERVICE_API_ADDRESS, "ports", "name", "https", "protocol", "TCP", "port",
        PORT, "targetPort", port, "sessionAffinity", "None", "status", "loadBalancer");
    ASSERT(service);
    return service;
}

/* Gives the Service as it is now. */
static enum errc ensure_service(struct world *w, int port, struct store_object **ret_o,
                                struct error *err) {
    AUTO(store_object) was = world_get(w, KIND_SERVICE, NAMESPACE, NAME);
    if (!was)
        return world_create(w, KIND_SERVICE, new_service(port), ret_o, err);
    json_t *updated = json_deep_copy(was->json), *first = object_at(updated, "spec.ports.0");
    if (json_is_object(first))
        json_object_set_new(first, "targetPort", json_integer(port));
    return world_update(w, was, updated, ret_o, err);
}

enum errc api_service_reconcile(struct world *w, struct error *err) {
    struct listener l;
    AUTO(store_object) service = NULL;
    AUTO(store_object) space = world_get(w, KIND_NAMESPACE, NULL, NAMESPACE);
    read_listener(w, &l);
    if (!space || ensure_service(w, l.port, &service, err))
        return err->code;
    if (object_deleting(service->json))
        return OK; /* its end brings us back */
    json_t *view =
        json_pack("{s:[{s:[s], s:{s:b, s:b, s:b}}], s:[{s:s, s:s, s:i}]}", "endpoints", "addresses",
                  l.ip, "conditions", "ready", true, "serving", true, "terminating", false, "ports",
                  "name", "https", "protocol", "TCP", "port", l.port);
    ASSERT(view);
    enum errc rc = service_write_endpoints(w, service->json, view, err);
    json_decref(view);
    return rc;
}
