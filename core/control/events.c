/* Events. The name of an Event is the object's name and a hash over what makes two events the same,
 * so repeating one finds the first again, also after a restart of the daemon, with no cache.
 *
 * Messages that differ in a number or a name would escape that. So, as client-go does it, events
 * that are alike (same object, type, reason and source) are told apart EVENTS_ALIKE_MAX times in
 * EVENTS_ALIKE_SECONDS; further ones become one event "(combined from similar events)", with the
 * last message. How many there were is asked of the store, which also survives a restart. */
#include "core/control/events.h"

#include <stdio.h>

#include "core/base/clock.h"
#include "core/base/log.h"

struct event_buffer {
    json_t *items; /* Event objects, the new ones' count being how often in this round */
    uint32_t num_dropped;
};

struct event_buffer *events_create(void) {
    struct event_buffer *b = mem_alloc(sizeof(*b));
    b->items = json_array();
    return b;
}

void events_destroy(struct event_buffer *b) {
    if (!b)
        return;
    json_decref(b->items);
    free(b);
}

static void set_copy(json_t *to, const char *name, const char *value) {
    if (value)
        json_object_set_new(to, name, json_string(value));
}

static json_t *reference(const json_t *o) {
    json_t *ref = json_object();
    set_copy(ref, "kind", object_str(o, "kind"));
    set_copy(ref, "apiVersion", object_str(o, "apiVersion"));
    set_copy(ref, "namespace", object_namespace(o));
    set_copy(ref, "name", object_name(o));
    set_copy(ref, "uid", object_uid(o));
    set_copy(ref, "resourceVersion", object_str(o, "metadata.resourceVersion"));
    return ref;
}

static uint64_t hash_text(uint64_t h, const char *s) {
    for (const unsigned char *p = (const unsigned char *)(s ? s : ""); *p; p++)
        h = (h ^ *p) * 1099511628211u;
    return (h ^ '|') * 1099511628211u;
}

static json_t *find_buffered(struct event_buffer *b, const char *ns, const char *name) {
    size_t i;
    json_t *e;
    json_array_foreach (b->items, i, e) {
        if (!strcmp(object_name(e), name) && !strcmp(object_namespace(e), ns))
            return e;
    }
    return NULL;
}

