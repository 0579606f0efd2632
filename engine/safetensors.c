/* Safetensors, read by mapping. A file, little-endian:
 *
 *   0  u64 length of the header
 *   8  header, JSON: {"name": {"dtype": "BF16", "shape": [rows, cols], "data_offsets": [begin,
 *      end]}, ..., "__metadata__": {"key": "text"}}; offsets count from the header's end
 *      the tensors' bytes, row-major
 *
 * A large model is several files; model.safetensors.index.json maps every tensor to its file
 * ("weight_map"). File names from the index are used as plain names within the directory only.
 *
 * Source: github.com/huggingface/safetensors, README. */
#include "engine/safetensors.h"

#include <inttypes.h>
#include <jansson.h>
#include <unistd.h>

#include "engine/cpu/dtype.h"
#include "engine/file_map.h"
#include "engine/tensor_source.h"

enum { HEADER_AT = 8, NAME_BYTES_MAX = 255, INDEX_BYTES_MAX = 100 << 20 };

struct safetensors {
    struct arena *arena; /* names, paths, nothing else */
    struct file_map *shards;
    uint32_t num_shards;
    bool head_only; /* data is not looked at */
    struct tensor_source source;
    uint32_t tensors_cap;
};

/* A header being read. */
struct header {
    const char *path;
    const uint8_t *data; /* behind the header */
    uint64_t len;
    uint64_t start; /* of data in the file */
};

static uint32_t dtype_of(const char *name) {
    static const struct {
        const char *name;
        enum dtype type;
    } names[] = {{"F32", DTYPE_F32}, {"F16", DTYPE_F16}, {"BF16", DTYPE_BF16}};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (!strcmp(names[i].name, name))
            return names[i].type;
    return DTYPE_COUNT;
}

static enum errc bad_tensor(const struct header *h, const char *name, struct error *err,
                            const char *fault) {
    return err_set(err, ERR_MALFORMED, "%s: tensor %s: %s", h->path, name, fault);
}

/* A JSON integer of 0 or more. */
static bool read_size(const json_t *value, uint64_t *ret_v) {
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *ret_v = (uint64_t)json_integer_value(value);
    return true;
}

/* Fills dims with the row length first, 1 beyond the rank; a scalar is one element. */
static enum errc read_shape(const struct header *h, const char *name, const json_t *shape,
                            struct source_tensor *t, uint64_t *ret_len, struct error *err) {
    size_t rank = json_array_size(shape);
    uint64_t len = 1;
    if (!json_is_array(shape) || rank > TENSOR_DIMS_MAX)
        return bad_tensor(h, name, err, "shape: expected an array of up to 4 sizes");
    for (size_t i = 0; i < TENSOR_DIMS_MAX; i++)
        t->dims[i] = 1;
    for (size_t i = 0; i < rank; i++) {
        uint64_t *dim = &t->dims[rank - 1 - i];
        if (!read_size(json_array_get(shape, i), dim) || !*dim)
            return bad_tensor(h, name, err, "shape: expected sizes of 1 or more");
        if (__builtin_mul_overflow(len, *dim, &len) || len > INT64_MAX / 8)
            return bad_tensor(h, name, err, "shape: more than 2^60 elements");
    }
    t->num_dims = (uint32_t)rank;
    *ret_len = len;
    return OK;
}

static enum errc read_place(const struct header *h, const char *name, const json_t *offsets,
                            uint64_t len, struct source_tensor *t, struct error *err) {
    uint64_t begin = 0, end = 0;
    if (json_array_size(offsets) != 2 || !read_size(json_array_get(offsets, 0), &begin) ||
        !read_size(json_array_get(offsets, 1), &end))
        return bad_tensor(h, name, err, "data_offsets: expected two sizes");
    if (begin > end || end > h->len)
        return err_set(err, ERR_MALFORMED,
                       "%s: tensor %s: bytes %" PRIu64 " to %" PRIu64 " behind offset %" PRIu64
                       " reach beyond the file's end at %" PRIu64,
                       h->path, name, begin, end, h->start, h->start + h->len);
    t->offset = h->start + begin;
    t->bytes = end - begin;
    if (!dtype_supported(t->type))
        return OK;
    uint64_t want = dtype_bytes((enum dtype)t->type, len);
    if (t->bytes != want)
        return err_set(err, ERR_MALFORMED,
                       "%s: tensor %s at offset %" PRIu64 ": %" PRIu64
                       " bytes, but its shape takes %" PRIu64,
                       h->path, name, t->offset, t->bytes, want);
    t->data = h->data + begin;
    return OK;
}

