/* The scale subresource: a small object of its own that stands for spec.replicas of a bigger one.
 * Where the numbers are is the kind's data (subresources.scale), as in a CustomResourceDefinition.
 */
#include "kube-compat/rest.h"

#include <stdio.h>

#include "core/object.h"
#include "kube-compat/body.h"
#include "kube-compat/patch_body.h"
#include "kube-compat/table.h"
#include "kube-compat/write.h"

#define SCALE_TYPE "autoscaling.v1.Scale"

enum { SCALE_TRIES_MAX = 64 };

/* How a Scale looks as a Table. */
static struct kind_column columns[] = {
    {.name = "Desired",
     .type = "integer",
     .description = "How many replicas are wanted.",
     .json_path = ".spec.replicas"},
    {.name = "Available",
     .type = "integer",
     .description = "How many there are.",
     .json_path = ".status.replicas"},
    {.name = "Age", .type = "date", .json_path = ".metadata.creationTimestamp"},
};
static const struct kind scale_kind = {
    .group = "autoscaling",
    .version = "v1",
    .api_version = "autoscaling/v1",
    .kind = "Scale",
    .name_column = true,
    .columns = columns,
    .num_columns = ARRAY_LEN(columns),
};

/* Gives the Scale of an object. */
static json_t *scale_of(const struct kind *kind, const json_t *o) {
    json_t *metadata = json_object();
    static const char *const kept[] = {"name", "namespace", "uid", "resourceVersion",
                                       "creationTimestamp"};
    for (size_t i = 0; i < ARRAY_LEN(kept); i++) {
        json_t *value = json_object_get(json_object_get(o, "metadata"), kept[i]);
        if (value)
            json_object_set(metadata, kept[i], value);
    }
    json_t *status =
        json_pack("{s:I}", "replicas", (json_int_t)object_int(o, kind->scale_status_path, 0));
    /* A user's kind has its selector as text; the built-in ones have it in their own form. */
    json_t *selector = kind->crd ? json_incref(object_at(o, kind->scale_selector_path))
                                 : table_cell("label-selector", o, 0);
    if (json_is_string(selector) && strcmp(json_string_value(selector), "<none>") != 0)
        json_object_set(status, "selector", selector);
    json_decref(selector);
    return json_pack("{s:s, s:s, s:o, s:{s:I}, s:o}", "kind", "Scale", "apiVersion",
                     "autoscaling/v1", "metadata", metadata, "spec", "replicas",
                     (json_int_t)object_int(o, kind->scale_spec_path, 0), "status", status);
}

static enum errc read_replicas(struct request *rq, const json_t *scale, int64_t *ret_replicas,
                               struct error *err) {
    const json_t *spec = json_object_get(scale, "spec");
    const json_t *replicas = json_object_get(spec, "replicas");
    if (!json_is_object(scale) || (spec && !json_is_object(spec)) ||
        (replicas && !json_is_integer(replicas)))
        return err_set(err, ERR_MALFORMED,
                       "Scale in version \"v1\" cannot be handled as a Scale: spec.replicas must "
                       "be an integer");
    *ret_replicas = json_integer_value(replicas); /* absent is zero, as a typed client means it */
    if (*ret_replicas >= 0 && *ret_replicas <= INT32_MAX)
        return OK;
    cause_add(rq->causes, CAUSE_INVALID, "spec.replicas",
              "Invalid value: %lld: must be greater than or equal to 0", (long long)*ret_replicas);
    return err_set(err, ERR_INVALID, "Scale is invalid");
}

/* Gives the Scale that the client wants, from a PUT body or a patch of the current one. */
static enum errc wanted_scale(struct request *rq, const json_t *current, json_t **ret_scale,
                              struct error *err) {
    const struct schema *schema = schema_types_find(kinds_types(rq->kinds), SCALE_TYPE);
    if (!strcmp(rq->verb, "update")) {
        enum errc code = body_read(rq, schema, NULL, ret_scale, err);
        if (!code && !*ret_scale)
            code = err_set(err, ERR_MALFORMED, "the request has no body; a Scale is expected");
        return code;
    }
    struct patch_body p;
    enum errc code = patch_body_read(rq, rq->kind->built_in, &p, err);
    if (!code)
        code = patch_body_apply(&p, schema, current, ret_scale, err);
    patch_body_deinit(&p);
    return code;
}

