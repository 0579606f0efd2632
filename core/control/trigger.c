/* Triggers, by KEDA's fields and defaults.
 *
 *   prometheus   query over inferd's own series, or over a remote Prometheus; a result that is
 *                empty is 0, unless ignoreNullValues is "false"
 *   metrics-api  a number somewhere in a JSON document
 *   cron         desiredReplicas between two times of a day, else 0
 *   cpu, memory  what a HorizontalPodAutoscaler would measure
 *
 * Loss is not silence: over own series an empty result counts as 0 only while every replica of the
 * namespace answers; one that does not may be the one that has the load.
 *
 * Source: keda.sh/docs, "Scalers". */
#include "core/control/trigger.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>

#include "core/base/buf.h"
#include "core/base/clock.h"
#include "core/object.h"
#include "core/quantity.h"

static const char *const type_names[TRIGGERS] = {"prometheus", "metrics-api", "cron", "cpu",
                                                 "memory"};

const char *trigger_type_name(const struct trigger *t) {
    return type_names[t->type];
}

static const char *field(const struct trigger *t, const char *name) {
    const char *value = json_string_value(json_object_get(object_at(t->json, "metadata"), name));
    return value && *value ? value : NULL;
}

static bool is(const char *text, const char *word) {
    return text && !strcmp(text, word);
}

/* ---- parsing ---- */

static enum errc read_number(const struct trigger *t, const char *name, bool required, double *ret,
                             struct error *err) {
    const char *text = field(t, name);
    char *end;
    if (!text && !required)
        return OK;
    double value = text ? strtod(text, &end) : 0;
    if (!text || end == text || *end || !isfinite(value))
        return err_set(err, ERR_INVALID,
                       "error parsing %s trigger: metadata.%s: \"%.60s\" is not "
                       "a number",
                       trigger_type_name(t), name, text ? text : "");
    *ret = value;
    return OK;
}

static enum errc refuse(const struct trigger *t, const char *name, const char *why,
                        struct error *err) {
    return err_set(err, ERR_INVALID, "error parsing %s trigger: metadata.%s: %s",
                   trigger_type_name(t), name, why);
}

static enum errc read_thresholds(struct trigger *t, const char *name, const char *activation,
                                 struct error *err) {
    if (read_number(t, name, true, &t->threshold, err) ||
        read_number(t, activation, false, &t->activation_threshold, err))
        return err->code;
    return t->threshold > 0 ? OK : refuse(t, name, "must be above 0", err);
}

/* The same place, however its end is written. */
static bool same_address(const char *a, const char *b) {
    size_t n = strlen(a), m = strlen(b);
    n -= n && a[n - 1] == '/';
    m -= m && b[m - 1] == '/';
    return n == m && !strncmp(a, b, n);
}

static enum errc parse_prometheus(struct trigger *t, const char *gateway_url, struct error *err) {
    const char *query = field(t, "query"), *address = field(t, "serverAddress");
    bool own = !address || (gateway_url && same_address(address, gateway_url));
    if (!query)
        return refuse(t, "query", "is required", err);
    if (read_thresholds(t, "threshold", "activationThreshold", err))
        return err->code;
    if (own && promql_parse(query, &t->query, err)) {
        err->code = ERR_INVALID;
        return err_wrap(err, "error parsing prometheus trigger: metadata.query");
    }
    if (own && promql_type(t->query) > PROMQL_VECTOR)
        return refuse(t, "query", "is a range vector", err);
    return OK;
}

static enum errc parse_metrics_api(struct trigger *t, struct error *err) {
    const char *format = field(t, "format");
    if (!field(t, "url"))
        return refuse(t, "url", "is required", err);
    if (!field(t, "valueLocation"))
        return refuse(t, "valueLocation", "is required", err);
    if (format && strcmp(format, "json") != 0)
        return refuse(t, "format", "only json is supported", err);
    if (is(field(t, "aggregateFromKubeServiceEndpoints"), "true"))
        return refuse(t, "aggregateFromKubeServiceEndpoints", "is not supported", err);
    return read_thresholds(t, "targetValue", "activationTargetValue", err);
}

