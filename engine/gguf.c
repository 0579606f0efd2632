/* GGUF, read by mapping. The file, all little-endian, no padding but the one named:
 *
 *    0  "GGUF"
 *    4  u32 version (2 or 3; they differ only in that 3 allows big-endian files, refused here)
 *    8  u64 number of tensors
 *   16  u64 number of metadata pairs
 *   24  pairs: string key, u32 type, value
 *         string: u64 length, bytes;  array: u32 element type, u64 length, elements, packed
 *       tensors: string name, u32 number of dimensions, u64 dims[] (row length first),
 *                u32 type, u64 offset from the start of the data
 *       zeros up to a multiple of general.alignment (32 when absent)
 *       the data; every tensor starts at a multiple of the alignment
 *
 * One pass over the bytes, in struct reader, checks everything: a length is compared with the bytes
 * that are left before anything is multiplied or allocated, so the work and the memory are bounded
 * by the size of the file. What comes out are sorted tables of names that point into the mapping.
 *
 * Source: github.com/ggml-org/ggml, docs/gguf.md. */
#include "engine/gguf.h"

#include <inttypes.h>
#include <stdio.h>

#include "engine/cpu/dtype.h"
#include "engine/file_map.h"

enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_TYPE_COUNT
};

static const char *const type_names[GGUF_TYPE_COUNT] = {
    "uint8",   "int8",   "uint16", "int16",  "uint32", "int32",  "float32",
    "boolean", "string", "array",  "uint64", "int64",  "float64"};

static const uint8_t type_bytes[GGUF_TYPE_COUNT] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

enum {
    ALIGNMENT_DEFAULT = 32,
    PAIR_BYTES_MIN = 8 + 1 + 4 + 1,
    TENSOR_BYTES_MIN = 8 + 1 + 4 + 8 + 4 + 8,
    HEAD_BYTES_FIRST = 1 << 20, /* most of a million bytes is a vocabulary of 30,000 */
};

struct gguf_pair {
    struct gguf_string key;
    uint32_t type;           /* enum gguf_type */
    struct gguf_string text; /* GGUF_STRING */
    const uint8_t *scalar;   /* the numbers and GGUF_BOOL */
    struct gguf_array array; /* GGUF_ARRAY */
};

struct gguf {
    char *path;
    struct file_map map; /* zeroed when the bytes are borrowed */
    const uint8_t *data;
    size_t len;
    struct gguf_pair *pairs; /* sorted by key */
    uint32_t num_pairs;
    struct gguf_tensor *tensors; /* file order */
    const struct gguf_tensor **tensors_by_name;
    uint32_t num_tensors;
    uint32_t alignment;
    size_t head_len; /* where the directory ends */
};

/* ---- reading ---- */

/* A cursor over the bytes. `where` is put in front of messages: what is being read. */
struct reader {
    const struct gguf *g;
    size_t pos;
    char where[GGUF_NAME_BYTES_MAX + 32];
};

static enum errc fail(const struct reader *r, struct error *err, const char *what) {
    return err_set(err, ERR_MALFORMED, "%s: %s at offset %zu: %s", r->g->path, r->where, r->pos,
                   what);
}

/* The next `bytes` bytes, or NULL with err set. */
static const uint8_t *take(struct reader *r, uint64_t bytes, struct error *err) {
    const uint8_t *p = r->g->data + r->pos;
    if (bytes > r->g->len - r->pos) {
        err_set(err, ERR_MALFORMED,
                "%s: %s at offset %zu: truncated: %" PRIu64 " bytes wanted, %zu left", r->g->path,
                r->where, r->pos, bytes, r->g->len - r->pos);
        return NULL;
    }
    r->pos += bytes;
    return p;
}

static uint64_t load(const uint8_t *p, size_t bytes) {
    uint64_t v = 0;
    memcpy(&v, p, bytes); /* little-endian host, as everything in engine/ */
    return v;
}

static enum errc take_u32(struct reader *r, uint32_t *ret_v, struct error *err) {
    const uint8_t *p = take(r, 4, err);
    if (!p)
        return err->code;
    *ret_v = (uint32_t)load(p, 4);
    return OK;
}

static enum errc take_u64(struct reader *r, uint64_t *ret_v, struct error *err) {
    const uint8_t *p = take(r, 8, err);
    if (!p)
        return err->code;
    *ret_v = load(p, 8);
    return OK;
}

