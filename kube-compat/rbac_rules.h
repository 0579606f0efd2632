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

/* A PolicyRule. Either resources or paths (nonResourceURLs), by validation. */
struct rbac_rule {
    struct rbac_words verbs, groups, resources, names, paths;
    uint32_t verb_mask; /* the well-known verbs among them: see rbac_verb_bit() */
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

/* The bit of a verb in masks; 0: not one of the well-known. A decision asks for it once, so that
 * most rules are passed over by one comparison. */
uint32_t rbac_verb_bit(const char *verb);
bool rbac_rule_allows(const struct rbac_rule *rule, uint32_t verb_bit,
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
