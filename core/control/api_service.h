/* The Service `kubernetes` in the namespace default, and its endpoints: this API server. */
#ifndef CORE_CONTROL_API_SERVICE_H
#define CORE_CONTROL_API_SERVICE_H

#include "core/control/world.h"

bool api_service_is(const char *ns, const char *name);

/* Makes what of it is absent, and brings its port up to date. */
MUST_CHECK enum errc api_service_reconcile(struct world *w, struct error *err);

#endif
