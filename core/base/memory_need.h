/* How much memory a replica takes, known before it is started. The figures come from the engine
 * (engine/memory_need.h); control places by them, and main wires the one to the other. */
#ifndef CORE_BASE_MEMORY_NEED_H
#define CORE_BASE_MEMORY_NEED_H

#include "core/base/mem.h"

struct engine_args;

/* In the answer to /health: what the replica has measured of itself. */
#define MEMORY_NEED_HEADER "X-Inferd-Memory-Bytes"

/* Bytes, when all of it is in use. */
struct memory_need {
    uint64_t weights_bytes;   /* in their packed form */
    uint64_t file_bytes;      /* weights that are used where the mapped file has them */
    uint64_t kv_cache_bytes;  /* what --kv-cache-memory-bytes would say */
    uint64_t workspace_bytes; /* activations, logits, sampling */
    uint64_t requests_bytes;  /* max_num_seqs of them, and the KV cache's records */
    uint64_t process_bytes;   /* the program, its threads, the tokenizer */
    uint64_t gpu_bytes;       /* of a GPU's memory, by a replica that computes there */
    uint32_t max_model_len, max_num_seqs;
};

static inline uint64_t memory_need_total(const struct memory_need *n) {
    return n->weights_bytes + n->file_bytes + n->kv_cache_bytes + n->workspace_bytes +
           n->requests_bytes + n->process_bytes;
}

/* The same by a process that is ready, has had no request, and has so much resident: what it has
 * touched is measured, the rest is still to come. */
static inline uint64_t memory_need_measured(const struct memory_need *n, uint64_t resident_bytes) {
    return resident_bytes + n->file_bytes + n->kv_cache_bytes + n->workspace_bytes +
           n->requests_bytes;
}

/* The need of a replica of the model at `path` (or "embedded://NAME") with these options, where
 * free_bytes of memory are left for it (UINT64_MAX: as much as it may want; else no more than the
 * machine has to spare now). ERR_EXHAUSTED: not one request of the length that is asked
 * for fits into that; else as opening the model. Any thread; reads the model's headers. */
typedef enum errc memory_need_fn(void *self, const char *path, const struct engine_args *args,
                                 uint64_t free_bytes, struct memory_need *ret_need,
                                 struct error *err);

#endif
