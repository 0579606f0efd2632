/* libcurl's multi interface on our own epoll set.
 *
 * curl_multi_socket_action() does work only for sockets that are ready, so a thousand streams that
 * wait for their next token cost nothing. libcurl says which sockets it wants to hear of
 * (on_socket) and when it wants to be called in any case (on_timer).
 *
 * Nothing of the request is libcurl's idea: the target goes out as it came, and the headers that
 * libcurl would add by itself (Accept, Expect, a Content-Type for bodies) are switched off unless
 * the client sent them. */
#include "api/upstream.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/base/buf.h"
#include "core/base/clock.h"

enum { EVENTS_MAX = 256 };

struct upstream {
    CURLM *multi;
    int epoll_fd, wake_fd;
    int64_t timer_at_ms; /* when libcurl wants to be called; -1: never */
};

struct upstream_call {
    struct upstream *upstream;
    CURL *easy;
    struct curl_slist *headers;
    struct upstream_callbacks cb;
    void *user;
    bool started, has_accept, has_content_type;
    int status;     /* of the head that is being read; 0: none yet */
    bool head_done; /* on_head was called: what follows is body and trailers */
    size_t header_bytes;
    char error[CURL_ERROR_SIZE];
};

/* ---- the multi handle ---- */

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *socket_user) {
    struct upstream *u = user;
    if (what == CURL_POLL_REMOVE) {
        epoll_ctl(u->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
        return 0;
    }
    struct epoll_event ev = {.data.fd = fd};
    if (what & CURL_POLL_IN)
        ev.events |= EPOLLIN;
    if (what & CURL_POLL_OUT)
        ev.events |= EPOLLOUT;
    if (epoll_ctl(u->epoll_fd, EPOLL_CTL_MOD, fd, &ev) < 0 && errno == ENOENT)
        epoll_ctl(u->epoll_fd, EPOLL_CTL_ADD, fd, &ev);
    return 0;
}

static int on_timer(CURLM *multi, long timeout_ms, void *user) {
    struct upstream *u = user;
    u->timer_at_ms = timeout_ms < 0 ? -1 : clock_mono_ms() + timeout_ms;
    return 0;
}

enum errc upstream_create(struct upstream **ret_u, struct error *err) {
    AUTO(upstream) u = mem_alloc(sizeof(*u));
    u->timer_at_ms = -1;
    u->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    u->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (u->epoll_fd < 0 || u->wake_fd < 0)
        return err_errno(err, "gateway: epoll");
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = u->wake_fd};
    epoll_ctl(u->epoll_fd, EPOLL_CTL_ADD, u->wake_fd, &ev);
    if (curl_global_init(CURL_GLOBAL_DEFAULT) || !(u->multi = curl_multi_init()))
        return err_set(err, ERR_INTERNAL, "gateway: libcurl does not start");
    curl_multi_setopt(u->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(u->multi, CURLMOPT_SOCKETDATA, u);
    curl_multi_setopt(u->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(u->multi, CURLMOPT_TIMERDATA, u);
    curl_multi_setopt(u->multi, CURLMOPT_MAXCONNECTS, (long)UPSTREAM_IDLE_CONNECTIONS_MAX);
    *ret_u = steal(u);
    return OK;
}

void upstream_destroy(struct upstream *u) {
    if (!u)
        return;
    if (u->multi)
        curl_multi_cleanup(u->multi);
    if (u->epoll_fd >= 0)
        close(u->epoll_fd);
    if (u->wake_fd >= 0)
        close(u->wake_fd);
    free(u);
}

void upstream_wake(struct upstream *u) {
    uint64_t one = 1;
    ssize_t n = write(u->wake_fd, &one, sizeof(one));
    (void)n; /* full means that it is awake already */
}

static enum upstream_end end_of(const struct upstream_call *c, CURLcode code) {
    if (code == CURLE_OK)
        return c->head_done ? UPSTREAM_COMPLETE : UPSTREAM_SILENT;
    if (code == CURLE_COULDNT_CONNECT)
        return UPSTREAM_UNREACHABLE;
    return c->head_done ? UPSTREAM_CUT : UPSTREAM_SILENT;
}

static void finish_done(struct upstream *u) {
    int left;
    CURLMsg *msg;
    while ((msg = curl_multi_info_read(u->multi, &left))) {
        if (msg->msg != CURLMSG_DONE)
            continue;
        struct upstream_call *c = NULL;
        CURLcode code = msg->data.result;
        curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&c);
        curl_multi_remove_handle(u->multi, c->easy);
        c->started = false;
        c->cb.on_done(c->user, end_of(c, code), *c->error ? c->error : curl_easy_strerror(code));
    }
}

void upstream_run(struct upstream *u, int timeout_ms) {
    if (u->timer_at_ms >= 0) {
        int64_t left_ms = u->timer_at_ms - clock_mono_ms();
        if (left_ms < 0)
            left_ms = 0;
        if (timeout_ms < 0 || left_ms < timeout_ms)
            timeout_ms = (int)left_ms;
    }
    struct epoll_event events[EVENTS_MAX];
    int n = epoll_wait(u->epoll_fd, events, EVENTS_MAX, timeout_ms);
    int running;
    for (int i = 0; i < n; i++) {
        if (events[i].data.fd == u->wake_fd) {
            uint64_t count;
            ssize_t got = read(u->wake_fd, &count, sizeof(count));
            (void)got;
            continue;
        }
        int what = 0;
        if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
            what |= CURL_CSELECT_IN;
        if (events[i].events & EPOLLOUT)
            what |= CURL_CSELECT_OUT;
        if (events[i].events & EPOLLERR)
            what |= CURL_CSELECT_ERR;
        curl_multi_socket_action(u->multi, events[i].data.fd, what, &running);
    }
    if (u->timer_at_ms >= 0 && clock_mono_ms() >= u->timer_at_ms) {
        u->timer_at_ms = -1;
        curl_multi_socket_action(u->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    }
    finish_done(u);
}

/* ---- one call ---- */

/* One line of the head, CRLF included; libcurl has joined and bounded it. */
static size_t on_head_line(char *data, size_t size, size_t count, void *user) {
    struct upstream_call *c = user;
    size_t len = size * count;
    c->header_bytes += len;
    if (c->header_bytes > UPSTREAM_HEADER_BYTES_MAX)
        return 0;
    if (c->head_done)
        return len; /* a trailer */
    if (len >= 5 && !strncmp(data, "HTTP/", 5)) {
        const char *space = memchr(data, ' ', len);
        c->status = space ? (int)strtol(space + 1, NULL, 10) : 0;
        return len;
    }
    size_t end = len;
    while (end && (data[end - 1] == '\r' || data[end - 1] == '\n'))
        end--;
    if (!end) {
        if (c->status >= 200) {
            c->head_done = true;
            c->cb.on_head(c->user, c->status);
        }
        return len;
    }
    const char *colon = memchr(data, ':', end);
    if (!colon || c->status < 200)
        return len;
    AUTO_FREE char *name = mem_strndup(data, (size_t)(colon - data));
    const char *value = colon + 1;
    while (value < data + end && (*value == ' ' || *value == '\t'))
        value++;
    AUTO_FREE char *text = mem_strndup(value, (size_t)(data + end - value));
    c->cb.on_header(c->user, name, text);
    return len;
}

static size_t on_body_bytes(char *data, size_t size, size_t count, void *user) {
    struct upstream_call *c = user;
    size_t len = size * count;
    switch (c->cb.on_body(c->user, data, len)) {
    case UPSTREAM_TAKEN:
        return len;
    case UPSTREAM_PAUSE:
        return CURL_WRITEFUNC_PAUSE;
    default:
        return len + 1; /* any other number than len is an error to libcurl */
    }
}

/* A socket's path, or "127.0.0.1:PORT". */
static void set_address(CURL *easy, const char *address) {
    bool is_path = *address == '/';
    AUTO_FREE char *url = mem_printf("http://%s/", is_path ? "replica" : address);
    curl_easy_setopt(easy, CURLOPT_URL, url); /* copies */
    if (is_path)
        curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, address);
}

static void set_method(CURL *easy, const struct upstream_request *rq) {
    if (!strcmp(rq->method, "HEAD")) {
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
        return;
    }
    bool wants_length =
        !strcmp(rq->method, "POST") || !strcmp(rq->method, "PUT") || !strcmp(rq->method, "PATCH");
    if (rq->body_len || wants_length) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)rq->body_len);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, rq->body ? rq->body : "");
    }
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, rq->method);
}

