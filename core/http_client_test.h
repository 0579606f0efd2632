/* A client for tests of servers: a socket on loopback, whose every byte is the test's own. */
#ifndef CORE_HTTP_CLIENT_TEST_H
#define CORE_HTTP_CLIENT_TEST_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cmocka.h>

#include "core/http.h"

enum { WAIT_MS = 60000 }; /* generous: only a failing test waits that long */

/* As http_server_address() gives it. */
static inline int dial_address(const char *address) {
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    bool local = !strncmp(address, "unix:", 5);
    if (local)
        strcpy(sun.sun_path, address + 5);
    else
        sin.sin_port = htons((uint16_t)strtol(strrchr(address, ':') + 1, NULL, 10));
    int fd = socket(local ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const void *to = local ? (const void *)&sun : (const void *)&sin;
    assert_int_equal(connect(fd, to, local ? sizeof(sun) : sizeof(sin)), 0);
    return fd;
}

static inline int dial(const struct http_server *s) {
    return dial_address(http_server_address(s));
}

/* False: the server closed; what it said is what the test looks at. */
static inline bool send_all(int fd, const char *data, size_t len) {
    while (len) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n < 0)
            return false;
        data += n;
        len -= (size_t)n;
    }
    return true;
}

static inline bool send_text(int fd, const char *text) {
    return send_all(fd, text, strlen(text));
}

/* Reads more; false at the end of the connection. */
static inline bool receive(int fd, struct buf *in) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (poll(&p, 1, WAIT_MS) != 1)
        fail_msg("the server says nothing; so far: %s", in->data ? in->data : "");
    char data[16384];
    ssize_t n = recv(fd, data, sizeof(data), 0);
    if (n > 0)
        buf_append(in, data, (size_t)n);
    return n > 0;
}

/* Looks at what is new only: much may come. */
static inline void receive_until(int fd, struct buf *in, const char *text) {
    size_t len = strlen(text), from = 0;
    while (in->len < len || !memmem(in->data + from, in->len - from, text, len)) {
        from = in->len < len ? 0 : in->len - len + 1;
        if (!receive(fd, in))
            fail_msg("connection ended before \"%s\": %s", text, in->data ? in->data : "");
    }
}

static inline void receive_end(int fd, struct buf *in) {
    while (receive(fd, in)) {}
}

#endif
