/* A ring of lines under a lock that is held for a pointer, or for copying them out. */
#include "core/decision_log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

#include "core/base/clock.h"

struct decision_log {
    pthread_mutex_t lock;
    char *lines[DECISION_LOG_LINES_MAX];
    size_t next; /* where the next one goes */
};

struct decision_log *decision_log_create(void) {
    struct decision_log *l = mem_alloc(sizeof(*l));
    pthread_mutex_init(&l->lock, NULL);
    return l;
}

void decision_log_destroy(struct decision_log *l) {
    if (!l)
        return;
    for (size_t i = 0; i < DECISION_LOG_LINES_MAX; i++)
        free(l->lines[i]);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

void decision_log_add(struct decision_log *l, int64_t wall_ms, const char *fmt, ...) {
    char line[DECISION_LOG_LINE_BYTES_MAX], at[CLOCK_RFC3339_BYTES];
    va_list args;
    if (!l)
        return;
    int len = snprintf(line, sizeof(line), "ts=%s ", clock_rfc3339(wall_ms, at));
    va_start(args, fmt);
    vsnprintf(line + len, sizeof(line) - (size_t)len, fmt, args);
    va_end(args);
    char *kept = mem_strdup(line);
    pthread_mutex_lock(&l->lock);
    char *was = l->lines[l->next];
    l->lines[l->next] = kept;
    l->next = (l->next + 1) % DECISION_LOG_LINES_MAX;
    pthread_mutex_unlock(&l->lock);
    free(was);
}

void decision_log_write(struct decision_log *l, struct buf *out) {
    pthread_mutex_lock(&l->lock);
    for (size_t i = 0; i < DECISION_LOG_LINES_MAX; i++) {
        const char *line = l->lines[(l->next + i) % DECISION_LOG_LINES_MAX];
        if (line) {
            buf_puts(out, line);
            buf_putc(out, '\n');
        }
    }
    pthread_mutex_unlock(&l->lock);
}
