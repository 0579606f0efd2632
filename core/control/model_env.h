/* Where a pod's model is asked for, and with which credentials. */
#ifndef CORE_CONTROL_MODEL_ENV_H
#define CORE_CONTROL_MODEL_ENV_H

#include "core/control/world.h"

/* Gives names and values as core/model/model_source.h reads them, later ones win:
 *   1. of the daemon's own environment where services are (HF_ENDPOINT, AWS_ENDPOINT_URL,
 *      AWS_REGION), never credentials: a pod could send them elsewhere
 *   2. of the Secrets that the pod's ServiceAccount lists: their keys, and KServe's annotations
 *      serving.kserve.io/s3-endpoint, s3-usehttps, s3-region
 *   3. of the container's own env (already looked up)
 * and for reference's registry the login of the pod's imagePullSecrets. */
json_t *model_env_make(struct world *w, const json_t *pod, const json_t *container,
                       const char *reference);

#endif
