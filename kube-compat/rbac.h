/* RBAC's decider: roles and bindings as an immutable index, and the question whether they allow
 * something. Pure; shared by reference between threads. */
#ifndef KUBE_COMPAT_RBAC_H
#define KUBE_COMPAT_RBAC_H

#include "kube-compat/rbac_rules.h"

struct rbac;

/* Whom a question is about: a name and its groups, all of them (also system:authenticated). */
struct rbac_subject {
    const char *user;
    const char *const *groups;
    size_t num_groups;
};

/* A binding that applies to somebody, and what it gives him. */
struct rbac_grant {
    const char *binding, *ns; /* ns NULL: a ClusterRoleBinding */
    const char *role_kind, *role;
    const char *subject_kind, *subject_name, *subject_ns; /* ns: of a ServiceAccount */
    const struct rbac_rules *rules;                       /* NULL: there is no such role */
};

/* Gives an index of objects (borrowed during the call) of the kinds Role, ClusterRole, RoleBinding
 * and ClusterRoleBinding, in any order; others are passed over. */
struct rbac *rbac_create(const json_t *const *objects, size_t num_objects);
struct rbac *rbac_ref(struct rbac *r);
void rbac_unref(struct rbac *r);
DEFINE_AUTO(rbac, rbac_unref)

/* True: allowed. Appends why ("RBAC: allowed by ..."), or when not, which roles were missing that
 * bindings name; often nothing. reason may be NULL. */
bool rbac_allows(const struct rbac *r, const struct rbac_subject *who,
                 const struct authz_attributes *a, struct buf *reason);

/* Calls fn for every grant to `who` in a namespace (NULL: those of the whole cluster alone), until
 * it says false. ClusterRoleBindings come first. */
typedef bool rbac_grant_fn(void *user, const struct rbac_grant *grant);
void rbac_each_grant(const struct rbac *r, const struct rbac_subject *who, const char *ns,
                     rbac_grant_fn *fn, void *user);

/* All rules that `who` has there, in the arena; they stay valid as long as r. */
void rbac_rules_of(const struct rbac *r, const struct rbac_subject *who, const char *ns,
                   struct arena *arena, struct rbac_rules *ret_rules);

/* The rules of a role that bindings may name (ns NULL: a ClusterRole), or NULL. */
const struct rbac_rules *rbac_role_rules(const struct rbac *r, const char *ns, const char *name);

#endif
