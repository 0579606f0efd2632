/* Packing at load, unless another replica has done it. One matrix at a time, its strips shared out
 * over the pool; then its mapped pages go, so that memory peaks at one copy and one matrix. */
#include "engine/runner_weights.h"

#include <inttypes.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/cpu/packed.h"
#include "engine/weights_share.h"

enum { MATRICES_PER_LAYER = 7, MATRIX_ALIGN = 64 };

static void layer_matrices(struct layer_weights *l, struct matrix *out[MATRICES_PER_LAYER]) {
    out[0] = &l->attn_q;
    out[1] = &l->attn_k;
    out[2] = &l->attn_v;
    out[3] = &l->attn_out;
    out[4] = &l->ffn_gate;
    out[5] = &l->ffn_up;
    out[6] = &l->ffn_down;
}

static uint64_t aligned_bytes(const struct matrix *m) {
    uint64_t bytes = packed_bytes(m->type, m->rows, m->cols);
    return (bytes + MATRIX_ALIGN - 1) / MATRIX_ALIGN * MATRIX_ALIGN;
}

uint64_t runner_weights_bytes(const struct weights *w, uint32_t num_layers,
                              const struct cpu_kernels *kernels) {
    if (!kernels->packed_matmul)
        return 0;
    uint64_t bytes = aligned_bytes(&w->head);
    for (uint32_t i = 0; i < num_layers; i++) {
        struct matrix *matrices[MATRICES_PER_LAYER];
        struct layer_weights layer = w->layers[i];
        layer_matrices(&layer, matrices);
        for (size_t j = 0; j < ARRAY_LEN(matrices); j++)
            bytes += aligned_bytes(matrices[j]);
    }
    return bytes;
}

struct packing {
    const struct matrix *m;
    uint8_t *out;
};

static void pack_strip(void *arg, uint32_t strip, uint32_t thread) {
    struct packing *p = arg;
    packed_put_strip(p->m, strip, p->out);
}

/* The whole pages of a mapped file under the matrix: they come back from the page cache if asked
 * for again. */
static void let_go(const struct matrix *m) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), start = (uintptr_t)m->data;
    uintptr_t end = (start + m->rows * m->row_bytes) / page * page;
    start = (start + page - 1) / page * page;
    if (start < end)
        madvise((void *)start, end - start, MADV_DONTNEED);
}

static void pack(const struct matrix *m, struct thread_pool *pool, uint8_t *out) {
    struct packing p = {.m = m, .out = out};
    thread_pool_run(pool, pack_strip, &p, (m->rows + PACKED_ROWS - 1) / PACKED_ROWS);
    let_go(m);
}

/* Where the packed copies are, and whether they have to be made first. */
struct place {
    const uint8_t *at;
    uint8_t *out; /* the same, to be filled; NULL: it is */
};

static void place_matrix(struct matrix *m, struct thread_pool *pool, struct place *p) {
    uint64_t bytes = aligned_bytes(m);
    if (!bytes)
        return;
    if (p->out) {
        pack(m, pool, p->out);
        p->out += bytes;
    }
    m->packed = p->at;
    p->at += bytes;
}

static void place_all(struct runner_weights *rw, uint32_t num_layers, struct thread_pool *pool,
                      struct place p) {
    for (uint32_t i = 0; i < num_layers; i++) {
        struct matrix *matrices[MATRICES_PER_LAYER];
        layer_matrices(&rw->layers[i], matrices);
        for (size_t j = 0; j < ARRAY_LEN(matrices); j++)
            place_matrix(matrices[j], pool, &p);
    }
    place_matrix(&rw->head, pool, &p);
}

static enum errc take_memory(struct runner_weights *rw, struct error *err) {
    void *p = mmap(NULL, rw->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return err_set(err, ERR_EXHAUSTED, "no memory for the weights: %" PRIu64 " MB wanted",
                       (uint64_t)rw->bytes >> 20);
    madvise(p, rw->bytes, MADV_HUGEPAGE);
    rw->memory = p;
    return OK;
}

enum errc runner_weights_init(struct runner_weights *out,
                              const struct runner_weights_source *source, struct thread_pool *pool,
                              struct error *err) {
    const struct weights *w = source->weights;
    uint32_t num_layers = source->num_layers;
    *out = (struct runner_weights){.head = w->head};
    out->bytes = runner_weights_bytes(w, num_layers, source->kernels);
    out->layers = mem_array(num_layers, sizeof(*out->layers));
    memcpy(out->layers, w->layers, num_layers * sizeof(*out->layers));
    if (!out->bytes)
        return OK;
    struct weights_share *share = source->share;
    struct place p = {.at = share ? weights_share_found(share) : NULL};
    if (share && !p.at)
        p.at = p.out = weights_share_begin(share, pool);
    bool shared = p.at != NULL;
    if (!shared && take_memory(out, err))
        return err->code;
    if (!shared)
        p.at = p.out = out->memory;
    place_all(out, num_layers, pool, p);
    return shared && p.out ? weights_share_finish(share, err) : OK;
}

void runner_weights_deinit(struct runner_weights *rw) {
    if (rw->memory)
        munmap(rw->memory, rw->bytes);
    free(rw->layers);
    *rw = (struct runner_weights){0};
}
