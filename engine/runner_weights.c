/* Packing at load. One matrix at a time, its strips shared out over the pool; then its mapped pages
 * go, so that memory peaks at one copy and one matrix. */
#include "engine/runner_weights.h"

#include <inttypes.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/cpu/packed.h"

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

/* Packs m into *at, which moves on. */
static void pack(struct matrix *m, struct thread_pool *pool, uint8_t **at) {
    uint64_t bytes = aligned_bytes(m);
    if (!bytes)
        return;
    struct packing p = {.m = m, .out = *at};
    thread_pool_run(pool, pack_strip, &p, (m->rows + PACKED_ROWS - 1) / PACKED_ROWS);
    m->packed = *at;
    *at += bytes;
    let_go(m);
}

enum errc runner_weights_init(struct runner_weights *out, const struct weights *w,
                              uint32_t num_layers, const struct cpu_kernels *kernels,
                              struct thread_pool *pool, struct error *err) {
    *out = (struct runner_weights){.head = w->head};
    out->bytes = runner_weights_bytes(w, num_layers, kernels);
    out->layers = mem_array(num_layers, sizeof(*out->layers));
    memcpy(out->layers, w->layers, num_layers * sizeof(*out->layers));
    if (!out->bytes)
        return OK;
    void *p = mmap(NULL, out->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return err_set(err, ERR_EXHAUSTED, "no memory for the weights: %" PRIu64 " MB wanted",
                       (uint64_t)out->bytes >> 20);
    madvise(p, out->bytes, MADV_HUGEPAGE);
    out->memory = p;
    uint8_t *at = p;
    for (uint32_t i = 0; i < num_layers; i++) {
        struct matrix *matrices[MATRICES_PER_LAYER];
        layer_matrices(&out->layers[i], matrices);
        for (size_t j = 0; j < ARRAY_LEN(matrices); j++)
            pack(matrices[j], pool, &at);
    }
    pack(&out->head, pool, &at);
    return OK;
}

void runner_weights_deinit(struct runner_weights *rw) {
    if (rw->memory)
        munmap(rw->memory, rw->bytes);
    free(rw->layers);
    *rw = (struct runner_weights){0};
}
