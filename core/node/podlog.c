/* Pod logs: one thread between the pipes of all containers and their files.
 *
 * Writing. A container's stdout and stderr are pipes; the podlog thread reads them as they become
 * readable, cuts lines, stamps each with the time it was read, and appends
 * "TIME STREAM F|P TEXT" to the source's file. When a file reaches its bound it becomes FILE.1, .1
 * becomes .2, and the last one goes. A full disk costs log lines, never the container.
 *
 * Reading. Readers open the same files with their own descriptors (podlog_reader.c) and are told by
 * the thread when there is more. The order that makes following safe: a reader loads `ended` first
 * and reads then, the thread writes first and sets `ended` then.
 *
 * `lock` guards the list of live sources, their readers, and is held while readers are notified, so
 * that after podlog_reader_close() no notification can run. A source is freed under it, by whoever
 * comes last: the thread at the end of the pipes, or the last reader after that. */
#include "core/node/podlog.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/node/podlog_file.h"

enum { READ_BYTES = 64 * 1024, EVENTS_MAX = 64, DROP_LOG_INTERVAL_MS = 60000 };

struct pipe_end {
    struct source *source;
    const char *stream; /* "stdout" */
    int fd;             /* -1: at its end */
    struct buf partial; /* a line without its end yet */
};

struct source {
    struct source *next;
    char *path; /* of the current file */
    char *dir;  /* the container's */
    struct pipe_end ends[2];
    int file;
    uint64_t file_bytes;
    int64_t dropped_logged_ms;
    atomic_bool ended;
    struct podlog_reader *readers;
};

struct podlog {
    char *dir;
    uint64_t file_bytes_max;
    uint32_t num_files_max;
    int epoll_fd, stop_fd;
    pthread_t thread;
    pthread_mutex_t lock;
    struct source *sources;
};

char *podlog_file_path(const char *dir, const struct podlog_source *src) {
    return mem_printf("%s/%s_%s_%s/%s/%u.log", dir, src->ns, src->pod, src->uid, src->container,
                      src->restart);
}

const char *podlog_dir(const struct podlog *p) {
    return p->dir;
}

static enum errc make_dirs(char *path, struct error *err) {
    for (char *s = path + 1; (s = strchr(s, '/')); s++) {
        *s = '\0';
        int rc = mkdir(path, 0750);
        int saved = errno;
        *s = '/';
        if (rc && saved != EEXIST) {
            errno = saved;
            return err_errno(err, "make folder for log %s", path);
        }
    }
    return OK;
}

static void rotate(struct podlog *p, struct source *s) {
    close(s->file);
    for (uint32_t i = p->num_files_max; i-- > 1;) {
        AUTO_FREE char *from = i > 1 ? mem_printf("%s.%u", s->path, i - 1) : mem_strdup(s->path);
        AUTO_FREE char *to = mem_printf("%s.%u", s->path, i);
        rename(from, to); /* a missing one in the chain is fine */
    }
    int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | (p->num_files_max == 1 ? O_TRUNC : 0);
    s->file = open(s->path, flags, 0640);
    s->file_bytes = 0;
}

static void write_record(struct podlog *p, struct source *s, const char *stream, char tag,
                         const char *text, size_t len) {
    if (s->file_bytes >= p->file_bytes_max)
        rotate(p, s);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct tm tm;
    gmtime_r(&now.tv_sec, &tm);
    char head[64];
    size_t n = strftime(head, sizeof(head), "%Y-%m-%dT%H:%M:%S", &tm);
    n += (size_t)snprintf(head + n, sizeof(head) - n, ".%09ldZ %s %c ", now.tv_nsec, stream, tag);
    AUTO_BUF line = BUF_INIT;
    buf_append(&line, head, n);
    buf_append(&line, text, len);
    buf_putc(&line, '\n');
    ssize_t wrote = s->file < 0 ? -1 : write(s->file, line.data, line.len);
    if (wrote == (ssize_t)line.len) {
        s->file_bytes += line.len;
    } else if (clock_mono_ms() - s->dropped_logged_ms > DROP_LOG_INTERVAL_MS) {
        s->dropped_logged_ms = clock_mono_ms();
        log_warn("pod log line dropped", "file=%s error=\"%s\"", s->path, strerror(errno));
    }
}

static void cut_lines(struct podlog *p, struct pipe_end *end) {
    const char *data = end->partial.data;
    size_t left = end->partial.len;
    for (;;) {
        const char *newline = memchr(data, '\n', left);
        size_t len = newline ? (size_t)(newline - data) : left;
        if (len > PODLOG_LINE_BYTES_MAX) {
            write_record(p, end->source, end->stream, 'P', data, PODLOG_LINE_BYTES_MAX);
            data += PODLOG_LINE_BYTES_MAX;
            left -= PODLOG_LINE_BYTES_MAX;
            continue;
        }
        if (!newline)
            break;
        write_record(p, end->source, end->stream, 'F', data, len);
        data += len + 1;
        left -= len + 1;
    }
    buf_consume(&end->partial, end->partial.len - left);
}

