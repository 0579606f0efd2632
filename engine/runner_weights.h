/* The weights as the runner multiplies them: the model's matrices, and where the processor has
 * integer dot products a packed copy of the quantised ones (engine/cpu/packed.h).
 *
 * The copy is shared with other replicas of the model where there is a way to do that
 * (weights_share.h). Else it is in anonymous memory, in large pages where the kernel has them: a
 * mapped file's clean pages are what an idle machine gives up first, and the next request would
 * read them from disk. The mapped pages that were copied are let go, so one copy counts as the
 * process's memory. */
#ifndef ENGINE_RUNNER_WEIGHTS_H
#define ENGINE_RUNNER_WEIGHTS_H

#include "engine/cpu/thread_pool.h"
#include "engine/weights.h"

struct weights_share;

struct runner_weights {
    struct layer_weights *layers; /* [L] */
    struct matrix head;
    size_t bytes;    /* of the packed copies; 0: none */
    uint8_t *memory; /* where they are; NULL: in shared memory, which is somebody else's */
};

struct runner_weights_source { /* borrowed for the weights' life */
    const struct weights *weights;
    uint32_t num_layers;
    const struct cpu_kernels *kernels;
    struct weights_share *share; /* asked already; NULL: none */
};

/* Bytes of the packed copies of a model's weights; 0 where `kernels` has no use for them. */
uint64_t runner_weights_bytes(const struct weights *w, uint32_t num_layers,
                              const struct cpu_kernels *kernels);

/* Fills *out. ERR_EXHAUSTED: no memory for the copies. */
MUST_CHECK enum errc runner_weights_init(struct runner_weights *out,
                                         const struct runner_weights_source *source,
                                         struct thread_pool *pool, struct error *err);
void runner_weights_deinit(struct runner_weights *rw);

#endif
