/* The audit log's file: one thread writes lines and rotates; request threads only hand them over.
 * What does not fit into the queue or onto the disk is lost and counted: it costs no request. */
#ifndef KUBE_COMPAT_AUDIT_LOG_H
#define KUBE_COMPAT_AUDIT_LOG_H

#include "core/base/mem.h"
#include "core/base/metrics.h"

struct audit_log;

enum {
    AUDIT_LINES_WAITING_MAX = 8192,
    AUDIT_BYTES_WAITING_MAX = 64 << 20,
    AUDIT_ROTATE_CHECK_SECONDS = 3600, /* for the age of old files, when nothing is written */
};

struct audit_log_options {
    const char *path; /* "DIR/audit.log"; rotated to audit.log.1, .2, ...; folder made 0700 */
    int64_t file_bytes_max;
    int64_t files_max;       /* rotated ones that are kept, beside the current one */
    int64_t days_max;        /* rotated ones older than this go; 0: never for their age */
    struct metrics *metrics; /* borrowed; counts lines written and lost */
};
MUST_CHECK enum errc audit_log_open(const struct audit_log_options *opt, struct audit_log **ret_log,
                                    struct error *err);
void audit_log_close(struct audit_log *log); /* what waits is written first */
DEFINE_AUTO(audit_log, audit_log_close)

/* Takes a line of `len` bytes with its newline. Never blocks; any thread. */
void audit_log_write(struct audit_log *log, char *line, size_t len);

#endif
