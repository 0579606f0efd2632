/* The write pipeline. See write.h for its steps.
 *
 * Metadata belongs to the server: uid, creationTimestamp, generation, deletionTimestamp come from
 * the old object or are made here, whatever the client sent. Spec and status are written through
 * different doors: a write of the whole keeps the old status of kinds with a status subresource, a
 * write of status keeps everything else. Last, the owners of the fields are settled
 * (managed_fields.h), from what has become of the object. A write that changes nothing reaches the
 * store as the same value, which makes no revision and no event. */
#include "kube-compat/write.h"

#include <stdio.h>

#include "core/base/clock.h"
#include "core/object.h"
#include "kube-compat/body.h"
#include "kube-compat/crd.h"
#include "kube-compat/schema_cel.h"
#include "kube-compat/escalation.h"
#include "kube-compat/host_process.h"
#include "kube-compat/validate.h"

enum { GENERATE_TRIES_MAX = 8, CHARGE_TRIES_MAX = 64 };

static const char *const server_owned[] = {
    "uid",     "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds",
    "selfLink"};

static enum errc strict_error(const struct request *rq, const json_t *unknown,
                              const json_t *duplicates, struct error *err) {
    AUTO_BUF text = BUF_INIT;
    buf_printf(&text, "%s in version \"%s\" cannot be handled as a %s: strict decoding error: ",
               rq->kind->kind, rq->kind->version, rq->kind->kind);
    size_t i, num = 0;
    json_t *found;
    json_array_foreach (duplicates, i, found) {
        buf_printf(&text, "%s%s", num++ ? ", " : "", json_string_value(found));
    }
    json_array_foreach (unknown, i, found) {
        buf_printf(&text, "%sunknown field \"%s\"", num++ ? ", " : "", json_string_value(found));
    }
    return err_set(err, ERR_MALFORMED, "%s", text.data);
}

enum errc write_check_fields(struct request *rq, json_t *object, const json_t *duplicates,
                             struct error *err) {
    enum errc code = OK;
    if (rq->field_validation != FIELD_VALIDATION_IGNORE) {
        struct schema_findings found = {.unknown = json_array()};
        schema_check(rq->kind->schema, object, &found);
        bool any = json_array_size(found.unknown) || json_array_size(duplicates);
        if (any && rq->field_validation == FIELD_VALIDATION_STRICT) {
            code = strict_error(rq, found.unknown, duplicates, err);
        } else if (any) {
            json_array_extend(rq->warnings, (json_t *)(uintptr_t)duplicates);
            size_t i;
            json_t *path;
            json_array_foreach (found.unknown, i, path) {
                json_array_append_new(
                    rq->warnings, json_sprintf("unknown field \"%s\"", json_string_value(path)));
            }
        }
        json_decref(found.unknown);
    }
    if (!code)
        schema_prune(rq->kind->schema, object, !rq->kind->built_in);
    return code;
}

/* The namespace must exist and not be terminating. */
static enum errc check_namespace(const struct request *rq, const json_t *object,
                                 struct error *err) {
    if (!rq->kind->namespaced)
        return OK;
    struct object_key key;
    AUTO(store_object) ns = NULL;
    if (store_get(rq->kube->opt.store, object_key(&key, "core", "namespaces", NULL, rq->ns), &ns,
                  err))
        return err_set(err, ERR_NOT_FOUND, "namespaces \"%s\" not found", rq->ns);
    if (!object_deleting(ns->json))
        return OK;
    const char *name = object_name(object);
    cause_add(rq->causes, "NamespaceTerminating", "metadata.namespace",
              "namespace %s is being terminated", rq->ns);
    return err_set(
        err, ERR_FORBIDDEN,
        "%s \"%s\" is forbidden: unable to create new content in namespace %s because it "
        "is being terminated",
        rq->kind->qualified, name ? name : "", rq->ns);
}

static json_t *metadata_of(json_t *object) {
    json_t *metadata = json_object_get(object, "metadata");
    if (!json_is_object(metadata)) {
        metadata = json_object();
        json_object_set_new(object, "metadata", metadata);
    }
    return metadata;
}

