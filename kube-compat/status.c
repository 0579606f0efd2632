/* The table from neutral error codes to Kubernetes' reasons, and the Status object around it. */
#include "kube-compat/status.h"

#include <stdio.h>

#include "core/base/buf.h"
#include "kube-compat/schema.h"

static const struct {
    int code;
    const char *reason;
} table[ERRC_COUNT] = {
    [ERR_MALFORMED] = {400, "BadRequest"},
    [ERR_INVALID] = {422, "Invalid"},
    [ERR_UNAUTHENTICATED] = {401, "Unauthorized"},
    [ERR_FORBIDDEN] = {403, "Forbidden"},
    [ERR_NOT_FOUND] = {404, "NotFound"},
    [ERR_METHOD] = {405, "MethodNotAllowed"},
    [ERR_TOO_LARGE] = {413, "RequestEntityTooLarge"},
    [ERR_MEDIA_TYPE] = {415, "UnsupportedMediaType"},
    [ERR_EXISTS] = {409, "AlreadyExists"},
    [ERR_CONFLICT] = {409, "Conflict"},
    [ERR_GONE] = {410, "Expired"},
    [ERR_EXHAUSTED] = {429, "TooManyRequests"},
    [ERR_UNAVAILABLE] = {503, "ServiceUnavailable"},
    [ERR_TIMEOUT] = {504, "Timeout"},
    [ERR_CANCELLED] = {499, "InternalError"},
    [ERR_IO] = {500, "InternalError"},
    [ERR_INTERNAL] = {500, "InternalError"},
};

static void set_string(json_t *o, const char *key, const char *value) {
    if (value && *value)
        json_object_set_new(o, key, json_string(value));
}

static json_t *make(const char *status, int code, const char *reason, const char *message,
                    json_t *details) {
    json_t *o = json_pack("{s:s, s:s, s:{}, s:s}", "kind", "Status", "apiVersion", "v1", "metadata",
                          "status", status);
    set_string(o, "message", message);
    set_string(o, "reason", reason);
    if (details)
        json_object_set_new(o, "details", details);
    if (code)
        json_object_set_new(o, "code", json_integer(code));
    return o;
}

/* `Deployment.apps "a" is invalid: [spec.x: Required value, spec.y: Invalid value: 1: ...]` */
static void describe_invalid(struct buf *out, const struct status_subject *about,
                             const json_t *causes) {
    buf_printf(out, "%s%s%s \"%s\" is invalid: ", about->kind ? about->kind : "",
               about->group && *about->group ? "." : "", about->group ? about->group : "",
               about->name ? about->name : "");
    size_t num = json_array_size(causes);
    if (num > 1)
        buf_putc(out, '[');
    for (size_t i = 0; i < num; i++) {
        const json_t *c = json_array_get(causes, i);
        buf_printf(out, "%s%s: %s", i ? ", " : "", json_string_value(json_object_get(c, "field")),
                   json_string_value(json_object_get(c, "message")));
    }
    if (num > 1)
        buf_putc(out, ']');
}

json_t *status_failure(const struct error *err, const struct status_subject *about,
                       const json_t *causes) {
    bool invalid = err->code == ERR_INVALID;
    json_t *details = json_object();
    set_string(details, "name", about->name);
    set_string(details, "group", about->group);
    set_string(details, "kind", invalid ? about->kind : about->resource);
    json_t *list = json_array();
    if (causes)
        json_array_extend(list, (json_t *)(uintptr_t)causes);
    if (invalid && !json_array_size(list) && err->field[0])
        cause_add(list, CAUSE_INVALID, err->field, "%s", err->text);
    /* Without causes, kubectl shows the message only of what is not about an object. */
    if (invalid && !json_array_size(list))
        json_object_clear(details);
    AUTO_BUF message = BUF_INIT;
    if (invalid && json_array_size(list))
        describe_invalid(&message, about, list);
    else
        buf_puts(&message, err->text);
    if (json_array_size(list))
        json_object_set(details, "causes", list);
    json_decref(list);
    if (err->retry_after_seconds)
        json_object_set_new(details, "retryAfterSeconds", json_integer(err->retry_after_seconds));
    if (err->code == ERR_MALFORMED || !json_object_size(details)) {
        json_decref(details);
        details = err->code == ERR_MALFORMED ? NULL : json_object();
    }
    enum errc code = (unsigned)err->code < ERRC_COUNT ? err->code : ERR_INTERNAL;
    return make("Failure", table[code].code, table[code].reason, message.data, details);
}

json_t *status_failure_raw(int code, const char *reason, const char *message) {
    return make("Failure", code, reason, message, json_object());
}

json_t *status_deleted(const struct status_subject *about, const char *uid) {
    json_t *details = json_object();
    set_string(details, "name", about->name);
    set_string(details, "group", about->group);
    set_string(details, "kind", about->resource);
    set_string(details, "uid", uid);
    return make("Success", 0, NULL, NULL, details);
}

int status_code(const json_t *status) {
    return (int)json_integer_value(json_object_get(status, "code"));
}
