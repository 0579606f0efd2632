/* Reading: get and list.
 *
 * A list is a snapshot of the store's memory, cut into pages when the client asks. The continue
 * token names the last key of the page and the revision of the first one; later pages show current
 * objects behind that key under the original revision, so no old snapshot has to be kept. */
#include "kube-compat/rest.h"

#include <errno.h>
#include <stdio.h>

#include "core/base/base64.h"
#include "core/object.h"
#include "kube-compat/events_view.h"
#include "kube-compat/filter.h"
#include "kube-compat/shown.h"
#include "kube-compat/status.h"

enum { CONTINUE_BYTES_MAX = 4096 };

struct page {
    int64_t limit;     /* 0: all */
    const char *after; /* key; NULL: from the start */
    int64_t revision;  /* of the first page; 0: this is it */
};

const char *rest_prefix(const struct request *rq, struct object_key *out) {
    return object_key(out, rq->kind->store_group, rq->kind->plural, rq->ns, NULL);
}

enum errc rest_read(const struct request *rq, struct store_object **ret_o, struct error *err) {
    struct object_key key;
    object_key(&key, rq->kind->store_group, rq->kind->plural, rq->ns, rq->name);
    enum errc code = store_get(rq->kube->opt.store, key.text, ret_o, err);
    return code == ERR_NOT_FOUND ? request_not_found(rq, err) : code;
}

void rest_get(struct request *rq) {
    AUTO(store_object) o = NULL;
    struct error err = ERROR_INIT;
    if (rest_read(rq, &o, &err))
        request_fail(rq, &err);
    else
        request_reply(rq, 200, kind_show(rq->kind, o->json));
}

static bool parse_integer(const char *text, int64_t *ret) {
    char *end;
    errno = 0;
    *ret = strtoll(text, &end, 10);
    return *text && !*end && !errno;
}

enum errc rest_query_version(const struct request *rq, int64_t *ret_version, struct error *err) {
    const char *text = http_query(rq->x, "resourceVersion");
    *ret_version = -1;
    if (!text || !*text)
        return OK;
    if (!parse_integer(text, ret_version) || *ret_version < 0)
        return err_set(err, ERR_MALFORMED,
                       "Invalid value: \"%.64s\": resourceVersion must be a "
                       "non-negative integer",
                       text);
    return OK;
}

static enum errc read_continue(struct request *rq, struct page *page, struct error *err) {
    const char *token = http_query(rq->x, "continue");
    if (!token || !*token)
        return OK;
    AUTO_BUF text = BUF_INIT;
    json_t *o = NULL;
    if (strlen(token) <= CONTINUE_BYTES_MAX && base64url_decode(&text, token) && text.len)
        o = json_loadb(text.data, text.len, 0, NULL);
    const char *start = object_str(o, "start");
    page->revision = object_int(o, "rv", 0);
    page->after = arena_strdup(http_arena(rq->x), start);
    json_decref(o);
    if (!page->after || page->revision <= 0)
        return err_set(err, ERR_MALFORMED, "invalid continue token: it does not decode");
    return OK;
}

static void write_continue(json_t *metadata, const char *key, int64_t revision) {
    json_t *o = json_pack("{s:s, s:I, s:s}", "v", "meta.k8s.io/v1", "rv", (json_int_t)revision,
                          "start", key);
    char *text = json_dumps(o, JSON_COMPACT);
    AUTO_BUF token = BUF_INIT;
    base64url_append(&token, text, strlen(text));
    json_object_set_new(metadata, "continue", json_string(token.data));
    free(text);
    json_decref(o);
}

