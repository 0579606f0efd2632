/* Field sets: walking objects by their schema, and the algebra of the trees that come out.
 *
 * Two walks look alike and differ in what they make of containers. What a configuration applies is
 * its leaves: that it spells `spec:` to reach them does not make `spec` its own; list items and map
 * keys, which exist only because somebody names them, are. What a write changed includes every
 * container that was not there before, except those that a typed object always has. */
#include "kube-compat/field_set.h"

#include <stdlib.h>

enum set_operation { SET_UNION, SET_INTERSECTION, SET_DIFFERENCE };

enum walk_mode { WALK_NAMED, WALK_CHANGED, WALK_ADDED };

enum field_structure field_structure(const struct schema *s, const json_t *value) {
    if (s->atomic)
        return FIELD_LEAF;
    if (json_is_object(value))
        return s->type == SCHEMA_OBJECT || s->type == SCHEMA_ANY ? FIELD_MAP : FIELD_LEAF;
    if (!json_is_array(value) || s->type != SCHEMA_ARRAY)
        return FIELD_LEAF;
    return s->merge_key || s->map_keys ? FIELD_LIST : s->merge_set ? FIELD_SCALARS : FIELD_LEAF;
}

const struct schema *field_member_schema(const struct schema *s, const char *name) {
    if (s->type == SCHEMA_OBJECT && s->items)
        return s->items;
    const struct schema_property *p = s->type == SCHEMA_OBJECT ? schema_property(s, name) : NULL;
    return p ? p->schema : &schema_any;
}

/* A port's protocol is the only key that Kubernetes' own types default. */
static json_t *key_value(const json_t *item, const char *key) {
    json_t *value = json_object_get(item, key);
    if (value && !json_is_null(value))
        return json_incref(value);
    return !strcmp(key, "protocol") ? json_string("TCP") : NULL;
}

char *field_element(const struct schema *list, const json_t *item) {
    AUTO_BUF text = BUF_INIT;
    if (!list->merge_key && !list->map_keys) {
        char *value = json_dumps(item, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);
        buf_printf(&text, "v:%s", value ? value : "");
        free(value);
        return buf_steal(&text);
    }
    AUTO_FREE char *names = mem_strdup(list->map_keys ? list->map_keys : list->merge_key);
    json_t *keys = json_object();
    bool whole = json_is_object(item);
    char *rest = names;
    for (char *name; whole && (name = strsep(&rest, ","));) {
        json_t *value = key_value(item, name);
        whole = value && !json_is_object(value) && !json_is_array(value);
        if (value)
            json_object_set_new(keys, name, value);
    }
    if (whole) {
        char *shown = json_dumps(keys, JSON_COMPACT | JSON_SORT_KEYS);
        buf_printf(&text, "k:%s", shown);
        free(shown);
    }
    json_decref(keys);
    return whole ? buf_steal(&text) : NULL;
}

json_t *field_index(const struct schema *list, const json_t *items) {
    json_t *index = json_object();
    for (size_t i = 0; i < json_array_size(items); i++) {
        json_t *item = json_array_get(items, i);
        AUTO_FREE char *element = field_element(list, item);
        if (element && !json_object_get(index, element))
            json_object_set(index, element, item);
    }
    return index;
}

bool field_set_has_node(const json_t *node) {
    return node && (!json_object_size(node) || json_object_get(node, "."));
}

/* Gives the node with these children (taken), NULL when nothing is in it. */
static json_t *make_node(json_t *children, bool itself) {
    if (!json_object_size(children) && !itself) {
        json_decref(children);
        return NULL;
    }
    if (json_object_size(children) && itself)
        json_object_set_new(children, ".", json_object());
    return children;
}

static void set_child(json_t *children, const char *prefix, const char *name, json_t *child) {
    if (!child)
        return;
    AUTO_BUF key = BUF_INIT;
    buf_printf(&key, "%s%s", prefix, name);
    json_object_set_new(children, key.data, child);
}

/* True for a struct that stands in its parent by value: a typed object always has it. */
static bool always_there(const struct schema *parent, const char *name) {
    if (parent->type != SCHEMA_OBJECT || parent->items)
        return false;
    const struct schema_property *p = schema_property(parent, name);
    return p && p->proto && !p->pointer && p->schema->type == SCHEMA_OBJECT && !p->schema->items;
}

static bool declared(const struct schema *s, const char *name) {
    return s->type == SCHEMA_OBJECT && !s->items && schema_property(s, name);
}

static json_t *walk(enum walk_mode mode, const struct schema *s, const json_t *before,
                    const json_t *now, bool itself);

static json_t *walk_map(enum walk_mode mode, const struct schema *s, const json_t *before,
                        const json_t *now, bool itself) {
    json_t *children = json_object();
    const char *name;
    json_t *value;
    json_object_foreach ((json_t *)(uintptr_t)now, name, value) {
        const json_t *old = json_object_get(before, name);
        bool own = mode == WALK_NAMED ? !declared(s, name) : !old && !always_there(s, name);
        set_child(children, "f:", name, walk(mode, field_member_schema(s, name), old, value, own));
    }
    return make_node(children, itself || (!before && !json_object_size(now)));
}

static json_t *walk_items(enum walk_mode mode, const struct schema *s, const json_t *before,
                          const json_t *now, bool itself) {
    json_t *old = field_index(s, before), *items = field_index(s, now), *children = json_object();
    const char *element;
    json_t *item;
    json_object_foreach (items, element, item) {
        const json_t *was = json_object_get(old, element);
        bool own = mode == WALK_NAMED || !was;
        set_child(children, "", element, walk(mode, s->items, was, item, own));
    }
    json_decref(old);
    json_decref(items);
    return make_node(children, itself);
}