struct upstream_call *upstream_call_create(struct upstream *u, const struct upstream_request *rq,
                                           const struct upstream_callbacks *cb, void *user) {
    struct upstream_call *c = mem_alloc(sizeof(*c));
    c->upstream = u;
    c->cb = *cb;
    c->user = user;
    c->easy = curl_easy_init();
    ASSERT(c->easy);
    curl_easy_setopt(c->easy, CURLOPT_PRIVATE, c);
    curl_easy_setopt(c->easy, CURLOPT_ERRORBUFFER, c->error);
    curl_easy_setopt(c->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c->easy, CURLOPT_PROXY, ""); /* whatever the environment says */
    set_address(c->easy, rq->address);
    curl_easy_setopt(c->easy, CURLOPT_REQUEST_TARGET, rq->target);
    curl_easy_setopt(c->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(c->easy, CURLOPT_CONNECTTIMEOUT_MS, (long)UPSTREAM_CONNECT_MS);
    curl_easy_setopt(c->easy, CURLOPT_HEADERFUNCTION, on_head_line);
    curl_easy_setopt(c->easy, CURLOPT_HEADERDATA, c);
    curl_easy_setopt(c->easy, CURLOPT_WRITEFUNCTION, on_body_bytes);
    curl_easy_setopt(c->easy, CURLOPT_WRITEDATA, c);
    set_method(c->easy, rq);
    return c;
}

void upstream_call_header(struct upstream_call *c, const char *name, const char *value) {
    c->has_accept |= !strcasecmp(name, "Accept");
    c->has_content_type |= !strcasecmp(name, "Content-Type");
    /* libcurl spells a header without a value with a semicolon. */
    AUTO_FREE char *line = *value ? mem_printf("%s: %s", name, value) : mem_printf("%s;", name);
    c->headers = curl_slist_append(c->headers, line);
    ASSERT(c->headers);
}

void upstream_call_start(struct upstream_call *c) {
    if (!c->has_accept)
        c->headers = curl_slist_append(c->headers, "Accept:");
    if (!c->has_content_type)
        c->headers = curl_slist_append(c->headers, "Content-Type:");
    c->headers = curl_slist_append(c->headers, "Expect:");
    curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, c->headers);
    c->started = true;
    ASSERT(!curl_multi_add_handle(c->upstream->multi, c->easy));
}

void upstream_call_resume(struct upstream_call *c) {
    /* May deliver held bytes before it returns; if they are cancelled, libcurl tells it only here.
     */
    CURLcode code = curl_easy_pause(c->easy, CURLPAUSE_CONT);
    if (code == CURLE_OK || !c->started)
        return;
    curl_multi_remove_handle(c->upstream->multi, c->easy);
    c->started = false;
    c->cb.on_done(c->user, end_of(c, code), curl_easy_strerror(code));
}

void upstream_call_destroy(struct upstream_call *c) {
    if (!c)
        return;
    if (c->started)
        curl_multi_remove_handle(c->upstream->multi, c->easy);
    curl_easy_cleanup(c->easy);
    curl_slist_free_all(c->headers);
    free(c);
}
