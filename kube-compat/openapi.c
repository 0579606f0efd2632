/* OpenAPI documents: version 3 once a group version, version 2 once for all kinds.
 *
 * Their names or tags carry a hash, so clients may keep them for ever; it is computed when somebody
 * asks for the first time after the table of kinds has changed. Texts of version 3 are kept, but
 * for documents with users' kinds, which can have megabytes; version 2 is written anew for each
 * reader, which are few (kubectl before 1.29 at every apply, Argo CD). What kubectl reads in them:
 * whether PATCH of a kind knows `fieldValidation` (then the server validates) and `dryRun`, and the
 * schemas, for `explain` and for what it checks itself. */
#include "kube-compat/openapi.h"

#include <pthread.h>
#include <stdio.h>

#include "kube-compat/openapi_write.h"
#include "kube-compat/reviews.h"

enum { HASH_BYTES_MAX = 20 };

void openapi_kinds_init(struct openapi_kinds *k, const struct kinds *kinds) {
    size_t num = kinds_count(kinds), num_reviews = reviews_count();
    k->all = mem_array(num + num_reviews, sizeof(k->all[0]));
    k->reviews = mem_array(num_reviews, sizeof(k->reviews[0]));
    k->num = num + num_reviews;
    for (size_t i = 0; i < num; i++)
        k->all[i] = kinds_at(kinds, i);
    for (size_t i = 0; i < num_reviews; i++) {
        const struct review *r = reviews_at(i);
        k->reviews[i] = (struct kind){
            .group = r->group,
            .version = "v1",
            .api_version = r->api_version,
            .kind = r->kind,
            .plural = r->resource,
            .namespaced = r->namespaced,
            .built_in = true,
            .create_only = true,
            .schema = schema_types_find(kinds_types(kinds), r->type),
        };
        k->all[num + i] = &k->reviews[i];
    }
}

void openapi_kinds_deinit(struct openapi_kinds *k) {
    free((void *)k->all);
    free(k->reviews);
}

bool openapi_reads(const struct kind *k) {
    return !k->create_only;
}

bool openapi_creates(const struct kind *k) {
    return !k->measured;
}

bool openapi_changes(const struct kind *k) {
    return !k->measured && !k->create_only;
}

struct document {
    char *name; /* "api/v1", "apis/apps/v1" */
    char *text; /* NULL: made anew for each request */
    size_t len;
    char hash[HASH_BYTES_MAX];
};

/* The documents of one table of kinds. Immutable once made; shared by reference. */
struct documents {
    _Atomic uint32_t refs;
    struct kinds *kinds; /* a reference */
    struct document *all;
    size_t num;
};

struct openapi {
    pthread_mutex_t lock; /* over the pointer */
    struct documents *current;
};

static void documents_unref(struct documents *d) {
    if (!d || --d->refs)
        return;
    for (size_t i = 0; i < d->num; i++) {
        free(d->all[i].name);
        free(d->all[i].text);
    }
    free(d->all);
    kinds_unref(d->kinds);
    free(d);
}

struct openapi *openapi_create(void) {
    struct openapi *o = mem_alloc(sizeof(*o));
    pthread_mutex_init(&o->lock, NULL);
    return o;
}

void openapi_destroy(struct openapi *o) {
    if (!o)
        return;
    documents_unref(o->current);
    pthread_mutex_destroy(&o->lock);
    free(o);
}

static void hash_text(const struct buf *text, char ret_hash[HASH_BYTES_MAX]) {
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < text->len; i++)
        hash = (hash ^ (unsigned char)text->data[i]) * 1099511628211u;
    snprintf(ret_hash, HASH_BYTES_MAX, "%016llX", (unsigned long long)hash);
}

static void add_document(struct documents *d, const struct openapi_kinds *kinds,
                         const struct kind *of) {
    struct document *doc = &d->all[d->num++];
    doc->name = mem_printf("%s/%s", *of->group ? "apis" : "api", of->api_version);
    struct buf out = BUF_INIT;
    openapi_put_v3(&out, kinds, of->api_version);
    hash_text(&out, doc->hash);
    bool users = false;
    for (size_t i = 0; i < kinds->num; i++) {
        const struct kind *k = kinds->all[i];
        users = users || (k->crd && !strcmp(k->api_version, of->api_version));
    }
    if (!users) {
        doc->len = out.len;
        doc->text = buf_steal(&out);
    }
    buf_deinit(&out);
}

static const struct document *find_document(const struct documents *d, const char *name) {
    for (size_t i = 0; i < d->num; i++) {
        if (!strcmp(d->all[i].name, name))
            return &d->all[i];
    }
    return NULL;
}

