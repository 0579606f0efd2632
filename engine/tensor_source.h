/* A source of named tensors: a GGUF, or the safetensors files of a directory. Lets weights.c bind
 * both by one table. Tensors were checked against their file by whoever fills this. */
#ifndef ENGINE_TENSOR_SOURCE_H
#define ENGINE_TENSOR_SOURCE_H

#include "core/base/mem.h"

enum { TENSOR_DIMS_MAX = 4 };

struct source_tensor {
    const char *path; /* of the file it lies in */
    const char *name;
    const uint8_t *data; /* NULL: a type that is not supported */
    const char *type_name;
    uint32_t type; /* enum dtype */
    uint32_t num_dims;
    uint64_t dims[TENSOR_DIMS_MAX]; /* row length first */
    uint64_t offset, bytes;
    bool used; /* set by whoever binds it */
};

struct tensor_source {
    const char *path;
    struct source_tensor *tensors; /* sorted by name */
    uint32_t num_tensors;
};

void tensor_source_sort(struct tensor_source *s);
struct source_tensor *tensor_source_find(const struct tensor_source *s, const char *name);

#endif
