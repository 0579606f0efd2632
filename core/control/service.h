/* Services: their addresses, and which pods are behind them. */
#ifndef CORE_CONTROL_SERVICE_H
#define CORE_CONTROL_SERVICE_H

#include "core/control/world.h"

/* 127.96.0.0/16; 127.96.0.1 is the API server's (api_service.h). */
#define SERVICE_RANGE       "127.96."
#define SERVICE_API_ADDRESS SERVICE_RANGE "0.1"

/* Gives a Service that is to have one an address that no other has; keeps what it has. No address
 * for ExternalName, "None" stays. ERR_INVALID: the address that it asks for is another's. */
MUST_CHECK enum errc service_assign(struct store *st, json_t *service, const json_t *old,
                                    struct error *err);
/* Adds what inferd does not do about a new Service to the warnings. Pure. */
void service_warn(const json_t *service, json_t *warnings);

/* The endpoints of a service among pods, as an EndpointSlice has them: {endpoints, ports}. Pure.
 * Gives an object. */
json_t *service_endpoints(const json_t *service, const json_t *const *pods, size_t num_pods);

/* Writes the EndpointSlice and the Endpoints of a service: view as service_endpoints() gives it. */
MUST_CHECK enum errc service_write_endpoints(struct world *w, const json_t *service,
                                             const json_t *view, struct error *err);
/* The same for a service that selects pods, and for the API server's. */
MUST_CHECK enum errc service_reconcile(struct world *w, const char *ns, const char *name,
                                       struct error *err);
/* Looks at the services that select a pod with these labels. */
void service_enqueue(struct world *w, const char *ns, const json_t *labels);

#endif
