/* What an event says is the reference's:
 *
 *   level auditID stage requestURI verb user impersonatedUser sourceIPs userAgent
 *   objectRef {resource namespace name uid apiGroup apiVersion subresource} responseStatus
 *   requestObject requestReceivedTimestamp stageTimestamp
 *   annotations: authorization.k8s.io/decision, authorization.k8s.io/reason
 *
 * The record is the event without its stage. Each stage that the policy wants is the record printed
 * with the stage and the time, and handed to the log's thread: a request pays for printing a line
 * of a kilobyte and never waits.
 *
 * Bodies are written at level Request only, and never those of Secrets, TokenRequests and
 * TokenReviews, whatever the policy says: their requests are written as Metadata. */
#include "kube-compat/audit.h"

#include <stdio.h>

#include "core/base/clock.h"
#include "core/base/yaml.h"
#include "core/object.h"
#include "kube-compat/audit_log.h"
#include "kube-compat/tokens.h"

struct audit {
    struct audit_policy *policy;
    struct audit_log *log;
};

struct audit_record {
    struct audit *audit;
    enum audit_level level;
    unsigned omit_stages;
    json_t *event; /* without stage and stageTimestamp */
    bool complete; /* ResponseComplete is written */
};

/* ---- opening ---- */

static enum errc read_policy(const char *path, struct audit_policy **ret_p, struct error *err) {
    FILE *f = fopen(path, "re");
    if (!f)
        return err_errno(err, "open %s", path);
    AUTO_BUF text = BUF_INIT;
    char chunk[4096];
    size_t n;
    while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0 && text.len <= AUDIT_POLICY_BYTES_MAX)
        buf_append(&text, chunk, n);
    bool bad = ferror(f);
    fclose(f);
    if (bad)
        return err_errno(err, "read %s", path);
    if (text.len > AUDIT_POLICY_BYTES_MAX)
        return err_set(err, ERR_INVALID, "%s: larger than %d bytes", path, AUDIT_POLICY_BYTES_MAX);
    json_t *document = NULL;
    enum errc rc = yaml_parse(text.data ? text.data : "", text.len, &document, err);
    if (!rc)
        rc = audit_policy_create(document, ret_p, err);
    json_decref(document);
    return rc ? err_wrap(err, "%s", path) : OK;
}

enum errc audit_open(const struct audit_options *opt, struct audit **ret_a, struct error *err) {
    AUTO(audit) a = mem_alloc(sizeof(*a));
    struct audit_log_options log = {.path = opt->log_path,
                                    .file_bytes_max = opt->file_bytes_max,
                                    .files_max = opt->files_max,
                                    .days_max = opt->days_max,
                                    .metrics = opt->metrics};
    if (read_policy(opt->policy_path, &a->policy, err) || audit_log_open(&log, &a->log, err))
        return err_wrap(err, "audit");
    *ret_a = steal(a);
    return OK;
}

void audit_close(struct audit *a) {
    if (!a)
        return;
    audit_log_close(a->log);
    audit_policy_destroy(a->policy);
    free(a);
}

/* ---- the record ---- */

static json_t *micro_time(int64_t wall_ms) {
    char text[CLOCK_RFC3339_BYTES];
    clock_rfc3339(wall_ms, text);
    text[strlen(text) - 1] = '\0'; /* the Z */
    return json_sprintf("%s.%03d000Z", text, (int)(wall_ms % 1000));
}

static void set_text(json_t *o, const char *key, const char *text) {
    if (text && *text)
        json_object_set_new(o, key, object_text(text));
}

static json_t *object_ref(const struct request *rq) {
    json_t *ref = json_object();
    set_text(ref, "resource", rq->resource);
    set_text(ref, "namespace", rq->ns);
    set_text(ref, "name", rq->name);
    set_text(ref, "apiGroup", rq->group);
    set_text(ref, "apiVersion", rq->version);
    set_text(ref, "subresource", rq->subresource);
    return ref;
}

static bool holds_secrets(const struct request *rq) {
    if (!rq->resource)
        return false;
    return !strcmp(rq->resource, "secrets") || !strcmp(rq->resource, "tokenreviews") ||
           (rq->subresource && !strcmp(rq->subresource, "token"));
}

static json_t *make_event(const struct request *rq, enum audit_level level, const char *id,
                          const char *verb) {
    static const char *const levels[] = {"None", "Metadata", "Request"};
    const char *query = http_raw_query(rq->x), *agent = http_header(rq->x, "User-Agent");
    AUTO_FREE char *uri = mem_printf("%s%s%s", http_raw_path(rq->x), *query ? "?" : "", query);
    json_t *event = json_pack("{s:s, s:s, s:s, s:s, s:o, s:s}", "kind", "Event", "apiVersion",
                              "audit.k8s.io/v1", "level", levels[level], "auditID", id,
                              "requestURI", object_text(uri), "verb", verb);
    json_object_set_new(event, "user", rq->who ? tokens_user(rq->who) : json_object());
    if (*http_client_address(rq->x))
        json_object_set_new(event, "sourceIPs", json_pack("[s]", http_client_address(rq->x)));
    set_text(event, "userAgent", agent);
    if (rq->resource)
        json_object_set_new(event, "objectRef", object_ref(rq));
    json_object_set_new(event, "requestReceivedTimestamp", micro_time(clock_wall_ms()));
    return event;
}

