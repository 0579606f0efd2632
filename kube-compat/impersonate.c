/* Impersonation. To ignore these headers would be worse than not to know them: `--as bob` would run
 * with the caller's own rights. Each header is a wish of its own and needs the verb `impersonate`
 * on what it names:
 *
 *   Impersonate-User: bob                          users "bob"
 *   Impersonate-User: system:serviceaccount:a:b    serviceaccounts "b" in namespace a
 *   Impersonate-Group: devs                        groups "devs"
 *   Impersonate-Uid: 7                             uids "7" of authentication.k8s.io
 *   Impersonate-Extra-Scopes: view                 userextras/scopes "view" of
 * authentication.k8s.io
 *
 * The new identity has the groups that were asked for; a ServiceAccount without any gets its own.
 */
#include "kube-compat/impersonate.h"

#include <ctype.h>
#include <stdio.h>
#include <strings.h>

#include "kube-compat/authz.h"

#define ACCOUNT_PREFIX "system:serviceaccount:"
#define EXTRA_PREFIX   "Impersonate-Extra-"
#define AUTHENTICATION "authentication.k8s.io"

struct wish {
    struct arena *arena;
    const char *user, *uid;
    const char *groups[AUTH_GROUPS_MAX];
    uint32_t num_groups;
    struct {
        const char *key, *value;
    } extra[AUTH_EXTRA_MAX];
    uint32_t num_extra;
    const char *too_many; /* headers of a kind that there were too many of */
};