/* The namespace in the body must be the URL's, or absent. */
static enum errc settle_namespace(const struct request *rq, json_t *metadata, struct error *err) {
    if (!rq->kind->namespaced) {
        json_object_del(metadata, "namespace");
        return OK;
    }
    const char *ns = object_str(metadata, "namespace");
    if (ns && *ns && strcmp(ns, rq->ns) != 0)
        return err_set(err, ERR_MALFORMED,
                       "the namespace of the provided object does not match the namespace sent on "
                       "the request");
    json_object_set_new(metadata, "namespace", json_string(rq->ns));
    return OK;
}

/* Schema and rules. Built-in kinds are decoded into types by the reference server, so a wrong type
 * is a malformed body there, not an invalid field. */
static enum errc validate(struct request *rq, const json_t *object, const json_t *old,
                          struct error *err) {
    struct schema_findings found = {
        .causes = rq->causes, .nulls = !rq->kind->built_in, .old = rq->kind->built_in ? NULL : old};
    json_array_clear(rq->causes);
    schema_check(rq->kind->schema, object, &found);
    size_t i;
    json_t *cause;
    json_array_foreach (rq->causes, i, cause) {
        if (!rq->kind->built_in || strcmp(object_str(cause, "reason"), CAUSE_TYPE_INVALID) != 0)
            continue;
        err_set(err, ERR_MALFORMED, "%s in version \"%s\" cannot be handled as a %s: %s: %s",
                rq->kind->kind, rq->kind->version, rq->kind->kind, object_str(cause, "field"),
                object_str(cause, "message"));
        json_array_clear(rq->causes);
        return ERR_MALFORMED;
    }
    validate_metadata(rq->kind, object, rq->causes);
    validate_object(rq->kind, object, rq->causes);
    if (old)
        validate_update(rq->kind, object, old, rq->causes);
    if (kind_is_crd(rq->kind) && !json_array_size(rq->causes))
        return crds_admit(rq->kube->crds, object, old, rq->causes, rq->warnings, err);
    if (!json_array_size(rq->causes))
        schema_cel_check(rq->kind->schema, object, old, rq->causes);
    else if (rq->kind->schema->has_cel)
        cause_add(rq->causes, CAUSE_INVALID, "<nil>",
                  "Invalid value: \"null\": some validation rules were not checked because the "
                  "object was invalid; correct the existing errors to complete validation");
    if (json_array_size(rq->causes))
        return err_set(err, ERR_INVALID, "%s is invalid", rq->kind->kind);
    return OK;
}

/* The text of an error without the field in front of it, which a cause carries by itself. */
static const char *without_field(const struct error *err) {
    size_t len = strlen(err->field);
    bool named = !strncmp(err->text, err->field, len) && !strncmp(err->text + len, ": ", 2);
    return named ? err->text + len + 2 : err->text;
}

static enum errc admit(struct request *rq, json_t *object, const json_t *old, struct error *err) {
    if (!rq->kube->opt.admit)
        return OK;
    const char *group = *rq->kind->group ? rq->kind->group : "";
    enum errc code = rq->kube->opt.admit(group, rq->kind->plural, object, old, rq->warnings, err);
    if (!code && rq->kube->opt.assign)
        code = rq->kube->opt.assign(rq->kube->opt.store, rq->kind->store_group, rq->kind->plural,
                                    object, old, err);
    if (code == ERR_INVALID && err->field[0])
        cause_add(rq->causes, CAUSE_INVALID, err->field, "%s", without_field(err));
    return code;
}

/* Empty maps and lists in metadata are as good as none. */
static void tidy_metadata(json_t *metadata) {
    static const char *const maps[] = {"labels", "annotations"};
    static const char *const lists[] = {"finalizers", "ownerReferences"};
    for (size_t i = 0; i < ARRAY_LEN(maps); i++) {
        const json_t *map = json_object_get(metadata, maps[i]);
        if (json_is_object(map) && !json_object_size(map))
            json_object_del(metadata, maps[i]);
        const json_t *list = json_object_get(metadata, lists[i]);
        if (json_is_array(list) && !json_array_size(list))
            json_object_del(metadata, lists[i]);
    }
}

struct managed_writer write_writer(const struct request *rq) {
    const char *manager = rq->field_manager;
    if (!manager) {
        const char *agent = http_header(rq->x, "User-Agent");
        AUTO_BUF name = BUF_INIT;
        for (; agent && *agent && *agent != '/' && name.len < MANAGED_MANAGER_BYTES_MAX; agent++) {
            if (*agent >= 0x20 && *agent < 0x7f)
                buf_putc(&name, *agent);
        }
        manager = arena_strdup(http_arena(rq->x), name.len ? name.data : "unknown");
    }
    return (struct managed_writer){.manager = manager,
                                   .api_version = rq->kind->api_version,
                                   .subresource = rq->subresource,
                                   .wall_ms = clock_wall_ms()};
}

