/* SelfSubjectReview (who am I), TokenReview (whose is this token), SelfSubjectAccessReview (may I),
 * SubjectAccessReview and its local form (may he), SelfSubjectRulesReview (what may I). All answer
 * 201 with the spec echoed. */
#include "kube-compat/reviews.h"

#include <stdio.h>

#include "core/object.h"
#include "kube-compat/authz.h"
#include "kube-compat/body.h"
#include "kube-compat/tokens.h"

#define AUTHENTICATION "authentication.k8s.io", "authentication.k8s.io/v1"
#define AUTHORIZATION  "authorization.k8s.io", "authorization.k8s.io/v1"

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

static const char *or_empty(const char *s) {
    return s ? s : "";
}

static const char *or_null(const char *s) {
    return s && *s ? s : NULL;
}

/* What an access review asks. */
static void question_of(const json_t *spec, struct authz_attributes *a) {
    const json_t *r = json_object_get(spec, "resourceAttributes");
    const json_t *n = json_object_get(spec, "nonResourceAttributes");
    *a = (struct authz_attributes){.verb = or_empty(object_str(r ? r : n, "verb"))};
    if (!r) {
        a->path = or_empty(object_str(n, "path"));
        return;
    }
    a->group = or_empty(object_str(r, "group"));
    a->resource = or_empty(object_str(r, "resource"));
    a->subresource = or_null(object_str(r, "subresource"));
    a->name = or_null(object_str(r, "name"));
    a->ns = or_null(object_str(r, "namespace"));
}

static json_t *access_status(bool allowed, const struct buf *reason) {
    json_t *status = json_pack("{s:b}", "allowed", allowed);
    if (reason->len)
        json_object_set_new(status, "reason", object_text(reason->data));
    return status;
}

/* May I? */
static json_t *own_access(const struct request *rq, const json_t *spec) {
    struct authz_attributes a;
    AUTO_BUF reason = BUF_INIT;
    question_of(spec, &a);
    return access_status(authz_decide(rq->kube->authz, rq->who, &a, &reason), &reason);
}

/* May he? His groups are those that the review names, and no others. */
static json_t *other_access(const struct request *rq, const json_t *spec) {
    struct authz_attributes a;
    AUTO_BUF reason = BUF_INIT;
    const json_t *groups = json_object_get(spec, "groups");
    const char **names =
        arena_alloc(http_arena(rq->x), (json_array_size(groups) + 1) * sizeof(names[0]));
    struct rbac_subject who = {.user = object_str(spec, "user"), .groups = names};
    for (size_t i = 0; i < json_array_size(groups); i++) {
        const char *group = json_string_value(json_array_get(groups, i));
        if (group)
            names[who.num_groups++] = group;
    }
    question_of(spec, &a);
    return access_status(authz_decide_subject(rq->kube->authz, &who, &a, &reason), &reason);
}

static void add_rules(json_t *status, const struct rbac_rules *rules) {
    for (size_t i = 0; i < rules->num; i++) {
        const struct rbac_rule *rule = &rules->items[i];
        json_array_append_new(
            json_object_get(status, rule->paths.num ? "nonResourceRules" : "resourceRules"),
            rbac_rule_json(rule));
    }
}

/* What may I? Who may do everything is told so, whatever the bindings say. */
static json_t *own_rules(const struct request *rq, const json_t *spec) {
    struct arena *arena = http_arena(rq->x);
    struct authz_groups groups;
    struct rbac_rules held = {0}, all, missing;
    AUTO(rbac) index = authz_rbac(rq->kube->authz);
    json_t *status =
        json_pack("{s:[], s:[], s:b}", "resourceRules", "nonResourceRules", "incomplete", false);
    if (rq->who) {
        struct rbac_subject who = authz_subject(rq->who, &groups);
        rbac_rules_of(index, &who, object_str(spec, "namespace"), arena, &held);
    }
    rbac_rules_everything(arena, &all);
    rbac_rules_missing(arena, &held, &all, &missing);
    if (missing.num && (!rq->who || rq->who->admin))
        add_rules(status, &all);
    add_rules(status, &held);
    return status;
}

static void check_access(struct request *rq, const struct review *review, const json_t *spec) {
    const json_t *r = json_object_get(spec, "resourceAttributes");
    const json_t *n = json_object_get(spec, "nonResourceAttributes");
    if (r && n)
        cause_add(rq->causes, CAUSE_INVALID, "spec.nonResourceAttributes",
                  "Invalid value: {}: cannot be specified in combination with resourceAttributes");
    if (!r && !n)
        cause_add(rq->causes, CAUSE_INVALID, "spec.resourceAttributes",
                  "Invalid value: null: exactly one of nonResourceAttributes or "
                  "resourceAttributes must be specified");
    if (!strncmp(review->resource, "self", 4))
        return;
    const char *user = object_str(spec, "user");
    if ((!user || !*user) && !json_array_size(json_object_get(spec, "groups")))
        cause_add(rq->causes, CAUSE_INVALID, "spec.user",
                  "Invalid value: \"\": at least one of user or group must be specified");
    if (review->namespaced && n)
        cause_add(rq->causes, CAUSE_INVALID, "spec.nonResourceAttributes",
                  "Invalid value: {}: disallowed on this kind of request");
}

static enum errc check_spec(struct request *rq, const struct review *review, const json_t *spec,
                            struct error *err) {
    const char *ns = object_str(spec, "resourceAttributes.namespace");
    if (!strcmp(review->resource, "selfsubjectrulesreviews") &&
        !or_null(object_str(spec, "namespace")))
        return err_set(err, ERR_MALFORMED, "no namespace on request");
    if (!strstr(review->resource, "accessreviews"))
        return OK;
    if (review->namespaced && json_object_get(spec, "resourceAttributes") &&
        strcmp(or_empty(ns), or_empty(rq->ns)) != 0)
        return err_set(err, ERR_MALFORMED,
                       "spec.resourceAttributes.namespace must match namespace: %s",
                       or_empty(rq->ns));
    check_access(rq, review, spec);
    return json_array_size(rq->causes) ? err_set(err, ERR_INVALID, "%s is invalid", review->kind)
                                       : OK;
}

static json_t *answer_to(const struct request *rq, const struct review *review,
                         const json_t *spec) {
    if (!strcmp(review->resource, "selfsubjectreviews"))
        return json_pack("{s:o}", "userInfo", tokens_user(rq->who));
    if (!strcmp(review->resource, "selfsubjectrulesreviews"))
        return own_rules(rq, spec);
    if (!strcmp(review->resource, "selfsubjectaccessreviews"))
        return own_access(rq, spec);
    return other_access(rq, spec);
}

void reviews_create(struct request *rq, const struct review *review) {
    struct error err = ERROR_INIT;
    json_t *body = NULL;
    rq->review_kind = review->kind;
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
    if (!token)
        status = answer_to(rq, review, spec);
    json_t *answer =
        json_pack("{s:s, s:s, s:{s:n}, s:o}", "kind", review->kind, "apiVersion",
                  review->api_version, "metadata", "creationTimestamp", "status", status);
    if (spec)
        json_object_set(answer, "spec", (json_t *)(uintptr_t)spec);
    json_decref(body);
    request_reply(rq, 201, answer);
}