/* resourceVersion and resourceVersionMatch of a list: checks the rules of kube-wire's section 8. */
static enum errc check_version(struct request *rq, const struct page *page, struct error *err) {
    const char *match = http_query(rq->x, "resourceVersionMatch");
    int64_t version;
    enum errc code = rest_query_version(rq, &version, err);
    if (code)
        return code;
    if (http_query_bool(rq->x, "sendInitialEvents"))
        return err_field(err, ERR_INVALID, "sendInitialEvents",
                         "sendInitialEvents is forbidden for list");
    bool not_older = match && !strcmp(match, "NotOlderThan");
    bool exact = match && !strcmp(match, "Exact");
    if (match && *match &&
        (!(not_older || exact) || version < 0 || page->after || (exact && version == 0)))
        return err_field(err, ERR_INVALID, "resourceVersionMatch",
                         "resourceVersionMatch is forbidden unless resourceVersion is provided");
    int64_t current = store_revision(rq->kube->opt.store);
    if (version > current) {
        cause_add(rq->causes, "ResourceVersionTooLarge", "", "Too large resource version");
        err_set(err, ERR_TIMEOUT, "Too large resource version: %lld, current: %lld",
                (long long)version, (long long)current);
        err->retry_after_seconds = 1;
        return ERR_TIMEOUT;
    }
    if (exact && version != current)
        return err_set(err, ERR_GONE, "The resourceVersion for the provided list is too old.");
    return OK;
}

static enum errc read_page(struct request *rq, struct page *page, struct error *err) {
    *page = (struct page){0};
    const char *limit = http_query(rq->x, "limit");
    if (limit && *limit && !parse_integer(limit, &page->limit))
        return err_set(err, ERR_MALFORMED, "Invalid value: \"%.64s\": limit must be an integer",
                       limit);
    if (page->limit < 0)
        page->limit = 0;
    enum errc code = read_continue(rq, page, err);
    return code ? code : check_version(rq, page, err);
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

static void collect(const struct request *rq, const struct filter *filter, const struct page *page,
                    struct selection *ret_s) {
    struct object_key prefix;
    struct selection s = {.metadata = json_object()};
    store_list(rq->kube->opt.store, rest_prefix(rq, &prefix), &s.all);
    s.items = mem_array(s.all.num_items, sizeof(struct store_object *));
    int64_t revision = page->revision ? page->revision : s.all.revision;
    json_object_set_new(s.metadata, "resourceVersion", json_sprintf("%lld", (long long)revision));
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
        write_continue(s.metadata, s.items[s.num_items - 1]->key, revision);
        if (filter_empty(filter))
            json_object_set_new(s.metadata, "remainingItemCount",
                                json_integer((json_int_t)(s.all.num_items - i)));
    }
    *ret_s = s;
}

/* The answer from the items' texts. */
static void reply_text(struct request *rq, const struct selection *s) {
    AUTO_BUF b = BUF_INIT;
    size_t len = 0;
    for (size_t i = 0; i < s->num_items; i++)
        len += shown_text(s->items[i])->len + 1;
    char *metadata = json_dumps(s->metadata, JSON_COMPACT);
    buf_reserve(&b, len + strlen(metadata) + 1024);
    buf_printf(&b, "{\"kind\":\"%s\",\"apiVersion\":\"%s\",\"metadata\":%s,\"items\":[",
               rq->kind->list_kind, rq->kind->api_version, metadata);
    free(metadata);
    for (size_t i = 0; i < s->num_items; i++) {
        const struct store_text *text = shown_text(s->items[i]);
        if (i)
            buf_putc(&b, ',');
        buf_append(&b, text->data, text->len);
    }
    buf_puts(&b, "]}\n");
    request_reply_text(rq, 200, &b);
}

static void reply_objects(struct request *rq, const struct selection *s) {
    json_t *items = json_array();
    for (size_t i = 0; i < s->num_items; i++)
        json_array_append_new(items, kind_show(rq->kind, s->items[i]->json));
    request_reply(rq, 200,
                  json_pack("{s:s, s:s, s:O, s:o}", "kind", rq->kind->list_kind, "apiVersion",
                            rq->kind->api_version, "metadata", s->metadata, "items", items));
}

void rest_list(struct request *rq) {
    struct error err = ERROR_INIT;
    struct page page;
    struct filter filter;
    enum errc code = filter_init(&filter, rq->kind, http_query(rq->x, "labelSelector"),
                                 http_query(rq->x, "fieldSelector"), &err);
    if (!code)
        code = read_page(rq, &page, &err);
    if (code) {
        request_fail(rq, &err);
    } else {
        bool as_text = shown_is_stored(rq->kind) && request_wants_json(rq);
        struct selection s;
        collect(rq, &filter, &page, &s);
        if (as_text)
            reply_text(rq, &s);
        else
            reply_objects(rq, &s);
        selection_deinit(&s);
    }
    filter_deinit(&filter);
}
