/* Writing: create, update and patch, of an object or its status. The rules are in write.c; here is
 * what the verbs make of their bodies. */
#include "kube-compat/rest.h"

#include "core/object.h"
#include "kube-compat/body.h"
#include "kube-compat/events_view.h"
#include "kube-compat/patch_body.h"
#include "kube-compat/write.h"

enum { WRITE_TRIES_MAX = 64 }; /* against racing writers; each try costs them a commit, too */

static enum write_scope scope_of(const struct request *rq) {
    return rq->subresource ? WRITE_STATUS : WRITE_WHOLE;
}

/* Reads and checks a body; gives it in stored form. */
static enum errc read_object(struct request *rq, json_t **ret_object, struct error *err) {
    json_t *duplicates = json_array(), *object = NULL;
    enum errc code = body_read(rq, rq->kind->schema, duplicates, &object, err);
    if (!code && !object)
        code = err_set(err, ERR_MALFORMED,
                       "the request has no body; an object of kind %s is expected", rq->kind->kind);
    if (!code)
        code = body_check_kind(object, rq->kind, err);
    if (!code)
        code = write_check_fields(rq, object, duplicates, err);
    json_decref(duplicates);
    if (code)
        json_decref(object);
    else
        *ret_object = kind_store(rq->kind, object);
    return code;
}

/* Answers with what a write gave, in the form of the URL's kind. */
static void reply(struct request *rq, int status, const struct kind *shown, enum errc code,
                  json_t *result, const struct error *err) {
    rq->kind = shown;
    if (code)
        request_fail(rq, err);
    else if (rq->written)
        rest_reply_stored(rq, status, shown, rq->written);
    else
        request_reply(rq, status, kind_show(shown, result));
    json_decref(result);
}

void rest_create(struct request *rq) {
    struct error err = ERROR_INIT;
    const struct kind *shown = rq->kind;
    json_t *object = NULL, *result = NULL;
    enum errc code = read_object(rq, &object, &err);
    rq->kind = shown->storage;
    if (!code)
        code = write_create(rq, object, &result, &err);
    reply(rq, 201, shown, code, result, &err);
}

/* A custom resource must say which version it replaces. */
static enum errc require_version(struct request *rq, const json_t *object, struct error *err) {
    const char *rv = object_str(object, "metadata.resourceVersion");
    if (rq->kind->built_in || (rv && *rv))
        return OK;
    cause_add(rq->causes, CAUSE_INVALID, "metadata.resourceVersion",
              "Invalid value: 0x0: must be specified for an update");
    return err_set(err, ERR_INVALID, "%s is invalid", rq->kind->kind);
}

void rest_update(struct request *rq) {
    struct error err = ERROR_INIT;
    const struct kind *shown = rq->kind;
    json_t *object = NULL, *result = NULL;
    enum errc code = read_object(rq, &object, &err);
    rq->kind = shown->storage;
    bool retry = !code;
    for (int tries = 0; retry && tries < WRITE_TRIES_MAX; tries++) {
        AUTO(store_object) old = NULL;
        retry = false;
        code = rest_read(rq, &old, &err);
        if (!code)
            code = require_version(rq, object, &err);
        if (!code)
            code =
                write_update(rq, old, json_deep_copy(object), scope_of(rq), &result, &retry, &err);
    }
    if (object)
        json_decref(object);
    reply(rq, 200, shown, code, result, &err);
}

/* One try: read, patch, write. */
static enum errc patch_once(struct request *rq, const struct kind *shown,
                            const struct patch_body *p, json_t **ret_object, bool *ret_retry,
                            struct error *err) {
    AUTO(store_object) old = NULL;
    rq->kind = shown;
    enum errc code = rest_read(rq, &old, err);
    if (code)
        return code;
    json_t *doc = kind_show(shown, old->json), *object = NULL;
    code = patch_body_apply(p, shown->schema, doc, &object, err);
    json_decref(doc);
    if (code)
        return code;
    json_array_clear(rq->warnings);
    code = body_check_kind(object, shown, err);
    if (!code)
        code = write_check_fields(rq, object, p->duplicates, err);
    if (code) {
        json_decref(object);
        return code;
    }
    /* A patch that says nothing about the version is tried again after a race. */
    const char *rv = object_str(object, "metadata.resourceVersion");
    if (rv && !strcmp(rv, object_str(old->json, "metadata.resourceVersion")))
        object_delete(object, "metadata.resourceVersion");
    object = kind_store(shown, object);
    rq->kind = shown->storage;
    return write_update(rq, old, object, scope_of(rq), ret_object, ret_retry, err);
}

static enum errc refuse_force(struct request *rq, struct error *err) {
    if (!http_query(rq->x, "force"))
        return OK;
    cause_add(rq->causes, CAUSE_FORBIDDEN, "force",
              "Forbidden: may not be specified for non-apply patch");
    return err_set(err, ERR_INVALID, "force is invalid");
}

void rest_patch(struct request *rq) {
    struct error err = ERROR_INIT;
    if (patch_body_is(rq, APPLY_MEDIA_TYPE)) {
        rest_apply(rq);
        return;
    }
    const struct kind *shown = rq->kind;
    struct patch_body p = {0};
    json_t *result = NULL;
    enum errc code = refuse_force(rq, &err);
    if (!code)
        code = patch_body_read(rq, shown->built_in, &p, &err);
    bool retry = !code;
    for (int tries = 0; retry && tries < WRITE_TRIES_MAX; tries++) {
        retry = false;
        code = patch_once(rq, shown, &p, &result, &retry, &err);
    }
    patch_body_deinit(&p);
    reply(rq, 200, shown, code, result, &err);
}