/* Takes managedFields out of an object and gives what was there, or NULL. */
static json_t *detach_managed(json_t *object) {
    json_t *metadata = json_object_get(object, "metadata");
    json_t *sent = json_incref(json_object_get(metadata, "managedFields"));
    json_object_del(metadata, "managedFields");
    return sent;
}

/* True when nothing but the owners differs. */
static bool same_but_managed(const json_t *old, const json_t *object) {
    json_t *bare = json_copy((json_t *)(uintptr_t)old);
    json_t *metadata = json_copy(json_object_get(old, "metadata"));
    json_object_del(metadata, "managedFields");
    json_object_set_new(bare, "metadata", metadata);
    bool same = json_equal(bare, object);
    json_decref(bare);
    return same;
}

/* Sets the owners of an object that is about to be stored. sent: the client's managedFields. */
static void settle_managed(const struct request *rq, const json_t *old, json_t *object,
                           const json_t *sent) {
    struct managed_writer writer = write_writer(rq);
    json_t *entries;
    if (rq->applied) {
        entries = json_deep_copy(rq->applied);
        if (old && !same_but_managed(old, object))
            managed_touch(entries, &writer);
    } else {
        entries = managed_update(rq->kind->schema, managed_basis(sent, old), old, object, &writer);
    }
    managed_close(object, entries);
}

/* Makes the metadata of a new object. */
static enum errc prepare_new(struct request *rq, json_t *object, struct error *err) {
    json_t *metadata = metadata_of(object);
    enum errc code = settle_namespace(rq, metadata, err);
    if (code)
        return code;
    const char *rv = object_str(metadata, "resourceVersion");
    if (rv && *rv)
        return err_set(err, ERR_MALFORMED,
                       "resourceVersion should not be set on objects to be created");
    json_object_del(metadata, "resourceVersion");
    tidy_metadata(metadata);
    for (size_t i = 0; i < ARRAY_LEN(server_owned); i++)
        json_object_del(metadata, server_owned[i]);
    if (rq->kind->has_status && strcmp(rq->kind->plural, "nodes") != 0)
        json_object_del(object, "status");
    defaults_new(rq->kind, object);
    object_stamp_new(object, rq->kind->generation, clock_wall_ms());
    return OK;
}

/* Gives the name to store under: the given one, or a generated one. */
static void settle_name(json_t *metadata) {
    const char *name = object_str(metadata, "name"), *prefix = object_str(metadata, "generateName");
    if ((name && *name) || !prefix || !*prefix)
        return;
    char suffix[6];
    object_name_suffix(suffix);
    json_object_set_new(metadata, "name", json_sprintf("%.58s%s", prefix, suffix));
}

void write_done(const struct request *rq) {
    if (kind_is_crd(rq->kind) || (rq->kind->crd && crd_deleting(rq->kind->crd)))
        crds_changed(rq->kube->crds);
}

/* old: NULL on create. */
static enum errc charge(const struct request *rq, const json_t *object, const json_t *old,
                        struct charges *charges, struct error *err) {
    const struct kube_options *opt = &rq->kube->opt;
    return opt->charge ? opt->charge(opt->store, rq->kind->store_group, rq->kind->plural, object,
                                     old, charges, err)
                       : OK;
}

/* The name is taken; of an object on its way out that is said, too: it may be tried again. */
static enum errc name_taken(const struct request *rq, const char *key, const char *name,
                            struct error *err) {
    AUTO(store_object) there = NULL;
    struct error ignored = ERROR_INIT;
    bool going =
        !store_get(rq->kube->opt.store, key, &there, &ignored) && object_deleting(there->json);
    enum errc code = request_exists(rq, name, err);
    return going ? err_wrap(err, "object is being deleted") : code;
}

/* A create may have begun before its definition was deleted and end after the last look for
 * objects. Whoever deletes marks the definition first and looks then (crds.c): so when the mark is
 * not there after our commit, that look will find the object, and when it is, the object goes again
 * here. */
