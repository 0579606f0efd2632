/* PATCH with an apply configuration. What apply means is in apply.c; here is what comes from the
 * request and what the store makes of the result: an object that is not there is created, one that
 * is goes through the same pipeline as any update. */
#include "kube-compat/rest.h"

#include <ctype.h>

#include "core/base/yaml.h"
#include "core/object.h"
#include "kube-compat/apply.h"
#include "kube-compat/authz.h"
#include "kube-compat/audit.h"
#include "kube-compat/body.h"
#include "kube-compat/events_view.h"
#include "kube-compat/status.h"
#include "kube-compat/write.h"

enum { APPLY_TRIES_MAX = 64 };

/* Parses a body that is YAML, most of the time in its JSON subset: that is read as JSON, strictly,
 * so that keys standing twice are found. */
enum errc rest_parse_config(const struct request *rq, json_t *duplicates, json_t **ret_config,
                            struct error *err) {
    size_t len, start = 0;
    const char *body = http_body(rq->x, &len);
    if (len > BODY_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "Request entity too large: limit is %d", BODY_BYTES_MAX);
    while (start < len && isspace((unsigned char)body[start]))
        start++;
    json_t *config = NULL;
    bool json =
        start < len && body[start] == '{' && !body_parse_json(body, len, duplicates, &config, err);
    if (!json) {
        enum errc code = yaml_parse(body, len, &config, err);
        if (code)
            return code;
    }
    if (json_is_object(config) && json_is_object(json_object_get(config, "metadata"))) {
        audit_body(rq->audit, config);
        *ret_config = config;
        return OK;
    }
    json_decref(config);
    return err_set(err, ERR_MALFORMED, "an apply configuration is an object with metadata");
}

static enum errc check_config(const struct request *rq, json_t *config, struct error *err) {
    const char *version = object_str(config, "apiVersion"), *kind = object_str(config, "kind");
    const char *name = object_str(config, "metadata.name");
    if (!kind || !*kind)
        return err_set(err, ERR_MALFORMED, "Object 'Kind' is missing in an apply configuration");
    if (!version || strcmp(version, rq->kind->api_version) != 0)
        return err_set(err, ERR_MALFORMED,
                       "Incorrect version specified in apply patch. Specified patch version: %s, "
                       "expected: %s",
                       version ? version : "", rq->kind->api_version);
    if (object_at(config, "metadata.managedFields"))
        return err_set(err, ERR_MALFORMED, "metadata.managedFields must be nil");
    if (!name || strcmp(name, rq->name) != 0)
        return err_set(err, ERR_MALFORMED,
                       "the name of the object (%s) does not match the name on the URL (%s)",
                       name ? name : "", rq->name);
    return body_check_kind(config, rq->kind, err);
}

/* Leaves what this door writes: everything but status, or status alone. */
static void restrict_to_scope(const struct request *rq, json_t *config) {
    if (!rq->subresource) {
        if (rq->kind->has_status)
            json_object_del(config, "status");
        return;
    }
    static const char *const identity[] = {"name", "namespace", "uid", "resourceVersion"};
    const char *key;
    void *next;
    json_t *member, *metadata = json_object();
    for (size_t i = 0; i < ARRAY_LEN(identity); i++) {
        member = json_object_get(json_object_get(config, "metadata"), identity[i]);
        if (member)
            json_object_set(metadata, identity[i], member);
    }
    json_object_set_new(config, "metadata", metadata);
    json_object_foreach_safe (config, next, key, member) {
        if (strcmp(key, "metadata") != 0 && strcmp(key, "status") != 0 &&
            strcmp(key, "apiVersion") != 0 && strcmp(key, "kind") != 0)
            json_object_del(config, key);
    }
}

/* Gives the configuration in stored form. */
static enum errc read_config(struct request *rq, json_t **ret_config, struct error *err) {
    json_t *duplicates = json_array(), *config = NULL;
    enum errc code = rest_parse_config(rq, duplicates, &config, err);
    if (!code)
        code = check_config(rq, config, err);
    if (!code)
        code = write_check_fields(rq, config, duplicates, err);
    json_decref(duplicates);
    if (code) {
        json_decref(config);
        return code;
    }
    restrict_to_scope(rq, config);
    *ret_config = kind_store(rq->kind, config);
    return OK;
}

