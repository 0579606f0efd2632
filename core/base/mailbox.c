/* A bounded queue of messages into one thread: a ring under a mutex that guards a few instructions
 * of memory. The eventfd is readable while there is a message: the first one writes it, taking the
 * last one reads it, so a burst costs two system calls and not two a message. */
#include "core/base/mailbox.h"

#include <pthread.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct mailbox {
    pthread_mutex_t lock;
    void **ring;
    size_t head, len, cap;
    bool closed;
    int fd;
};

struct mailbox *mailbox_create(size_t num_messages_max) {
    struct mailbox *m = mem_alloc(sizeof(*m));
    pthread_mutex_init(&m->lock, NULL);
    m->ring = mem_array(num_messages_max, sizeof(void *));
    m->cap = num_messages_max;
    m->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ASSERT(m->fd >= 0);
    return m;
}

void mailbox_destroy(struct mailbox *m) {
    if (!m)
        return;
    close(m->fd);
    pthread_mutex_destroy(&m->lock);
    free(m->ring);
    free(m);
}

static void wake(struct mailbox *m) {
    uint64_t one = 1;
    ssize_t n = write(m->fd, &one, sizeof(one));
    ASSERT(n == sizeof(one));
}

static void calm(struct mailbox *m) {
    uint64_t count;
    ssize_t n = read(m->fd, &count, sizeof(count));
    ASSERT(n == sizeof(count));
}

enum errc mailbox_send(struct mailbox *m, void *message) {
    enum errc rc = OK;
    pthread_mutex_lock(&m->lock);
    if (m->closed) {
        rc = ERR_UNAVAILABLE;
    } else if (m->len == m->cap) {
        rc = ERR_EXHAUSTED;
    } else {
        m->ring[(m->head + m->len) % m->cap] = message;
        m->len++;
        if (m->len == 1) /* under the lock: who takes it may destroy the mailbox */
            wake(m);
    }
    pthread_mutex_unlock(&m->lock);
    return rc;
}

void *mailbox_receive(struct mailbox *m, int timeout_ms) {
    for (;;) {
        void *message = NULL;
        pthread_mutex_lock(&m->lock);
        bool closed = m->closed;
        if (m->len) {
            message = m->ring[m->head];
            m->head = (m->head + 1) % m->cap;
            m->len--;
            if (!m->len && !closed)
                calm(m);
        }
        pthread_mutex_unlock(&m->lock);
        if (message || closed || !timeout_ms)
            return message;
        struct pollfd p = {.fd = m->fd, .events = POLLIN};
        if (poll(&p, 1, timeout_ms) == 0)
            timeout_ms = 0; /* one last look, then give up */
    }
}

void mailbox_close(struct mailbox *m) {
    pthread_mutex_lock(&m->lock);
    if (!m->closed) {
        m->closed = true;
        wake(m); /* what nobody reads: the fd stays readable */
    }
    pthread_mutex_unlock(&m->lock);
}

bool mailbox_closed(struct mailbox *m) {
    pthread_mutex_lock(&m->lock);
    bool closed = m->closed;
    pthread_mutex_unlock(&m->lock);
    return closed;
}

int mailbox_fd(struct mailbox *m) {
    return m->fd;
}
