/* Asking.
 *
 *   exec       the command's exit code 0 is yes; its output says why not
 *   httpGet    a status from 200 to 399 is yes; the body is not read, a redirect not followed
 *   tcpSocket  a connection is yes
 *   sleep      time that passes is yes
 *
 * What goes wrong is told in the words of the kubelet, which are those of Go's net package. */
#include "core/node/question.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/node/listener.h"

enum {
    HTTP_STATUS_BYTES = 12,     /* "HTTP/1.1 200" */
    DRAIN_BYTES_MAX = 64 << 10, /* at once, so that the others are asked, too */
};

static char **copy_list(char **list) {
    size_t num = 0;
    if (!list)
        return NULL;
    while (list[num])
        num++;
    char **copy = mem_array(num + 1, sizeof(copy[0]));
    for (size_t i = 0; i < num; i++)
        copy[i] = mem_strdup(list[i]);
    return copy;
}

static void free_list(char **list) {
    for (char **p = list; p && *p; p++)
        free(*p);
    free(list);
}

void question_copy(struct question *to, const struct question *from) {
    *to = (struct question){.way = from->way,
                            .argv = copy_list(from->argv),
                            .host = mem_strdup(from->host),
                            .port = from->port,
                            .listener_user = from->listener_user,
                            .quiet = from->quiet,
                            .path = mem_strdup(from->path),
                            .headers = copy_list(from->headers),
                            .sleep_ms = from->sleep_ms};
}

void question_deinit(struct question *q) {
    free_list(q->argv);
    free_list(q->headers);
    free(q->host);
    free(q->path);
    *q = (struct question){0};
}

/* "10.0.0.5:80", "[::1]:80" */
static void put_address(const struct question *q, struct buf *out) {
    buf_printf(out, strchr(q->host, ':') ? "[%s]:%u" : "%s:%u", q->host, q->port);
}

/* Go's spelling of errors begins small. */
static void put_error(const struct question *q, int error, struct buf *out) {
    const char *text = strerror(error);
    buf_puts(out, "dial tcp ");
    put_address(q, out);
    buf_printf(out, ": connect: %c%s", tolower((unsigned char)text[0]), text + 1);
}

static void put_request(const struct question *q, struct buf *out) {
    bool has_host = false, has_agent = false, has_accept = false;
    for (char **h = q->headers; h && *h; h++) {
        has_host = has_host || !strncasecmp(*h, "Host:", 5);
        has_agent = has_agent || !strncasecmp(*h, "User-Agent:", 11);
        has_accept = has_accept || !strncasecmp(*h, "Accept:", 7);
    }
    buf_printf(out, "GET %s%s HTTP/1.1\r\n", q->path && *q->path == '/' ? "" : "/",
               q->path ? q->path : "");
    if (!has_host) {
        buf_puts(out, "Host: ");
        put_address(q, out);
        buf_puts(out, "\r\n");
    }
    if (!has_agent)
        buf_puts(out, "User-Agent: kube-probe/1.32\r\n");
    if (!has_accept)
        buf_puts(out, "Accept: */*\r\n");
    for (char **h = q->headers; h && *h; h++)
        buf_printf(out, "%s\r\n", *h);
    buf_puts(out, "Connection: close\r\n\r\n");
}

/* Does who should listen on the port? Another process may have been faster. */
static bool is_listened_to(const struct question *q) {
    struct sockaddr_storage address;
    socklen_t len;
    struct error ignored = ERROR_INIT;
    return !q->listener_user || !listener_find(q->listener_user, q->port, &address, &len, &ignored);
}

static enum errc start_socket(struct asking *a, struct error *err) {
    const struct question *q = a->question;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST}, *to = NULL;
    char port[8];
    snprintf(port, sizeof(port), "%u", q->port);
    int rc = getaddrinfo(q->host, port, &hints, &to);
    if (rc)
        return err_set(err, ERR_INVALID, "address %s: %s", q->host, gai_strerror(rc));
    a->fd = socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    /* An error of the connection is an answer: asking_advance() finds it. */
    if (!is_listened_to(q))
        a->connect_error = ECONNREFUSED;
    else if (a->fd >= 0 && connect(a->fd, to->ai_addr, to->ai_addrlen) && errno != EINPROGRESS)
        a->connect_error = errno;
    freeaddrinfo(to);
    if (a->fd < 0)
        return err_errno(err, "make a socket");
    if (q->way == QUESTION_HTTP)
        put_request(q, &a->to_send);
    return OK;
}

enum errc asking_start(const struct asking_options *opt, struct asking *ret_a, struct error *err) {
    struct asking a = {.question = opt->question,
                       .timeout_ms = opt->timeout_ms,
                       .deadline_ms = opt->now_ms + opt->timeout_ms,
                       .fd = -1,
                       .exec = {.pidfd = -1, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1}};
    const struct exec_options exec = {.container = opt->container,
                                      .argv = (const char *const *)opt->question->argv};
    enum errc rc = OK;
    if (opt->question->way == QUESTION_EXEC)
        rc = exec_start(&exec, &a.exec, err);
    else if (opt->question->way != QUESTION_SLEEP)
        rc = start_socket(&a, err);
    else if (opt->question->sleep_ms < opt->timeout_ms)
        a.deadline_ms = opt->now_ms + opt->question->sleep_ms;
    if (rc)
        asking_end(&a);
    else
        *ret_a = a;
    return rc;
}

void asking_end(struct asking *a) {
    exec_end(&a->exec);
    if (a->fd >= 0)
        close(a->fd);
    a->fd = -1;
    buf_deinit(&a->to_send);
    buf_deinit(&a->got);
}

