/* A replica that costs next to nothing, so that what stands before it is measured.
 *
 *     fast_replica SOCKET [TOKEN_MS]
 *
 * HTTP/1.1 on a Unix socket, one thread. A GET or POST of any path is answered at once with a small
 * JSON body. When the path ends in /stream/N, the answer is an event stream of N tokens, one every
 * TOKEN_MS (10), as an engine at work writes them: chunk by chunk, all streams in one step. Prints
 * "ready" when it listens; ends when its standard input does. */
#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/base/buf.h"

enum { EVENTS_MAX = 256, CONNECTIONS_MAX = 4096, REQUEST_BYTES_MAX = 64 << 10 };

static const char SMALL[] =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 108\r\n\r\n"
    "{\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"model\":\"demo\","
    "\"choices\":[{\"index\":0,\"text\":\"5\",\"logprobs\":null}]}";
static const char STREAM[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                             "Transfer-Encoding: chunked\r\n\r\n";
static const char TOKEN[] = "data: {\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"model\":"
                            "\"demo\",\"choices\":[{\"index\":0,\"text\":\" word\"}]}\n\n";

struct connection {
    int fd;
    struct buf in;
    long tokens_left; /* of a stream; 0: none */
};

static struct connection *connections[CONNECTIONS_MAX]; /* by descriptor */
static int epoll_fd;
static char chunk[sizeof(TOKEN) + 16];
static size_t chunk_len;

static void drop(struct connection *c) {
    connections[c->fd] = NULL;
    close(c->fd);
    buf_deinit(&c->in);
    free(c);
}

/* Answers are smaller than a socket's buffer: one that does not take them has a reader that is
 * gone or asleep, and is closed. */
static bool say(struct connection *c, const void *data, size_t len) {
    if (send(c->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)len)
        return true;
    drop(c);
    return false;
}

/* The length of the request at the front of the buffer; 0: not whole yet. */
static size_t request_length(const struct connection *c) {
    const char *end = memmem(c->in.data, c->in.len, "\r\n\r\n", 4);
    if (!end)
        return 0;
    size_t head = (size_t)(end - c->in.data) + 4;
    const char *length = strcasestr(c->in.data, "\r\nContent-Length:");
    size_t body = length && length < end ? strtoul(length + 17, NULL, 10) : 0;
    return c->in.len < head + body ? 0 : head + body;
}

static bool answer(struct connection *c) {
    const char *target = strchr(c->in.data, ' ');
    const char *stream = target ? strstr(target, "/stream/") : NULL;
    const char *line_end = strchr(c->in.data, '\r');
    if (!stream || stream > line_end)
        return say(c, SMALL, sizeof(SMALL) - 1);
    c->tokens_left = strtol(stream + strlen("/stream/"), NULL, 10);
    return say(c, STREAM, sizeof(STREAM) - 1);
}

static void on_readable(struct connection *c) {
    char data[16 << 10];
    ssize_t n = recv(c->fd, data, sizeof(data), MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0 || c->in.len > REQUEST_BYTES_MAX) {
        drop(c);
        return;
    }
    buf_append(&c->in, data, (size_t)n);
    for (size_t len; (len = request_length(c));) {
        if (!answer(c))
            return;
        buf_consume(&c->in, len);
        if (!c->in.len)
            return;
    }
}

/* One step: a token for every stream. */
static void step(void) {
    for (int fd = 0; fd < CONNECTIONS_MAX; fd++) {
        struct connection *c = connections[fd];
        if (!c || !c->tokens_left || !say(c, chunk, chunk_len))
            continue;
        if (!--c->tokens_left)
            say(c, "0\r\n\r\n", 5);
    }
}

/* Late steps are made up for, so that the pace is the same however busy the machine is. */
static void catch_up(uint64_t ticks) {
    while (ticks--)
        step();
}

static void watch(int fd) {
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev);
}

static void accept_one(int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    if (fd >= CONNECTIONS_MAX) {
        close(fd);
        return;
    }
    connections[fd] = mem_alloc(sizeof(struct connection));
    connections[fd]->fd = fd;
    watch(fd);
}

static int listen_on(const char *path) {
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
    if (bind(fd, (void *)&sun, sizeof(sun)) || listen(fd, 1024)) {
        perror(path);
        exit(1);
    }
    return fd;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: fast_replica SOCKET [TOKEN_MS]\n");
        return 2;
    }
    long token_ms = argc > 2 ? strtol(argv[2], NULL, 10) : 10;
    int listener = listen_on(argv[1]);
    struct itimerspec every = {.it_interval.tv_nsec = token_ms * 1000000,
                               .it_value.tv_nsec = token_ms * 1000000};
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    timerfd_settime(timer, 0, &every, NULL);
    chunk_len = (size_t)snprintf(chunk, sizeof(chunk), "%zx\r\n%s\r\n", sizeof(TOKEN) - 1, TOKEN);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    watch(listener);
    watch(timer);
    watch(STDIN_FILENO);
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        struct epoll_event events[EVENTS_MAX];
        int n = epoll_wait(epoll_fd, events, EVENTS_MAX, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            uint64_t ticks;
            if (fd == STDIN_FILENO)
                return 0;
            if (fd == listener)
                accept_one(listener);
            else if (fd == timer && read(timer, &ticks, sizeof(ticks)) == sizeof(ticks))
                catch_up(ticks);
            else if (fd != timer && connections[fd])
                on_readable(connections[fd]);
        }
    }
}
