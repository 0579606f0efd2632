/* Errors. See error.h for the contract; the only subtlety here is that a text must be valid
 * UTF-8, because it is copied into JSON bodies as it is. */
#include "core/base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/utf8.h"

/* Messages quote what users sent, cut at some byte: what is not UTF-8 becomes '?'. */
static void mend_utf8(char *text) {
    for (char *p = text; *p;) {
        size_t len = utf8_character(p, SIZE_MAX);
        if (!len)
            *p = '?';
        p += len ? len : 1;
    }
}

static void format(struct error *err, const char *fmt, va_list args) {
    vsnprintf(err->text, sizeof(err->text), fmt, args);
    mend_utf8(err->text);
}

enum errc err_set(struct error *err, enum errc code, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    err->code = code;
    err->retry_after_seconds = 0;
    err->field[0] = '\0';
    format(err, fmt, args);
    va_end(args);
    return code;
}

enum errc err_field(struct error *err, enum errc code, const char *field, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    err->code = code;
    err->retry_after_seconds = 0;
    snprintf(err->field, sizeof(err->field), "%s", field);
    mend_utf8(err->field);
    format(err, fmt, args);
    va_end(args);
    return code;
}

enum errc err_wrap(struct error *err, const char *fmt, ...) {
    char was[ERROR_TEXT_BYTES_MAX];
    memcpy(was, err->text, sizeof(was));
    va_list args;
    va_start(args, fmt);
    vsnprintf(err->text, sizeof(err->text), fmt, args);
    va_end(args);
    size_t len = strlen(err->text);
    snprintf(err->text + len, sizeof(err->text) - len, ": %s", was);
    mend_utf8(err->text);
    return err->code;
}

enum errc err_errno(struct error *err, const char *fmt, ...) {
    int saved = errno;
    va_list args;
    va_start(args, fmt);
    err->code = ERR_IO;
    err->retry_after_seconds = 0;
    err->field[0] = '\0';
    format(err, fmt, args);
    va_end(args);
    size_t len = strlen(err->text);
    snprintf(err->text + len, sizeof(err->text) - len, ": %s", strerror(saved));
    return ERR_IO;
}

const char *errc_name(enum errc code) {
    static const char *const names[ERRC_COUNT] = {
        [OK] = "OK",
        [ERR_MALFORMED] = "MALFORMED",
        [ERR_INVALID] = "INVALID",
        [ERR_UNAUTHENTICATED] = "UNAUTHENTICATED",
        [ERR_FORBIDDEN] = "FORBIDDEN",
        [ERR_NOT_FOUND] = "NOT_FOUND",
        [ERR_METHOD] = "METHOD",
        [ERR_TOO_LARGE] = "TOO_LARGE",
        [ERR_MEDIA_TYPE] = "MEDIA_TYPE",
        [ERR_EXISTS] = "EXISTS",
        [ERR_CONFLICT] = "CONFLICT",
        [ERR_GONE] = "GONE",
        [ERR_EXHAUSTED] = "EXHAUSTED",
        [ERR_UNAVAILABLE] = "UNAVAILABLE",
        [ERR_TIMEOUT] = "TIMEOUT",
        [ERR_CANCELLED] = "CANCELLED",
        [ERR_IO] = "IO",
        [ERR_INTERNAL] = "INTERNAL",
    };
    return (unsigned)code < ERRC_COUNT ? names[code] : "UNKNOWN";
}

_Noreturn void assert_failed(const char *expr, const char *file, int line) {
    fprintf(stderr, "%s:%d: broken invariant: %s\n", file, line, expr);
    abort();
}
