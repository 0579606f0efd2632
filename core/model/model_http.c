/* Transfers on libcurl's multi interface.
 *
 *     start ──▶ request ──3xx──▶ request elsewhere, without credentials if it is another origin
 *                  │
 *                  ├─2xx──▶ head(), data()..., done(OK)
 *                  └─else─▶ the first bytes of the body say why; done(error)
 *
 * An easy handle is used for all requests of one transfer. HTTP/1.1 only: ranges in parallel are
 * meant to be connections in parallel. */
#include "core/model/model_http.h"

#include <ctype.h>
#include <curl/curl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <strings.h>

#include "core/base/clock.h"
#include "core/model/sigv4.h"

struct model_http {
    CURLM *multi;
    long slow_seconds;
    int64_t retry_ms;
    _Atomic bool *cancelled;
    struct model_transfer *transfers;
};

struct model_transfer {
    struct model_transfer *next;
    struct model_http *http;
    CURL *easy;
    struct model_request request; /* its texts are not ours after the start */
    char *url;                    /* of the current request */
    char *accept, *if_range, *location;
    struct curl_slist *headers;
    bool foreign; /* has been redirected to another origin */
    int num_redirects;
    struct model_response response;
    uint32_t retry_after;
    bool head_told, ended; /* `ended`: by the caller's callbacks */
    struct buf why;        /* body of an answer that is not 2xx */
    char curl_error[CURL_ERROR_SIZE];
};

void model_auth_deinit(struct model_auth *a) {
    char *secrets[] = {a->bearer,     a->basic,      a->aws_region,
                       a->aws_key_id, a->aws_secret, a->aws_token};
    for (size_t i = 0; i < ARRAY_LEN(secrets); i++) {
        if (secrets[i])
            explicit_bzero(secrets[i], strlen(secrets[i]));
        free(secrets[i]);
    }
    *a = (struct model_auth){0};
}

void model_response_deinit(struct model_response *r) {
    free(r->etag);
    free(r->challenge);
    free(r->link);
    free(r->content_type);
    *r = (struct model_response){.length = UINT64_MAX};
}

char *model_http_escape(const char *text, bool keep_slash) {
    struct buf out = BUF_INIT;
    buf_reserve(&out, 1);
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (isalnum(*p) || strchr("-._~", *p) || (keep_slash && *p == '/'))
            buf_putc(&out, (char)*p);
        else
            buf_printf(&out, "%%%02X", *p);
    }
    return buf_steal(&out);
}

char *model_http_unescape(const char *text) {
    struct buf out = BUF_INIT;
    buf_reserve(&out, 1);
    for (const char *p = text; *p; p++) {
        unsigned byte;
        if (*p == '%' && isxdigit((unsigned char)p[1]) && isxdigit((unsigned char)p[2]) &&
            sscanf(p + 1, "%2x", &byte) == 1 && byte) {
            buf_putc(&out, (char)byte);
            p += 2;
        } else {
            buf_putc(&out, *p);
        }
    }
    return buf_steal(&out);
}

/* Addresses. */

struct address {
    char *scheme, *host, *port, *path, *query;
};

static void address_deinit(struct address *a) {
    curl_free(a->scheme);
    curl_free(a->host);
    curl_free(a->port);
    curl_free(a->path);
    curl_free(a->query);
}

/* Takes url apart; base (may be NULL) is what a relative one is relative to. Gives the whole. */
static char *resolve(const char *base, const char *url, struct address *ret) {
    CURLU *u = curl_url();
    char *whole = NULL, *copy = NULL;
    *ret = (struct address){0};
    bool ok = (!base || !curl_url_set(u, CURLUPART_URL, base, 0)) &&
              !curl_url_set(u, CURLUPART_URL, url, 0) &&
              !curl_url_get(u, CURLUPART_URL, &whole, 0) &&
              !curl_url_get(u, CURLUPART_SCHEME, &ret->scheme, 0) &&
              !curl_url_get(u, CURLUPART_HOST, &ret->host, 0) &&
              !curl_url_get(u, CURLUPART_PORT, &ret->port, CURLU_DEFAULT_PORT) &&
              !curl_url_get(u, CURLUPART_PATH, &ret->path, 0) &&
              (!strcmp(ret->scheme, "http") || !strcmp(ret->scheme, "https"));
    if (ok) {
        curl_url_get(u, CURLUPART_QUERY, &ret->query, 0);
        copy = mem_strdup(whole);
    }
    curl_free(whole);
    curl_url_cleanup(u);
    return copy;
}

