/* A file that is being downloaded: which of its chunks are on the disk. Owned by the download. */
#ifndef CORE_MODEL_MODEL_PART_H
#define CORE_MODEL_MODEL_PART_H

#include "core/model/model_store.h"

enum {
    MODEL_PART_HEAD_BYTES = 512, /* of KEY.map: what the file is; then a byte a chunk */
    MODEL_PART_CHUNKS_MAX = 1 << 22,
    MODEL_PART_ETAG_BYTES_MAX = 400,
};

enum model_chunk { MODEL_CHUNK_MISSING = '-', MODEL_CHUNK_DONE = 'x', MODEL_CHUNK_ASKED = '?' };

struct model_part {
    int fd, map_fd; /* -1: not open */
    uint64_t bytes; /* MODEL_BYTES_UNKNOWN: not known yet */
    uint64_t chunk_bytes;
    char *etag;    /* NULL: the source says none */
    char *chunks;  /* enum model_chunk, one a chunk; NULL: size not known */
    uint32_t *had; /* bytes at the start of a chunk that are written, not synced */
    size_t num_chunks, num_done;
};

/* Opens what is there of it. bytes and etag: what the source says, or not; a part of something else
 * is forgotten. */
MUST_CHECK enum errc model_part_open(const struct model_incoming *in, const char *key,
                                     uint64_t bytes, const char *etag, uint64_t chunk_bytes,
                                     struct model_part *p, struct error *err);
void model_part_close(struct model_part *p);

/* The size is known now: everything is missing. */
MUST_CHECK enum errc model_part_set_size(struct model_part *p, uint64_t bytes, const char *etag,
                                         struct error *err);
/* All of it is missing again. */
MUST_CHECK enum errc model_part_reset(struct model_part *p, struct error *err);

/* Finds the first missing chunks, at most chunks_max, and marks them as asked for. False: none. */
MUST_CHECK bool model_part_take(struct model_part *p, size_t chunks_max, uint64_t *ret_first,
                                uint64_t *ret_end);
/* What was asked for from `at` to `end` has not come. */
void model_part_give_back(struct model_part *p, uint64_t at, uint64_t end);
/* Writes, and syncs and marks each chunk that becomes complete. ERR_EXHAUSTED: the disk is full. */
MUST_CHECK enum errc model_part_write(struct model_part *p, uint64_t at, const void *data,
                                      size_t len, struct error *err);
bool model_part_complete(const struct model_part *p);
/* Bytes that are there. */
uint64_t model_part_bytes_done(const struct model_part *p);

#endif