/* Gives the node of a value, or NULL. itself: whether a container belongs to the set as such. */
static json_t *walk(enum walk_mode mode, const struct schema *s, const json_t *before,
                    const json_t *now, bool itself) {
    enum field_structure structure = field_structure(s, now);
    if (structure == FIELD_LEAF) {
        bool in = !before || (mode == WALK_CHANGED && !json_equal(before, now));
        return in ? json_object() : NULL;
    }
    if (before && field_structure(s, before) != structure)
        before = NULL;
    if (structure == FIELD_MAP)
        return walk_map(mode, s, before, now, itself);
    return walk_items(mode, s, before, now, itself);
}

/* What the server keeps for itself, and what says only which object it is, belongs to nobody. */
static json_t *without_identity(json_t *set) {
    static const char *const nobodys[] = {"f:name",
                                          "f:namespace",
                                          "f:uid",
                                          "f:generation",
                                          "f:creationTimestamp",
                                          "f:resourceVersion",
                                          "f:managedFields",
                                          "f:deletionTimestamp",
                                          "f:deletionGracePeriodSeconds",
                                          "f:selfLink",
                                          "."};
    json_object_del(set, "f:apiVersion");
    json_object_del(set, "f:kind");
    json_object_del(set, ".");
    json_t *metadata = json_object_get(set, "f:metadata");
    for (size_t i = 0; i < ARRAY_LEN(nobodys); i++)
        json_object_del(metadata, nobodys[i]);
    if (metadata && !json_object_size(metadata))
        json_object_del(set, "f:metadata");
    return set;
}

static json_t *walk_object(enum walk_mode mode, const struct schema *s, const json_t *before,
                           const json_t *now) {
    json_t *set = now ? walk_map(mode, s, before, now, false) : NULL;
    return set ? without_identity(set) : json_object();
}

json_t *field_set_of(const struct schema *s, const json_t *config) {
    return walk_object(WALK_NAMED, s, NULL, config);
}

json_t *field_set_changed(const struct schema *s, const json_t *before, const json_t *after) {
    return walk_object(WALK_CHANGED, s, before, after);
}

json_t *field_set_removed(const struct schema *s, const json_t *before, const json_t *after) {
    return walk_object(WALK_ADDED, s, after, before);
}

/* Gives the combined node, or NULL; a is never NULL. */
static json_t *combine(enum set_operation operation, const json_t *a, const json_t *b) {
    bool in_a = field_set_has_node(a), in_b = field_set_has_node(b);
    bool itself = operation == SET_UNION          ? in_a || in_b
                  : operation == SET_INTERSECTION ? in_a && in_b
                                                  : in_a && !in_b;
    json_t *children = json_object();
    const char *key;
    json_t *child;
    json_object_foreach ((json_t *)(uintptr_t)a, key, child) {
        if (strcmp(key, ".") != 0)
            set_child(children, "", key, combine(operation, child, json_object_get(b, key)));
    }
    json_object_foreach ((json_t *)(uintptr_t)b, key, child) {
        if (operation == SET_UNION && strcmp(key, ".") != 0 && !json_object_get(children, key))
            json_object_set(children, key, child);
    }
    return make_node(children, itself);
}

static json_t *combine_roots(enum set_operation operation, const json_t *a, const json_t *b) {
    json_t *set = combine(operation, a, b);
    if (!set)
        return json_object();
    json_object_del(set, "."); /* the object as such is in no set */
    return set;
}

json_t *field_set_union(const json_t *a, const json_t *b) {
    return combine_roots(SET_UNION, a, b);
}

json_t *field_set_intersection(const json_t *a, const json_t *b) {
    return combine_roots(SET_INTERSECTION, a, b);
}

json_t *field_set_difference(const json_t *a, const json_t *b) {
    return combine_roots(SET_DIFFERENCE, a, b);
}

bool field_set_valid(const json_t *set) {
    if (!json_is_object(set))
        return false;
    const char *key;
    json_t *child;
    json_object_foreach ((json_t *)(uintptr_t)set, key, child) {
        bool known = !strcmp(key, ".") || !strncmp(key, "f:", 2) || !strncmp(key, "v:", 2) ||
                     !strncmp(key, "k:", 2) || !strncmp(key, "i:", 2);
        if (!known || !field_set_valid(child))
            return false;
    }
    return true;
}

/* Appends one step of a path. */
static void push_element(struct buf *path, const char *key) {
    if (!strncmp(key, "f:", 2)) {
        buf_printf(path, ".%s", key + 2);
        return;
    }
    json_t *keys = !strncmp(key, "k:", 2) ? json_loads(key + 2, 0, NULL) : NULL;
    if (!keys) {
        buf_printf(path, "[=%s]", key + 2);
        return;
    }
    const char *name;
    json_t *value;
    const char *comma = "[";
    json_object_foreach (keys, name, value) {
        AUTO_FREE char *shown = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
        buf_printf(path, "%s%s=%s", comma, name, shown ? shown : "");
        comma = ",";
    }
    buf_putc(path, ']');
    json_decref(keys);
}

static void collect_paths(const json_t *node, struct buf *path, json_t *paths) {
    const char *key;
    json_t *child;
    json_object_foreach ((json_t *)(uintptr_t)node, key, child) {
        if (!strcmp(key, "."))
            continue;
        size_t was = path->len;
        push_element(path, key);
        if (field_set_has_node(child))
            json_array_append_new(paths, json_stringn(path->data, path->len));
        collect_paths(child, path, paths);
        path->len = was;
    }
}

json_t *field_set_paths(const json_t *set) {
    json_t *paths = json_array();
    AUTO_BUF path = BUF_INIT;
    collect_paths(set, &path, paths);
    return paths;
}
