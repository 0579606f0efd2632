/* Strategic merge patch: a merge patch that knows which lists are sets of named things.
 *
 * The schema gives the merge key of a list. A patch item meets the old item with the same key;
 * other old items stay. Directives say what plain data cannot:
 *   "$patch": "replace" | "delete" | "merge"      in an object or a list item
 *   "$setElementOrder/LIST": [...]                the order of the named items
 *   "$deleteFromPrimitiveList/LIST": [...]        values to take out of a list of scalars
 *   "$retainKeys": [...]                          every other key of the object goes
 *
 * Order. A merged list has items that the patch names and items that only the server knows. The
 * first follow the patch (or $setElementOrder), the others keep their own order, and the two are
 * merged so that an item stays before another one that was behind it in the old list. */
#include "kube-compat/patch.h"

#include <stdio.h>

#define SET_ORDER      "$setElementOrder/"
#define DELETE_SCALARS "$deleteFromPrimitiveList/"

static enum errc merge_object(const struct schema *s, json_t *into, const json_t *patch,
                              struct error *err);

static enum errc bad_directive(struct error *err, const char *directive, const char *what) {
    return err_set(err, ERR_MALFORMED, "strategic merge patch: %s: %s", directive, what);
}

static const struct schema *member_schema(const struct schema *s, const char *key) {
    if (s->type != SCHEMA_OBJECT)
        return &schema_any;
    if (s->items)
        return s->items;
    const struct schema_property *p = schema_property(s, key);
    return p ? p->schema : &schema_any;
}

static bool merges(const struct schema *s) {
    return s->type == SCHEMA_ARRAY && (s->merge_key || s->merge_set);
}

/* What identifies an item: its merge key's value, or the scalar itself. */
static const json_t *identity(const struct schema *list, const json_t *item) {
    return list->merge_key ? json_object_get(item, list->merge_key) : item;
}

static size_t find_item(const struct schema *list, const json_t *items, const json_t *item) {
    const json_t *id = identity(list, item);
    for (size_t i = 0; id && i < json_array_size(items); i++) {
        const json_t *other = identity(list, json_array_get(items, i));
        if (other && json_equal(other, id))
            return i;
    }
    return SIZE_MAX;
}

static enum errc need_identity(const struct schema *list, const json_t *item, struct error *err) {
    if (!list->merge_key) {
        if (json_is_object(item) || json_is_array(item))
            return bad_directive(err, "list of scalars", "holds an object or a list");
        return OK;
    }
    if (!json_is_object(item))
        return bad_directive(err, list->merge_key, "list items must be objects");
    if (json_object_get(item, list->merge_key))
        return OK;
    char *shown = json_dumps(item, JSON_COMPACT);
    err_set(err, ERR_MALFORMED, "map: %.300s does not contain declared merge key: %s",
            shown ? shown : "?", list->merge_key);
    free(shown);
    return ERR_MALFORMED;
}

/* Gives what a value becomes where nothing was before: without directives and nulls. */
static enum errc fresh(const struct schema *s, const json_t *patch, json_t **ret_value,
                       struct error *err);

/* Gives the items of `from` that are (or are not) named in `names`. */
static json_t *partition(const struct schema *list, const json_t *from, const json_t *names,
                         bool named) {
    json_t *part = json_array();
    for (size_t i = 0; i < json_array_size(from); i++) {
        json_t *item = json_array_get(from, i);
        if ((find_item(list, names, item) != SIZE_MAX) == named)
            json_array_append(part, item);
    }
    return part;
}

/* Gives items in the order in which `order` names them; all are named. */
static json_t *sorted(const struct schema *list, const json_t *items, const json_t *order) {
    json_t *result = json_array();
    for (size_t i = 0; i < json_array_size(order); i++) {
        size_t at = find_item(list, items, json_array_get(order, i));
        if (at != SIZE_MAX && find_item(list, result, json_array_get(items, at)) == SIZE_MAX)
            json_array_append(result, json_array_get(items, at));
    }
    return result;
}

/* Takes merged; gives it in its final order: see the chapter comment. */
static json_t *arrange(const struct schema *list, json_t *merged, const json_t *patch_order,
                       const json_t *old_order) {
    json_t *named_any = partition(list, merged, patch_order, true);
    json_t *others = partition(list, merged, patch_order, false);
    json_t *named = sorted(list, named_any, patch_order);
    json_t *result = json_array();
    size_t i = 0, j = 0, num_others = json_array_size(others), num_named = json_array_size(named);
    while (i < num_others || j < num_named) {
        bool take_other = j >= num_named;
        if (i < num_others && j < num_named) {
            size_t other_at = find_item(list, old_order, json_array_get(others, i));
            size_t named_at = find_item(list, old_order, json_array_get(named, j));
            take_other = other_at != SIZE_MAX && named_at != SIZE_MAX && other_at < named_at;
        }
        json_array_append(result,
                          take_other ? json_array_get(others, i++) : json_array_get(named, j++));
    }
    json_decref(named_any);
    json_decref(others);
    json_decref(named);
    json_decref(merged);
    return result;
}

