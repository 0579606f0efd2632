/* Rules in the reference's order and words. A rule fits when everything that it names fits:
 *
 *   users, userGroups    the client, not whom it impersonates
 *   verbs                of the API; of a path the method in small letters
 *   namespaces           resources only; "" stands for what has no namespace
 *   resources            {group, resources, resourceNames}; pods, pods/log, pods/<any>,
 * <any>/status nonResourceURLs      paths only; a star at the end stands for any rest
 *
 * The document itself is kept and walked: a policy has a few rules, each a few words, and a request
 * costs far more than comparing them. */
#include "kube-compat/audit_policy.h"

#include <stdio.h>

#include "core/object.h"

struct audit_rule {
    const json_t *rule;
    struct audit_decision decision;
};

struct audit_policy {
    json_t *document;
    struct audit_rule rules[AUDIT_RULES_MAX];
    size_t num_rules;
};

/* ---- reading ---- */

static enum errc invalid(struct error *err, const char *where, const char *field,
                         const json_t *value, const char *wanted) {
    AUTO_FREE char *text = json_dumps(value, JSON_ENCODE_ANY);
    return err_set(err, ERR_INVALID, "%s%s: %.80s: %s", where, field, text ? text : "absent",
                   wanted);
}

static enum errc check_keys(const json_t *o, const char *where, const char *const *known,
                            struct error *err) {
    const char *name;
    json_t *value;
    json_object_foreach ((json_t *)(uintptr_t)o, name, value) {
        bool found = false;
        for (size_t i = 0; known[i] && !found; i++)
            found = !strcmp(known[i], name);
        if (!found)
            return invalid(err, where, name, value, "no such field in an audit policy");
    }
    return OK;
}

static enum errc check_strings(const json_t *o, const char *where, const char *field,
                               struct error *err) {
    const json_t *list = json_object_get(o, field);
    if (!list)
        return OK;
    bool ok = json_is_array(list);
    for (size_t i = 0; i < json_array_size(list); i++)
        ok = ok && json_is_string(json_array_get(list, i));
    return ok ? OK : invalid(err, where, field, list, "expected a list of strings");
}

static enum errc read_stages(const json_t *o, const char *where, unsigned *ret_stages,
                             struct error *err) {
    static const struct {
        const char *name;
        unsigned bit;
    } stages[] = {{"RequestReceived", AUDIT_REQUEST_RECEIVED},
                  {"ResponseStarted", AUDIT_RESPONSE_STARTED},
                  {"ResponseComplete", AUDIT_RESPONSE_COMPLETE},
                  {"Panic", 0}}; /* a C program does not come to it */
    const json_t *list = json_object_get(o, "omitStages");
    if (check_strings(o, where, "omitStages", err))
        return err->code;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        bool known = false;
        for (size_t k = 0; k < ARRAY_LEN(stages); k++) {
            if (strcmp(stages[k].name, name) != 0)
                continue;
            known = true;
            *ret_stages |= stages[k].bit;
        }
        if (!known)
            return invalid(err, where, "omitStages", list,
                           "stages are RequestReceived, ResponseStarted, ResponseComplete, Panic");
    }
    return OK;
}

static enum errc read_level(const json_t *rule, const char *where, enum audit_level *ret_level,
                            struct error *err) {
    static const char *const names[] = {"None", "Metadata", "Request"};
    const json_t *value = json_object_get(rule, "level");
    const char *name = json_string_value(value);
    for (size_t i = 0; name && i < ARRAY_LEN(names); i++) {
        if (!strcmp(name, names[i])) {
            *ret_level = (enum audit_level)i;
            return OK;
        }
    }
    return invalid(err, where, "level", value,
                   name && !strcmp(name, "RequestResponse")
                       ? "answers are not written down here; use Request"
                       : "levels are None, Metadata, Request");
}

static enum errc check_resources(const json_t *rule, const char *where, struct error *err) {
    static const char *const known[] = {"group", "resources", "resourceNames", NULL};
    const json_t *list = json_object_get(rule, "resources");
    if (list && !json_is_array(list))
        return invalid(err, where, "resources", list, "expected a list");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *o = json_array_get(list, i), *group = json_object_get(o, "group");
        char inner[96];
        snprintf(inner, sizeof(inner), "%sresources[%zu].", where, i);
        if (!json_is_object(o))
            return invalid(err, inner, "", o, "expected {group, resources, resourceNames}");
        if (group && !json_is_string(group))
            return invalid(err, inner, "group", group, "expected a string");
        if (check_keys(o, inner, known, err) || check_strings(o, inner, "resources", err) ||
            check_strings(o, inner, "resourceNames", err))
            return err->code;
    }
    return OK;
}

static enum errc read_rule(const json_t *rule, size_t index, unsigned omit_stages,
                           struct audit_rule *ret_rule, struct error *err) {
    static const char *const known[] = {
        "level",      "users",           "userGroups",        "verbs", "resources", "namespaces",
        "omitStages", "nonResourceURLs", "omitManagedFields", NULL};
    static const char *const lists[] = {"users", "userGroups", "verbs", "namespaces",
                                        "nonResourceURLs"};
    char where[64];
    snprintf(where, sizeof(where), "rules[%zu].", index);
    if (!json_is_object(rule))
        return invalid(err, where, "", rule, "expected a rule");
    *ret_rule = (struct audit_rule){.rule = rule, .decision.omit_stages = omit_stages};
    if (check_keys(rule, where, known, err) ||
        read_level(rule, where, &ret_rule->decision.level, err) ||
        read_stages(rule, where, &ret_rule->decision.omit_stages, err) ||
        check_resources(rule, where, err))
        return err->code;
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        if (check_strings(rule, where, lists[i], err))
            return err->code;
    }
    bool both = json_array_size(json_object_get(rule, "nonResourceURLs")) &&
                (json_array_size(json_object_get(rule, "resources")) ||
                 json_array_size(json_object_get(rule, "namespaces")));
    if (both)
        return err_set(err, ERR_INVALID,
                       "%snonResourceURLs: not together with resources or namespaces", where);
    return OK;
}

