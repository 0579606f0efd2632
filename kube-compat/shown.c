/* The printer of stored objects. A stored object differs from what clients see in one place:
 * metadata.managedFields is a string that holds the JSON text of the array. To print is therefore
 * to copy that string as it is, where the array belongs: nothing is parsed. Kinds that are shown in
 * another form than they are stored in (events.k8s.io, autoscaling/v1, a user's other versions) go
 * through kind_show() each time. */
#include "kube-compat/shown.h"

#include "core/base/json_text.h"
#include "core/object.h"
#include "kube-compat/events_view.h"

bool shown_is_stored(const struct kind *kind) {
    return kind->view == KIND_VIEW_NONE && !kind->stored_version;
}

/* Appends `"key":` with what has to stand before it. */
static void put_key(struct buf *b, const char *key) {
    if (b->data[b->len - 1] != '{')
        buf_putc(b, ',');
    json_text_string(b, key, strlen(key));
    buf_putc(b, ':');
}

static void put_metadata(struct buf *b, const json_t *metadata) {
    const char *key;
    json_t *value;
    buf_putc(b, '{');
    json_object_foreach ((json_t *)(uintptr_t)metadata, key, value) {
        put_key(b, key);
        if (!strcmp(key, "managedFields") && json_is_string(value))
            buf_append(b, json_string_value(value), json_string_length(value));
        else
            json_text(b, value);
    }
    buf_putc(b, '}');
}

static void print(struct buf *b, const json_t *stored) {
    const char *key;
    json_t *value;
    buf_putc(b, '{');
    json_object_foreach ((json_t *)(uintptr_t)stored, key, value) {
        put_key(b, key);
        if (!strcmp(key, "metadata") && json_is_object(value))
            put_metadata(b, value);
        else
            json_text(b, value);
    }
    buf_putc(b, '}');
}

const struct store_text *shown_text(struct store_object *o) {
    const struct store_text *kept = store_object_text(o);
    if (kept)
        return kept;
    AUTO_BUF b = BUF_INIT;
    print(&b, o->json);
    return store_object_keep_text(o, b.data, b.len);
}

bool shown_matches(const struct filter *filter, const struct store_object *o) {
    if (filter_empty(filter))
        return true;
    if (shown_is_stored(filter->kind)) /* no selector looks at managedFields */
        return filter_match(filter, o->json);
    json_t *shown = kind_show(filter->kind, o->json);
    bool matches = filter_match(filter, shown);
    json_decref(shown);
    return matches;
}