void event_emit(struct world *w, const json_t *regarding, const char *type, const char *reason,
                const char *component, const char *fmt, ...) {
    char message[EVENTS_MESSAGE_BYTES_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    uint64_t h = 14695981039346656037u;
    h = hash_text(hash_text(h, object_uid(regarding)), type);
    h = hash_text(hash_text(hash_text(h, reason), component), message);
    const char *ns = object_namespace(regarding) ? object_namespace(regarding) : "default";
    AUTO_FREE char *name =
        mem_printf("%.200s.%016llx", object_name(regarding), (unsigned long long)h);
    json_t *e = find_buffered(w->events, ns, name);
    if (e) {
        object_set(e, "count", json_integer(object_int(e, "count", 0) + 1));
        return;
    }
    if (json_array_size(w->events->items) >= EVENTS_BUFFERED_MAX) {
        w->events->num_dropped++;
        return;
    }
    e = json_pack("{s:{s:s, s:s}, s:o, s:s, s:o, s:s, s:{s:s, s:s}, s:i, s:s, s:s, s:n}",
                  "metadata", "name", name, "namespace", ns, "involvedObject", reference(regarding),
                  "reason", reason, "message", object_text(message), "type", type, "source",
                  "component", component, "host", w->node_name, "count", 1, "reportingComponent",
                  component, "reportingInstance", w->node_name, "eventTime");
    ASSERT(e);
    json_object_set_new(e, "firstTimestamp", world_timestamp(w));
    json_object_set_new(e, "lastTimestamp", world_timestamp(w));
    json_array_append_new(w->events->items, e);
}

static const char combined[] = "(combined from similar events): ";

static bool is_combined(const json_t *e) {
    const char *message = object_str(e, "message");
    return message && !strncmp(message, combined, sizeof(combined) - 1);
}

static bool same_text(const json_t *a, const json_t *b, const char *path) {
    const char *x = object_str(a, path), *y = object_str(b, path);
    return x && y && !strcmp(x, y);
}

/* Of one object, type, reason and source? */
static bool alike(const json_t *a, const json_t *b) {
    return same_text(a, b, "involvedObject.uid") && same_text(a, b, "type") &&
           same_text(a, b, "reason") && same_text(a, b, "source.component");
}

/* How many events like e are there from the last while, in the store and among the first `before`
 * of this round? */
static size_t count_alike(struct world *w, const json_t *e, size_t before) {
    AUTO_FREE char *prefix = mem_printf("core/events/%s/%.200s.", object_namespace(e),
                                        object_str(e, "involvedObject.name"));
    AUTO_STORE_LIST list = {0};
    size_t num = 0;
    store_list(w->store, prefix, &list);
    for (size_t i = 0; i < list.num_items; i++) {
        const json_t *other = list.items[i]->json;
        const char *last = object_str(other, "lastTimestamp");
        num += last && alike(e, other) && !is_combined(other) &&
               clock_parse_rfc3339(last) >= w->wall_ms - EVENTS_ALIKE_SECONDS * 1000;
    }
    for (size_t i = 0; i < before; i++) {
        const json_t *other = json_array_get(w->events->items, i);
        num += alike(e, other) && !is_combined(other);
    }
    return num;
}

/* Makes e the event that stands for all that are like it. */
static void combine(json_t *e) {
    uint64_t h = hash_text(14695981039346656037u, object_str(e, "involvedObject.uid"));
    h = hash_text(hash_text(h, object_str(e, "type")), object_str(e, "reason"));
    h = hash_text(hash_text(h, object_str(e, "source.component")), combined);
    object_set(e, "message", json_sprintf("%s%s", combined, object_str(e, "message")));
    object_set(e, "metadata.name",
               json_sprintf("%.200s.%016llx", object_str(e, "involvedObject.name"),
                            (unsigned long long)h));
}

/* Combines what is new in this round, and too much of a kind. */
static void combine_alike(struct world *w) {
    json_t *items = w->events->items;
    for (size_t i = 0; i < json_array_size(items); i++) {
        json_t *e = json_array_get(items, i);
        struct object_key key;
        struct error err = ERROR_INIT;
        AUTO(store_object) was = NULL;
        object_key(&key, "core", "events", object_namespace(e), object_name(e));
        if (!store_get(w->store, key.text, &was, &err) || count_alike(w, e, i) < EVENTS_ALIKE_MAX)
            continue;
        combine(e);
        json_t *first = find_buffered(w->events, object_namespace(e), object_name(e));
        if (first == e)
            continue;
        object_set(first, "message", json_incref(json_object_get(e, "message")));
        object_set(first, "count",
                   json_integer(object_int(first, "count", 1) + object_int(e, "count", 1)));
        json_array_remove(items, i--);
    }
}

/* Gives the event to write: the stored one counted up, or the new one. */
static json_t *merged(struct world *w, const char *key, json_t *e) {
    AUTO(store_object) was = NULL;
    struct error err = ERROR_INIT;
    if (store_get(w->store, key, &was, &err)) {
        json_object_set_new(e, "apiVersion", json_string("v1"));
        json_object_set_new(e, "kind", json_string("Event"));
        object_stamp_new(e, false, w->wall_ms);
        return json_incref(e);
    }
    json_t *again = json_deep_copy(was->json);
    object_set(again, "count",
               json_integer(object_int(again, "count", 1) + object_int(e, "count", 1)));
    object_set(again, "lastTimestamp", json_incref(json_object_get(e, "lastTimestamp")));
    object_set(again, "message", json_incref(json_object_get(e, "message")));
    return again;
}

void events_flush(struct world *w) {
    struct event_buffer *b = w->events;
    if (b->num_dropped) {
        log_warn("events dropped, too many at once", "num_events=%u", b->num_dropped);
        b->num_dropped = 0;
    }
    combine_alike(w);
    size_t n = json_array_size(b->items), i;
    if (!n)
        return;
    struct store_write *writes = mem_array(n, sizeof(*writes));
    struct object_key *keys = mem_array(n, sizeof(*keys));
    json_t *e;
    size_t num_writes = 0;
    json_array_foreach (b->items, i, e) {
        /* A namespace that goes takes its events with it. */
        AUTO(store_object) ns = world_get(w, KIND_NAMESPACE, NULL, object_namespace(e));
        if (!ns || object_deleting(ns->json))
            continue;
        object_key(&keys[i], "core", "events", object_namespace(e), object_name(e));
        writes[num_writes++] = (struct store_write){
            .key = keys[i].text,
            .object = merged(w, keys[i].text, e),
            .expect_revision = STORE_EXPECT_ANY,
        };
    }
    struct error err = ERROR_INIT;
    struct log_quoted q;
    if (num_writes && store_commit(w->store, writes, num_writes, NULL, &err))
        log_warn("events lost", "num_events=%zu error=%s", num_writes, log_quote(&q, err.text));
    json_array_clear(b->items);
    free(writes);
    free(keys);
}

/* When it was last seen stands in one of several places, by the age of the client that wrote it.
 * One whose time does not parse is kept: it was not written by us, and harms nobody. */
static int64_t last_seen_ms(const json_t *event) {
    static const char *const paths[] = {"series.lastObservedTime", "lastTimestamp", "eventTime",
                                        "metadata.creationTimestamp"};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        const char *text = object_str(event, paths[i]);
        if (text)
            return clock_parse_rfc3339(text);
    }
    return -1;
}

bool events_expire(struct world *w) {
    AUTO_STORE_LIST list = {0};
    world_list(w, KIND_EVENT, NULL, &list);
    int64_t oldest_ms = w->wall_ms - w->config->event_ttl_seconds * 1000;
    struct store_write writes[EVENTS_EXPIRED_MAX];
    size_t num_writes = 0;
    for (size_t i = 0; i < list.num_items && num_writes < EVENTS_EXPIRED_MAX; i++) {
        int64_t seen_ms = last_seen_ms(list.items[i]->json);
        if (seen_ms >= 0 && seen_ms < oldest_ms)
            writes[num_writes++] = (struct store_write){.key = list.items[i]->key,
                                                        .expect_revision = list.items[i]->revision};
    }
    struct error err = ERROR_INIT;
    struct log_quoted q;
    /* A conflict means that one of them happened again; the next sweep takes the others. */
    if (num_writes && store_commit(w->store, writes, num_writes, NULL, &err))
        log_debug("event sweep put off", "error=%s", log_quote(&q, err.text));
    return num_writes == EVENTS_EXPIRED_MAX;
}
