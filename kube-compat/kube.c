/* The Kubernetes dialect's front door: from a URL to a verb.
 *
 *   /api/v1/...                     the core group
 *   /apis/GROUP/VERSION/...         all others
 *       RESOURCE[/NAME[/SUBRESOURCE]]
 *       namespaces/NS/RESOURCE[/NAME[/SUBRESOURCE]]
 *
 * Order: who is it (401), whose turn is it (429; cost, dispatch, flow), may he (403), is there such
 * a thing (404), then the verb. The rest of the folder, in reading order: kinds (what is served),
 * crd and crds (what users add), rest, rest_write, rest_delete (the verbs), write (the pipeline of
 * every change), schema, validate, defaults, patch_* (what objects may be), watch and stream (what
 * goes on for long), table, discovery, openapi (how clients see it), resource_metrics (what
 * is measured and not stored). */
#include "kube-compat/kube.h"

#include <ctype.h>
#include <stdio.h>

#include "core/decision_log.h"
#include "core/base/metrics.h"
#include "kube-compat/audit.h"
#include "kube-compat/authz.h"
#include "kube-compat/cost.h"
#include "kube-compat/discovery.h"
#include "kube-compat/dispatch.h"
#include "kube-compat/exec.h"
#include "kube-compat/forward.h"
#include "kube-compat/impersonate.h"
#include "kube-compat/managed_fields.h"
#include "kube-compat/names.h"
#include "kube-compat/openapi.h"
#include "kube-compat/podlog_stream.h"
#include "kube-compat/proxy.h"
#include "kube-compat/rbac_defaults.h"
#include "kube-compat/resource_metrics.h"
#include "kube-compat/rest.h"
#include "kube-compat/reviews.h"
#include "kube-compat/selector.h"
#include "kube-compat/status.h"
#include "kube-compat/stream.h"
#include "kube-compat/tokens.h"
#include "kube-compat/watch.h"

enum { SEGMENTS_MAX = 16 };

static enum errc no_such_path(struct error *err) {
    return err_set(err, ERR_NOT_FOUND, "the server could not find the requested resource");
}

static void every_minute(void *user) {
    const struct kube *k = user;
    crds_tick(k->crds);
}

static struct flow_limits flow_limits_of(const struct kube_options *opt) {
    uint32_t cost = opt->concurrency_max ? opt->concurrency_max : KUBE_CONCURRENCY_MAX;
    uint32_t queue = opt->queue_max ? opt->queue_max : KUBE_QUEUE_MAX;
    return (struct flow_limits){
        .cost_max = cost,
        .identity_cost_max = cost / KUBE_IDENTITY_SHARE ? cost / KUBE_IDENTITY_SHARE : 1,
        .waiting_max = queue * KUBE_IDENTITY_SHARE,
        .identity_waiting_max = queue,
        .identity_watches_max = opt->watches_max ? opt->watches_max : KUBE_WATCHES_MAX,
    };
}

static void serve_ticket(struct ticket *ticket, bool stopping);

enum errc kube_create(const struct kube_options *opt, struct kube **ret_k, struct error *err) {
    AUTO(kube) k = mem_alloc(sizeof(*k));
    k->opt = *opt;
    k->opt.server_address = mem_strdup(opt->server_address);
    enum errc code = crds_create(opt->store, &k->crds, err);
    if (!code)
        code = rbac_defaults_reconcile(opt->store, err);
    if (!code)
        code = authz_create(opt->store, &k->authz, err);
    if (!code)
        code = stream_hub_create(every_minute, k, &k->hub, err);
    if (!code)
        code = tunnel_set_create(&k->tunnels, err);
    k->metrics = metrics_create();
    struct dispatch_options dispatch = {
        .limits = flow_limits_of(opt), .serve = serve_ticket, .metrics = k->metrics};
    if (!code)
        code = dispatch_create(&dispatch, &k->dispatch, err);
    struct audit_options audit = opt->audit ? *opt->audit : (struct audit_options){0};
    audit.metrics = k->metrics;
    k->opt.audit = NULL; /* the caller's memory */
    if (!code && opt->audit)
        code = audit_open(&audit, &k->audit, err);
    if (code)
        return code;
    k->openapi = openapi_create();
    *ret_k = steal(k);
    return OK;
}

