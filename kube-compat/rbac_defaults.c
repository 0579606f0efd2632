/* Whoever deletes or cuts down a default role may lock everybody out of something; a restart heals
 * it. What a site adds is its own business and stays. So the comparison is one of coverage, not of
 * equality: only the rights that the role no longer gives are put back.
 *
 * The rules of aggregated roles are not looked at here: core/control/cluster_role.c keeps them. */
#include "kube-compat/rbac_defaults.h"

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/yaml.h"
#include "core/object.h"
#include "kube-compat/rbac_rules.h"
#include "kube-compat/validate_rbac.h"

extern const char rbac_defaults_yaml_start[], rbac_defaults_yaml_end[];

#define AUTOUPDATE    "rbac.authorization.kubernetes.io/autoupdate"
#define BOOTSTRAPPING "kubernetes.io/bootstrapping"

static json_t *ensure_object(json_t *o, const char *key) {
    if (!json_is_object(json_object_get(o, key)))
        json_object_set_new(o, key, json_object());
    return json_object_get(o, key);
}

static json_t *ensure_array(json_t *o, const char *key) {
    if (!json_is_array(json_object_get(o, key)))
        json_object_set_new(o, key, json_array());
    return json_object_get(o, key);
}

/* What every default object has beside what the document says. */
static void complete(json_t *o) {
    json_t *metadata = json_object_get(o, "metadata");
    json_object_set_new(o, "apiVersion", json_string(RBAC_GROUP "/v1"));
    json_object_set_new(ensure_object(metadata, "labels"), BOOTSTRAPPING,
                        json_string("rbac-defaults"));
    json_object_set_new(ensure_object(metadata, "annotations"), AUTOUPDATE, json_string("true"));
    defaults_rbac(o);
}

static void add_missing_rules(json_t *o, const json_t *want) {
    AUTO(arena) arena = arena_create();
    struct rbac_rules held, wanted, missing;
    rbac_rules_read(arena, json_object_get(o, "rules"), &held);
    rbac_rules_read(arena, json_object_get(want, "rules"), &wanted);
    rbac_rules_missing(arena, &held, &wanted, &missing);
    json_t *rules = missing.num ? ensure_array(o, "rules") : NULL;
    for (size_t i = 0; i < missing.num; i++)
        json_array_append_new(rules, rbac_rule_json(&missing.items[i]));
}

static bool same_role_ref(const json_t *a, const json_t *b) {
    static const char *const paths[] = {"roleRef.kind", "roleRef.name"};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        const char *x = object_str(a, paths[i]), *y = object_str(b, paths[i]);
        if (!x || !y || strcmp(x, y) != 0)
            return false;
    }
    return true;
}

/* Gives what should stand in place of `have`. */
static json_t *healed(const json_t *have, const json_t *want) {
    if (json_object_get(want, "roleRef") && !same_role_ref(have, want))
        return NULL;
    json_t *o = json_deep_copy(have), *metadata = json_object_get(o, "metadata");
    static const char *const maps[] = {"labels", "annotations"};
    for (size_t i = 0; i < ARRAY_LEN(maps); i++)
        json_object_update(ensure_object(metadata, maps[i]),
                           json_object_get(json_object_get(want, "metadata"), maps[i]));
    const json_t *selectors = object_at(want, "aggregationRule.clusterRoleSelectors");
    if (selectors)
        object_add_missing(
            ensure_array(ensure_object(o, "aggregationRule"), "clusterRoleSelectors"), selectors);
    else
        add_missing_rules(o, want);
    if (json_object_get(want, "subjects"))
        object_add_missing(ensure_array(o, "subjects"), json_object_get(want, "subjects"));
    return o;
}

/* What one object needs; `want` is complete. False: nothing. key must outlive the write. */
static bool plan(struct store *store, const json_t *want, struct object_key *key,
                 struct store_write *ret_write) {
    const char *kind = object_str(want, "kind");
    const char *plural = !strcmp(kind, "ClusterRole") ? "clusterroles" : "clusterrolebindings";
    object_key(key, RBAC_GROUP, plural, NULL, object_name(want));
    AUTO(store_object) have = NULL;
    struct error none = ERROR_INIT;
    bool there = !store_get(store, key->text, &have, &none);
    const char *autoupdate = there ? object_annotation(have->json, AUTOUPDATE) : NULL;
    if (autoupdate && !strcmp(autoupdate, "false"))
        return false;
    json_t *o = there ? healed(have->json, want) : NULL;
    if (!o) {
        o = json_deep_copy(want);
        object_stamp_new(o, false, clock_wall_ms());
    }
    if (there && json_equal(o, have->json)) {
        json_decref(o);
        return false;
    }
    if (there)
        log_info("default RBAC object restored", "kind=%s name=%s", kind, object_name(want));
    *ret_write = (struct store_write){
        .key = key->text,
        .object = o,
        .expect_revision = there ? have->revision : STORE_EXPECT_ABSENT,
    };
    return true;
}

enum errc rbac_defaults_reconcile(struct store *store, struct error *err) {
    json_t *docs;
    enum errc code =
        yaml_parse_all(rbac_defaults_yaml_start,
                       (size_t)(rbac_defaults_yaml_end - rbac_defaults_yaml_start), &docs, err);
    if (code)
        return err_wrap(err, "default RBAC objects");
    size_t i, num_docs = json_array_size(docs), num_writes = 0;
    AUTO_FREE struct object_key *keys = mem_array(num_docs, sizeof(*keys));
    AUTO_FREE struct store_write *writes = mem_array(num_docs, sizeof(*writes));
    json_t *want;
    json_array_foreach (docs, i, want) {
        complete(want);
        num_writes += plan(store, want, &keys[i], &writes[num_writes]);
    }
    json_decref(docs);
    if (num_writes) /* one wait for the disk */
        code = store_commit(store, writes, num_writes, NULL, err);
    return code ? err_wrap(err, "default RBAC objects") : OK;
}
