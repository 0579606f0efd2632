/* metadata.managedFields as controllers see it. The record is kube-compat's (managed_fields.h), and
 * stored objects carry it as JSON text; a controller that changes a field which users write, too,
 * says here that the field is its own now. Pure. */
#ifndef CORE_OWNERS_H
#define CORE_OWNERS_H

#include <jansson.h>

#include "core/base/mem.h"

struct owner {
    const char *manager, *api_version;
    const char *subresource; /* NULL: none */
    int64_t wall_ms;
};

/* Takes the field at `path` ("spec.replicas") away from all other owners of the stored object. An
 * object of which nothing is recorded stays so. */
void owners_take(json_t *object, const char *path, const struct owner *owner);

#endif
