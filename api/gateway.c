/* The handler of the gateway's port: a request is answered here (its own few endpoints), refused
 * here (no such model), or handed to the relay thread. Nothing here waits. */
#include "api/gateway.h"

#include <stdatomic.h>
#include <stdio.h>

#include "api/openai_json.h"
#include "api/relay.h"
#include "api/route.h"
#include "api/series_query.h"
#include "core/base/clock.h"

struct gateway {
    struct traffic *traffic;
    struct metrics *metrics;
    struct series *series; /* NULL: none are kept */
    bool own_metrics;
    int64_t created_seconds; /* what /v1/models says of every model */
    struct relay *relay;
    struct http_server *plain, *secure; /* NULL: not that way */
    _Atomic bool draining;
};

/* ---- the gateway's own answers ---- */

static json_t *model_object(const struct gateway *g, const struct traffic_service *s,
                            const char *model) {
    return json_pack("{s:s,s:s,s:I,s:s,s:s,s:s}", "id", model, "object", "model", "created",
                     (json_int_t)g->created_seconds, "owned_by", "inferd", "namespace", s->ns,
                     "inferenceservice", s->name);
}

/* OK: the request bears a key of the service, or needs none. */
static enum errc check_key(const struct traffic_service *s, const struct http_exchange *x,
                           struct error *err) {
    const char *sent = http_header(x, "Authorization");
    if (!s->keys || auth_keys_accept(s->keys, sent))
        return OK;
    if (s->keys_fault)
        return err_set(err, ERR_UNAUTHENTICATED,
                       "No API key is valid for InferenceService %s in namespace %s: %s", s->name,
                       s->ns, s->keys_fault);
    return err_set(err, ERR_UNAUTHENTICATED,
                   "%s for InferenceService %s in namespace %s. Send one as \"Authorization: "
                   "Bearer KEY\"",
                   sent ? "Incorrect API key provided" : "You did not provide an API key", s->name,
                   s->ns);
}

/* Those that the client may ask. When there are others only, it is told what is missing. */
static void list_models(const struct gateway *g, const struct traffic_table *table,
                        struct http_exchange *x) {
    json_t *data = json_array();
    struct error err = ERROR_INIT;
    for (uint32_t i = 0; i < table->num_services; i++) {
        const struct traffic_service *s = &table->services[i];
        bool shown = route_is_ready(s) && !check_key(s, x, &err);
        for (const char *const *m = s->models; m && *m && shown; m++)
            json_array_append_new(data, model_object(g, s, *m));
    }
    if (err.code && !json_array_size(data)) {
        json_decref(data);
        openai_reply_error(x, &err);
        return;
    }
    json_t *list = json_pack("{s:s,s:o}", "object", "list", "data", data);
    http_reply_json(x, 200, list);
    json_decref(list);
}

static void write_metrics(const struct gateway *g, struct http_exchange *x) {
    AUTO_BUF out = BUF_INIT;
    metrics_write(g->metrics, &out);
    http_reply(x, 200, "text/plain; version=0.0.4; charset=utf-8", out.data ? out.data : "",
               out.len);
}

static void reply_flag(struct http_exchange *x, const char *name, bool value) {
    json_t *doc = json_pack("{s:b}", name, value);
    http_reply_json(x, value ? 200 : 503, doc);
    json_decref(doc);
}

static void server_metadata(struct http_exchange *x) {
    json_t *doc =
        json_pack("{s:s,s:s,s:[]}", "name", "inferd", "version", INFERD_VERSION, "extensions");
    http_reply_json(x, 200, doc);
    json_decref(doc);
}

/* True: answered. */
static bool own_endpoint(const struct gateway *g, const struct traffic_table *table,
                         struct http_exchange *x) {
    const char *path = http_path(x);
    if (g->series && series_query_serve(g->series, x))
        return true;
    if (strcmp(http_method(x), "GET") != 0 && strcmp(http_method(x), "HEAD") != 0)
        return false;
    if (!strcmp(path, "/healthz") || !strcmp(path, "/livez"))
        http_reply_text(x, 200, "ok");
    else if (!strcmp(path, "/readyz"))
        http_reply_text(x, g->draining ? 503 : 200, g->draining ? "shutting down" : "ok");
    else if (!strcmp(path, "/metrics"))
        write_metrics(g, x);
    else if (!strcmp(path, "/v1/models") || !strcmp(path, "/openai/v1/models"))
        list_models(g, table, x);
    else if (!strcmp(path, "/v2"))
        server_metadata(x);
    else if (!strcmp(path, "/v2/health/live"))
        reply_flag(x, "live", true);
    else if (!strcmp(path, "/v2/health/ready"))
        reply_flag(x, "ready", !g->draining);
    else
        return false;
    return true;
}

