/* What an authenticationRef of a trigger gives: parameters out of Secrets and ConfigMaps. */
#ifndef CORE_CONTROL_TRIGGER_AUTH_H
#define CORE_CONTROL_TRIGGER_AUTH_H

#include "core/control/world.h"

/* Gives {parameter: value} in *ret_auth, NULL where the trigger has no authenticationRef. ERR_*:
 * names the object that is missing, or what of it is not supported. A ClusterTriggerAuthentication
 * finds its Secrets in TRIGGER_AUTH_NAMESPACE. */
#define TRIGGER_AUTH_NAMESPACE "keda"
MUST_CHECK enum errc trigger_auth_open(struct world *w, const char *ns, const json_t *trigger,
                                       json_t **ret_auth, struct error *err);

#endif