enum errc audit_policy_create(const json_t *document, struct audit_policy **ret_p,
                              struct error *err) {
    static const char *const known[] = {
        "apiVersion", "kind", "metadata", "rules", "omitStages", "omitManagedFields", NULL};
    AUTO(audit_policy) p = mem_alloc(sizeof(*p));
    unsigned omit_stages = 0;
    const char *version = object_str(document, "apiVersion"), *kind = object_str(document, "kind");
    if (!version || strcmp(version, "audit.k8s.io/v1") != 0 || !kind || strcmp(kind, "Policy") != 0)
        return err_set(err, ERR_INVALID,
                       "not an audit policy: apiVersion %.64s, kind %.64s, "
                       "expected audit.k8s.io/v1, Policy",
                       version ? version : "absent", kind ? kind : "absent");
    if (check_keys(document, "", known, err) || read_stages(document, "", &omit_stages, err))
        return err->code;
    p->document = json_deep_copy(document);
    const json_t *rules = json_object_get(p->document, "rules");
    if (!json_is_array(rules) || !json_array_size(rules) ||
        json_array_size(rules) > AUDIT_RULES_MAX)
        return err_set(err, ERR_INVALID, "rules: expected a list of 1 to %d rules",
                       AUDIT_RULES_MAX);
    for (size_t i = 0; i < json_array_size(rules); i++) {
        if (read_rule(json_array_get(rules, i), i, omit_stages, &p->rules[i], err))
            return err->code;
        p->num_rules++;
    }
    *ret_p = steal(p);
    return OK;
}

void audit_policy_destroy(struct audit_policy *p) {
    if (!p)
        return;
    json_decref(p->document);
    free(p);
}

/* ---- deciding ---- */

static bool has(const json_t *list, const char *text) {
    for (size_t i = 0; text && i < json_array_size(list); i++) {
        if (!strcmp(json_string_value(json_array_get(list, i)), text))
            return true;
    }
    return false;
}

/* Absent and empty lists fit everything. */
static bool fits(const json_t *rule, const char *field, const char *text) {
    const json_t *list = json_object_get(rule, field);
    return !json_array_size(list) || has(list, text);
}

static bool fits_user(const json_t *rule, const struct auth_identity *who) {
    const json_t *groups = json_object_get(rule, "userGroups");
    bool member = !json_array_size(groups);
    for (uint32_t i = 0; who && i < who->num_groups && !member; i++)
        member = has(groups, who->groups[i]);
    return member && fits(rule, "users", who ? who->name : NULL);
}

/* "pods", "pods/log", "pods/<star>", "<star>/status", "<star>" */
static bool fits_pattern(const char *pattern, const struct audit_attributes *a) {
    const char *slash = strchr(pattern, '/');
    if (!strcmp(pattern, "*"))
        return true;
    if (!slash)
        return !a->subresource && !strcmp(pattern, a->resource);
    size_t len = (size_t)(slash - pattern);
    bool any = len == 1 && *pattern == '*';
    bool same = strlen(a->resource) == len && !strncmp(pattern, a->resource, len);
    if (!strcmp(slash + 1, "*"))
        return same;
    return (any || same) && a->subresource && !strcmp(slash + 1, a->subresource);
}

static bool fits_resource(const json_t *rule, const struct audit_attributes *a) {
    const json_t *list = json_object_get(rule, "resources");
    if (!fits(rule, "namespaces", a->ns ? a->ns : ""))
        return false;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *o = json_array_get(list, i), *patterns = json_object_get(o, "resources");
        const char *group = object_str(o, "group");
        if (strcmp(group ? group : "", a->group ? a->group : "") != 0)
            continue;
        if (!json_array_size(patterns))
            return true;
        for (size_t k = 0; k < json_array_size(patterns); k++) {
            if (fits(o, "resourceNames", a->name) &&
                fits_pattern(json_string_value(json_array_get(patterns, k)), a))
                return true;
        }
    }
    return !json_array_size(list);
}

static bool fits_path(const json_t *rule, const char *path) {
    const json_t *list = json_object_get(rule, "nonResourceURLs");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *pattern = json_string_value(json_array_get(list, i));
        size_t len = strlen(pattern);
        bool star = len && pattern[len - 1] == '*';
        if (star ? !strncmp(pattern, path, len - 1) : !strcmp(pattern, path))
            return true;
    }
    return !json_array_size(list);
}

static bool rule_fits(const json_t *rule, const struct audit_attributes *a) {
    bool about_resources = json_array_size(json_object_get(rule, "resources")) ||
                           json_array_size(json_object_get(rule, "namespaces"));
    bool about_paths = json_array_size(json_object_get(rule, "nonResourceURLs"));
    if (!fits_user(rule, a->who) || !fits(rule, "verbs", a->verb))
        return false;
    if (about_resources)
        return a->resource && fits_resource(rule, a);
    return !about_paths || (!a->resource && fits_path(rule, a->path));
}

struct audit_decision audit_policy_decide(const struct audit_policy *p,
                                          const struct audit_attributes *a) {
    for (size_t i = 0; i < p->num_rules; i++) {
        if (rule_fits(p->rules[i].rule, a))
            return p->rules[i].decision;
    }
    return (struct audit_decision){.level = AUDIT_NONE};
}