static enum errc take_string(struct reader *r, struct gguf_string *ret_s, struct error *err) {
    uint64_t len = 0;
    if (take_u64(r, &len, err))
        return err->code;
    const uint8_t *p = take(r, len, err);
    if (!p)
        return err->code;
    *ret_s = (struct gguf_string){(const char *)p, (size_t)len};
    return OK;
}

/* A key or a tensor's name: it goes into messages and comparisons, so it is short and printable. */
static enum errc take_name(struct reader *r, struct gguf_string *ret_s, struct error *err) {
    struct gguf_string s = {0};
    if (take_string(r, &s, err))
        return err->code;
    if (!s.len || s.len > GGUF_NAME_BYTES_MAX)
        return err_set(err, ERR_MALFORMED,
                       "%s: %s: name of %zu bytes at offset %zu, expected 1 to %d", r->g->path,
                       r->where, s.len, r->pos - s.len, GGUF_NAME_BYTES_MAX);
    for (size_t i = 0; i < s.len; i++)
        if (s.data[i] < 0x20 || s.data[i] > 0x7e) {
            r->pos -= s.len - i;
            return fail(r, err, "the name is not printable ASCII");
        }
    *ret_s = s;
    return OK;
}

/* ---- metadata ---- */

static enum errc take_strings(struct reader *r, struct gguf_array *a, struct error *err) {
    if (a->len > (r->g->len - r->pos) / 8)
        return fail(r, err, "more strings than the file has room for");
    uint64_t *offsets = mem_try_alloc(a->len * sizeof(*offsets));
    if (!offsets)
        return err_set(err, ERR_EXHAUSTED, "%s: %s: no memory for %" PRIu64 " strings", r->g->path,
                       r->where, a->len);
    a->offsets = offsets;
    a->data = r->g->data + r->pos;
    size_t start = r->pos;
    for (uint64_t i = 0; i < a->len; i++) {
        struct gguf_string s;
        offsets[i] = r->pos - start;
        if (take_string(r, &s, err))
            return err->code;
    }
    return OK;
}

static enum errc take_array(struct reader *r, struct gguf_array *a, struct error *err) {
    if (take_u32(r, &a->type, err) || take_u64(r, &a->len, err))
        return err->code;
    if (a->type == GGUF_ARRAY)
        return fail(r, err, "an array of arrays, which nothing here reads");
    if (a->type >= GGUF_TYPE_COUNT)
        return err_set(err, ERR_MALFORMED, "%s: %s: unknown element type %" PRIu32 " at offset %zu",
                       r->g->path, r->where, a->type, r->pos - 12);
    if (a->type == GGUF_STRING)
        return take_strings(r, a, err);
    uint32_t bytes = type_bytes[a->type];
    if (a->len > (r->g->len - r->pos) / bytes)
        return fail(r, err, "truncated: more elements than the file has room for");
    a->data = take(r, a->len * bytes, err);
    return a->data ? OK : err->code;
}

static enum errc take_pair(struct reader *r, struct gguf_pair *pair, struct error *err) {
    if (take_name(r, &pair->key, err))
        return err->code;
    snprintf(r->where, sizeof(r->where), "key %.*s", (int)pair->key.len, pair->key.data);
    if (take_u32(r, &pair->type, err))
        return err->code;
    if (pair->type == GGUF_STRING)
        return take_string(r, &pair->text, err);
    if (pair->type == GGUF_ARRAY)
        return take_array(r, &pair->array, err);
    if (pair->type >= GGUF_TYPE_COUNT)
        return err_set(err, ERR_MALFORMED, "%s: %s: unknown type %" PRIu32 " at offset %zu",
                       r->g->path, r->where, pair->type, r->pos - 4);
    pair->scalar = take(r, type_bytes[pair->type], err);
    return pair->scalar ? OK : err->code;
}

static int compare_strings(struct gguf_string a, struct gguf_string b) {
    size_t len = a.len < b.len ? a.len : b.len;
    int order = memcmp(a.data, b.data, len);
    return order ? order : a.len < b.len ? -1 : a.len > b.len;
}

static int compare_pairs(const void *a, const void *b) {
    const struct gguf_pair *x = a, *y = b;
    return compare_strings(x->key, y->key);
}

