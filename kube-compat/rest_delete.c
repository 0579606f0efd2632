/* Deleting: what goes at once, what waits.
 *
 * An object goes at once unless somebody has to finish first: finalizers name who; a Pod on a node
 * has processes, which the pod controller ends before it removes the Pod; a Namespace has contents,
 * which the namespace controller removes. What waits carries deletionTimestamp, and a second delete
 * changes nothing (but may shorten a Pod's grace). */
#include "kube-compat/rest.h"

#include <errno.h>
#include <stdio.h>

#include "core/base/clock.h"
#include "core/object.h"
#include "kube-compat/body.h"
#include "kube-compat/events_view.h"
#include "kube-compat/filter.h"
#include "kube-compat/status.h"
#include "kube-compat/write.h"

enum { DELETE_TRIES_MAX = 64, POD_GRACE_SECONDS = 30 };

struct delete_options {
    int64_t grace_seconds; /* -1: not given */
    bool foreground, orphan;
    const char *uid, *resource_version; /* preconditions; NULL: none */
    bool evict;                         /* a disruption budget may refuse it */
};

static enum errc bad_option(struct request *rq, const char *field, const char *value,
                            const char *supported, struct error *err) {
    cause_add(rq->causes, CAUSE_NOT_SUPPORTED, field,
              "Unsupported value: \"%.64s\": supported values: %s", value, supported);
    rq->options_kind = "DeleteOptions";
    return err_set(err, ERR_INVALID, "DeleteOptions is invalid");
}

static enum errc read_policy(struct request *rq, const char *policy, const json_t *orphans,
                             struct delete_options *opt, struct error *err) {
    bool given = policy && *policy;
    opt->orphan = json_is_true(orphans);
    if (given && json_is_boolean(orphans)) {
        cause_add(rq->causes, CAUSE_INVALID, "propagationPolicy",
                  "Invalid value: \"%.64s\": orphanDependents and deletionPropagation cannot be "
                  "both set",
                  policy);
        rq->options_kind = "DeleteOptions";
        return err_set(err, ERR_INVALID, "DeleteOptions is invalid");
    }
    if (!given || !strcmp(policy, "Background"))
        return OK;
    opt->foreground = !strcmp(policy, "Foreground");
    opt->orphan = !strcmp(policy, "Orphan");
    if (opt->foreground || opt->orphan)
        return OK;
    return bad_option(rq, "propagationPolicy", policy, "\"Foreground\", \"Background\", \"Orphan\"",
                      err);
}

static enum errc check_types(const struct request *rq, const json_t *body, struct error *err) {
    const char *kind = object_str(body, "kind");
    if (kind && *kind && strcmp(kind, "DeleteOptions") != 0)
        return err_set(err, ERR_MALFORMED,
                       "converting (%.64s) to DeleteOptions: unknown conversion", kind);
    json_t *causes = json_array();
    struct schema_findings found = {.causes = causes};
    schema_check(schema_types_find(kinds_types(rq->kinds), "meta.DeleteOptions"), body, &found);
    enum errc code = OK;
    if (json_array_size(causes))
        code = err_set(err, ERR_MALFORMED,
                       "DeleteOptions in version \"v1\" cannot be handled as a DeleteOptions: %s: "
                       "%s",
                       object_str(causes, "0.field"), object_str(causes, "0.message"));
    json_decref(causes);
    return code;
}

