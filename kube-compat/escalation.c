/* Who may write roles and bindings could otherwise give himself everything. So beside the right to
 * write them he needs
 *
 *   for a role       all rights that its rules name, or the verb `escalate` on it;
 *   for a binding    all rights of the role it names, or the verb `bind` on that role;
 *   for an aggregated ClusterRole, whose rules grow by themselves, all rights there are.
 *
 * Rights are looked up where they would hold: in the namespace of a Role or RoleBinding, in the
 * whole cluster for the others. The group system:masters and the daemon's own controllers, which
 * write to the store directly, are not asked. A write that changes only what garbage collection
 * needs (owners, finalizers) grants nothing. */
#include "kube-compat/escalation.h"

#include "core/object.h"
#include "kube-compat/authz.h"

enum { REFUSAL_BYTES_MAX = ERROR_TEXT_BYTES_MAX - 32 };

enum grant_kind { GRANT_NOTHING, GRANT_ROLE, GRANT_BINDING };

static enum grant_kind grant_kind(const struct kind *kind) {
    if (!kind->built_in || strcmp(kind->group, RBAC_GROUP) != 0)
        return GRANT_NOTHING;
    return strstr(kind->plural, "bindings") ? GRANT_BINDING : GRANT_ROLE;
}

/* Gives a copy without what changes with every write and what garbage collection needs. */
static json_t *essence(const json_t *o) {
    static const char *const ignored[] = {"ownerReferences", "finalizers", "managedFields",
                                          "resourceVersion"};
    json_t *copy = json_copy((json_t *)(uintptr_t)o);
    json_t *metadata = json_copy(json_object_get(o, "metadata"));
    for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
        json_object_del(metadata, ignored[i]);
    json_object_set_new(copy, "metadata", metadata);
    return copy;
}

static bool only_collection(const json_t *object, const json_t *old) {
    json_t *now = essence(object), *was = essence(old);
    bool same = json_equal(now, was);
    json_decref(now);
    json_decref(was);
    return same;
}

static int compare_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The refusal lists what is missing, sorted, a line for each, as far as an error's text goes. */
static enum errc refuse(const struct request *rq, const char *name,
                        const struct rbac_rules *missing, struct error *err) {
    struct arena *arena = http_arena(rq->x);
    AUTO_BUF text = BUF_INIT;
    char **lines = arena_alloc(arena, missing->num * sizeof(lines[0]));
    for (size_t i = 0; i < missing->num; i++) {
        buf_clear(&text);
        rbac_rule_describe(&missing->items[i], &text);
        lines[i] = arena_strdup(arena, text.data);
    }
    qsort(lines, missing->num, sizeof(lines[0]), compare_text);
    buf_clear(&text);
    buf_printf(&text, "%s \"%s\" is forbidden: user \"%s\" (groups=[", rq->kind->qualified, name,
               rq->who->name);
    for (uint32_t i = 0; i < rq->who->num_groups; i++)
        buf_printf(&text, "%s\"%s\"", i ? " " : "", rq->who->groups[i]);
    buf_puts(&text, "]) is attempting to grant RBAC permissions not currently held:");
    size_t i = 0;
    for (; i < missing->num && text.len + strlen(lines[i]) < REFUSAL_BYTES_MAX; i++)
        buf_printf(&text, "\n%s", lines[i]);
    if (i < missing->num)
        buf_printf(&text, "\nand %zu more", missing->num - i);
    return err_set(err, ERR_FORBIDDEN, "%s", text.data);
}

/* Gives what the caller lacks of `wanted`, in the arena; the rules point into `index`. */
static struct rbac_rules lacking(const struct request *rq, const struct rbac *index,
                                 const struct rbac_rules *wanted) {
    struct authz_groups groups;
    struct arena *arena = http_arena(rq->x);
    struct rbac_subject who = authz_subject(rq->who, &groups);
    struct rbac_rules held, missing;
    rbac_rules_of(index, &who, rq->ns, arena, &held);
    rbac_rules_missing(arena, &held, wanted, &missing);
    return missing;
}

/* Everything, on every resource and path. */
static bool holds_everything(const struct request *rq, const struct rbac *index) {
    struct rbac_rules all;
    rbac_rules_everything(http_arena(rq->x), &all);
    return !lacking(rq, index, &all).num;
}

static enum errc check_role(struct request *rq, const json_t *object, const json_t *old,
                            struct error *err) {
    const struct authz_attributes escalate = {.verb = "escalate",
                                              .group = RBAC_GROUP,
                                              .resource = rq->kind->plural,
                                              .name = old ? rq->name : NULL,
                                              .ns = rq->ns};
    if (authz_may(rq->kube->authz, rq->who, &escalate))
        return OK;
    AUTO(rbac) index = authz_rbac(rq->kube->authz);
    struct rbac_rules wanted;
    rbac_rules_read(http_arena(rq->x), json_object_get(object, "rules"), &wanted);
    struct rbac_rules missing = lacking(rq, index, &wanted);
    if (missing.num)
        return refuse(rq, object_name(object), &missing, err);
    bool aggregated = json_is_object(json_object_get(object, "aggregationRule")) ||
                      json_is_object(json_object_get(old, "aggregationRule"));
    if (aggregated && !holds_everything(rq, index))
        return err_set(err, ERR_FORBIDDEN,
                       "%s \"%s\" is forbidden: must have cluster-admin privileges to use the "
                       "aggregationRule",
                       rq->kind->qualified, object_name(object));
    return OK;
}

static enum errc check_binding(struct request *rq, const json_t *object, struct error *err) {
    const char *role = object_str(object, "roleRef.name");
    const char *kind = object_str(object, "roleRef.kind");
    bool of_cluster = kind && !strcmp(kind, "ClusterRole");
    ASSERT(role && kind); /* by validation */
    const struct authz_attributes bind = {.verb = "bind",
                                          .group = RBAC_GROUP,
                                          .resource = of_cluster ? "clusterroles" : "roles",
                                          .name = role,
                                          .ns = rq->ns};
    if (authz_may(rq->kube->authz, rq->who, &bind))
        return OK;
    AUTO(rbac) index = authz_rbac(rq->kube->authz);
    const struct rbac_rules *wanted = rbac_role_rules(index, of_cluster ? NULL : rq->ns, role);
    if (!wanted)
        return err_set(err, ERR_NOT_FOUND, "%s." RBAC_GROUP " \"%s\" not found",
                       of_cluster ? "clusterrole" : "role", role);
    struct rbac_rules missing = lacking(rq, index, wanted);
    return missing.num ? refuse(rq, object_name(object), &missing, err) : OK;
}

enum errc escalation_check(struct request *rq, const json_t *object, const json_t *old,
                           struct error *err) {
    enum grant_kind grants = grant_kind(rq->kind);
    if (grants == GRANT_NOTHING || !rq->who || rq->who->admin ||
        (old && only_collection(object, old)))
        return OK;
    return grants == GRANT_ROLE ? check_role(rq, object, old, err) : check_binding(rq, object, err);
}
