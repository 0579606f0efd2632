/* One proxied request: libcurl on one side, the exchange on the other, a tunnel's thread between.
 *
 *   client ══ exchange ◀── headers, body in pieces ── libcurl ══ the pod's socket
 *
 * The answer goes out as it comes. A client that reads slowly pauses the transfer
 * (http_stream_write() refuses, on_drained goes on); one that leaves ends it. Both are told by
 * callbacks in the HTTP server's threads, which set a flag and wake the transfer; they come to an
 * end before the exchange is let go of, which is before any of this is freed.
 *
 * What one hop says to the next stays there (RFC 9110 section 7.6.1), and what was meant for the
 * API server: who the client is. */
#include <curl/curl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <strings.h>
#include <sys/un.h>

#include "kube-compat/proxy.h"
#include "kube-compat/reach.h"
#include "kube-compat/status.h"
#include "kube-compat/tunnel.h"

enum {
    HEAD_BYTES_MAX = 32 << 10, /* of the pod's answer */
    CONNECT_MS = 10000,
    WAIT_MS = 1000,
    LENGTH_DIGITS_MAX = 18,
};

struct proxied {
    struct http_exchange *x;
    CURLM *multi;
    CURL *easy;
    struct curl_slist *headers;
    char *prefix; /* for Location headers */
    char *type;   /* Content-Type of the answer */
    size_t head_bytes;
    int64_t length; /* Content-Length of the answer; -1: none */
    bool chunked;
    int status;   /* of the answer; 0: its head is not complete */
    bool no_body; /* HEAD, 204, 304 */
    bool begun;   /* the exchange's stream has */
    bool paused;
    atomic_bool gone, drained; /* set by the HTTP server's threads */
};

/* ---- headers ---- */

static bool is_among(const char *name, const char *const *list) {
    for (; *list; list++) {
        if (!strcasecmp(*list, name))
            return true;
    }
    return false;
}

/* What is made anew on each side, and what the client says to us. */
static bool stays_here(const char *name) {
    static const char *const list[] = {"Content-Length", "Expect",       "Host",
                                       "Authorization",  "X-Request-Id", NULL};
    return http_is_hop_by_hop(name) || is_among(name, list) ||
           !strncasecmp(name, "Impersonate-", 12);
}

static void put_line(struct proxied *p, const char *line) {
    struct curl_slist *longer = curl_slist_append(p->headers, line);
    ASSERT(longer);
    p->headers = longer;
}

static void put_header(struct proxied *p, const char *name, const char *value) {
    /* An empty value is written with a semicolon: with a colon libcurl leaves the header out. */
    AUTO_FREE char *line = mem_printf("%s%s%s", name, *value ? ": " : ";", value);
    put_line(p, line);
}

/* What libcurl would say by itself. */
static void leave_out(struct proxied *p, const char *name) {
    AUTO_FREE char *line = mem_printf("%s:", name);
    put_line(p, line);
}

static void copy_header(void *user, const char *name, const char *value) {
    struct proxied *p = user;
    if (!stays_here(name) && !http_header_has_word(p->x, "Connection", name))
        put_header(p, name, value);
}

/* A redirect within the pod stays within the proxy. */
static void set_location(struct proxied *p, const char *value) {
    bool within = value[0] == '/' && value[1] != '/';
    AUTO_FREE char *location = mem_printf("%s%s", within ? p->prefix : "", value);
    http_add_header(p->x, "Location", location);
}

static void take_header(struct proxied *p, const char *name, size_t name_len, const char *value) {
    AUTO_FREE char *text = mem_strndup(name, name_len);
    if (!strcasecmp(text, "Transfer-Encoding"))
        p->chunked = true;
    else if (!strcasecmp(text, "Content-Length") && *value && strlen(value) <= LENGTH_DIGITS_MAX &&
             strspn(value, "0123456789") == strlen(value))
        p->length = strtoll(value, NULL, 10);
    else if (!strcasecmp(text, "Content-Type")) {
        free(p->type);
        p->type = mem_strdup(value);
    } else if (!strcasecmp(text, "Location"))
        set_location(p, value);
    else if (!stays_here(text))
        http_add_header(p->x, text, value);
}