static bool same_origin(const struct address *a, const struct address *b) {
    ASSERT(a->scheme && b->scheme && a->host && b->host && a->port && b->port);
    return !strcmp(a->scheme, b->scheme) && !strcasecmp(a->host, b->host) &&
           !strcmp(a->port, b->port);
}

/* Without what may be secret. */
static const char *shown(const char *url, char out[256]) {
    snprintf(out, 256, "%.*s", (int)strcspn(url, "?#"), url);
    return out;
}

/* Requests. */

static void add_header(struct model_transfer *t, const char *fmt, ...) PRINTF(2, 3);
static void add_header(struct model_transfer *t, const char *fmt, ...) {
    AUTO_FREE char *line = NULL;
    va_list args;
    va_start(args, fmt);
    int n = vasprintf(&line, fmt, args);
    va_end(args);
    ASSERT(n >= 0);
    t->headers = curl_slist_append(t->headers, line);
}

static void add_signature(struct model_transfer *t, const struct address *a) {
    const struct model_auth *auth = t->request.auth;
    AUTO_BUF lines = BUF_INIT;
    bool plain = !strcmp(a->port, !strcmp(a->scheme, "https") ? "443" : "80");
    AUTO_FREE char *host = plain ? mem_strdup(a->host) : mem_printf("%s:%s", a->host, a->port);
    const struct sigv4_request r = {.host = host,
                                    .path = a->path,
                                    .query = a->query ? a->query : "",
                                    .region = auth->aws_region,
                                    .key_id = auth->aws_key_id,
                                    .secret = auth->aws_secret,
                                    .token = auth->aws_token,
                                    .wall_ms = clock_wall_ms()};
    sigv4_sign(&r, &lines);
    for (char *rest = lines.data, *line; (line = strsep(&rest, "\n")) && *line;)
        add_header(t, "%s", line);
}

static void add_credentials(struct model_transfer *t, const struct address *a) {
    const struct model_auth *auth = t->request.auth;
    if (!auth || t->foreign)
        return;
    if (auth->bearer)
        add_header(t, "Authorization: Bearer %s", auth->bearer);
    else if (auth->basic)
        add_header(t, "Authorization: Basic %s", auth->basic);
    else if (auth->aws_region && auth->aws_key_id && auth->aws_secret)
        add_signature(t, a);
}

static void reset_response(struct model_transfer *t) {
    model_response_deinit(&t->response);
    buf_clear(&t->why);
    free(steal(t->location));
    t->retry_after = 0;
}

/* Sends the next request of a transfer: url, with headers made anew. */
static void send_request(struct model_transfer *t, const struct address *a) {
    const struct model_request *r = &t->request;
    char range[64];
    curl_slist_free_all(steal(t->headers));
    reset_response(t);
    add_credentials(t, a);
    if (t->accept)
        add_header(t, "Accept: %s", t->accept);
    if (t->if_range)
        add_header(t, "If-Range: %s", t->if_range);
    curl_easy_setopt(t->easy, CURLOPT_URL, t->url);
    curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->headers);
    if (r->ranged && r->open_ended)
        snprintf(range, sizeof(range), "%" PRIu64 "-", r->first);
    else if (r->ranged)
        snprintf(range, sizeof(range), "%" PRIu64 "-%" PRIu64, r->first, r->last);
    curl_easy_setopt(t->easy, CURLOPT_RANGE, r->ranged ? range : NULL);
    CURLMcode code = curl_multi_add_handle(t->http->multi, t->easy);
    ASSERT(code == CURLM_OK);
}

/* Answers. */

/* Gives the value of a header line if it has that name. */
static char *header_value(const char *line, size_t len, const char *name) {
    size_t n = strlen(name);
    if (len <= n || strncasecmp(line, name, n) != 0 || line[n] != ':')
        return NULL;
    const char *start = line + n + 1, *end = line + len;
    while (start < end && isspace((unsigned char)*start))
        start++;
    while (end > start && isspace((unsigned char)end[-1]))
        end--;
    return mem_strndup(start, (size_t)(end - start));
}

static void read_range(struct model_response *r, const char *value) {
    uint64_t last;
    r->has_range =
        sscanf(value, "bytes %" SCNu64 "-%" SCNu64 "/%" SCNu64, &r->first, &last, &r->total) == 3 &&
        r->first <= last && last < r->total;
}

