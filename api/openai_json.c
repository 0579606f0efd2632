/* OpenAI's JSON. One table maps our error codes to OpenAI's status, type and code. */
#include "api/openai_json.h"

#include <math.h>
#include <stdio.h>
#include <strings.h>

struct dialect {
    int status;
    const char *type, *code; /* code NULL: null */
};

static const struct dialect dialects[ERRC_COUNT] = {
    [OK] = {200, "", NULL},
    [ERR_MALFORMED] = {400, "invalid_request_error", NULL},
    [ERR_INVALID] = {400, "invalid_request_error", NULL},
    [ERR_UNAUTHENTICATED] = {401, "invalid_request_error", "invalid_api_key"},
    [ERR_FORBIDDEN] = {403, "permission_denied", NULL},
    [ERR_NOT_FOUND] = {404, "invalid_request_error", "model_not_found"},
    [ERR_METHOD] = {405, "invalid_request_error", "method_not_allowed"},
    [ERR_TOO_LARGE] = {413, "invalid_request_error", "request_too_large"},
    [ERR_MEDIA_TYPE] = {415, "invalid_request_error", "unsupported_media_type"},
    [ERR_EXISTS] = {409, "invalid_request_error", NULL},
    [ERR_CONFLICT] = {409, "invalid_request_error", NULL},
    [ERR_GONE] = {410, "invalid_request_error", NULL},
    [ERR_EXHAUSTED] = {429, "rate_limit_exceeded", "rate_limit_exceeded"},
    [ERR_UNAVAILABLE] = {503, "service_unavailable", "service_unavailable"},
    [ERR_TIMEOUT] = {504, "timeout", "timeout"},
    [ERR_CANCELLED] = {499, "cancelled", "cancelled"},
    [ERR_IO] = {500, "server_error", NULL},
    [ERR_INTERNAL] = {500, "server_error", NULL},
};

static const struct dialect *dialect_of(enum errc code) {
    return &dialects[(unsigned)code < ERRC_COUNT ? code : ERR_INTERNAL];
}

int openai_status(enum errc code) {
    return dialect_of(code)->status;
}

/* The letter behind the backslash of a short escape, or 0. */
static char short_escape(unsigned char c) {
    switch (c) {
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    case '"':
    case '\\':
        return (char)c;
    default:
        return 0;
    }
}

void openai_escape(struct buf *out, const char *text, size_t len) {
    static const char hex[] = "0123456789abcdef";
    size_t start = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        buf_append(out, text + start, i - start);
        start = i + 1;
        char letter = short_escape(c);
        if (letter)
            buf_append(out, (char[]){'\\', letter}, 2);
        else
            buf_append(out, (char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6);
    }
    buf_append(out, text + start, len - start);
}

void openai_quote(struct buf *out, const char *text) {
    buf_putc(out, '"');
    openai_escape(out, text, strlen(text));
    buf_putc(out, '"');
}

static void put_quoted_or_null(struct buf *out, const char *text) {
    if (text && *text)
        openai_quote(out, text);
    else
        buf_puts(out, "null");
}

void openai_error_body(const struct error *err, const char *request_id, struct buf *out) {
    const struct dialect *d = dialect_of(err->code);
    buf_puts(out, "{\"error\":{\"message\":");
    openai_quote(out, err->text);
    buf_printf(out, ",\"type\":\"%s\",\"param\":", d->type);
    put_quoted_or_null(out, err->field);
    buf_puts(out, ",\"code\":");
    put_quoted_or_null(out, d->code);
    buf_puts(out, ",\"request_id\":");
    put_quoted_or_null(out, request_id);
    buf_puts(out, "}}");
}

void openai_http_error_body(int status, const struct error *err, const char *request_id,
                            struct buf *out) {
    openai_error_body(err, request_id, out);
}

