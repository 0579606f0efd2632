/* One health question over a Unix socket. Of the answer the head is read: the status, and one
 * header. A head that is longer than there is room for is judged by what has come of it. */
#include "core/node/probe.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/base/memory_need.h"

void probe_init(struct probe *p) {
    *p = (struct probe){.fd = -1};
}

void probe_cancel(struct probe *p) {
    if (p->fd >= 0)
        close(p->fd);
    probe_init(p);
}

bool probe_start(struct probe *p, const char *uds_path, const char *http_path,
                 int64_t deadline_ms) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    probe_cancel(p);
    if (strlen(uds_path) >= sizeof(address.sun_path))
        return false;
    strcpy(address.sun_path, uds_path);
    p->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (p->fd < 0)
        return false;
    if (connect(p->fd, (struct sockaddr *)&address, sizeof(address)) && errno != EINPROGRESS) {
        probe_cancel(p); /* EAGAIN as well: its backlog is full, it is not healthy */
        return false;
    }
    p->question_len =
        (uint32_t)snprintf(p->question, sizeof(p->question),
                           "GET %.100s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: inferd-probe\r\n"
                           "Connection: close\r\n\r\n",
                           http_path);
    p->deadline_ms = deadline_ms;
    return true;
}

static enum probe_result finish(struct probe *p, enum probe_result result) {
    probe_cancel(p);
    return result;
}

/* The header's number; 0: it is not there, or none. */
static int64_t read_memory(const char *head) {
    static const char name[] = "\r\n" MEMORY_NEED_HEADER ": ";
    const char *at = strcasestr(head, name), *end = strstr(head, "\r\n\r\n");
    int64_t bytes = at && (!end || at < end) ? strtoll(at + strlen(name), NULL, 10) : 0;
    return bytes > 0 && bytes < INT64_MAX / 1000 ? bytes : 0;
}

/* "HTTP/1.x 200": twelve bytes decide. */
static enum probe_result judge(struct probe *p) {
    bool ok = p->num_answered >= 12 && !memcmp(p->answer, "HTTP/1.", 7) &&
              !memcmp(p->answer + 8, " 200", 4);
    int64_t memory_bytes = ok ? read_memory(p->answer) : 0;
    enum probe_result result = finish(p, ok ? PROBE_HEALTHY : PROBE_FAILED);
    p->memory_bytes = memory_bytes;
    return result;
}

enum probe_result probe_advance(struct probe *p, int64_t now_ms) {
    if (p->fd < 0)
        return PROBE_PENDING;
    while (p->num_asked < p->question_len) {
        ssize_t n =
            send(p->fd, p->question + p->num_asked, p->question_len - p->num_asked, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN)
            return finish(p, PROBE_FAILED);
        if (n < 0)
            break;
        p->num_asked += (uint32_t)n;
    }
    while (p->num_asked == p->question_len) {
        ssize_t n =
            recv(p->fd, p->answer + p->num_answered, PROBE_ANSWER_BYTES - p->num_answered, 0);
        if (n < 0 && errno == EAGAIN)
            break;
        if (n > 0)
            p->num_answered += (uint32_t)n;
        p->answer[p->num_answered] = '\0';
        if (n <= 0 || p->num_answered == PROBE_ANSWER_BYTES || strstr(p->answer, "\r\n\r\n"))
            return judge(p);
    }
    return now_ms >= p->deadline_ms ? finish(p, PROBE_FAILED) : PROBE_PENDING;
}
