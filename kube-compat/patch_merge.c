/* Merge patch: objects merge, null deletes, everything else replaces. RFC 7386. */
#include "kube-compat/patch.h"

json_t *patch_merge(const json_t *doc, const json_t *patch) {
    if (!json_is_object(patch))
        return json_deep_copy(patch);
    json_t *result = json_is_object(doc) ? json_copy((json_t *)(uintptr_t)doc) : json_object();
    const char *key;
    json_t *member;
    json_object_foreach ((json_t *)(uintptr_t)patch, key, member) {
        if (json_is_null(member))
            json_object_del(result, key);
        else
            json_object_set_new(result, key, patch_merge(json_object_get(doc, key), member));
    }
    /* Untouched members are still those of doc: the result must be the caller's alone. */
    json_object_foreach (result, key, member) {
        if (member == json_object_get(doc, key))
            json_object_set_new(result, key, json_deep_copy(member));
    }
    return result;
}
