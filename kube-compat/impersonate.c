/* Impersonation. To ignore these headers would be worse than not to know them: `--as bob` would run
 * with the caller's own rights. Whoever may do everything may be anybody; nobody else may. */
#include "kube-compat/impersonate.h"

#include <stdio.h>
#include <strings.h>

#include "kube-compat/authz.h"

struct wish {
    const char *user;
    const char *groups[AUTH_GROUPS_MAX];
    uint32_t num_groups;
    bool any, too_many;
};

static void read_header(void *user, const char *name, const char *value) {
    struct wish *w = user;
    if (strncasecmp(name, "Impersonate-", 12) != 0)
        return;
    w->any = true;
    if (!strcasecmp(name, "Impersonate-User"))
        w->user = value;
    else if (!strcasecmp(name, "Impersonate-Group") && w->num_groups < AUTH_GROUPS_MAX)
        w->groups[w->num_groups++] = value;
    else if (!strcasecmp(name, "Impersonate-Group"))
        w->too_many = true;
}

static void add_group(struct auth_identity *who, const char *group) {
    if (who->num_groups == AUTH_GROUPS_MAX)
        return;
    snprintf(who->groups[who->num_groups++], AUTH_NAME_BYTES_MAX, "%s", group);
    who->admin = who->admin || !strcmp(group, "system:masters");
}

enum errc impersonate(struct request *rq, struct error *err) {
    struct wish w = {0};
    http_each_header(rq->x, read_header, &w);
    if (!w.any)
        return OK;
    const struct authz_attributes ask = {
        .verb = "impersonate", .group = "", .resource = "users", .name = w.user, .path = ""};
    if (rq->who && rq->who->anonymous)
        return err_set(err, ERR_UNAUTHENTICATED, "Unauthorized");
    if (!authz_allows(rq->who, &ask)) {
        AUTO_BUF text = BUF_INIT;
        authz_explain(rq->who, &ask, &text);
        return err_set(err, ERR_FORBIDDEN, "%s", text.data);
    }
    if (!w.user || !*w.user)
        return err_set(err, ERR_MALFORMED, "requested impersonation without a user");
    if (w.too_many || strlen(w.user) >= AUTH_NAME_BYTES_MAX)
        return err_set(err, ERR_MALFORMED, "impersonation: at most %d groups, names of %d bytes",
                       AUTH_GROUPS_MAX, AUTH_NAME_BYTES_MAX - 1);
    struct auth_identity *who = arena_alloc(http_arena(rq->x), sizeof(*who));
    snprintf(who->name, sizeof(who->name), "%s", w.user);
    who->anonymous = !strcmp(w.user, "system:anonymous");
    for (uint32_t i = 0; i < w.num_groups; i++)
        add_group(who, w.groups[i]);
    rq->who = who;
    return OK;
}
