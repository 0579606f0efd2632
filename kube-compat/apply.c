/* Server-side apply. See apply.h and field_set.h.
 *
 * Steps: merge the configuration over the live object; drop what the applier has stopped to name
 * and nobody else owns; compare with the live object. Whoever owns a field whose value changes is
 * in conflict: refused, or with `force` relieved of the field. A field that is set to the value
 * which it has already changes nothing, so both own it.
 *
 * An object of which nothing is recorded, because it was made inside or before there were records,
 * is first given whole to "before-first-apply": else the first applier would own all that it did
 * not name either.
 *
 * kubectl's own history is honoured: when manager "kubectl" meets a conflict on a field that has
 * the value of the last-applied annotation, it is the same user's earlier `kubectl apply`, and no
 * conflict; and the annotation of an object that has one is kept up to date, so that client-side
 * apply goes on working. */
#include "kube-compat/apply.h"

#include <stdlib.h>

#include "core/object.h"
#include "kube-compat/field_set.h"

#define LAST_APPLIED "kubectl.kubernetes.io/last-applied-configuration"

static json_t *merge(const struct schema *s, json_t *live, json_t *config);

static json_t *merge_map(const struct schema *s, json_t *live, json_t *config) {
    json_t *merged = json_copy(live);
    const char *name;
    json_t *value;
    json_object_foreach (config, name, value) {
        json_object_set_new(
            merged, name, merge(field_member_schema(s, name), json_object_get(live, name), value));
    }
    return merged;
}

/* Appends the configuration's items up to and including `last` (NULL: all), each merged. */
static void append_until(const struct schema *s, json_t *merged, json_t *configured,
                         json_t *live_index, const char *last) {
    const char *element;
    void *next;
    json_t *item;
    json_object_foreach_safe (configured, next, element, item) {
        bool stop = last && !strcmp(element, last);
        json_array_append_new(merged, merge(s->items, json_object_get(live_index, element), item));
        json_object_del(configured, element);
        if (stop)
            break;
    }
}

/* The configuration's items stand in its order; the others keep their places before and after the
 * items that both lists have. */
static json_t *merge_items(const struct schema *s, json_t *live, json_t *config) {
    json_t *merged = json_array(), *configured = field_index(s, config);
    json_t *live_index = field_index(s, live), *named = json_copy(configured);
    size_t i;
    json_t *item;
    json_array_foreach (live, i, item) {
        AUTO_FREE char *element = field_element(s, item);
        if (!element || !json_object_get(named, element))
            json_array_append(merged, item);
        else if (json_object_get(configured, element))
            append_until(s, merged, configured, live_index, element);
    }
    append_until(s, merged, configured, live_index, NULL);
    json_decref(named);
    json_decref(live_index);
    json_decref(configured);
    return merged;
}

static json_t *merge(const struct schema *s, json_t *live, json_t *config) {
    enum field_structure structure = field_structure(s, config);
    if (!live || structure == FIELD_LEAF || field_structure(s, live) != structure)
        return json_incref(config);
    if (structure == FIELD_MAP)
        return merge_map(s, live, config);
    return merge_items(s, live, config);
}

json_t *apply_merge(const struct schema *s, const json_t *live, const json_t *config) {
    json_t *shared = merge(s, (json_t *)(uintptr_t)live, (json_t *)(uintptr_t)config);
    json_t *merged = json_deep_copy(shared);
    json_decref(shared);
    return merged;
}

static bool emptied(const json_t *value) {
    return (json_is_object(value) && !json_object_size(value)) ||
           (json_is_array(value) && !json_array_size(value));
}

static void prune(const struct schema *s, json_t *value, const json_t *last, const json_t *keep,
                  bool is_root);

static void prune_map(const struct schema *s, json_t *value, const json_t *last, const json_t *keep,
                      bool is_root) {
    const char *key;
    json_t *node;
    json_object_foreach ((json_t *)(uintptr_t)last, key, node) {
        const char *name = key + 2;
        json_t *member = strncmp(key, "f:", 2) != 0 ? NULL : json_object_get(value, name);
        if (!member)
            continue;
        const json_t *kept = json_object_get(keep, key);
        bool is_metadata = is_root && !strcmp(name, "metadata");
        bool declared = s->type == SCHEMA_OBJECT && !s->items;
        /* A struct goes with the last of its fields that anybody owned: defaults that stand in it
         * beside an absent choice would make no sense. */
        if (!kept && !is_metadata && (declared || field_set_has_node(node))) {
            json_object_del(value, name);
            continue;
        }
        bool was_empty = emptied(member);
        prune(field_member_schema(s, name), member, node, kept, false);
        if (emptied(member) && !was_empty && !is_metadata)
            json_object_del(value, name);
    }
}