static enum errc read_pairs(struct reader *r, uint64_t num_pairs, struct error *err) {
    struct gguf *g = (struct gguf *)r->g;
    if (num_pairs > GGUF_KEYS_MAX || num_pairs > (g->len - r->pos) / PAIR_BYTES_MIN)
        return err_set(err, ERR_MALFORMED, "%s: header: %" PRIu64 " metadata pairs, more than %s",
                       g->path, num_pairs,
                       num_pairs > GGUF_KEYS_MAX ? "the bound of 65536" : "the file has room for");
    g->pairs = mem_array(num_pairs, sizeof(*g->pairs));
    for (uint64_t i = 0; i < num_pairs; i++) {
        snprintf(r->where, sizeof(r->where), "metadata pair %" PRIu64, i);
        g->num_pairs++; /* counted first: a half-read array is released with the rest */
        if (take_pair(r, &g->pairs[i], err))
            return err->code;
    }
    qsort(g->pairs, g->num_pairs, sizeof(*g->pairs), compare_pairs);
    for (uint32_t i = 1; i < g->num_pairs; i++)
        if (!compare_pairs(&g->pairs[i - 1], &g->pairs[i]))
            return err_set(err, ERR_MALFORMED, "%s: key %.*s stands twice", g->path,
                           (int)g->pairs[i].key.len, g->pairs[i].key.data);
    return OK;
}

static enum errc read_alignment(struct gguf *g, struct error *err) {
    const char *key = "general.alignment";
    g->alignment = ALIGNMENT_DEFAULT;
    if (!gguf_has(g, key))
        return OK;
    if (gguf_get_u32(g, key, &g->alignment, err))
        return err->code;
    if (!g->alignment || (g->alignment & (g->alignment - 1)) || g->alignment > GGUF_ALIGNMENT_MAX)
        return err_set(err, ERR_MALFORMED,
                       "%s: key %s: %" PRIu32 ", expected a power of two up to %d", g->path, key,
                       g->alignment, GGUF_ALIGNMENT_MAX);
    return OK;
}

/* ---- tensors ---- */

/* Bytes of a tensor, or an error when its shape cannot be or its size does not fit 63 bits. */
static enum errc tensor_bytes(struct reader *r, struct gguf_tensor *t, struct error *err) {
    uint64_t len = 1;
    for (uint32_t i = 0; i < t->num_dims; i++) {
        if (!t->dims[i])
            return fail(r, err, "a dimension is 0");
        if (__builtin_mul_overflow(len, t->dims[i], &len) || len > INT64_MAX / 8)
            return fail(r, err, "the dimensions multiply to more than 2^60 elements");
    }
    if (!dtype_supported(t->type))
        return OK;
    uint32_t block_len = dtype_block_len(t->type);
    if (t->dims[0] % block_len)
        return err_set(err, ERR_MALFORMED,
                       "%s: %s at offset %zu: rows of %" PRIu64
                       " elements are no multiple of type %s's block of %" PRIu32,
                       r->g->path, r->where, r->pos, t->dims[0], dtype_name(t->type), block_len);
    t->bytes = dtype_bytes(t->type, len);
    return OK;
}

static enum errc take_tensor(struct reader *r, struct gguf_tensor *t, struct error *err) {
    if (take_name(r, &t->name, err))
        return err->code;
    snprintf(r->where, sizeof(r->where), "tensor %.*s", (int)t->name.len, t->name.data);
    if (take_u32(r, &t->num_dims, err))
        return err->code;
    if (!t->num_dims || t->num_dims > GGUF_DIMS_MAX)
        return err_set(err, ERR_MALFORMED,
                       "%s: %s at offset %zu: %" PRIu32 " dimensions, expected 1 to %d", r->g->path,
                       r->where, r->pos - 4, t->num_dims, GGUF_DIMS_MAX);
    const uint8_t *dims = take(r, 8 * (uint64_t)t->num_dims, err);
    if (!dims)
        return err->code;
    for (uint32_t i = 0; i < GGUF_DIMS_MAX; i++)
        t->dims[i] = i < t->num_dims ? load(dims + 8 * (size_t)i, 8) : 1;
    if (take_u32(r, &t->type, err) || take_u64(r, &t->offset, err))
        return err->code;
    return tensor_bytes(r, t, err);
}

/* Turns offsets from the start of the data into offsets in the file, and checks them. */
static enum errc place_tensor(const struct gguf *g, uint64_t start, struct gguf_tensor *t,
                              struct error *err) {
    int name_len = (int)t->name.len;
    if (t->offset % g->alignment)
        return err_set(err, ERR_MALFORMED,
                       "%s: tensor %.*s: offset %" PRIu64
                       " is no multiple of the alignment %" PRIu32,
                       g->path, name_len, t->name.data, t->offset, g->alignment);
    if (start > g->len || t->offset > g->len - start || t->bytes > g->len - start - t->offset)
        return err_set(err, ERR_MALFORMED,
                       "%s: tensor %.*s: %" PRIu64 " bytes at offset %" PRIu64 " + %" PRIu64
                       " reach beyond the file's end at %zu",
                       g->path, name_len, t->name.data, t->bytes, start, t->offset, g->len);
    t->offset += start;
    if (t->bytes)
        t->data = g->data + t->offset;
    return OK;
}