/* ---- the handler ---- */

/* In the dialect of what was asked for: the Open Inference Protocol has errors of its own form. */
static void reply_refused(struct http_exchange *x, const char *target, const struct error *err) {
    if (strncmp(target, "/v2", 3) != 0 || (target[3] && !strchr("/?", target[3]))) {
        openai_reply_error(x, err);
        return;
    }
    json_t *doc = json_pack("{s:s}", "error", err->text);
    http_set_header(x, "WWW-Authenticate", "Bearer");
    http_reply_json(x, openai_status(err->code), doc);
    json_decref(doc);
}

static void handle(struct http_exchange *x, void *user) {
    struct gateway *g = user;
    AUTO(traffic_table) table = traffic_current(g->traffic);
    struct route_request rq = {.host = http_header(x, "Host"),
                               .raw_path = http_raw_path(x),
                               .path = http_path(x),
                               .raw_query = http_raw_query(x)};
    rq.body = http_body(x, &rq.body_len);
    const struct traffic_tag *tag;
    if (!route_by_host(table, rq.host, &tag) && own_endpoint(g, table, x))
        return;
    struct route route;
    struct error err = ERROR_INIT;
    if (route_find(table, &rq, http_arena(x), &route, &err)) {
        relay_count(g->metrics, NULL, NULL, openai_status(err.code));
        openai_reply_error(x, &err);
        return;
    }
    if (check_key(route.service, x, &err)) {
        relay_count(g->metrics, route.service->ns, route.service->name, openai_status(err.code));
        reply_refused(x, route.target, &err);
        return;
    }
    relay_submit(g->relay, x, &route);
}

/* ---- life ---- */

static enum errc listen_at(struct gateway *g, const struct gateway_options *opt, bool secure,
                           struct error *err) {
    struct http_server_options http = {.listen = secure ? opt->tls_listen : opt->listen,
                                       .body_bytes_max = (size_t)opt->body_bytes_max,
                                       .tls = secure ? opt->tls : NULL,
                                       .handler = handle,
                                       .user = g,
                                       .error_body = openai_http_error_body};
    if (!http.listen || !*http.listen)
        return OK;
    return http_server_start(&http, secure ? &g->secure : &g->plain, err);
}

enum errc gateway_start(const struct gateway_options *opt, struct gateway **ret_gateway,
                        struct error *err) {
    AUTO(gateway) g = mem_alloc(sizeof(*g));
    g->traffic = opt->traffic;
    g->series = opt->series;
    g->own_metrics = !opt->metrics;
    g->metrics = opt->metrics ? opt->metrics : metrics_create();
    g->created_seconds = clock_wall_ms() / 1000;
    struct relay_options relay = {.traffic = opt->traffic,
                                  .metrics = g->metrics,
                                  .queue_max = (uint32_t)opt->queue_max,
                                  .hold_ms = opt->hold_ms,
                                  .hold_bytes_max = opt->hold_bytes_max};
    enum errc rc = relay_start(&relay, &g->relay, err);
    rc = rc ? rc : listen_at(g, opt, false, err);
    rc = rc ? rc : listen_at(g, opt, true, err);
    if (!rc && !g->plain && !g->secure)
        rc = err_field(err, ERR_INVALID, "gatewayListen",
                       "gatewayListen and gatewayTlsListen are empty: it would listen nowhere");
    if (rc)
        return err_wrap(err, "gateway");
    *ret_gateway = steal(g);
    return OK;
}

const char *gateway_address(const struct gateway *g) {
    return g->plain ? http_server_address(g->plain) : NULL;
}

const char *gateway_tls_address(const struct gateway *g) {
    return g->secure ? http_server_address(g->secure) : NULL;
}

void gateway_drain(struct gateway *g) {
    g->draining = true;
    if (g->plain)
        http_server_drain(g->plain);
    if (g->secure)
        http_server_drain(g->secure);
}

uint32_t gateway_num_open(const struct gateway *g) {
    return (g->plain ? http_server_num_open(g->plain) : 0) +
           (g->secure ? http_server_num_open(g->secure) : 0);
}

void gateway_stop(struct gateway *g) {
    if (!g)
        return;
    http_server_stop(g->plain);
    http_server_stop(g->secure);
    relay_stop(g->relay);
    if (g->own_metrics)
        metrics_destroy(g->metrics);
    free(g);
}
