/* The bookkeeping of owners. An entry is identified by manager, operation and subresource: a client
 * that applies and a client of the same name that updates are two owners. */
#include "kube-compat/managed_fields.h"

#include <stdlib.h>

#include "core/base/clock.h"
#include "core/object.h"
#include "kube-compat/field_set.h"

json_t *managed_open(json_t *object) {
    const char *text = object_str(object, "metadata.managedFields");
    if (!text)
        return object;
    json_t *shown = json_copy(object), *metadata = json_copy(json_object_get(object, "metadata"));
    json_object_set_new(metadata, "managedFields", managed_entries(object));
    json_object_set_new(shown, "metadata", metadata);
    json_decref(object);
    return shown;
}

void managed_close(json_t *object, json_t *entries) {
    json_t *metadata = json_object_get(object, "metadata");
    if (json_array_size(entries)) {
        char *text = json_dumps(entries, JSON_COMPACT | JSON_SORT_KEYS);
        json_object_set_new(metadata, "managedFields", json_string(text));
        free(text);
    } else {
        json_object_del(metadata, "managedFields");
    }
    json_decref(entries);
}

json_t *managed_entries(const json_t *stored) {
    const char *text = stored ? object_str(stored, "metadata.managedFields") : NULL;
    json_t *entries = text ? json_loads(text, 0, NULL) : NULL;
    return entries ? entries : json_array();
}

static bool is_string_or_absent(const json_t *entry, const char *key) {
    const json_t *value = json_object_get(entry, key);
    return !value || json_is_string(value);
}

static bool entry_valid(const json_t *entry) {
    const char *operation = object_str(entry, "operation");
    const char *type = object_str(entry, "fieldsType");
    return operation && (!strcmp(operation, MANAGED_APPLY) || !strcmp(operation, MANAGED_UPDATE)) &&
           type && !strcmp(type, "FieldsV1") && is_string_or_absent(entry, "manager") &&
           is_string_or_absent(entry, "apiVersion") && is_string_or_absent(entry, "time") &&
           is_string_or_absent(entry, "subresource") &&
           field_set_valid(json_object_get(entry, "fieldsV1"));
}

json_t *managed_basis(const json_t *sent, const json_t *stored) {
    if (!json_is_array(sent))
        return managed_entries(stored);
    size_t num = json_array_size(sent), i;
    json_t *first = json_array_get(sent, 0), *entry;
    if (!num || (num == 1 && json_is_object(first) && !json_object_size(first)))
        return json_array();
    json_array_foreach ((json_t *)(uintptr_t)sent, i, entry) {
        if (!entry_valid(entry))
            return managed_entries(stored);
    }
    return json_deep_copy(sent);
}

static const char *text_of(const json_t *entry, const char *key) {
    const char *text = object_str(entry, key);
    return text ? text : "";
}

bool managed_is(const json_t *entry, const struct managed_writer *writer, const char *operation) {
    return !strcmp(text_of(entry, "manager"), writer->manager) &&
           !strcmp(text_of(entry, "operation"), operation) &&
           !strcmp(text_of(entry, "subresource"), writer->subresource ? writer->subresource : "");
}

static json_t *find(const json_t *entries, const struct managed_writer *writer,
                    const char *operation) {
    for (size_t i = 0; i < json_array_size(entries); i++) {
        if (managed_is(json_array_get(entries, i), writer, operation))
            return json_array_get(entries, i);
    }
    return NULL;
}

const json_t *managed_applied(const json_t *entries, const struct managed_writer *writer) {
    return json_object_get(find(entries, writer, MANAGED_APPLY), "fieldsV1");
}

static void stamp(json_t *entry, int64_t wall_ms) {
    char time[CLOCK_RFC3339_BYTES];
    json_object_set_new(entry, "time", json_string(clock_rfc3339(wall_ms, time)));
}