/* ---- the answer ---- */

static void on_gone(struct http_exchange *x, void *user) {
    struct proxied *p = user;
    p->gone = true;
    curl_multi_wakeup(p->multi);
}

static void on_drained(struct http_exchange *x, void *user) {
    struct proxied *p = user;
    p->drained = true;
    curl_multi_wakeup(p->multi);
}

/* libcurl gives lines; the empty one ends a head. Heads of status 1xx are not the answer's, lines
 * behind the body are trailers. */
static size_t on_header(char *line, size_t size, size_t num, void *user) {
    struct proxied *p = user;
    size_t len = size * num, used = len;
    p->head_bytes += len;
    if (p->head_bytes > HEAD_BYTES_MAX)
        return 0;
    while (len && (line[len - 1] == '\n' || line[len - 1] == '\r'))
        len--;
    AUTO_FREE char *text = mem_strndup(line, len);
    long status = 0;
    curl_easy_getinfo(p->easy, CURLINFO_RESPONSE_CODE, &status);
    if (p->status || status < 200)
        return used;
    if (!len) {
        p->status = (int)status;
        p->no_body = p->no_body || status == 204 || status == 304;
        return used;
    }
    const char *colon = strchr(text, ':');
    if (!colon)
        return used; /* the status line */
    const char *value = colon + 1 + strspn(colon + 1, " \t");
    take_header(p, text, (size_t)(colon - text), value);
    return used;
}

static void begin_stream(struct proxied *p) {
    struct http_stream_callbacks cb = {.on_gone = on_gone, .on_drained = on_drained, .user = p};
    p->begun = true;
    if (p->length >= 0 && !p->chunked) /* which counts when both are said */
        http_set_stream_length(p->x, (uint64_t)p->length);
    http_stream_begin(p->x, p->status, p->type, &cb);
}

static size_t on_body(char *data, size_t size, size_t num, void *user) {
    struct proxied *p = user;
    if (!p->status)
        return 0;
    if (!p->begun)
        begin_stream(p);
    if (http_stream_write(p->x, data, size * num))
        return size * num;
    if (http_stream_gone(p->x))
        return 0; /* not what was given: the transfer ends */
    p->paused = true;
    return CURL_WRITEFUNC_PAUSE;
}

/* Answers, or ends what was begun. The exchange is gone then. */
static void end_exchange(struct proxied *p, CURLcode result) {
    struct http_exchange *x = steal(p->x);
    if (p->begun && result) {
        http_stream_abort(x);
    } else if (p->begun) {
        http_stream_end(x);
    } else if (p->status && !result) {
        http_reply(x, p->status, p->type, "", 0);
    } else {
        AUTO_FREE char *message =
            mem_printf("error trying to reach service: %s", curl_easy_strerror(result));
        json_t *status = status_failure_raw(503, "ServiceUnavailable", message);
        http_reply_json(x, 503, status);
        json_decref(status);
    }
}

/* ---- the transfer ---- */

/* Until the transfer is done (*ret_result says how), or nobody wants it any more. */
static void run_transfer(struct tunnel *t, struct proxied *p, CURLcode *ret_result) {
    for (;;) {
        int running = 0, left;
        if (p->paused && atomic_exchange(&p->drained, false)) {
            p->paused = false;
            curl_easy_pause(p->easy, CURLPAUSE_CONT);
        }
        curl_multi_perform(p->multi, &running);
        const CURLMsg *m = curl_multi_info_read(p->multi, &left);
        if (m && m->msg == CURLMSG_DONE) {
            *ret_result = m->data.result;
            return;
        }
        struct curl_waitfd stop = {.fd = t->stop_fd, .events = CURL_WAIT_POLLIN};
        curl_multi_poll(p->multi, &stop, 1, WAIT_MS, NULL);
        if (stop.revents || p->gone || http_stream_gone(p->x))
            return;
    }
}

