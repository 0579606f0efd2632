/* Memory: allocation that cannot fail, arenas, and release at the end of a scope.
 *
 * Small allocations abort when the machine has no memory left. Sizes that come from users or models
 * go through mem_try_alloc(), and the caller returns ERR_EXHAUSTED. */
#ifndef CORE_BASE_MEM_H
#define CORE_BASE_MEM_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/error.h"

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

void *mem_alloc(size_t bytes) __attribute__((malloc, returns_nonnull)); /* zeroed */
void *mem_array(size_t count, size_t bytes)
    __attribute__((malloc, returns_nonnull)); /* zeroed; aborts on overflow */
void *mem_realloc(void *p, size_t bytes) __attribute__((returns_nonnull));
void *mem_try_alloc(size_t bytes) MUST_CHECK; /* zeroed, or NULL */
void *mem_dup(const void *p, size_t bytes) __attribute__((returns_nonnull));
char *mem_strdup(const char *s); /* NULL gives NULL */
char *mem_strndup(const char *s, size_t len) __attribute__((returns_nonnull));
char *mem_printf(const char *fmt, ...) PRINTF(1, 2) __attribute__((returns_nonnull));

/* Moves a pointer out of a variable, which becomes NULL: engine_submit(e, steal(rq), &err). */
#define steal(p)                                                                                   \
    ({                                                                                             \
        __auto_type steal_was = (p);                                                               \
        (p) = NULL;                                                                                \
        steal_was;                                                                                 \
    })

/* DEFINE_AUTO(request, request_destroy) in a header, then `AUTO(request) rq = NULL;` in a function
 * destroys rq on every path out. Destroyers accept NULL. */
#define DEFINE_AUTO(type, destroy)                                                                 \
    static inline void type##_auto(struct type **p) {                                              \
        destroy(*p);                                                                               \
    }
#define AUTO(type) __attribute__((cleanup(type##_auto))) struct type *

static inline void mem_free_auto(void *p) {
    void *victim;
    memcpy(&victim, p, sizeof(victim));
    free(victim);
}
#define AUTO_FREE __attribute__((cleanup(mem_free_auto)))

/* An arena hands out memory that lives until reset or destroy; nothing in it is freed alone.
 * One per HTTP request, one per parse. Not shared between threads without a lock. */
struct arena;
struct arena *arena_create(void) __attribute__((returns_nonnull));
void arena_destroy(struct arena *a);
void arena_reset(struct arena *a); /* keeps the first chunk */
void *arena_alloc(struct arena *a, size_t bytes)
    __attribute__((returns_nonnull)); /* zeroed, 16-aligned */
char *arena_strdup(struct arena *a, const char *s);
char *arena_strndup(struct arena *a, const char *s, size_t len);
char *arena_printf(struct arena *a, const char *fmt, ...) PRINTF(2, 3);
DEFINE_AUTO(arena, arena_destroy)

#endif
