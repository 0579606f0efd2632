/* Writes GGUF files in memory. Only tests include it: they need small sound files, and files that
 * lie in one place. Little-endian, version 3, alignment 32. */
#ifndef ENGINE_GGUF_WRITER_H
#define ENGINE_GGUF_WRITER_H

#include "core/base/buf.h"

struct gguf_writer {
    struct buf file; /* whole after gguf_writer_finish() */
    struct buf pairs, tensors, data;
    uint64_t num_pairs, num_tensors; /* may be overwritten before finish, to lie */
};

static inline void gguf_writer_init(struct gguf_writer *w) {
    *w = (struct gguf_writer){0};
}

static inline void gguf_writer_deinit(struct gguf_writer *w) {
    buf_deinit(&w->file);
    buf_deinit(&w->pairs);
    buf_deinit(&w->tensors);
    buf_deinit(&w->data);
}

static inline void gguf_writer_text(struct buf *b, const char *s) {
    uint64_t len = strlen(s);
    buf_append(b, &len, 8);
    buf_append(b, s, len);
}

static inline void gguf_put(struct gguf_writer *w, const char *key, uint32_t type,
                            const void *value, size_t bytes) {
    gguf_writer_text(&w->pairs, key);
    buf_append(&w->pairs, &type, 4);
    buf_append(&w->pairs, value, bytes);
    w->num_pairs++;
}

static inline void gguf_put_u32(struct gguf_writer *w, const char *key, uint32_t v) {
    gguf_put(w, key, 4, &v, 4);
}

static inline void gguf_put_f32(struct gguf_writer *w, const char *key, float v) {
    gguf_put(w, key, 6, &v, 4);
}

static inline void gguf_put_string(struct gguf_writer *w, const char *key, const char *v) {
    gguf_put(w, key, 8, NULL, 0);
    gguf_writer_text(&w->pairs, v);
}

static inline void gguf_put_array_header(struct gguf_writer *w, const char *key, uint32_t type,
                                         uint64_t len) {
    gguf_put(w, key, 9, &type, 4);
    buf_append(&w->pairs, &len, 8);
}

static inline void gguf_put_strings(struct gguf_writer *w, const char *key, uint64_t len,
                                    const char *const *v) {
    gguf_put_array_header(w, key, 8, len);
    for (uint64_t i = 0; i < len; i++)
        gguf_writer_text(&w->pairs, v[i]);
}

static inline void gguf_put_i32s(struct gguf_writer *w, const char *key, uint64_t len,
                                 const int32_t *v) {
    gguf_put_array_header(w, key, 5, len);
    buf_append(&w->pairs, v, len * 4);
}

/* A directory entry with no data behind it. */
static inline void gguf_put_tensor_at(struct gguf_writer *w, const char *name, uint32_t type,
                                      uint32_t num_dims, const uint64_t *dims, uint64_t offset) {
    gguf_writer_text(&w->tensors, name);
    buf_append(&w->tensors, &num_dims, 4);
    buf_append(&w->tensors, dims, num_dims * sizeof(*dims));
    buf_append(&w->tensors, &type, 4);
    buf_append(&w->tensors, &offset, 8);
    w->num_tensors++;
}

static inline void gguf_writer_pad(struct buf *b) {
    while (b->len % 32)
        buf_putc(b, '\0');
}

static inline void gguf_put_tensor(struct gguf_writer *w, const char *name, uint32_t type,
                                   uint32_t num_dims, const uint64_t *dims, const void *data,
                                   size_t bytes) {
    gguf_writer_pad(&w->data);
    gguf_put_tensor_at(w, name, type, num_dims, dims, w->data.len);
    buf_append(&w->data, data, bytes);
}

static inline void gguf_writer_finish(struct gguf_writer *w) {
    buf_append(&w->file, "GGUF\3\0\0\0", 8);
    buf_append(&w->file, &w->num_tensors, 8);
    buf_append(&w->file, &w->num_pairs, 8);
    buf_append(&w->file, w->pairs.data, w->pairs.len);
    buf_append(&w->file, w->tensors.data, w->tensors.len);
    gguf_writer_pad(&w->file);
    buf_append(&w->file, w->data.data, w->data.len);
}

#endif
