/* A watch is a stream of JSON events, one a line.
 *
 * It starts with the current objects (resourceVersion absent or 0, or sendInitialEvents) or behind
 * a given revision, and goes on with the store's events in revision order. With a selector an
 * object that begins to match is ADDED and one that stops is DELETED, with its last matching
 * content and the revision of the change. History that is gone ends the watch with an ERROR event
 * of code 410; clients then list again. Bookmarks tell a client how far it has seen although
 * nothing came.
 *
 * Everything after the start runs on the hub thread (stream.h). Lines that the connection does not
 * take wait in `pending`; while it is not empty no further event is read, so a slow client costs
 * one line of memory here and falls behind in the store's history, not in ours. */
#include "kube-compat/watch.h"

#include <stdio.h>

#include "core/base/clock.h"
#include "core/object.h"
#include "kube-compat/events_view.h"
#include "kube-compat/filter.h"
#include "kube-compat/page.h"
#include "kube-compat/rest.h"
#include "kube-compat/shown.h"
#include "kube-compat/status.h"
#include "kube-compat/stream.h"
#include "kube-compat/table.h"
#include "kube-compat/upgrade.h"

enum {
    BOOKMARK_MS = 60000,
    BATCH_BYTES = 64 << 10,
    TIMEOUT_SECONDS_MIN = 1800, /* without timeoutSeconds: between this and twice as much */
};

struct watch {
    struct store *store;
    struct kinds *kinds; /* a reference, for kind */
    const struct kind *kind;
    struct filter filter;
    struct store_watch *source; /* NULL: history is gone, and pending says so */
    struct store_list initial;  /* sent before the source's events */
    size_t next_initial;
    bool ends_initial; /* a bookmark marks the end of the initial events */
    bool bookmarks;    /* the client allows them */
    bool columns_sent; /* column definitions go with the first Table only */
    enum accept_form form;
    enum table_include include;
    int64_t revision; /* up to which everything was sent */
    int64_t deadline_ms, next_bookmark_ms;
    struct buf pending;
};

static void watch_destroy(void *user) {
    struct watch *w = user;
    store_watch_close(w->source);
    store_list_deinit(&w->initial);
    filter_deinit(&w->filter);
    kinds_unref(w->kinds);
    buf_deinit(&w->pending);
    free(w);
}

/* Appends {"type":TYPE,"object":TEXT}. */
static void put_event_text(struct watch *w, const char *type, const char *text, size_t len) {
    buf_printf(&w->pending, "{\"type\":\"%s\",\"object\":", type);
    buf_append(&w->pending, text, len);
    buf_puts(&w->pending, "}\n");
}

/* Takes object. */
static void put_event(struct watch *w, const char *type, json_t *object) {
    char *text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    if (!text)
        return;
    put_event_text(w, type, text, strlen(text));
    free(text);
}

/* Appends an event about an object (borrowed, in the kind's form), in the client's form. */
static void put_object(struct watch *w, const char *type, json_t *shown) {
    json_t *object;
    if (w->form == ACCEPT_TABLE) {
        object = table_of_event(w->kind, shown, w->include, !w->columns_sent, clock_wall_ms());
        w->columns_sent = true;
    } else if (w->form == ACCEPT_METADATA) {
        object = json_pack("{s:s, s:s, s:O}", "kind", "PartialObjectMetadata", "apiVersion",
                           "meta.k8s.io/v1", "metadata", json_object_get(shown, "metadata"));
    } else {
        object = json_incref(shown);
    }
    put_event(w, type, object);
}

static void put_bookmark(struct watch *w, bool ends_initial) {
    json_t *metadata =
        json_pack("{s:o}", "resourceVersion", json_sprintf("%lld", (long long)w->revision));
    if (ends_initial)
        json_object_set_new(metadata, "annotations",
                            json_pack("{s:s}", "k8s.io/initial-events-end", "true"));
    bool table = w->form == ACCEPT_TABLE, partial = w->form == ACCEPT_METADATA;
    const char *api_version = table || partial ? "meta.k8s.io/v1" : w->kind->api_version;
    const char *kind = table ? "Table" : partial ? "PartialObjectMetadata" : w->kind->kind;
    json_t *object =
        json_pack("{s:s, s:s, s:o}", "kind", kind, "apiVersion", api_version, "metadata", metadata);
    if (table)
        json_object_set_new(object, "rows", json_array());
    put_event(w, "BOOKMARK", object);
}

static void put_gone(struct watch *w, enum errc code) {
    struct error err = ERROR_INIT;
    if (code == ERR_GONE)
        err_set(&err, ERR_GONE, "too old resource version: %lld (%lld)", (long long)w->revision,
                (long long)store_revision(w->store));
    else
        err_set(&err, code, "the store could not read its history");
    struct status_subject nothing = {0};
    put_event(w, "ERROR", status_failure(&err, &nothing, NULL));
}