static enum errc check_definition(const struct request *rq, const struct store_object *stored,
                                  struct error *err) {
    struct object_key key;
    AUTO(store_object) crd = NULL;
    struct error gone = ERROR_INIT;
    if (!rq->kind->crd)
        return OK;
    object_key(&key, "apiextensions.k8s.io", "customresourcedefinitions", NULL,
               rq->kind->qualified);
    if (!store_get(rq->kube->opt.store, key.text, &crd, &gone) && !object_deleting(crd->json))
        return OK;
    if (store_delete(rq->kube->opt.store, stored->key, stored->revision, NULL, &gone))
        return OK; /* somebody was faster, and has it in his hands */
    return err_set(err, ERR_METHOD,
                   "create not allowed while custom resource definition is terminating");
}

/* Tells what a write would lead to that was only tried. */
static void tell_preview(struct request *rq, const json_t *object, const json_t *old) {
    const struct kube_options *opt = &rq->kube->opt;
    if (opt->preview)
        opt->preview(opt->preview_self, rq->kind->store_group, rq->kind->plural, object, old,
                     rq->warnings);
}

static void take_written(struct request *rq, struct store_object **stored, json_t **ret_object) {
    *ret_object = json_incref((*stored)->json);
    store_object_unref(rq->written);
    rq->written = steal(*stored);
}

static enum errc store_new(struct request *rq, json_t *object, json_t **ret_object,
                           struct error *err) {
    struct object_key key;
    const char *name = object_name(object);
    object_key(&key, rq->kind->store_group, rq->kind->plural, rq->ns, name);
    if (rq->dry_run) {
        AUTO(store_object) there = NULL;
        if (!store_get(rq->kube->opt.store, key.text, &there, err))
            return name_taken(rq, key.text, name, err);
        AUTO_CHARGES charges = {0};
        enum errc refused = charge(rq, object, NULL, &charges, err);
        if (refused)
            return refused;
        tell_preview(rq, object, NULL);
        *ret_object = json_incref(object);
        return OK;
    }
    AUTO(store_object) stored = NULL;
    enum errc code = ERR_CONFLICT;
    for (int tries = 0; code == ERR_CONFLICT && tries < CHARGE_TRIES_MAX; tries++) {
        AUTO_CHARGES charges = {0};
        code = charge(rq, object, NULL, &charges, err);
        if (code)
            return code;
        struct store_write write = {
            .key = key.text, .object = json_incref(object), .expect_revision = STORE_EXPECT_ABSENT};
        code = charges_commit(&charges, rq->kube->opt.store, &write, &stored, err);
    }
    if (code == ERR_EXISTS)
        return name_taken(rq, key.text, name, err);
    if (!code)
        code = check_definition(rq, stored, err);
    if (!code)
        write_done(rq);
    if (!code)
        take_written(rq, &stored, ret_object);
    return code;
}

enum errc write_create(struct request *rq, json_t *object, json_t **ret_object, struct error *err) {
    enum errc code = check_namespace(rq, object, err);
    json_t *sent = detach_managed(object);
    if (!code && rq->kind->crd && crd_deleting(rq->kind->crd))
        code = err_set(err, ERR_METHOD,
                       "create not allowed while custom resource definition is terminating");
    if (!code)
        code = prepare_new(rq, object, err);
    bool generated = !object_name(object) || !*object_name(object);
    for (int tries = 0; !code && tries < GENERATE_TRIES_MAX; tries++) {
        json_t *metadata = json_object_get(object, "metadata");
        settle_name(metadata);
        if (!tries) {
            rq->name =
                object_name(object) ? arena_strdup(http_arena(rq->x), object_name(object)) : NULL;
            defaults_apply(rq->kind, object, NULL);
            code = validate(rq, object, NULL, err);
            if (!code)
                code = escalation_check(rq, object, NULL, err);
            if (!code)
                code = host_process_check(rq, object, NULL, err);
            if (!code)
                code = admit(rq, object, NULL, err);
            if (code)
                break;
            settle_managed(rq, NULL, object, sent);
        }
        code = store_new(rq, object, ret_object, err);
        if (code != ERR_EXISTS || !generated)
            break;
        json_object_del(metadata, "name");
        code = tries + 1 < GENERATE_TRIES_MAX ? OK : code;
    }
    json_decref(sent);
    json_decref(object);
    return code;
}

