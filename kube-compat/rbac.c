/* The index is turned around from how bindings are written: a binding says "these subjects get that
 * role here", a request asks "what does this subject get here". So grants hang in a hash table
 * under (namespace, kind of subject, name), and a decision looks up the caller's name and each of
 * his groups twice, for the whole cluster and for the namespace asked about: its cost follows the
 * caller's own bindings, not everybody's.
 *
 * A grant knows its binding, for the reason, and the role's compiled rules. A ServiceAccount is the
 * user that its token names, system:serviceaccount:NAMESPACE:NAME. Nothing here changes after
 * rbac_create(); all of it is in one arena. */
#include "kube-compat/rbac.h"

#include <stdio.h>
#include <sys/random.h>

#include "core/object.h"

#define SEPARATOR ", "
enum { GRANTS_COMPARED_MAX = 256 }; /* of one subject, when looking for one of the same role */

struct role {
    const char *ns; /* "": a ClusterRole */
    const char *name;
    struct rbac_rules rules;
};

struct grant {
    struct rbac_grant shown;
    struct grant *next; /* of the same key, in order of the bindings */
};

/* What hangs under one key. */
struct entry {
    const char *ns; /* "": the whole cluster */
    bool group;
    const char *name;
    struct grant *first, *last;
};

struct rbac {
    _Atomic uint32_t refs;
    struct arena *arena;
    struct role *roles; /* sorted by namespace and name */
    size_t num_roles;
    struct entry *entries; /* open addressing */
    size_t mask;           /* their number, less one */
    uint64_t seed;
};

static int compare_roles(const void *a, const void *b) {
    const struct role *x = a, *y = b;
    int by_ns = strcmp(x->ns, y->ns);
    return by_ns ? by_ns : strcmp(x->name, y->name);
}

static bool is_kind(const json_t *o, const char *kind) {
    const char *have = object_str(o, "kind");
    return have && !strcmp(have, kind);
}

static void read_roles(struct rbac *r, const json_t *const *objects, size_t num_objects) {
    r->roles = arena_alloc(r->arena, (num_objects + 1) * sizeof(r->roles[0]));
    for (size_t i = 0; i < num_objects; i++) {
        const json_t *o = objects[i];
        bool cluster = is_kind(o, "ClusterRole");
        if ((!cluster && !is_kind(o, "Role")) || !object_name(o))
            continue;
        const char *ns = cluster ? "" : object_namespace(o);
        if (!ns || (!cluster && !*ns))
            continue; /* it must not pass for one of the whole cluster */
        struct role *role = &r->roles[r->num_roles++];
        role->ns = arena_strdup(r->arena, ns);
        role->name = arena_strdup(r->arena, object_name(o));
        rbac_rules_read(r->arena, json_object_get(o, "rules"), &role->rules);
    }
    qsort(r->roles, r->num_roles, sizeof(r->roles[0]), compare_roles);
}

const struct rbac_rules *rbac_role_rules(const struct rbac *r, const char *ns, const char *name) {
    const struct role key = {.ns = ns ? ns : "", .name = name};
    const struct role *found =
        r->num_roles ? bsearch(&key, r->roles, r->num_roles, sizeof(key), compare_roles) : NULL;
    return found ? &found->rules : NULL;
}

/* FNV-1a over the parts of a key. It begins at random: who may write bindings must not be able to
 * choose names that all fall on one place. */
static uint64_t hash_key(uint64_t seed, const char *ns, bool group, const char *name) {
    uint64_t h = seed ^ group;
    for (const char *p = ns; *p; p++)
        h = (h ^ (unsigned char)*p) * 0x100000001b3u;
    h = (h ^ '/') * 0x100000001b3u;
    for (const char *p = name; *p; p++)
        h = (h ^ (unsigned char)*p) * 0x100000001b3u;
    return h ^ h >> 32;
}

/* The entry of a key, or the free place where it belongs. */
static struct entry *find(const struct rbac *r, const char *ns, bool group, const char *name) {
    size_t at = hash_key(r->seed, ns, group, name) & r->mask;
    for (;; at = (at + 1) & r->mask) {
        struct entry *e = &r->entries[at];
        if (!e->name || (e->group == group && !strcmp(e->name, name) && !strcmp(e->ns, ns)))
            return e;
    }
}