static enum errc parse_options(struct request *rq, const json_t *body, struct delete_options *opt,
                               struct error *err) {
    enum errc code = check_types(rq, body, err);
    if (code)
        return code;
    struct arena *arena = http_arena(rq->x);
    const json_t *grace = json_object_get(body, "gracePeriodSeconds");
    if (json_is_integer(grace))
        opt->grace_seconds = json_integer_value(grace) < 0 ? 1 : json_integer_value(grace);
    code = read_policy(rq, object_str(body, "propagationPolicy"),
                       json_object_get(body, "orphanDependents"), opt, err);
    opt->uid = arena_strdup(arena, object_str(body, "preconditions.uid"));
    opt->resource_version = arena_strdup(arena, object_str(body, "preconditions.resourceVersion"));
    const json_t *dry = json_object_get(body, "dryRun");
    if (!code && json_array_size(dry)) {
        const char *word = json_string_value(json_array_get(dry, 0));
        if (word && !strcmp(word, "All"))
            rq->dry_run = true;
        else
            code = bad_option(rq, "dryRun", word ? word : "", "\"All\"", err);
    }
    return code;
}

/* Gives the query's options in the form of a body; dryRun is read for every verb alike. */
static enum errc options_of_query(const struct request *rq, json_t **ret_body, struct error *err) {
    const char *grace = http_query(rq->x, "gracePeriodSeconds");
    const char *policy = http_query(rq->x, "propagationPolicy");
    json_t *body = json_object();
    *ret_body = body;
    if (policy && *policy)
        json_object_set_new(body, "propagationPolicy", json_string(policy));
    if (http_query(rq->x, "orphanDependents"))
        json_object_set_new(body, "orphanDependents",
                            json_boolean(http_query_bool(rq->x, "orphanDependents")));
    if (!grace || !*grace)
        return OK;
    char *end;
    errno = 0;
    json_object_set_new(body, "gracePeriodSeconds", json_integer(strtoll(grace, &end, 10)));
    return !*end && !errno ? OK
                           : err_set(err, ERR_MALFORMED,
                                     "gracePeriodSeconds: Invalid value: \"%.64s\": must be an "
                                     "integer",
                                     grace);
}

/* Options come in the body, or in the query when there is none. */
static enum errc read_options(struct request *rq, struct delete_options *opt, struct error *err) {
    *opt = (struct delete_options){.grace_seconds = -1};
    json_t *body = NULL;
    enum errc code = body_read(rq, NULL, NULL, &body, err);
    if (!code && !body)
        code = options_of_query(rq, &body, err);
    if (!code)
        code = parse_options(rq, body, opt, err);
    json_decref(body);
    return code;
}

static enum errc check_preconditions(const struct request *rq, const struct delete_options *opt,
                                     const json_t *o, struct error *err) {
    const char *uid = object_uid(o), *rv = object_str(o, "metadata.resourceVersion");
    const char *what = NULL, *want = NULL, *have = NULL;
    if (opt->uid && *opt->uid && uid && strcmp(opt->uid, uid) != 0)
        what = "UID", want = opt->uid, have = uid;
    else if (opt->resource_version && *opt->resource_version && rv &&
             strcmp(opt->resource_version, rv) != 0)
        what = "ResourceVersion", want = opt->resource_version, have = rv;
    if (!what)
        return OK;
    return err_set(err, ERR_CONFLICT,
                   "Operation cannot be fulfilled on %s \"%s\": Precondition failed: %s in "
                   "precondition: %s, %s in object meta: %s",
                   rq->kind->qualified, rq->name, what, want, what, have);
}

static bool is_built_in(const struct kind *kind, const char *plural) {
    return kind->built_in && !strcmp(kind->plural, plural);
}

/* Adds a finalizer that the garbage collector takes away when it is done. */
static void add_finalizer(json_t *o, const char *name) {
    json_t *list = object_at(o, "metadata.finalizers");
    if (!json_is_array(list)) {
        object_set(o, "metadata.finalizers", json_array());
        list = object_at(o, "metadata.finalizers");
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *have = json_string_value(json_array_get(list, i));
        if (have && !strcmp(have, name))
            return;
    }
    json_array_append_new(list, json_string(name));
}

