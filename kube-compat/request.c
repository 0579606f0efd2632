/* Answers: objects in the form asked for, failures as Status. */
#include "kube-compat/request.h"

#include <stdio.h>

#include "core/base/clock.h"
#include "core/base/json_text.h"
#include "core/base/log.h"
#include "core/base/yaml.h"
#include "core/object.h"
#include "kube-compat/audit.h"
#include "kube-compat/status.h"
#include "kube-compat/table.h"

enum { WARNINGS_BYTES_MAX = 4096 };

/* Said twice is said once: a patch that is tried again warns again. */
static void drop_repeated(json_t *warnings) {
    json_t *seen = json_object();
    for (size_t i = 0; i < json_array_size(warnings);) {
        const char *text = json_string_value(json_array_get(warnings, i));
        if (json_object_get(seen, text)) {
            json_array_remove(warnings, i);
            continue;
        }
        json_object_set_new(seen, text, json_true());
        i++;
    }
    json_decref(seen);
}

const char *request_given(const struct request *rq, const char *parameter) {
    const char *value = http_query(rq->x, parameter);
    return value && *value ? value : NULL;
}

/* Clients refuse answers whose headers are too long: what does not fit goes to the log. */
static void add_warnings(struct request *rq) {
    drop_repeated(rq->warnings);
    size_t bytes = 0, num = json_array_size(rq->warnings), i = 0;
    for (; i < num && bytes < WARNINGS_BYTES_MAX; i++) {
        const char *text = json_string_value(json_array_get(rq->warnings, i));
        bytes += strlen(text);
        http_add_warning(rq->x, text);
    }
    if (i == num)
        return;
    char more[64];
    snprintf(more, sizeof(more), "%zu more warnings are in the server's log", num - i);
    http_add_warning(rq->x, more);
    for (; i < num; i++) {
        struct log_quoted q;
        log_warn("warning to a client", "resource=%s name=%s text=%s", rq->resource,
                 rq->name ? rq->name : "",
                 log_quote(&q, json_string_value(json_array_get(rq->warnings, i))));
    }
}

static void add_headers(struct request *rq) {
    add_warnings(rq);
    http_set_header(rq->x, "Cache-Control", "no-cache, private");
    http_compress(rq->x);
}

void request_reply_parts(struct request *rq, int status, const struct http_part *parts,
                         size_t num_parts, void (*release)(void *user), void *user) {
    add_headers(rq);
    http_reply_parts(rq->x, status, "application/json", parts, num_parts, release, user);
}

static void reply_text(struct request *rq, int status, struct buf *body) {
    add_headers(rq);
    http_reply_take(rq->x, status, "application/json", body);
}

static int append(const char *data, size_t len, void *user) {
    buf_append(user, data, len);
    return 0;
}

static void send(struct request *rq, int status, const json_t *body) {
    bool pretty = http_query_bool(rq->x, "pretty");
    AUTO_BUF b = BUF_INIT;
    if (pretty)
        ASSERT(!json_dump_callback(body, append, &b, JSON_INDENT(2)));
    else
        json_text(&b, body);
    buf_putc(&b, '\n');
    reply_text(rq, status, &b);
}

json_t *request_status(const struct request *rq, const struct error *err) {
    const struct kind *k = rq->kind;
    struct status_subject about = {
        .group = rq->group,
        .resource = rq->resource,
        .kind = k ? k->kind : rq->review_kind,
        .name = rq->name,
    };
    if (rq->options_kind)
        about = (struct status_subject){.group = "meta.k8s.io", .kind = rq->options_kind};
    return status_failure(err, &about, rq->causes);
}

void request_fail_with(struct request *rq, json_t *status) {
    int64_t retry = object_int(status, "details.retryAfterSeconds", 0);
    if (retry) {
        char seconds[24];
        snprintf(seconds, sizeof(seconds), "%lld", (long long)retry);
        http_set_header(rq->x, "Retry-After", seconds);
    }
    audit_failed(rq->audit, status);
    send(rq, status_code(status), status);
    json_decref(status);
}

