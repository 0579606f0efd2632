/* Which API keys a service asks for: those of the Secret that its annotation names, else of the one
 * that the configuration names (gatewayApiKeySecret); and the one that its manifest gives the
 * replica itself, vLLM's --api-key. */
#ifndef CORE_CONTROL_TRAFFIC_KEYS_H
#define CORE_CONTROL_TRAFFIC_KEYS_H

#include "core/control/world.h"

/* Names a Secret in the service's own namespace. Every value in it is a key. */
#define TRAFFIC_KEYS_ANNOTATION "inferd.io/api-key-secret"

/* Sets keys, keys_fault and replica_key of the service. A Secret that is not there or holds no key
 * lets nobody in. */
void traffic_keys_find(struct world *w, const json_t *isvc, struct arena *arena,
                       struct traffic_service *s);

#endif
