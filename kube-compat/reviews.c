/* SelfSubjectReview (who am I), TokenReview (whose is this token), SelfSubjectAccessReview (may I),
 * SubjectAccessReview and its local form (may he), SelfSubjectRulesReview (what may I). All answer
 * 201 with the spec echoed. */
#include "kube-compat/reviews.h"

#include <stdio.h>

#include "core/object.h"
#include "kube-compat/authz.h"
#include "kube-compat/body.h"
#include "kube-compat/tokens.h"

#define AUTHENTICATION "authentication.k8s.io"
#define AUTHORIZATION  "authorization.k8s.io"

static const struct review reviews[] = {
    {AUTHENTICATION, "selfsubjectreviews", "SelfSubjectReview",
     "authentication.v1.SelfSubjectReview", false},
    {AUTHENTICATION, "tokenreviews", "TokenReview", "authentication.v1.TokenReview", false},
    {AUTHORIZATION, "localsubjectaccessreviews", "LocalSubjectAccessReview",
     "authorization.v1.LocalSubjectAccessReview", true},
    {AUTHORIZATION, "selfsubjectaccessreviews", "SelfSubjectAccessReview",
     "authorization.v1.SelfSubjectAccessReview", false},
    {AUTHORIZATION, "selfsubjectrulesreviews", "SelfSubjectRulesReview",
     "authorization.v1.SelfSubjectRulesReview", false},
    {AUTHORIZATION, "subjectaccessreviews", "SubjectAccessReview",
     "authorization.v1.SubjectAccessReview", false},
};

size_t reviews_count(void) {
    return ARRAY_LEN(reviews);
}

const struct review *reviews_at(size_t index) {
    return &reviews[index];
}

const struct review *reviews_find(const char *group, const char *version, const char *resource) {
    for (size_t i = 0; i < ARRAY_LEN(reviews); i++) {
        if (!strcmp(reviews[i].group, group) && !strcmp(version, "v1") &&
            !strcmp(reviews[i].resource, resource))
            return &reviews[i];
    }
    return NULL;
}

/* The identity that a SubjectAccessReview asks about. */
static void identity_of(const json_t *spec, struct auth_identity *who) {
    *who = (struct auth_identity){0};
    const char *user = object_str(spec, "user");
    snprintf(who->name, sizeof(who->name), "%s", user ? user : "");
    const json_t *groups = json_object_get(spec, "groups");
    for (size_t i = 0; i < json_array_size(groups) && who->num_groups < AUTH_GROUPS_MAX; i++) {
        const char *group = json_string_value(json_array_get(groups, i));
        if (!group)
            continue;
        snprintf(who->groups[who->num_groups++], AUTH_NAME_BYTES_MAX, "%s", group);
        who->admin = who->admin || !strcmp(group, "system:masters");
        who->anonymous = who->anonymous || !strcmp(group, "system:unauthenticated");
    }
}

static const char *or_empty(const char *s) {
    return s ? s : "";
}

static const char *or_null(const char *s) {
    return s && *s ? s : NULL;
}

static json_t *access_status(const struct auth_identity *who, const json_t *spec) {
    const json_t *r = json_object_get(spec, "resourceAttributes");
    const json_t *n = json_object_get(spec, "nonResourceAttributes");
    struct authz_attributes a = {.verb = or_empty(object_str(r ? r : n, "verb"))};
    if (r) {
        a.group = or_empty(object_str(r, "group"));
        a.resource = or_empty(object_str(r, "resource"));
        a.subresource = or_null(object_str(r, "subresource"));
        a.name = or_null(object_str(r, "name"));
        a.ns = or_null(object_str(r, "namespace"));
    } else {
        a.path = or_empty(object_str(n, "path"));
    }
    return json_pack("{s:b}", "allowed", authz_allows(who, &a));
}

static json_t *rules_status(const struct auth_identity *who) {
    json_t *resources = json_array(), *paths = json_array();
    if (!who || who->admin) {
        json_array_append_new(resources, json_pack("{s:[s], s:[s], s:[s]}", "verbs", "*",
                                                   "apiGroups", "*", "resources", "*"));
        json_array_append_new(paths,
                              json_pack("{s:[s], s:[s]}", "verbs", "*", "nonResourceURLs", "*"));
    } else {
        json_array_append_new(resources,
                              json_pack("{s:[s], s:[s], s:[s, s]}", "verbs", "create", "apiGroups",
                                        AUTHORIZATION, "resources", "selfsubjectaccessreviews",
                                        "selfsubjectrulesreviews"));
        json_array_append_new(resources,
                              json_pack("{s:[s], s:[s], s:[s]}", "verbs", "create", "apiGroups",
                                        AUTHENTICATION, "resources", "selfsubjectreviews"));
        json_array_append_new(paths, json_pack("{s:[s], s:[s, s, s, s]}", "verbs", "get",
                                               "nonResourceURLs", "/api", "/api/*", "/apis/*",
                                               "/openapi/*"));
    }
    return json_pack("{s:o, s:o, s:b}", "resourceRules", resources, "nonResourceRules", paths,
                     "incomplete", false);
}

static enum errc check_spec(struct request *rq, const struct review *review, const json_t *spec,
                            struct error *err) {
    bool access = strstr(review->resource, "accessreviews") != NULL;
    if (!access || json_object_get(spec, "resourceAttributes") ||
        json_object_get(spec, "nonResourceAttributes"))
        return OK;
    cause_add(rq->causes, CAUSE_INVALID, "spec.resourceAttributes",
              "Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes "
              "must be specified");
    return err_set(err, ERR_INVALID, "%s is invalid", review->kind);
}

void reviews_create(struct request *rq, const struct review *review) {
    struct error err = ERROR_INIT;
    json_t *body = NULL;
    const struct schema *schema = schema_types_find(kinds_types(rq->kinds), review->type);
    enum errc code = body_read(rq, schema, NULL, &body, &err);
    if (!code && !body)
        body = json_object();
    const json_t *spec = json_object_get(body, "spec");
    json_t *status = NULL;
    if (!code)
        code = check_spec(rq, review, spec, &err);
    bool token = !strcmp(review->resource, "tokenreviews");
    if (!code && token)
        code = tokens_review(rq, spec, &status, &err);
    if (code) {
        json_decref(body);
        request_fail(rq, &err);
        return;
    }
    struct auth_identity other;
    if (token) {
        /* said already */
    } else if (!strcmp(review->resource, "selfsubjectreviews")) {
        status = json_pack("{s:o}", "userInfo", tokens_user(rq->who));
    } else if (!strcmp(review->resource, "selfsubjectrulesreviews")) {
        status = rules_status(rq->who);
    } else if (!strcmp(review->resource, "selfsubjectaccessreviews")) {
        status = access_status(rq->who, spec);
    } else {
        identity_of(spec, &other);
        status = access_status(&other, spec);
    }
    json_t *answer =
        json_pack("{s:s, s:s+, s:{s:n}, s:o}", "kind", review->kind, "apiVersion", review->group,
                  "/v1", "metadata", "creationTimestamp", "status", status);
    if (spec)
        json_object_set(answer, "spec", (json_t *)(uintptr_t)spec);
    json_decref(body);
    request_reply(rq, 201, answer);
}