/* Under the lock. */
static void notify_readers(struct source *s) {
    for (struct podlog_reader *r = s->readers; r; r = podlog_reader_link(r)->next)
        podlog_reader_notify(r);
}

static void source_destroy(struct source *s) {
    if (s->file >= 0)
        close(s->file);
    for (int i = 0; i < 2; i++) {
        if (s->ends[i].fd >= 0)
            close(s->ends[i].fd);
        buf_deinit(&s->ends[i].partial);
    }
    free(s->path);
    free(s->dir);
    free(s);
}

/* Under the lock: an ended source without readers has no more use. */
static void forget_if_done(struct podlog *p, struct source *s) {
    if (!atomic_load(&s->ended) || s->readers)
        return;
    for (struct source **at = &p->sources; *at; at = &(*at)->next) {
        if (*at == s) {
            *at = s->next;
            source_destroy(s);
            return;
        }
    }
}

static void end_of_pipe(struct podlog *p, struct pipe_end *end) {
    struct source *s = end->source;
    if (end->partial.len)
        write_record(p, s, end->stream, 'F', end->partial.data, end->partial.len);
    epoll_ctl(p->epoll_fd, EPOLL_CTL_DEL, end->fd, NULL);
    close(end->fd);
    end->fd = -1;
    if (s->ends[0].fd >= 0 || s->ends[1].fd >= 0)
        return;
    /* One critical section: a reader that sees `ended` may close at once, and the last one to close
     * frees the source. */
    pthread_mutex_lock(&p->lock);
    atomic_store(&s->ended, true);
    notify_readers(s);
    forget_if_done(p, s);
    pthread_mutex_unlock(&p->lock);
}

/* Reads what is there; false when the pipe has ended. */
static bool drain_pipe(struct podlog *p, struct pipe_end *end) {
    bool wrote = false, open = true;
    for (int round = 0; round < 16; round++) { /* then others get their turn */
        buf_reserve(&end->partial, READ_BYTES);
        ssize_t n = read(end->fd, end->partial.data + end->partial.len, READ_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            open = n < 0 && errno == EAGAIN;
            break;
        }
        end->partial.len += (size_t)n;
        end->partial.data[end->partial.len] = '\0';
        cut_lines(p, end);
        wrote = true;
    }
    if (wrote) {
        pthread_mutex_lock(&p->lock);
        notify_readers(end->source);
        pthread_mutex_unlock(&p->lock);
    }
    return open;
}

static void *podlog_main(void *arg) {
    struct podlog *p = arg;
    pthread_setname_np(pthread_self(), "podlog");
    for (bool stop = false; !stop;) {
        struct epoll_event events[EVENTS_MAX];
        int n = epoll_wait(p->epoll_fd, events, EVENTS_MAX, -1);
        for (int i = 0; i < n; i++) {
            struct pipe_end *end = events[i].data.ptr;
            if (!end)
                stop = true;
            else if (!drain_pipe(p, end))
                end_of_pipe(p, end);
        }
    }
    return NULL;
}

enum errc podlog_create(const struct podlog_options *opt, struct podlog **ret_p,
                        struct error *err) {
    if (mkdir(opt->dir, 0750) && errno != EEXIST)
        return err_errno(err, "make folder %s", opt->dir);
    struct podlog *p = mem_alloc(sizeof(*p));
    p->dir = mem_strdup(opt->dir);
    p->file_bytes_max = opt->file_bytes_max;
    p->num_files_max = opt->num_files_max;
    pthread_mutex_init(&p->lock, NULL);
    p->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    p->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ASSERT(p->epoll_fd >= 0 && p->stop_fd >= 0);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, p->stop_fd, &event);
    int rc = pthread_create(&p->thread, NULL, podlog_main, p);
    ASSERT(!rc);
    *ret_p = p;
    return OK;
}

void podlog_destroy(struct podlog *p) {
    if (!p)
        return;
    uint64_t one = 1;
    ssize_t n = write(p->stop_fd, &one, sizeof(one));
    ASSERT(n == sizeof(one));
    pthread_join(p->thread, NULL);
    while (p->sources) {
        struct source *s = p->sources;
        p->sources = s->next;
        ASSERT(!s->readers);
        for (int i = 0; i < 2; i++) {
            if (s->ends[i].fd >= 0)
                drain_pipe(p, &s->ends[i]);
        }
        source_destroy(s);
    }
    close(p->epoll_fd);
    close(p->stop_fd);
    pthread_mutex_destroy(&p->lock);
    free(p->dir);
    free(p);
}

