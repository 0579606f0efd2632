/* Memory. An arena is a list of chunks, each twice the size of the one before up to a bound, so a
 * request of any size costs a handful of malloc calls and one walk to free. */
#include "core/base/mem.h"

#include <stdio.h>

enum { CHUNK_BYTES_MIN = 4096, CHUNK_BYTES_MAX = 1 << 20, ARENA_ALIGN = 16 };

static _Noreturn void out_of_memory(size_t bytes) {
    fprintf(stderr, "out of memory: cannot allocate %zu bytes\n", bytes);
    abort();
}

void *mem_alloc(size_t bytes) {
    void *p = calloc(1, bytes ? bytes : 1);
    if (!p)
        out_of_memory(bytes);
    return p;
}

void *mem_array(size_t count, size_t bytes) {
    void *p =
        calloc(count ? count : 1, bytes ? bytes : 1); /* calloc refuses an overflowing product */
    if (!p)
        out_of_memory(count);
    return p;
}

void *mem_realloc(void *p, size_t bytes) {
    void *q = realloc(p, bytes ? bytes : 1);
    if (!q)
        out_of_memory(bytes);
    return q;
}

void *mem_try_alloc(size_t bytes) {
    return calloc(1, bytes ? bytes : 1);
}

void *mem_dup(const void *p, size_t bytes) {
    void *q = mem_alloc(bytes);
    if (bytes)
        memcpy(q, p, bytes);
    return q;
}

char *mem_strdup(const char *s) {
    return s ? mem_dup(s, strlen(s) + 1) : NULL;
}

char *mem_strndup(const char *s, size_t len) {
    char *q = mem_alloc(len + 1);
    if (len)
        memcpy(q, s, len);
    return q;
}

char *mem_printf(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    char *s = NULL;
    int n = vasprintf(&s, fmt, args);
    va_end(args);
    if (n < 0)
        out_of_memory(strlen(fmt));
    return s;
}

struct chunk {
    struct chunk *next;
    size_t used, bytes;
    _Alignas(ARENA_ALIGN) unsigned char data[];
};

struct arena {
    struct chunk *head; /* the one being filled */
};

static struct chunk *chunk_create(size_t bytes, struct chunk *next) {
    struct chunk *c = malloc(sizeof(*c) + bytes);
    if (!c)
        out_of_memory(bytes);
    c->next = next;
    c->used = 0;
    c->bytes = bytes;
    return c;
}

struct arena *arena_create(void) {
    struct arena *a = mem_alloc(sizeof(*a));
    a->head = chunk_create(CHUNK_BYTES_MIN, NULL);
    return a;
}

void arena_reset(struct arena *a) {
    while (a->head->next) {
        struct chunk *c = a->head;
        a->head = c->next;
        free(c);
    }
    a->head->used = 0;
}

void arena_destroy(struct arena *a) {
    if (!a)
        return;
    arena_reset(a);
    free(a->head);
    free(a);
}

void *arena_alloc(struct arena *a, size_t bytes) {
    if (bytes > SIZE_MAX / 2)
        out_of_memory(bytes);
    size_t need = (bytes + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    if (need > a->head->bytes - a->head->used) {
        size_t grow = a->head->bytes * 2 > CHUNK_BYTES_MAX ? CHUNK_BYTES_MAX : a->head->bytes * 2;
        a->head = chunk_create(grow > need ? grow : need, a->head);
    }
    void *p = a->head->data + a->head->used;
    a->head->used += need;
    memset(p, 0, need);
    return p;
}

char *arena_strndup(struct arena *a, const char *s, size_t len) {
    char *q = arena_alloc(a, len + 1);
    if (len)
        memcpy(q, s, len);
    return q;
}

char *arena_strdup(struct arena *a, const char *s) {
    return s ? arena_strndup(a, s, strlen(s)) : NULL;
}

char *arena_printf(struct arena *a, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    char *s = arena_alloc(a, (size_t)n + 1);
    vsnprintf(s, (size_t)n + 1, fmt, again);
    va_end(again);
    return s;
}

#ifdef __SANITIZE_THREAD__
/* jansson counts references with atomic instructions, but looks at the count with a plain read
 * first (a count of -1 marks the constants). That race is its own and harmless, and its inline
 * functions stand in our objects. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void) {
    return "race:^json_incref$\nrace:^json_decref$\n";
}
#endif
