/* pods/NAME/proxy and services/NAME/proxy: HTTP requests handed on to what listens in a pod. Each
 * answers the exchange.
 *
 * NAME may be [SCHEME:]NAME[:PORT] with the port's name or number; the scheme is http. */
#ifndef KUBE_COMPAT_PROXY_H
#define KUBE_COMPAT_PROXY_H

#include "kube-compat/request.h"

void proxy_pod(struct request *rq);
void proxy_service(struct request *rq);

/* "http:web:80" into its parts (arena); those that are not there are "". False: it is no such name.
 */
bool proxy_split_name(struct arena *arena, const char *text, const char **ret_scheme,
                      const char **ret_name, const char **ret_port);

/* One request on its way (proxy_call.c). All borrowed for the call. */
struct reach_address;
struct proxy_call {
    const struct reach_address *to;
    uint16_t port;
    const char *path;   /* behind .../proxy, as sent, with its query */
    const char *prefix; /* .../proxy, in front of it: Location headers get it */
};
struct tunnel_set;
/* Answers x with what the pod answers, on a thread of the tunnels. Takes x. ERR_EXHAUSTED: too many
 * tunnels; nothing was taken. */
MUST_CHECK enum errc proxy_call_start(struct tunnel_set *tunnels, struct http_exchange *x,
                                      const struct proxy_call *call, struct error *err);

#endif