static enum errc parse_cron(struct trigger *t, struct error *err) {
    static const char *const required[] = {"timezone", "start", "end", "desiredReplicas"};
    for (size_t i = 0; i < ARRAY_LEN(required); i++) {
        if (!field(t, required[i]))
            return refuse(t, required[i], "is required", err);
    }
    if (cron_parse(field(t, "start"), &t->start, err) ||
        cron_parse(field(t, "end"), &t->end, err) ||
        time_zone_open(field(t, "timezone"), &t->zone, err))
        return err_wrap(err, "error parsing cron trigger");
    if (!strcmp(field(t, "start"), field(t, "end")))
        return refuse(t, "end", "is the same as start", err);
    double desired;
    t->threshold = 1; /* the value is a number of replicas */
    return read_number(t, "desiredReplicas", true, &desired, err);
}

static enum errc parse_resource(struct trigger *t, struct error *err) {
    const char *kind = object_str(t->json, "metricType");
    if (!kind)
        kind = field(t, "type"); /* its older place */
    const char *value = field(t, "value");
    t->resource = (struct metric_spec){.source = METRIC_SOURCE_RESOURCE,
                                       .type = "Resource",
                                       .resource = type_names[t->type],
                                       .container = field(t, "containerName")};
    if (t->resource.container)
        t->resource.source = METRIC_SOURCE_CONTAINER_RESOURCE;
    if (is(kind, "Utilization")) {
        double percent = 0;
        if (read_number(t, "value", true, &percent, err))
            return err->code;
        t->resource.utilization = (int64_t)percent;
    } else if (is(kind, "AverageValue")) {
        json_t *amount = json_string(value ? value : "");
        bool ok = quantity_milli(amount, &t->resource.average_milli);
        json_decref(amount);
        if (!ok)
            return refuse(t, "value", "is not a quantity", err);
    } else {
        return err_set(err, ERR_INVALID,
                       "error parsing %s trigger: metricType has to be "
                       "Utilization or AverageValue",
                       type_names[t->type]);
    }
    t->threshold = 1;
    return t->resource.utilization > 0 || t->resource.average_milli > 0
               ? OK
               : refuse(t, "value", "must be above 0", err);
}

/* A name as KEDA makes it of what is looked at. */
static char *make_name(const struct trigger *t, uint32_t index) {
    if (trigger_is_resource(t))
        return mem_strdup(type_names[t->type]);
    char *name = t->type == TRIGGER_PROMETHEUS ? mem_printf("s%u-prometheus", index)
                 : t->type == TRIGGER_METRICS_API
                     ? mem_printf("s%u-metric-api-%s", index, field(t, "valueLocation"))
                     : mem_printf("s%u-cron-%s-%s-%s", index, field(t, "timezone"),
                                  field(t, "start"), field(t, "end"));
    char *to = name;
    for (const char *p = name; *p; p++) {
        if (*p == ' ' && t->type == TRIGGER_CRON)
            continue;
        *to++ = strchr("/.:%", *p) ? '-' : *p == '*' ? 'x' : *p;
    }
    *to = '\0';
    return name;
}

static enum errc parse_type(struct trigger *t, const char *gateway_url, struct error *err) {
    switch (t->type) {
    case TRIGGER_PROMETHEUS:
        return parse_prometheus(t, gateway_url, err);
    case TRIGGER_METRICS_API:
        return parse_metrics_api(t, err);
    case TRIGGER_CRON:
        return parse_cron(t, err);
    default:
        return parse_resource(t, err);
    }
}

enum errc trigger_parse(const json_t *item, uint32_t index, const char *gateway_url,
                        struct trigger *ret_t, struct error *err) {
    const char *type = object_str(item, "type"), *metric_type = object_str(item, "metricType");
    struct trigger t = {.json = item, .is_value = is(metric_type, "Value")};
    while (t.type < TRIGGERS && !is(type, type_names[t.type]))
        t.type++;
    if (t.type == TRIGGERS)
        return err_set(err, ERR_INVALID,
                       "no scaler found for type: %.60s (inferd has prometheus, metrics-api, cron, "
                       "cpu and memory)",
                       type ? type : "");
    bool known = !metric_type || is(metric_type, "Value") || is(metric_type, "AverageValue") ||
                 trigger_is_resource(&t);
    if (!known)
        return err_set(err, ERR_INVALID,
                       "metricType %.40s is not possible for a trigger of type %s: Value or "
                       "AverageValue",
                       metric_type, type);
    if (parse_type(&t, gateway_url, err)) {
        trigger_deinit(&t);
        return err->code;
    }
    t.metric_name = make_name(&t, index);
    *ret_t = t;
    return OK;
}

