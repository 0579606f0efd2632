/* One render of one template: its arena, its budget and its error. Everything that can fail while a
 * template runs returns false after jinja_fail() has written the error; true means done. One render
 * belongs to one thread. */
#ifndef ENGINE_JINJA_RUN_H
#define ENGINE_JINJA_RUN_H

#include <jansson.h>

#include "core/base/buf.h"

/* Bounds of what a template may do. Templates come inside model files, so none of these trusts the
 * author; messages come from clients, so none of these trusts the reader either. */
enum {
    JINJA_STEPS_MAX = 20000000,         /* nodes evaluated, items and bytes walked */
    JINJA_OUTPUT_BYTES_MAX = 64 << 20,  /* the rendered text */
    JINJA_MEMORY_BYTES_MAX = 128 << 20, /* the arena of one render */
    JINJA_EVAL_DEPTH_MAX = 1000,        /* nested evaluation, macros calling macros included */
    JINJA_VALUE_DEPTH_MAX = 200,        /* lists in lists, when printed, compared or converted */
    JINJA_RANGE_ITEMS_MAX = 100000,     /* range(), as in Jinja's sandbox */
    JINJA_SMALL_BYTES_MAX = 4096,       /* what jinja_alloc_small() hands out */
    JINJA_BYTES_PER_STEP = 64,          /* bulk copies are charged one step for so many bytes */
};

struct jinja_value;
struct jinja_template;

struct jinja_run {
    const struct jinja_template *tmpl; /* borrowed for the render */
    const json_t *vars;                /* borrowed for the render */
    int64_t wall_ms;
    struct arena *arena;
    struct error *err;
    struct buf *out; /* macros and set blocks write here too and take their part back */
    size_t out_start;
    struct jinja_value *top; /* [symbol] variables of the outermost scope */
    uint32_t line;           /* where evaluation is, for error messages */
    uint32_t depth;
    uint64_t steps;
    size_t memory_bytes;
    char *grow_end; /* end of the youngest concatenation, which may grow in place */
    size_t grow_room;
};

/* Writes "line N: ..." as the error of the render; always false, so callers can return it. */
bool jinja_fail(struct jinja_run *run, enum errc code, const char *fmt, ...) PRINTF(3, 4);

/* Charges n steps; false when the budget of steps or of memory is used up. */
MUST_CHECK bool jinja_spend(struct jinja_run *run, uint64_t steps);

/* One level deeper; false at JINJA_EVAL_DEPTH_MAX. Leave with `run->depth--`. */
MUST_CHECK bool jinja_enter(struct jinja_run *run);

/* Arena, zeroed. The small one never fails: the next jinja_spend() notices the bound. The other is
 * for sizes that come from a template or a message; NULL after jinja_fail(ERR_EXHAUSTED). */
void *jinja_alloc_small(struct jinja_run *run, size_t bytes) __attribute__((returns_nonnull));
void *jinja_alloc(struct jinja_run *run, size_t count, size_t bytes) MUST_CHECK;

/* Appends to the rendered text, up to JINJA_OUTPUT_BYTES_MAX. */
MUST_CHECK bool jinja_emit(struct jinja_run *run, const char *text, size_t len);

#endif