/* Splits the items of a patch list into plain ones and directives, applying the directives to
 * merged. Appends the plain ones to plain. */
static enum errc apply_item_directives(const struct schema *list, const json_t *patch,
                                       json_t *merged, json_t *plain, struct error *err) {
    bool replaces = false;
    for (size_t i = 0; i < json_array_size(patch); i++) {
        json_t *item = json_array_get(patch, i);
        const json_t *directive = json_object_get(item, "$patch");
        const char *word = json_string_value(directive);
        if (!directive || (word && !strcmp(word, "merge"))) {
            json_array_append(plain, item);
        } else if (word && !strcmp(word, "replace")) {
            replaces = true;
        } else if (word && !strcmp(word, "delete")) {
            enum errc code = need_identity(list, item, err);
            if (code)
                return code;
            for (size_t at; (at = find_item(list, merged, item)) != SIZE_MAX;)
                json_array_remove(merged, at);
        } else {
            return bad_directive(err, "$patch", "must be replace, delete or merge");
        }
    }
    if (replaces)
        json_array_clear(merged);
    return OK;
}

/* Merges a patch list into old (borrowed); gives the new list. order: $setElementOrder or NULL. */
static enum errc merge_list(const struct schema *list, const json_t *old, const json_t *patch,
                            const json_t *order, json_t **ret_list, struct error *err) {
    json_t *merged = json_copy((json_t *)(uintptr_t)old), *plain = json_array();
    enum errc code = apply_item_directives(list, patch, merged, plain, err);
    for (size_t i = 0; !code && i < json_array_size(plain); i++) {
        const json_t *item = json_array_get(plain, i);
        code = need_identity(list, item, err);
        if (code)
            break;
        size_t at = find_item(list, merged, item);
        if (at == SIZE_MAX) {
            json_t *value;
            code = fresh(list->items, item, &value, err);
            if (!code)
                json_array_append_new(merged, value);
        } else if (list->merge_key) {
            code = merge_object(list->items, json_array_get(merged, at), item, err);
        }
    }
    if (code)
        json_decref(merged);
    else
        *ret_list = arrange(list, merged, order ? order : plain, old);
    json_decref(plain);
    return code;
}

/* The named items of a patch list must stand in the order that $setElementOrder says. */
static enum errc check_order(const struct schema *list, const json_t *patch, const json_t *order,
                             const char *key, struct error *err) {
    size_t last = 0;
    for (size_t i = 0; i < json_array_size(patch); i++) {
        const json_t *item = json_array_get(patch, i);
        if (json_object_get(item, "$patch"))
            continue;
        size_t at = find_item(list, order, item);
        if (at == SIZE_MAX || at < last)
            return err_set(err, ERR_MALFORMED,
                           "strategic merge patch: the order in the patch list %s doesn't match "
                           "its " SET_ORDER " list",
                           key);
        last = at;
    }
    return OK;
}

static bool has_prefix(const char *s, const char *prefix) {
    return !strncmp(s, prefix, strlen(prefix));
}

static enum errc retain_keys(json_t *into, const json_t *patch, struct error *err) {
    const json_t *keys = json_object_get(patch, "$retainKeys");
    if (!keys)
        return OK;
    json_t *keep = json_object();
    for (size_t i = 0; i < json_array_size(keys); i++) {
        const char *name = json_string_value(json_array_get(keys, i));
        if (name)
            json_object_set_new(keep, name, json_true());
    }
    const char *key;
    void *next;
    json_t *member;
    enum errc code = json_is_array(keys) ? OK : bad_directive(err, "$retainKeys", "not a list");
    json_object_foreach ((json_t *)(uintptr_t)patch, key, member) {
        if (key[0] != '$' && !json_is_null(member) && !json_object_get(keep, key))
            code = bad_directive(err, "$retainKeys", "the patch has a key that is not retained");
    }
    json_object_foreach_safe (into, next, key, member) {
        if (!code && !json_object_get(keep, key))
            json_object_del(into, key);
    }
    json_decref(keep);
    return code;
}

/* Handles "$deleteFromPrimitiveList/LIST". */
static enum errc delete_scalars(json_t *into, const char *name, const json_t *values,
                                struct error *err) {
    if (!json_is_array(values))
        return bad_directive(err, DELETE_SCALARS, "not a list");
    const json_t *old = json_object_get(into, name);
    if (!json_is_array(old))
        return OK;
    json_t *left = json_array();
    for (size_t i = 0; i < json_array_size(old); i++) {
        json_t *value = json_array_get(old, i);
        bool gone = false;
        for (size_t j = 0; j < json_array_size(values) && !gone; j++)
            gone = json_equal(value, json_array_get(values, j));
        if (!gone)
            json_array_append(left, value);
    }
    json_object_set_new(into, name, left);
    return OK;
}

