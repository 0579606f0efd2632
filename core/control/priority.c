/* A pod names a class, the class has a number, and the number is written into the pod when it is
 * made: a class that changes or goes later changes nothing about pods that exist.
 * Source: kubernetes/plugin/pkg/admission/priority (behaviour, texts). */
#include "core/control/priority.h"

#include "core/object.h"

static const char POLICY_DEFAULT[] = "PreemptLowerPriority";

static bool is_default(const json_t *c) {
    return object_bool(c, "globalDefault", false);
}

/* The class that pods without one get: a reference, or NULL. Of several, the lowest. */
static struct store_object *find_default(struct store *st) {
    AUTO_STORE_LIST all = {0};
    struct store_object *found = NULL;
    store_list(st, "scheduling.k8s.io/priorityclasses/", &all);
    for (size_t i = 0; i < all.num_items; i++) {
        const json_t *c = all.items[i]->json;
        if (is_default(c) &&
            (!found || object_int(c, "value", 0) < object_int(found->json, "value", 0)))
            found = all.items[i];
    }
    return found ? store_object_ref(found) : NULL;
}

enum errc priority_assign(struct store *st, json_t *pod, struct error *err) {
    const char *name = object_str(pod, "spec.priorityClassName");
    AUTO(store_object) found = NULL;
    struct object_key key;
    if (name && *name) {
        object_key(&key, "scheduling.k8s.io", "priorityclasses", NULL, name);
        if (store_get(st, key.text, &found, err))
            return err_set(err, ERR_FORBIDDEN, "no PriorityClass with name %s was found", name);
    } else {
        found = find_default(st);
    }
    int64_t value = found ? object_int(found->json, "value", 0) : 0;
    if (object_at(pod, "spec.priority") && object_int(pod, "spec.priority", 0) != value)
        return err_set(err, ERR_FORBIDDEN,
                       "the integer value of priority (%lld) must not be provided in pod spec; "
                       "priority admission controller computed %lld from the given PriorityClass "
                       "name",
                       (long long)object_int(pod, "spec.priority", 0), (long long)value);
    const char *policy = found ? object_str(found->json, "preemptionPolicy") : NULL;
    if (found)
        object_set(pod, "spec.priorityClassName", json_string(object_name(found->json)));
    object_set(pod, "spec.priority", json_integer(value));
    if (!object_str(pod, "spec.preemptionPolicy"))
        object_set(pod, "spec.preemptionPolicy", json_string(policy ? policy : POLICY_DEFAULT));
    return OK;
}

enum errc priority_check_class(struct store *st, const json_t *priority_class, struct error *err) {
    AUTO(store_object) other = is_default(priority_class) ? find_default(st) : NULL;
    const char *name = object_name(priority_class);
    if (!other || (name && !strcmp(object_name(other->json), name)))
        return OK;
    return err_set(err, ERR_FORBIDDEN,
                   "PriorityClass %s is already marked as default. Only one default can exist",
                   object_name(other->json));
}

enum errc priority_ensure_builtin(struct world *w, struct error *err) {
    static const struct {
        const char *name, *description;
        int value;
    } classes[] = {
        {"system-cluster-critical",
         "Used for system critical pods that must run in the cluster, but can be moved to another "
         "node if necessary.",
         2000000000},
        {"system-node-critical",
         "Used for system critical pods that must not be moved from their current node.",
         2000001000},
    };
    for (size_t i = 0; i < ARRAY_LEN(classes); i++) {
        AUTO(store_object) was = world_get(w, KIND_PRIORITY_CLASS, NULL, classes[i].name);
        if (was)
            continue;
        json_t *c = json_pack("{s:{s:s}, s:i, s:s, s:s}", "metadata", "name", classes[i].name,
                              "value", classes[i].value, "description", classes[i].description,
                              "preemptionPolicy", POLICY_DEFAULT);
        if (world_create(w, KIND_PRIORITY_CLASS, c, NULL, err))
            return err->code;
    }
    return OK;
}
