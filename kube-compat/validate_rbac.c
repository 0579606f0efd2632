/* Defaults and rules of roles and bindings, in the reference server's words. */
#include "kube-compat/validate_rbac.h"

#include <stdio.h>

#include "core/object.h"
#include "kube-compat/names.h"
#include "kube-compat/rbac_rules.h"

enum { PATH_BYTES_MAX = 128, FIELD_BYTES_MAX = 160 };

bool validate_is_rbac(const struct kind *kind) {
    return kind->built_in && !strcmp(kind->group, RBAC_GROUP);
}

static bool is_empty(const char *text) {
    return !text || !*text;
}

static void default_text(json_t *o, const char *key, const char *value) {
    if (json_is_object(o) && is_empty(object_str(o, key)))
        json_object_set_new(o, key, json_string(value));
}

void defaults_rbac(json_t *object) {
    default_text(json_object_get(object, "roleRef"), "apiGroup", RBAC_GROUP);
    json_t *subjects = json_object_get(object, "subjects");
    for (size_t i = 0; i < json_array_size(subjects); i++) {
        json_t *s = json_array_get(subjects, i);
        const char *kind = object_str(s, "kind");
        if (kind && (!strcmp(kind, "User") || !strcmp(kind, "Group")))
            default_text(s, "apiGroup", RBAC_GROUP);
        else if (json_is_object(s) && is_empty(object_str(s, "apiGroup")))
            json_object_del(s, "apiGroup");
    }
}

/* The schema has found it missing already, without saying more. */
static void required(json_t *causes, const char *field, const char *why) {
    size_t i;
    json_t *cause;
    json_array_foreach (causes, i, cause) {
        const char *have = object_str(cause, "field"), *reason = object_str(cause, "reason");
        if (!have || !reason || strcmp(have, field) != 0 || strcmp(reason, CAUSE_REQUIRED) != 0)
            continue;
        if (why)
            json_object_set_new(cause, "message", json_sprintf("Required value: %s", why));
        return;
    }
    cause_add(causes, CAUSE_REQUIRED, field, "Required value%s%s", why ? ": " : "", why ? why : "");
}

/* []string{"a", "b"} */
static void put_words(const json_t *list, struct buf *out) {
    buf_puts(out, "[]string{");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *word = json_string_value(json_array_get(list, i));
        buf_printf(out, "%s\"%s\"", i ? ", " : "", word ? word : "");
    }
    buf_putc(out, '}');
}

static void check_rule(const json_t *rule, bool namespaced, const char *path, json_t *causes) {
    char field[FIELD_BYTES_MAX];
    const json_t *paths = json_object_get(rule, "nonResourceURLs");
    snprintf(field, sizeof(field), "%s.verbs", path);
    if (!json_array_size(json_object_get(rule, "verbs")))
        required(causes, field, "verbs must contain at least one value");
    if (json_array_size(paths)) {
        AUTO_BUF shown = BUF_INIT;
        put_words(paths, &shown);
        snprintf(field, sizeof(field), "%s.nonResourceURLs", path);
        if (namespaced)
            cause_add(causes, CAUSE_INVALID, field,
                      "Invalid value: %s: namespaced rules cannot apply to non-resource URLs",
                      shown.data);
        if (json_array_size(json_object_get(rule, "apiGroups")) ||
            json_array_size(json_object_get(rule, "resources")) ||
            json_array_size(json_object_get(rule, "resourceNames")))
            cause_add(causes, CAUSE_INVALID, field,
                      "Invalid value: %s: rules cannot apply to both regular resources and "
                      "non-resource URLs",
                      shown.data);
        return;
    }
    snprintf(field, sizeof(field), "%s.apiGroups", path);
    if (!json_array_size(json_object_get(rule, "apiGroups")))
        required(causes, field, "resource rules must supply at least one api group");
    snprintf(field, sizeof(field), "%s.resources", path);
    if (!json_array_size(json_object_get(rule, "resources")))
        required(causes, field, "resource rules must supply at least one resource");
}

/* One requirement of a selector. */
static void check_expression(const json_t *e, const char *path, json_t *causes) {
    char field[FIELD_BYTES_MAX];
    const char *key = object_str(e, "key"), *op = object_str(e, "operator");
    bool none = op && (!strcmp(op, "Exists") || !strcmp(op, "DoesNotExist"));
    size_t num = json_array_size(json_object_get(e, "values"));
    snprintf(field, sizeof(field), "%s.values", path);
    if (op && (!strcmp(op, "In") || !strcmp(op, "NotIn"))) {
        if (!num)
            required(causes, field, "must be specified when `operator` is 'In' or 'NotIn'");
    } else if (none) {
        if (num)
            cause_add(causes, CAUSE_FORBIDDEN, field,
                      "Forbidden: may not be specified when `operator` is 'Exists' or "
                      "'DoesNotExist'");
    } else {
        snprintf(field, sizeof(field), "%s.operator", path);
        cause_add(causes, CAUSE_INVALID, field,
                  "Invalid value: \"%.64s\": not a valid selector operator", op ? op : "");
    }
    snprintf(field, sizeof(field), "%s.key", path);
    if (key && !name_is_qualified(key))
        cause_add(causes, CAUSE_INVALID, field, "Invalid value: \"%.253s\": %s", key,
                  name_qualified_rule);
}

