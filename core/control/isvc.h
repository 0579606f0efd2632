/* InferenceService: a Deployment and a Service for its predictor, and a status in KServe's words.
 */
#ifndef CORE_CONTROL_ISVC_H
#define CORE_CONTROL_ISVC_H

#include "core/control/world.h"

MUST_CHECK enum errc isvc_reconcile(struct world *w, const char *ns, const char *name,
                                    struct error *err);
/* All services are looked at again: a runtime changed. */
void isvc_retry_all(struct world *w);

#endif
