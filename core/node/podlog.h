/* Pod logs: what containers write to stdout and stderr, in rotating files, and readers over them.
 *
 * One thread drains all pipes. A line is stored as "RFC3339-NANO stdout|stderr F|P TEXT\n" (the CRI
 * log format; P marks a piece of a line longer than PODLOG_LINE_BYTES_MAX) in
 *   DIR/NAMESPACE_POD_UID/CONTAINER/RESTART.log (then RESTART.log.1, .2 ... when it rotates).
 * A container keeps its last two runs. Directories of pods that are gone are removed by
 * podlog_remove(), those of pods that went while nobody looked by podlog_sweep(). */
#ifndef CORE_NODE_PODLOG_H
#define CORE_NODE_PODLOG_H

#include "core/base/buf.h"

struct podlog;
struct podlog_reader;

enum { PODLOG_LINE_BYTES_MAX = 16 * 1024 };

struct podlog_options {
    const char *dir;
    uint64_t file_bytes_max;
    uint32_t num_files_max; /* per restart, the current one included */
};

/* Which container's output. All borrowed for the call. */
struct podlog_source {
    const char *ns, *pod, *uid, *container;
    uint32_t restart; /* restartCount: 0 for the first run */
};

MUST_CHECK enum errc podlog_create(const struct podlog_options *opt, struct podlog **ret_p,
                                   struct error *err);
void podlog_destroy(struct podlog *p); /* drains what is already in the pipes first */
DEFINE_AUTO(podlog, podlog_destroy)

/* Takes both pipe read ends (stderr may be -1). The source ends when both reach end of file. */
MUST_CHECK enum errc podlog_attach(struct podlog *p, const struct podlog_source *src, int stdout_fd,
                                   int stderr_fd, struct error *err);
void podlog_remove(struct podlog *p, const char *ns, const char *pod, const char *uid);
/* Removes the logs of every pod that is not there. No source may be live. */
typedef bool podlog_there_fn(void *user, const char *ns, const char *pod, const char *uid);
void podlog_sweep(struct podlog *p, podlog_there_fn *is_there, void *user);

/* The last lines of a source, at most `bytes_max`, for termination messages. */
void podlog_tail(struct podlog *p, const struct podlog_source *src, size_t bytes_max,
                 struct buf *out);

struct podlog_read_options {
    int64_t tail_lines;    /* -1: all */
    int64_t since_wall_ms; /* only later lines; 0: all */
    int64_t limit_bytes;   /* -1: none */
    bool timestamps;       /* prefix lines with their time */
    bool follow;           /* stay until the source ends */
};

/* ERR_NOT_FOUND: that run of the container has no log. */
MUST_CHECK enum errc podlog_reader_open(struct podlog *p, const struct podlog_source *src,
                                        const struct podlog_read_options *opt,
                                        struct podlog_reader **ret_r, struct error *err);
/* Appends up to about bytes_max of text, whole lines. True: there may be more, now or (follow)
 * later; false: the end. Never blocks. */
bool podlog_reader_next(struct podlog_reader *r, size_t bytes_max, struct buf *out);
/* fn is called from the podlog thread when a following reader has more (or has reached the end);
 * it must not block and must not call podlog. Not called after close returns. */
void podlog_reader_on_more(struct podlog_reader *r, void (*fn)(void *user), void *user);
void podlog_reader_close(struct podlog_reader *r);
DEFINE_AUTO(podlog_reader, podlog_reader_close)

#endif