static size_t on_header(char *line, size_t size, size_t count, void *user) {
    struct model_transfer *t = user;
    size_t len = size * count;
    char *value;
    struct {
        const char *name;
        char **to;
    } texts[] = {{"ETag", &t->response.etag},
                 {"WWW-Authenticate", &t->response.challenge},
                 {"Link", &t->response.link},
                 {"Content-Type", &t->response.content_type},
                 {"Location", &t->location}};
    if (len > 5 && !strncmp(line, "HTTP/", 5)) { /* also after a 100 */
        reset_response(t);
        AUTO_FREE char *copy = mem_strndup(line, len);
        sscanf(copy, "HTTP/%*s %ld", &t->response.status);
        return len;
    }
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        if ((value = header_value(line, len, texts[i].name))) {
            free(*texts[i].to);
            *texts[i].to = value;
            return len;
        }
    }
    if ((value = header_value(line, len, "Content-Length"))) {
        if (sscanf(value, "%" SCNu64, &t->response.length) != 1)
            t->response.length = UINT64_MAX;
    } else if ((value = header_value(line, len, "Content-Range"))) {
        read_range(&t->response, value);
    } else if ((value = header_value(line, len, "Retry-After"))) {
        long seconds = strtol(value, NULL, 10);
        t->retry_after = seconds > 0 && seconds < 86400 ? (uint32_t)seconds : 1;
    }
    free(value);
    return len;
}

static bool is_success(const struct model_transfer *t) {
    return t->response.status >= 200 && t->response.status < 300;
}

/* False: the caller has ended the transfer. */
static bool tell_head(struct model_transfer *t) {
    if (t->head_told || t->ended)
        return !t->ended;
    t->head_told = true;
    t->ended = t->request.head && !t->request.head(t->request.user, &t->response);
    return !t->ended;
}

static size_t on_data(char *data, size_t size, size_t count, void *user) {
    struct model_transfer *t = user;
    size_t len = size * count, room = MODEL_HTTP_ERROR_BYTES_MAX - t->why.len;
    if (!is_success(t)) {
        buf_append(&t->why, data, len < room ? len : room);
        return len;
    }
    if (tell_head(t) && !t->request.data(t->request.user, data, len))
        t->ended = true;
    return t->ended ? CURL_WRITEFUNC_ERROR : len;
}

/* The start of the body, as one line of text. */
static const char *body_text(struct model_transfer *t, char out[200]) {
    size_t n = 0;
    for (size_t i = 0; i < t->why.len && n < 180; i++) {
        unsigned char c = (unsigned char)t->why.data[i];
        if (c == '<' && n == 0)
            break; /* a page, not a message */
        out[n++] = c < ' ' || c > 126 ? ' ' : (char)c;
    }
    while (n && out[n - 1] == ' ')
        n--;
    out[n] = '\0';
    return out;
}

static void fail_status(struct model_transfer *t, struct error *err) {
    static const struct {
        long status;
        enum errc rc;
        const char *text;
    } rows[] = {
        {401, ERR_UNAUTHENTICATED, "Unauthorized: credentials are missing or wrong"},
        {403, ERR_FORBIDDEN, "Forbidden: these credentials, or none, may not read it"},
        {404, ERR_NOT_FOUND, "Not Found"},
        {408, ERR_UNAVAILABLE, "Request Timeout"},
        {416, ERR_CONFLICT, "Range Not Satisfiable: the file has another size now"},
        {425, ERR_UNAVAILABLE, "Too Early"},
        {429, ERR_UNAVAILABLE, "Too Many Requests"},
        {503, ERR_UNAVAILABLE, "Service Unavailable"},
    };
    long status = t->response.status;
    enum errc rc = status >= 500 ? ERR_UNAVAILABLE : ERR_INVALID;
    const char *text = "";
    char place[256], body[200];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].status == status) {
            rc = rows[i].rc;
            text = rows[i].text;
        }
    }
    body_text(t, body);
    err_set(err, rc, "GET %s: %ld%s%s%s%s", shown(t->url, place), status, *text ? " " : "", text,
            *body ? ": " : "", body);
    err->retry_after_seconds = t->retry_after;
}

static void fail_transport(struct model_transfer *t, CURLcode code, struct error *err) {
    char place[256];
    const char *why = *t->curl_error ? t->curl_error : curl_easy_strerror(code);
    enum errc rc = ERR_UNAVAILABLE;
    if (code == CURLE_OPERATION_TIMEDOUT)
        rc = ERR_TIMEOUT;
    if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE ||
        code == CURLE_TOO_MANY_REDIRECTS || code == CURLE_UNSUPPORTED_PROTOCOL)
        rc = ERR_INVALID;
    err_set(err, rc, "GET %s: %s", shown(t->url, place), why);
}

