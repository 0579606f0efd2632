/* What an identity may do. Today's rule, until RBAC objects are served: the group system:masters
 * may do everything, everybody who is known may discover and ask about himself. Pure. */
#ifndef KUBE_COMPAT_AUTHZ_H
#define KUBE_COMPAT_AUTHZ_H

#include "core/auth.h"
#include "core/base/buf.h"

struct authz_attributes {
    const char *verb;
    const char *group, *resource, *subresource, *name, *ns; /* resource NULL: a path */
    const char *path;
};

/* who NULL: the server runs without authentication, everything is allowed. */
bool authz_allows(const struct auth_identity *who, const struct authz_attributes *a);

/* Appends the refusal in Kubernetes' words. */
void authz_explain(const struct auth_identity *who, const struct authz_attributes *a,
                   struct buf *out);

/* Served to everybody, known or not. */
bool authz_is_public(const char *path);

#endif
