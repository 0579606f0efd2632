/* What the autoscalers decided lately and from what: lines of logfmt in memory, for an operator who
 * asks why (GET /debug/autoscaler of the Kubernetes port). Any thread. Lost with the daemon;
 * changes are in its log, and Events, as well. */
#ifndef CORE_DECISION_LOG_H
#define CORE_DECISION_LOG_H

#include "core/base/buf.h"

enum {
    DECISION_LOG_LINES_MAX = 4096,     /* the oldest make room */
    DECISION_LOG_LINE_BYTES_MAX = 768, /* longer ones are cut */
};

struct decision_log;

struct decision_log *decision_log_create(void);
void decision_log_destroy(struct decision_log *l);
DEFINE_AUTO(decision_log, decision_log_destroy)

/* One line, with ts= before it. NULL is fine: nobody keeps them. */
void decision_log_add(struct decision_log *l, int64_t wall_ms, const char *fmt, ...) PRINTF(3, 4);
/* Appends all, oldest first. */
void decision_log_write(struct decision_log *l, struct buf *out);

#endif