void kube_destroy(struct kube *k) {
    if (!k)
        return;
    dispatch_stop(k->dispatch);
    tunnel_set_destroy(k->tunnels); /* some of them are streams */
    stream_hub_destroy(k->hub);
    dispatch_destroy(k->dispatch); /* the watches that have just ended were counted there */
    openapi_destroy(k->openapi);
    authz_destroy(k->authz);
    crds_destroy(k->crds);
    audit_close(k->audit); /* streams that have just ended are written */
    metrics_destroy(k->metrics);
    free((char *)(uintptr_t)k->opt.server_address);
    free(k);
}

/* Splits a path at its slashes; empty segments do not count. Gives their number. */
static size_t split(struct arena *arena, const char *path, const char *segments[SEGMENTS_MAX]) {
    size_t num = 0;
    char *rest = arena_strdup(arena, path);
    for (char *part; (part = strsep(&rest, "/"));) {
        if (*part && num < SEGMENTS_MAX)
            segments[num++] = part;
    }
    return num;
}

/* What follows a proxy in the path and the query is not ours to read. */
static bool is_proxy(const struct request *rq) {
    return !*rq->group && rq->subresource && !strcmp(rq->subresource, "proxy") &&
           (!strcmp(rq->resource, "pods") || !strcmp(rq->resource, "services"));
}

/* Fills in what the segments behind the group version say. False: too many of them. */
static bool parse_resource(struct request *rq, const char **s, size_t num) {
    if (num >= 3 && !strcmp(s[0], "namespaces") && strcmp(s[2], "status") != 0 &&
        strcmp(s[2], "finalize") != 0) {
        rq->ns = s[1];
        s += 2;
        num -= 2;
    }
    rq->resource = s[0];
    rq->name = num > 1 ? s[1] : NULL;
    rq->subresource = num > 2 ? s[2] : NULL;
    return num <= 3 || is_proxy(rq);
}

static const char *verb_of(const struct request *rq) {
    const char *method = http_method(rq->x);
    if (!strcmp(method, "GET") || !strcmp(method, "HEAD"))
        return rq->name ? "get" : http_query_bool(rq->x, "watch") ? "watch" : "list";
    if (!strcmp(method, "POST"))
        return "create";
    if (!strcmp(method, "PUT"))
        return "update";
    if (!strcmp(method, "PATCH"))
        return "patch";
    if (!strcmp(method, "DELETE"))
        return rq->name ? "delete" : "deletecollection";
    return "";
}

/* Printable, and no longer than managedFields takes. */
static enum errc read_field_manager(struct request *rq, struct error *err) {
    const char *manager = http_query(rq->x, "fieldManager");
    if (!manager || !*manager)
        return OK;
    rq->field_manager = manager;
    if (strlen(manager) > MANAGED_MANAGER_BYTES_MAX) {
        cause_add(rq->causes, "FieldValueTooLong", "fieldManager",
                  "Too long: may not be more than %d bytes", MANAGED_MANAGER_BYTES_MAX);
        return err_set(err, ERR_INVALID, "fieldManager is invalid");
    }
    for (const char *p = manager; *p; p++) {
        if ((unsigned char)*p >= 0x20 && *p != 0x7f)
            continue;
        cause_add(rq->causes, CAUSE_INVALID, "fieldManager",
                  "Invalid value: should only contain printable characters");
        return err_set(err, ERR_INVALID, "fieldManager is invalid");
    }
    return OK;
}

