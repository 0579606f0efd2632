/* Connections to a port of a pod, for port-forward and proxies. */
#ifndef KUBE_COMPAT_REACH_H
#define KUBE_COMPAT_REACH_H

#include <sys/socket.h>

#include "core/store.h"
#include "kube-compat/request.h"

/* What is known of a pod once and used for many connections; any thread. */
struct reach;

/* Takes pod. ERR_MALFORMED: the pod does not run. */
MUST_CHECK enum errc reach_create(struct running_table *running, struct store_object *pod,
                                  struct reach **ret_reach, struct error *err);
void reach_destroy(struct reach *r);
DEFINE_AUTO(reach, reach_destroy)

/* Where a port of the pod is: a replica serves HTTP on the port that its pod declares, which is a
 * Unix socket here; a host pod is reached where a process of its user listens. ERR_NOT_FOUND:
 * nothing of the pod is on this port. */
struct reach_address {
    struct sockaddr_storage address;
    socklen_t len;
};
MUST_CHECK enum errc reach_find(const struct reach *r, uint16_t port,
                                struct reach_address *ret_address, struct error *err);
/* Finds it, and gives a non-blocking socket that may still be connecting. */
MUST_CHECK enum errc reach_connect(const struct reach *r, uint16_t port, int *ret_fd,
                                   struct error *err);
/* The port in "8080" or a container port's name; 0: there is none. NULL or "": the first declared.
 */
uint16_t reach_port(const struct reach *r, const char *text);

#endif