size_t asking_fds(const struct asking *a, struct pollfd fds[QUESTION_FDS_MAX]) {
    size_t num = 0;
    const int ends[] = {a->exec.pidfd, a->exec.stdout_fd, a->exec.stderr_fd};
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        if (ends[i] >= 0)
            fds[num++] = (struct pollfd){.fd = ends[i], .events = POLLIN};
    }
    if (a->fd >= 0)
        fds[num++] = (struct pollfd){
            .fd = a->fd,
            .events = (short)(!a->connected || a->to_send.len ? POLLOUT | POLLIN : POLLIN)};
    return num;
}

/* Keeps the first bytes of what is there, and drops the rest; some may be left for the next time.
 * False: it has ended. */
static bool drain(int fd, struct buf *out) {
    char bytes[4096];
    for (size_t total = 0; total < DRAIN_BYTES_MAX;) {
        ssize_t n = read(fd, bytes, sizeof(bytes));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 && errno == EAGAIN;
        size_t room =
            out->len < QUESTION_OUTPUT_BYTES_MAX ? QUESTION_OUTPUT_BYTES_MAX - out->len : 0;
        buf_append(out, bytes, (size_t)n < room ? (size_t)n : room);
        total += (size_t)n;
    }
    return true;
}

static void drain_exec(struct asking *a) {
    int *ends[] = {&a->exec.stdout_fd, &a->exec.stderr_fd};
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        if (*ends[i] < 0 || drain(*ends[i], &a->got))
            continue;
        close(*ends[i]);
        *ends[i] = -1;
    }
}

static bool advance_exec(struct asking *a, bool late, bool *ret_yes, struct buf *ret_why) {
    struct pollfd ended = {.fd = a->exec.pidfd, .events = POLLIN};
    bool over = poll(&ended, 1, 0) > 0;
    drain_exec(a);
    if (over) {
        *ret_yes = exec_stop(&a->exec) == 0;
        while (a->got.len && a->got.data[a->got.len - 1] == '\n')
            a->got.len--;
        buf_append(ret_why, a->got.data ? a->got.data : "", a->got.len);
        return true;
    }
    *ret_yes = false;
    if (late) {
        buf_puts(ret_why, "command \"");
        for (char **word = a->question->argv; *word; word++)
            buf_printf(ret_why, "%s%s", word == a->question->argv ? "" : " ", *word);
        buf_printf(ret_why, "\" timed out after %llds", (long long)(a->timeout_ms / 1000));
    }
    return late;
}

/* Is there a connection? The error otherwise; EINPROGRESS: not yet. */
static int connection_error(const struct asking *a) {
    struct pollfd p = {.fd = a->fd, .events = POLLOUT};
    int error = a->connect_error;
    socklen_t len = sizeof(error);
    if (error)
        return error;
    if (poll(&p, 1, 0) <= 0)
        return EINPROGRESS;
    return getsockopt(a->fd, SOL_SOCKET, SO_ERROR, &error, &len) ? errno : error;
}

static bool send_request(struct asking *a) {
    while (a->to_send.len) {
        ssize_t n = send(a->fd, a->to_send.data, a->to_send.len, MSG_NOSIGNAL);
        if (n <= 0)
            return n < 0 && (errno == EAGAIN || errno == EINTR);
        buf_consume(&a->to_send, (size_t)n);
    }
    return true;
}

/* "HTTP/1.1 200 OK" */
static bool judge_status(const struct buf *head, bool *ret_yes, struct buf *ret_why) {
    int status = 0;
    if (head->len < HTTP_STATUS_BYTES || sscanf(head->data, "HTTP/1.%*1d %3d", &status) != 1)
        return false;
    *ret_yes = status >= 200 && status < 400;
    if (!*ret_yes)
        buf_printf(ret_why, "HTTP probe failed with statuscode: %d", status);
    return true;
}

static void put_url(const struct question *q, struct buf *out) {
    buf_puts(out, "Get \"http://");
    put_address(q, out);
    buf_printf(out, "%s%s\": ", q->path && *q->path == '/' ? "" : "/", q->path ? q->path : "");
}

static bool advance_http(struct asking *a, bool late, bool *ret_yes, struct buf *ret_why) {
    bool open = send_request(a) && drain(a->fd, &a->got);
    if (judge_status(&a->got, ret_yes, ret_why))
        return true;
    *ret_yes = false;
    if (open && !late)
        return false;
    put_url(a->question, ret_why);
    buf_puts(ret_why, late ? "context deadline exceeded (Client.Timeout exceeded while awaiting "
                             "headers)"
                      : a->got.len ? "malformed HTTP response"
                                   : "EOF");
    return true;
}

bool asking_advance(struct asking *a, int64_t now_ms, bool *ret_yes, struct buf *ret_why) {
    bool late = now_ms >= a->deadline_ms, http = a->question->way == QUESTION_HTTP;
    if (a->question->way == QUESTION_EXEC)
        return advance_exec(a, late, ret_yes, ret_why);
    *ret_yes = true;
    if (a->question->way == QUESTION_SLEEP)
        return late;
    int error = a->connected ? 0 : connection_error(a);
    a->connected = !error;
    *ret_yes = !error && !http;
    if (!error && http)
        return advance_http(a, late, ret_yes, ret_why);
    if (error == EINPROGRESS && !late)
        return false;
    if (error && http)
        put_url(a->question, ret_why);
    if (error == EINPROGRESS) {
        buf_puts(ret_why, "dial tcp ");
        put_address(a->question, ret_why);
        buf_puts(ret_why, ": i/o timeout");
    } else if (error) {
        put_error(a->question, error, ret_why);
    }
    return true;
}
