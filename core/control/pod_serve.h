/* A host container that serves: the first one of a pod of an InferenceService. It gets a port of
 * its own and the place of its model, and what its spec says of a port is said of that one. */
#ifndef CORE_CONTROL_POD_SERVE_H
#define CORE_CONTROL_POD_SERVE_H

#include "core/control/pod_model.h"
#include "core/control/pod_record.h"
#include "core/node/prober.h"

#define POD_SERVE_PORT_VARIABLE  "PORT"
#define POD_SERVE_MODEL_VARIABLE "MODEL_PATH"

/* Ports that may be given. */
struct pod_port_range {
    uint16_t first, last;
    bool (*taken)(const void *user, uint16_t port);
    const void *user;
};

/* A port of the range that is not taken; which one is tried first depends on pod and run, so that
 * daemons with the same range seldom meet. ERR_EXHAUSTED: all are taken. Pure. */
MUST_CHECK enum errc pod_serve_pick_port(const char *uid, uint32_t restart,
                                         const struct pod_port_range *range, uint16_t *ret_port,
                                         struct error *err);

/* Prepares a run of the container: fills c->serving, and PORT and MODEL_PATH in the env of
 * `resolved`, its spec with plain env entries. A container that serves nothing is left as it is.
 * ERR_NOT_FOUND, ERR_UNAVAILABLE: the model is not on this machine (yet); ERR_INVALID: it is no
 * file. */
MUST_CHECK enum errc pod_serve_prepare(struct world *w, const json_t *pod, struct pod_container *c,
                                       json_t *resolved, struct pod_model *model,
                                       struct error *err);

/* Of a container that serves: probes of the port that it declares are asked at its own, on
 * loopback, where a process of the user must listen. One without probes that say so has started
 * when one listens there. */
void pod_serve_adapt_probes(const json_t *container, const struct pod_serving *serving,
                            uint32_t user, struct probes *probes);

#endif
