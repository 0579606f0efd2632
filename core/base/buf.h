/* A growable byte buffer. Always NUL-terminated behind `len`, so text can be used as a C string. */
#ifndef CORE_BASE_BUF_H
#define CORE_BASE_BUF_H

#include <stddef.h>

#include "core/base/mem.h"

struct buf {
    char *data; /* NULL only before the first append */
    size_t len, cap;
};

#define BUF_INIT ((struct buf){0})

void buf_append(struct buf *b, const void *data, size_t len);
void buf_puts(struct buf *b, const char *s);
void buf_putc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF(2, 3);
void buf_reserve(struct buf *b, size_t more); /* room for `more` further bytes */
void buf_consume(struct buf *b, size_t len);  /* drops the first len bytes */
void buf_clear(struct buf *b);                /* keeps the memory */
char *buf_steal(struct buf *b); /* gives the text (never NULL); the buffer is empty again */
void buf_deinit(struct buf *b);

/* `AUTO_BUF b = BUF_INIT;` releases at the end of the scope. */
#define AUTO_BUF __attribute__((cleanup(buf_deinit))) struct buf

#endif
