/* Costs follow the work: a get is a lookup, a write a lookup and a commit that many share, a list
 * is printed object by object. So a list, and a watch that begins with one, costs by the number of
 * objects under its prefix; a limit lowers that, unless a selector makes the server look at all of
 * them to find so many. The count is two binary searches in the store's memory. */
#include "kube-compat/cost.h"

#include "core/object.h"
#include "kube-compat/authz.h"
#include "kube-compat/rest.h"

static bool in_group(const struct auth_identity *who, const char *group) {
    for (uint32_t i = 0; who && i < who->num_groups; i++) {
        if (!strcmp(who->groups[i], group))
            return true;
    }
    return false;
}

bool cost_exempt(const struct request *rq) {
    if (!rq->resource)
        return authz_is_public(http_path(rq->x));
    return !strcmp(rq->group, "coordination.k8s.io") && !strcmp(rq->resource, "leases") &&
           rq->name && (in_group(rq->who, "system:masters") || in_group(rq->who, "system:nodes"));
}

/* A watch from a revision on sends no objects at first. */
static bool prints_objects(const struct request *rq, bool watch) {
    const char *from = http_query(rq->x, "resourceVersion");
    if (!watch)
        return !strcmp(rq->verb, "list") || !strcmp(rq->verb, "deletecollection");
    return !from || !*from || !strcmp(from, "0") || http_query_bool(rq->x, "sendInitialEvents");
}

static uint32_t cost_of_objects(const struct request *rq, const struct kind *kind, bool watch) {
    struct request about = *rq;
    struct object_key prefix;
    about.kind = kind->measured ? kinds_find(rq->kinds, "", "v1", kind->plural) : kind;
    size_t num = store_count(rq->kube->opt.store, rest_prefix(&about, &prefix));
    const char *limit = watch ? NULL : http_query(rq->x, "limit");
    long long most = limit ? strtoll(limit, NULL, 10) : 0;
    if (most > 0 && (size_t)most < num && !request_given(rq, "labelSelector") &&
        !request_given(rq, "fieldSelector"))
        num = (size_t)most;
    return num / COST_OBJECTS + 1 < COST_MAX ? (uint32_t)(num / COST_OBJECTS) + 1 : COST_MAX;
}

/* Answers that go on for as long as the client likes. */
static bool is_long(const struct request *rq) {
    static const char *const always[] = {"exec", "attach", "portforward", "proxy"};
    if (!strcmp(rq->verb, "watch"))
        return true;
    for (size_t i = 0; rq->subresource && i < ARRAY_LEN(always); i++) {
        if (!strcmp(rq->subresource, always[i]))
            return true;
    }
    return rq->subresource && !strcmp(rq->subresource, "log") && http_query_bool(rq->x, "follow");
}

void cost_read(const struct request *rq, struct dispatch_request *ret_request) {
    *ret_request = (struct dispatch_request){.identity = rq->who ? rq->who->name : "", .cost = 1};
    if (!rq->resource)
        return;
    const char *verb = rq->verb;
    ret_request->watch = is_long(rq);
    ret_request->may_block =
        strcmp(verb, "get") != 0 && strcmp(verb, "list") != 0 && strcmp(verb, "watch") != 0;
    const struct kind *kind = kinds_find(rq->kinds, rq->group, rq->version, rq->resource);
    if (kind && !rq->name && prints_objects(rq, !strcmp(verb, "watch")))
        ret_request->cost = cost_of_objects(rq, kind, !strcmp(verb, "watch"));
}
