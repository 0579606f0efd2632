/* The HTTP server: libmicrohttpd between our front thread and our exchanges.
 *
 * libmicrohttpd runs without a listening socket: the front thread accepts (http_front.c), TLS may
 * stand in between, and every plain socket enters through MHD_add_connection(). Its pool of epoll
 * threads parses requests and calls on_request() several times for each: with the headers (refuse
 * early, before a body is read), with pieces of the body, and when all is there (call the handler).
 * What happens to an answer that comes later is told in http_exchange.c.
 *
 * Stop: the front thread and TLS let go first, so that nothing new comes in; every kept exchange is
 * marked gone and resumed (libmicrohttpd must not stop over a suspended connection); then its
 * threads are joined. The server's memory outlives http_server_stop() while
 * somebody still holds an exchange. */
#include "core/http_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/tls.h"

enum {
    LISTEN_BACKLOG = 1024,
    CONNECTION_SLACK = 64, /* per thread; closing ones still count for a moment */
    OTHER_DESCRIPTORS = 512,
    DESCRIPTORS_PER_CONNECTION = 4, /* socket and pair with TLS; one more to a replica */
};

/* ---- one request, as libmicrohttpd tells it ---- */

static void *on_uri(void *user, const char *uri, struct MHD_Connection *connection) {
    struct http_exchange *x = http_exchange_create(user);
    http_request_target(x, uri);
    return x;
}

static enum MHD_Result queue(struct http_exchange *x) {
    pthread_mutex_lock(&x->lock);
    struct MHD_Response *r = steal(x->response);
    x->queued = true;
    pthread_mutex_unlock(&x->lock);
    enum MHD_Result rc = MHD_queue_response(x->connection, (unsigned)x->status, r);
    MHD_destroy_response(r);
    return rc;
}

/* The header's name; NULL: there is none. */
static struct http_field *find_header(struct http_exchange *x, const char *name) {
    struct http_field *f = x->headers;
    while (f && strcasecmp(f->name, name) != 0)
        f = f->next;
    return f;
}

/* Who is it? The reason why nobody knows goes to the log; the client is told no more than that. */
static enum errc identify(struct http_exchange *x, struct error *err) {
    struct http_server *s = x->server;
    struct http_field *subprotocols = find_header(x, "Sec-WebSocket-Protocol");
    const char *authorization = http_header(x, "Authorization"), *others;
    enum errc rc = OK;
    x->identity = arena_alloc(x->arena, sizeof(*x->identity));
    if (!authorization && subprotocols) {
        rc = auth_read_subprotocols(x->arena, subprotocols->value, &authorization, &others, err);
        if (!rc && authorization)
            subprotocols->value = others; /* what is left to choose from */
    }
    if (!rc)
        rc = auth_identify(s->opt.auth, authorization, x->on->peer, x->identity, err);
    if (!rc)
        return OK;
    struct log_quoted q;
    log_info("client not authenticated", "request=%s reason=%s", x->request_id,
             log_quote(&q, err->text));
    if (s->opt.refused)
        s->opt.refused(x, err, s->opt.user);
    return rc;
}

/* The headers are there: who is it, may it go on? */
static enum MHD_Result on_head(struct http_exchange *x, struct MHD_Connection *connection,
                               const char *method, const char *version) {
    struct http_server *s = x->server;
    x->begun = true;
    x->connection = connection;
    x->on = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    x->client_address = arena_strdup(x->arena, x->on->address);
    struct error err = ERROR_INIT;
    enum errc rc = http_request_head(x, connection, method, version, &err);
    if (!rc && s->draining) {
        rc = err_set(&err, ERR_UNAVAILABLE, "the server is shutting down");
        http_set_header(x, HTTP_DRAINING_HEADER, "1");
    }
    if (!rc && s->opt.auth)
        rc = identify(x, &err);
    if (!rc)
        return MHD_YES;
    http_exchange_refuse(x, &err);
    if (x->chunked || http_header(x, "Content-Length"))
        http_front_linger(s, x->on->fd);
    return queue(x);
}

/* libmicrohttpd takes no response in the middle of a chunked body, so this one is written past it;
 * the connection has been silent since the request (but for a "100 Continue"), and is closed now.
 */
static enum MHD_Result refuse_chunked_body(struct http_exchange *x) {
    struct error err = ERROR_INIT;
    err_set(&err, ERR_TOO_LARGE, "request body is above the bound of %zu bytes",
            x->server->opt.body_bytes_max);
    AUTO_BUF body = BUF_INIT;
    AUTO_BUF head = BUF_INIT;
    http_exchange_error_body(x, &err, &body);
    buf_printf(&head,
               "HTTP/1.1 413 Content Too Large\r\nContent-Type: application/json\r\n"
               "X-Request-Id: %s\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
               x->request_id, body.len, body.data);
    ssize_t n = send(x->on->fd, head.data, head.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)n;
    http_front_linger(x->server, x->on->fd);
    return MHD_NO;
}