/* What refusals of the query's options are about. */
static const char *options_kind_of(const struct request *rq) {
    return !strcmp(rq->verb, "create")   ? "CreateOptions"
           : !strcmp(rq->verb, "update") ? "UpdateOptions"
           : !strcmp(rq->verb, "patch")  ? "PatchOptions"
                                         : "DeleteOptions";
}

static enum errc read_parameters(struct request *rq, struct error *err) {
    const char *dry = http_query(rq->x, "dryRun");
    if (dry && *dry) {
        if (strcmp(dry, "All") != 0) {
            cause_add(rq->causes, CAUSE_NOT_SUPPORTED, "dryRun",
                      "Unsupported value: []string{\"%.64s\"}: supported values: \"All\"", dry);
            return err_set(err, ERR_INVALID, "dryRun is invalid");
        }
        rq->dry_run = true;
    }
    const char *fields = http_query(rq->x, "fieldValidation");
    if (!fields || !*fields || !strcmp(fields, "Warn"))
        rq->field_validation = FIELD_VALIDATION_WARN;
    else if (!strcmp(fields, "Strict"))
        rq->field_validation = FIELD_VALIDATION_STRICT;
    else if (!strcmp(fields, "Ignore"))
        rq->field_validation = FIELD_VALIDATION_IGNORE;
    else {
        cause_add(rq->causes, CAUSE_NOT_SUPPORTED, "fieldValidation",
                  "Unsupported value: \"%.64s\": supported values: \"Ignore\", \"Warn\", "
                  "\"Strict\"",
                  fields);
        return err_set(err, ERR_INVALID, "fieldValidation is invalid");
    }
    return read_field_manager(rq, err);
}

static enum errc no_such_verb(struct request *rq, const char *allowed, struct error *err) {
    http_set_header(rq->x, "Allow", allowed);
    return err_set(err, ERR_METHOD,
                   "the server does not allow this method on the requested resource");
}

/* Subresources that clients know and inferd has not: why, and what to do instead. */
static enum errc no_such_subresource(const struct request *rq, struct error *err) {
    static const struct {
        const char *resource, *subresource, *advice;
    } refused[] = {
        {"pods", "ephemeralcontainers",
         "inferd adds no containers to a pod that is there: use `kubectl exec`, or a copy, "
         "`kubectl "
         "debug POD --copy-to=NAME --image=host -- COMMAND`"},
        {"nodes", "proxy", "there is no kubelet behind a node: its pods have proxies of their own"},
        {"pods", "binding", "inferd places pods itself"},
        {"pods", "resize",
         "what a pod may use is set when it is made: change its owner's template"},
    };
    for (size_t i = 0; rq->kind->built_in && i < ARRAY_LEN(refused); i++) {
        if (!strcmp(rq->kind->plural, refused[i].resource) &&
            !strcmp(rq->subresource, refused[i].subresource))
            return err_set(err, ERR_METHOD, "%s/%s: %s", refused[i].resource,
                           refused[i].subresource, refused[i].advice);
    }
    return no_such_path(err);
}

/* Subresources of single kinds. */
static const struct {
    const char *resource, *subresource, *methods;
    void (*serve)(struct request *rq);
} of_built_in[] = {
    {"pods", "log", "GET", podlog_stream_start},
    {"pods", "exec", "GET, POST", exec_begin},
    {"pods", "attach", "GET, POST", attach_begin},
    {"pods", "portforward", "GET, POST", forward_begin},
    {"pods", "eviction", "POST", rest_eviction},
    {"serviceaccounts", "token", "POST", tokens_request},
    {"namespaces", "finalize", "PUT", rest_finalize},
};