static void check_aggregation(const json_t *aggregation, json_t *causes) {
    const json_t *selectors = json_object_get(aggregation, "clusterRoleSelectors");
    if (!json_is_object(aggregation))
        return;
    if (!json_array_size(selectors))
        required(causes, "aggregationRule.clusterRoleSelectors",
                 "at least one clusterRoleSelector required if aggregationRule is non-nil");
    for (size_t i = 0; i < json_array_size(selectors); i++) {
        const json_t *list = json_object_get(json_array_get(selectors, i), "matchExpressions");
        for (size_t j = 0; j < json_array_size(list); j++) {
            char path[PATH_BYTES_MAX];
            snprintf(path, sizeof(path),
                     "aggregationRule.clusterRoleSelectors[%zu].matchExpressions[%zu]", i, j);
            check_expression(json_array_get(list, j), path, causes);
        }
    }
}

static void check_group(const json_t *o, const char *field, const char *want, json_t *causes) {
    const char *group = object_str(o, "apiGroup");
    if (strcmp(group ? group : "", want) != 0)
        cause_add(causes, CAUSE_NOT_SUPPORTED, field,
                  "Unsupported value: \"%.253s\": supported values: \"%s\"", group ? group : "",
                  want);
}

static void check_role_ref(const json_t *ref, bool namespaced, json_t *causes) {
    const char *kind = object_str(ref, "kind"), *name = object_str(ref, "name");
    if (!json_is_object(ref))
        return; /* the schema asks for it */
    check_group(ref, "roleRef.apiGroup", RBAC_GROUP, causes);
    bool role = kind && !strcmp(kind, "Role"), cluster = kind && !strcmp(kind, "ClusterRole");
    if (kind && !cluster && !(role && namespaced))
        cause_add(causes, CAUSE_NOT_SUPPORTED, "roleRef.kind",
                  "Unsupported value: \"%.253s\": supported values: %s\"ClusterRole\"", kind,
                  namespaced ? "\"Role\", " : "");
    if (is_empty(name))
        required(causes, "roleRef.name", NULL);
    else if (!name_is_path_segment(name))
        cause_add(causes, CAUSE_INVALID, "roleRef.name", "Invalid value: \"%.253s\": %s", name,
                  name_path_segment_rule);
}

static void check_account(const json_t *s, bool namespaced, const char *path, json_t *causes) {
    char field[FIELD_BYTES_MAX];
    const char *name = object_str(s, "name");
    snprintf(field, sizeof(field), "%s.name", path);
    if (!is_empty(name) && !name_is_dns1123_subdomain(name))
        cause_add(causes, CAUSE_INVALID, field, "Invalid value: \"%.253s\": %s", name,
                  name_dns1123_subdomain_rule);
    snprintf(field, sizeof(field), "%s.apiGroup", path);
    check_group(s, field, "", causes);
    snprintf(field, sizeof(field), "%s.namespace", path);
    if (!namespaced && is_empty(object_str(s, "namespace")))
        required(causes, field, NULL);
}

static void check_subject(const json_t *s, bool namespaced, const char *path, json_t *causes) {
    char field[FIELD_BYTES_MAX];
    const char *kind = object_str(s, "kind");
    snprintf(field, sizeof(field), "%s.name", path);
    if (is_empty(object_str(s, "name")))
        required(causes, field, NULL);
    if (kind && !strcmp(kind, "ServiceAccount")) {
        check_account(s, namespaced, path, causes);
    } else if (kind && (!strcmp(kind, "User") || !strcmp(kind, "Group"))) {
        snprintf(field, sizeof(field), "%s.apiGroup", path);
        check_group(s, field, RBAC_GROUP, causes);
    } else if (kind) {
        snprintf(field, sizeof(field), "%s.kind", path);
        cause_add(causes, CAUSE_NOT_SUPPORTED, field,
                  "Unsupported value: \"%.253s\": supported values: \"ServiceAccount\", \"User\", "
                  "\"Group\"",
                  kind);
    }
}

void validate_rbac(const struct kind *kind, const json_t *object, json_t *causes) {
    char path[PATH_BYTES_MAX];
    if (strstr(kind->plural, "bindings")) {
        check_role_ref(json_object_get(object, "roleRef"), kind->namespaced, causes);
        const json_t *subjects = json_object_get(object, "subjects");
        for (size_t i = 0; i < json_array_size(subjects); i++) {
            snprintf(path, sizeof(path), "subjects[%zu]", i);
            check_subject(json_array_get(subjects, i), kind->namespaced, path, causes);
        }
        return;
    }
    const json_t *rules = json_object_get(object, "rules");
    for (size_t i = 0; i < json_array_size(rules); i++) {
        snprintf(path, sizeof(path), "rules[%zu]", i);
        check_rule(json_array_get(rules, i), kind->namespaced, path, causes);
    }
    check_aggregation(json_object_get(object, "aggregationRule"), causes);
}

void validate_rbac_update(const struct kind *kind, const json_t *object, const json_t *old,
                          json_t *causes) {
    const json_t *now = json_object_get(object, "roleRef"), *was = json_object_get(old, "roleRef");
    if (!strstr(kind->plural, "bindings") || !now || (was && json_equal(now, was)))
        return;
    static const char *const keys[] = {"apiGroup", "kind", "name"};
    const char *values[ARRAY_LEN(keys)];
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        values[i] = object_str(now, keys[i]) ? object_str(now, keys[i]) : "";
    cause_add(causes, CAUSE_INVALID, "roleRef",
              "Invalid value: rbac.RoleRef{APIGroup:\"%.253s\", Kind:\"%.64s\", Name:\"%.253s\"}: "
              "cannot change roleRef",
              values[0], values[1], values[2]);
}
