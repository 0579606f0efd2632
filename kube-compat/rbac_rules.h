/* The rules of RBAC's roles: what one allows, and whether some cover others. Pure. */
#ifndef KUBE_COMPAT_RBAC_RULES_H
#define KUBE_COMPAT_RBAC_RULES_H

#include <jansson.h>

#include "core/base/buf.h"

#define RBAC_GROUP "rbac.authorization.k8s.io"

/* A question: may somebody do this? */
struct authz_attributes {
    const char *verb;
    const char *group, *resource, *subresource, *name, *ns; /* resource NULL: a path */
    const char *path;
};

struct rbac_words {
    const char **items;
    size_t num;
};

/* Which words there may be, a bit for each: rules are passed over by it before any text is
 * compared. A rule that lacks a bit of the question's does not allow it. */
struct rbac_filter {
    uint64_t verbs, groups, resources;
};

/* A PolicyRule. Either resources or paths (nonResourceURLs), by validation. */
struct rbac_rule {
    struct rbac_filter filter;
    struct rbac_words verbs, groups, resources, names, paths;
};

struct rbac_rules {
    struct rbac_rule *items;
    size_t num;
};

/* Reads the array `rules` of a role; NULL is none. What it gives is in the arena, strings too. */
void rbac_rules_read(struct arena *arena, const json_t *rules, struct rbac_rules *ret_rules);
/* Gives the rules of cluster-admin: every verb on every resource and every path. */
void rbac_rules_everything(struct arena *arena, struct rbac_rules *ret_rules);
json_t *rbac_rule_json(const struct rbac_rule *rule); /* gives a PolicyRule */

struct rbac_filter rbac_filter_of(const struct authz_attributes *a); /* once per question */
bool rbac_rule_allows(const struct rbac_rule *rule, const struct rbac_filter *asked,
                      const struct authz_attributes *a);

/* What of `wanted` the rules of `held` do not cover, as rules of one resource each, in the arena.
 * None: everything is covered. Rules that are not covered whole and stand for more than
 * RBAC_PRODUCTS_MAX single rights count as missing whole; of more than RBAC_MISSING_MAX missing
 * rules the first ones are given. */
enum { RBAC_PRODUCTS_MAX = 10000, RBAC_MISSING_MAX = 1000 };
void rbac_rules_missing(struct arena *arena, const struct rbac_rules *held,
                        const struct rbac_rules *wanted, struct rbac_rules *ret_missing);

/* {APIGroups:["apps"], Resources:["deployments"], Verbs:["get" "list"]} */
void rbac_rule_describe(const struct rbac_rule *rule, struct buf *out);

#endif