void trigger_deinit(struct trigger *t) {
    promql_destroy(t->query);
    time_zone_close(t->zone);
    free(t->metric_name);
    *t = (struct trigger){0};
}

/* ---- reading here ---- */

/* What KEDA makes of a result without a value. */
static enum errc no_value(const struct trigger *t, const char *why, double *ret,
                          struct error *err) {
    if (is(field(t, "ignoreNullValues"), "false"))
        return err_set(err, ERR_UNAVAILABLE, "prometheus metrics target may be lost, %s", why);
    *ret = 0;
    return OK;
}

static bool all_replicas_answer(struct series *series, const char *ns, int64_t wall_ms) {
    struct error err = ERROR_INIT;
    struct matcher m[2];
    AUTO_SERIES_RANGES found = {0};
    if (matcher_init(&m[0], LABEL_NAME, MATCHER_EQUAL, "up", &err))
        return false;
    bool ok = !matcher_init(&m[1], "namespace", MATCHER_EQUAL, ns, &err);
    bool read = ok && !series_latest(series, m, 2, wall_ms, &found, &err);
    matcher_deinit(&m[0]);
    if (ok)
        matcher_deinit(&m[1]);
    for (size_t i = 0; i < found.num_items; i++)
        read = read && found.items[i].samples->value > 0;
    return read;
}

static enum errc read_series(const struct trigger *t, struct series *series, const char *ns,
                             int64_t wall_ms, double *ret, struct error *err) {
    AUTO_PROMQL_VALUE v = {0};
    if (!series)
        return err_set(err, ERR_UNAVAILABLE, "no metrics are kept here");
    if (promql_eval(t->query, series, wall_ms, &v, err))
        return err->code;
    if (v.type == PROMQL_VECTOR && v.num_items > 1)
        return err_set(err, ERR_INVALID, "prometheus query %.200s returned multiple elements",
                       field(t, "query"));
    if (v.type == PROMQL_VECTOR && !v.num_items) {
        if (!all_replicas_answer(series, ns, wall_ms))
            return err_set(err, ERR_UNAVAILABLE,
                           "the result is empty, and the metrics of a replica cannot be read");
        return no_value(t, "the result is empty", ret, err);
    }
    *ret = v.type == PROMQL_SCALAR ? v.scalar : v.items[0].value;
    return isfinite(*ret) ? OK : no_value(t, "the value is not a number", ret, err);
}

/* Within the window the end comes before the start. */
static enum errc read_cron(const struct trigger *t, int64_t wall_ms, double *ret,
                           struct error *err) {
    int64_t start = cron_next(&t->start, t->zone, wall_ms / 1000);
    int64_t end = cron_next(&t->end, t->zone, wall_ms / 1000);
    *ret = 0;
    if (start < 0 || end < 0)
        return err_set(err, ERR_INVALID, "the cron expression \"%.100s\" has no next time",
                       field(t, start < 0 ? "start" : "end"));
    return end < start ? read_number(t, "desiredReplicas", true, ret, err) : OK;
}

enum errc trigger_read(const struct trigger *t, struct series *series, const char *ns,
                       int64_t wall_ms, double *ret_value, struct error *err) {
    return t->type == TRIGGER_CRON ? read_cron(t, wall_ms, ret_value, err)
                                   : read_series(t, series, ns, wall_ms, ret_value, err);
}

/* ---- asking others ---- */

static void escape(struct buf *out, const char *text) {
    for (; *text; text++) {
        if (isalnum((unsigned char)*text) || strchr("-_.~", *text))
            buf_putc(out, *text);
        else
            buf_printf(out, "%%%02X", (unsigned char)*text);
    }
}

static void add_parameter(struct buf *url, const char *name, const char *value) {
    buf_putc(url, strchr(url->data, '?') ? '&' : '?');
    escape(url, name);
    buf_putc(url, '=');
    escape(url, value);
}

struct question {
    struct buf url;
    struct http_get get;
    char *lines[TRIGGER_HEADERS_MAX];
    uint32_t num_lines;
};