/* Gives obj as the kind shows it, with another resourceVersion. */
static json_t *restamped(const struct watch *w, json_t *stored, int64_t revision) {
    json_t *shown = kind_show(w->kind, stored);
    json_t *copy = json_copy(shown);
    json_t *metadata = json_copy(json_object_get(shown, "metadata"));
    json_object_set_new(metadata, "resourceVersion", json_sprintf("%lld", (long long)revision));
    json_object_set_new(copy, "metadata", metadata);
    json_decref(shown);
    return copy;
}

/* Appends an event about what is stored; the text is shared with whoever else shows it. */
static void put_stored(struct watch *w, const char *type, struct store_object *o) {
    if (w->form == ACCEPT_JSON && shown_is_stored(w->kind)) {
        const struct store_text *text = shown_text(o);
        put_event_text(w, type, text->data, text->len);
        return;
    }
    json_t *shown = kind_show(w->kind, o->json);
    put_object(w, type, shown);
    json_decref(shown);
}

static void put_store_event(struct watch *w, const struct store_event *e) {
    bool matched = e->previous && shown_matches(&w->filter, e->previous);
    if (e->type == STORE_DELETED) {
        if (e->previous ? matched : shown_matches(&w->filter, e->object))
            put_stored(w, "DELETED", e->object);
    } else if (shown_matches(&w->filter, e->object)) {
        put_stored(w, matched ? "MODIFIED" : "ADDED", e->object);
    } else if (matched) {
        json_t *last = restamped(w, e->previous->json, e->revision);
        put_object(w, "DELETED", last);
        json_decref(last);
    }
    w->revision = e->revision;
}

/* Fills pending with initial objects. */
static void fill_initial(struct watch *w) {
    while (w->next_initial < w->initial.num_items && w->pending.len < BATCH_BYTES) {
        struct store_object *o = w->initial.items[w->next_initial++];
        if (shown_matches(&w->filter, o))
            put_stored(w, "ADDED", o);
    }
    if (w->next_initial < w->initial.num_items)
        return;
    store_list_deinit(&w->initial);
    w->initial = (struct store_list){0};
    w->next_initial = 0;
    if (w->ends_initial)
        put_bookmark(w, true);
    w->ends_initial = false;
}

/* Fills pending with the store's events. False: the watch has ended. */
static bool fill_events(struct watch *w) {
    while (w->pending.len < BATCH_BYTES) {
        struct store_event e;
        int64_t progress = 0;
        enum errc code = OK;
        if (store_watch_next(w->source, &e, &progress, &code)) {
            put_store_event(w, &e);
            continue;
        }
        if (code) {
            put_gone(w, code);
            return false;
        }
        if (progress > w->revision)
            w->revision = progress;
        break;
    }
    return true;
}

static bool pump(struct stream *s, void *user, int64_t now_ms) {
    struct watch *w = user;
    for (bool live = true;;) {
        if (w->pending.len) {
            if (!stream_write(s, w->pending.data, w->pending.len))
                return false;
            buf_deinit(&w->pending);
        }
        if (!live)
            return true;
        if (!w->source)
            live = false;
        else if (w->initial.num_items || w->ends_initial)
            fill_initial(w);
        else
            live = fill_events(w);
        if (live && !w->pending.len) {
            live = now_ms < w->deadline_ms;
            if (w->bookmarks && (!live || now_ms >= w->next_bookmark_ms)) {
                put_bookmark(w, false);
                w->next_bookmark_ms = now_ms + BOOKMARK_MS;
            }
            if (live && !w->pending.len)
                return false;
        }
    }
}

/* The combinations that Kubernetes forbids; each has a cause. */
static enum errc check_options(struct request *rq, struct error *err) {
    const char *match = request_given(rq, "resourceVersionMatch"), *field = "resourceVersionMatch";
    bool initial_events = http_query(rq->x, "sendInitialEvents");
    bool not_older = match && !strcmp(match, "NotOlderThan");
    if (initial_events && !not_older)
        cause_add(rq->causes, CAUSE_FORBIDDEN, field,
                  "Forbidden: sendInitialEvents requires setting resourceVersionMatch to "
                  "NotOlderThan");
    if (match && !initial_events)
        cause_add(rq->causes, CAUSE_FORBIDDEN, field,
                  "Forbidden: resourceVersionMatch is forbidden for watch unless "
                  "sendInitialEvents is provided");
    if (match && !not_older)
        cause_add(rq->causes, CAUSE_NOT_SUPPORTED, field,
                  "Unsupported value: \"%.64s\": supported values: \"NotOlderThan\"", match);
    if (match && request_given(rq, "continue"))
        cause_add(rq->causes, CAUSE_FORBIDDEN, field,
                  "Forbidden: resourceVersionMatch is forbidden when continue is provided");
    if (!json_array_size(rq->causes))
        return OK;
    rq->options_kind = "ListOptions";
    return err_set(err, ERR_INVALID, "ListOptions is invalid");
}