void managed_own(json_t *entries, const struct managed_writer *writer, const char *operation,
                 const json_t *set) {
    json_t *entry = find(entries, writer, operation);
    if (entry && json_equal(json_object_get(entry, "fieldsV1"), set))
        return;
    if (!entry) {
        entry = json_pack("{s:s, s:s, s:s}", "manager", writer->manager, "operation", operation,
                          "fieldsType", "FieldsV1");
        if (writer->subresource)
            json_object_set_new(entry, "subresource", json_string(writer->subresource));
        json_array_append_new(entries, entry);
    }
    json_object_set_new(entry, "apiVersion", json_string(writer->api_version));
    json_object_set(entry, "fieldsV1", (json_t *)(uintptr_t)set);
    stamp(entry, writer->wall_ms);
}

void managed_touch(json_t *entries, const struct managed_writer *writer) {
    json_t *entry = find(entries, writer, MANAGED_APPLY);
    if (entry)
        stamp(entry, writer->wall_ms);
}

json_t *managed_union(const json_t *entries) {
    json_t *all = json_object();
    for (size_t i = 0; i < json_array_size(entries); i++) {
        json_t *more =
            field_set_union(all, json_object_get(json_array_get(entries, i), "fieldsV1"));
        json_decref(all);
        all = more;
    }
    return all;
}

static int by_age(const void *a, const void *b) {
    const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
    static const char *const keys[] = {"operation", "time", "manager", "subresource"};
    int order = 0;
    for (size_t i = 0; !order && i < ARRAY_LEN(keys); i++)
        order = strcmp(text_of(x, keys[i]), text_of(y, keys[i]));
    return order;
}

/* "Apply" stands before "Update", older ones before younger ones. */
static void sort_entries(json_t *entries) {
    size_t num = json_array_size(entries);
    AUTO_FREE json_t **all = mem_array(num + 1, sizeof(all[0]));
    for (size_t i = 0; i < num; i++)
        all[i] = json_incref(json_array_get(entries, i));
    qsort(all, num, sizeof(all[0]), by_age);
    json_array_clear(entries);
    for (size_t i = 0; i < num; i++)
        json_array_append_new(entries, all[i]);
}

/* Merges the two oldest updaters, once; what is known of them is that they were here. */
static void merge_oldest(json_t *entries, size_t first) {
    static const char ancient[] = "ancient-changes";
    json_t *a = json_array_get(entries, first), *b = json_array_get(entries, first + 1);
    json_t *set = field_set_union(json_object_get(a, "fieldsV1"), json_object_get(b, "fieldsV1"));
    json_object_set_new(b, "manager", json_string(ancient));
    json_object_del(b, "subresource");
    json_object_set_new(b, "fieldsV1", set);
    json_array_remove(entries, first);
}

void managed_tidy(json_t *entries) {
    for (size_t i = json_array_size(entries); i-- > 0;) {
        const json_t *set = json_object_get(json_array_get(entries, i), "fieldsV1");
        if (!json_object_size(set))
            json_array_remove(entries, i);
    }
    sort_entries(entries);
    size_t first = 0, num = json_array_size(entries);
    while (first < num &&
           !strcmp(text_of(json_array_get(entries, first), "operation"), MANAGED_APPLY))
        first++;
    for (; num - first > MANAGED_UPDATERS_MAX; num--)
        merge_oldest(entries, first);
}

json_t *managed_update(const struct schema *s, json_t *entries, const json_t *before,
                       const json_t *after, const struct managed_writer *writer) {
    json_t *changed = field_set_changed(s, before, after);
    json_t *removed = field_set_removed(s, before, after);
    json_t *touched = field_set_union(changed, removed), *mine = json_object();
    for (size_t i = 0; i < json_array_size(entries); i++) {
        json_t *entry = json_array_get(entries, i), *set = json_object_get(entry, "fieldsV1");
        if (managed_is(entry, writer, MANAGED_UPDATE)) {
            json_decref(mine);
            mine = field_set_difference(set, removed);
        } else {
            json_object_set_new(entry, "fieldsV1", field_set_difference(set, touched));
        }
    }
    json_t *owned = field_set_union(mine, changed);
    managed_own(entries, writer, MANAGED_UPDATE, owned);
    json_decref(owned);
    json_decref(mine);
    json_decref(touched);
    json_decref(removed);
    json_decref(changed);
    managed_tidy(entries);
    return entries;
}
