/* What a model's files say of the memory that it takes, without its weights being read. */
#ifndef ENGINE_MODEL_FOOTPRINT_H
#define ENGINE_MODEL_FOOTPRINT_H

#include "engine/model.h"

/* Plain data. Of config the names and what is only known of bound weights are NULL and 0. */
struct model_footprint {
    struct model_config config;
    uint64_t packable_bytes;  /* matrices that have a packed form, as the file has them */
    uint64_t packed_bytes;    /* the same packed (engine/cpu/packed.h) */
    uint64_t mapped_bytes;    /* the embedding, and matrices without a packed form */
    uint64_t vector_bytes;    /* norms and biases, copied as F32 */
    uint64_t file_bytes;      /* of all tensors */
    uint64_t tokenizer_bytes; /* vocabulary, merges and their tables, and their place in the file */
};

/* path as for model_open(), with its errors as far as they show in headers. The files may be cut
 * short meanwhile. */
MUST_CHECK enum errc model_footprint_read(const char *path, struct model_footprint *ret_f,
                                          struct error *err);

#endif
