/* audit.k8s.io/v1 Policy: which requests are written down, and how much of them. Constant once
 * read; any thread. */
#ifndef KUBE_COMPAT_AUDIT_POLICY_H
#define KUBE_COMPAT_AUDIT_POLICY_H

#include <jansson.h>

#include "core/auth.h"

struct audit_policy;

enum audit_level { AUDIT_NONE, AUDIT_METADATA, AUDIT_REQUEST };
enum audit_stage {
    AUDIT_REQUEST_RECEIVED = 1,
    AUDIT_RESPONSE_STARTED = 2,
    AUDIT_RESPONSE_COMPLETE = 4,
};

enum { AUDIT_RULES_MAX = 256, AUDIT_POLICY_BYTES_MAX = 1 << 20 };

/* What a rule may look at. */
struct audit_attributes {
    const struct auth_identity *who; /* before impersonation; NULL: the server runs without auth */
    const char *verb;
    const char *group, *resource, *subresource, *name, *ns; /* resource NULL: a path */
    const char *path;
};
struct audit_decision {
    enum audit_level level;
    unsigned omit_stages; /* bits of audit_stage */
};

/* Reads a policy (the document is borrowed for the call). ERR_INVALID names the field, the value
 * and what may stand there: unknown fields and the level RequestResponse are refused, so that
 * nobody believes in lines that are not written. */
MUST_CHECK enum errc audit_policy_create(const json_t *document, struct audit_policy **ret_p,
                                         struct error *err);
void audit_policy_destroy(struct audit_policy *p);
DEFINE_AUTO(audit_policy, audit_policy_destroy)

/* The first rule that fits decides; none does: nothing is written. */
struct audit_decision audit_policy_decide(const struct audit_policy *p,
                                          const struct audit_attributes *a);

#endif