static enum errc write_scale(struct request *rq, json_t **ret_scale, bool *ret_retry,
                             struct error *err) {
    AUTO(store_object) old = NULL;
    *ret_retry = false;
    enum errc code = rest_read(rq, &old, err);
    if (code)
        return code;
    json_t *current = scale_of(rq->kind, old->json), *scale = NULL;
    int64_t replicas = 0;
    code = wanted_scale(rq, current, &scale, err);
    if (!code)
        code = read_replicas(rq, scale, &replicas, err);
    const char *have = object_str(old->json, "metadata.resourceVersion");
    const char *want = object_str(scale, "metadata.resourceVersion");
    bool names_version = want && *want && have && strcmp(want, have) != 0;
    json_t *result = NULL;
    if (!code && names_version) {
        code = request_conflict(rq, err);
    } else if (!code) {
        json_t *object = json_deep_copy(old->json);
        object_delete(object, "metadata.resourceVersion");
        object_set(object, rq->kind->scale_spec_path, json_integer(replicas));
        code = write_update(rq, old, object, WRITE_WHOLE, &result, ret_retry, err);
    }
    if (result)
        *ret_scale = scale_of(rq->kind, result);
    json_decref(result);
    json_decref(current);
    json_decref(scale);
    return code;
}

/* Gives the configuration of the object itself that an applied Scale amounts to: the field that its
 * replicas stand for, and what it says of the object's identity. */
static enum errc config_of(struct request *rq, const json_t *scale, json_t **ret_config,
                           struct error *err) {
    static const char *const identity[] = {"name", "namespace", "uid", "resourceVersion"};
    const char *kind = object_str(scale, "kind"), *version = object_str(scale, "apiVersion");
    const char *name = object_name(scale);
    int64_t replicas = 0;
    if (!kind || strcmp(kind, "Scale") != 0 || !version || strcmp(version, "autoscaling/v1") != 0)
        return err_set(err, ERR_MALFORMED,
                       "Incorrect version specified in apply patch. Specified patch version: "
                       "%s %s, expected: autoscaling/v1 Scale",
                       version ? version : "", kind ? kind : "");
    if (object_at(scale, "metadata.managedFields"))
        return err_set(err, ERR_MALFORMED, "metadata.managedFields must be nil");
    if (!name || strcmp(name, rq->name) != 0)
        return err_set(err, ERR_MALFORMED,
                       "the name of the object (%s) does not match the name on the URL (%s)",
                       name ? name : "", rq->name);
    enum errc code = read_replicas(rq, scale, &replicas, err);
    if (code)
        return code;
    json_t *metadata = json_object();
    for (size_t i = 0; i < ARRAY_LEN(identity); i++) {
        json_t *value = json_object_get(json_object_get(scale, "metadata"), identity[i]);
        if (value)
            json_object_set(metadata, identity[i], value);
    }
    *ret_config = json_pack("{s:s, s:s, s:o}", "apiVersion", rq->kind->api_version, "kind",
                            rq->kind->kind, "metadata", metadata);
    if (object_at(scale, "spec.replicas"))
        object_set(*ret_config, rq->kind->scale_spec_path, json_integer(replicas));
    return OK;
}

static enum errc apply_scale(struct request *rq, json_t **ret_scale, struct error *err) {
    json_t *duplicates = json_array(), *scale = NULL, *config = NULL, *result = NULL;
    bool created = false;
    enum errc code = rest_check_manager(rq, err);
    if (!code)
        code = rest_parse_config(rq, duplicates, &scale, err);
    if (!code)
        code = config_of(rq, scale, &config, err);
    if (!code)
        code = rest_apply_config(rq, config, &result, &created, err);
    if (!code)
        *ret_scale = scale_of(rq->kind, result);
    json_decref(result);
    json_decref(config);
    json_decref(scale);
    json_decref(duplicates);
    return code;
}

void rest_scale(struct request *rq) {
    struct error err = ERROR_INIT;
    json_t *scale = NULL;
    enum errc code;
    rq->kind = rq->kind->storage;
    if (!strcmp(rq->verb, "get")) {
        AUTO(store_object) o = NULL;
        code = rest_read(rq, &o, &err);
        if (!code)
            scale = scale_of(rq->kind, o->json);
    } else if (!strcmp(rq->verb, "patch") && patch_body_is(rq, APPLY_MEDIA_TYPE)) {
        code = apply_scale(rq, &scale, &err);
    } else {
        bool retry = true;
        for (int tries = 0; retry && tries < SCALE_TRIES_MAX; tries++)
            code = write_scale(rq, &scale, &retry, &err);
    }
    if (code) {
        request_fail(rq, &err);
        return;
    }
    rq->kind = &scale_kind;
    request_reply(rq, 200, scale);
}
