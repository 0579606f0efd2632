/* Logs. A line is built on the stack and leaves in one write(2), so lines of several threads never
 * mix and a full pipe stalls only the thread that logs. */
#include "core/base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static _Atomic int level_min = LOG_LEVEL_INFO;

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void log_set_level(enum log_level level) {
    atomic_store(&level_min, (int)level);
}

enum errc log_level_parse(const char *name, enum log_level *ret_level, struct error *err) {
    for (int i = 0; i <= LOG_LEVEL_ERROR; i++) {
        if (!strcmp(name, level_names[i])) {
            *ret_level = (enum log_level)i;
            return OK;
        }
    }
    return err_set(err, ERR_INVALID, "log level \"%s\": one of debug, info, warn, error", name);
}

void log_write(enum log_level level, const char *msg, const char *fmt, ...) {
    if ((int)level < atomic_load(&level_min))
        return;
    char line[LOG_LINE_BYTES_MAX];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct tm tm;
    gmtime_r(&now.tv_sec, &tm);
    size_t len = strftime(line, sizeof(line), "ts=%Y-%m-%dT%H:%M:%S", &tm);
    len += (size_t)snprintf(line + len, sizeof(line) - len, ".%03ldZ level=%s msg=\"%s\" ",
                            now.tv_nsec / 1000000, level_names[level], msg);
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(line + len, sizeof(line) - len, fmt, args);
    va_end(args);
    len += n > 0 ? (size_t)n : 0;
    if (len > sizeof(line) - 1)
        len = sizeof(line) - 1;
    line[len++] = '\n';
    for (size_t done = 0; done < len;) {
        ssize_t wrote = write(STDERR_FILENO, line + done, len - done);
        if (wrote <= 0)
            break; /* nowhere to tell */
        done += (size_t)wrote;
    }
}

const char *log_quote(struct log_quoted *q, const char *value) {
    size_t o = 0;
    q->text[o++] = '"';
    for (const char *s = value ? value : ""; *s && o < sizeof(q->text) - 3; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            q->text[o++] = '\\';
        q->text[o++] = c < 0x20 ? ' ' : *s;
    }
    q->text[o++] = '"';
    q->text[o] = '\0';
    return q->text;
}
