/* The budget of a render.
 *
 * A template is a program from outside, so each of its resources has a bound: steps (time), arena
 * bytes (memory), text written, and depth of evaluation (our own C stack). Work that one node can
 * multiply, such as repeating a string or sorting a list, is charged by its size. */
#include "engine/jinja_run.h"

#include <stdio.h>

bool jinja_fail(struct jinja_run *run, enum errc code, const char *fmt, ...) {
    char text[ERROR_TEXT_BYTES_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    err_set(run->err, code, "line %u: %s", run->line, text);
    return false;
}

bool jinja_spend(struct jinja_run *run, uint64_t steps) {
    run->steps += steps;
    if (run->steps > JINJA_STEPS_MAX)
        return jinja_fail(run, ERR_EXHAUSTED, "the template runs longer than %d steps",
                          JINJA_STEPS_MAX);
    if (run->memory_bytes > JINJA_MEMORY_BYTES_MAX)
        return jinja_fail(run, ERR_EXHAUSTED, "the template needs more than %d bytes of memory",
                          JINJA_MEMORY_BYTES_MAX);
    return true;
}

bool jinja_enter(struct jinja_run *run) {
    if (run->depth >= JINJA_EVAL_DEPTH_MAX)
        return jinja_fail(run, ERR_EXHAUSTED, "evaluation nests deeper than %d",
                          JINJA_EVAL_DEPTH_MAX);
    run->depth++;
    return true;
}

/* The arena hands out multiples of 16 bytes. */
static size_t rounded(size_t bytes) {
    return (bytes + 15) & ~(size_t)15;
}

void *jinja_alloc_small(struct jinja_run *run, size_t bytes) {
    ASSERT(bytes <= JINJA_SMALL_BYTES_MAX);
    run->memory_bytes += rounded(bytes);
    return arena_alloc(run->arena, bytes);
}

void *jinja_alloc(struct jinja_run *run, size_t count, size_t bytes) {
    size_t total;
    if (__builtin_mul_overflow(count, bytes, &total) || total > JINJA_MEMORY_BYTES_MAX ||
        run->memory_bytes + total > JINJA_MEMORY_BYTES_MAX) {
        jinja_fail(run, ERR_EXHAUSTED, "the template needs more than %d bytes of memory",
                   JINJA_MEMORY_BYTES_MAX);
        return NULL;
    }
    if (!jinja_spend(run, total / JINJA_BYTES_PER_STEP))
        return NULL;
    run->memory_bytes += rounded(total);
    return arena_alloc(run->arena, total);
}

bool jinja_emit(struct jinja_run *run, const char *text, size_t len) {
    if (len > JINJA_OUTPUT_BYTES_MAX ||
        run->out->len - run->out_start + len > JINJA_OUTPUT_BYTES_MAX)
        return jinja_fail(run, ERR_EXHAUSTED, "the rendered text is longer than %d bytes",
                          JINJA_OUTPUT_BYTES_MAX);
    buf_append(run->out, text, len);
    return jinja_spend(run, len / JINJA_BYTES_PER_STEP);
}