static enum errc read_tensor(struct safetensors *st, const struct header *h, const char *name,
                             const json_t *value, struct error *err) {
    struct source_tensor t = {.path = h->path, .name = arena_strdup(st->arena, name)};
    uint64_t len = 0;
    const char *type = json_string_value(json_object_get(value, "dtype"));
    if (!*name || strlen(name) > NAME_BYTES_MAX)
        return err_set(err, ERR_MALFORMED, "%s: a tensor's name of %zu bytes, expected 1 to %d",
                       h->path, strlen(name), NAME_BYTES_MAX);
    if (!type || strlen(type) > 16)
        return bad_tensor(h, name, err, "dtype: expected a short string");
    t.type = dtype_of(type);
    t.type_name = arena_strdup(st->arena, type);
    if (read_shape(h, name, json_object_get(value, "shape"), &t, &len, err) ||
        read_place(h, name, json_object_get(value, "data_offsets"), len, &t, err))
        return err->code;
    if (st->source.num_tensors == st->tensors_cap) {
        st->tensors_cap = st->tensors_cap ? 2 * st->tensors_cap : 256;
        st->source.tensors =
            mem_realloc(st->source.tensors, st->tensors_cap * sizeof(*st->source.tensors));
    }
    st->source.tensors[st->source.num_tensors++] = t;
    return OK;
}

static enum errc read_header(struct safetensors *st, const char *path, const struct file_map *map,
                             struct error *err) {
    uint64_t len = 0;
    json_error_t json_err;
    if (map->len < HEADER_AT)
        return err_set(err, ERR_MALFORMED, "%s: truncated: %zu bytes, the header takes 8 and more",
                       path, map->len);
    memcpy(&len, map->data, sizeof(len));
    if (len > SAFETENSORS_HEADER_BYTES_MAX || len > map->len - HEADER_AT)
        return err_set(err, ERR_MALFORMED,
                       "%s: offset 0: a header of %" PRIu64 " bytes, %s %" PRIu64, path, len,
                       len > SAFETENSORS_HEADER_BYTES_MAX ? "the bound is" : "the file has",
                       len > SAFETENSORS_HEADER_BYTES_MAX ? (uint64_t)SAFETENSORS_HEADER_BYTES_MAX
                                                          : (uint64_t)map->len - HEADER_AT);
    json_t *root =
        json_loadb((const char *)map->data + HEADER_AT, len, JSON_REJECT_DUPLICATES, &json_err);
    if (!root)
        return err_set(err, ERR_MALFORMED, "%s: offset %d: header: %s", path,
                       HEADER_AT + json_err.position, json_err.text);
    struct header h = {
        .path = arena_strdup(st->arena, path),
        .data = map->data + HEADER_AT + len,
        .len = map->len - HEADER_AT - len,
        .start = HEADER_AT + len,
    };
    const char *name;
    json_t *value;
    enum errc rc = OK;
    if (!json_is_object(root) || json_object_size(root) > SAFETENSORS_TENSORS_MAX)
        rc = err_set(err, ERR_MALFORMED, "%s: offset 8: header: expected an object of up to %d",
                     path, SAFETENSORS_TENSORS_MAX);
    json_object_foreach (root, name, value) {
        if (!rc && strcmp(name, "__metadata__") != 0)
            rc = read_tensor(st, &h, name, value, err);
    }
    json_decref(root);
    return rc;
}

/* The header says in its first bytes how long it is. */
static enum errc open_head(const char *path, struct file_map *map, struct error *err) {
    uint64_t len = 0;
    if (file_map_open_head(path, HEADER_AT, map, err))
        return err->code;
    memcpy(&len, map->data, map->len < HEADER_AT ? map->len : HEADER_AT);
    if (len > SAFETENSORS_HEADER_BYTES_MAX || len > map->len)
        return OK; /* read_header() says so */
    file_map_close(map);
    return file_map_open_head(path, HEADER_AT + len, map, err);
}

static enum errc add_shard(struct safetensors *st, const char *path, struct error *err) {
    struct file_map *map = &st->shards[st->num_shards];
    if (st->head_only ? open_head(path, map, err) : file_map_open(path, map, err))
        return err->code;
    st->num_shards++;
    return read_header(st, path, map, err);
}

static enum errc sort_tensors(struct safetensors *st, struct error *err) {
    tensor_source_sort(&st->source);
    for (uint32_t i = 1; i < st->source.num_tensors; i++) {
        const struct source_tensor *a = &st->source.tensors[i - 1], *b = a + 1;
        if (!strcmp(a->name, b->name))
            return err_set(err, ERR_MALFORMED, "%s: tensor %s stands in %s too", b->path, b->name,
                           a->path);
    }
    return OK;
}

static struct safetensors *create(const char *path) {
    struct safetensors *st = mem_alloc(sizeof(*st));
    st->arena = arena_create();
    st->shards = mem_array(SAFETENSORS_SHARDS_MAX, sizeof(*st->shards));
    st->source.path = arena_strdup(st->arena, path);
    return st;
}

enum errc safetensors_open(const char *path, struct safetensors **ret_st, struct error *err) {
    AUTO(safetensors) st = create(path);
    if (add_shard(st, path, err) || sort_tensors(st, err))
        return err->code;
    *ret_st = steal(st);
    return OK;
}