/* Checks the identity that the client claims: name, namespace, uid, resourceVersion. */
static enum errc check_identity(const struct request *rq, const json_t *old, json_t *object,
                                bool *ret_has_version, struct error *err) {
    json_t *metadata = metadata_of(object);
    const char *name = object_str(metadata, "name");
    if (!name || strcmp(name, rq->name) != 0)
        return err_set(err, ERR_MALFORMED,
                       "the name of the object (%s) does not match the name on the URL (%s)",
                       name ? name : "", rq->name);
    enum errc code = settle_namespace(rq, metadata, err);
    if (code)
        return code;
    const char *uid = object_str(metadata, "uid"), *old_uid = object_uid(old);
    if (uid && *uid && old_uid && strcmp(uid, old_uid) != 0)
        return err_set(err, ERR_CONFLICT,
                       "Operation cannot be fulfilled on %s \"%s\": Precondition failed: UID in "
                       "precondition: %s, UID in object meta: %s",
                       rq->kind->qualified, rq->name, uid, old_uid);
    const char *rv = object_str(metadata, "resourceVersion");
    *ret_has_version = rv && *rv && strcmp(rv, "0") != 0;
    if (!*ret_has_version)
        return OK;
    const char *current = object_str(old, "metadata.resourceVersion");
    return current && !strcmp(rv, current) ? OK : request_conflict(rq, err);
}

/* Restores what a write may not touch. */
static void keep_server_owned(const struct request *rq, const json_t *old, json_t *object,
                              enum write_scope scope) {
    json_t *metadata = json_object_get(object, "metadata");
    for (size_t i = 0; i < ARRAY_LEN(server_owned); i++) {
        json_t *value = json_object_get(json_object_get(old, "metadata"), server_owned[i]);
        if (value)
            json_object_set(metadata, server_owned[i], value);
        else
            json_object_del(metadata, server_owned[i]);
    }
    tidy_metadata(metadata);
    if (scope != WRITE_WHOLE || !rq->kind->has_status)
        return;
    json_t *status = json_object_get(old, "status");
    if (status)
        json_object_set(object, "status", status);
    else
        json_object_del(object, "status");
}

/* Gives the old object with the status of the new one (taken). */
static json_t *status_into(const json_t *old, json_t *object) {
    json_t *merged = json_copy((json_t *)(uintptr_t)old);
    json_t *status = json_object_get(object, "status");
    if (status)
        json_object_set(merged, "status", status);
    else
        json_object_del(merged, "status");
    json_decref(object);
    object = json_deep_copy(merged);
    json_decref(merged);
    return object;
}

/* True when anything but metadata and status differs. */
static bool spec_changed(const json_t *a, const json_t *b) {
    json_t *x = json_copy((json_t *)(uintptr_t)a), *y = json_copy((json_t *)(uintptr_t)b);
    static const char *const ignored[] = {"metadata", "status", "apiVersion", "kind"};
    for (size_t i = 0; i < ARRAY_LEN(ignored); i++) {
        json_object_del(x, ignored[i]);
        json_object_del(y, ignored[i]);
    }
    bool changed = !json_equal(x, y);
    json_decref(x);
    json_decref(y);
    return changed;
}

static void check_finalizers(const struct request *rq, const json_t *old, const json_t *object) {
    if (!object_deleting(old))
        return;
    const json_t *was = object_at(old, "metadata.finalizers");
    const json_t *now = object_at(object, "metadata.finalizers");
    for (size_t i = 0; i < json_array_size(now); i++) {
        bool had = false;
        for (size_t j = 0; !had && j < json_array_size(was); j++)
            had = json_equal(json_array_get(now, i), json_array_get(was, j));
        if (!had)
            cause_add(rq->causes, CAUSE_FORBIDDEN, "metadata.finalizers",
                      "Forbidden: no new finalizers can be added if the object is being deleted, "
                      "found new finalizers []string{\"%s\"}",
                      json_string_value(json_array_get(now, i)));
    }
}

/* A terminating object whose last finalizer went is gone with this write; a Pod waits for its
 * processes, a Namespace for its contents. */
static bool ends_deletion(const struct request *rq, const json_t *object) {
    if (!object_deleting(object) || json_array_size(object_at(object, "metadata.finalizers")))
        return false;
    if (!rq->kind->built_in)
        return true;
    if (!strcmp(rq->kind->plural, "pods"))
        return object_int(object, "metadata.deletionGracePeriodSeconds", 0) == 0;
    return strcmp(rq->kind->plural, "namespaces") != 0;
}

