/* A set of fields is a tree of JSON objects: {"f:spec": {"f:replicas": {}}}; see
 * kube-compat/field_set.h. Here only paths of fields are followed, which is all that controllers
 * write where users do. */
#include "core/owners.h"

#include <stdio.h>

#include "core/base/clock.h"
#include "core/object.h"

static const char record[] = "metadata.managedFields";

/* "f:" and the path's first part; *ret_rest is what follows, or NULL. */
static void first_key(const char *path, char ret_key[OBJECT_PATH_BYTES_MAX],
                      const char **ret_rest) {
    size_t len = strcspn(path, ".");
    snprintf(ret_key, OBJECT_PATH_BYTES_MAX, "f:%.*s", (int)len, path);
    *ret_rest = path[len] ? path + len + 1 : NULL;
}

/* Takes the path out of a set, and nodes that are empty then. */
static void forget(json_t *set, const char *path) {
    char key[OBJECT_PATH_BYTES_MAX];
    const char *rest;
    first_key(path, key, &rest);
    json_t *inner = json_object_get(set, key);
    if (!inner)
        return;
    if (rest && json_object_size(inner)) {
        forget(inner, rest);
        if (json_object_size(inner))
            return;
    } else if (rest) {
        return; /* the whole of it is one leaf: no part can go */
    }
    json_object_del(set, key);
}

static void add(json_t *set, const char *path) {
    char key[OBJECT_PATH_BYTES_MAX];
    for (const char *rest = path; rest;) {
        first_key(rest, key, &rest);
        json_t *inner = json_object_get(set, key);
        if (!inner)
            json_object_set_new(set, key, inner = json_object());
        set = inner;
    }
}

static bool is_own(const json_t *entry, const struct owner *owner) {
    const char *manager = object_str(entry, "manager"), *sub = object_str(entry, "subresource");
    const char *operation = object_str(entry, "operation");
    return manager && operation && !strcmp(manager, owner->manager) &&
           !strcmp(operation, "Update") &&
           !strcmp(sub ? sub : "", owner->subresource ? owner->subresource : "");
}

void owners_take(json_t *object, const char *path, const struct owner *owner) {
    const char *text = object_str(object, record);
    json_t *entries = text ? json_loads(text, 0, NULL) : NULL, *own = NULL;
    if (!json_is_array(entries)) {
        json_decref(entries);
        return;
    }
    for (size_t i = json_array_size(entries); i-- > 0;) {
        json_t *entry = json_array_get(entries, i), *set = json_object_get(entry, "fieldsV1");
        if (is_own(entry, owner)) {
            own = entry;
            continue;
        }
        forget(set, path);
        if (!json_object_size(set))
            json_array_remove(entries, i);
    }
    if (!own) {
        own = json_pack("{s:s, s:s, s:s, s:{}}", "manager", owner->manager, "operation", "Update",
                        "fieldsType", "FieldsV1", "fieldsV1");
        if (owner->subresource)
            json_object_set_new(own, "subresource", json_string(owner->subresource));
        json_array_append_new(entries, own);
    }
    char time[CLOCK_RFC3339_BYTES];
    json_object_set_new(own, "apiVersion", json_string(owner->api_version));
    json_object_set_new(own, "time", json_string(clock_rfc3339(owner->wall_ms, time)));
    add(json_object_get(own, "fieldsV1"), path);
    char *stored = json_dumps(entries, JSON_COMPACT | JSON_SORT_KEYS);
    object_set(object, record, json_string(stored));
    free(stored);
    json_decref(entries);
}