/* A second binding to the same role gives nothing more, and is left out. */
static bool is_repeated(const struct entry *e, const struct rbac_grant *shown) {
    const struct grant *g = e->first;
    for (int i = 0; g && shown->rules && i < GRANTS_COMPARED_MAX; i++, g = g->next) {
        if (g->shown.rules == shown->rules)
            return true;
    }
    return false;
}

static void hang(struct rbac *r, const struct rbac_grant *shown, bool group, const char *name) {
    struct entry *e = find(r, shown->ns ? shown->ns : "", group, name);
    if (is_repeated(e, shown))
        return;
    if (!e->name) {
        e->ns = shown->ns ? shown->ns : "";
        e->group = group;
        e->name = name;
    }
    struct grant *g = arena_alloc(r->arena, sizeof(*g));
    g->shown = *shown;
    if (e->last)
        e->last->next = g;
    else
        e->first = g;
    e->last = g;
}

static const char *keep(struct rbac *r, const json_t *o, const char *path) {
    const char *text = object_str(o, path);
    return arena_strdup(r->arena, text ? text : "");
}

static void read_binding(struct rbac *r, const json_t *o, bool cluster) {
    const char *ns = cluster ? NULL : object_namespace(o);
    if (!cluster && (!ns || !*ns))
        return;
    struct rbac_grant shown = {.binding = keep(r, o, "metadata.name"),
                               .ns = arena_strdup(r->arena, ns),
                               .role_kind = keep(r, o, "roleRef.kind"),
                               .role = keep(r, o, "roleRef.name")};
    bool of_cluster = cluster || !strcmp(shown.role_kind, "ClusterRole");
    shown.rules = rbac_role_rules(r, of_cluster ? NULL : shown.ns, shown.role);
    const json_t *subjects = json_object_get(o, "subjects");
    for (size_t i = 0; i < json_array_size(subjects); i++) {
        const json_t *s = json_array_get(subjects, i);
        shown.subject_kind = keep(r, s, "kind");
        shown.subject_name = keep(r, s, "name");
        shown.subject_ns = NULL;
        const char *name = shown.subject_name;
        if (!strcmp(shown.subject_kind, "ServiceAccount")) {
            const char *own = object_str(s, "namespace");
            shown.subject_ns = own && *own ? arena_strdup(r->arena, own) : shown.ns;
            if (!shown.subject_ns || !*shown.subject_ns)
                continue;
            name = arena_printf(r->arena, "system:serviceaccount:%s:%s", shown.subject_ns, name);
        }
        if (*name)
            hang(r, &shown, !strcmp(shown.subject_kind, "Group"), name);
    }
}

struct rbac *rbac_create(const json_t *const *objects, size_t num_objects) {
    struct rbac *r = mem_alloc(sizeof(*r));
    r->refs = 1;
    r->arena = arena_create();
    ASSERT(getrandom(&r->seed, sizeof(r->seed), 0) == sizeof(r->seed));
    read_roles(r, objects, num_objects);
    size_t num_subjects = 0, room = 8;
    for (size_t i = 0; i < num_objects; i++)
        num_subjects += json_array_size(json_object_get(objects[i], "subjects"));
    while (room < 2 * num_subjects)
        room *= 2;
    r->entries = mem_array(room, sizeof(r->entries[0]));
    r->mask = room - 1;
    for (size_t i = 0; i < num_objects; i++) {
        bool cluster = is_kind(objects[i], "ClusterRoleBinding");
        if (cluster || is_kind(objects[i], "RoleBinding"))
            read_binding(r, objects[i], cluster);
    }
    return r;
}

struct rbac *rbac_ref(struct rbac *r) {
    r->refs++;
    return r;
}

void rbac_unref(struct rbac *r) {
    if (!r || --r->refs)
        return;
    arena_destroy(r->arena);
    free(r->entries);
    free(r);
}

/* Grants. */

