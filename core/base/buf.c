/* A growable byte buffer: capacity doubles, so appending n bytes costs O(n) in all. */
#include "core/base/buf.h"

#include <stdio.h>

void buf_reserve(struct buf *b, size_t more) {
    ASSERT(more < SIZE_MAX / 4);
    if (b->cap - b->len > more)
        return;
    size_t cap = b->cap ? b->cap : 64;
    while (cap - b->len <= more)
        cap *= 2;
    b->data = mem_realloc(b->data, cap);
    b->cap = cap;
    b->data[b->len] = '\0';
}

void buf_append(struct buf *b, const void *data, size_t len) {
    buf_reserve(b, len);
    if (len)
        memcpy(b->data + b->len, data, len);
    b->len += len;
    b->data[b->len] = '\0';
}

void buf_puts(struct buf *b, const char *s) {
    buf_append(b, s, strlen(s));
}

void buf_putc(struct buf *b, char c) {
    buf_append(b, &c, 1);
}

void buf_printf(struct buf *b, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    va_list again;
    va_copy(again, args);
    buf_reserve(b, 128);
    int n = vsnprintf(b->data + b->len, b->cap - b->len, fmt, args);
    va_end(args);
    if ((size_t)n >= b->cap - b->len) {
        buf_reserve(b, (size_t)n + 1);
        vsnprintf(b->data + b->len, b->cap - b->len, fmt, again);
    }
    va_end(again);
    b->len += (size_t)n;
}

void buf_consume(struct buf *b, size_t len) {
    ASSERT(len <= b->len);
    if (!len)
        return;
    memmove(b->data, b->data + len, b->len - len + 1);
    b->len -= len;
}

void buf_clear(struct buf *b) {
    b->len = 0;
    if (b->data)
        b->data[0] = '\0';
}

char *buf_steal(struct buf *b) {
    buf_reserve(b, 0);
    char *data = b->data;
    *b = BUF_INIT;
    return data;
}

void buf_deinit(struct buf *b) {
    free(b->data);
    *b = BUF_INIT;
}