static int hex_digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Header names know no case and few characters: the key is lower case, %XX stands for the rest. */
static const char *extra_key(struct arena *arena, const char *name) {
    char *key = arena_strdup(arena, name), *to = key;
    for (char *p = key; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    for (const char *p = key; *p; p++, to++) {
        *to = *p;
        if (*p != '%' || hex_digit(p[1]) < 0 || hex_digit(p[2]) < 0)
            continue;
        *to = (char)(hex_digit(p[1]) << 4 | hex_digit(p[2]));
        p += 2;
    }
    *to = '\0';
    return key;
}

static void read_header(void *user, const char *name, const char *value) {
    struct wish *w = user;
    if (strncasecmp(name, "Impersonate-", 12) != 0)
        return;
    if (!strcasecmp(name, "Impersonate-User")) {
        w->user = *value ? value : NULL;
    } else if (!strcasecmp(name, "Impersonate-Uid")) {
        w->uid = *value ? value : NULL;
    } else if (!strcasecmp(name, "Impersonate-Group")) {
        if (w->num_groups < AUTH_GROUPS_MAX)
            w->groups[w->num_groups++] = value;
        else
            w->too_many = "Impersonate-Group";
    } else if (!strncasecmp(name, EXTRA_PREFIX, strlen(EXTRA_PREFIX))) {
        if (w->num_extra == AUTH_EXTRA_MAX) {
            w->too_many = "Impersonate-Extra-*";
            return;
        }
        w->extra[w->num_extra].key = extra_key(w->arena, name + strlen(EXTRA_PREFIX));
        w->extra[w->num_extra++].value = value;
    }
}

/* Splits system:serviceaccount:NS:NAME. False: it is a user like any other. */
static bool split_account(struct arena *arena, const char *user, const char **ret_ns,
                          const char **ret_name) {
    size_t len = strlen(ACCOUNT_PREFIX);
    if (strncmp(user, ACCOUNT_PREFIX, len) != 0)
        return false;
    const char *colon = strchr(user + len, ':');
    if (!colon || colon == user + len || !colon[1] || strchr(colon + 1, ':'))
        return false;
    *ret_ns = arena_strndup(arena, user + len, (size_t)(colon - user) - len);
    *ret_name = colon + 1;
    return true;
}

static enum errc too_long(const char *what, size_t max, struct error *err) {
    return err_set(err, ERR_MALFORMED, "impersonation: %s is longer than %zu bytes", what, max - 1);
}

static enum errc check_bounds(const struct wish *w, struct error *err) {
    if (w->too_many)
        return err_set(err, ERR_MALFORMED,
                       "impersonation: too many %s headers (at most %d groups and %d extra values)",
                       w->too_many, AUTH_GROUPS_MAX - 1, AUTH_EXTRA_MAX);
    if (strlen(w->user) >= AUTH_NAME_BYTES_MAX)
        return too_long("the user", AUTH_NAME_BYTES_MAX, err);
    if (w->uid && strlen(w->uid) >= AUTH_UID_BYTES_MAX)
        return too_long("the uid", AUTH_UID_BYTES_MAX, err);
    for (uint32_t i = 0; i < w->num_groups; i++) {
        if (!*w->groups[i] || strlen(w->groups[i]) >= AUTH_NAME_BYTES_MAX)
            return err_set(err, ERR_MALFORMED, "impersonation: a group has 1 to %d bytes",
                           AUTH_NAME_BYTES_MAX - 1);
    }
    for (uint32_t i = 0; i < w->num_extra; i++) {
        if (strlen(w->extra[i].key) >= AUTH_EXTRA_KEY_BYTES_MAX ||
            strlen(w->extra[i].value) >= AUTH_NAME_BYTES_MAX)
            return too_long("an extra value", AUTH_NAME_BYTES_MAX, err);
    }
    return OK;
}

static enum errc may(const struct request *rq, const struct authz_attributes *what,
                     struct error *err) {
    struct authz_attributes a = *what;
    a.verb = "impersonate";
    return authz_check(rq->kube->authz, rq->who, &a, err);
}

/* Asks for each header in turn. */
static enum errc check_rights(const struct request *rq, const struct wish *w, struct error *err) {
    struct authz_attributes a = {.group = "", .resource = "users", .name = w->user};
    if (split_account(w->arena, w->user, &a.ns, &a.name))
        a.resource = "serviceaccounts";
    enum errc code = may(rq, &a, err);
    for (uint32_t i = 0; i < w->num_groups && !code; i++) {
        a = (struct authz_attributes){.group = "", .resource = "groups", .name = w->groups[i]};
        code = may(rq, &a, err);
    }
    for (uint32_t i = 0; i < w->num_extra && !code; i++) {
        a = (struct authz_attributes){.group = AUTHENTICATION,
                                      .resource = "userextras",
                                      .subresource = w->extra[i].key,
                                      .name = w->extra[i].value};
        code = may(rq, &a, err);
    }
    if (!code && w->uid) {
        a = (struct authz_attributes){.group = AUTHENTICATION, .resource = "uids", .name = w->uid};
        code = may(rq, &a, err);
    }
    return code;
}

static bool has_group(const struct auth_identity *who, const char *group) {
    for (uint32_t i = 0; i < who->num_groups; i++) {
        if (!strcmp(who->groups[i], group))
            return true;
    }
    return false;
}

/* The groups that nobody has to ask for. */
static bool add_implied_groups(const struct wish *w, struct auth_identity *who) {
    const char *ns, *name;
    bool ok = true;
    if (!w->num_groups && split_account(w->arena, w->user, &ns, &name))
        ok = auth_identity_add_group(who, "system:serviceaccounts") &&
             auth_identity_add_group(who, arena_printf(w->arena, "system:serviceaccounts:%s", ns));
    if (has_group(who, "system:authenticated") || has_group(who, "system:unauthenticated"))
        return ok;
    return ok && auth_identity_add_group(who, who->anonymous ? "system:unauthenticated"
                                                             : "system:authenticated");
}

enum errc impersonate(struct request *rq, struct error *err) {
    struct wish w = {.arena = http_arena(rq->x)};
    http_each_header(rq->x, read_header, &w);
    if (!w.user && !w.uid && !w.num_groups && !w.num_extra)
        return OK;
    if (!w.user)
        return err_set(err, ERR_MALFORMED,
                       "requested impersonation of groups, extra values or a uid without "
                       "impersonating a user");
    enum errc code = check_bounds(&w, err);
    if (!code)
        code = check_rights(rq, &w, err);
    if (code)
        return code;
    struct auth_identity *who = arena_alloc(w.arena, sizeof(*who));
    snprintf(who->name, sizeof(who->name), "%s", w.user);
    snprintf(who->uid, sizeof(who->uid), "%s", w.uid ? w.uid : "");
    who->anonymous = !strcmp(w.user, "system:anonymous");
    for (uint32_t i = 0; i < w.num_extra; i++) {
        struct auth_extra *extra = &who->extra[who->num_extra++];
        snprintf(extra->key, sizeof(extra->key), "%s", w.extra[i].key);
        snprintf(extra->value, sizeof(extra->value), "%s", w.extra[i].value);
    }
    bool ok = true;
    for (uint32_t i = 0; i < w.num_groups; i++)
        ok = ok && auth_identity_add_group(who, w.groups[i]);
    if (!ok || !add_implied_groups(&w, who))
        return err_set(err, ERR_MALFORMED, "impersonation: more than %d groups", AUTH_GROUPS_MAX);
    rq->who = who;
    return OK;
}