/* Handles "$setElementOrder/LIST" together with LIST, if the patch has it. */
static enum errc set_order(const struct schema *s, json_t *into, const char *name,
                           const json_t *order, const json_t *patch, struct error *err) {
    const struct schema *list = member_schema(s, name);
    const json_t *old = json_object_get(into, name), *items = json_object_get(patch, name);
    if (!json_is_array(order))
        return bad_directive(err, SET_ORDER, "not a list");
    if (!merges(list))
        return bad_directive(err, SET_ORDER, "the list has no merge key");
    json_t *empty = json_array(), *result = NULL;
    enum errc code = OK;
    for (size_t i = 0; !code && i < json_array_size(order); i++)
        code = need_identity(list, json_array_get(order, i), err);
    if (!code)
        code = check_order(list, items, order, name, err);
    if (!code && (json_is_array(old) || json_is_array(items)))
        code = merge_list(list, json_is_array(old) ? old : empty,
                          json_is_array(items) ? items : empty, order, &result, err);
    if (result)
        json_object_set_new(into, name, result);
    json_decref(empty);
    return code;
}

static enum errc merge_member(const struct schema *s, json_t *into, const char *key,
                              const json_t *value, struct error *err) {
    if (json_is_null(value)) {
        json_object_del(into, key);
        return OK;
    }
    json_t *old = json_object_get(into, key), *result = NULL;
    enum errc code = OK;
    if (json_is_object(value) && json_is_object(old))
        return merge_object(s, old, value, err);
    if (json_is_array(value) && json_is_array(old) && merges(s)) {
        code = merge_list(s, old, value, NULL, &result, err);
    } else {
        code = fresh(s, value, &result, err);
    }
    if (!code)
        json_object_set_new(into, key, result);
    return code;
}

static enum errc merge_object(const struct schema *s, json_t *into, const json_t *patch,
                              struct error *err) {
    const json_t *directive = json_object_get(patch, "$patch");
    const char *word = json_string_value(directive);
    if (directive) {
        if (!word || (strcmp(word, "replace") != 0 && strcmp(word, "delete") != 0 &&
                      strcmp(word, "merge") != 0))
            return bad_directive(err, "$patch", "must be replace, delete or merge");
        if (strcmp(word, "merge") != 0)
            json_object_clear(into);
        if (!strcmp(word, "delete"))
            return OK;
    }
    enum errc code = retain_keys(into, patch, err);
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)(uintptr_t)patch, key, value) {
        if (!code && has_prefix(key, DELETE_SCALARS))
            code = delete_scalars(into, key + strlen(DELETE_SCALARS), value, err);
    }
    json_object_foreach ((json_t *)(uintptr_t)patch, key, value) {
        if (code || !strcmp(key, "$patch") || !strcmp(key, "$retainKeys") ||
            has_prefix(key, DELETE_SCALARS))
            continue;
        if (has_prefix(key, SET_ORDER)) {
            code = set_order(s, into, key + strlen(SET_ORDER), value, patch, err);
            continue;
        }
        char order_key[256];
        snprintf(order_key, sizeof(order_key), SET_ORDER "%.200s", key);
        if (json_object_get(patch, order_key) && !json_is_null(value))
            continue; /* merged with its order */
        code = merge_member(member_schema(s, key), into, key, value, err);
    }
    return code;
}

static enum errc fresh(const struct schema *s, const json_t *patch, json_t **ret_value,
                       struct error *err) {
    json_t *result;
    enum errc code = OK;
    if (json_is_object(patch)) {
        result = json_object();
        code = merge_object(s, result, patch, err);
    } else if (json_is_array(patch) && merges(s)) {
        json_t *empty = json_array();
        code = merge_list(s, empty, patch, NULL, &result, err);
        json_decref(empty);
        if (code)
            return code;
    } else {
        result = json_deep_copy(patch);
    }
    if (code)
        json_decref(result);
    else
        *ret_value = result;
    return code;
}

enum errc patch_strategic(const struct schema *schema, const json_t *doc, const json_t *patch,
                          json_t **ret_doc, struct error *err) {
    if (!json_is_object(patch))
        return err_set(err, ERR_MALFORMED, "a strategic merge patch is an object");
    json_t *result = json_deep_copy(doc);
    enum errc code = merge_object(schema, result, patch, err);
    if (code)
        json_decref(result);
    else
        *ret_doc = result;
    return code;
}