/* Is this still the state that the store has? */
static bool is_current(const struct request *rq, const struct store_object *old) {
    AUTO(store_object) now = NULL;
    struct error gone = ERROR_INIT;
    return !store_get(rq->kube->opt.store, old->key, &now, &gone) && now->revision == old->revision;
}

/* Puts the object in the place of old, with the quotas that what it adds is counted in. A conflict
 * about a quota is judged anew; one about the object is the caller's. */
static enum errc put_charged(const struct request *rq, const struct store_object *old,
                             json_t *object, struct store_object **ret_o, struct error *err) {
    enum errc code = ERR_CONFLICT;
    for (int tries = 0; code == ERR_CONFLICT && tries < CHARGE_TRIES_MAX; tries++) {
        AUTO_CHARGES charges = {0};
        code = charge(rq, object, old->json, &charges, err);
        if (code)
            return code;
        bool alone = !charges.num;
        struct store_write write = {
            .key = old->key, .object = json_incref(object), .expect_revision = old->revision};
        code = charges_commit(&charges, rq->kube->opt.store, &write, ret_o, err);
        if (alone || !is_current(rq, old))
            break;
    }
    return code;
}

static enum errc store_change(struct request *rq, struct store_object *old, json_t *object,
                              enum write_scope scope, bool has_version, json_t **ret_object,
                              bool *ret_retry, struct error *err) {
    if (rq->dry_run) {
        AUTO_CHARGES charges = {0};
        enum errc refused =
            scope == WRITE_WHOLE ? charge(rq, object, old->json, &charges, err) : OK;
        if (refused)
            return refused;
        if (scope == WRITE_WHOLE)
            tell_preview(rq, object, old->json);
        *ret_object = json_incref(object);
        return OK;
    }
    AUTO(store_object) stored = NULL;
    enum errc code;
    if (ends_deletion(rq, object))
        code = store_delete(rq->kube->opt.store, old->key, old->revision, &stored, err);
    else if (scope == WRITE_WHOLE)
        code = put_charged(rq, old, object, &stored, err);
    else
        code = store_put(rq->kube->opt.store, old->key, json_incref(object), old->revision, &stored,
                         err);
    if (code == ERR_CONFLICT || code == ERR_NOT_FOUND) {
        *ret_retry = !has_version;
        return code == ERR_CONFLICT ? request_conflict(rq, err) : request_not_found(rq, err);
    }
    if (!code)
        write_done(rq);
    if (!code)
        take_written(rq, &stored, ret_object);
    return code;
}

enum errc write_update(struct request *rq, struct store_object *old, json_t *object,
                       enum write_scope scope, json_t **ret_object, bool *ret_retry,
                       struct error *err) {
    bool has_version = false;
    *ret_retry = false;
    enum errc code = check_identity(rq, old->json, object, &has_version, err);
    json_t *sent = detach_managed(object);
    if (code)
        goto done;
    if (scope == WRITE_STATUS) {
        object = status_into(old->json, object);
        json_decref(sent);
        sent = NULL;
        json_decref(detach_managed(object));
    }
    keep_server_owned(rq, old->json, object, scope);
    json_object_set(json_object_get(object, "metadata"), "resourceVersion",
                    object_at(old->json, "metadata.resourceVersion"));
    if (scope == WRITE_WHOLE) {
        defaults_apply(rq->kind, object, old->json);
        if (rq->kind->generation && spec_changed(old->json, object))
            object_set(object, "metadata.generation",
                       json_integer(object_int(old->json, "metadata.generation", 1) + 1));
    }
    code = validate(rq, object, old->json, err);
    if (!code) {
        check_finalizers(rq, old->json, object);
        if (json_array_size(rq->causes))
            code = err_set(err, ERR_INVALID, "%s is invalid", rq->kind->kind);
    }
    if (!code)
        code = escalation_check(rq, object, old->json, err);
    if (!code)
        code = host_process_check(rq, object, old->json, err);
    if (!code && scope == WRITE_WHOLE)
        code = admit(rq, object, old->json, err);
    if (!code) {
        settle_managed(rq, old->json, object, sent);
        code = store_change(rq, old, object, scope, has_version, ret_object, ret_retry, err);
    }
done:
    json_decref(sent);
    json_decref(object);
    return code;
}
