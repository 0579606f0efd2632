/* Which ServingRuntime serves a model: KServe's selection. */
#ifndef CORE_CONTROL_RUNTIME_H
#define CORE_CONTROL_RUNTIME_H

#include "core/control/world.h"

/* KServe's words for why a model cannot be served (status.modelStatus.lastFailureInfo.reason). */
#define RUNTIME_NOT_RECOGNIZED "RuntimeNotRecognized"
#define RUNTIME_DISABLED       "RuntimeDisabled"
#define RUNTIME_NOT_SUPPORTING "NoSupportingRuntime"

struct runtime_choice {
    struct store_object *object; /* a reference; NULL: none */
    const char *reason;          /* why none, one of the above */
    char message[512];
};

/* model: {modelFormat: {name, version}, runtime, protocolVersion}. Runtimes of the namespace come
 * before cluster-wide ones, then by priority of the format, youngest first, name. True: found. */
MUST_CHECK bool runtime_select(struct world *w, const char *ns, const json_t *model,
                               struct runtime_choice *ret);

/* Makes or updates the ClusterServingRuntime of inferd's own engine. */
#define RUNTIME_BUILTIN_NAME "inferd-engine"
MUST_CHECK enum errc runtime_ensure_builtin(struct world *w, struct error *err);

#endif