/* Who may patch may not create for that reason. */
static enum errc may_create(const struct request *rq, struct error *err) {
    const struct authz_attributes a = {.verb = "create",
                                       .group = rq->group,
                                       .resource = rq->resource,
                                       .name = rq->name,
                                       .ns = rq->ns};
    return authz_check(rq->kube->authz, rq->who, &a, err);
}

static enum errc create(struct request *rq, const json_t *config, json_t *object,
                        json_t **ret_object, bool *ret_retry, struct error *err) {
    enum errc code = may_create(rq, err);
    const char *uid = object_str(config, "metadata.uid");
    if (!code && uid && *uid)
        code = err_set(err, ERR_CONFLICT,
                       "Operation cannot be fulfilled on %s \"%s\": uid mismatch: the provided "
                       "object specified uid %s, and no existing object was found",
                       rq->kind->qualified, rq->name, uid);
    if (code) {
        json_decref(object);
        return code;
    }
    code = write_create(rq, object, ret_object, err);
    *ret_retry = code == ERR_EXISTS && !rq->dry_run;
    return code;
}

/* One try. */
static enum errc apply_once(struct request *rq, const json_t *config, json_t **ret_object,
                            bool *ret_created, bool *ret_retry, struct error *err) {
    AUTO(store_object) old = NULL;
    enum errc code = rest_read(rq, &old, err);
    *ret_created = code == ERR_NOT_FOUND && !rq->subresource;
    if (code && !*ret_created)
        return code;
    json_array_clear(rq->causes);
    const struct apply_request apply = {
        .schema = rq->kind->schema,
        .live = old ? old->json : NULL,
        .config = config,
        .writer = write_writer(rq),
        .force = http_query_bool(rq->x, "force"),
    };
    json_t *object = NULL, *entries = NULL;
    code = apply_config(&apply, &object, &entries, rq->causes, err);
    if (code)
        return code;
    rq->applied = entries;
    if (!old) {
        code = create(rq, config, object, ret_object, ret_retry, err);
    } else {
        /* Without a version in the configuration, the write is tried again after a race. */
        const json_t *version = object_at(config, "metadata.resourceVersion");
        if (!version)
            object_delete(object, "metadata.resourceVersion");
        bool of_status = rq->subresource && !strcmp(rq->subresource, "status");
        enum write_scope scope = of_status ? WRITE_STATUS : WRITE_WHOLE;
        code = write_update(rq, old, object, scope, ret_object, ret_retry, err);
    }
    rq->applied = NULL;
    json_decref(entries);
    return code;
}

enum errc rest_check_manager(struct request *rq, struct error *err) {
    if (rq->field_manager)
        return OK;
    rq->options_kind = "PatchOptions";
    cause_add(rq->causes, CAUSE_REQUIRED, "fieldManager",
              "Required value: is required for apply patch");
    return err_set(err, ERR_INVALID, "fieldManager is required");
}

enum errc rest_apply_config(struct request *rq, const json_t *config, json_t **ret_object,
                            bool *ret_created, struct error *err) {
    enum errc code = ERR_CONFLICT;
    bool retry = true;
    for (int tries = 0; retry && tries < APPLY_TRIES_MAX; tries++) {
        retry = false;
        code = apply_once(rq, config, ret_object, ret_created, &retry, err);
    }
    return code;
}

void rest_apply(struct request *rq) {
    struct error err = ERROR_INIT;
    const struct kind *shown = rq->kind;
    json_t *config = NULL, *result = NULL;
    bool created = false;
    enum errc code = rest_check_manager(rq, &err);
    if (!code)
        code = read_config(rq, &config, &err);
    rq->kind = shown->storage;
    if (!code)
        code = rest_apply_config(rq, config, &result, &created, &err);
    rq->kind = shown;
    if (code)
        request_fail(rq, &err);
    else if (rq->written)
        rest_reply_stored(rq, created ? 201 : 200, shown, rq->written);
    else
        request_reply(rq, created ? 201 : 200, kind_show(shown, result));
    json_decref(result);
    json_decref(config);
}