static void note_source(void *user) {
    stream_wake(user);
}

/* Opens the source behind the snapshot or the given revision. */
static enum errc open_source(struct request *rq, struct watch *w, struct stream *s,
                             struct error *err) {
    bool says = http_query(rq->x, "sendInitialEvents");
    bool initial_events = says && http_query_bool(rq->x, "sendInitialEvents");
    int64_t from;
    enum errc code = check_options(rq, err);
    if (!code)
        code = page_query_version(rq, &from, err);
    if (code)
        return code;
    struct object_key prefix;
    rest_prefix(rq, &prefix);
    if (from <= 0 || initial_events) {
        store_list(rq->kube->opt.store, prefix.text, &w->initial);
        if (from > w->initial.revision)
            return page_too_new(rq, from, w->initial.revision, err);
        from = w->initial.revision;
        w->ends_initial = initial_events;
    }
    if (says && !initial_events) { /* explicitly without: only what happens from now on */
        store_list_deinit(&w->initial);
        w->initial = (struct store_list){0};
    }
    w->revision = from;
    code =
        store_watch_open(rq->kube->opt.store, prefix.text, from, note_source, s, &w->source, err);
    if (code != ERR_GONE)
        return code;
    put_gone(w, code); /* said in the stream, where informers look for it */
    return OK;
}

static enum errc set_times(struct request *rq, struct watch *w, struct error *err) {
    const char *text = request_given(rq, "timeoutSeconds");
    char *end = NULL;
    int64_t seconds = text ? strtoll(text, &end, 10) : 0;
    int64_t now_ms = clock_mono_ms();
    if (text && *end)
        return err_set(err, ERR_MALFORMED,
                       "timeoutSeconds: Invalid value: \"%.64s\": strconv.ParseInt: parsing "
                       "\"%.64s\": invalid syntax",
                       text, text);
    if (seconds <= 0 || seconds > 86400)
        seconds = TIMEOUT_SECONDS_MIN + clock_mono_ns() / 1000 % TIMEOUT_SECONDS_MIN;
    w->deadline_ms = now_ms + seconds * 1000;
    w->next_bookmark_ms = now_ms + BOOKMARK_MS;
    return OK;
}

/* Browsers name one of these beside their token, and want it named in the answer; messages are text
 * in any case. */
static const char *const websocket_protocols[] = {"base64.binary.k8s.io", "binary.k8s.io", NULL};

void watch_start(struct request *rq) {
    struct error err = ERROR_INIT;
    struct stream *s = NULL;
    struct watch *w = mem_alloc(sizeof(*w));
    w->store = rq->kube->opt.store;
    w->kinds = kinds_ref(rq->kinds);
    w->kind = rq->kind;
    w->bookmarks = http_query_bool(rq->x, "allowWatchBookmarks");
    w->form =
        accept_choose(http_header(rq->x, "Accept"), ACCEPT_JSON | ACCEPT_TABLE | ACCEPT_METADATA);
    w->include = table_include(http_query(rq->x, "includeObject"));
    if (w->form == ACCEPT_NONE) {
        watch_destroy(w);
        request_fail_unacceptable(rq);
        return;
    }
    enum errc code = filter_init(&w->filter, rq->kind, http_query(rq->x, "labelSelector"),
                                 http_query(rq->x, "fieldSelector"), &err);
    if (!code)
        code = set_times(rq, w, &err);
    bool websocket = upgrade_wanted(rq->x) == UPGRADE_WEBSOCKET;
    const char *protocol;
    if (!code && websocket)
        code = upgrade_websocket(rq->x, websocket_protocols, true, &protocol, &err);
    if (!code)
        code = websocket ? stream_create_websocket(rq->kube->hub, &s, &err)
                         : stream_create(rq->kube->hub, &s, &err);
    if (!code)
        code = open_source(rq, w, s, &err);
    struct stream_source source = {.pump = pump, .destroy = watch_destroy, .user = w};
    if (!code && websocket)
        code = stream_start_websocket(s, rq->kube->tunnels, rq->x, &source, &err);
    if (code) {
        watch_destroy(w);
        if (s)
            stream_discard(s);
        request_fail(rq, &err);
        return;
    }
    if (websocket)
        return;
    http_set_header(rq->x, "Cache-Control", "no-cache, private");
    stream_start(s, rq->x, "application/json", &source);
}