static void question_deinit(struct question *q) {
    buf_deinit(&q->url);
    for (uint32_t i = 0; i < q->num_lines; i++)
        free(q->lines[i]);
}

static enum errc add_header(struct question *q, const char *name, const char *value,
                            struct error *err) {
    if (q->num_lines == TRIGGER_HEADERS_MAX)
        return err_set(err, ERR_INVALID, "more than %d headers", TRIGGER_HEADERS_MAX);
    char *line = mem_printf("%s: %s", name, value);
    for (char *p = line; *p; p++) {
        if ((unsigned char)*p < ' ') {
            free(line);
            return err_set(err, ERR_INVALID, "a header has a control character in it");
        }
    }
    q->get.headers[q->num_lines] = line;
    q->lines[q->num_lines++] = line;
    return OK;
}

/* "a=b,c=d" of customHeaders, queryParameters. */
static enum errc each_pair(const struct trigger *t, const char *name, struct question *q,
                           struct error *err) {
    AUTO_FREE char *copy = mem_strdup(field(t, name));
    bool headers = !strcmp(name, "customHeaders");
    char *save = NULL;
    for (char *pair = copy ? strtok_r(copy, ",", &save) : NULL; pair;
         pair = strtok_r(NULL, ",", &save)) {
        char *equals = strchr(pair, '=');
        if (!equals)
            return refuse(t, name, "is not a list of NAME=VALUE", err);
        *equals = '\0';
        if (!headers)
            add_parameter(&q->url, pair, equals + 1);
        else if (add_header(q, pair, equals + 1, err))
            return err->code;
    }
    return OK;
}

static enum errc need(const json_t *auth, const char *name, const char **ret, struct error *err) {
    *ret = json_string_value(json_object_get(auth, name));
    if (*ret)
        return OK;
    return err_set(err, ERR_INVALID, "the authenticationRef gives no parameter \"%s\"", name);
}

static enum errc add_api_key(const struct trigger *t, const json_t *auth, struct question *q,
                             struct error *err) {
    const char *key, *place = field(t, "method"), *name = field(t, "keyParamName");
    if (need(auth, "apiKey", &key, err))
        return err->code;
    if (is(place, "query")) {
        add_parameter(&q->url, name ? name : "api_key", key);
        return OK;
    }
    return add_header(q, name ? name : "X-API-KEY", key, err);
}

static enum errc add_mode(const struct trigger *t, const char *mode, const json_t *auth,
                          struct question *q, struct error *err) {
    const char *name, *value;
    if (!strcmp(mode, "basic")) {
        q->get.password = json_string_value(json_object_get(auth, "password"));
        return need(auth, "username", &q->get.username, err);
    }
    if (!strcmp(mode, "bearer"))
        return need(auth, t->type == TRIGGER_PROMETHEUS ? "bearerToken" : "token", &q->get.bearer,
                    err);
    if (!strcmp(mode, "tls"))
        return need(auth, "cert", &q->get.cert_pem, err) ? err->code
                                                         : need(auth, "key", &q->get.key_pem, err);
    if (!strcmp(mode, "custom"))
        return need(auth, "customAuthHeader", &name, err) ||
                       need(auth, "customAuthValue", &value, err)
                   ? err->code
                   : add_header(q, name, value, err);
    if (!strcmp(mode, "apiKey"))
        return add_api_key(t, auth, q, err);
    return err_set(err, ERR_INVALID,
                   "authentication mode \"%.40s\" is not supported (basic, bearer, tls, custom, "
                   "apiKey)",
                   mode);
}

/* authModes of prometheus is a list, authMode of metrics-api one. */
static enum errc add_auth(const struct trigger *t, const json_t *auth, struct question *q,
                          struct error *err) {
    const char *modes = field(t, t->type == TRIGGER_PROMETHEUS ? "authModes" : "authMode");
    AUTO_FREE char *copy = mem_strdup(modes);
    char *save = NULL;
    for (char *mode = copy ? strtok_r(copy, ", ", &save) : NULL; mode;
         mode = strtok_r(NULL, ", ", &save)) {
        if (add_mode(t, mode, auth, q, err))
            return err->code;
    }
    q->get.ca_pem = json_string_value(json_object_get(auth, "ca"));
    return OK;
}

