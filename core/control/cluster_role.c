/* The rules of an aggregated role are, selector by selector and in order of the roles' names, every
 * rule of the roles selected, each once; whatever else stood there goes. A role may select another
 * aggregated one (admin selects edit, edit selects view): each change of a ClusterRole looks at all
 * aggregated ones again, until nothing changes. Two that select each other settle, too: rules are
 * only ever collected, and equal ones are not collected twice. */
#include "core/control/cluster_role.h"

#include "core/control/labels.h"

/* A selector that asks for nothing takes all. */
static bool selects(const json_t *selector, const json_t *role) {
    if (!json_object_size(json_object_get(selector, "matchLabels")) &&
        !json_array_size(json_object_get(selector, "matchExpressions")))
        return json_is_object(selector);
    return labels_selector_match(selector, object_at(role, "metadata.labels"));
}

/* Gives the rules that the role should have. */
static json_t *collect(struct world *w, const json_t *role) {
    AUTO_STORE_LIST all = {0};
    json_t *rules = json_array(), *selector;
    size_t i;
    world_list(w, KIND_CLUSTER_ROLE, NULL, &all); /* in order of their names */
    json_array_foreach (object_at(role, "aggregationRule.clusterRoleSelectors"), i, selector) {
        for (size_t j = 0; j < all.num_items; j++) {
            const json_t *other = all.items[j]->json;
            if (strcmp(object_name(other), object_name(role)) != 0 && selects(selector, other))
                object_add_missing(rules, json_object_get(other, "rules"));
        }
    }
    return rules;
}

enum errc cluster_role_reconcile(struct world *w, const char *ns, const char *name,
                                 struct error *err) {
    AUTO(store_object) role = world_get(w, KIND_CLUSTER_ROLE, NULL, name);
    if (!role || object_deleting(role->json) ||
        !json_is_object(json_object_get(role->json, "aggregationRule")))
        return OK;
    json_t *rules = collect(w, role->json), *was = json_object_get(role->json, "rules");
    if (json_array_size(rules) == json_array_size(was) &&
        (!json_array_size(rules) || json_equal(rules, was))) {
        json_decref(rules);
        return OK;
    }
    json_t *changed = json_deep_copy(role->json);
    json_object_set(changed, "rules", rules);
    json_decref(rules);
    return world_update(w, role, changed, NULL, err);
}

void cluster_role_changed(struct world *w) {
    AUTO_STORE_LIST all = {0};
    world_list(w, KIND_CLUSTER_ROLE, NULL, &all);
    for (size_t i = 0; i < all.num_items; i++) {
        const json_t *role = all.items[i]->json;
        if (json_object_get(role, "aggregationRule"))
            world_enqueue(w, KIND_CLUSTER_ROLE, NULL, object_name(role));
    }
}