static void write_stage(struct audit_record *r, enum audit_stage stage, const char *name) {
    if (r->omit_stages & stage)
        return;
    json_object_set_new(r->event, "stage", json_string(name));
    json_object_set_new(r->event, "stageTimestamp", micro_time(clock_wall_ms()));
    AUTO_BUF line = BUF_INIT;
    char *text = json_dumps(r->event, JSON_COMPACT);
    buf_puts(&line, text);
    buf_putc(&line, '\n');
    free(text);
    size_t len = line.len;
    audit_log_write(r->audit->log, buf_steal(&line), len);
}

/* The verb of a path is its method. */
static const char *verb_of(const struct request *rq) {
    if (rq->resource)
        return rq->verb;
    char *verb = arena_strdup(http_arena(rq->x), http_method(rq->x));
    for (char *p = verb; *p; p++)
        *p = *p >= 'A' && *p <= 'Z' ? (char)(*p + 32) : *p;
    return verb;
}

static struct audit_record *begin(struct audit *a, struct request *rq, unsigned more_omitted) {
    const struct audit_attributes attributes = {
        .who = rq->who,
        .verb = verb_of(rq),
        .group = rq->group,
        .resource = rq->resource,
        .subresource = rq->subresource,
        .name = rq->name,
        .ns = rq->ns,
        .path = http_path(rq->x),
    };
    struct audit_decision d = audit_policy_decide(a->policy, &attributes);
    char id[37];
    object_uid_make(id);
    http_set_header(rq->x, "Audit-ID", id);
    if (d.level == AUDIT_NONE)
        return NULL;
    struct audit_record *r = mem_alloc(sizeof(*r));
    r->audit = a;
    r->level = holds_secrets(rq) ? AUDIT_METADATA : d.level;
    r->omit_stages = d.omit_stages | more_omitted;
    r->event = make_event(rq, r->level, id, attributes.verb);
    write_stage(r, AUDIT_REQUEST_RECEIVED, "RequestReceived");
    return r;
}

struct audit_record *audit_begin(struct audit *a, struct request *rq) {
    return a ? begin(a, rq, 0) : NULL;
}

void audit_impersonated(struct audit_record *r, const struct auth_identity *who) {
    if (r)
        json_object_set_new(r->event, "impersonatedUser", tokens_user(who));
}

void audit_decided(struct audit_record *r, bool allowed, const char *reason) {
    if (!r)
        return;
    json_object_set_new(r->event, "annotations",
                        json_pack("{s:s, s:o}", "authorization.k8s.io/decision",
                                  allowed ? "allow" : "forbid", "authorization.k8s.io/reason",
                                  object_text(reason ? reason : "")));
}

void audit_body(struct audit_record *r, const json_t *body) {
    audit_result(r, body);
    if (!r || r->level != AUDIT_REQUEST)
        return;
    size_t len = json_dumpb(body, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY);
    if (len > AUDIT_BODY_BYTES_MAX) {
        json_t *annotations = json_object_get(r->event, "annotations");
        if (annotations)
            json_object_set_new(
                annotations, "inferd/request-object",
                json_sprintf("left out: %zu bytes, above %d", len, AUDIT_BODY_BYTES_MAX));
        return;
    }
    json_object_set_new(r->event, "requestObject", json_deep_copy(body));
}

void audit_result(struct audit_record *r, const json_t *object) {
    json_t *ref = r ? json_object_get(r->event, "objectRef") : NULL;
    if (ref && !json_object_get(ref, "name"))
        set_text(ref, "name", object_str(object, "metadata.name"));
}

void audit_failed(struct audit_record *r, const json_t *status) {
    json_t *shown = r ? json_object() : NULL;
    static const char *const fields[] = {"metadata", "status", "message", "reason", "code"};
    for (size_t i = 0; shown && i < ARRAY_LEN(fields); i++) {
        json_t *value = json_object_get(status, fields[i]);
        if (value)
            json_object_set_new(shown, fields[i], json_deep_copy(value));
    }
    if (shown)
        json_object_set_new(r->event, "responseStatus", shown);
}

void audit_answered(struct audit_record *r, int status, bool streaming) {
    if (!r)
        return;
    if (!json_object_get(r->event, "responseStatus"))
        json_object_set_new(r->event, "responseStatus",
                            json_pack("{s:{}, s:i}", "metadata", "code", status));
    if (streaming) {
        write_stage(r, AUDIT_RESPONSE_STARTED, "ResponseStarted");
        return;
    }
    write_stage(r, AUDIT_RESPONSE_COMPLETE, "ResponseComplete");
    r->complete = true;
}

void audit_end(struct audit_record *r) {
    if (!r)
        return;
    if (!r->complete)
        write_stage(r, AUDIT_RESPONSE_COMPLETE, "ResponseComplete");
    json_decref(r->event);
    free(r);
}

void audit_refused(struct audit *a, struct request *rq) {
    struct audit_record *r = a ? begin(a, rq, AUDIT_REQUEST_RECEIVED) : NULL;
    if (!r)
        return;
    json_t *status = json_pack("{s:{}, s:s, s:s, s:s, s:i}", "metadata", "status", "Failure",
                               "message", "Authentication failed, attempted: bearer", "reason",
                               "Unauthorized", "code", 401);
    audit_failed(r, status);
    json_decref(status);
    audit_answered(r, 401, false);
    audit_end(r);
}