static enum errc compose(const struct trigger *t, const json_t *auth, int64_t wall_ms,
                         struct question *q, struct error *err) {
    if (t->type == TRIGGER_METRICS_API) {
        buf_puts(&q->url, field(t, "url"));
        return add_auth(t, auth, q, err);
    }
    char now[CLOCK_RFC3339_BYTES];
    buf_puts(&q->url, field(t, "serverAddress"));
    if (q->url.data[q->url.len - 1] == '/')
        q->url.data[--q->url.len] = '\0';
    buf_puts(&q->url, "/api/v1/query");
    add_parameter(&q->url, "query", field(t, "query"));
    add_parameter(&q->url, "time", clock_rfc3339(wall_ms, now));
    if (field(t, "namespace"))
        add_parameter(&q->url, "namespace", field(t, "namespace"));
    if (each_pair(t, "queryParameters", q, err) || each_pair(t, "customHeaders", q, err))
        return err->code;
    return add_auth(t, auth, q, err);
}

enum errc trigger_ask(const struct trigger *t, const json_t *auth, int64_t wall_ms,
                      struct http_getter *getter, http_got_fn *fn, void *user, struct error *err) {
    struct question q = {
        .get = {.timeout_ms = TRIGGER_TIMEOUT_MS, .unsafe_tls = is(field(t, "unsafeSsl"), "true")}};
    if (!getter)
        return err_set(err, ERR_UNAVAILABLE, "nobody else is asked here");
    enum errc rc = compose(t, auth, wall_ms, &q, err);
    q.get.url = q.url.data;
    if (!rc)
        rc = http_getter_ask(getter, &q.get, fn, user, err);
    question_deinit(&q);
    return rc;
}

/* ---- answers ---- */

/* A number, or a text that is one, or a quantity. */
static bool number_of(const json_t *v, double *ret) {
    const char *text = json_string_value(v);
    __int128 nano;
    char *end;
    if (json_is_number(v)) {
        *ret = json_number_value(v);
        return true;
    }
    if (!text || !*text)
        return false;
    *ret = strtod(text, &end);
    if (!*end)
        return true;
    if (quantity_nano(text, &nano))
        return false;
    *ret = (double)nano / 1e9;
    return true;
}

static enum errc of_prometheus(const struct trigger *t, const json_t *doc, double *ret,
                               struct error *err) {
    const char *type = object_str(doc, "data.resultType");
    json_t *result = object_at(doc, "data.result");
    if (!is(object_str(doc, "status"), "success") || !json_is_array(result))
        return err_set(err, ERR_MALFORMED, "the answer is not one of Prometheus");
    if (is(type, "scalar")) {
        if (!number_of(json_array_get(result, 1), ret))
            return err_set(err, ERR_MALFORMED, "the answer has no number");
    } else {
        if (json_array_size(result) > 1)
            return err_set(err, ERR_INVALID, "prometheus query %.200s returned multiple elements",
                           field(t, "query"));
        if (!json_array_size(result))
            return no_value(t, "the result is empty", ret, err);
        if (!number_of(object_at(json_array_get(result, 0), "value.1"), ret))
            return err_set(err, ERR_MALFORMED, "the answer has no number");
    }
    return isfinite(*ret) ? OK : no_value(t, "the value is not a number", ret, err);
}

enum errc trigger_answer(const struct trigger *t, const struct http_got *got, double *ret_value,
                         struct error *err) {
    const char *location = field(t, "valueLocation");
    if (!got->status)
        return err_set(err, ERR_UNAVAILABLE, "%s", got->error);
    if (got->status != 200)
        return err_set(err, ERR_UNAVAILABLE, "%s: the answer has status %d", trigger_type_name(t),
                       got->status);
    json_t *doc = json_loadb(got->body, got->body_len, JSON_DECODE_ANY, NULL);
    enum errc rc = OK;
    if (!doc)
        rc = err_set(err, ERR_MALFORMED, "%s: the answer is not JSON", trigger_type_name(t));
    else if (t->type == TRIGGER_PROMETHEUS)
        rc = of_prometheus(t, doc, ret_value, err);
    else if (strlen(location) >= OBJECT_PATH_BYTES_MAX ||
             !number_of(object_at(doc, location), ret_value) || !isfinite(*ret_value))
        rc = err_set(err, ERR_INVALID, "valueLocation \"%.100s\" of the answer is no number",
                     location);
    json_decref(doc);
    return rc;
}