/* All is there: the handler's turn, then whatever its answer allows. Also called after a resume. */
static enum MHD_Result on_complete_request(struct http_exchange *x) {
    if (!x->handled) {
        x->handled = true;
        x->refs++; /* the owner's */
        x->server->opt.handler(x, x->server->opt.user);
    }
    pthread_mutex_lock(&x->lock);
    bool kept = !x->ended;
    pthread_mutex_unlock(&x->lock);
    bool may_keep = !kept || http_front_keep(x);

    pthread_mutex_lock(&x->lock);
    bool ready = x->response != NULL, drop = false;
    if (!may_keep)
        x->gone = true;
    if (x->gone) {
        drop = true;
    } else if (!ready) {
        x->parked = true;
        MHD_suspend_connection(x->connection);
    }
    pthread_mutex_unlock(&x->lock);
    if (drop)
        return MHD_NO;
    return ready ? queue(x) : MHD_YES;
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_len, void **context) {
    struct http_exchange *x = *context;
    if (!x->begun)
        return on_head(x, connection, method, version);
    if (x->queued)
        return MHD_NO; /* libmicrohttpd dropped the answer: it is being stopped */
    if (!*upload_len)
        return on_complete_request(x);
    if (*upload_len > x->server->opt.body_bytes_max - x->body.len)
        return refuse_chunked_body(x);
    buf_append(&x->body, upload, *upload_len);
    *upload_len = 0;
    return MHD_YES;
}

/* See http_front.c about ends that libmicrohttpd overlooks. The next request may be in its buffer
 * already, so this must not close anything, and does not. */
static void repeat_end_of_connection(int fd) {
    char byte;
    if (recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
        shutdown(fd, SHUT_RD);
}

static void on_completed(void *user, struct MHD_Connection *connection, void **context,
                         enum MHD_RequestTerminationCode why) {
    struct http_exchange *x = steal(*context);
    if (!x)
        return;
    if (x->begun) {
        http_front_release(x);
        if (!x->upgraded) /* written in this thread */
            repeat_end_of_connection(x->on->fd);
    }
    pthread_mutex_lock(&x->lock);
    x->connection = NULL;
    x->gone = true;
    bool upgraded = x->upgraded;
    int status = x->status;
    bool complete =
        why == MHD_REQUEST_TERMINATED_COMPLETED_OK && x->stream_length != MHD_SIZE_UNKNOWN;
    pthread_mutex_unlock(&x->lock);
    if (!upgraded)
        http_exchange_not_upgraded(x);
    if (!complete && !upgraded) /* a complete sized stream: its owner is about to end it */
        http_exchange_call(x, HTTP_DUE_GONE);
    log_debug("http request", "method=%s path=%s status=%d request=%s ms=%.1f", x->method,
              x->raw_path, status, x->request_id, (double)(clock_mono_ns() - x->start_ns) / 1e6);
    http_exchange_unref(x);
}

/* ---- connections ---- */

/* MHD_add_connection() carries an address to the thread that starts the connection; ours is the
 * connection itself. */
struct connection_address {
    struct sockaddr sa; /* AF_UNSPEC */
    struct http_connection *connection;
};

static void connection_free(struct http_connection *c) {
    http_front_remove(c);
    c->server->num_connections--;
    free(c->peer);
    free(c);
}

static void read_address(int fd, char out[HTTP_ADDRESS_BYTES_MAX]) {
    struct sockaddr_storage peer = {0};
    socklen_t len = sizeof(peer);
    if (getpeername(fd, (void *)&peer, &len))
        return; /* it has left already */
    const struct sockaddr_in *v4 = (const void *)&peer;
    const struct sockaddr_in6 *v6 = (const void *)&peer;
    if (peer.ss_family == AF_INET)
        inet_ntop(AF_INET, &v4->sin_addr, out, HTTP_ADDRESS_BYTES_MAX);
    else if (peer.ss_family == AF_INET6)
        inet_ntop(AF_INET6, &v6->sin6_addr, out, HTTP_ADDRESS_BYTES_MAX);
}

void http_server_adopt(struct http_server *s, int fd, int client_fd, struct auth_identity *peer) {
    struct http_connection *c = mem_alloc(sizeof(*c));
    c->server = s;
    c->fd = fd;
    c->peer = peer;
    read_address(client_fd, c->address);
    s->num_connections++;
    http_front_add(c);
    struct connection_address address = {.sa.sa_family = AF_UNSPEC, .connection = c};
    if (MHD_add_connection(s->daemon, fd, &address.sa, sizeof(address)) != MHD_YES)
        connection_free(c); /* libmicrohttpd has closed fd */
}

static void on_connection(void *user, struct MHD_Connection *connection, void **socket_context,
                          enum MHD_ConnectionNotificationCode what) {
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        const struct connection_address *address =
            (const void *)MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS)
                ->client_addr;
        *socket_context = address->connection;
    } else if (*socket_context) {
        connection_free(steal(*socket_context));
    }
}

