/* Errors: the return value is the kind, struct error tells it to a human.
 *
 * Codes are neutral; each dialect maps them to its own status codes and reasons in one table
 * (kube-compat/status.c, api/openai_json.c). A message names the field path or file, the value and
 * the bound. `err` is never NULL; a function that succeeds leaves it alone. */
#ifndef CORE_BASE_ERROR_H
#define CORE_BASE_ERROR_H

#include <stdint.h>

#define MUST_CHECK         __attribute__((warn_unused_result))
#define PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))

enum errc {
    OK = 0,
    ERR_MALFORMED,       /* the bytes do not parse */
    ERR_INVALID,         /* they parse, and a value is wrong */
    ERR_UNAUTHENTICATED, /* who are you */
    ERR_FORBIDDEN,       /* not for you */
    ERR_NOT_FOUND,
    ERR_METHOD,      /* the resource exists, this verb does not */
    ERR_TOO_LARGE,   /* a body or a document above its bound */
    ERR_MEDIA_TYPE,  /* Content-Type that nobody here reads */
    ERR_EXISTS,      /* create of what is there */
    ERR_CONFLICT,    /* somebody else wrote first */
    ERR_GONE,        /* history older than what is kept */
    ERR_EXHAUSTED,   /* a queue, pool or budget is full */
    ERR_UNAVAILABLE, /* not now; maybe soon */
    ERR_TIMEOUT,
    ERR_CANCELLED, /* the caller left */
    ERR_IO,
    ERR_INTERNAL, /* our fault */
    ERRC_COUNT
};

enum { ERROR_TEXT_BYTES_MAX = 1024, ERROR_FIELD_BYTES_MAX = 160 };

struct error {
    enum errc code;
    uint32_t retry_after_seconds;      /* > 0: worth a Retry-After header */
    char field[ERROR_FIELD_BYTES_MAX]; /* field path or parameter at fault, or "" */
    char text[ERROR_TEXT_BYTES_MAX];   /* always terminated, cut at the bound, always valid UTF-8 */
};

#define ERROR_INIT ((struct error){.code = OK})

/* Sets code and text, clears the field; returns code so that callers can `return err_set(...)`. */
enum errc err_set(struct error *err, enum errc code, const char *fmt, ...) PRINTF(3, 4);

/* As err_set, and names the field at fault: "spec.predictor.minReplicas", "temperature". */
enum errc err_field(struct error *err, enum errc code, const char *field, const char *fmt, ...)
    PRINTF(4, 5);

/* Puts "context: " before the text that is there; returns the code that is there. */
enum errc err_wrap(struct error *err, const char *fmt, ...) PRINTF(2, 3);

/* As err_set(ERR_IO) with ": strerror(errno)" behind the text. */
enum errc err_errno(struct error *err, const char *fmt, ...) PRINTF(2, 3);

const char *errc_name(enum errc code); /* "NOT_FOUND" */

/* A broken invariant: prints the expression and place, aborts. Kept in release builds. */
#define ASSERT(expr) ((expr) ? (void)0 : assert_failed(#expr, __FILE__, __LINE__))
_Noreturn void assert_failed(const char *expr, const char *file, int line);

#endif
