/* Logs: one line an event on stderr, logfmt: a constant message, then pairs.
 *     log_info("request preempted", "request=%s free_blocks=%u", id, n);
 * Libraries return errors silently; the loop that handles an error logs it once. error: someone
 * must act; warn: going on, and how; info: state changes; debug: steps. Never prompts, completions
 * or secrets. Values that may hold spaces or quotes go through log_quote(). */
#ifndef CORE_BASE_LOG_H
#define CORE_BASE_LOG_H

#include <stddef.h>

#include "core/base/error.h"

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };

void log_set_level(enum log_level level); /* default info */
MUST_CHECK enum errc log_level_parse(const char *name, enum log_level *ret_level,
                                     struct error *err);

/* Writes one line, at most LOG_LINE_BYTES_MAX, with one write(2). Thread-safe. */
void log_write(enum log_level level, const char *msg, const char *fmt, ...) PRINTF(3, 4);

#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(...)  log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)

enum { LOG_LINE_BYTES_MAX = 4096, LOG_QUOTE_BYTES_MAX = 1200 };

/* Quotes a value for logfmt into the caller's buffer and returns it: log_quote(b, err.text). */
struct log_quoted {
    char text[LOG_QUOTE_BYTES_MAX];
};
const char *log_quote(struct log_quoted *q, const char *value);

#endif