static void watch_pipe(struct podlog *p, struct pipe_end *end) {
    if (end->fd < 0)
        return;
    fcntl(end->fd, F_SETFL, fcntl(end->fd, F_GETFL) | O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = end};
    epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, end->fd, &event);
}

/* Only the run that begins and the one before it can be asked for. */
static void remove_old_runs(const char *path, uint32_t restart) {
    AUTO_FREE char *dir = mem_strndup(path, (size_t)(strrchr(path, '/') - path));
    DIR *d = opendir(dir);
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));) {
        char *end;
        unsigned long run = strtoul(e->d_name, &end, 10);
        if (end != e->d_name && *end == '.' && run + 1 < restart)
            unlinkat(dirfd(d), e->d_name, 0);
    }
    closedir(d);
}

enum errc podlog_attach(struct podlog *p, const struct podlog_source *src, int stdout_fd,
                        int stderr_fd, struct error *err) {
    struct source *s = mem_alloc(sizeof(*s));
    s->path = podlog_file_path(p->dir, src);
    s->ends[0] = (struct pipe_end){.source = s, .stream = "stdout", .fd = stdout_fd};
    s->ends[1] = (struct pipe_end){.source = s, .stream = "stderr", .fd = stderr_fd};
    s->file = -1;
    s->dropped_logged_ms = INT64_MIN / 2;
    enum errc rc = make_dirs(s->path, err);
    if (!rc) {
        s->file = open(s->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
        if (s->file < 0)
            rc = err_errno(err, "open log %s", s->path);
    }
    if (rc) {
        source_destroy(s);
        return rc;
    }
    remove_old_runs(s->path, src->restart);
    struct stat st;
    s->file_bytes = !fstat(s->file, &st) ? (uint64_t)st.st_size : 0;
    pthread_mutex_lock(&p->lock);
    s->next = p->sources;
    p->sources = s;
    watch_pipe(p, &s->ends[0]);
    watch_pipe(p, &s->ends[1]);
    pthread_mutex_unlock(&p->lock);
    return OK;
}

static void remove_tree(const char *path) {
    DIR *d = opendir(path);
    if (!d) {
        unlink(path);
        return;
    }
    for (struct dirent *e; (e = readdir(d));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        AUTO_FREE char *child = mem_printf("%s/%s", path, e->d_name);
        if (e->d_type == DT_DIR)
            remove_tree(child);
        else
            unlink(child);
    }
    closedir(d);
    rmdir(path);
}

void podlog_remove(struct podlog *p, const char *ns, const char *pod, const char *uid) {
    AUTO_FREE char *path = mem_printf("%s/%s_%s_%s", p->dir, ns, pod, uid);
    remove_tree(path);
}

void podlog_sweep(struct podlog *p, podlog_there_fn *is_there, void *user) {
    DIR *d = opendir(p->dir);
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));) {
        AUTO_FREE char *name =
            mem_strdup(e->d_name); /* NAMESPACE_POD_UID, none of which has a '_' */
        AUTO_FREE char *path = mem_printf("%s/%s", p->dir, e->d_name);
        char *pod = strchr(name, '_'), *uid = pod ? strchr(pod + 1, '_') : NULL;
        if (!uid || strchr(uid + 1, '_'))
            continue; /* not one of ours */
        *pod++ = *uid++ = '\0';
        if (!is_there(user, name, pod, uid))
            remove_tree(path);
    }
    closedir(d);
}

void podlog_link_reader(struct podlog *p, const char *path, struct podlog_reader *r) {
    pthread_mutex_lock(&p->lock);
    for (struct source *s = p->sources; s; s = s->next) {
        if (strcmp(s->path, path) != 0)
            continue;
        struct podlog_reader_link *link = podlog_reader_link(r);
        link->source = s;
        link->next = s->readers;
        s->readers = r;
        break;
    }
    pthread_mutex_unlock(&p->lock);
}

void podlog_unlink_reader(struct podlog *p, struct podlog_reader *r) {
    struct podlog_reader_link *link = podlog_reader_link(r);
    if (!link->source)
        return;
    pthread_mutex_lock(&p->lock);
    struct source *s = link->source;
    struct podlog_reader **at = &s->readers;
    while (*at != r)
        at = &podlog_reader_link(*at)->next;
    *at = link->next;
    forget_if_done(p, s);
    pthread_mutex_unlock(&p->lock);
}

void podlog_lock(struct podlog *p) {
    pthread_mutex_lock(&p->lock);
}

void podlog_unlock(struct podlog *p) {
    pthread_mutex_unlock(&p->lock);
}

bool podlog_source_ended(const struct source *s) {
    return atomic_load(&((struct source *)s)->ended);
}