/* Seconds that the object may take to end by itself; 0: none. */
static int64_t grace_of(const struct kind *kind, const struct delete_options *opt,
                        const json_t *o) {
    if (!is_built_in(kind, "pods"))
        return 0;
    const char *node = object_str(o, "spec.nodeName"), *phase = object_str(o, "status.phase");
    if (!node || !*node)
        return 0;
    if (phase && (!strcmp(phase, "Succeeded") || !strcmp(phase, "Failed")))
        return 0; /* nothing of it runs any more */
    if (opt->grace_seconds >= 0)
        return opt->grace_seconds;
    return object_int(o, "spec.terminationGracePeriodSeconds", POD_GRACE_SECONDS);
}

/* Gives the object marked as going, or NULL when nothing about it changes. */
static json_t *mark(const struct request *rq, const json_t *o, int64_t grace) {
    int64_t until_ms = clock_wall_ms() + grace * 1000;
    if (object_deleting(o)) {
        int64_t was = clock_parse_rfc3339(object_str(o, "metadata.deletionTimestamp"));
        if (!is_built_in(rq->kind, "pods") || was <= until_ms)
            return NULL;
    }
    char text[CLOCK_RFC3339_BYTES];
    json_t *marked = json_deep_copy(o);
    object_set(marked, "metadata.deletionTimestamp", json_string(clock_rfc3339(until_ms, text)));
    object_set(marked, "metadata.deletionGracePeriodSeconds", json_integer(grace));
    if (rq->kind->generation)
        object_set(marked, "metadata.generation",
                   json_integer(object_int(o, "metadata.generation", 0) + 1));
    if (is_built_in(rq->kind, "namespaces"))
        object_set(marked, "status.phase", json_string("Terminating"));
    return marked;
}

/* Does a disruption budget let the pod go? ERR_EXHAUSTED with the cause that clients look for. */
static enum errc charge_budget(struct request *rq, const json_t *pod, struct charges *charges,
                               struct error *err) {
    char cause[KUBE_CAUSE_BYTES_MAX] = "";
    if (!rq->kube->opt.evict)
        return OK;
    enum errc code =
        rq->kube->opt.evict(rq->kube->opt.store, pod, clock_wall_ms(), charges, cause, err);
    if (code && *cause)
        cause_add(rq->causes, "DisruptionBudget", "", "%s", cause);
    return code;
}

/* One try. Gives the last state; *ret_gone tells whether the object is gone. */
static enum errc delete_once(struct request *rq, const struct delete_options *opt,
                             json_t **ret_object, bool *ret_gone, struct error *err) {
    AUTO(store_object) o = NULL;
    enum errc code = rest_read(rq, &o, err);
    if (!code)
        code = check_preconditions(rq, opt, o->json, err);
    if (code)
        return code;
    AUTO_CHARGES charges = {0};
    if (opt->evict && (code = charge_budget(rq, o->json, &charges, err)))
        return code;
    json_t *work = json_deep_copy(o->json);
    if (opt->foreground && !object_deleting(work))
        add_finalizer(work, "foregroundDeletion");
    else if (opt->orphan && !object_deleting(work))
        add_finalizer(work, "orphan");
    if (kind_is_crd(rq->kind) && !object_deleting(work))
        add_finalizer(work, CRD_FINALIZER);
    int64_t grace = grace_of(rq->kind, opt, work);
    bool waits = json_array_size(object_at(work, "metadata.finalizers")) || grace > 0 ||
                 is_built_in(rq->kind, "namespaces");
    AUTO(store_object) stored = NULL;
    *ret_gone = !waits;
    json_t *marked = waits ? mark(rq, work, grace) : NULL;
    json_decref(work);
    if (rq->dry_run || (waits && !marked)) {
        *ret_object = marked ? marked : json_incref(o->json);
        return OK;
    }
    struct store_write write = {.key = o->key, .object = marked, .expect_revision = o->revision};
    code = charges_commit(&charges, rq->kube->opt.store, &write, &stored, err);
    if (code == ERR_NOT_FOUND)
        return request_not_found(rq, err);
    if (code == ERR_CONFLICT)
        return request_conflict(rq, err);
    if (!code)
        write_done(rq);
    if (!code)
        *ret_object = json_incref(stored->json);
    return code;
}

