/* A container's environment with every reference looked up: valueFrom and envFrom. */
#ifndef CORE_CONTROL_POD_ENV_H
#define CORE_CONTROL_POD_ENV_H

#include "core/control/world.h"

/* Gives a deep copy of the pod whose first container has only plain `env` entries. ERR_NOT_FOUND: a
 * Secret, ConfigMap or key that is not optional is missing (named in the message). */
MUST_CHECK enum errc pod_env_resolve(struct world *w, const json_t *pod, json_t **ret_pod,
                                     struct error *err);

#endif
