/* A container's environment with every reference looked up: valueFrom and envFrom. */
#ifndef CORE_CONTROL_POD_ENV_H
#define CORE_CONTROL_POD_ENV_H

#include "core/control/world.h"

/* Gives a copy of a container of the pod that has only plain `env` entries. ERR_NOT_FOUND: a
 * Secret, ConfigMap or key that is not optional is missing (named in the message). */
MUST_CHECK enum errc pod_env_resolve(struct world *w, const json_t *pod, const json_t *container,
                                     json_t **ret_container, struct error *err);

/* Sets one plain entry of the container's env, whatever it says of that name. */
void pod_env_set(json_t *container, const char *name, const char *value);

#endif