static enum errc delete_named(struct request *rq, const struct delete_options *opt,
                              json_t **ret_object, bool *ret_gone, struct error *err) {
    if (is_built_in(rq->kind, "namespaces") &&
        (!strcmp(rq->name, "default") || !strcmp(rq->name, "kube-system") ||
         !strcmp(rq->name, "kube-public")))
        return err_set(err, ERR_FORBIDDEN,
                       "namespaces \"%s\" is forbidden: this namespace may not be deleted",
                       rq->name);
    enum errc code = ERR_CONFLICT;
    for (int tries = 0; code == ERR_CONFLICT && tries < DELETE_TRIES_MAX; tries++) {
        code = delete_once(rq, opt, ret_object, ret_gone, err);
        if (code == ERR_CONFLICT && (opt->uid || opt->resource_version))
            break;
    }
    return code;
}

void rest_delete(struct request *rq) {
    struct error err = ERROR_INIT;
    struct delete_options opt;
    json_t *object = NULL;
    bool gone = false;
    enum errc code = read_options(rq, &opt, &err);
    if (!code)
        code = delete_named(rq, &opt, &object, &gone, &err);
    if (code) {
        request_fail(rq, &err);
    } else if (gone && !is_built_in(rq->kind, "pods")) {
        struct status_subject about = {
            .group = rq->group, .resource = rq->resource, .name = rq->name};
        request_reply(rq, 200, status_deleted(&about, object_uid(object)));
    } else {
        request_reply(rq, 200, kind_show(rq->kind, object));
    }
    json_decref(object);
}

void rest_delete_collection(struct request *rq) {
    struct error err = ERROR_INIT;
    struct delete_options opt;
    struct filter filter;
    enum errc code = filter_init(&filter, rq->kind, http_query(rq->x, "labelSelector"),
                                 http_query(rq->x, "fieldSelector"), &err);
    if (!code)
        code = read_options(rq, &opt, &err);
    if (code) {
        request_fail(rq, &err);
        filter_deinit(&filter);
        return;
    }
    struct object_key prefix;
    AUTO_STORE_LIST all = {0};
    store_list(rq->kube->opt.store, rest_prefix(rq, &prefix), &all);
    json_t *items = json_array();
    const char *ns = rq->ns;
    for (size_t i = 0; i < all.num_items && !code; i++) {
        json_t *shown = kind_show(rq->kind, all.items[i]->json);
        bool chosen = filter_match(&filter, shown), gone;
        json_decref(shown);
        if (!chosen)
            continue;
        json_t *object = NULL;
        rq->name = object_name(all.items[i]->json);
        rq->ns = rq->kind->namespaced ? object_namespace(all.items[i]->json) : NULL;
        code = delete_named(rq, &opt, &object, &gone, &err);
        if (code == ERR_NOT_FOUND) /* somebody else was faster */
            code = OK;
        else if (!code)
            json_array_append_new(items, kind_show(rq->kind, object));
        json_decref(object);
    }
    filter_deinit(&filter);
    rq->ns = ns;
    json_t *list = json_pack("{s:s, s:s, s:{s:o}, s:o}", "kind", rq->kind->list_kind, "apiVersion",
                             rq->kind->api_version, "metadata", "resourceVersion",
                             json_sprintf("%lld", (long long)store_revision(rq->kube->opt.store)),
                             "items", items);
    if (code) {
        request_fail(rq, &err);
        json_decref(list);
    } else {
        rq->name = NULL;
        request_reply(rq, 200, list);
    }
}