static void transfer_destroy(struct model_transfer *t) {
    struct model_transfer **at = &t->http->transfers;
    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
    curl_multi_remove_handle(t->http->multi, t->easy);
    curl_easy_cleanup(t->easy);
    curl_slist_free_all(t->headers);
    model_response_deinit(&t->response);
    buf_deinit(&t->why);
    free(t->url);
    free(t->accept);
    free(t->if_range);
    free(t->location);
    free(t);
}

static bool is_redirect(const struct model_transfer *t) {
    long s = t->response.status;
    return t->location && (s == 301 || s == 302 || s == 303 || s == 307 || s == 308);
}

/* Goes on elsewhere. */
static enum errc redirect(struct model_transfer *t, struct error *err) {
    struct address from = {0}, to = {0};
    char place[256], target[256];
    AUTO_FREE char *here = resolve(NULL, t->url, &from);
    AUTO_FREE char *there = resolve(t->url, t->location, &to);
    enum errc rc = OK;
    if (!here || !there)
        rc = err_set(err, ERR_INVALID, "GET %s: redirected to \"%s\", which is not http or https",
                     shown(t->url, place), shown(t->location, target));
    else if (++t->num_redirects > MODEL_HTTP_REDIRECTS_MAX)
        rc = err_set(err, ERR_INVALID, "GET %s: more than %d redirects", shown(t->url, place),
                     MODEL_HTTP_REDIRECTS_MAX);
    else if (!strcmp(from.scheme, "https") && strcmp(to.scheme, "https") != 0)
        rc = err_set(err, ERR_INVALID, "GET %s: redirected from https to %s", shown(t->url, place),
                     shown(there, target));
    if (!rc) {
        t->foreign = t->foreign || !same_origin(&from, &to);
        free(t->url);
        t->url = steal(there);
        curl_multi_remove_handle(t->http->multi, t->easy);
        send_request(t, &to);
    }
    address_deinit(&from);
    address_deinit(&to);
    return rc;
}

static void finish(struct model_transfer *t, CURLcode code) {
    struct error err = ERROR_INIT;
    if (!t->ended && code == CURLE_OK && is_redirect(t)) {
        if (!redirect(t, &err))
            return;
    } else if (!t->ended && code == CURLE_OK && is_success(t)) {
        tell_head(t);
    } else if (!t->ended && code == CURLE_OK) {
        fail_status(t, &err);
    } else if (!t->ended) {
        fail_transport(t, code, &err);
    }
    if (t->ended)
        err_set(&err, ERR_CANCELLED, "ended");
    t->request.done(t->request.user, &t->response, &err);
    transfer_destroy(t);
}

/* Interface. */

static void start_curl(void) {
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

struct model_http *model_http_create(const struct model_http_options *opt) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct model_http *h = mem_alloc(sizeof(*h));
    pthread_once(&once, start_curl);
    h->multi = curl_multi_init();
    ASSERT(h->multi);
    h->slow_seconds = opt->slow_seconds ? opt->slow_seconds : MODEL_HTTP_SLOW_SECONDS;
    h->retry_ms = opt->retry_ms ? opt->retry_ms : MODEL_HTTP_RETRY_MS;
    h->cancelled = opt->cancelled;
    return h;
}

void model_http_destroy(struct model_http *h) {
    if (!h)
        return;
    while (h->transfers)
        transfer_destroy(h->transfers);
    curl_multi_cleanup(h->multi);
    free(h);
}

bool model_http_cancelled(const struct model_http *h) {
    return h->cancelled && atomic_load(h->cancelled);
}

int64_t model_http_retry_ms(const struct model_http *h, unsigned tries, const struct error *why) {
    int64_t wait = h->retry_ms << (tries < 6 ? tries : 6);
    int64_t asked = (int64_t)why->retry_after_seconds * 1000;
    return asked > wait ? asked : wait;
}

static void set_options(struct model_transfer *t) {
    CURL *e = t->easy;
    curl_easy_setopt(e, CURLOPT_PRIVATE, t);
    curl_easy_setopt(e, CURLOPT_ERRORBUFFER, t->curl_error);
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(e, CURLOPT_USERAGENT, "inferd/" INFERD_VERSION);
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)MODEL_HTTP_CONNECT_MS);
    curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, (long)MODEL_HTTP_SLOW_BYTES);
    curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, t->http->slow_seconds);
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, t);
}

