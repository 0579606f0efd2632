/* inotify, of one folder. Events that the kernel had to drop are not missed: who watches also asks
 * from time to time. */
#include "core/node/socket_watch.h"

#include <errno.h>
#include <sys/inotify.h>
#include <unistd.h>

enum { EVENTS_BYTES = 16 * (sizeof(struct inotify_event) + NAME_MAX + 1) };

enum errc socket_watch_open(const char *dir, int *ret_fd, struct error *err) {
    int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (fd < 0)
        return err_errno(err, "watch folder %s", dir);
    if (inotify_add_watch(fd, dir, IN_CREATE | IN_MOVED_TO | IN_ONLYDIR) < 0) {
        enum errc rc = err_errno(err, "watch folder %s", dir);
        close(fd);
        return rc;
    }
    *ret_fd = fd;
    return OK;
}

void socket_watch_read(int fd, void (*fn)(void *user, const char *name), void *user) {
    _Alignas(struct inotify_event) char events[EVENTS_BYTES];
    ssize_t n;
    while ((n = read(fd, events, sizeof(events))) > 0) {
        for (ssize_t at = 0; at < n;) {
            const struct inotify_event *e = (const void *)(events + at);
            if (e->len)
                fn(user, e->name);
            at += (ssize_t)sizeof(*e) + e->len;
        }
    }
}