void openai_reply_error(struct http_exchange *x, const struct error *err) {
    AUTO_BUF body = BUF_INIT;
    openai_error_body(err, http_request_id(x), &body);
    int status = openai_status(err->code);
    if (status == 429 || status == 503) {
        char seconds[16];
        snprintf(seconds, sizeof(seconds), "%u",
                 err->retry_after_seconds ? err->retry_after_seconds : OPENAI_RETRY_AFTER_SECONDS);
        http_set_header(x, "Retry-After", seconds);
    }
    if (status == 401)
        http_set_header(x, "WWW-Authenticate", "Bearer");
    http_reply(x, status, "application/json", body.data, body.len);
}

static bool is_json_type(const char *type) {
    /* The last is what curl -d says when nobody tells it otherwise. */
    static const char *const types[] = {"application/json", "text/json",
                                        "application/x-www-form-urlencoded"};
    size_t len = strcspn(type, "; ");
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (len == strlen(types[i]) && !strncasecmp(type, types[i], len))
            return true;
    }
    return !len || (len >= 5 && !strncasecmp(type + len - 5, "+json", 5));
}

enum errc openai_parse_body(struct http_exchange *x, json_t **ret_body, struct error *err) {
    size_t len;
    const char *text = http_body(x, &len);
    const char *type = http_header(x, "Content-Type");
    if (type && !is_json_type(type))
        return err_set(err, ERR_MEDIA_TYPE, "Content-Type: \"%.100s\" is not application/json",
                       type);
    json_error_t at;
    json_t *body = json_loadb(text, len, 0, &at);
    if (!body)
        return err_set(err, ERR_MALFORMED, "body is not valid JSON: line %d column %d: %s", at.line,
                       at.column, at.text);
    if (!json_is_object(body)) {
        json_decref(body);
        return err_set(err, ERR_MALFORMED, "body is not a JSON object");
    }
    *ret_body = body;
    return OK;
}

/* The value, or NULL when absent or null. */
static const json_t *present(const json_t *o, const char *name) {
    const json_t *v = json_object_get(o, name);
    return json_is_null(v) ? NULL : v;
}

static enum errc wrong_type(const json_t *v, const char *name, const char *wanted,
                            struct error *err) {
    AUTO_FREE char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
    return err_field(err, ERR_INVALID, name, "%s: %.60s is not %s", name, text ? text : "it",
                     wanted);
}

enum errc openai_read_float(const json_t *o, const char *name, double min, double max, float *ret,
                            struct error *err) {
    const json_t *v = present(o, name);
    if (!v)
        return OK;
    if (!json_is_number(v))
        return wrong_type(v, name, "a number", err);
    double d = json_number_value(v);
    if (!(d >= min && d <= max))
        return err_field(err, ERR_INVALID, name, "%s: %g is not within %g..%g", name, d, min, max);
    *ret = (float)d;
    return OK;
}

enum errc openai_read_int(const json_t *o, const char *name, int64_t min, int64_t max, int64_t *ret,
                          struct error *err) {
    const json_t *v = present(o, name);
    if (!v)
        return OK;
    double real = json_number_value(v);
    bool whole = json_is_real(v) && fabs(real) < 9e15 && real == floor(real);
    if (!json_is_integer(v) && !whole)
        return wrong_type(v, name, "a whole number", err);
    int64_t i = json_is_integer(v) ? json_integer_value(v) : (int64_t)real;
    if (i < min || i > max)
        return err_field(err, ERR_INVALID, name, "%s: %lld is not within %lld..%lld", name,
                         (long long)i, (long long)min, (long long)max);
    *ret = i;
    return OK;
}

enum errc openai_read_bool(const json_t *o, const char *name, bool *ret, struct error *err) {
    const json_t *v = present(o, name);
    if (!v)
        return OK;
    if (!json_is_boolean(v))
        return wrong_type(v, name, "true or false", err);
    *ret = json_is_true(v);
    return OK;
}

enum errc openai_read_string(const json_t *o, const char *name, const char **ret,
                             struct error *err) {
    const json_t *v = present(o, name);
    if (!v)
        return OK;
    if (!json_is_string(v))
        return wrong_type(v, name, "a string", err);
    *ret = json_string_value(v);
    return OK;
}