enum errc model_http_start(struct model_http *h, const struct model_request *r,
                           struct model_transfer **ret_t, struct error *err) {
    struct address a = {0};
    char place[256];
    char *url = resolve(NULL, r->url, &a);
    if (!url) {
        address_deinit(&a);
        return err_set(err, ERR_INVALID, "\"%s\" is not an address of http or https",
                       shown(r->url, place));
    }
    struct model_transfer *t = mem_alloc(sizeof(*t));
    t->http = h;
    t->request = *r;
    t->url = url;
    t->accept = mem_strdup(r->accept);
    t->if_range = mem_strdup(r->if_range);
    t->easy = curl_easy_init();
    ASSERT(t->easy);
    t->next = h->transfers;
    h->transfers = t;
    set_options(t);
    send_request(t, &a);
    address_deinit(&a);
    *ret_t = t;
    return OK;
}

void model_http_stop(struct model_http *h, struct model_transfer *t) {
    ASSERT(t && t->http == h);
    transfer_destroy(t);
}

void model_http_poll(struct model_http *h, int timeout_ms) {
    int running, left;
    CURLMsg *msg;
    curl_multi_perform(h->multi, &running);
    while ((msg = curl_multi_info_read(h->multi, &left))) {
        struct model_transfer *t = NULL;
        CURLcode code = msg->data.result;
        curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &t);
        finish(t, code);
        timeout_ms = 0;
    }
    if (timeout_ms > 0)
        curl_multi_poll(h->multi, NULL, 0, timeout_ms, NULL);
}

/* Documents. */

enum { GET_POLL_MS = 100 };

struct get {
    const struct model_document *document;
    struct buf *out;
    struct model_response *response; /* may be NULL */
    bool too_large, done;
    struct error err;
};

static bool get_data(void *user, const void *data, size_t len) {
    struct get *g = user;
    g->too_large = len > g->document->bytes_max - g->out->len;
    if (!g->too_large)
        buf_append(g->out, data, len);
    return !g->too_large;
}

static void get_done(void *user, const struct model_response *r, const struct error *err) {
    struct get *g = user;
    g->done = true;
    g->err = *err;
    if (!g->response)
        return;
    model_response_deinit(g->response);
    *g->response = *r;
    g->response->etag = mem_strdup(r->etag);
    g->response->challenge = mem_strdup(r->challenge);
    g->response->link = mem_strdup(r->link);
    g->response->content_type = mem_strdup(r->content_type);
}

static enum errc cancelled(struct error *err) {
    return err_set(err, ERR_CANCELLED, "the download was cancelled");
}

static enum errc get_once(struct model_http *h, struct get *g, struct error *err) {
    struct model_transfer *t = NULL;
    const struct model_request r = {.url = g->document->url,
                                    .auth = g->document->auth,
                                    .accept = g->document->accept,
                                    .data = get_data,
                                    .done = get_done,
                                    .user = g};
    g->done = false;
    buf_clear(g->out);
    enum errc rc = model_http_start(h, &r, &t, err);
    if (rc)
        return rc;
    while (!g->done && !model_http_cancelled(h))
        model_http_poll(h, GET_POLL_MS);
    if (!g->done) {
        model_http_stop(h, t);
        return cancelled(err);
    }
    char place[256];
    if (g->too_large)
        return err_set(err, ERR_TOO_LARGE, "GET %s: the answer has more than %zu bytes",
                       shown(g->document->url, place), g->document->bytes_max);
    if (g->err.code)
        *err = g->err;
    return g->err.code;
}

enum errc model_http_get(struct model_http *h, const struct model_document *d, struct buf *out,
                         struct model_response *ret_r, struct error *err) {
    struct get g = {.document = d, .out = out, .response = ret_r};
    unsigned tries_max = d->tries ? d->tries : MODEL_HTTP_TRIES_MAX;
    for (unsigned tries = 0;; tries++) {
        enum errc rc = get_once(h, &g, err);
        bool may_pass = rc == ERR_UNAVAILABLE || rc == ERR_TIMEOUT;
        if (!may_pass || tries + 1 >= tries_max ||
            err->retry_after_seconds > MODEL_HTTP_RETRY_AFTER_MAX)
            return rc;
        int64_t until = clock_mono_ms() + model_http_retry_ms(h, tries, err);
        while (clock_mono_ms() < until) {
            if (model_http_cancelled(h))
                return cancelled(err);
            model_http_poll(h, GET_POLL_MS);
        }
    }
}