/* The Eviction in the body: whose it is, and the options of the deletion. */
static enum errc read_eviction(struct request *rq, struct delete_options *opt, struct error *err) {
    const struct schema *schema = schema_types_find(kinds_types(rq->kinds), "policy.v1.Eviction");
    json_t *body = NULL;
    *opt = (struct delete_options){.grace_seconds = -1, .evict = true};
    enum errc code = body_read(rq, schema, NULL, &body, err);
    const char *name = object_name(body);
    if (!code && name && *name && strcmp(name, rq->name) != 0)
        code = err_set(err, ERR_MALFORMED,
                       "name in URL does not match name in Eviction object: %.253s", name);
    const json_t *options = json_object_get(body, "deleteOptions");
    if (!code && options)
        code = parse_options(rq, options, opt, err);
    json_decref(body);
    return code;
}

void rest_eviction(struct request *rq) {
    struct error err = ERROR_INIT;
    struct delete_options opt;
    json_t *object = NULL;
    bool gone;
    enum errc code = read_eviction(rq, &opt, &err);
    if (!code)
        code = delete_named(rq, &opt, &object, &gone, &err);
    json_decref(object);
    if (code) {
        request_fail(rq, &err);
        return;
    }
    request_reply(rq, 201,
                  json_pack("{s:s, s:s, s:{}, s:s, s:i}", "kind", "Status", "apiVersion", "v1",
                            "metadata", "status", "Success", "code", 201));
}

/* One try at giving the namespace the finalizers of the body. Without any left, one that terminates
 * goes at once, whatever is still in it: that is what the door is for. */
static enum errc finalize_once(struct request *rq, const json_t *body, json_t **ret_object,
                               struct error *err) {
    AUTO(store_object) o = NULL;
    AUTO(store_object) stored = NULL;
    enum errc code = rest_read(rq, &o, err);
    const char *name = object_name(body), *version = object_str(body, "metadata.resourceVersion");
    if (!code && (!name || strcmp(name, rq->name) != 0))
        code = err_set(err, ERR_MALFORMED,
                       "the name of the object (%s) does not match the name on the URL (%s)",
                       name ? name : "", rq->name);
    if (!code && version && *version &&
        strcmp(version, object_str(o->json, "metadata.resourceVersion")) != 0)
        code = request_conflict(rq, err);
    if (code)
        return code;
    json_t *changed = json_deep_copy(o->json), *finalizers = object_at(body, "spec.finalizers");
    if (json_array_size(finalizers))
        object_set(changed, "spec.finalizers", json_incref(finalizers));
    else
        object_delete(changed, "spec.finalizers");
    bool goes = object_deleting(changed) && !json_array_size(finalizers) &&
                !json_array_size(object_at(changed, "metadata.finalizers"));
    if (rq->dry_run) {
        *ret_object = changed;
        return OK;
    }
    struct store_write write = {
        .key = o->key, .object = goes ? NULL : changed, .expect_revision = o->revision};
    if (goes)
        json_decref(changed);
    code = store_commit(rq->kube->opt.store, &write, 1, &stored, err);
    if (!code)
        *ret_object = json_incref(stored->json);
    return code == ERR_NOT_FOUND  ? request_not_found(rq, err)
           : code == ERR_CONFLICT ? request_conflict(rq, err)
                                  : code;
}

void rest_finalize(struct request *rq) {
    struct error err = ERROR_INIT;
    json_t *body = NULL, *object = NULL;
    enum errc code = body_read(rq, rq->kind->schema, NULL, &body, &err);
    if (!code && !body)
        code = err_set(&err, ERR_MALFORMED, "the request has no body; a Namespace is expected");
    if (!code)
        code = body_check_kind(body, rq->kind, &err);
    bool names_version = object_at(body, "metadata.resourceVersion");
    for (int tries = 0; !code && !object && tries < DELETE_TRIES_MAX; tries++) {
        code = finalize_once(rq, body, &object, &err);
        if (code == ERR_CONFLICT && !names_version && tries + 1 < DELETE_TRIES_MAX)
            code = OK;
    }
    json_decref(body);
    if (code)
        request_fail(rq, &err);
    else
        request_reply(rq, 200, kind_show(rq->kind, object));
    json_decref(object);
}