static void prune(const struct schema *s, json_t *value, const json_t *last, const json_t *keep,
                  bool is_root) {
    enum field_structure structure = field_structure(s, value);
    if (structure == FIELD_MAP)
        prune_map(s, value, last, keep, is_root);
    if (structure != FIELD_LIST && structure != FIELD_SCALARS)
        return;
    for (size_t i = json_array_size(value); i-- > 0;) {
        AUTO_FREE char *element = field_element(s, json_array_get(value, i));
        const json_t *node = element ? json_object_get(last, element) : NULL;
        const json_t *kept = node ? json_object_get(keep, element) : NULL;
        if (node && !kept && field_set_has_node(node))
            json_array_remove(value, i);
        else if (node)
            prune(s->items, json_array_get(value, i), node, kept, false);
    }
}

void apply_prune(const struct schema *s, json_t *object, const json_t *last, const json_t *keep) {
    prune(s, object, last, keep, true);
}

/* Every item of an associative list needs its keys, once. */
static void check_lists(const struct schema *s, const json_t *value, struct buf *path,
                        json_t *causes) {
    enum field_structure structure = field_structure(s, value);
    if (structure == FIELD_LEAF)
        return;
    size_t was = path->len;
    if (structure == FIELD_MAP) {
        const char *name;
        json_t *member;
        json_object_foreach ((json_t *)(uintptr_t)value, name, member) {
            buf_printf(path, "%s%s", was ? "." : "", name);
            check_lists(field_member_schema(s, name), member, path, causes);
            path->len = was;
        }
        return;
    }
    json_t *seen = json_object();
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *item = json_array_get(value, i);
        AUTO_FREE char *element = field_element(s, item);
        buf_printf(path, "[%zu]", i);
        if (!element)
            cause_add(causes, CAUSE_REQUIRED, path->data,
                      "Required value: an item of this list is identified by %s",
                      s->map_keys ? s->map_keys : s->merge_key);
        else if (json_object_get(seen, element))
            cause_add(causes, CAUSE_DUPLICATE, path->data, "Duplicate value: %.200s", element + 2);
        else
            json_object_set_new(seen, element, json_true());
        check_lists(s->items, item, path, causes);
        path->len = was;
    }
    json_decref(seen);
}

/* The fields of live that have the value of the last-applied annotation: empty without one. */
static json_t *last_applied_fields(const struct apply_request *rq) {
    const char *text = rq->live ? object_annotation(rq->live, LAST_APPLIED) : NULL;
    json_t *applied = text ? json_loads(text, 0, NULL) : NULL;
    if (!json_is_object(applied)) {
        json_decref(applied);
        return json_object();
    }
    schema_prune(rq->schema, applied, false);
    json_t *all = field_set_of(rq->schema, applied);
    json_t *merged = apply_merge(rq->schema, rq->live, applied);
    json_t *differ = field_set_changed(rq->schema, rq->live, merged);
    json_t *same = field_set_difference(all, differ);
    json_decref(differ);
    json_decref(merged);
    json_decref(all);
    json_decref(applied);
    return same;
}

static void print_owner(struct buf *out, const json_t *entry) {
    const char *manager = object_str(entry, "manager"), *version = object_str(entry, "apiVersion");
    buf_printf(out, "\"%s\"", manager ? manager : "");
    if (object_str(entry, "subresource"))
        buf_printf(out, " with subresource \"%s\"", object_str(entry, "subresource"));
    buf_printf(out, " using %s", version ? version : "");
}

/* A message names as many fields as fit; the last line counts the others. */
enum { CONFLICT_TEXT_BYTES_MAX = 700 };

struct conflicts {
    struct buf text;
    size_t num, num_unnamed;
    json_t *causes;
};

/* Notes the conflict with one owner. */
static void note_conflict(struct conflicts *c, const json_t *entry, const json_t *set) {
    AUTO_BUF owner = BUF_INIT;
    print_owner(&owner, entry);
    json_t *paths = field_set_paths(set), *path;
    size_t i;
    bool named = c->text.len + owner.len < CONFLICT_TEXT_BYTES_MAX;
    if (named)
        buf_printf(&c->text, "%sconflicts with %s:", c->num ? "\n" : "", owner.data);
    json_array_foreach (paths, i, path) {
        cause_add(c->causes, "FieldManagerConflict", json_string_value(path), "conflict with %s",
                  owner.data);
        named = named && c->text.len + json_string_length(path) < CONFLICT_TEXT_BYTES_MAX;
        if (named)
            buf_printf(&c->text, "\n- %s", json_string_value(path));
        else
            c->num_unnamed++;
    }
    c->num += json_array_size(paths);
    json_decref(paths);
}