static void on_library_log(void *user, const char *fmt, va_list args) {
    char text[256];
    vsnprintf(text, sizeof(text), fmt, args);
    text[strcspn(text, "\n")] = '\0';
    struct log_quoted q;
    log_debug("libmicrohttpd", "text=%s", log_quote(&q, text));
}

/* ---- listening ---- */

/* A socket file that nobody listens on is a leftover of a process that died. */
static enum errc remove_stale_socket(const struct sockaddr_un *sun, struct error *err) {
    struct stat st;
    if (lstat(sun->sun_path, &st) < 0)
        return OK;
    if (!S_ISSOCK(st.st_mode))
        return err_set(err, ERR_EXISTS, "listen on unix:%s: the file is no socket", sun->sun_path);
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool alive = probe >= 0 && !connect(probe, (const void *)sun, sizeof(*sun));
    if (probe >= 0)
        close(probe);
    if (alive)
        return err_set(err, ERR_EXISTS, "listen on unix:%s: another process listens there",
                       sun->sun_path);
    if (unlink(sun->sun_path) < 0 && errno != ENOENT)
        return err_errno(err, "listen on unix:%s: remove the stale socket", sun->sun_path);
    return OK;
}

static enum errc listen_unix(struct http_server *s, const char *path, struct error *err) {
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    if (!*path || strlen(path) >= sizeof(sun.sun_path))
        return err_set(err, ERR_INVALID, "listen on unix:%s: the path must have 1 to %zu bytes",
                       path, sizeof(sun.sun_path) - 1);
    strcpy(sun.sun_path, path);
    enum errc rc = remove_stale_socket(&sun, err);
    if (rc)
        return rc;
    s->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* The mode of the socket before bind() becomes the mode of the file: never open to others. */
    if (s->listen_fd < 0 || fchmod(s->listen_fd, 0600) < 0 ||
        bind(s->listen_fd, (const void *)&sun, sizeof(sun)) < 0)
        return err_errno(err, "listen on unix:%s", path);
    s->unix_path = mem_strdup(path);
    if (listen(s->listen_fd, LISTEN_BACKLOG) < 0)
        return err_errno(err, "listen on unix:%s", path);
    s->address = mem_printf("unix:%s", path);
    return OK;
}

/* "host:port", "[::1]:port", ":port". Gives the host ("" for all), and points at the port's digits.
 * NULL: it is none of these. */
static char *split_address(const char *listen_on, const char **ret_port) {
    const char *colon = strrchr(listen_on, ':');
    if (!colon)
        return NULL;
    size_t digits = strspn(colon + 1, "0123456789");
    if (!digits || digits > 5 || colon[1 + digits] || strtol(colon + 1, NULL, 10) > UINT16_MAX)
        return NULL;
    *ret_port = colon + 1;
    const char *host = listen_on;
    size_t len = (size_t)(colon - listen_on);
    if (len >= 2 && host[0] == '[' && host[len - 1] == ']')
        return mem_strndup(host + 1, len - 2);
    return memchr(host, ':', len) ? NULL : mem_strndup(host, len);
}

static void set_tcp_address(struct http_server *s, const char *host) {
    struct sockaddr_in6 bound = {0}; /* the port of an IPv4 address stands in the same place */
    socklen_t len = sizeof(bound);
    getsockname(s->listen_fd, (void *)&bound, &len);
    int port = ntohs(bound.sin6_port);
    if (!*host)
        host = "0.0.0.0";
    s->address = mem_printf(strchr(host, ':') ? "[%s]:%d" : "%s:%d", host, port);
}