static int compare_tensors(const void *a, const void *b) {
    const struct gguf_tensor *const *x = a, *const *y = b;
    return compare_strings((*x)->name, (*y)->name);
}

static enum errc index_tensors(struct gguf *g, struct error *err) {
    g->tensors_by_name = mem_array(g->num_tensors, sizeof(*g->tensors_by_name));
    for (uint32_t i = 0; i < g->num_tensors; i++)
        g->tensors_by_name[i] = &g->tensors[i];
    qsort(g->tensors_by_name, g->num_tensors, sizeof(*g->tensors_by_name), compare_tensors);
    for (uint32_t i = 1; i < g->num_tensors; i++)
        if (!compare_tensors(&g->tensors_by_name[i - 1], &g->tensors_by_name[i]))
            return err_set(err, ERR_MALFORMED, "%s: tensor %.*s stands twice", g->path,
                           (int)g->tensors_by_name[i]->name.len, g->tensors_by_name[i]->name.data);
    return OK;
}

static enum errc read_tensors(struct reader *r, uint64_t num_tensors, struct error *err) {
    struct gguf *g = (struct gguf *)r->g;
    if (num_tensors > GGUF_TENSORS_MAX || num_tensors > (g->len - r->pos) / TENSOR_BYTES_MIN)
        return err_set(err, ERR_MALFORMED, "%s: header: %" PRIu64 " tensors, more than %s", g->path,
                       num_tensors,
                       num_tensors > GGUF_TENSORS_MAX ? "the bound of 65536"
                                                      : "the file has room for");
    g->tensors = mem_array(num_tensors, sizeof(*g->tensors));
    for (uint64_t i = 0; i < num_tensors; i++) {
        snprintf(r->where, sizeof(r->where), "tensor %" PRIu64, i);
        if (take_tensor(r, &g->tensors[i], err))
            return err->code;
        g->num_tensors++;
    }
    g->head_len = r->pos;
    uint64_t start = (r->pos + (uint64_t)g->alignment - 1) & ~((uint64_t)g->alignment - 1);
    for (uint32_t i = 0; i < g->num_tensors; i++)
        if (place_tensor(g, start, &g->tensors[i], err))
            return err->code;
    return index_tensors(g, err);
}

/* ---- open and close ---- */

static enum errc read_header(struct reader *r, uint64_t *ret_tensors, uint64_t *ret_pairs,
                             struct error *err) {
    uint32_t version = 0;
    const uint8_t *magic = take(r, 4, err);
    if (!magic)
        return err->code;
    if (memcmp(magic, "GGUF", 4) != 0)
        return err_set(err, ERR_MALFORMED,
                       "%s: header at offset 0: the magic is %02x%02x%02x%02x, not \"GGUF\"",
                       r->g->path, magic[0], magic[1], magic[2], magic[3]);
    if (take_u32(r, &version, err))
        return err->code;
    if (__builtin_bswap32(version) == 2 || __builtin_bswap32(version) == 3)
        return err_set(err, ERR_INVALID, "%s: a big-endian GGUF; only little-endian is read",
                       r->g->path);
    if (version != 2 && version != 3)
        return err_set(err, ERR_INVALID, "%s: GGUF version %" PRIu32 "; versions 2 and 3 are read",
                       r->g->path, version);
    if (take_u64(r, ret_tensors, err))
        return err->code;
    return take_u64(r, ret_pairs, err);
}

static enum errc parse(struct gguf *g, struct error *err) {
    struct reader r = {.g = g, .where = "header"};
    uint64_t num_tensors = 0, num_pairs = 0;
    if (read_header(&r, &num_tensors, &num_pairs, err) || read_pairs(&r, num_pairs, err) ||
        read_alignment(g, err) || read_tensors(&r, num_tensors, err))
        return err->code;
    return OK;
}

enum errc gguf_open(const char *path, struct gguf **ret_g, struct error *err) {
    struct file_map map;
    if (file_map_open(path, &map, err))
        return err->code;
    enum errc rc = gguf_open_memory(path, map.data, map.len, ret_g, err);
    if (rc)
        file_map_close(&map);
    else
        (*ret_g)->map = map;
    return rc;
}

