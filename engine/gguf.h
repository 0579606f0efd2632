/* GGUF: a model in one file: typed key-value metadata, a directory of tensors, then their data.
 *
 * gguf_open() maps the file and checks everything in it once: every count, length, offset and size
 * against the file's end, without overflow. After that a lookup cannot fail for a lying file, and
 * everything handed out points into the mapping (borrowed until gguf_close). Immutable after open;
 * any thread reads. Versions 2 and 3, little-endian. */
#ifndef ENGINE_GGUF_H
#define ENGINE_GGUF_H

#include "core/base/mem.h"

struct file_map;
struct gguf;

enum {
    GGUF_KEYS_MAX = 65536,     /* metadata pairs in a file */
    GGUF_TENSORS_MAX = 65536,  /* tensors in a file */
    GGUF_NAME_BYTES_MAX = 255, /* a key's or a tensor's name: printable ASCII */
    GGUF_DIMS_MAX = 4,
    GGUF_ALIGNMENT_MAX = 1 << 16,
    GGUF_HEAD_BYTES_MAX = 256 << 20, /* what gguf_open_head() reads at most */
};

/* Text in the mapping: not NUL-terminated, not checked for UTF-8, may hold NUL. */
struct gguf_string {
    const char *data;
    size_t len;
};

/* An array in the mapping; which of the three element functions applies was checked by the lookup
 * that gave it. */
struct gguf_array {
    uint64_t len;
    const uint8_t *data;     /* first element */
    const uint64_t *offsets; /* strings only: where element i starts, from data */
    uint32_t type;
};

struct gguf_tensor {
    struct gguf_string name;
    uint32_t type; /* enum dtype when dtype_supported(), else some other program's */
    uint32_t num_dims;
    uint64_t dims[GGUF_DIMS_MAX]; /* row length first; 1 beyond num_dims */
    uint64_t offset;              /* of the data in the file */
    const uint8_t *data;          /* NULL when the type is not supported: its size is not known */
    uint64_t bytes;               /* 0 when the type is not supported */
};

/* Gives an opened file. ERR_NOT_FOUND, ERR_IO; ERR_MALFORMED: truncated, lying or not a GGUF, the
 * message names file, key or tensor, and offset; ERR_INVALID: a version that is not read here. */
MUST_CHECK enum errc gguf_open(const char *path, struct gguf **ret_g, struct error *err);
/* The same for who wants metadata and the tensors' places only: the data reads as zeros, and the
 * file may be cut short meanwhile (file_map_open_head). ERR_MALFORMED also for a directory longer
 * than GGUF_HEAD_BYTES_MAX. */
MUST_CHECK enum errc gguf_open_head(const char *path, struct gguf **ret_g, struct error *err);
/* The same for bytes in memory, borrowed for the life of the result; `name` is for messages. */
MUST_CHECK enum errc gguf_open_memory(const char *name, const void *data, size_t len,
                                      struct gguf **ret_g, struct error *err);
void gguf_close(struct gguf *g);
DEFINE_AUTO(gguf, gguf_close)

/* The file; NULL: the bytes were borrowed. */
const struct file_map *gguf_file(const struct gguf *g);
const char *gguf_path(const struct gguf *g);  /* for messages */
size_t gguf_head_bytes(const struct gguf *g); /* metadata and directory: up to the tensors' data */

/* Metadata. ERR_NOT_FOUND: no such key; ERR_INVALID: another type, or a value out of range. */
bool gguf_has(const struct gguf *g, const char *key);
MUST_CHECK enum errc gguf_get_string(const struct gguf *g, const char *key,
                                     struct gguf_string *ret_s, struct error *err);
MUST_CHECK enum errc gguf_get_u32(const struct gguf *g, const char *key, uint32_t *ret_v,
                                  struct error *err); /* from any integer type that holds it */
MUST_CHECK enum errc gguf_get_i64(const struct gguf *g, const char *key, int64_t *ret_v,
                                  struct error *err);
MUST_CHECK enum errc gguf_get_f32(const struct gguf *g, const char *key, float *ret_v,
                                  struct error *err); /* from either float type */
MUST_CHECK enum errc gguf_get_bool(const struct gguf *g, const char *key, bool *ret_v,
                                   struct error *err);
MUST_CHECK enum errc gguf_get_strings(const struct gguf *g, const char *key,
                                      struct gguf_array *ret_a, struct error *err);
MUST_CHECK enum errc gguf_get_ints(const struct gguf *g, const char *key, struct gguf_array *ret_a,
                                   struct error *err); /* integers of any width, or bools */
MUST_CHECK enum errc gguf_get_floats(const struct gguf *g, const char *key,
                                     struct gguf_array *ret_a, struct error *err);

/* Element i < a->len of an array from the lookup of that kind; constant time, no copy. A 64-bit
 * unsigned integer above INT64_MAX is given as INT64_MAX. */
struct gguf_string gguf_array_string(const struct gguf_array *a, uint64_t i);
int64_t gguf_array_int(const struct gguf_array *a, uint64_t i);
float gguf_array_float(const struct gguf_array *a, uint64_t i);

/* Tensors: by name (NULL: none), or in file order for index < gguf_num_tensors(). */
const struct gguf_tensor *gguf_find_tensor(const struct gguf *g, const char *name);
uint32_t gguf_num_tensors(const struct gguf *g);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, uint32_t index);

#endif