void request_fail(struct request *rq, const struct error *err) {
    request_fail_with(rq, request_status(rq, err));
}

/* {kind: PartialObjectMetadata, metadata}. */
static json_t *metadata_only(const json_t *object) {
    return json_pack("{s:s, s:s, s:O*}", "kind", "PartialObjectMetadata", "apiVersion",
                     "meta.k8s.io/v1", "metadata", json_object_get(object, "metadata"));
}

static json_t *metadata_form(const json_t *object) {
    json_t *items = json_object_get(object, "items");
    if (!json_is_array(items))
        return metadata_only(object);
    json_t *list =
        json_pack("{s:s, s:s, s:O*, s:[]}", "kind", "PartialObjectMetadataList", "apiVersion",
                  "meta.k8s.io/v1", "metadata", json_object_get(object, "metadata"), "items");
    for (size_t i = 0; i < json_array_size(items); i++)
        json_array_append_new(json_object_get(list, "items"),
                              metadata_only(json_array_get(items, i)));
    return list;
}

static enum accept_form choose_form(const struct request *rq, bool is_status) {
    unsigned allowed = ACCEPT_JSON | ACCEPT_YAML;
    const char *sub = rq->subresource;
    bool of_kind = rq->kind && (!sub || !strcmp(sub, "status") || !strcmp(sub, "scale"));
    if (of_kind && !is_status)
        allowed |= ACCEPT_TABLE | ACCEPT_METADATA;
    return accept_choose(http_header(rq->x, "Accept"), allowed);
}

bool request_wants_json(const struct request *rq) {
    return choose_form(rq, false) == ACCEPT_JSON && !http_query_bool(rq->x, "pretty");
}

void request_fail_unacceptable(struct request *rq) {
    request_fail_with(
        rq, status_failure_raw(406, "NotAcceptable",
                               "only the following media types are accepted: application/json, "
                               "application/yaml, application/json;as=Table;v=v1;g=meta.k8s.io"));
}

void request_reply(struct request *rq, int status, json_t *object) {
    bool is_status = object_str(object, "kind") && !strcmp(object_str(object, "kind"), "Status");
    enum accept_form form = choose_form(rq, is_status);
    json_t *shown = NULL;
    audit_result(rq->audit, object);
    if (form == ACCEPT_NONE) {
        json_decref(object);
        request_fail_unacceptable(rq);
        return;
    }
    if (form == ACCEPT_TABLE) {
        shown = table_of_reply(rq->kind, object, table_include(http_query(rq->x, "includeObject")),
                               clock_wall_ms());
    } else if (form == ACCEPT_METADATA) {
        shown = metadata_form(object);
    }
    if (form == ACCEPT_YAML) {
        AUTO_BUF text = BUF_INIT;
        yaml_emit(object, &text);
        add_warnings(rq);
        http_set_header(rq->x, "Cache-Control", "no-cache, private");
        http_compress(rq->x);
        http_reply_take(rq->x, status, "application/yaml", &text);
    } else {
        send(rq, status, shown ? shown : object);
    }
    json_decref(shown);
    json_decref(object);
}

enum errc request_not_found(const struct request *rq, struct error *err) {
    return err_set(err, ERR_NOT_FOUND, "%s \"%s\" not found",
                   rq->kind ? rq->kind->qualified : rq->resource, rq->name);
}

enum errc request_conflict(const struct request *rq, struct error *err) {
    return err_set(err, ERR_CONFLICT,
                   "Operation cannot be fulfilled on %s \"%s\": the object has been modified; "
                   "please apply your changes to the latest version and try again",
                   rq->kind->qualified, rq->name);
}

enum errc request_exists(const struct request *rq, const char *name, struct error *err) {
    return err_set(err, ERR_EXISTS, "%s \"%s\" already exists", rq->kind->qualified, name);
}