/* Subresources. OK: answered. */
static enum errc serve_subresource(struct request *rq, struct error *err) {
    const char *sub = rq->subresource, *verb = rq->verb;
    bool get = !strcmp(verb, "get"), put = !strcmp(verb, "update"), patch = !strcmp(verb, "patch");
    if (!strcmp(sub, "status") && rq->kind->has_status) {
        if (get)
            rest_get(rq);
        else if (put)
            rest_update(rq);
        else if (patch)
            rest_patch(rq);
        else
            return no_such_verb(rq, "GET, PATCH, PUT", err);
        return OK;
    }
    if (!strcmp(sub, "scale") && rq->kind->has_scale) {
        if (!get && !put && !patch)
            return no_such_verb(rq, "GET, PATCH, PUT", err);
        rest_scale(rq);
        return OK;
    }
    for (size_t i = 0; rq->kind->built_in && i < ARRAY_LEN(of_built_in); i++) {
        if (strcmp(of_built_in[i].resource, rq->kind->plural) != 0 ||
            strcmp(of_built_in[i].subresource, sub) != 0)
            continue;
        const char *method = get ? "GET" : put ? "PUT" : !strcmp(verb, "create") ? "POST" : "none";
        if (!strstr(of_built_in[i].methods, method))
            return no_such_verb(rq, of_built_in[i].methods, err);
        of_built_in[i].serve(rq);
        return OK;
    }
    return no_such_subresource(rq, err);
}

/* The methods that a kind answers at this URL. */
static const char *methods_of(const struct request *rq) {
    if (rq->kind->not_run || (rq->kind->namespaced && !rq->ns))
        return "GET";
    if (rq->name)
        return "DELETE, GET, PATCH, PUT";
    return rq->kind->keeps_collection ? "GET, POST" : "DELETE, GET, POST";
}

/* The verbs of a kind. OK: answered. */
static enum errc serve_kind(struct request *rq, struct error *err) {
    static const struct {
        const char *verb;
        bool named;
        void (*serve)(struct request *rq);
    } verbs[] = {
        {"get", true, rest_get},       {"list", false, rest_list},
        {"watch", false, watch_start}, {"create", false, rest_create},
        {"update", true, rest_update}, {"patch", true, rest_patch},
        {"delete", true, rest_delete}, {"deletecollection", false, rest_delete_collection},
    };
    if (!rq->kind->namespaced && rq->ns)
        return no_such_path(err);
    if (rq->kind->measured)
        return resource_metrics_serve(rq, err);
    /* A namespaced object has no place without a namespace; lists and watches span all. */
    if (rq->kind->namespaced && !rq->ns && strcmp(rq->verb, "list") != 0 &&
        strcmp(rq->verb, "watch") != 0)
        return rq->name ? no_such_path(err) : no_such_verb(rq, methods_of(rq), err);
    if (rq->kind->not_run && (!strcmp(rq->verb, "create") || !strcmp(rq->verb, "update") ||
                              !strcmp(rq->verb, "patch"))) {
        http_set_header(rq->x, "Allow", methods_of(rq));
        return err_set(err, ERR_METHOD, "inferd does not run %s: %s", rq->kind->qualified,
                       rq->kind->not_run);
    }
    if (rq->kind->keeps_collection && !strcmp(rq->verb, "deletecollection"))
        return no_such_verb(rq, methods_of(rq), err);
    if (rq->kind->warning)
        json_array_append_new(rq->warnings, json_string(rq->kind->warning));
    bool reads =
        !strcmp(rq->verb, "get") || !strcmp(rq->verb, "list") || !strcmp(rq->verb, "watch");
    enum errc code = reads || is_proxy(rq) ? OK : read_parameters(rq, err);
    if (code) {
        rq->options_kind = options_kind_of(rq);
        return code;
    }
    if (is_proxy(rq)) {
        (*rq->resource == 'p' ? proxy_pod : proxy_service)(rq);
        return OK;
    }
    if (rq->subresource)
        return serve_subresource(rq, err);
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        if (strcmp(rq->verb, verbs[i].verb) != 0 || verbs[i].named != (rq->name != NULL))
            continue;
        verbs[i].serve(rq);
        return OK;
    }
    return no_such_verb(rq, methods_of(rq), err);
}