/* ---- several files ---- */

/* A name within the directory: no path, no hidden file. */
static bool is_plain_name(const char *name) {
    return name && *name && *name != '.' && !strchr(name, '/') && strlen(name) <= NAME_BYTES_MAX;
}

/* Opens each file that the map names, once. */
static enum errc open_shards(struct safetensors *st, const char *dir, const char *index,
                             const json_t *weight_map, json_t *files, struct error *err) {
    const char *tensor;
    json_t *value;
    json_object_foreach ((json_t *)(uintptr_t)weight_map, tensor, value) {
        const char *file = json_string_value(value);
        if (!is_plain_name(file))
            return err_set(
                err, ERR_MALFORMED,
                "%s: weight_map: tensor %s: expected the name of a file in this directory", index,
                tensor);
        if (json_object_get(files, file))
            continue;
        if (st->num_shards == SAFETENSORS_SHARDS_MAX)
            return err_set(err, ERR_MALFORMED, "%s: weight_map: more than %d files", index,
                           SAFETENSORS_SHARDS_MAX);
        AUTO_FREE char *path = mem_printf("%s/%s", dir, file);
        if (add_shard(st, path, err))
            return err_wrap(err, "%s", index);
        json_object_set_new(files, file, json_true());
    }
    return sort_tensors(st, err);
}

/* Every tensor of the map must be in the file that the map says. */
static enum errc check_map(const struct safetensors *st, const char *index,
                           const json_t *weight_map, struct error *err) {
    const char *tensor;
    json_t *value;
    json_object_foreach ((json_t *)(uintptr_t)weight_map, tensor, value) {
        const char *file = json_string_value(value);
        const struct source_tensor *t = tensor_source_find(&st->source, tensor);
        const char *slash = t ? strrchr(t->path, '/') : NULL;
        if (!slash || strcmp(slash + 1, file) != 0)
            return err_set(err, ERR_MALFORMED, "%s: weight_map: tensor %s is not in %s", index,
                           tensor, file);
    }
    return OK;
}

static enum errc open_indexed(struct safetensors *st, const char *dir, const char *index,
                              struct error *err) {
    struct file_map map;
    json_error_t json_err;
    if (file_map_open_head(index, INDEX_BYTES_MAX, &map, err))
        return err->code;
    json_t *root = NULL;
    if (map.len <= INDEX_BYTES_MAX)
        root = json_loadb((const char *)map.data, map.len, JSON_REJECT_DUPLICATES, &json_err);
    else
        snprintf(json_err.text, sizeof(json_err.text), "larger than %d bytes", INDEX_BYTES_MAX);
    file_map_close(&map);
    if (!root)
        return err_set(err, ERR_MALFORMED, "%s: %s", index, json_err.text);
    json_t *weight_map = json_object_get(root, "weight_map");
    json_t *files = json_object();
    enum errc rc = OK;
    if (!json_is_object(weight_map) || !json_object_size(weight_map))
        rc = err_set(err, ERR_MALFORMED, "%s: weight_map: expected an object", index);
    if (!rc)
        rc = open_shards(st, dir, index, weight_map, files, err);
    if (!rc)
        rc = check_map(st, index, weight_map, err);
    json_decref(files);
    json_decref(root);
    return rc;
}

static enum errc open_dir(const char *dir, bool head_only, struct safetensors **ret_st,
                          struct error *err) {
    AUTO_FREE char *single = mem_printf("%s/model.safetensors", dir);
    AUTO_FREE char *index = mem_printf("%s/model.safetensors.index.json", dir);
    AUTO(safetensors) st = create(dir);
    st->head_only = head_only;
    if (!access(index, F_OK)) {
        if (open_indexed(st, dir, index, err))
            return err->code;
    } else if (access(single, F_OK)) {
        return err_set(err, ERR_NOT_FOUND,
                       "%s: neither model.safetensors nor model.safetensors.index.json", dir);
    } else if (add_shard(st, single, err) || sort_tensors(st, err)) {
        return err->code;
    }
    *ret_st = steal(st);
    return OK;
}

enum errc safetensors_open_dir(const char *dir, struct safetensors **ret_st, struct error *err) {
    return open_dir(dir, false, ret_st, err);
}

enum errc safetensors_open_dir_head(const char *dir, struct safetensors **ret_st,
                                    struct error *err) {
    return open_dir(dir, true, ret_st, err);
}

void safetensors_close(struct safetensors *st) {
    if (!st)
        return;
    for (uint32_t i = 0; i < st->num_shards; i++)
        file_map_close(&st->shards[i]);
    free(st->shards);
    free(st->source.tensors);
    arena_destroy(st->arena);
    free(st);
}

struct tensor_source *safetensors_tensors(struct safetensors *st) {
    return &st->source;
}

const struct file_map *safetensors_files(const struct safetensors *st, uint32_t *ret_num) {
    *ret_num = st->num_shards;
    return st->shards;
}
