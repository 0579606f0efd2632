/* How a port of a pod is reached.
 *
 * Pods share the network of the machine, so "port 8080 of the pod" has to be given a meaning that
 * does not open the machine's other ports to whoever may forward to a pod:
 *   a replica of an InferenceService listens on a Unix socket only; the port that its pod declares
 *   stands for that; one that is a host process serves on a port of its own, and the port that it
 *   declares first stands for that;
 *   a host pod has its user for itself: a port is the pod's if a process of that user listens
 * there. Looked up anew for each connection, so that a container that was restarted is found again.
 */
#include "kube-compat/reach.h"

#include <errno.h>
#include <stdio.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/node/listener.h"
#include "core/node/running.h"
#include "core/object.h"

struct reach {
    struct running_table *running; /* borrowed */
    struct store_object *pod;
};

/* The next container of the pod that runs; *at counts. False: no more. */
static bool next_running(const struct reach *r, size_t *at, const json_t **ret_spec,
                         struct running *ret_running) {
    const json_t *containers = object_at(r->pod->json, "spec.containers");
    while (*at < json_array_size(containers)) {
        *ret_spec = json_array_get(containers, (*at)++);
        const char *name = object_str(*ret_spec, "name");
        if (name && running_table_find(r->running, object_uid(r->pod->json), name, ret_running))
            return true;
    }
    return false;
}

enum errc reach_create(struct running_table *running, struct store_object *pod,
                       struct reach **ret_reach, struct error *err) {
    AUTO(reach) r = mem_alloc(sizeof(*r));
    r->running = running;
    r->pod = pod;
    const json_t *spec;
    struct running found;
    size_t at = 0;
    if (!next_running(r, &at, &spec, &found)) {
        const char *phase = object_str(pod->json, "status.phase");
        return err_set(err, ERR_MALFORMED, "pod \"%s\" does not run: its phase is %s",
                       object_name(pod->json), phase ? phase : "unknown");
    }
    running_deinit(&found);
    *ret_reach = steal(r);
    return OK;
}

void reach_destroy(struct reach *r) {
    if (!r)
        return;
    store_object_unref(r->pod);
    free(r);
}

static bool declares(const json_t *container, uint16_t port) {
    size_t i;
    json_t *p;
    json_array_foreach (json_object_get(container, "ports"), i, p) {
        if (object_int(p, "containerPort", 0) == port)
            return true;
    }
    return false;
}

static uint16_t declared_first(const json_t *container) {
    return (uint16_t)object_int(container, "ports.0.containerPort", 0);
}

static void set_unix(const char *path, struct reach_address *a) {
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
    memcpy(&a->address, &sun, sizeof(sun));
    a->len = sizeof(sun);
}

enum errc reach_find(const struct reach *r, uint16_t port, struct reach_address *ret_address,
                     struct error *err) {
    const json_t *spec;
    struct running found;
    enum errc rc =
        err_set(err, ERR_NOT_FOUND, "pod \"%s\" does not run", object_name(r->pod->json));
    for (size_t at = 0; rc && next_running(r, &at, &spec, &found); running_deinit(&found)) {
        if (!found.uds_path) {
            bool stands_for = found.serve_port && declared_first(spec) == port;
            rc = listener_find(found.user, stands_for ? found.serve_port : port,
                               &ret_address->address, &ret_address->len, err);
        } else if (!declares(spec, port)) {
            rc = err_set(err, ERR_NOT_FOUND,
                         "the replica serves on the port that its pod declares, and that is not %u",
                         port);
        } else {
            set_unix(found.uds_path, ret_address);
            rc = OK;
        }
    }
    return rc;
}

enum errc reach_connect(const struct reach *r, uint16_t port, int *ret_fd, struct error *err) {
    struct reach_address a = {0};
    if (reach_find(r, port, &a, err))
        return err->code;
    int fd = socket(a.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 &&
        (!connect(fd, (const struct sockaddr *)&a.address, a.len) || errno == EINPROGRESS)) {
        *ret_fd = fd;
        return OK;
    }
    enum errc rc = err_errno(err, "connect to the pod");
    if (fd >= 0)
        close(fd);
    return rc;
}

uint16_t reach_port(const struct reach *r, const char *text) {
    const json_t *containers = object_at(r->pod->json, "spec.containers");
    char *end = NULL;
    bool any = !text || !*text;
    long number = any ? 0 : strtol(text, &end, 10);
    if (!any && !*end)
        return number > 0 && number <= UINT16_MAX ? (uint16_t)number : 0;
    size_t i, k;
    json_t *c, *p;
    json_array_foreach (containers, i, c) {
        json_array_foreach (json_object_get(c, "ports"), k, p) {
            const char *name = object_str(p, "name");
            if (any || (name && !strcmp(name, text)))
                return (uint16_t)object_int(p, "containerPort", 0);
        }
    }
    return 0;
}