static enum errc listen_tcp(struct http_server *s, const char *listen_on, struct error *err) {
    const char *port = NULL;
    AUTO_FREE char *host = split_address(listen_on, &port);
    if (!host)
        return err_set(err, ERR_INVALID,
                       "listen on \"%s\": expected ADDRESS:PORT, [IPV6]:PORT or unix:/PATH",
                       listen_on);
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int gai = getaddrinfo(*host ? host : "0.0.0.0", port, &hints, &found);
    if (gai)
        return err_set(err, ERR_INVALID, "listen on \"%s\": %s", listen_on, gai_strerror(gai));
    s->listen_fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1, off = 0;
    bool ok = s->listen_fd >= 0;
    if (ok) {
        setsockopt(s->listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        if (found->ai_family == AF_INET6)
            setsockopt(s->listen_fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
        ok = !bind(s->listen_fd, found->ai_addr, found->ai_addrlen) &&
             !listen(s->listen_fd, LISTEN_BACKLOG);
    }
    int bind_errno = errno;
    freeaddrinfo(found);
    errno = bind_errno;
    if (!ok)
        return err_errno(err, "listen on %s", listen_on);
    set_tcp_address(s, host);
    return OK;
}

/* ---- life ---- */

void http_server_unref(struct http_server *s) {
    if (--s->refs)
        return;
    if (s->listen_fd >= 0)
        close(s->listen_fd);
    if (s->epoll_fd >= 0)
        close(s->epoll_fd);
    if (s->wake_fd >= 0)
        close(s->wake_fd);
    free(s->connections.slots);
    free(s->kept.slots);
    free(s->address);
    free(s->unix_path);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* The usual soft limit of 1024 open files is there for programs that select(); none of ours does.
 * Raised as far as the bound on connections needs and the hard limit allows. */
static void raise_open_files(uint32_t connections_max) {
    rlim_t need = OTHER_DESCRIPTORS + (rlim_t)connections_max * DESCRIPTORS_PER_CONNECTION;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= need)
        return;
    limit.rlim_cur = need < limit.rlim_max ? need : limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static struct MHD_Daemon *start_daemon(struct http_server *s) {
    return MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE |
            MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG,
        0, NULL, NULL, on_request, NULL, MHD_OPTION_EXTERNAL_LOGGER, on_library_log, NULL,
        MHD_OPTION_URI_LOG_CALLBACK, on_uri, s, MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, NULL, MHD_OPTION_THREAD_POOL_SIZE,
        s->opt.num_threads, MHD_OPTION_CONNECTION_LIMIT,
        s->opt.connections_max + s->opt.num_threads * CONNECTION_SLACK,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_HEADER_BYTES_MAX,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)HTTP_IDLE_SECONDS, MHD_OPTION_END);
}

enum errc http_server_start(const struct http_server_options *opt, struct http_server **ret_server,
                            struct error *err) {
    struct http_server *s = mem_alloc(sizeof(*s));
    s->opt = *opt;
    s->opt.listen = NULL; /* the caller's memory */
    s->opt.num_threads = opt->num_threads ? opt->num_threads : HTTP_THREADS;
    s->opt.connections_max = opt->connections_max ? opt->connections_max : HTTP_CONNECTIONS_MAX;
    s->opt.body_bytes_max = opt->body_bytes_max ? opt->body_bytes_max : HTTP_BODY_BYTES_MAX;
    s->opt.tick_ms = opt->tick_ms ? opt->tick_ms : HTTP_TICK_SECONDS * 1000;
    s->refs = 1;
    s->listen_fd = s->epoll_fd = s->wake_fd = -1;
    pthread_mutex_init(&s->lock, NULL);
    bool is_unix = !strncmp(opt->listen, "unix:", 5);
    enum errc rc = is_unix ? listen_unix(s, opt->listen + 5, err) : listen_tcp(s, opt->listen, err);
    if (rc) {
        http_server_unref(s);
        return rc;
    }
    raise_open_files(s->opt.connections_max);
    s->daemon = start_daemon(s);
    if (!s->daemon)
        rc = err_errno(err, "listen on %s: start the server threads", s->address);
    else
        rc = http_front_start(s, err);
    if (rc) {
        if (s->daemon) /* no front thread, so nothing was ever added */
            MHD_stop_daemon(s->daemon);
        http_server_unref(s);
        return rc;
    }
    *ret_server = s;
    return OK;
}

const char *http_server_address(const struct http_server *s) {
    return s->address;
}

void http_server_drain(struct http_server *s) {
    http_front_stop_accepting(s);
}

uint32_t http_server_num_open(const struct http_server *s) {
    return s->num_open;
}

/* Marks every kept exchange gone and tells its owner. */
static void end_kept(struct http_server *s) {
    bool end = false;
    for (uint32_t slot = 0; !end; slot++) {
        struct http_exchange *x = http_front_kept(s, slot, &end);
        if (x) {
            http_exchange_gone(x);
            http_exchange_unref(x);
        }
    }
}

void http_server_stop(struct http_server *s) {
    if (!s)
        return;
    http_front_stop(s);
    if (s->opt.tls)
        tls_detach(s->opt.tls, s);
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    pthread_mutex_unlock(&s->lock);
    end_kept(s);
    MHD_stop_daemon(s->daemon);
    http_front_end_lingers(s);
    end_kept(s);                                      /* owners that could not be told before */
    for (uint32_t i = 0; i < s->connections.cap; i++) /* never started by libmicrohttpd */
        if (s->connections.slots[i].item)
            connection_free(s->connections.slots[i].item);
    http_server_unref(s);
}
