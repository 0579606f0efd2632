/* Queries by HTTP. Parameters stand in the URL or, with POST, in a form; the answer has Prometheus'
 * shape: {"status": "success", "data": ...} or {"status": "error", "errorType", "error"}.
 *
 * Source: prometheus.io/docs/prometheus/latest/querying/api. */
#include "api/series_query.h"

#include <math.h>

#include "core/base/clock.h"
#include "core/series/promql.h"

/* ---- parameters ---- */

static int hex_digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 87 : -1;
}

static char *decode(struct arena *a, const char *text, size_t len) {
    char *out = arena_alloc(a, len + 1), *to = out;
    for (const char *p = text; p < text + len; p++) {
        int high = *p == '%' && p + 2 < text + len ? hex_digit(p[1]) : -1;
        int low = high >= 0 ? hex_digit(p[2]) : -1;
        if (low >= 0) {
            *to++ = (char)(high * 16 + low);
            p += 2;
        } else {
            *to++ = *p == '+' ? ' ' : *p;
        }
    }
    return out;
}

/* Of the form, or of the URL; NULL: absent. */
static const char *parameter(struct http_exchange *x, const char *name) {
    size_t len, name_len = strlen(name);
    const char *body = http_body(x, &len), *end = body + len;
    for (const char *p = body, *next; len && p < end; p = next + 1) {
        const char *stop = memchr(p, '&', (size_t)(end - p));
        next = stop ? stop : end;
        if ((size_t)(next - p) > name_len && p[name_len] == '=' && !strncmp(p, name, name_len))
            return decode(http_arena(x), p + name_len + 1, (size_t)(next - p) - name_len - 1);
    }
    return http_query(x, name);
}

/* Seconds since the epoch, or RFC 3339. */
static bool read_time(const char *text, int64_t *ret_ms) {
    char *end;
    double seconds = strtod(text, &end);
    if (end != text && !*end) {
        if (!(fabs(seconds) < 1e12))
            return false;
        *ret_ms = llround(seconds * 1000);
        return true;
    }
    *ret_ms = clock_parse_rfc3339(text);
    return *ret_ms >= 0;
}

/* Seconds, or "15s". */
static bool read_step(const char *text, int64_t *ret_ms) {
    char *end;
    double value = strtod(text, &end), unit = 1000;
    if (!strcmp(end, "ms"))
        unit = 1;
    else if (!strcmp(end, "m"))
        unit = 60000;
    else if (!strcmp(end, "h"))
        unit = 3600000;
    else if (*end && strcmp(end, "s") != 0)
        return false;
    if (end == text || !(value * unit >= 1 && value * unit < 1e12))
        return false;
    *ret_ms = llround(value * unit);
    return true;
}

/* ---- answers ---- */

static void reply_error(struct http_exchange *x, const struct error *err) {
    bool bad = err->code == ERR_MALFORMED;
    json_t *doc = json_pack("{s:s,s:s,s:s}", "status", "error", "errorType",
                            bad ? "bad_data" : "execution", "error", err->text);
    http_reply_json(x, bad ? 400 : 422, doc);
    json_decref(doc);
}

static void reply_value(struct http_exchange *x, const struct promql_value *v, int64_t now_ms) {
    json_t *doc = json_pack("{s:s,s:o}", "status", "success", "data", promql_value_json(v, now_ms));
    http_reply_json(x, 200, doc);
    json_decref(doc);
}

static enum errc time_parameter(struct http_exchange *x, const char *name, bool required,
                                int64_t *ret_ms, struct error *err) {
    const char *text = parameter(x, name);
    *ret_ms = clock_wall_ms();
    if (text ? read_time(text, ret_ms) : !required)
        return OK;
    return err_set(err, ERR_MALFORMED,
                   "invalid parameter \"%s\": \"%.100s\" is neither seconds since 1970 nor a time "
                   "by RFC 3339",
                   name, text ? text : "");
}

static enum errc parse_query(struct http_exchange *x, struct promql **ret_q, struct error *err) {
    const char *text = parameter(x, "query");
    if (promql_parse(text ? text : "", ret_q, err))
        return err_wrap(err, "invalid parameter \"query\"");
    return OK;
}

static void query(struct series *s, struct http_exchange *x) {
    struct error err = ERROR_INIT;
    AUTO(promql) q = NULL;
    AUTO_PROMQL_VALUE v = {0};
    int64_t at_ms;
    if (time_parameter(x, "time", false, &at_ms, &err) || parse_query(x, &q, &err) ||
        promql_eval(q, s, at_ms, &v, &err))
        reply_error(x, &err);
    else
        reply_value(x, &v, at_ms);
}

static enum errc eval_range(struct series *s, struct http_exchange *x, struct promql_value *ret,
                            struct error *err) {
    AUTO(promql) q = NULL;
    int64_t from_ms, to_ms, step_ms;
    const char *step = parameter(x, "step");
    if (time_parameter(x, "start", true, &from_ms, err) ||
        time_parameter(x, "end", true, &to_ms, err) || parse_query(x, &q, err))
        return err->code;
    if (!step || !read_step(step, &step_ms))
        return err_set(err, ERR_MALFORMED,
                       "invalid parameter \"step\": \"%.100s\" is not a positive duration",
                       step ? step : "");
    if (promql_eval_range(q, s, from_ms, to_ms, step_ms, ret, err) == ERR_INVALID)
        err->code = ERR_MALFORMED; /* of the parameters, as Prometheus has it */
    return err->code;
}

static void query_range(struct series *s, struct http_exchange *x) {
    struct error err = ERROR_INIT;
    AUTO_PROMQL_VALUE v = {0};
    if (eval_range(s, x, &v, &err))
        reply_error(x, &err);
    else
        reply_value(x, &v, 0);
}

bool series_query_serve(struct series *s, struct http_exchange *x) {
    const char *method = http_method(x), *path = http_path(x);
    if (strcmp(method, "GET") != 0 && strcmp(method, "POST") != 0)
        return false;
    if (!strcmp(path, "/api/v1/query"))
        query(s, x);
    else if (!strcmp(path, "/api/v1/query_range"))
        query_range(s, x);
    else
        return false;
    return true;
}
