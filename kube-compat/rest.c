/* Reading: get and list.
 *
 * A list is a snapshot: of the store's memory, or of an earlier revision when the client asks for
 * that or goes on with a page (page.c). */
#include "kube-compat/rest.h"

#include "core/object.h"
#include "kube-compat/audit.h"
#include "kube-compat/events_view.h"
#include "kube-compat/filter.h"
#include "kube-compat/page.h"
#include "kube-compat/shown.h"

const char *rest_prefix(const struct request *rq, struct object_key *out) {
    return object_key(out, rq->kind->store_group, rq->kind->plural, rq->ns, NULL);
}

enum errc rest_read(const struct request *rq, struct store_object **ret_o, struct error *err) {
    struct object_key key;
    object_key(&key, rq->kind->store_group, rq->kind->plural, rq->ns, rq->name);
    enum errc code = store_get(rq->kube->opt.store, key.text, ret_o, err);
    return code == ERR_NOT_FOUND ? request_not_found(rq, err) : code;
}

static void release_object(void *user) {
    store_object_unref(user);
}

void rest_reply_stored(struct request *rq, int status, const struct kind *kind,
                       struct store_object *o) {
    if (!shown_is_stored(kind) || !request_wants_json(rq)) {
        request_reply(rq, status, kind_show(kind, o->json));
        return;
    }
    const struct store_text *text = shown_text(o);
    const struct http_part parts[] = {{text->data, text->len}, {"\n", 1}};
    audit_result(rq->audit, o->json);
    request_reply_parts(rq, status, parts, ARRAY_LEN(parts), release_object, store_object_ref(o));
}

void rest_get(struct request *rq) {
    AUTO(store_object) o = NULL;
    struct error err = ERROR_INIT;
    if (rest_read(rq, &o, &err))
        request_fail(rq, &err);
    else
        rest_reply_stored(rq, 200, rq->kind, o);
}

/* What a list answers: references into `all`, in order. */
struct selection {
    struct store_list all;
    struct store_object **items; /* borrowed from all */
    size_t num_items;
    json_t *metadata;
};

static void selection_deinit(struct selection *s) {
    store_list_deinit(&s->all);
    free(s->items);
    json_decref(s->metadata);
}

/* Chooses among s->all. */
static void collect(const struct filter *filter, const struct page *page, struct selection *ret_s) {
    struct selection s = {.all = ret_s->all, .metadata = json_object()};
    s.items = mem_array(s.all.num_items, sizeof(struct store_object *));
    json_object_set_new(s.metadata, "resourceVersion",
                        json_sprintf("%lld", (long long)s.all.revision));
    size_t i = 0;
    for (; i < s.all.num_items; i++) {
        struct store_object *o = s.all.items[i];
        if ((page->after && strcmp(o->key, page->after) <= 0) || !shown_matches(filter, o))
            continue;
        if (page->limit && (int64_t)s.num_items == page->limit)
            break;
        s.items[s.num_items++] = o;
    }
    if (i < s.all.num_items && s.num_items) {
        const char *last = s.items[s.num_items - 1]->key;
        json_object_set_new(s.metadata, "continue", page_continue(last, s.all.revision));
        if (filter_empty(filter))
            json_object_set_new(s.metadata, "remainingItemCount",
                                json_integer((json_int_t)(s.all.num_items - i)));
    }
    *ret_s = s;
}

/* A list on its way to the client: what its parts point to. */
struct sending {
    struct store_list all;
    struct buf head;
};

static void sent(void *user) {
    struct sending *l = user;
    store_list_deinit(&l->all);
    buf_deinit(&l->head);
    free(l);
}

/* The answer from the items' texts, which are sent from where they are. Takes s->all. */
static void reply_texts(struct request *rq, struct selection *s) {
    struct sending *l = mem_alloc(sizeof(*l));
    l->all = s->all;
    s->all = (struct store_list){0};
    char *metadata = json_dumps(s->metadata, JSON_COMPACT);
    buf_printf(&l->head, "{\"kind\":\"%s\",\"apiVersion\":\"%s\",\"metadata\":%s,\"items\":[",
               rq->kind->list_kind, rq->kind->api_version, metadata);
    free(metadata);
    AUTO_FREE struct http_part *parts = mem_array(2 * s->num_items + 2, sizeof(*parts));
    size_t num = 0;
    parts[num++] = (struct http_part){l->head.data, l->head.len};
    for (size_t i = 0; i < s->num_items; i++) {
        const struct store_text *text = shown_text(s->items[i]);
        if (i)
            parts[num++] = (struct http_part){",", 1};
        parts[num++] = (struct http_part){text->data, text->len};
    }
    parts[num++] = (struct http_part){"]}\n", 3};
    request_reply_parts(rq, 200, parts, num, sent, l);
}

static void reply_objects(struct request *rq, const struct selection *s) {
    json_t *items = json_array();
    for (size_t i = 0; i < s->num_items; i++)
        json_array_append_new(items, kind_show(rq->kind, s->items[i]->json));
    request_reply(rq, 200,
                  json_pack("{s:s, s:s, s:O, s:o}", "kind", rq->kind->list_kind, "apiVersion",
                            rq->kind->api_version, "metadata", s->metadata, "items", items));
}

/* Gives the snapshot that the page is of. */
static enum errc read_snapshot(const struct request *rq, const char *prefix,
                               const struct page *page, struct store_list *ret_list,
                               struct error *err) {
    if (page->revision)
        return store_list_at(rq->kube->opt.store, prefix, page->revision, ret_list, err);
    store_list(rq->kube->opt.store, prefix, ret_list);
    return OK;
}

static void reply_page(struct request *rq, const struct filter *filter, const struct page *page,
                       struct selection *s) {
    collect(filter, page, s);
    if (shown_is_stored(rq->kind) && request_wants_json(rq))
        reply_texts(rq, s);
    else
        reply_objects(rq, s);
}

void rest_list(struct request *rq) {
    struct error err = ERROR_INIT;
    struct object_key prefix;
    struct page page = {0};
    struct filter filter;
    struct selection s = {0};
    enum errc code = filter_init(&filter, rq->kind, http_query(rq->x, "labelSelector"),
                                 http_query(rq->x, "fieldSelector"), &err);
    if (!code)
        code = page_read(rq, rest_prefix(rq, &prefix), &page, &err);
    if (!code)
        code = read_snapshot(rq, prefix.text, &page, &s.all, &err);
    if (!code)
        reply_page(rq, &filter, &page, &s);
    else if (code == ERR_GONE)
        page_fail_expired(rq, &page);
    else
        request_fail(rq, &err);
    selection_deinit(&s);
    filter_deinit(&filter);
}
