/* One thread between the requests and the disk.
 *
 * Lines come through a mailbox, bounded in number and in bytes, and are written in batches. A line
 * that the disk takes only half is cut off again, so that every line of the file is whole. Before a
 * line that would pass the file's bound the files move: audit.log.1 becomes .2, audit.log becomes
 * .1, and what is beyond files_max or older than days_max goes. A rotation that fails (somebody has
 * made the folder read-only) is tried with the next line; the file grows meanwhile, because a long
 * audit log is better than none. */
#include "kube-compat/audit_log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/mailbox.h"

enum { PATH_BYTES = 4200, BATCH_BYTES = 256 << 10, LOSS_LOG_MS = 60000, SECONDS_PER_DAY = 86400 };

static const struct metric_family WRITTEN = {
    .type = METRIC_COUNTER,
    .name = "apiserver_audit_event_total",
    .help = "Audit events written to the log.",
};
static const struct metric_family LOST = {
    .type = METRIC_COUNTER,
    .name = "apiserver_audit_error_total",
    .help = "Audit events lost: the queue was full (reason=queue) or the disk refused (disk).",
    .labels = {"reason"},
};

struct line {
    size_t len;
    char *text;
};

struct audit_log {
    char *path;
    int64_t file_bytes_max, files_max, days_max;
    struct mailbox *mailbox;
    atomic_size_t bytes_waiting;
    pthread_t thread;
    bool thread_started;
    struct metric *written, *lost_queue, *lost_disk;
    int fd; /* -1: could not be opened; tried again with the next line */
    int64_t size;
    int64_t next_loss_log_ms;
};

/* ---- the file ---- */

static enum errc open_file(struct audit_log *log, struct error *err) {
    struct stat st;
    log->fd = open(log->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log->fd < 0 || fstat(log->fd, &st) < 0)
        return err_errno(err, "open %s", log->path);
    log->size = st.st_size;
    return OK;
}

static void numbered(const struct audit_log *log, int64_t number, char *out, size_t room) {
    snprintf(out, room, "%s.%lld", log->path, (long long)number);
}

/* Numbers have no holes, so the first that is missing ends the walk. */
static void drop_old(struct audit_log *log, int64_t now_seconds) {
    char file[PATH_BYTES];
    struct stat st;
    for (int64_t i = 1;; i++) {
        numbered(log, i, file, sizeof(file));
        if (stat(file, &st))
            return;
        bool old = log->days_max && st.st_mtime < now_seconds - log->days_max * SECONDS_PER_DAY;
        if (i > log->files_max || old)
            unlink(file);
    }
}

static void rotate(struct audit_log *log) {
    char from[PATH_BYTES], to[PATH_BYTES];
    int64_t last = 1;
    for (; last <= log->files_max; last++) {
        numbered(log, last, from, sizeof(from));
        if (access(from, F_OK))
            break;
    }
    for (int64_t i = last; i > 1; i--) {
        numbered(log, i - 1, from, sizeof(from));
        numbered(log, i, to, sizeof(to));
        rename(from, to);
    }
    numbered(log, 1, to, sizeof(to));
    if (rename(log->path, to))
        return; /* the file grows on */
    close(log->fd);
    log->fd = -1;
    drop_old(log, clock_wall_ms() / 1000);
}

/* ---- the thread ---- */

static void lose(struct audit_log *log, size_t num_lines, const char *why) {
    int64_t now_ms = clock_mono_ms();
    metric_add(log->lost_disk, (double)num_lines);
    if (now_ms < log->next_loss_log_ms)
        return;
    struct log_quoted q;
    log->next_loss_log_ms = now_ms + LOSS_LOG_MS;
    log_error("audit lines lost, requests go on", "file=%s num_lines=%zu error=%s", log->path,
              num_lines, log_quote(&q, why));
}

/* Whole or not at all. */
static void write_batch(struct audit_log *log, const struct buf *batch, size_t num_lines) {
    struct error err = ERROR_INIT;
    if (!num_lines)
        return;
    if (log->fd < 0 && open_file(log, &err)) {
        lose(log, num_lines, err.text);
        return;
    }
    ssize_t n = write(log->fd, batch->data, batch->len);
    if (n == (ssize_t)batch->len) {
        log->size += n;
        metric_add(log->written, (double)num_lines);
        return;
    }
    err_errno(&err, "write");
    if (n > 0 && ftruncate(log->fd, log->size))
        log->size += n; /* half a line stands there; readers skip it */
    lose(log, num_lines, n < 0 ? err.text : "no space left on the disk");
}