static struct documents *make_documents(struct kinds *kinds) {
    struct documents *d = mem_alloc(sizeof(*d));
    d->refs = 1;
    d->kinds = kinds_ref(kinds);
    AUTO_OPENAPI_KINDS all;
    openapi_kinds_init(&all, kinds);
    d->all = mem_array(all.num, sizeof(d->all[0]));
    for (size_t i = 0; i < all.num; i++) {
        const struct kind *k = all.all[i];
        char name[512];
        snprintf(name, sizeof(name), "%s/%s", *k->group ? "apis" : "api", k->api_version);
        if (!find_document(d, name))
            add_document(d, &all, k);
    }
    return d;
}

/* Gives a reference to the documents of a table; two threads that come first both make them. */
static struct documents *documents_of(struct openapi *o, struct kinds *kinds) {
    pthread_mutex_lock(&o->lock);
    struct documents *d = o->current;
    if (d && d->kinds == kinds)
        d->refs++;
    else
        d = NULL;
    pthread_mutex_unlock(&o->lock);
    if (d)
        return d;
    d = make_documents(kinds);
    d->refs++;
    pthread_mutex_lock(&o->lock);
    struct documents *was = o->current;
    o->current = d;
    pthread_mutex_unlock(&o->lock);
    documents_unref(was);
    return d;
}

static void reply_index(struct request *rq, const struct documents *d) {
    json_t *paths = json_object();
    for (size_t i = 0; i < d->num; i++)
        json_object_set_new(
            paths, d->all[i].name,
            json_pack("{s:o}", "serverRelativeURL",
                      json_sprintf("/openapi/v3/%s?hash=%s", d->all[i].name, d->all[i].hash)));
    json_t *index = json_pack("{s:o}", "paths", paths);
    http_reply_json(rq->x, 200, index);
    json_decref(index);
}

static void reply_document(struct request *rq, const struct document *d) {
    const char *hash = http_query(rq->x, "hash");
    if (hash && *hash && strcmp(hash, d->hash) != 0) {
        char location[512];
        snprintf(location, sizeof(location), "/openapi/v3/%s?hash=%s", d->name, d->hash);
        http_set_header(rq->x, "Location", location);
        http_reply(rq->x, 301, "text/plain", "", 0);
        return;
    }
    char tag[24];
    snprintf(tag, sizeof(tag), "\"%s\"", d->hash);
    http_set_header(rq->x, "ETag", tag);
    http_set_header(rq->x, "Vary", "Accept");
    http_set_header(rq->x, "Cache-Control",
                    hash && *hash ? "public, immutable, max-age=31536000" : "no-cache");
    const char *have = http_header(rq->x, "If-None-Match");
    if (have && !strcmp(have, tag)) {
        http_reply(rq->x, 304, "application/json", "", 0);
    } else if (d->text) {
        http_reply(rq->x, 200, "application/json", d->text, d->len);
    } else {
        AUTO_BUF text = BUF_INIT;
        AUTO_OPENAPI_KINDS kinds;
        openapi_kinds_init(&kinds, rq->kinds);
        openapi_put_v3(&text, &kinds, strchr(d->name, '/') + 1);
        http_reply(rq->x, 200, "application/json", text.data, text.len);
    }
}

/* The tag is that of the text in this form; a reader who has it is spared the transfer. */
static void reply_v2(struct request *rq) {
    bool binary = accept_choose(http_header(rq->x, "Accept"),
                                ACCEPT_JSON | ACCEPT_OPENAPI_PROTOBUF) == ACCEPT_OPENAPI_PROTOBUF;
    const char *type =
        binary ? "application/com.github.proto-openapi.spec.v2.v1.0+protobuf" : "application/json";
    AUTO_BUF text = BUF_INIT;
    AUTO_OPENAPI_KINDS kinds;
    openapi_kinds_init(&kinds, rq->kinds);
    if (binary)
        openapi_put_v2_proto(&text, &kinds);
    else
        openapi_put_v2(&text, &kinds);
    char hash[HASH_BYTES_MAX], tag[HASH_BYTES_MAX + 2];
    hash_text(&text, hash);
    snprintf(tag, sizeof(tag), "\"%s\"", hash);
    http_set_header(rq->x, "ETag", tag);
    http_set_header(rq->x, "Vary", "Accept");
    const char *have = http_header(rq->x, "If-None-Match");
    if (have && !strcmp(have, tag))
        http_reply(rq->x, 304, type, "", 0);
    else
        http_reply(rq->x, 200, type, text.data, text.len);
}

bool openapi_handle(struct request *rq, const char *path) {
    if (!strcmp(path, "/openapi/v2")) {
        reply_v2(rq);
        return true;
    }
    if (strncmp(path, "/openapi/v3", 11) != 0 || (path[11] && path[11] != '/'))
        return false;
    struct documents *all = documents_of(rq->kube->openapi, rq->kinds);
    bool index = !path[11] || !path[12];
    const struct document *d = index ? NULL : find_document(all, path + 12);
    if (index)
        reply_index(rq, all);
    else if (d)
        reply_document(rq, d);
    documents_unref(all);
    return index || d;
}
