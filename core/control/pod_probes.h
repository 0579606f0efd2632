/* The probes and lifecycle hooks of a container, from its spec. Pure. */
#ifndef CORE_CONTROL_POD_PROBES_H
#define CORE_CONTROL_POD_PROBES_H

#include <jansson.h>

#include "core/node/prober.h"

/* path: the container's, for messages; address: the pod's, which is asked unless the probe names
 * another host. *ret_any: there is a probe or hook. ERR_INVALID: one that cannot be asked here
 * (gRPC, HTTPS, a host that is no address, a port name that no port has). Gives the probes,
 * released by probes_deinit(). */
MUST_CHECK enum errc pod_probes_read(const json_t *container, const char *path, const char *address,
                                     struct probes *ret_probes, bool *ret_any, struct error *err);

/* Appends a sentence for each thing in the container's probes that pod_probes_read() refuses. */
void pod_probes_warn(const json_t *container, const char *path, json_t *warnings);

#endif