static void *run(void *user) {
    struct audit_log *log = user;
    AUTO_BUF batch = BUF_INIT;
    pthread_setname_np(pthread_self(), "audit");
    for (;;) {
        struct line *line = mailbox_receive(log->mailbox, AUDIT_ROTATE_CHECK_SECONDS * 1000);
        if (!line && mailbox_closed(log->mailbox))
            return NULL;
        if (!line)
            drop_old(log, clock_wall_ms() / 1000);
        size_t num_lines = 0;
        buf_clear(&batch);
        for (; line; line = mailbox_receive(log->mailbox, 0)) {
            int64_t size = log->size + (int64_t)(batch.len + line->len);
            bool full =
                log->fd >= 0 && size > log->file_bytes_max && log->size + (int64_t)batch.len;
            if (full || batch.len + line->len > BATCH_BYTES) {
                write_batch(log, &batch, num_lines);
                buf_clear(&batch);
                num_lines = 0;
            }
            if (full)
                rotate(log);
            if (log->fd < 0) {
                struct error ignored = ERROR_INIT; /* write_batch() tells */
                if (open_file(log, &ignored))
                    log->size = 0;
            }
            buf_append(&batch, line->text, line->len);
            num_lines++;
            atomic_fetch_sub(&log->bytes_waiting, line->len);
            free(line->text);
            free(line);
        }
        write_batch(log, &batch, num_lines);
    }
}

/* ---- public ---- */

void audit_log_write(struct audit_log *log, char *text, size_t len) {
    struct line *line = mem_alloc(sizeof(*line));
    *line = (struct line){.len = len, .text = text};
    bool room = atomic_fetch_add(&log->bytes_waiting, len) + len <= AUDIT_BYTES_WAITING_MAX;
    if (room && !mailbox_send(log->mailbox, line))
        return;
    atomic_fetch_sub(&log->bytes_waiting, len);
    metric_add(log->lost_queue, 1);
    free(text);
    free(line);
}

/* The folder of the file. */
static enum errc make_folder(const char *path, struct error *err) {
    const char *slash = strrchr(path, '/');
    AUTO_FREE char *folder =
        slash && slash > path ? mem_strndup(path, (size_t)(slash - path)) : mem_strdup(".");
    return mkdir(folder, 0700) && errno != EEXIST ? err_errno(err, "make folder %s", folder) : OK;
}

enum errc audit_log_open(const struct audit_log_options *opt, struct audit_log **ret_log,
                         struct error *err) {
    static const char *const queue[] = {"queue"}, *const disk[] = {"disk"};
    AUTO(audit_log) log = mem_alloc(sizeof(*log));
    log->path = mem_strdup(opt->path);
    log->file_bytes_max = opt->file_bytes_max;
    log->files_max = opt->files_max;
    log->days_max = opt->days_max;
    log->written = metrics_get(opt->metrics, &WRITTEN, NULL);
    log->lost_queue = metrics_get(opt->metrics, &LOST, queue);
    log->lost_disk = metrics_get(opt->metrics, &LOST, disk);
    log->mailbox = mailbox_create(AUDIT_LINES_WAITING_MAX);
    log->fd = -1;
    if (make_folder(opt->path, err) || open_file(log, err))
        return err->code;
    drop_old(log, clock_wall_ms() / 1000);
    errno = pthread_create(&log->thread, NULL, run, log);
    if (errno)
        return err_errno(err, "start the audit thread");
    log->thread_started = true;
    *ret_log = steal(log);
    return OK;
}

void audit_log_close(struct audit_log *log) {
    if (!log)
        return;
    if (log->thread_started) {
        mailbox_close(log->mailbox);
        pthread_join(log->thread, NULL);
    }
    if (log->fd >= 0)
        close(log->fd);
    mailbox_destroy(log->mailbox);
    free(log->path);
    free(log);
}
