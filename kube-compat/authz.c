/* Authorization: one rule, in one place, in the reference's words. */
#include "kube-compat/authz.h"

#include <string.h>

bool authz_is_public(const char *path) {
    static const char *const paths[] = {"/healthz", "/livez", "/readyz", "/version", "/version/"};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        if (!strcmp(path, paths[i]))
            return true;
    }
    return !strncmp(path, "/livez/", 7) || !strncmp(path, "/readyz/", 8);
}

static bool is_discovery(const struct authz_attributes *a) {
    return !strcmp(a->verb, "get") &&
           (!strncmp(a->path, "/api", 4) || !strncmp(a->path, "/openapi", 8) ||
            !strcmp(a->path, "/") || !strcmp(a->path, "/openid/v1/jwks") ||
            !strcmp(a->path, "/.well-known/openid-configuration"));
}

/* Questions about oneself. */
static bool is_self_review(const struct authz_attributes *a) {
    if (strcmp(a->verb, "create") != 0)
        return false;
    if (!strcmp(a->group, "authentication.k8s.io"))
        return !strcmp(a->resource, "selfsubjectreviews");
    return !strcmp(a->group, "authorization.k8s.io") &&
           (!strcmp(a->resource, "selfsubjectaccessreviews") ||
            !strcmp(a->resource, "selfsubjectrulesreviews"));
}

bool authz_allows(const struct auth_identity *who, const struct authz_attributes *a) {
    if (!who || who->admin)
        return true;
    if (who->anonymous)
        return false;
    return a->resource ? is_self_review(a) : is_discovery(a);
}

void authz_explain(const struct auth_identity *who, const struct authz_attributes *a,
                   struct buf *out) {
    const char *user = who ? who->name : "system:anonymous";
    if (!a->resource) {
        buf_printf(out, "forbidden: User \"%s\" cannot %s path \"%s\"", user, a->verb, a->path);
        return;
    }
    buf_printf(out, "%s%s%s", a->resource, *a->group ? "." : "", a->group);
    if (a->name)
        buf_printf(out, " \"%s\"", a->name);
    buf_printf(out, " is forbidden: User \"%s\" cannot %s resource \"%s%s%s\" in API group \"%s\"",
               user, a->verb, a->resource, a->subresource ? "/" : "",
               a->subresource ? a->subresource : "", a->group);
    if (a->ns)
        buf_printf(out, " in the namespace \"%s\"", a->ns);
    else
        buf_puts(out, " at the cluster scope");
}
