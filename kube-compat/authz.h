/* Authorization: what an identity may do, by the RBAC objects in the store. The group
 * system:masters may do everything, whatever the objects say; nobody else may do anything that no
 * binding gives him.
 *
 * Any thread may ask. A change of a role or binding holds for every question that is asked after
 * the write was acknowledged. */
#ifndef KUBE_COMPAT_AUTHZ_H
#define KUBE_COMPAT_AUTHZ_H

#include "core/auth.h"
#include "core/base/buf.h"
#include "core/store.h"
#include "kube-compat/rbac.h"

struct authz;

/* Borrows the store. */
MUST_CHECK enum errc authz_create(struct store *store, struct authz **ret_z, struct error *err);
void authz_destroy(struct authz *z);
DEFINE_AUTO(authz, authz_destroy)

/* who NULL: the server runs without authentication, everything is allowed. */
bool authz_may(struct authz *z, const struct auth_identity *who, const struct authz_attributes *a);

/* The same, and why: see rbac_allows(). */
bool authz_decide(struct authz *z, const struct auth_identity *who,
                  const struct authz_attributes *a, struct buf *reason);
bool authz_decide_subject(struct authz *z, const struct rbac_subject *who,
                          const struct authz_attributes *a, struct buf *reason);

/* The same as an error: ERR_FORBIDDEN in Kubernetes' words. */
MUST_CHECK enum errc authz_check(struct authz *z, const struct auth_identity *who,
                                 const struct authz_attributes *a, struct error *err);

/* May he run processes of this machine as pods (image `host`) in a namespace? The verb `use` on
 * the resource hostprocesses of the group inferd.io; cluster-admin may. */
bool authz_may_use_host_processes(struct authz *z, const struct auth_identity *who, const char *ns);

/* The same; appends why to reason, allowed or not. */
MUST_CHECK enum errc authz_check_why(struct authz *z, const struct auth_identity *who,
                                     const struct authz_attributes *a, struct buf *reason,
                                     struct error *err);

/* Served to everybody, known or not: probes. */
bool authz_is_public(const char *path);

/* Gives a reference to the index in force. */
struct rbac *authz_rbac(struct authz *z);

/* An identity as the decider sees it; borrows from both. */
struct authz_groups {
    const char *names[AUTH_GROUPS_MAX];
};
struct rbac_subject authz_subject(const struct auth_identity *who, struct authz_groups *groups);

#endif