static bool each_of(const struct rbac *r, const char *ns, bool group, const char *name,
                    rbac_grant_fn *fn, void *user) {
    for (const struct grant *g = find(r, ns, group, name)->first; g; g = g->next) {
        if (!fn(user, &g->shown))
            return false;
    }
    return true;
}

void rbac_each_grant(const struct rbac *r, const struct rbac_subject *who, const char *ns,
                     rbac_grant_fn *fn, void *user) {
    const char *scopes[] = {"", ns};
    for (size_t s = 0; s < ARRAY_LEN(scopes); s++) {
        if (s && (!ns || !*ns))
            return;
        if (who->user && *who->user && !each_of(r, scopes[s], false, who->user, fn, user))
            return;
        for (size_t i = 0; i < who->num_groups; i++) {
            if (!each_of(r, scopes[s], true, who->groups[i], fn, user))
                return;
        }
    }
}

struct decision {
    const struct authz_attributes *a;
    struct rbac_filter asked;
    bool allowed;
    struct buf *reason;
    size_t num_missing; /* roles, written to `missing`, each behind a SEPARATOR */
    struct buf missing;
};

static void describe_allowed(const struct rbac_grant *g, struct buf *out) {
    buf_printf(out, "RBAC: allowed by %sRoleBinding \"%s%s%s\" of %s \"%s\" to %s \"%s%s%s\"",
               g->ns ? "" : "Cluster", g->binding, g->ns ? "/" : "", g->ns ? g->ns : "",
               g->role_kind, g->role, g->subject_kind, g->subject_name, g->subject_ns ? "/" : "",
               g->subject_ns ? g->subject_ns : "");
}

/* A binding to a role that is not there gives nothing, but is worth a word. */
static void note_missing(struct decision *d, const struct rbac_grant *g) {
    if (!d->reason)
        return;
    AUTO_BUF text = BUF_INIT;
    buf_printf(&text, SEPARATOR "%s." RBAC_GROUP " \"%s\" not found",
               !strcmp(g->role_kind, "Role") ? "role" : "clusterrole", g->role);
    if (d->missing.len && strstr(d->missing.data, text.data))
        return;
    buf_puts(&d->missing, text.data);
    d->num_missing++;
}

static bool decide(void *user, const struct rbac_grant *g) {
    struct decision *d = user;
    if (!g->rules) {
        note_missing(d, g);
        return true;
    }
    for (size_t i = 0; i < g->rules->num && !d->allowed; i++)
        d->allowed = rbac_rule_allows(&g->rules->items[i], &d->asked, d->a);
    if (d->allowed && d->reason)
        describe_allowed(g, d->reason);
    return !d->allowed;
}

bool rbac_allows(const struct rbac *r, const struct rbac_subject *who,
                 const struct authz_attributes *a, struct buf *reason) {
    struct decision d = {.a = a, .asked = rbac_filter_of(a), .reason = reason};
    rbac_each_grant(r, who, a->resource ? a->ns : NULL, decide, &d);
    if (!d.allowed && d.num_missing)
        buf_printf(reason, d.num_missing > 1 ? "RBAC: [%s]" : "RBAC: %s",
                   d.missing.data + strlen(SEPARATOR));
    buf_deinit(&d.missing);
    return d.allowed;
}

struct gathering {
    struct rbac_rules *rules; /* NULL: count only */
    size_t num;
};

static bool gather(void *user, const struct rbac_grant *g) {
    struct gathering *all = user;
    for (size_t i = 0; g->rules && i < g->rules->num; i++) {
        if (all->rules)
            all->rules->items[all->num] = g->rules->items[i];
        all->num++;
    }
    return true;
}

void rbac_rules_of(const struct rbac *r, const struct rbac_subject *who, const char *ns,
                   struct arena *arena, struct rbac_rules *ret_rules) {
    struct gathering count = {0}, all = {.rules = ret_rules};
    rbac_each_grant(r, who, ns, gather, &count);
    ret_rules->items = arena_alloc(arena, (count.num + 1) * sizeof(ret_rules->items[0]));
    rbac_each_grant(r, who, ns, gather, &all);
    ret_rules->num = all.num;
}