/* The object that a list, watch or deletecollection is about, when its selector leaves only one:
 * rights to a name cover these, too. Gives NULL otherwise. */
static const char *selected_name(struct request *rq) {
    const char *text = http_query(rq->x, "fieldSelector");
    struct error ignored = ERROR_INIT; /* the verb will complain */
    AUTO(selector) s = NULL;
    bool selects = !strcmp(rq->verb, "list") || !strcmp(rq->verb, "watch") ||
                   !strcmp(rq->verb, "deletecollection");
    if (!selects || !text || !*text || selector_parse_fields(text, &s, &ignored))
        return NULL;
    for (size_t i = 0; i < s->num_requirements; i++) {
        const struct selector_requirement *r = &s->requirements[i];
        if (!strcmp(r->key, "metadata.name") && r->op == SELECTOR_IN && r->num_values == 1 &&
            name_is_path_segment(r->values[0]))
            return arena_strdup(http_arena(rq->x), r->values[0]);
    }
    return NULL;
}

/* "get", "post": what is done to a path that is no resource. */
static const char *path_verb(struct request *rq) {
    char *verb = arena_strdup(http_arena(rq->x), http_method(rq->x));
    for (char *p = verb; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    return verb;
}

/* A WebSocket begins with a GET, SPDY with a POST: who may `create` exec may begin it either way.
 */
static void settle_stream_verb(const struct request *rq, struct authz_attributes *a) {
    static const char *const streams[] = {"exec", "attach", "portforward"};
    struct authz_attributes create = *a;
    create.verb = "create";
    if (!a->subresource || *a->group || strcmp(a->resource, "pods") != 0 ||
        strcmp(a->verb, "get") != 0)
        return;
    for (size_t i = 0; i < ARRAY_LEN(streams); i++) {
        if (!strcmp(a->subresource, streams[i]) && authz_may(rq->kube->authz, rq->who, &create))
            a->verb = create.verb;
    }
}

static enum errc authorize(struct request *rq, struct error *err) {
    struct authz_attributes a = {.path = http_path(rq->x)};
    if (rq->resource) {
        a = (struct authz_attributes){
            .verb = rq->verb,
            .group = rq->group,
            .resource = rq->resource,
            .subresource = rq->subresource,
            .name = rq->name ? rq->name : selected_name(rq),
            .ns = rq->ns,
        };
        if (!*rq->group && !strcmp(rq->resource, "namespaces"))
            a.ns = rq->name; /* a namespace is in itself */
        settle_stream_verb(rq, &a);
    } else {
        a.verb = path_verb(rq);
    }
    AUTO_BUF reason = BUF_INIT;
    enum errc code = authz_check_why(rq->kube->authz, rq->who, &a, &reason, err);
    audit_decided(rq->audit, !code, reason.len ? reason.data : "");
    return code;
}

/* What a URL points at. */
struct target {
    const char *segments[SEGMENTS_MAX];
    size_t num;
    bool api;   /* /api or /apis; else some other path */
    bool wrong; /* deeper than any resource */
};

/* Fills in what the URL says; of a path that is no resource's only the target. */
static void read_target(struct request *rq, struct target *t) {
    const char *const *s = t->segments;
    t->num = split(http_arena(rq->x), http_path(rq->x), t->segments);
    t->api = t->num && (!strcmp(s[0], "api") || !strcmp(s[0], "apis"));
    if (!t->api)
        return;
    bool core = !strcmp(s[0], "api");
    size_t prefix = core ? 2 : 3;
    rq->group = core ? "" : t->num > 1 ? s[1] : NULL;
    rq->version = core ? (t->num > 1 ? s[1] : NULL) : t->num > 2 ? s[2] : NULL;
    t->wrong = t->num > prefix && !parse_resource(rq, t->segments + prefix, t->num - prefix);
    rq->verb = rq->resource ? verb_of(rq) : "get";
}

static bool is_read(const struct request *rq) {
    const char *method = http_method(rq->x);
    return !strcmp(method, "GET") || !strcmp(method, "HEAD");
}

/* /api and /apis. OK: answered. */
static enum errc serve_api(struct request *rq, const struct target *t, struct error *err) {
    if (t->wrong)
        return no_such_path(err);
    enum errc code = authorize(rq, err);
    if (code)
        return code;
    if (!rq->resource) {
        if (!is_read(rq))
            return no_such_verb(rq, "GET", err);
        if (t->num == 1) {
            discovery_root(rq, !strcmp(t->segments[0], "api"));
            return OK;
        }
        return discovery_handle(rq, rq->group, rq->version) ? OK : no_such_path(err);
    }
    const struct review *review = reviews_find(rq->group, rq->version, rq->resource);
    if (review) {
        if (!review->namespaced && rq->ns)
            return no_such_path(err);
        if (strcmp(rq->verb, "create") != 0 || rq->name || (review->namespaced && !rq->ns))
            return no_such_verb(rq, "POST", err);
        reviews_create(rq, review);
        return OK;
    }
    rq->kind = kinds_find(rq->kinds, rq->group, rq->version, rq->resource);
    return rq->kind ? serve_kind(rq, err) : no_such_path(err);
}

/* With ?verbose in the form that people who look by hand know. */
static void serve_health(struct request *rq, const char *path) {
    AUTO_BUF text = BUF_INIT;
    if (http_query(rq->x, "verbose"))
        buf_printf(&text, "[+]ping ok\n%s check passed\n", path + 1);
    else
        buf_puts(&text, "ok");
    http_reply(rq->x, 200, "text/plain; charset=utf-8", text.data, text.len);
}

struct metrics *kube_metrics(struct kube *k) {
    return k->metrics;
}

static void serve_metrics(struct request *rq) {
    AUTO_BUF text = BUF_INIT;
    metrics_write(rq->kube->metrics, &text);
    http_reply(rq->x, 200, "text/plain; version=0.0.4; charset=utf-8", text.data ? text.data : "",
               text.len);
}

static void serve_decisions(struct request *rq) {
    AUTO_BUF text = BUF_INIT;
    decision_log_write(rq->kube->opt.decisions, &text);
    http_reply(rq->x, 200, "text/plain; charset=utf-8", text.data ? text.data : "", text.len);
}

/* Everything that is not a resource. OK: answered. */
static enum errc serve_path(struct request *rq, const char *path, struct error *err) {
    if (authz_is_public(path)) {
        serve_health(rq, path);
        return OK;
    }
    enum errc code = authorize(rq, err);
    if (code)
        return code;
    static const char *const known[] = {"/metrics", "/version", "/openapi/", "/openid/",
                                        "/debug/autoscaler"};
    for (size_t i = 0; i < ARRAY_LEN(known) && !is_read(rq); i++) {
        if (!strncmp(path, known[i], strlen(known[i])))
            return no_such_verb(rq, "GET", err);
    }
    if (!strcmp(path, "/")) {
        discovery_paths(rq);
        return OK;
    }
    if (!strcmp(path, "/metrics")) {
        serve_metrics(rq);
        return OK;
    }
    if (!strcmp(path, "/debug/autoscaler") && rq->kube->opt.decisions) {
        serve_decisions(rq);
        return OK;
    }
    if (!strncmp(path, "/version", 8)) {
        discovery_version(rq->x);
        return OK;
    }
    return openapi_handle(rq, path) || tokens_handle(rq, path) ? OK : no_such_path(err);
}

/* ---- from the HTTP server to a thread ---- */

static void on_answered(struct http_exchange *x, int status, bool streaming, void *user) {
    struct ticket *ticket = user;
    audit_answered(ticket->audit, status, streaming);
}

static void on_ended(struct http_exchange *x, void *user) {
    struct ticket *ticket = user;
    audit_end(steal(ticket->audit));
    dispatch_ended(ticket->kube->dispatch, ticket);
}

static void begin(struct request *rq, struct kube *kube, struct http_exchange *x) {
    *rq = (struct request){
        .kube = kube,
        .kinds = crds_kinds(kube->crds),
        .x = x,
        .who = http_identity(x),
        .verb = "get",
        .causes = json_array(),
        .warnings = json_array(),
    };
}

static enum errc serve_target(struct request *rq, const struct target *t, struct error *err) {
    const struct auth_identity *client = rq->who;
    enum errc code = impersonate(rq, err);
    if (rq->who != client)
        audit_impersonated(rq->audit, rq->who);
    if (code)
        return code;
    return t->api ? serve_api(rq, t, err) : serve_path(rq, http_path(rq->x), err);
}

/* Answers, with a failure when err says one, and lets go of what begin() took. The answer ends the
 * exchange and with it the arena: nothing of rq but its references is used afterwards. */
static void finish(struct request *rq, const struct target *t, struct error *err) {
    json_t *causes = rq->causes, *warnings = rq->warnings;
    struct kinds *kinds = rq->kinds;
    if (err->code || serve_target(rq, t, err))
        request_fail(rq, err);
    store_object_unref(rq->written);
    json_decref(causes);
    json_decref(warnings);
    kinds_unref(kinds);
}

/* In its turn, on a thread of the dispatch. */
static void serve_ticket(struct ticket *ticket, bool stopping) {
    struct error err = ERROR_INIT;
    struct target target;
    struct request rq;
    begin(&rq, ticket->kube, ticket->x);
    read_target(&rq, &target);
    rq.audit = ticket->audit;
    if (stopping)
        err_set(&err, ERR_UNAVAILABLE, "the server is shutting down");
    else if (http_stream_gone(ticket->x))
        err_set(&err, ERR_CANCELLED, "the client left while the request waited");
    finish(&rq, &target, &err);
}

void kube_handle(struct http_exchange *x, void *user) {
    struct error err = ERROR_INIT;
    struct kube *kube = user;
    struct ticket *ticket = dispatch_ticket(kube, x);
    struct target target;
    struct request rq;
    begin(&rq, kube, x);
    read_target(&rq, &target);
    rq.audit = ticket->audit = audit_begin(kube->audit, &rq);
    const struct http_observer observer = {
        .answered = on_answered, .ended = on_ended, .user = ticket};
    http_observe(x, &observer);
    bool here = true;
    if (!cost_exempt(&rq)) {
        struct dispatch_request wish;
        cost_read(&rq, &wish);
        if (dispatch_submit(kube->dispatch, ticket, &wish, &here, &err) && wish.watch)
            http_set_header(x, "Connection", "close"); /* connections are bounded, too */
    }
    if (here || err.code) {
        finish(&rq, &target, &err);
        dispatch_served(kube->dispatch, ticket);
        return;
    }
    json_decref(rq.causes); /* x is the other thread's now */
    json_decref(rq.warnings);
    kinds_unref(rq.kinds);
}

void kube_refused(struct http_exchange *x, const struct error *err, void *user) {
    struct kube *kube = user;
    struct target target;
    struct request rq = {.kube = kube, .x = x, .verb = "get"};
    read_target(&rq, &target);
    audit_refused(kube->audit, &rq);
}

void kube_error_body(int status, const struct error *err, const char *request_id, struct buf *out) {
    static const struct status_subject nothing;
    struct error shown = *err;
    if (err->code == ERR_UNAUTHENTICATED) /* why is for the log */
        err_set(&shown, ERR_UNAUTHENTICATED, "Unauthorized");
    json_t *body = status_failure(&shown, &nothing, NULL);
    json_object_set_new(body, "code", json_integer(status));
    char *text = json_dumps(body, JSON_COMPACT);
    buf_puts(out, text);
    free(text);
    json_decref(body);
}