/* Reading ever more until the directory is whole: what lies behind it is not known before. A
 * parser that ran into the zeros behind the head says so by where it ended, or failed. */
enum errc gguf_open_head(const char *path, struct gguf **ret_g, struct error *err) {
    for (size_t head = HEAD_BYTES_FIRST;; head *= 4) {
        struct file_map map;
        AUTO(gguf) g = NULL;
        if (file_map_open_head(path, head, &map, err))
            return err->code;
        bool all = head >= map.len || head >= GGUF_HEAD_BYTES_MAX;
        enum errc rc = gguf_open_memory(path, map.data, map.len, &g, err);
        if (!rc && g->head_len <= head) {
            g->map = map;
            *ret_g = steal(g);
            return OK;
        }
        file_map_close(&map);
        if (all)
            return rc ? rc
                      : err_set(err, ERR_MALFORMED, "%s: metadata of more than %d MiB", path,
                                GGUF_HEAD_BYTES_MAX >> 20);
        *err = ERROR_INIT;
    }
}

enum errc gguf_open_memory(const char *name, const void *data, size_t len, struct gguf **ret_g,
                           struct error *err) {
    AUTO(gguf) g = mem_alloc(sizeof(*g));
    g->path = mem_strdup(name);
    g->data = data;
    g->len = len;
    if (parse(g, err))
        return err->code;
    *ret_g = steal(g);
    return OK;
}

void gguf_close(struct gguf *g) {
    if (!g)
        return;
    for (uint32_t i = 0; i < g->num_pairs; i++)
        free((void *)(uintptr_t)g->pairs[i].array.offsets);
    free(g->pairs);
    free(g->tensors);
    free(g->tensors_by_name);
    file_map_close(&g->map);
    free(g->path);
    free(g);
}

const struct file_map *gguf_file(const struct gguf *g) {
    return g->map.data ? &g->map : NULL;
}

size_t gguf_head_bytes(const struct gguf *g) {
    return g->head_len;
}

const char *gguf_path(const struct gguf *g) {
    return g->path;
}

/* ---- looking up ---- */

static const struct gguf_pair *find_pair(const struct gguf *g, const char *key) {
    struct gguf_pair want = {.key = {key, strlen(key)}};
    return bsearch(&want, g->pairs, g->num_pairs, sizeof(*g->pairs), compare_pairs);
}

bool gguf_has(const struct gguf *g, const char *key) {
    return find_pair(g, key) != NULL;
}

static enum errc wrong_type(const struct gguf *g, const struct gguf_pair *pair, const char *want,
                            struct error *err) {
    bool array = pair->type == GGUF_ARRAY;
    return err_set(err, ERR_INVALID, "%s: key %.*s: %s%s, expected %s", g->path, (int)pair->key.len,
                   pair->key.data, array ? "an array of " : "",
                   type_names[array ? pair->array.type : pair->type], want);
}

static enum errc find_or_fail(const struct gguf *g, const char *key, const struct gguf_pair **ret_p,
                              struct error *err) {
    *ret_p = find_pair(g, key);
    return *ret_p ? OK : err_set(err, ERR_NOT_FOUND, "%s: no key %s", g->path, key);
}

enum errc gguf_get_string(const struct gguf *g, const char *key, struct gguf_string *ret_s,
                          struct error *err) {
    const struct gguf_pair *pair;
    if (find_or_fail(g, key, &pair, err))
        return err->code;
    if (pair->type != GGUF_STRING)
        return wrong_type(g, pair, "string", err);
    *ret_s = pair->text;
    return OK;
}

static bool is_integer(uint32_t type) {
    return type <= GGUF_I32 || type == GGUF_U64 || type == GGUF_I64;
}

/* An integer of any width; unsigned 64-bit values that do not fit become INT64_MAX. */
static int64_t load_integer(uint32_t type, const uint8_t *p) {
    uint64_t v = load(p, type_bytes[type]);
    switch (type) {
    case GGUF_I8:
        return (int8_t)v;
    case GGUF_I16:
        return (int16_t)v;
    case GGUF_I32:
        return (int32_t)v;
    case GGUF_I64:
        return (int64_t)v;
    default:
        return v > INT64_MAX ? INT64_MAX : (int64_t)v;
    }
}

