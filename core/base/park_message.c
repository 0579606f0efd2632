/* Packets with a descriptor beside them (SCM_RIGHTS). A packet is one struct of fixed size, both
 * sides being the same program; anything else is refused. */
#include "core/base/park_message.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint32_t MAGIC = 0x31505749; /* "IWP1" */
static const int SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

union control {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
};

enum errc park_send(int socket, struct park_message *m, int fd, struct error *err) {
    m->magic = MAGIC;
    union control control = {0};
    struct iovec iov = {m, sizeof(*m)};
    struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd >= 0) {
        h.msg_control = control.bytes;
        h.msg_controllen = sizeof(control.bytes);
        struct cmsghdr *c = CMSG_FIRSTHDR(&h);
        *c = (struct cmsghdr){
            .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
        memcpy(CMSG_DATA(c), &fd, sizeof(fd));
    }
    ssize_t n;
    do
        n = sendmsg(socket, &h, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n < 0 ? err_errno(err, "send about parked weights") : OK;
}

/* The first descriptor that came; a packet carries one, others are closed. */
static int take_descriptor(struct msghdr *h) {
    int first = -1;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t at = 0; CMSG_LEN(at + sizeof(int)) <= c->cmsg_len; at += sizeof(int)) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + at, sizeof(fd));
            if (first < 0)
                first = fd;
            else
                close(fd);
        }
    }
    return first;
}

enum errc park_receive(int socket, struct park_message *ret_m, int *ret_fd, struct error *err) {
    union control control;
    struct iovec iov = {ret_m, sizeof(*ret_m)};
    struct msghdr h = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = sizeof(control.bytes)};
    ssize_t n;
    do
        n = recvmsg(socket, &h, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno != EAGAIN)
        return err_errno(err, "receive about parked weights");
    if (n <= 0)
        return err_set(err, ERR_UNAVAILABLE, "nobody speaks about parked weights");
    int fd = take_descriptor(&h);
    if (n != sizeof(*ret_m) || ret_m->magic != MAGIC || (h.msg_flags & MSG_TRUNC) ||
        ret_m->name[PARK_NAME_BYTES_MAX - 1]) {
        if (fd >= 0)
            close(fd);
        return err_set(err, ERR_MALFORMED, "parked weights: a packet of %zd bytes is not ours", n);
    }
    *ret_fd = fd;
    return OK;
}

bool park_is_sealed(int fd, uint64_t bytes) {
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    return seals >= 0 && (seals & SEALS) == SEALS && !fstat(fd, &st) &&
           (uint64_t)st.st_size == bytes;
}

enum errc park_seal(int fd, struct error *err) {
    return fcntl(fd, F_ADD_SEALS, SEALS) ? err_errno(err, "seal a memory file") : OK;
}