static enum errc conflict_error(struct conflicts *c, struct error *err) {
    const json_t *only = json_array_get(c->causes, 0);
    if (c->num_unnamed)
        buf_printf(&c->text, "\n- and %zu more fields", c->num_unnamed);
    if (c->num == 1)
        return err_set(err, ERR_CONFLICT, "Apply failed with 1 conflict: %s: %s",
                       object_str(only, "message"), object_str(only, "field"));
    return err_set(err, ERR_CONFLICT, "Apply failed with %zu conflicts: %s", c->num, c->text.data);
}

/* Takes the changed fields from other owners, or refuses. */
static enum errc take_over(const struct apply_request *rq, const json_t *changed, json_t *entries,
                           json_t *causes, struct error *err) {
    bool is_kubectl = !strcmp(rq->writer.manager, "kubectl");
    json_t *forgiven = is_kubectl ? last_applied_fields(rq) : json_object();
    struct conflicts found = {.causes = causes};
    size_t i;
    json_t *entry;
    json_array_foreach (entries, i, entry) {
        if (managed_is(entry, &rq->writer, MANAGED_APPLY))
            continue;
        json_t *set = json_object_get(entry, "fieldsV1");
        json_t *contested = field_set_intersection(set, changed);
        json_t *serious = field_set_difference(contested, forgiven);
        if (!rq->force && json_object_size(serious))
            note_conflict(&found, entry, serious);
        else if (json_object_size(contested))
            json_object_set_new(entry, "fieldsV1", field_set_difference(set, contested));
        json_decref(serious);
        json_decref(contested);
    }
    enum errc code = found.num ? conflict_error(&found, err) : OK;
    buf_deinit(&found.text);
    json_decref(forgiven);
    return code;
}

static void forget_removed(const struct apply_request *rq, const json_t *object, json_t *entries) {
    json_t *removed = field_set_removed(rq->schema, rq->live, object), *entry;
    size_t i;
    json_array_foreach (entries, i, entry) {
        json_t *set = json_object_get(entry, "fieldsV1");
        json_object_set_new(entry, "fieldsV1", field_set_difference(set, removed));
    }
    json_decref(removed);
}

/* Keeps the annotation of `kubectl apply` in step with what is applied. */
static void sync_last_applied(const struct apply_request *rq, json_t *object) {
    if (strcmp(rq->writer.manager, "kubectl") != 0 || !object_annotation(object, LAST_APPLIED))
        return;
    char *text = json_dumps(rq->config, JSON_COMPACT | JSON_SORT_KEYS);
    AUTO_BUF line = BUF_INIT;
    buf_printf(&line, "%s\n", text);
    free(text);
    json_object_set_new(object_at(object, "metadata.annotations"), LAST_APPLIED,
                        json_string(line.data));
}

static json_t *starting_entries(const struct apply_request *rq) {
    json_t *entries = managed_entries(rq->live);
    if (!rq->live || json_array_size(entries))
        return entries;
    const struct managed_writer nobody = {.manager = "before-first-apply",
                                          .api_version = rq->writer.api_version,
                                          .wall_ms = rq->writer.wall_ms};
    json_t *all = field_set_of(rq->schema, rq->live);
    json_object_del(all, "f:status"); /* is written by whoever observes, over and over */
    managed_own(entries, &nobody, MANAGED_UPDATE, all);
    json_decref(all);
    return entries;
}

enum errc apply_config(const struct apply_request *rq, json_t **ret_object, json_t **ret_entries,
                       json_t *causes, struct error *err) {
    AUTO_BUF path = BUF_INIT;
    check_lists(rq->schema, rq->config, &path, causes);
    if (json_array_size(causes))
        return err_set(err, ERR_INVALID, "the configuration is invalid");
    json_t *entries = starting_entries(rq), *set = field_set_of(rq->schema, rq->config);
    json_t *object =
        rq->live ? apply_merge(rq->schema, rq->live, rq->config) : json_deep_copy(rq->config);
    json_t *changed = field_set_changed(rq->schema, rq->live, object);
    json_t *last = json_incref((json_t *)(uintptr_t)managed_applied(entries, &rq->writer));
    enum errc code = take_over(rq, changed, entries, causes, err);
    if (!code) {
        managed_own(entries, &rq->writer, MANAGED_APPLY, set);
        json_t *keep = managed_union(entries);
        if (last)
            apply_prune(rq->schema, object, last, keep);
        json_decref(keep);
        forget_removed(rq, object, entries);
        managed_tidy(entries);
        sync_last_applied(rq, object);
    }
    json_decref(last);
    json_decref(changed);
    json_decref(set);
    if (code) {
        json_decref(object);
        json_decref(entries);
        return code;
    }
    *ret_object = object;
    *ret_entries = entries;
    return OK;
}