enum errc gguf_get_i64(const struct gguf *g, const char *key, int64_t *ret_v, struct error *err) {
    const struct gguf_pair *pair;
    if (find_or_fail(g, key, &pair, err))
        return err->code;
    if (!is_integer(pair->type))
        return wrong_type(g, pair, "an integer", err);
    *ret_v = load_integer(pair->type, pair->scalar);
    return OK;
}

enum errc gguf_get_u32(const struct gguf *g, const char *key, uint32_t *ret_v, struct error *err) {
    int64_t v = 0;
    if (gguf_get_i64(g, key, &v, err))
        return err->code;
    if (v < 0 || v > UINT32_MAX)
        return err_set(err, ERR_INVALID, "%s: key %s: %" PRId64 ", expected 0 to %" PRIu32, g->path,
                       key, v, UINT32_MAX);
    *ret_v = (uint32_t)v;
    return OK;
}

static float load_float(uint32_t type, const uint8_t *p) {
    if (type == GGUF_F32) {
        float v;
        memcpy(&v, p, sizeof(v));
        return v;
    }
    double v;
    memcpy(&v, p, sizeof(v));
    return (float)v;
}

enum errc gguf_get_f32(const struct gguf *g, const char *key, float *ret_v, struct error *err) {
    const struct gguf_pair *pair;
    if (find_or_fail(g, key, &pair, err))
        return err->code;
    if (pair->type != GGUF_F32 && pair->type != GGUF_F64)
        return wrong_type(g, pair, "a float", err);
    *ret_v = load_float(pair->type, pair->scalar);
    return OK;
}

enum errc gguf_get_bool(const struct gguf *g, const char *key, bool *ret_v, struct error *err) {
    const struct gguf_pair *pair;
    if (find_or_fail(g, key, &pair, err))
        return err->code;
    if (pair->type != GGUF_BOOL)
        return wrong_type(g, pair, "boolean", err);
    *ret_v = pair->scalar[0] != 0;
    return OK;
}

static enum errc get_array(const struct gguf *g, const char *key, bool (*fits)(uint32_t type),
                           const char *want, struct gguf_array *ret_a, struct error *err) {
    const struct gguf_pair *pair;
    if (find_or_fail(g, key, &pair, err))
        return err->code;
    if (pair->type != GGUF_ARRAY || !fits(pair->array.type))
        return wrong_type(g, pair, want, err);
    *ret_a = pair->array;
    return OK;
}

static bool string_fits(uint32_t type) {
    return type == GGUF_STRING;
}

static bool int_fits(uint32_t type) {
    return is_integer(type) || type == GGUF_BOOL;
}

static bool float_fits(uint32_t type) {
    return type == GGUF_F32 || type == GGUF_F64;
}

enum errc gguf_get_strings(const struct gguf *g, const char *key, struct gguf_array *ret_a,
                           struct error *err) {
    return get_array(g, key, string_fits, "an array of strings", ret_a, err);
}

enum errc gguf_get_ints(const struct gguf *g, const char *key, struct gguf_array *ret_a,
                        struct error *err) {
    return get_array(g, key, int_fits, "an array of integers", ret_a, err);
}

enum errc gguf_get_floats(const struct gguf *g, const char *key, struct gguf_array *ret_a,
                          struct error *err) {
    return get_array(g, key, float_fits, "an array of floats", ret_a, err);
}

struct gguf_string gguf_array_string(const struct gguf_array *a, uint64_t i) {
    ASSERT(i < a->len && string_fits(a->type));
    const uint8_t *p = a->data + a->offsets[i];
    return (struct gguf_string){(const char *)p + 8, (size_t)load(p, 8)};
}

int64_t gguf_array_int(const struct gguf_array *a, uint64_t i) {
    ASSERT(i < a->len && int_fits(a->type));
    return load_integer(a->type, a->data + i * type_bytes[a->type]);
}

float gguf_array_float(const struct gguf_array *a, uint64_t i) {
    ASSERT(i < a->len && float_fits(a->type));
    return load_float(a->type, a->data + i * type_bytes[a->type]);
}

const struct gguf_tensor *gguf_find_tensor(const struct gguf *g, const char *name) {
    struct gguf_tensor want = {.name = {name, strlen(name)}};
    const struct gguf_tensor *key = &want;
    const struct gguf_tensor **found = bsearch(&key, g->tensors_by_name, g->num_tensors,
                                               sizeof(*g->tensors_by_name), compare_tensors);
    return found ? *found : NULL;
}

uint32_t gguf_num_tensors(const struct gguf *g) {
    return g->num_tensors;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, uint32_t index) {
    ASSERT(index < g->num_tensors);
    return &g->tensors[index];
}