static void run(struct tunnel *t, void *user) {
    struct proxied *p = user;
    CURLcode result = CURLE_ABORTED_BY_CALLBACK;
    http_on_gone(p->x, on_gone, p);
    curl_multi_add_handle(p->multi, p->easy);
    run_transfer(t, p, &result);
    end_exchange(p, result);
}

static void destroy(void *user) {
    struct proxied *p = user;
    if (p->easy && p->multi)
        curl_multi_remove_handle(p->multi, p->easy);
    curl_easy_cleanup(p->easy);
    curl_multi_cleanup(p->multi);
    curl_slist_free_all(p->headers);
    free(p->prefix);
    free(p->type);
    free(p);
}

/* Where to connect, and what for. */
static void set_place(CURL *e, const struct proxy_call *call) {
    const struct sockaddr *address = (const struct sockaddr *)&call->to->address;
    char host[INET6_ADDRSTRLEN] = "127.0.0.1", port[8];
    snprintf(port, sizeof(port), "%u", call->port); /* which may stand for another one */
    if (address->sa_family == AF_UNIX) {
        const struct sockaddr_un *sun = (const struct sockaddr_un *)address;
        curl_easy_setopt(e, CURLOPT_UNIX_SOCKET_PATH, sun->sun_path);
    } else {
        getnameinfo(address, call->to->len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV);
    }
    bool v6 = strchr(host, ':');
    AUTO_FREE char *url =
        mem_printf("http://%s%s%s:%s%s", v6 ? "[" : "", host, v6 ? "]" : "", port, call->path);
    curl_easy_setopt(e, CURLOPT_URL, url);
}

static void set_request(struct proxied *p, const struct proxy_call *call) {
    CURL *e = p->easy;
    static const char *const defaults[] = {"Content-Type", "Accept", "User-Agent"};
    const char *method = http_method(p->x);
    size_t len;
    const char *body = http_body(p->x, &len);
    set_place(e, call);
    curl_easy_setopt(e, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, method);
    p->no_body = !strcmp(method, "HEAD");
    if (p->no_body)
        curl_easy_setopt(e, CURLOPT_NOBODY, 1L);
    if (len || !strcmp(method, "POST") || !strcmp(method, "PUT") || !strcmp(method, "PATCH")) {
        curl_easy_setopt(e, CURLOPT_POSTFIELDS, body);
        curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)len);
    }
    http_each_header(p->x, copy_header, p);
    if (*http_client_address(p->x))
        put_header(p, "X-Forwarded-For", http_client_address(p->x));
    put_header(p, "X-Forwarded-Uri", http_raw_path(p->x));
    leave_out(p, "Expect");
    for (size_t i = 0; i < ARRAY_LEN(defaults); i++) {
        if (!http_header(p->x, defaults[i]))
            leave_out(p, defaults[i]);
    }
    curl_easy_setopt(e, CURLOPT_HTTPHEADER, p->headers);
}

static void set_transfer(struct proxied *p) {
    CURL *e = p->easy;
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_PROXY, "");
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http");
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, p);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, p);
    curl_easy_setopt(e, CURLOPT_FORBID_REUSE, 1L);
}

/* Once, whoever comes first: the gateway does the same, and libcurl counts. */
static void init_library(void) {
    ASSERT(!curl_global_init(CURL_GLOBAL_DEFAULT));
}

enum errc proxy_call_start(struct tunnel_set *tunnels, struct http_exchange *x,
                           const struct proxy_call *call, struct error *err) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_library);
    struct proxied *p = mem_alloc(sizeof(*p));
    p->x = x;
    p->length = -1;
    p->prefix = mem_strdup(call->prefix);
    p->multi = curl_multi_init();
    p->easy = curl_easy_init();
    ASSERT(p->multi && p->easy);
    set_request(p, call);
    set_transfer(p);
    struct tunnel_source source = {.run = run, .destroy = destroy, .user = p};
    if (!tunnel_start_plain(tunnels, x, &source, err))
        return OK;
    destroy(p);
    return err->code;
}
